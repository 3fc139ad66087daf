//! Figures of the producer: in bulk, and one job at a time by some callers at once. Nobody works meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use millstream_common::{job::NewJob, metrics::EnqueueSource};
use millstream_producer::Producer;
use tokio::task::JoinSet;

use super::{super::CommandError, leftovers, meter::Meter, raw, row::Row, site::Site};

/// A payload of about 200 bytes, like a real one.
pub(super) const PAYLOAD: &str = r#"{"document":"01890a5d-ac96-774b-bcce-b302099a8057","page":17,"language":"en","model":"small","note":"a payload as long as a real one, which names a row, a version and an operation, and is not compressible"}"#;
/// Jobs of a bench are in a queue of their own.
pub(super) const QUEUE: &str = "bench";
/// Jobs per call of the library.
const BATCH: u64 = 1_000;
/// One caller waits for each commit: it gets so many of the jobs.
const SERIAL_SHARE: u64 = 20;

/// One job of a bench.
pub(super) fn job() -> NewJob {
    NewJob {
        queue: QUEUE.into(),
        ..NewJob::new("noop", PAYLOAD)
    }
}

/// `enqueue_many`, one call after the other; then what waits in Redis is weighed, and removed.
pub(super) async fn bulk(site: &Site, name: &'static str, jobs: u64) -> Result<Row, CommandError> {
    let raw = raw::insert(site, jobs, raw::BATCH).await?;
    let empty = site.redis_bytes().await?;
    let producer = site.context().producer(EnqueueSource::Cli).await?;
    site.checkpoint().await;
    let meter = Meter::start(site, None).await?;
    many(&producer, jobs, |_| job()).await?;
    let mut row = meter.stop(name, jobs).await?.beside_raw(&raw);
    producer.close().await;
    row.redis_bytes_per_waiting_job = site
        .redis_bytes()
        .await?
        .zip(empty)
        .map(|(full, empty)| (full - empty) / jobs as f64);
    clear(site).await?;
    Ok(row)
}

/// In batches, without a pause; `nth` makes each job.
pub(super) async fn many(
    producer: &Producer,
    jobs: u64,
    nth: impl Fn(u64) -> NewJob,
) -> Result<(), CommandError> {
    let mut next = 0;
    while next < jobs {
        let end = jobs.min(next + BATCH);
        producer
            .enqueue_many((next..end).map(&nth).collect())
            .await?;
        next = end;
    }
    Ok(())
}

/// Callers in one process that each wait for the answer before they ask again.
pub(super) async fn callers(
    site: &Site,
    name: &'static str,
    callers: usize,
    jobs: u64,
) -> Result<Row, CommandError> {
    let jobs = if callers == 1 {
        (jobs / SERIAL_SHARE).max(1)
    } else {
        jobs
    };
    let raw = raw::insert(site, jobs, callers).await?;
    let producer = site.context().producer(EnqueueSource::Cli).await?;
    // Whatever the first call sets up is not measured.
    producer.enqueue(job()).await?;
    site.checkpoint().await;
    let meter = Meter::start(site, None).await?;
    let next = Arc::new(AtomicU64::new(0));
    let mut all = JoinSet::new();
    for _ in 0..callers {
        all.spawn(call(producer.clone(), next.clone(), jobs));
    }
    let mut ms = Vec::with_capacity(jobs as usize);
    while let Some(of_one) = all.join_next().await {
        ms.extend(of_one.map_err(|e| CommandError::failed(format!("a caller failed: {e}")))??);
    }
    let row = meter
        .stop(name, jobs)
        .await?
        .beside_raw(&raw)
        .with_quantiles(ms);
    producer.close().await;
    clear(site).await?;
    Ok(row)
}

async fn call(
    producer: Producer,
    next: Arc<AtomicU64>,
    jobs: u64,
) -> Result<Vec<f64>, CommandError> {
    let mut ms = Vec::new();
    while next.fetch_add(1, Ordering::Relaxed) < jobs {
        let asked = Instant::now();
        producer.enqueue(job()).await?;
        ms.push(asked.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(ms)
}

/// Nobody is to work on what this figure has left, or to clean up after it.
async fn clear(site: &Site) -> Result<(), CommandError> {
    leftovers::jobs(site).await?;
    // Or autovacuum would do it in the middle of the next figure, at its expense.
    site.try_to("VACUUM millstream.job, millstream.parcel")
        .await;
    Ok(())
}
