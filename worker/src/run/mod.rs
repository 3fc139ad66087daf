//! Run: one claimed job from its slot to its outcome.
//!
//! All ways to end are arms of one `select!`; panics are caught here and nowhere else. What is said here is only a proposal:
//! settle decides, and Postgres accepts it or not.
//!
//! With its slot in hand a run looks once more whether its job is closed
//! ([`pauses`](crate::pauses)). Then it polls the handler once; most quick jobs end there. What
//! goes on waits for the handler, a cancel or lost lease, the timeout, and the abort at shutdown.

pub(crate) mod child;
pub(crate) mod group;

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use millstream_common::{
    failpoint::reach, limits::ERROR_BYTES_MAX, metrics::JobOutcome, pg::GuardedPool,
    redact::stored, rehand::Leases, tasks::Tasks,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tracing::Instrument;

use self::child::Children;
use crate::{
    api::{Context, Failure, Handler, Outcome, Reporter, RunLink as _, Success},
    hand_back::hand_back,
    job::{Claimed, Ended, RowState},
    pauses::Leave,
    settle::conclude,
    shared::Shared,
};

/// How often a worker that does not know what is paused looks whether it does.
const LOOK: Duration = Duration::from_millis(50);
/// A handler that has neither ended nor heard of its timeout after so many timeouts blocks its thread.
const STUCK_TIMEOUTS: u32 = 2;

/// What runs need and nobody below them does.
pub(crate) struct Runs {
    pub(crate) shared: Arc<Shared>,
    /// Counts the tasks that run jobs; closed when the worker drains.
    pub(crate) tasks: Tasks,
    /// In which isolated jobs run.
    pub(crate) children: Arc<Children>,
    /// Of the handlers alone: what they hold is not missing to the worker.
    pub(crate) handlers_pg: GuardedPool,
    pub(crate) reporter: Reporter,
    pub(crate) outcomes: mpsc::UnboundedSender<Ended>,
}

/// Runs the job here, when there is a slot for it.
async fn run(runs: Arc<Runs>, job: Claimed) {
    let shared = &runs.shared;
    let start = match slot_at_once(shared, &job) {
        Some(slot) if shared.work.pauses.leave(&job) == Leave::Granted => Start::Now(slot),
        // On the heap: most jobs need not wait.
        slot => Box::pin(wait(shared, &job, slot)).await,
    };
    let slot = match start {
        Start::Now(slot) => slot,
        Start::Never => return forget(&job),
        Start::NotHere => return Box::pin(hand_back_run(shared, job, None)).await,
    };
    let run = Run::begin();
    let span = tracing::debug_span!("job", id = %job.hold.id, kind = job.kind.handler.kind(), epoch = job.hold.epoch, trace = job.trace);
    let end = attempt(&runs, &job, run.started).instrument(span).await;
    let past = run.past();
    drop(slot);
    if matches!(end, End::Outcome(_)) {
        job.kind.learn(past.ran);
    }
    finish(&runs, job, past, end).await;
}

/// When a run began.
#[derive(Clone, Copy)]
struct Run {
    started_at: DateTime<Utc>,
    started: Instant,
}

impl Run {
    fn begin() -> Self {
        Self {
            started_at: millstream_common::clock::now(),
            started: Instant::now(),
        }
    }

    fn past(self) -> Past {
        Past {
            started_at: self.started_at,
            ran: self.started.elapsed(),
        }
    }
}

/// A run that is over.
struct Past {
    started_at: DateTime<Utc>,
    ran: Duration,
}

/// What follows from the end of a run.
async fn finish(runs: &Runs, job: Claimed, past: Past, end: End) {
    let shared = &runs.shared;
    match end {
        End::Outcome(outcome) => propose(runs, job, past, outcome).await,
        End::Settled(accepted) => Box::pin(conclude_in_child(shared, job, past, accepted)).await,
        End::Lost => forget(&job),
        End::Abort => Box::pin(hand_back_run(shared, job, None)).await,
        End::NotHere(rest) => Box::pin(hand_back_run(shared, job, rest)).await,
    }
}

/// What becomes of a job that is in hand.
enum Start {
    Now(OwnedSemaphorePermit),
    /// Cancelled or taken over before it started.
    Never,
    /// It goes back unstarted, at no cost.
    NotHere,
}

/// Waits for a slot, and for leave to use it.
async fn wait(shared: &Shared, job: &Claimed, slot_in_hand: Option<OwnedSemaphorePermit>) -> Start {
    let granted = async {
        let slot = match slot_in_hand {
            Some(slot) => slot,
            None => shared.work.capacity.slot().await?,
        };
        // What is closed ends the wait below.
        while shared.work.pauses.leave(job) != Leave::Granted {
            tokio::time::sleep(LOOK).await;
        }
        Some(slot)
    };
    tokio::select! {
        biased;
        () = job.hold.cancel().cancelled() => Start::Never,
        () = shared.signals.draining.cancelled() => Start::NotHere,
        () = shared.work.pauses.closes(job) => Start::NotHere,
        slot = granted => slot.map_or(Start::Never, Start::Now),
    }
}

/// A slot that is free, if nothing has to be waited for or looked at first.
fn slot_at_once(shared: &Shared, job: &Claimed) -> Option<OwnedSemaphorePermit> {
    let may_start = !job.hold.is_lost() && !shared.signals.draining.is_cancelled();
    may_start
        .then(|| shared.work.capacity.free_slot())
        .flatten()
}

/// How the handler's future came to its end.
enum End {
    /// The handler, its timeout or its panic has spoken.
    Outcome(Outcome),
    /// The completion was written in a child; false: it matched nothing.
    Settled(bool),
    /// Cancelled or handed out to somebody else: there is nothing to settle.
    Lost,
    /// The worker's grace period is over.
    Abort,
    /// It could not run here; others get it when it has rested.
    NotHere(Option<Duration>),
}

async fn attempt(runs: &Runs, job: &Claimed, started: Instant) -> End {
    // A timeout that is beyond all clocks is none.
    let stuck_after = job.kind.handler.timeout.saturating_mul(STUCK_TIMEOUTS);
    job.hold.begin_run(started.checked_add(stuck_after));
    let end = until_end(runs, job).await;
    job.hold.end_run();
    end
}

async fn until_end(runs: &Runs, job: &Claimed) -> End {
    let handler = &job.kind.handler;
    reach("run.started");
    let mut call = pin!(call(handler, context(runs, job), &job.payload));
    // What ends at once needs neither a timer nor ears.
    if let Poll::Ready(outcome) = futures::poll!(&mut call) {
        return End::Outcome(outcome);
    }
    tokio::select! {
        biased;
        outcome = call => End::Outcome(outcome),
        () = job.hold.cancel().cancelled() => End::Lost,
        () = tokio::time::sleep(handler.timeout) => End::Outcome(Err(Failure::TimedOut(handler.timeout))),
        () = runs.shared.signals.aborting.cancelled() => End::Abort,
    }
}

/// Calls the handler; a panic is an outcome.
async fn call(handler: &Handler, context: Context, payload: &str) -> Outcome {
    // The function too may panic, before there is a future.
    let call = async { (handler.function)(context, payload).await };
    AssertUnwindSafe(call)
        .catch_unwind()
        .await
        .unwrap_or_else(panicked)
}

fn context(runs: &Runs, job: &Claimed) -> Context {
    Context {
        job_id: job.hold.id,
        epoch: job.hold.epoch,
        attempt: job.attempt + 1,
        max_attempts: job.max_attempts,
        tenant_id: job.tenant_id,
        batch_id: job.batch_id,
        pg: runs.handlers_pg.clone(),
        link: job.hold.clone(),
        reporter: runs.reporter.clone(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `catch_unwind` gives it")]
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Outcome {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Err(Failure::Panicked(stored(
        text.unwrap_or("no message"),
        ERROR_BYTES_MAX,
    )))
}

/// Hands the outcome to settle, unless the job was lost meanwhile.
async fn propose(runs: &Runs, job: Claimed, past: Past, outcome: Outcome) {
    let Some(from) = job.hold.begin_settle().await else {
        return forget(&job);
    };
    // The settler outlives every run; a send fails only when the process is ending, and then the job is handed out again.
    drop(runs.outcomes.send(Ended {
        job,
        from,
        started_at: past.started_at,
        ran: past.ran,
        outcome,
    }));
}

/// A child has written the completion: what is left is to count it.
async fn conclude_in_child(shared: &Shared, job: Claimed, past: Past, accepted: bool) {
    let ended = Ended {
        job,
        from: RowState::Running,
        started_at: past.started_at,
        ran: past.ran,
        outcome: Ok(Success::new()),
    };
    conclude(shared, vec![(ended, accepted, JobOutcome::Succeeded)]).await;
}

/// Somebody else's job now, or nobody's: its entry is no longer needed.
fn forget(job: &Claimed) {
    // The lessor and the heartbeat release the entry when they find a job lost; a cancelled one is released here.
    if !job.hold.is_lost()
        && !job.hold.is_leased()
        && let Some(entry) = &job.hold.entry
    {
        entry.release();
    }
}

/// Hands a job back unfinished, without using up an attempt; others get it when it has rested.
async fn hand_back_run(shared: &Shared, job: Claimed, rest: Option<Duration>) {
    if job.hold.begin_settle().await.is_none() {
        return;
    }
    match hand_back(
        &shared.pg,
        &[(job.hold.id, job.hold.epoch)],
        Leases::Included,
        rest,
    )
    .await
    {
        Ok(_) => {
            let meters = shared
                .meters
                .job(&job.queue, job.kind.kind_id, job.kind.handler.kind());
            meters.finished(JobOutcome::Released, 1);
            if let Some(entry) = job.hold.entry.as_ref().filter(|_| !job.hold.is_leased()) {
                entry.release();
            }
        }
        Err(outage) => {
            tracing::warn!(job = %job.hold.id, error = %millstream_common::error::in_full(&outage), "could not hand a job back; it is rescued after the lease");
        }
    }
}
