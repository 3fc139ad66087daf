//! A suspect, a job that was in hand at two crashes, runs alone (F15).
//!
//! Its worker starts nothing more that was there at a crash before and waits until what has done so lives or has ended; others go on. Then
//! it closes for new jobs, waits until no other has begun a moment ago, and says in the lease that the suspect is by itself.
//! Only a crash with that mark can bury a job (`duties::crash`). The mark lasts for a term of seconds. Then it is taken back, and
//! only after that the worker takes others: none of them can make the suspect answer for its own deed. One crash is forgiven then. If the
//! worker dies after all, the next term is longer than the job ran before a crash, up to ten seconds: what kills late kills alone the time after.
//! Of the workers that serve such jobs half at most, rounded up, do this at a time, those included whose death nobody has noticed yet:
//! the others keep work flowing, and if all died together, it could not be told from a power cut.

use std::{sync::Arc, time::Duration};

use millstream_common::{
    error::{Outage, in_full},
    limits::{CRASHES_MAX, EXCUSES_MAX},
    pg::within,
};
use sqlx::Connection;
use tokio::{sync::OwnedSemaphorePermit, task::JoinHandle, time::Instant};

use super::{forget, give_back};
use crate::{
    capacity::Lane,
    claim::{Claimed, hold::Hold},
    shared::Shared,
};

/// What has run for so long has shown that it does not crash at once; what runs for less is waited for, until it has or has ended.
const NEIGHBOURS_MAX: Duration = Duration::from_secs(1);
/// The suspect has a slot while it waits for the others.
const OWN_SLOT: usize = 1;
/// How long a slot is waited for.
const SLOT_WAIT: Duration = TERM;
/// How often the neighbours are counted.
const LOOK: Duration = Duration::from_millis(50);
/// How often Postgres is asked whether it is a suspect's turn.
const ASK: Duration = Duration::from_millis(500);
/// A suspect is by itself for so long, unless it ends before. Killers kill early, and while a
/// long job serves its term its worker is out of the fleet. Three seconds are a choice, not a measured optimum.
const TERM: Duration = Duration::from_secs(3);
/// A suspect that has served its term is waited for by the next one as what was there at a crash is, but for longer: it was there at more.
const SERVED_MAX: Duration = TERM.saturating_mul(2);
/// What has lived through a term and was there when its worker died later is watched for three times as long as it took to kill: the
/// machine may be slower this time.
const TERM_FACTOR: u32 = 3;
/// The longest term: an hour's job must not close its worker for hours because the worker was killed beside it.
const TERM_MAX: Duration = Duration::from_secs(10);
/// After so many crashes, those that count and those that may be excused, no term is too long: somewhere it must end.
const CRASHES_PER_TERM_MAX: i64 = (CRASHES_MAX + EXCUSES_MAX) as i64;
/// How long a suspect that cannot wait here rests first, and at last: the more often it was handed out, the longer.
pub(super) const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(15);
/// So many hand-outs make the rest a second longer.
const HAND_OUTS_PER_REST: u32 = 8;

/// Whether suspects, apart from job $1, have less than half, rounded up, of the workers that serve queue $2 and kind $3 for themselves now.
macro_rules! room {
    () => {
        "(SELECT count(*) FROM millstream.lease l JOIN millstream.worker w ON w.id = l.worker_id
            WHERE l.isolated AND l.job_id <> $1 AND $2 = ANY(w.queues) AND $3 = ANY(w.kinds))
           < (SELECT greatest(1, (count(*) + 1) / 2) FROM millstream.worker
            WHERE state = 'active' AND $2 = ANY(queues) AND $3 = ANY(kinds))"
    };
}

/// For how long a job that begins is waited for by suspects; `None`: it was there at no crash.
pub(super) fn watch_time(job: &Claimed) -> Option<Duration> {
    if job.is_suspect() {
        Some(SERVED_MAX)
    } else {
        job.is_watched().then_some(TERM)
    }
}

/// Runs the suspect when it is alone, or gives it back for later.
pub(super) async fn run(shared: Arc<Shared>, job: Claimed) {
    let turn = tokio::select! {
        biased;
        () = job.hold.cancel().cancelled() => return forget(&job),
        () = shared.draining.cancelled() => return give_back(&shared, job, None).await,
        turn = turn(&shared, &job) => turn,
    };
    let Some(Turn { lane, slot, term }) = turn else {
        let rest = rest(job.hold.epoch);
        return give_back(&shared, job, Some(rest)).await;
    };
    let hold = job.hold.clone();
    tracing::warn!(job = %hold.id, kind = job.kind.handler.kind(), ?term, "a job that was there at two crashes runs alone");
    // A task of its own: a handler that blocks its thread must not keep the term from ending.
    let running = shared
        .runs
        .spawn(super::run(shared.clone(), job, Some(slot)));
    tokio::select! {
        () = settled(&shared, &hold, running) => {}
        () = served(&shared, &hold, term) => {}
        // The run hears this too; if it blocks, nobody waits for its term.
        () = shared.aborting.cancelled() => {}
    }
    drop(lane);
}

