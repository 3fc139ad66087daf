//! Jobs that do what no job should: kill their worker, keep its threads, panic.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    asks::{Asks, Options},
    until::until,
    workers::expect_end,
};
use crate::chaos::{
    fleet::{Fleet, variable},
    rng::Rng,
    workload::{HOG, PANIC, STUCK},
};

/// Far more than a worker maps, far less than a machine has.
const ADDRESS_SPACE_BYTES: u64 = 1 << 30;
/// Three deaths of each, a lease to notice each, and turns to be alone.
const BURIED_WITHIN: Duration = Duration::from_secs(90);
/// What a case waits for comes long before.
const PATIENCE: Duration = Duration::from_secs(45);
/// A queue that one worker reads, while a case goes on.
const QUEUE: &str = "hog";
/// As many as a worker has slots.
const HOGS: usize = 8;

/// Of some jobs.
fn count(jobs: &[Uuid], which: &str) -> String {
    let ids: Vec<String> = jobs.iter().map(|id| format!("'{id}'")).collect();
    format!(
        "SELECT count(*) FROM millstream.job WHERE id IN ({}) AND {which}",
        ids.join(", ")
    )
}

/// F07
pub(super) async fn hogs(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    let name = rng.pick(&fleet.names("worker"));
    fleet
        .execute(&format!(
            "INSERT INTO millstream.queue (name) VALUES ('{QUEUE}') ON CONFLICT DO NOTHING"
        ))
        .await?;
    let env = [(
        "MILLSTREAM_WORKER__QUEUES".to_owned(),
        format!("default,{QUEUE}"),
    )];
    fleet
        .altered(std::slice::from_ref(&name), &env, async {
            fleet.held(&name, hogged(fleet, &name)).await
        })
        .await
}

async fn hogged(fleet: &Fleet, name: &str) -> Result<()> {
    let (mut asks, mut conn, mut jobs) = (Asks::open(fleet)?, fleet.postgres().await?, Vec::new());
    for _ in 0..HOGS {
        jobs.push(
            asks.job(
                &mut conn,
                HOG,
                "",
                Options {
                    queue: QUEUE,
                    ..Options::default()
                },
            )
            .await?,
        );
    }
    fleet
        .timeline
        .note(&format!("{HOGS} jobs keep all threads of {name} busy"));
    until(
        fleet,
        "F07: hogs that are done",
        &count(&jobs, "state = 2"),
        HOGS as i64,
        PATIENCE,
    )
    .await?;
    if fleet.is_alone() {
        until(
            fleet,
            "F07: hogs that ran again",
            &count(&jobs, "(epoch > 0 OR attempt <> 1)"),
            0,
            Duration::ZERO,
        )
        .await?;
        let pid = fleet
            .pid(name)
            .with_context(|| format!("{name} does not run"))?;
        let lost =
            format!("SELECT count(*) FROM millstream.worker WHERE state = 'lost' AND pid = {pid}");
        until(
            fleet,
            "F07: a busy worker is taken for dead",
            &lost,
            0,
            Duration::ZERO,
        )
        .await?;
    }
    Ok(())
}

/// F47
pub(super) async fn poison(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    let workers = fleet.names("worker");
    let env = [(
        variable::ADDRESS_SPACE.to_owned(),
        ADDRESS_SPACE_BYTES.to_string(),
    )];
    for name in &workers {
        fleet.set(name, &env);
        limit(fleet, name, Some(ADDRESS_SPACE_BYTES));
    }
    let done = poisoned(fleet, rng).await;
    for name in &workers {
        fleet.unset(name, &env);
        limit(fleet, name, None);
    }
    done
}

/// Only the soft limit, which can be raised again.
fn limit(fleet: &Fleet, name: &str, bytes: Option<u64>) {
    let Some(pid) = fleet.pid(name).and_then(|pid| Pid::from_raw(pid as i32)) else {
        return;
    };
    // It may have ended since: the next one is started with its own limit.
    let _ = prlimit(
        Some(pid),
        Resource::As,
        Rlimit {
            current: bytes,
            maximum: None,
        },
    );
}

