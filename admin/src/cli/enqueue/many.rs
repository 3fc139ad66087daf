//! Many jobs alike: batches of one parcel, several in flight.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use millstream_common::{
    error::{Error, Outage, Refusal},
    id::{JobId, new_job_ids},
    job::NewJob,
    limits::PARCEL_JOBS_MAX,
    persist::Enqueued,
    reconnect::Reconnect,
};
use millstream_producer::Producer;
use serde::Serialize;

use super::{EnqueueArgs, wait};
use crate::cli::{CommandError, CommandResult, Exit, Invocation, table};

/// Enough that Postgres never waits for the client; more only queue up for its processors.
const BATCHES_IN_FLIGHT: usize = 4;
/// A batch that failed on its connection is sent again this long.
const RETRY_FOR: Duration = Duration::from_secs(10);

/// What was done. Part of the outside interface.
#[derive(Debug, Serialize)]
struct Summary {
    count: u32,
    seconds: f64,
    jobs_per_second: f64,
    first_id: Option<JobId>,
    last_id: Option<JobId>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    waited: Option<wait::Counts>,
}

pub(super) async fn run(
    args: &EnqueueArgs,
    template: &NewJob,
    producer: &Producer,
    context: &Invocation,
) -> CommandResult {
    let started = Instant::now();
    let ids = enqueue(args.count, template, producer, context).await?;
    let seconds = started.elapsed().as_secs_f64();
    let waited = if args.wait {
        Some(wait::many(args, &ids, started, context).await?)
    } else {
        None
    };
    let exit = waited.as_ref().map_or(Exit::Done, wait::Counts::exit);
    let rate = (f64::from(args.count) / seconds).round();
    let summary = Summary {
        count: args.count,
        seconds,
        jobs_per_second: rate,
        first_id: ids.first().copied(),
        last_id: ids.last().copied(),
        waited,
    };
    print(&summary, context)?;
    Ok(exit)
}

async fn enqueue(
    count: u32,
    template: &NewJob,
    producer: &Producer,
    context: &Invocation,
) -> Result<Vec<JobId>, CommandError> {
    let bar = bar(count, context, "enqueued");
    let sizes = (0..count as usize)
        .step_by(PARCEL_JOBS_MAX)
        .map(|from| PARCEL_JOBS_MAX.min(count as usize - from));
    let batches = futures::stream::iter(sizes).map(async |size| {
        let ids: Vec<_> = new_job_ids(size).collect();
        let jobs = ids.iter().map(|id| NewJob {
            id: *id,
            ..template.clone()
        });
        send(producer, jobs.collect())
            .await?
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        bar.inc(size as u64);
        Ok::<_, CommandError>(ids)
    });
    let ids: Vec<Vec<JobId>> = batches.buffered(BATCHES_IN_FLIGHT).try_collect().await?;
    bar.finish_and_clear();
    Ok(ids.concat())
}

/// Sends one batch, again if its connection broke.
pub(super) async fn send(
    producer: &Producer,
    jobs: Vec<NewJob>,
) -> Result<Vec<Result<Enqueued, Refusal>>, Error> {
    let (started, mut reconnect) = (Instant::now(), Reconnect::default());
    loop {
        match producer.enqueue_many(jobs.clone()).await {
            Err(Error::Outage(Outage::Postgres { source, op }))
                if source.as_database_error().is_none() && started.elapsed() < RETRY_FOR =>
            {
                tracing::debug!(%source, op, "the batch is sent again with the same ids");
                tokio::time::sleep(reconnect.next_delay()).await;
            }
            answer => return answer,
        }
    }
}

/// A bar on a terminal, nothing elsewhere.
pub(super) fn bar(count: u32, context: &Invocation, what: &'static str) -> ProgressBar {
    if !context.draws() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} {msg} {per_sec}");
    ProgressBar::new(count.into())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(what)
}

fn print(summary: &Summary, context: &Invocation) -> Result<(), CommandError> {
    if context.json {
        return table::json(summary);
    }
    let ids = [summary.first_id, summary.last_id].map(table::maybe);
    table::line(&format!(
        "{} jobs enqueued in {:.2} s: {:.0} jobs/s (ids {} to {})",
        summary.count, summary.seconds, summary.jobs_per_second, ids[0], ids[1]
    ))?;
    summary.waited.as_ref().map_or(Ok(()), wait::Counts::print)
}
