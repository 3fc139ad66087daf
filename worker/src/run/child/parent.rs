//! An isolated job as its worker sees it: lease, place, slot, mark, child, outcome.

use std::{io, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use millstream_common::{
    error::{Outage, in_full},
    limits::{CHILD_DEATHS_MAX, LOG_LINE_BYTES_MAX},
    redact::stored,
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until},
};

use super::{
    ANSWER_MAX,
    pool::{Child, Death},
    wire::{Job, Order, Word},
};
use crate::{
    api::{Failure, Line, Outcome, RunLink as _},
    job::{Claimed, Hold},
    pauses::Leave,
    run::{End, Run, Runs, attempt, finish, forget, hand_back_run},
    settle::effect,
    shared::Shared,
};

/// How long a job waits for a child here. Then another worker may have one.
const PLACE_WAIT: Duration = Duration::from_secs(2);
/// How long a job that found no child rests first, and at last: the more often it was handed out, the longer.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(15);
/// So many hand-outs make the rest a second longer.
const HAND_OUTS_PER_REST: u32 = 8;
/// What a child has said in time may still lie in the pipe, if this process was kept from reading it.
const HEARING: Duration = Duration::from_millis(200);
/// One try to complete a job with its effect: a minute for the effect (`settle::effect`), and the deadlines of the statements around it.
const SETTLE_MAX: Duration = Duration::from_mins(2);
/// How long Postgres is left alone after it could not be told of a start.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs the job in a child, or hands it back for later.
pub(in crate::run) async fn run(runs: Arc<Runs>, job: Claimed) {
    let shared = &runs.shared;
    let rights = tokio::select! {
        biased;
        () = job.hold.cancel().cancelled() => return forget(&job),
        () = shared.signals.draining.cancelled() => return hand_back_run(shared, job, None).await,
        () = shared.work.pauses.closes(&job) => return hand_back_run(shared, job, None).await,
        rights = rights(&runs, &job) => rights,
    };
    let Some(rights) = rights else {
        let rest = rest(job.hold.epoch);
        return hand_back_run(shared, job, Some(rest)).await;
    };
    let run = Run::begin();
    let end = if runs.children.are_possible() {
        in_children(&runs, &job, &run).await
    } else {
        match begin(shared, &job).await {
            Ok(()) => attempt(&runs, &job, run.started).await,
            Err(end) => end,
        }
    };
    drop(rights);
    finish(&runs, job, run.past(), end).await;
}

fn rest(epoch: i32) -> Duration {
    (REST * (1 + epoch.unsigned_abs() / HAND_OUTS_PER_REST)).min(REST_MAX)
}

/// A place among the children and a slot of the worker.
struct Rights {
    #[expect(dead_code, reason = "guards")]
    guards: (Option<OwnedSemaphorePermit>, OwnedSemaphorePermit),
}

/// Waits for what a start needs. `None`: others have the places, or the job is lost.
async fn rights(runs: &Runs, job: &Claimed) -> Option<Rights> {
    let shared = &runs.shared;
    if !job.hold.is_leased_in_the_end().await {
        return None;
    }
    let guards = async {
        Some((
            runs.children.place().await,
            shared.work.capacity.slot().await?,
        ))
    };
    let guards = tokio::time::timeout(PLACE_WAIT, guards).await.ok()??;
    while shared.work.pauses.leave(job) != Leave::Granted {
        tokio::time::sleep(PAUSE).await;
    }
    Some(Rights { guards })
}

/// Says in the lease that the job starts now, when all that it needs is there; or what becomes of it instead.
async fn begin(shared: &Shared, job: &Claimed) -> Result<(), End> {
    // A child may take long to start, and a pause counts until the job does.
    if shared.work.pauses.leave(job) == Leave::Refused {
        return Err(End::NotHere(None));
    }
    tokio::select! {
        biased;
        () = job.hold.cancel().cancelled() => Err(End::Lost),
        () = shared.signals.aborting.cancelled() => Err(End::Abort),
        is_ours = mark_patiently(shared, &job.hold) => if is_ours { Ok(()) } else { Err(End::Lost) },
    }
}