/// The run has ended and Postgres knows: until then the lease says that it is alone.
async fn settled(shared: &Shared, hold: &Arc<Hold>, running: JoinHandle<()>) {
    drop(running.await);
    while shared.held.has(hold) {
        tokio::time::sleep(LOOK).await;
    }
}

fn rest(epoch: i32) -> Duration {
    (REST * (1 + epoch.unsigned_abs() / HAND_OUTS_PER_REST)).min(REST_MAX)
}

/// Leave to run alone.
struct Turn {
    lane: Lane,
    slot: OwnedSemaphorePermit,
    /// For so long the lease says so.
    term: Duration,
}

/// Waits for the lease and for the suspect's turn in this process and in the fleet, and is then alone. `None`: others wait here already,
/// long jobs have all slots, or the job is lost.
async fn turn(shared: &Shared, job: &Claimed) -> Option<Turn> {
    if !job.hold.is_leased_in_the_end().await {
        return None;
    }
    let seat = shared.capacity.seat();
    let lane = shared.capacity.lane(seat.is_some()).await?;
    loop {
        // Asked before the worker closes, so that a suspect which has to wait keeps nobody waiting.
        if has_room(shared, job).await {
            // The term is for running. If long jobs have all slots, another worker may have one.
            let slot = tokio::time::timeout(SLOT_WAIT, shared.capacity.slot())
                .await
                .ok()??;
            if let Some(term) = close(shared, job, &lane).await {
                return Some(Turn { lane, slot, term });
            }
            lane.open();
        }
        seat.as_ref()?;
        tokio::time::sleep(ASK).await;
    }
}

/// Closes this worker, step by step, and marks the suspect; `None`: others were quicker.
async fn close(shared: &Shared, job: &Claimed, lane: &Lane) -> Option<Duration> {
    lane.begin_to_close();
    wait_for_watched_neighbours(shared).await;
    if !has_room(shared, job).await {
        return None;
    }
    lane.close();
    wait_for_neighbours(shared).await;
    loop {
        match mark(shared, job).await {
            Ok(term) => return term,
            // The mark may be there: nothing else may start until this is known.
            Err(outage) => not_now(&outage, ()),
        }
        tokio::time::sleep(ASK).await;
    }
}

/// They may be killers: they get as long as a suspect would, or longer if they were one, and no more of them start. The worker is open
/// for all others meanwhile.
async fn wait_for_watched_neighbours(shared: &Shared) {
    while shared.capacity.watched() > 0 {
        tokio::time::sleep(LOOK).await;
    }
}

async fn wait_for_neighbours(shared: &Shared) {
    let closed_at = Instant::now();
    // What waits for a slot, or is being read at this moment, is given back when it gets one.
    let is_any_young =
        || shared.capacity.busy() > shared.held.running_for(NEIGHBOURS_MAX) + OWN_SLOT;
    while is_any_young() && closed_at.elapsed() < NEIGHBOURS_MAX {
        tokio::time::sleep(LOOK).await;
    }
}

/// The suspect has lived through its term: it shares its worker from here on, and Postgres knows.
async fn served(shared: &Shared, hold: &Hold, term: Duration) {
    tokio::time::sleep(term).await;
    while let Err(outage) = unmark(shared, hold).await {
        not_now(&outage, ());
        tokio::time::sleep(ASK).await;
    }
}

fn not_now<T>(outage: &Outage, otherwise: T) -> T {
    tracing::debug!(error = %in_full(outage), "the lease of a suspect could not be looked at; it is tried again");
    otherwise
}

/// Whether another suspect may run alone in the fleet now; not if that cannot be seen.
async fn has_room(shared: &Shared, job: &Claimed) -> bool {
    ask_for_room(shared, job)
        .await
        .unwrap_or_else(|outage| not_now(&outage, false))
}

async fn ask_for_room(shared: &Shared, job: &Claimed) -> Result<bool, Outage> {
    let op = "looking for other suspects";
    let mut lent = shared.pg.main(op).await?;
    let query = sqlx::query_scalar(concat!("SELECT ", room!()))
        .bind(job.hold.id)
        .bind(job.queue.id)
        .bind(job.kind.kind_id);
    let room = within(op, query.fetch_one(lent.conn())).await?;
    lent.done();
    Ok(room)
}

