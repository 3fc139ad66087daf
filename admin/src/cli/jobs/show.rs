//! `millstream jobs show`.

use clap::Args;
use millstream_common::{id::JobId, pg::Pg};

use super::log;
use crate::{
    cli::{CommandError, CommandResult, Exit, Invocation, table},
    ops::{
        jobs::{self, Job, JobError, RawJson},
        logs,
    },
};

/// Log lines shown to people.
const LOG_LINES: u32 = 20;

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Which jobs
    #[arg(required = true, value_name = "ID")]
    pub(super) ids: Vec<JobId>,
}

pub(super) async fn run(args: ShowArgs, context: &Invocation) -> CommandResult {
    let pg = context.pg().await?;
    let found = jobs::show(pg, &args.ids).await?;
    for (nth, id) in args.ids.iter().enumerate() {
        let job = found
            .iter()
            .find(|job| job.id == *id)
            .ok_or_else(|| CommandError::not_found(format!("there is no job {id}")))?;
        if nth > 0 && !context.json {
            table::line("")?;
        }
        print(context, pg, job).await?;
    }
    Ok(Exit::Done)
}

async fn print(context: &Invocation, pg: &Pg, job: &Job) -> Result<(), CommandError> {
    table::one(context, job, fields)?;
    if context.json {
        return Ok(());
    }
    for error in &job.errors {
        table::line(&table::printable(&told(error)))?;
    }
    let page = logs::page(pg, job.id, LOG_LINES, None).await?;
    if let Some(next) = page.next {
        table::line(&format!(
            "log      the newest {LOG_LINES} lines; {}",
            log::older(job.id, next)
        ))?;
    }
    page.items
        .iter()
        .rev()
        .try_for_each(|line| table::line(&format!("log      {}", log::told(line))))
}

/// What went wrong in a try, in the words for its class.
fn told(error: &JobError) -> String {
    let word = match (error.counted, error.class.as_str()) {
        (true, _) => "failed",
        (_, "crash") => "crashed",
        _ => "put off",
    };
    let counted = if error.counted { "" } else { ", not counted" };
    format!(
        "{word:8} try {} on {} at {}: {}{counted}: {}",
        error.attempt,
        table::maybe(error.worker.as_ref()),
        table::time(error.at),
        error.class,
        error.message
    )
}

/// `2 of 3`: the try that runs, or ran last.
fn tries(job: &Job) -> String {
    match job.attempt {
        0 => format!("none of {}", job.max_attempts),
        attempt => format!("{attempt} of {}", job.max_attempts),
    }
}

fn fields(job: &Job) -> Vec<(&'static str, String)> {
    let json = |value: &Option<RawJson>| table::maybe(value.as_ref().map(|json| json.0.get()));
    vec![
        ("id", job.id.to_string()),
        ("state", job.state.clone()),
        ("kind", job.kind.clone()),
        ("queue", job.queue.clone()),
        ("priority", job.priority.clone()),
        ("tenant", job.tenant.clone()),
        ("try", tries(job)),
        ("epoch", job.epoch.to_string()),
        ("worker", table::maybe(job.worker.as_ref())),
        (
            "progress",
            table::maybe(job.progress.map(|p| format!("{:.0} %", p * 100.0))),
        ),
        ("note", table::maybe(job.progress_note.as_ref())),
        ("enqueued", table::time(job.enqueued_at)),
        ("due", table::maybe_time(job.run_at)),
        ("started", table::maybe_time(job.started_at)),
        ("finished", table::maybe_time(job.finished_at)),
        ("payload", json(&job.payload)),
        ("metadata", json(&job.metadata)),
        ("result", json(&job.result)),
        ("error", table::maybe(job.error.as_ref())),
    ]
}
