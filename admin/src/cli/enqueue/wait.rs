//! `--wait`: how the jobs ended.

use std::time::{Duration, Instant};

use millstream_common::{id::JobId, persist::Enqueued, state::State};
use serde::Serialize;

use super::{EnqueueArgs, many::bar};
use crate::{
    cli::{CommandError, CommandResult, Exit, Invocation, jobs::print_outcome, table},
    ops::{jobs, wait},
};

/// A restart of Postgres is sat out.
const PATIENCE: Duration = Duration::from_secs(30);
/// Waiting without a limit: until the person at the terminal gives up.
const NO_LIMIT: Duration = Duration::from_hours(10 * 365 * 24);

/// How many ended in which way.
#[derive(Debug, Serialize)]
pub(super) struct Counts {
    completed: usize,
    dead: usize,
    cancelled: usize,
    open: usize,
    wait_seconds: f64,
    drained_per_second: f64,
}

impl Counts {
    fn of(waited: &wait::Waited, started: Instant) -> Self {
        let ended = |state: State| waited.done.values().filter(|s| **s == state).count();
        let seconds = started.elapsed().as_secs_f64();
        Self {
            completed: ended(State::Completed),
            dead: ended(State::Dead),
            cancelled: ended(State::Cancelled),
            open: waited.open.len() + waited.missing.len(),
            wait_seconds: seconds,
            drained_per_second: (waited.done.len() as f64 / seconds).round(),
        }
    }

    /// Done only if everything completed.
    pub(super) fn exit(&self) -> Exit {
        if self.dead + self.cancelled + self.open == 0 {
            Exit::Done
        } else {
            Exit::Failed
        }
    }

    /// One line for people.
    pub(super) fn print(&self) -> Result<(), CommandError> {
        table::line(&format!(
            "{} completed, {} dead, {} cancelled, {} open {:.2} s after the first was enqueued: {:.0} jobs/s",
            self.completed,
            self.dead,
            self.cancelled,
            self.open,
            self.wait_seconds,
            self.drained_per_second
        ))
    }
}

/// Waits and prints every job as it ended.
pub(super) async fn few(
    args: &EnqueueArgs,
    enqueued: &[Enqueued],
    context: &Invocation,
) -> CommandResult {
    let ids: Vec<_> = enqueued.iter().map(|job| job.id).collect();
    let counts = many(args, &ids, Instant::now(), context).await?;
    for job in jobs::show(context.pg().await?, &ids).await?.iter().rev() {
        print_outcome(job, context)?;
    }
    Ok(counts.exit())
}

/// Waits and counts.
pub(super) async fn many(
    args: &EnqueueArgs,
    ids: &[JobId],
    started: Instant,
    context: &Invocation,
) -> Result<Counts, CommandError> {
    let bar = bar(ids.len() as u32, context, "ended");
    let deadline = tokio::time::Instant::now() + args.timeout.map_or(NO_LIMIT, Duration::from_secs);
    let waited = wait::until_final(context.pg().await?, ids, deadline, PATIENCE, |done| {
        bar.set_position(done as u64);
    })
    .await?;
    bar.finish_and_clear();
    Ok(Counts::of(&waited, started))
}