/// From here on, for the term that is returned, a crash of this worker is this job's. `None`: another suspect was quicker, or the job is lost.
async fn mark(shared: &Shared, job: &Claimed) -> Result<Option<Duration>, Outage> {
    let op = "isolating a suspect";
    let mut lent = shared.pg.main(op).await?;
    let mut tx = within(op, lent.conn().begin()).await?;
    // One at a time: the statement after the lock sees what the last holder has written.
    within(
        op,
        sqlx::query("SELECT pg_advisory_xact_lock(hashtext('millstream.isolated'))")
            .execute(&mut *tx),
    )
    .await?;
    let update = sqlx::query_as(concat!(
        "WITH marked AS (UPDATE millstream.lease SET isolated = true, started = true, leased_at = now()
           WHERE job_id = $1 AND epoch = $4 AND worker_id = $5 AND ",
        room!(),
        " RETURNING job_id)
         SELECT count(e.ran_ms) AS counted, min(e.ran_ms) AS ran_ms_min, max(e.ran_ms) AS ran_ms_max, count(*) FILTER (WHERE e.excused) AS excused FROM marked m
         LEFT JOIN millstream.job_error e ON e.job_id = m.job_id AND e.class = 'crash' GROUP BY m.job_id"
    ))
    .bind(job.hold.id)
    .bind(job.queue.id)
    .bind(job.kind.kind_id)
    .bind(job.hold.epoch)
    .bind(shared.worker_id);
    let marked: Option<Past> = within(op, update.fetch_optional(&mut *tx)).await?;
    within(op, tx.commit()).await?;
    lent.done();
    Ok(marked.as_ref().map(term))
}

/// What the error history says of the crashes at which a job was there.
#[derive(sqlx::FromRow)]
struct Past {
    /// Those that were counted against it. If they are more than its row says, the others were forgiven: it has outlived terms.
    counted: i64,
    /// How long it had run before one of them, at least and at most.
    ran_ms_min: Option<i32>,
    ran_ms_max: Option<i32>,
    excused: i64,
}

/// How long a suspect is by itself. One that has outlived a term gets as long as it takes to kill, if it is a killer: what it needed
/// the quickest time, since an innocent job was killed at any time. If it outlives that too, what it needed at most.
fn term(past: &Past) -> Duration {
    let longer = |ran_ms: Option<i32>| {
        TERM.max(
            TERM_FACTOR * Duration::from_millis(ran_ms.unwrap_or_default().unsigned_abs().into()),
        )
    };
    match past.counted - i64::from(CRASHES_MAX - 1) {
        ..=0 => TERM,
        1 => longer(past.ran_ms_min).min(TERM_MAX),
        _ if past.counted + past.excused < CRASHES_PER_TERM_MAX => {
            longer(past.ran_ms_max).min(TERM_MAX)
        }
        _ => longer(past.ran_ms_max),
    }
}

/// Takes the mark back and one crash with it: what has lived through its term is less of a suspect. Both or neither, and only once. The row
/// of the job first, as settling does: no deadlock.
async fn unmark(shared: &Shared, hold: &Hold) -> Result<(), Outage> {
    let op = "ending the term of a suspect";
    let mut lent = shared.pg.main(op).await?;
    let update = sqlx::query(
        "WITH forgiven AS (
           UPDATE millstream.job SET crash_count = greatest(crash_count - 1, 0) WHERE id = $1 AND epoch = $2 AND state = 1
             AND EXISTS (SELECT 1 FROM millstream.lease WHERE job_id = $1 AND epoch = $2 AND worker_id = $3 AND isolated) RETURNING id
         )
         UPDATE millstream.lease l SET isolated = false FROM forgiven f WHERE l.job_id = f.id AND l.epoch = $2 AND l.worker_id = $3",
    )
    .bind(hold.id)
    .bind(hold.epoch)
    .bind(shared.worker_id);
    within(op, update.execute(lent.conn())).await?;
    lent.done();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(counted: i64, ran_ms: (i32, i32), excused: i64) -> Past {
        Past {
            counted,
            ran_ms_min: Some(ran_ms.0),
            ran_ms_max: Some(ran_ms.1),
            excused,
        }
    }

    #[test]
    fn a_job_that_has_outlived_a_term_is_watched_for_longer_than_it_took_to_kill() {
        assert_eq!(term(&past(2, (7_000, 7_000), 3)), TERM);
        assert_eq!(term(&past(3, (100, 9_000), 0)), TERM);
        assert_eq!(term(&past(3, (3_000, 9_000), 0)), Duration::from_secs(9));
        assert_eq!(
            term(&past(4, (100, 3_000), 0)),
            Duration::from_secs(9),
            "it has outlived two"
        );
        assert_eq!(
            term(&Past {
                counted: 4,
                ran_ms_min: None,
                ran_ms_max: None,
                excused: 0
            }),
            TERM
        );
    }

    #[test]
    fn a_term_is_ten_seconds_at_most_until_the_job_has_been_there_at_six_crashes() {
        let hour = (3_600_000, 3_600_000);
        assert_eq!(term(&past(3, hour, 0)), TERM_MAX);
        assert_eq!(term(&past(5, hour, 0)), TERM_MAX);
        assert_eq!(term(&past(6, hour, 0)), Duration::from_hours(3));
        assert_eq!(term(&past(4, hour, 2)), Duration::from_hours(3));
    }

    #[test]
    fn a_suspect_that_is_sent_away_again_and_again_rests_longer_and_longer() {
        assert_eq!(rest(2), REST);
        assert_eq!(rest(20), 3 * REST);
        assert_eq!(rest(i32::MAX), REST_MAX);
    }
}
