//! `millstream jobs`: list, show, wait, cancel, retry, explain.

mod explain;
mod list;
mod log;
mod moves;
mod show;
mod wait;

use clap::{Args, Subcommand};
use millstream_common::id::JobId;

pub(super) use self::moves::{all as move_all, each as move_each, told};
use super::{CommandError, CommandResult, Invocation, table};
use crate::ops::jobs::Job;

#[derive(Debug, Args)]
pub(super) struct JobsArgs {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// One page of jobs, newest first
    List(list::ListArgs),
    /// Everything about jobs
    Show(show::ShowArgs),
    /// One page of what the handler of a job has logged, the newest line last
    Log(log::LogArgs),
    /// Wait until jobs have ended; exit 1 unless all have completed
    Wait(wait::WaitArgs),
    /// Cancel jobs that have not ended
    Cancel(moves::MoveArgs),
    /// Run jobs at once that are put off or dead
    Retry(moves::MoveArgs),
    /// Why a job stands where it stands
    Explain(explain::ExplainArgs),
}

pub(super) async fn run(args: JobsArgs, context: &Invocation) -> CommandResult {
    match args.act {
        Act::List(args) => list::run(args, context).await,
        Act::Show(args) => show::run(args, context).await,
        Act::Log(args) => log::run(args, context).await,
        Act::Wait(args) => wait::run(args, context).await,
        Act::Cancel(args) => moves::cancel(args, context).await,
        Act::Retry(args) => moves::retry(args, context).await,
        Act::Explain(args) => explain::run(args, context).await,
    }
}

/// `millstream dead show`.
pub(super) async fn show_dead(ids: Vec<JobId>, context: &Invocation) -> CommandResult {
    show::run(show::ShowArgs { ids }, context).await
}

/// One line on how a job ended, or the whole job as JSON.
pub(super) fn print_outcome(job: &Job, context: &Invocation) -> Result<(), CommandError> {
    if context.json {
        return table::json(job);
    }
    let detail = match (&job.error, &job.result) {
        (Some(error), _) if job.state != "completed" => error.clone(),
        (_, Some(result)) => result.0.get().to_owned(),
        _ => String::new(),
    };
    table::line(format!("{} {} {}", job.id, job.state, table::printable(&detail)).trim_end())
}
