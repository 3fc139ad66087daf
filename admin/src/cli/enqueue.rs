//! `millstream enqueue`: one job, or many alike.
//!
//! Everything about the job is checked before a server is asked. Many jobs go in batches of one parcel each, several batches
//! in flight; a batch whose answer was lost is sent again with the same ids, which cannot enqueue anything twice.

mod input;
mod many;
mod wait;

use chrono::{DateTime, Utc};
use clap::Args;
use millstream_common::{
    id::{BatchId, new_job_ids},
    job::NewJob,
    metrics::EnqueueSource,
    persist::Enqueued,
};
use millstream_producer::Producer;

use super::{CommandError, CommandResult, Exit, Invocation, table, time};
use crate::ops::request::{self, JobRequest};

/// Up to here every id is printed; beyond, a summary.
const LISTED_JOBS_MAX: u32 = 1000;

#[derive(Debug, Args)]
pub(super) struct EnqueueArgs {
    /// Name of the handler, for example echo
    kind: String,
    /// What the handler gets: JSON, @FILE, or - for stdin
    #[arg(
        long,
        value_name = "JSON|@FILE|-",
        default_value = "{}",
        allow_hyphen_values = true
    )]
    payload: String,
    /// Name of the queue
    #[arg(long, default_value = "default")]
    queue: String,
    /// How urgent it is
    #[arg(long, default_value = "medium", value_parser = ["high", "medium", "low"])]
    priority: String,
    /// Not before: RFC 3339, or a distance such as 90s, 15m, 2h
    #[arg(long, value_name = "TIME", value_parser = time::ahead)]
    run_at: Option<DateTime<Utc>>,
    /// Enqueued once per tenant and key, however often this is called
    #[arg(long, conflicts_with = "count")]
    key: Option<String>,
    /// Name of the tenant
    #[arg(long, default_value = "default")]
    tenant: String,
    /// Counted tries; the kind's default if absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=1000))]
    max_attempts: Option<i64>,
    /// JSON for people and filters
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// The batch that counts it; it must be open
    #[arg(long, value_name = "ID")]
    batch: Option<BatchId>,
    /// How many such jobs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    count: u32,
    /// Wait until they have ended; exit 1 unless all have completed
    #[arg(long)]
    wait: bool,
    /// Give up waiting after so many seconds
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    timeout: Option<u64>,
}

pub(super) async fn run(args: EnqueueArgs, context: &Invocation) -> CommandResult {
    let template = template(&args)?;
    let producer = context.producer(EnqueueSource::Cli).await?;
    let outcome = if args.count <= LISTED_JOBS_MAX {
        few(&args, &template, &producer, context).await
    } else {
        many::run(&args, &template, &producer, context).await
    };
    producer.close().await;
    outcome
}

fn template(args: &EnqueueArgs) -> Result<NewJob, CommandError> {
    let asked = JobRequest {
        kind: args.kind.clone(),
        payload: request::json("payload", &input::read(&args.payload)?)?,
        queue: Some(args.queue.clone()),
        priority: Some(args.priority.clone()),
        run_at: args.run_at,
        idempotency_key: args.key.clone(),
        tenant: Some(args.tenant.clone()),
        metadata: args
            .metadata
            .as_deref()
            .map(|text| request::json("metadata", text))
            .transpose()?,
        max_attempts: args.max_attempts,
        batch_id: args.batch,
        id: None,
    };
    let job = asked.into_job()?;
    job.check()?;
    Ok(job)
}

async fn few(
    args: &EnqueueArgs,
    template: &NewJob,
    producer: &Producer,
    context: &Invocation,
) -> CommandResult {
    let jobs = new_job_ids(args.count as usize).map(|id| NewJob {
        id,
        ..template.clone()
    });
    let answers = many::send(producer, jobs.collect()).await?;
    let enqueued = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
    if args.wait {
        return wait::few(args, &enqueued, context).await;
    }
    enqueued.iter().try_for_each(|job| print(job, context))?;
    Ok(Exit::Done)
}

fn print(job: &Enqueued, context: &Invocation) -> Result<(), CommandError> {
    if context.json {
        return table::json(
            &serde_json::json!({"id": job.id, "state": job.state, "duplicate": job.duplicate}),
        );
    }
    if job.duplicate {
        context.hint(&format!(
            "the key belongs to job {} already, which is {}",
            job.id, job.state
        ));
    }
    table::line(&job.id.to_string())
}
