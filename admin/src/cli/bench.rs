//! `millstream bench`: what this machine reaches with `noop` jobs: bulk enqueue, then the drain of that backlog by one worker.
//!
//! Aims at `DATABASE_URL` and `REDIS_URL` if they are set, under a key prefix of its own, else at private servers that sync to disk
//! as in production. The jobs stay in the database as completed rows.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use millstream_common::{
    config::{Config, Secret},
    job::NewJob,
    metrics::EnqueueSource,
    pg::{migrate_up, within},
};
use millstream_worker::{Handler, Parts, Success, Worker};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Context, Exit, Failure, Outcome, table};
use crate::services::{Durability, GivenUrls, LocalServices, Options, ServerEnv};

/// A payload of about 200 bytes, like a real one.
const PAYLOAD: &str = r#"{"document":"01890a5d-ac96-774b-bcce-b302099a8057","page":17,"language":"en","model":"small","note":"a payload as long as a real one, which names a row, a version and an operation, and is not compressible"}"#;
/// Jobs per call of the library.
const BATCH: usize = 5_000;
/// How often the drain is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// A drain that takes longer than this has stopped.
const DRAIN_MAX: Duration = Duration::from_mins(10);

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// A first impression: a tenth of the jobs
    #[arg(long)]
    quick: bool,
    /// Jobs per figure
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    jobs: u64,
    /// Where the JSON goes
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    out: PathBuf,
}

/// One figure.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    jobs: u64,
    seconds: f64,
    jobs_per_s: f64,
    wal_bytes_per_job: f64,
}

pub(super) async fn run(args: BenchArgs, context: &Context) -> Outcome {
    let jobs = if args.quick { (args.jobs / 10).max(1) } else { args.jobs };
    let folder = tempfile::tempdir()?;
    let given = |url: &Secret| (!url.is_empty()).then(|| url.expose().to_owned());
    let urls = GivenUrls { database_url: given(&context.config.database.url), redis_url: given(&context.config.redis.url) };
    let options = Options { dir: folder.path().join("services"), durability: Durability::Full, fresh: true, env: ServerEnv::default() };
    let services = LocalServices::given_or_start(urls, options).await.map_err(|e| Failure::failed(format!("{e:#}")))?;
    let measured = Box::pin(measure(&services, jobs, context)).await;
    services.stop().await.map_err(|e| Failure::failed(format!("{e:#}")))?;
    let rows = measured?;
    write(&args.out, &rows)?;
    print(context, &rows)
}

async fn measure(services: &LocalServices, jobs: u64, context: &Context) -> Result<Vec<Row>, Failure> {
    let mut config = context.config.clone();
    config.database.url = Secret::new(&services.database_url);
    config.redis.url = Secret::new(&services.redis_url);
    config.redis.prefix = format!("bench-{}", std::process::id());
    config.worker.kinds = vec!["noop".into()];
    config.worker.queues = vec!["default".into()];
    migrate_up(config.database.url.expose()).await?;
    let inner = Context::new(config.clone(), context.json, context.quiet);
    context.hint(&format!("enqueuing {jobs} jobs …"));
    let enqueue = Box::pin(figure("bulk_enqueue", jobs, &inner, enqueue(&inner, jobs))).await?;
    context.hint("draining them …");
    let drain = Box::pin(figure("drain_1_worker", jobs, &inner, drain(&inner, config))).await?;
    Ok(vec![enqueue, drain])
}

/// Times `work`, with the WAL it wrote.
async fn figure(
    name: &'static str,
    jobs: u64,
    context: &Context,
    work: impl Future<Output = Result<Duration, Failure>>,
) -> Result<Row, Failure> {
    let before = wal_bytes(context).await?;
    let took = work.await?;
    let wal = wal_bytes(context).await? - before;
    let seconds = took.as_secs_f64();
    Ok(Row { name, jobs, seconds, jobs_per_s: jobs as f64 / seconds, wal_bytes_per_job: wal / jobs as f64 })
}

async fn wal_bytes(context: &Context) -> Result<f64, Failure> {
    let op = "reading the WAL position";
    let mut lent = context.pg().await?.main(op).await?;
    let query = sqlx::query_scalar("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8");
    let bytes = within(op, query.fetch_one(lent.conn())).await?;
    lent.done();
    Ok(bytes)
}

async fn enqueue(context: &Context, jobs: u64) -> Result<Duration, Failure> {
    let producer = context.producer(EnqueueSource::Cli).await?;
    let start = Instant::now();
    let mut left = jobs as usize;
    while left > 0 {
        let batch = left.min(BATCH);
        producer.enqueue_many((0..batch).map(|_| NewJob::new("noop", PAYLOAD)).collect()).await?;
        left -= batch;
    }
    let took = start.elapsed();
    producer.close().await;
    Ok(took)
}

async fn drain(context: &Context, config: Config) -> Result<Duration, Failure> {
    let noop = Handler::new("noop", async |_, _: serde::de::IgnoredAny| Ok(Success::new()));
    let start = Instant::now();
    let worker = Worker::start(Parts { config, metrics: context.metrics().await?.clone(), handlers: vec![noop] }).await?;
    while backlog(context).await? {
        if start.elapsed() > DRAIN_MAX {
            return Err(Failure::failed("the backlog was not drained within ten minutes"));
        }
        tokio::time::sleep(LOOK).await;
    }
    let took = start.elapsed();
    worker.drain(CancellationToken::new()).await;
    Ok(took)
}

/// Whether any parcel of jobs is left.
async fn backlog(context: &Context) -> Result<bool, Failure> {
    let op = "looking at the backlog";
    let mut lent = context.pg().await?.main(op).await?;
    let left = within(op, sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM millstream.parcel)").fetch_one(lent.conn())).await?;
    lent.done();
    Ok(left)
}

fn write(dir: &std::path::Path, rows: &[Row]) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)?;
    let name = format!("{}.json", millstream_common::clock::now().format("%Y%m%dT%H%M%SZ"));
    let text = serde_json::to_string_pretty(rows).map_err(|e| Failure::failed(e.to_string()))?;
    Ok(std::fs::write(dir.join(name), text)?)
}

fn print(context: &Context, rows: &[Row]) -> Outcome {
    table::list(context, rows, &["figure", "jobs", "seconds", "jobs/s", "WAL bytes/job"], |row| {
        vec![
            row.name.to_owned(),
            row.jobs.to_string(),
            format!("{:.2}", row.seconds),
            format!("{:.0}", row.jobs_per_s),
            format!("{:.0}", row.wal_bytes_per_job),
        ]
    })?;
    Ok(Exit::Done)
}
