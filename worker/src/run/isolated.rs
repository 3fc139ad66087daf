//! A suspect, a job that was in hand at two crashes, runs alone (F15).
//!
//! Its worker closes for new jobs, waits a moment for the others to end, and says in the lease that the suspect is by itself.
//! Only a crash with that mark can bury a job (`duties::crash`). The mark lasts for a term of seconds. Then it is taken back, and
//! only after that the worker takes others: none of them can make the suspect answer for its own deed. If the worker dies after all,
//! the next term is longer than the job ever ran before a crash: what kills late kills alone the time after. Half of the workers at most, rounded up, do this at a time, those
//! included whose death nobody has noticed yet: the others keep work flowing, and if all died together, it could not be told from a
//! power cut.

use std::{sync::Arc, time::Duration};

use millstream_common::{
    error::{Outage, in_full},
    limits::CRASHES_MAX,
    pg::within,
};
use sqlx::Connection;
use tokio::time::Instant;

use super::{forget, give_back};
use crate::{
    capacity::Lane,
    claim::{Claimed, hold::Hold},
    shared::Shared,
};

/// How long jobs that run already are waited for. Those that remain have shown that they do not crash at once.
const NEIGHBOURS_MAX: Duration = Duration::from_secs(1);
/// How often the neighbours are counted.
const LOOK: Duration = Duration::from_millis(50);
/// How often Postgres is asked whether it is a suspect's turn.
const ASK: Duration = Duration::from_millis(500);
/// A suspect is by itself for so long, unless it ends before. Killers kill early, and long jobs must not take a worker out of the fleet.
const TERM: Duration = Duration::from_secs(5);
/// What has lived through a term and was there when its worker died later is watched for three times as long as it ever ran: the
/// machine may be slower this time.
const TERM_FACTOR: u32 = 3;
/// How long a suspect that cannot wait here rests first, and at last: the more often it was handed out, the longer.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(15);
/// So many hand-outs make the rest a second longer.
const HAND_OUTS_PER_REST: u32 = 8;

/// Whether suspects have less than half of the workers, rounded up, for themselves now, apart from job $1.
macro_rules! room {
    () => {
        "(SELECT count(*) FROM millstream.lease WHERE isolated AND job_id <> $1)
           < ((SELECT count(*) FROM millstream.worker WHERE state = 'active') + 1) / 2"
    };
}

/// Runs the suspect when it is alone, or gives it back for later.
pub(super) async fn run(shared: Arc<Shared>, job: Claimed) {
    let turn = tokio::select! {
        biased;
        () = job.hold.cancel.cancelled() => return forget(&job),
        () = shared.draining.cancelled() => return give_back(&shared, job, None).await,
        turn = turn(&shared, &job.hold) => turn,
    };
    let Some((lane, term)) = turn else {
        let rest = rest(job.hold.epoch);
        return give_back(&shared, job, Some(rest)).await;
    };
    let hold = job.hold.clone();
    tracing::warn!(job = %hold.id, kind = job.kind.handler.kind(), ?term, "a job that was there at two crashes runs alone");
    let running = super::run(shared.clone(), job);
    tokio::pin!(running);
    tokio::select! {
        () = &mut running => return,
        () = served(&shared, &hold, term) => drop(lane),
    }
    running.await;
}

fn rest(epoch: i32) -> Duration {
    (REST * (1 + epoch.unsigned_abs() / HAND_OUTS_PER_REST)).min(REST_MAX)
}

/// Waits for the lease and for the suspect's turn in this process and in the fleet, and is then alone; with the term for which the lease
/// says so. `None`: others wait here already, or the job is lost.
async fn turn(shared: &Shared, hold: &Hold) -> Option<(Lane, Duration)> {
    if !hold.is_leased_in_the_end().await {
        return None;
    }
    let seat = shared.capacity.seat();
    let lane = shared.capacity.lane(seat.is_some()).await?;
    loop {
        // Asked before the worker closes, so that a suspect which has to wait keeps nobody waiting.
        if has_room(shared, hold).await.unwrap_or_else(|outage| not_now(&outage, false)) {
            lane.close();
            wait_for_neighbours(shared).await;
            if let Some(term) = mark(shared, hold).await.unwrap_or_else(|outage| not_now(&outage, None)) {
                return Some((lane, term));
            }
            lane.open();
        }
        // Without a seat nothing is waited for.
        seat.as_ref()?;
        tokio::time::sleep(ASK).await;
    }
}

async fn wait_for_neighbours(shared: &Shared) {
    let closed_at = Instant::now();
    // What waits for a slot, or is being read at this moment, is given back when it gets one.
    while shared.capacity.busy() > 0 && closed_at.elapsed() < NEIGHBOURS_MAX {
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

/// Whether another suspect may run alone in the fleet now.
async fn has_room(shared: &Shared, hold: &Hold) -> Result<bool, Outage> {
    let op = "looking for other suspects";
    let mut lent = shared.pg.main(op).await?;
    let room = within(op, sqlx::query_scalar(concat!("SELECT ", room!())).bind(hold.id).fetch_one(lent.conn())).await?;
    lent.done();
    Ok(room)
}

/// From here on, for the term that is returned, a crash of this worker is this job's. `None`: another suspect was quicker, or the job is lost.
async fn mark(shared: &Shared, hold: &Hold) -> Result<Option<Duration>, Outage> {
    let op = "isolating a suspect";
    let mut lent = shared.pg.main(op).await?;
    let mut tx = within(op, lent.conn().begin()).await?;
    // One at a time: the statement after the lock sees what the last holder has written.
    within(op, sqlx::query("SELECT pg_advisory_xact_lock(hashtext('millstream.isolated'))").execute(&mut *tx)).await?;
    let update = sqlx::query_scalar(concat!(
        "UPDATE millstream.lease SET isolated = true, leased_at = now() WHERE job_id = $1 AND epoch = $2 AND worker_id = $3 AND ",
        room!(),
        " RETURNING (SELECT CASE WHEN count(*) >= $4 THEN max(ran_ms) END FROM millstream.job_error WHERE job_id = $1 AND class = 'crash')"
    ))
    .bind(hold.id)
    .bind(hold.epoch)
    .bind(shared.worker_id)
    .bind(i64::from(CRASHES_MAX));
    let marked: Option<Option<i32>> = within(op, update.fetch_optional(&mut *tx)).await?;
    within(op, tx.commit()).await?;
    lent.done();
    Ok(marked.map(term))
}

/// `ran_ms`: how long it ran at most before a crash, if it has outlived a term before.
fn term(ran_ms: Option<i32>) -> Duration {
    TERM.max(TERM_FACTOR * Duration::from_millis(ran_ms.unwrap_or_default().unsigned_abs().into()))
}

async fn unmark(shared: &Shared, hold: &Hold) -> Result<(), Outage> {
    let op = "ending the term of a suspect";
    let mut lent = shared.pg.main(op).await?;
    let update = sqlx::query("UPDATE millstream.lease SET isolated = false WHERE job_id = $1 AND epoch = $2 AND worker_id = $3")
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

    #[test]
    fn a_job_that_has_outlived_a_term_is_watched_for_longer_than_it_ever_ran() {
        assert_eq!(term(None), TERM);
        assert_eq!(term(Some(100)), TERM);
        assert_eq!(term(Some(7_000)), Duration::from_secs(21));
    }

    #[test]
    fn a_suspect_that_is_sent_away_again_and_again_rests_longer_and_longer() {
        assert_eq!(rest(2), REST);
        assert_eq!(rest(20), 3 * REST);
        assert_eq!(rest(i32::MAX), REST_MAX);
    }
}