async fn poisoned(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    let innocent = "SELECT count(*) FROM millstream.dead_letter d JOIN millstream.job j ON j.id = d.job_id
                    JOIN millstream.kind k ON k.id = j.kind_id WHERE d.reason = 'crash' AND k.name <> 'crash'";
    let (mut conn, buried, deaths) = (
        fleet.postgres().await?,
        fleet.number(innocent).await?,
        fleet.deaths().len(),
    );
    let mut jobs: Vec<Uuid> = Vec::new();
    for how in [rng.pick(&["abort", "exit", "overflow"]), "oom"] {
        fleet
            .timeline
            .note(&format!("a job that kills its worker: {how}"));
        // No token: the judge knows this kind by its name.
        let sql = "SELECT millstream.enqueue('crash', jsonb_build_object('how', $1::text))";
        jobs.push(
            sqlx::query_scalar(sql)
                .bind(how)
                .fetch_one(&mut conn)
                .await?,
        );
    }
    until(
        fleet,
        "F47: killers that are dead",
        &count(&jobs, "state = 8"),
        jobs.len() as i64,
        BURIED_WITHIN,
    )
    .await?;
    let kills = fleet.deaths().len() - deaths;
    fleet
        .timeline
        .note(&format!("{} jobs killed {kills} workers", jobs.len()));
    if fleet.is_alone() {
        if kills > jobs.len() {
            fleet.complain(format!("F47: {} jobs killed {kills} workers", jobs.len()));
        }
        until(
            fleet,
            "F47: jobs that were dead for somebody else's crash",
            innocent,
            buried,
            Duration::ZERO,
        )
        .await?;
    }
    Ok(())
}

/// F48
pub(super) async fn stuck(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    let (mut asks, mut conn) = (Asks::open(fleet)?, fleet.postgres().await?);
    let job = asks.job(&mut conn, STUCK, "", Options::default()).await?;
    until(
        fleet,
        "F48: a job that is stuck, or done",
        &count(&[job], "state IN (1, 2)"),
        1,
        PATIENCE,
    )
    .await?;
    if !fleet.is_alone() && fleet.number(&count(&[job], "state = 2")).await? == 1 {
        // Claimed past the streams, because Redis was away: that is a second hand-out already, and only the first one gets stuck.
        fleet
            .timeline
            .note("no job was stuck: it came past the streams");
        return Ok(());
    }
    until(
        fleet,
        "F48: leases of a job that is stuck",
        &count(&[job], "state = 1"),
        1,
        PATIENCE,
    )
    .await?;
    let pid = format!(
        "SELECT w.pid::bigint FROM millstream.job j JOIN millstream.worker w ON w.id = j.worker_id WHERE j.id = '{job}'"
    );
    let pid = fleet.number(&pid).await?;
    let name = fleet
        .name_of(pid as u32)
        .with_context(|| format!("process {pid} is not of the fleet"))?;
    fleet
        .timeline
        .note(&format!("a job keeps a thread of {name} for good"));
    sleep(Duration::from_secs(2)).await;
    fleet.signal(&name, Signal::TERM);
    expect_end(fleet, &name).await;
    until(
        fleet,
        "F48: the stuck job is done elsewhere",
        &count(&[job], "state = 2"),
        1,
        PATIENCE,
    )
    .await
}

/// F49
pub(super) async fn panics(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    let (mut asks, mut conn, mut jobs) = (Asks::open(fleet)?, fleet.postgres().await?, Vec::new());
    let deaths = fleet.deaths().len();
    for _ in 0..20 {
        jobs.push(asks.job(&mut conn, PANIC, "", Options::default()).await?);
    }
    fleet.timeline.note("20 handlers panic");
    until(
        fleet,
        "F49: jobs that are done at the second attempt",
        &count(&jobs, "state = 2"),
        jobs.len() as i64,
        PATIENCE,
    )
    .await?;
    if fleet.is_alone() {
        let wrong = count(&jobs, "(attempt <> 2 OR crash_count > 0)");
        until(
            fleet,
            "F49: panics that were not counted once",
            &wrong,
            0,
            Duration::ZERO,
        )
        .await?;
        if fleet.deaths().len() > deaths {
            fleet.complain("F49: a panic ended a worker".to_owned());
        }
    }
    Ok(())
}
