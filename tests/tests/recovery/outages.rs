//! Servers that stop, forget or restart. Each lab has a pair of its own.

use std::collections::HashMap;

use anyhow::Context;
use millstream_common::stream::GROUP;
use millstream_local::{Durability, LocalServices, PostgresStop};
use millstream_tests::{Lab, Served, ask::send, eventually};
use rustix::process::{Pid, Signal, kill_process};

// F11
#[tokio::test]
async fn a_flushed_redis_loses_no_job() {
    let lab = Lab::private(Durability::None).await;
    let _worker = lab.worker().await;
    let producer = lab.producer();
    send(&producer, "sleep", r#"{"ms":50}"#, 600).await;
    send(&producer, "sleep", r#"{"ms":1000}"#, 8).await;
    eventually("work is under way", async || {
        let running = lab.number("SELECT count(*) FROM millstream.lease").await;
        (lab.count("completed").await >= 20 && (running > 0 || lab.entries().await.len() > 20))
            .then_some(())
    })
    .await;
    lab.command::<String>(&["FLUSHALL"]).await;
    send(&producer, "noop", "1", 100).await;
    lab.await_all_completed(708).await;
    for stream in [
        lab.work_stream(),
        lab.keys()
            .stream("documents", millstream_common::job::Priority::Low),
    ] {
        let groups: redis::streams::StreamInfoGroupsReply =
            eventually("the group is back", async || {
                let mut redis = lab.redis().await;
                redis::cmd("XINFO")
                    .arg("GROUPS")
                    .arg(&stream)
                    .query_async(&mut redis)
                    .await
                    .ok()
            })
            .await;
        assert_eq!(
            groups
                .groups
                .iter()
                .map(|g| g.name.as_str())
                .collect::<Vec<_>>(),
            [GROUP]
        );
    }
}

/// Entries that were ever added to the work stream.
async fn entries_added(lab: &Lab) -> i64 {
    let mut redis = lab.redis().await;
    let info: redis::RedisResult<HashMap<String, redis::Value>> = redis::cmd("XINFO")
        .arg("STREAM")
        .arg(lab.work_stream())
        .query_async(&mut redis)
        .await;
    let added = info
        .ok()
        .and_then(|mut fields| fields.remove("entries-added"));
    added.map_or(0, |value| redis::from_redis_value(value).unwrap())
}

/// Work goes on while Redis is away, however it went, and returns to the streams by itself.
async fn work_goes_on(
    away: fn(&LocalServices) -> anyhow::Result<()>,
    back: fn(&LocalServices) -> anyhow::Result<()>,
) {
    let lab = Lab::private(Durability::None).await;
    let worker = lab.worker().await;
    let (producer, health) = (lab.producer(), worker.health());
    send(&producer, "sleep", r#"{"ms":50}"#, 100).await;
    eventually("work is under way", async || {
        (lab.count("completed").await >= 5).then_some(())
    })
    .await;
    lab.harm(away).await;
    send(&producer, "sleep", r#"{"ms":20}"#, 100).await;
    eventually("the outage is noticed", async || {
        (health.readiness().redis == "down").then_some(())
    })
    .await;
    assert!(
        health.readiness().ready,
        "a worker without Redis is degraded, not unready"
    );
    send(&producer, "echo", "1", 100).await;
    lab.await_count("completed", 300).await;
    lab.harm(back).await;
    eventually("the return is noticed", async || {
        (health.readiness().redis == "up").then_some(())
    })
    .await;
    let before = entries_added(&lab).await;
    // The producer finds out by itself too; until then the dispatch duty publishes for it.
    send(&producer, "noop", "1", 100).await;
    lab.await_all_completed(400).await;
    assert!(
        entries_added(&lab).await > before,
        "jobs travel over the streams again"
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE crash_count > 0")
            .await,
        0
    );
}

// F12
#[tokio::test]
async fn work_goes_on_while_redis_is_dead() {
    work_goes_on(LocalServices::kill9_redis, LocalServices::start_redis).await;
}

fn signal_redis(servers: &LocalServices, signal: Signal) -> anyhow::Result<()> {
    let pid = servers
        .pids()
        .redis
        .and_then(|pid| Pid::from_raw(pid as i32))
        .context("Redis runs")?;
    Ok(kill_process(pid, signal)?)
}

// F12: connections stay open and nothing answers
#[tokio::test]
async fn work_goes_on_while_redis_is_frozen() {
    work_goes_on(
        |servers| signal_redis(servers, Signal::STOP),
        |servers| signal_redis(servers, Signal::CONT),
    )
    .await;
}

// F11, F16: synced commits survive, and a restart of the database is nobody's death
#[tokio::test]
async fn a_postgres_that_restarts_under_load_loses_no_job_and_costs_no_worker() {
    let lab = Lab::private(Durability::Full).await;
    let (_one, _two) = (lab.worker().await, lab.worker().await);
    let producer = lab.producer();
    send(&producer, "sleep", r#"{"ms":30}"#, 600).await;
    send(&producer, "sleep", r#"{"ms":900}"#, 24).await;
    eventually("work is under way", async || {
        (lab.count("completed").await >= 20).then_some(())
    })
    .await;
    lab.harm(|servers| servers.restart_postgres(PostgresStop::Immediate))
        .await;
    eventually("Postgres answers", async || {
        sqlx::query("SELECT 1").execute(&lab.pool).await.ok()
    })
    .await;
    lab.await_all_completed(624).await;
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE crash_count > 0")
            .await,
        0,
        "nobody was taken for dead"
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.worker WHERE state = 'active'")
            .await,
        2
    );
}

/// Between two jobs that nobody reads: some come to be in doubt while a comparison of others waits its second, and they do not fill the
/// window of 200 entries before the test gives up.
const FEED_EVERY: std::time::Duration = std::time::Duration::from_millis(500);
const RECONCILED: &str = r#"millstream_duty_runs_total{duty="reconcile",outcome="succeeded"}"#;
const IN_DOUBT: &str =
    "SELECT count(*) FROM millstream.parcel WHERE publishing_since < now() - interval '5 seconds'";

// F11, rule 11: the next run sees what this one cannot, such as a Redis that has lost its data
#[tokio::test]
async fn new_doubts_do_not_keep_a_run_of_reconcile_from_its_end() {
    let lab = Lab::new().await;
    // It publishes and keeps house, and leaves the entries where they are.
    let keeper = Served::start(&lab, &["worker", "--queues", "documents"]).await;
    let producer = lab.producer();
    let feed = async {
        let mut tick = tokio::time::interval(FEED_EVERY);
        loop {
            tick.tick().await;
            send(&producer, "noop", "1", 1).await;
        }
    };
    let runs_end = async {
        lab.await_number(IN_DOUBT, 4).await;
        let before = keeper.sample(RECONCILED).await;
        eventually("run after run ends", async || {
            (keeper.sample(RECONCILED).await >= before + 3.0).then_some(())
        })
        .await;
    };
    tokio::select! {
        () = feed => {}
        () = runs_end => {}
    }
}