async fn mark_patiently(shared: &Shared, hold: &Hold) -> bool {
    loop {
        match mark(shared, hold).await {
            Ok(is_ours) => return is_ours,
            Err(outage) => {
                tracing::debug!(job = %hold.id, error = %in_full(&outage), "the start of an isolated job was not written; it is tried again");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// From here on the death of this worker counts for the job. False: the lease is not ours any more.
async fn mark(shared: &Shared, hold: &Hold) -> Result<bool, Outage> {
    let update = sqlx::query(
        "UPDATE millstream.lease SET started = true WHERE job_id = $1 AND epoch = $2 AND worker_id = $3",
    )
    .bind(hold.id)
    .bind(hold.epoch)
    .bind(shared.worker_id);
    let loan = shared.pg.main("starting an isolated job");
    Ok(loan.execute(update).await? == 1)
}

/// Runs the job in a child, and in fresh ones while they die, until it has ended or has killed too many.
async fn in_children(runs: &Runs, job: &Claimed, run: &Run) -> End {
    let (mut killed, mut died) = (0, false);
    loop {
        let mut child = match child(runs, job, died).await {
            Ok(child) => child,
            Err(end) => return end,
        };
        let death = match in_child(runs, job, run, &mut child).await {
            Ran::Ended(end) => {
                if is_clean(&end) {
                    runs.children.keep(child);
                } else if matches!(end, End::Lost | End::Abort) {
                    // Somebody else gets the job next: nothing of it may run here then.
                    child.kill();
                    child.death().await;
                }
                return end;
            }
            Ran::Silent(how) => {
                child.kill();
                let counts = child.death().await.counts;
                Death { how, counts }
            }
            Ran::Closed => child.death().await,
        };
        // What it has committed stands, although nobody heard of it.
        if effect::committed(&runs.shared, job.hold.id, job.hold.epoch).await {
            return End::Settled(true);
        }
        died = true;
        killed += i32::from(death.counts);
        tell(runs, job, &death);
        if !death.counts {
            tokio::time::sleep(REST).await;
        }
        if killed == CHILD_DEATHS_MAX {
            return End::Outcome(Err(Failure::Killed(format!(
                "its process died {killed} times with this job alone in it: it {}",
                death.how
            ))));
        }
    }
}

/// A child for the job, or what becomes of the job without one. A job that is lost meanwhile is not started.
async fn child(runs: &Runs, job: &Claimed, died: bool) -> Result<Child, End> {
    let started = tokio::select! {
        biased;
        () = job.hold.cancel().cancelled() => return Err(End::Lost),
        () = runs.shared.signals.aborting.cancelled() => return Err(End::Abort),
        started = runs.children.child(died) => started,
    };
    let child = started.map_err(|error| without_child(runs, job, &error))?;
    // After a death the job has begun already.
    if !died {
        begin(&runs.shared, job).await?;
    }
    Ok(child)
}

/// The reason is told where people look for it: without a child nothing becomes of the job.
fn without_child(runs: &Runs, job: &Claimed, error: &io::Error) -> End {
    tracing::warn!(job = %job.hold.id, %error, "no child process could be started for a job; it is handed back");
    runs.shared.metrics.counters.children_not_started.inc();
    let rest = rest(job.hold.epoch);
    let seconds = rest.as_secs();
    note(
        runs,
        job,
        &format!(
            "no child process could be started for it: {error}; it is handed back and rests {seconds} s"
        ),
    );
    End::NotHere(Some(rest))
}

fn without_handler(runs: &Runs, job: &Claimed) -> End {
    let kind = job.kind.handler.kind();
    tracing::error!(job = %job.hold.id, kind, "a child process lacks a handler that its worker has; its job is handed back");
    let line = format!("the child process has no handler for {kind}, and its worker has one");
    note(runs, job, &line);
    End::NotHere(Some(REST_MAX))
}

fn tell(runs: &Runs, job: &Claimed, death: &Death) {
    let how = &death.how;
    tracing::warn!(job = %job.hold.id, kind = job.kind.handler.kind(), how, counts = death.counts, "the child process of a job has died");
    let line = format!("its process {how}");
    note(runs, job, &line);
}

/// A line in the log of the job.
fn note(runs: &Runs, job: &Claimed, line: &str) {
    relay(runs, job, millstream_common::clock::now(), line);
}

/// What was said of a job elsewhere.
fn relay(runs: &Runs, job: &Claimed, at: DateTime<Utc>, text: &str) {
    runs.reporter.send(Line {
        job: job.hold.id,
        epoch: job.hold.epoch,
        attempt: job.attempt + 1,
        at,
        text: stored(text, LOG_LINE_BYTES_MAX),
    });
}

/// Whether nothing of the job can be left in the child.
fn is_clean(end: &End) -> bool {
    !matches!(
        end,
        End::Lost | End::Abort | End::Outcome(Err(Failure::TimedOut(_) | Failure::Panicked(_)))
    )
}

/// How a run in one child came to its end.
enum Ran {
    Ended(End),
    /// It has not answered.
    Silent(String),
    /// It has nothing more to say.
    Closed,
}

async fn in_child(runs: &Runs, job: &Claimed, run: &Run, child: &mut Child) -> Ran {
    child.order(Order::Run(Box::new(order(job, run))));
    let timeout = job.kind.handler.timeout;
    let deadline = sleep_until(far(timeout + ANSWER_MAX));
    tokio::pin!(deadline);
    let mut is_settling = false;
    loop {
        let word = tokio::select! {
            biased;
            word = child.hears() => word,
            // Whether an effect was committed is known to the child alone, and Postgres refuses it if the job is lost.
            () = job.hold.cancel().cancelled(), if !is_settling => return Ran::Ended(End::Lost),
            () = runs.shared.signals.aborting.cancelled(), if !is_settling => return Ran::Ended(End::Abort),
            () = &mut deadline => match tokio::time::timeout(HEARING, child.hears()).await {
                Ok(word) => word,
                Err(_) => return Ran::Silent(silence(timeout, is_settling)),
            }
        };
        match word {
            Some(Word::Progress(share, note)) => job.hold.report(share, note),
            Some(Word::Line(at, text)) => relay(runs, job, at, &text),
            Some(Word::NoHandler) => return Ran::Ended(without_handler(runs, job)),
            Some(Word::Ended(outcome)) => {
                return Ran::Ended(unsettled(&runs.shared, job, is_settling, outcome).await);
            }
            Some(Word::Settled(accepted)) => return Ran::Ended(End::Settled(accepted)),
            Some(Word::HasEffect) => {
                is_settling = true;
                deadline.as_mut().reset(far(SETTLE_MAX));
                child.order(Order::Go);
            }
            Some(Word::Waits) => deadline.as_mut().reset(far(SETTLE_MAX)),
            Some(Word::Ready) | None => return Ran::Closed,
        }
    }
}

fn silence(timeout: Duration, is_settling: bool) -> String {
    if is_settling {
        let limit = SETTLE_MAX.as_secs();
        return format!("did not end its own writes within {limit} s and was killed");
    }
    let (after, limit) = (ANSWER_MAX.as_secs(), timeout.as_millis());
    format!("did not answer {after} s after its timeout of {limit} ms and was killed")
}

/// An effect that failed may have committed all the same, when the answer was lost.
async fn unsettled(shared: &Shared, job: &Claimed, is_settling: bool, outcome: Outcome) -> End {
    if is_settling && effect::committed(shared, job.hold.id, job.hold.epoch).await {
        return End::Settled(true);
    }
    End::Outcome(outcome)
}

fn far(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time)
        .unwrap_or_else(|| now + Duration::from_hours(24 * 365))
}

fn order(job: &Claimed, run: &Run) -> Job {
    Job {
        id: job.hold.id,
        epoch: job.hold.epoch,
        kind: job.kind.handler.kind().to_owned(),
        attempt: job.attempt + 1,
        max_attempts: job.max_attempts,
        tenant_id: job.tenant_id,
        batch_id: job.batch_id,
        payload: job.payload.clone(),
        timeout: job.kind.handler.timeout,
        trace: job.trace.clone(),
        started_at: run.started_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_finds_no_child_again_and_again_rests_longer_and_longer() {
        assert_eq!(rest(2), REST);
        assert_eq!(rest(20), 3 * REST);
        assert_eq!(rest(i32::MAX), REST_MAX);
    }
}
