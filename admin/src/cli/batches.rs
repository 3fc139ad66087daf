//! `millstream batches`: groups of jobs, and what to do with a whole one.

use std::time::Duration;

use clap::{Args, Subcommand};
use millstream_common::{
    batch::{self, BatchState, NewBatch, Next},
    id::BatchId,
};
use tokio::time::Instant;

use super::{CommandError, CommandResult, Exit, Invocation, jobs::told, table};
use crate::ops::{
    PAGE_ROWS,
    batches::{self, Batch, BatchReport},
    wait::Pauses,
};

#[derive(Debug, Args)]
pub(super) struct BatchesArgs {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// One page of batches, newest first
    List(ListArgs),
    /// A batch, its counts and its latest failures
    Show(One),
    /// Open a batch; "millstream enqueue --batch ID" adds jobs to it
    Create(CreateArgs),
    /// Take no more jobs from outside, so that it can end
    Seal(One),
    /// Seal it and cancel its jobs that have not ended
    Cancel(One),
    /// Run its dead jobs again, with their tries starting anew
    RetryFailed(One),
    /// Wait for its end; exit 1 unless it has completed
    Wait(WaitArgs),
}

#[derive(Debug, Args)]
struct One {
    /// Which batch
    id: BatchId,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Batches on the page
    #[arg(long, default_value_t = PAGE_ROWS)]
    limit: u32,
    /// Where the page before has ended
    #[arg(long, value_name = "ID")]
    cursor: Option<BatchId>,
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// For people
    #[arg(long)]
    name: Option<String>,
    /// Name of the tenant
    #[arg(long, default_value = "default")]
    tenant: String,
    /// The share of failures of one kind of its work that it bears
    #[arg(long, value_name = "0..1", default_value_t = 0.0)]
    failure_share_max: f32,
    /// Kind of the job that follows it
    #[arg(long, value_name = "KIND")]
    next: Option<String>,
    /// What that job gets: a JSON object, to which a field "batch" is added
    #[arg(long, value_name = "JSON", default_value = "{}", requires = "next")]
    next_payload: String,
    /// Queue of that job
    #[arg(
        long,
        value_name = "QUEUE",
        default_value = "default",
        requires = "next"
    )]
    next_queue: String,
    /// Only if the batch has completed
    #[arg(long, requires = "next")]
    next_only_if_completed: bool,
}

#[derive(Debug, Args)]
struct WaitArgs {
    /// Which batch
    id: BatchId,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    timeout: u64,
}

pub(super) async fn run(args: BatchesArgs, context: &Invocation) -> CommandResult {
    let pg = context.pg().await?;
    match args.act {
        Act::List(args) => list(args, context).await,
        Act::Show(One { id }) => {
            let report = batches::show(pg, id).await?;
            table::one(context, &report, fields)?;
            Ok(Exit::Done)
        }
        Act::Create(args) => {
            let id = batch::open(pg, &args.into_batch()).await?;
            told(context, &serde_json::json!({"id": id}), &id.to_string())
        }
        Act::Seal(One { id }) => shown(&batches::seal(pg, id).await?, context),
        Act::Cancel(One { id }) => {
            shown(&batches::cancel(pg, id, &context.actor()).await?, context)
        }
        Act::RetryFailed(One { id }) => {
            let jobs = batches::retry_failed(pg, id, &context.actor()).await?;
            let text = format!("{} made available", table::count(jobs, "dead job"));
            told(context, &serde_json::json!({"retried": jobs}), &text)
        }
        Act::Wait(args) => wait(args, context).await,
    }
}

async fn list(args: ListArgs, context: &Invocation) -> CommandResult {
    let pg = context.pg().await?;
    let found = batches::list(pg, args.tenant.as_deref(), args.limit, args.cursor).await?;
    let header = [
        "id",
        "name",
        "tenant",
        "state",
        "total",
        "pending",
        "succeeded",
        "dead",
        "cancelled",
    ];
    table::list(context, &found.items, &header, cells)?;
    if let Some(next) = found.next {
        context.hint(&format!("more: --cursor {next}"));
    }
    Ok(Exit::Done)
}

fn cells(batch: &Batch) -> Vec<String> {
    let counts = [
        batch.total,
        batch.pending,
        batch.succeeded,
        batch.dead,
        batch.cancelled,
    ];
    let mut cells = vec![
        batch.id.to_string(),
        batch.name.clone().unwrap_or_default(),
        batch.tenant.clone(),
        batch.state.name().to_owned(),
    ];
    cells.extend(counts.map(|count| count.to_string()));
    cells
}

fn fields(report: &BatchReport) -> Vec<(&'static str, String)> {
    let batch = &report.batch;
    let mut fields = vec![
        ("id", batch.id.to_string()),
        ("name", batch.name.clone().unwrap_or_default()),
        ("tenant", batch.tenant.clone()),
        ("state", batch.state.name().to_owned()),
        ("total", batch.total.to_string()),
        ("pending", batch.pending.to_string()),
        ("succeeded", batch.succeeded.to_string()),
        ("dead", batch.dead.to_string()),
        ("cancelled", batch.cancelled.to_string()),
        ("created", table::time(batch.created_at)),
    ];
    let times = [
        ("ended", batch.ended_at),
        ("ends about", batch.end_estimated_at),
    ];
    fields.extend(
        times
            .into_iter()
            .filter_map(|(name, at)| Some((name, table::time(at?)))),
    );
    fields.extend(batch.next_job_id.map(|job| ("next job", job.to_string())));
    let failed =
        |f: &batches::BatchFailure| ("failed", format!("{} {}: {}", f.job_id, f.work, f.error));
    fields.extend(report.failures.iter().map(failed));
    fields
}

fn shown(batch: &Batch, context: &Invocation) -> CommandResult {
    let text = format!("batch {} is {}", batch.id, batch.state.name());
    let answer = serde_json::to_value(batch).unwrap_or_default();
    told(context, &answer, &text)
}

impl CreateArgs {
    fn into_batch(self) -> NewBatch {
        NewBatch {
            name: self.name,
            tenant: self.tenant,
            failure_share_max: self.failure_share_max,
            next: self.next.map(|kind| Next {
                kind,
                queue: self.next_queue,
                payload: self.next_payload,
                only_if_completed: self.next_only_if_completed,
            }),
            ..NewBatch::default()
        }
    }
}

async fn wait(args: WaitArgs, context: &Invocation) -> CommandResult {
    let pg = context.pg().await?;
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let mut pauses = Pauses::default();
    loop {
        let batch = batches::show(pg, args.id).await?.batch;
        if batch.state.is_end() {
            shown(&batch, context)?;
            let completed = batch.state == BatchState::Completed;
            return Ok(if completed { Exit::Done } else { Exit::Failed });
        }
        if Instant::now() >= deadline {
            let text = format!(
                "batch {} is {} after {} s: {} of {} jobs have not ended",
                batch.id,
                batch.state.name(),
                args.timeout,
                batch.pending,
                batch.total
            );
            return Err(CommandError::failed(text));
        }
        pauses.sleep_until(deadline).await;
    }
}
