//! Figures of the workers: a backlog is drained, and jobs are taken as they come.
//!
//! The rate is that of the rows: from the first start to the last end, so that starting the processes does not count.

use std::time::{Duration, Instant};

use millstream_common::metrics::EnqueueSource;

use super::{
    super::CommandError,
    beside::{Beside, add_tenants, of_some_tenant},
    crew::Crew,
    enqueue::{job, many},
    meter::Meter,
    raw,
    row::Row,
    site::Site,
};

/// How often the backlog is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How often it is said what is left.
const TELL: Duration = Duration::from_secs(5);
/// Work that has not ended after this has stopped.
const DRAIN_MAX: Duration = Duration::from_mins(10);
/// Producers at once, each with a connection of its own.
const PRODUCERS: u64 = 2;
/// Seconds from the first start to the last end of what has run since the last figure, in thousandths.
const TOOK_MS: &str = "SELECT COALESCE(extract(epoch FROM max(finished_at) - min(started_at)) * 1000, 0)::bigint
                       FROM millstream.job j JOIN millstream.queue q ON q.id = j.queue_id
                       WHERE q.name = 'bench' AND j.state = 2 AND j.id >= (SELECT millstream.uuid_at(began) FROM bench_raw.figure)";
const UPDATES: &str = "SELECT COALESCE(sum(n_tup_upd), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = 'millstream' AND relname LIKE 'job\\_%'";
const HOT_UPDATES: &str = "SELECT COALESCE(sum(n_tup_hot_upd), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = 'millstream' AND relname LIKE 'job\\_%'";
const DEAD: &str = "SELECT COALESCE(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = 'millstream' AND relname LIKE 'job\\_%'";
/// Parcels that are left.
const LEFT: &str = "SELECT count(*) FROM millstream.parcel p JOIN millstream.queue q ON q.id = p.queue_id WHERE q.name = 'bench'";

/// What is drained, and by how many processes.
pub(super) struct Backlog {
    pub(super) workers: u32,
    /// None: as many as were asked for.
    pub(super) jobs: Option<u64>,
    pub(super) beside: Beside,
}

/// A backlog, drained.
pub(super) async fn backlog(
    site: &Site,
    name: &'static str,
    backlog: &Backlog,
    jobs: u64,
) -> Result<Row, CommandError> {
    let jobs = backlog.jobs.unwrap_or(jobs);
    let raw = raw::drain(site, jobs).await?;
    if backlog.beside == Beside::Tenants {
        add_tenants(site).await?;
    }
    let before = begin(site).await?;
    let producer = site.context().producer(EnqueueSource::Cli).await?;
    match backlog.beside {
        Beside::Tenants => many(&producer, jobs, |nth| of_some_tenant(nth, jobs)).await?,
        _ => many(&producer, jobs, |_| job()).await?,
    }
    producer.close().await;
    let beside = backlog.beside.begin(site).await?;
    let row = worked_off(site, name, backlog.workers, jobs).await;
    beside.end().await?;
    rated(site, row?, jobs, before, raw).await
}

async fn worked_off(
    site: &Site,
    name: &'static str,
    workers: u32,
    jobs: u64,
) -> Result<Row, CommandError> {
    site.checkpoint().await;
    let crew = Crew::start(site, "noop", workers, None).await?;
    // What was done before this has cost little: a worker is seen milliseconds after it begins.
    let meter = Meter::start(site, Some(&crew)).await?;
    done(site).await?;
    let row = meter.stop(name, jobs).await?;
    crew.stop().await?;
    Ok(row)
}

/// Produced and consumed at once, by one worker.
pub(super) async fn while_producing(
    site: &Site,
    name: &'static str,
    jobs: u64,
) -> Result<Row, CommandError> {
    let raw = raw::both(site, jobs).await?;
    let before = begin(site).await?;
    site.checkpoint().await;
    let crew = Crew::start(site, "noop", 1, None).await?;
    let producer = site.context().producer(EnqueueSource::Cli).await?;
    let meter = Meter::start(site, Some(&crew)).await?;
    let all = (0..PRODUCERS).map(|_| many(&producer, jobs / PRODUCERS, |_| job()));
    futures::future::try_join_all(all).await?;
    done(site).await?;
    let row = meter.stop(name, jobs).await?;
    producer.close().await;
    crew.stop().await?;
    rated(site, row, jobs, before, raw).await
}

/// Updates of jobs so far, and those of them that touched no index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Updates {
    all: i64,
    hot: i64,
}

/// What has been done from here on is this figure's.
pub(super) async fn begin(site: &Site) -> Result<Updates, CommandError> {
    site.execute("UPDATE bench_raw.figure SET began = now()")
        .await?;
    updates(site).await
}

async fn updates(site: &Site) -> Result<Updates, CommandError> {
    Ok(Updates {
        all: site.number(UPDATES).await?,
        hot: site.number(HOT_UPDATES).await?,
    })
}

/// Jobs a second since [`begin`].
pub(super) async fn rate(site: &Site, jobs: u64) -> Result<f64, CommandError> {
    Ok(jobs as f64 / (site.number(TOOK_MS).await?.max(1) as f64 / 1000.0))
}

/// After the workers have ended: then Postgres has their counts.
async fn rated(
    site: &Site,
    mut row: Row,
    jobs: u64,
    before: Updates,
    raw: Row,
) -> Result<Row, CommandError> {
    row.jobs_per_s = Some(rate(site, jobs).await?);
    let after = updates(site).await?;
    row.hot_share = (after.all > before.all)
        .then(|| (after.hot - before.hot) as f64 / (after.all - before.all) as f64);
    row.dead_rows = Some(site.number(DEAD).await? as f64);
    Ok(row.beside_raw(&raw))
}

/// Waits until no job is left.
pub(super) async fn done(site: &Site) -> Result<(), CommandError> {
    let (start, mut told) = (Instant::now(), Instant::now());
    loop {
        let left = site.number(LEFT).await?;
        if left == 0 {
            return Ok(());
        }
        if start.elapsed() > DRAIN_MAX {
            return Err(CommandError::failed(
                "the jobs were not done within ten minutes",
            ));
        }
        if told.elapsed() > TELL {
            told = Instant::now();
            site.context()
                .hint(&format!("  {left} parcels of up to 500 jobs are left …"));
        }
        tokio::time::sleep(LOOK).await;
    }
}
