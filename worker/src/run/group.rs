//! Which task runs a job. Quick jobs share one: a task for each would cost more than they do.
//!
//! A job leaves the shared task as soon as it has to wait for anything, so jobs run side by side as if each had its own.

use std::{sync::Arc, time::Duration};

use super::{Runs, child, run};
use crate::job::Claimed;

/// Work in one task, by the mean run times of its kinds, so that there is enough for the other threads. Handlers that block their thread
/// hold up no more than this in the mean; one that blocks for longer than its kind usually does holds up those behind it in its task.
const TASK_WORK: Duration = Duration::from_micros(500);
/// Jobs in one task, whose own cost is about two microseconds each.
const TASK_JOBS_MAX: usize = 100;

/// Starts the jobs as soon as there are slots for them.
pub(crate) fn spawn_runs(runs: &Arc<Runs>, jobs: impl IntoIterator<Item = Claimed>) {
    let (mut together, mut work) = (Vec::new(), Duration::ZERO);
    for job in jobs {
        if job.is_isolated() {
            runs.tasks.spawn(child::run(runs.clone(), job));
            continue;
        }
        work += job.kind.mean().unwrap_or(TASK_WORK);
        together.push(job);
        if work >= TASK_WORK || together.len() == TASK_JOBS_MAX {
            runs.tasks
                .spawn(run_in_turn(runs.clone(), std::mem::take(&mut together)));
            work = Duration::ZERO;
        }
    }
    if !together.is_empty() {
        runs.tasks.spawn(run_in_turn(runs.clone(), together));
    }
}

async fn run_in_turn(runs: Arc<Runs>, jobs: Vec<Claimed>) {
    for job in jobs {
        let mut run = Box::pin(run(runs.clone(), job));
        if futures::poll!(&mut run).is_pending() {
            runs.tasks.spawn(run);
        }
    }
}
