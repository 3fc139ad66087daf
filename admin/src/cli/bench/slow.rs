//! Figures of a worker that computes little: handlers that wait, and no jobs at all.

use std::time::Duration;

use millstream_common::{job::NewJob, metrics::EnqueueSource};

use super::{
    super::CommandError,
    crew::Crew,
    drain::{begin, done, rate},
    enqueue::{job, many},
    meter::Meter,
    row::Row,
    site::Site,
};

/// 200 slots and 20 ms: ten thousand jobs a second at best.
const SLOTS: u32 = 200;
const PAYLOAD: &str = r#"{"ms":20}"#;
const JOBS: u64 = 50_000;
/// An idle worker is watched for so long.
const IDLE: Duration = Duration::from_secs(5);

/// Twenty milliseconds each.
pub(super) async fn handlers(site: &Site, name: &'static str) -> Result<Row, CommandError> {
    begin(site).await?;
    let producer = site.context().producer(EnqueueSource::Cli).await?;
    let slow = |_| NewJob {
        kind: "sleep".into(),
        payload: PAYLOAD.into(),
        ..job()
    };
    many(&producer, JOBS, slow).await?;
    producer.close().await;
    let crew = Crew::start(site, "sleep", 1, Some(SLOTS)).await?;
    let meter = Meter::start(site, Some(&crew)).await?;
    done(site).await?;
    let row = meter.stop(name, JOBS).await?;
    crew.stop().await?;
    Ok(Row {
        jobs_per_s: Some(rate(site, JOBS).await?),
        ..row
    })
}

/// The memory of a worker that has nothing to do.
pub(super) async fn idle(site: &Site, name: &'static str) -> Result<Row, CommandError> {
    let crew = Crew::start(site, "noop", 1, None).await?;
    tokio::time::sleep(IDLE).await;
    let memory_mb = crew.peak_mb();
    crew.stop().await?;
    Ok(Row {
        name,
        memory_mb,
        ..Row::default()
    })
}
