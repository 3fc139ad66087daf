//! A Redis that is full, or throws away what it has, or cannot write its file.

use std::collections::HashMap;

use millstream_common::{
    job::Priority,
    stream::{GROUP, policy::Policy},
};
use millstream_local::{Durability, LocalServices};
use millstream_tests::{
    Lab,
    ask::send,
    eventually,
    faults::{machine::SmallDisk, redis as faults},
};
use millstream_worker::Health;
use tokio_util::sync::CancellationToken;

/// Entries that were ever added to the work stream.
async fn entries_added(lab: &Lab) -> i64 {
    let fields: HashMap<String, redis::Value> =
        lab.command(&["XINFO", "STREAM", &lab.work_stream()]).await;
    redis::from_redis_value(fields["entries-added"].clone()).unwrap()
}

fn claimed_directly(health: &Health) -> u64 {
    let text = health.metrics();
    let of = |line: &str| {
        line.starts_with("millstream_jobs_claimed_directly_total{")
            .then(|| line.rsplit(' ').next()?.parse::<u64>().ok())?
    };
    text.lines().filter_map(of).sum()
}

async fn redis_is(health: &Health, state: &str) {
    eventually(&format!("Redis is {state}"), async || {
        (health.readiness().redis == state).then_some(())
    })
    .await;
}

/// Redis refuses writes while jobs are waiting in its streams; then it takes them again.
async fn survives_refusal(
    lab: &Lab,
    drains: bool,
    refuse: impl AsyncFnOnce(),
    relent: impl AsyncFnOnce(),
) {
    let worker = lab.worker().await;
    let (producer, health) = (lab.producer(), worker.health());
    send(&producer, "sleep", r#"{"ms":40}"#, 300).await;
    eventually("work is under way", async || {
        (lab.count("completed").await >= 20 && lab.entries().await.len() > 20).then_some(())
    })
    .await;
    eventually("all of them are published", async || {
        (lab.number("SELECT count(*) FROM millstream.parcel WHERE publishing_since IS NULL")
            .await
            == 0)
            .then_some(())
    })
    .await;
    refuse().await;
    redis_is(&health, "down").await;
    let sent_at = Some(chrono::Utc::now());
    send(&producer, "sleep", r#"{"ms":10}"#, 100).await;
    // Connections that break while it refuses do not make it forgotten either.
    lab.command::<i64>(&["CLIENT", "KILL", "TYPE", "normal"])
        .await;
    lab.await_count("completed", 400).await;
    if drains {
        lab.await_drained("default").await;
        // A stream that can be read is, and nobody takes from behind its back what may be under way.
        assert!(
            claimed_directly(&health) <= 100,
            "{} taken from Postgres",
            claimed_directly(&health)
        );
        let since = health.readiness().breakers.redis.since;
        assert!(
            since.is_some() && since <= sent_at,
            "reads that succeed do not make it whole: down since {since:?}"
        );
    }
    let before = entries_added(lab).await;
    relent().await;
    redis_is(&health, "up").await;
    eventually("jobs travel over the streams again", async || {
        send(&producer, "noop", "1", 5).await;
        (entries_added(lab).await > before).then_some(())
    })
    .await;
    lab.await_all_completed(lab.number("SELECT count(*) FROM millstream.job").await)
        .await;
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE crash_count > 0")
            .await,
        0
    );
}

// F29, rule 13
#[tokio::test]
async fn a_full_redis_costs_no_job_and_what_waits_in_it_drains() {
    let lab = Lab::private(Durability::None).await;
    survives_refusal(
        &lab,
        true,
        async || faults::fill_memory(&lab).await,
        async || faults::free_memory(&lab).await,
    )
    .await;
}

// F29: nobody has made the consumer groups yet, and now nobody can
#[tokio::test]
async fn what_waits_in_a_full_redis_without_a_consumer_group_is_worked_from_postgres() {
    let lab = Lab::private(Durability::None).await;
    lab.worker().await.drain(CancellationToken::new()).await;
    let producer = lab.producer();
    for priority in Priority::ALL {
        lab.command::<i64>(&["DEL", &lab.keys().stream("default", priority)])
            .await;
    }
    send(&producer, "noop", "1", 50).await;
    eventually("they are published", async || {
        (lab.entries().await.len() > 1).then_some(())
    })
    .await;
    lab.command::<i64>(&["XGROUP", "DESTROY", &lab.work_stream(), GROUP])
        .await;
    faults::fill_memory(&lab).await;
    let worker = lab.worker().await;
    lab.await_all_completed(50).await;
    assert_eq!(
        worker.health().readiness().breakers.redis.why,
        Some("OOM"),
        "it was full all the time"
    );
    faults::free_memory(&lab).await;
    redis_is(&worker.health(), "up").await;
    let before = entries_added(&lab).await;
    eventually("jobs travel over the streams again", async || {
        send(&producer, "noop", "1", 5).await;
        (entries_added(&lab).await > before).then_some(())
    })
    .await;
    lab.await_all_completed(lab.number("SELECT count(*) FROM millstream.job").await)
        .await;
    lab.await_drained("default").await;
}

// F31; as root only. It refuses acknowledgements too, so its streams drain when there is space again.
#[tokio::test]
async fn a_redis_whose_disk_is_full_costs_no_job() {
    let lab = Lab::private(Durability::Full).await;
    lab.harm(LocalServices::stop_redis).await;
    let Some(disk) = SmallDisk::over(&faults::folder(lab.servers()).unwrap(), 8) else {
        return;
    };
    lab.harm(LocalServices::start_redis).await;
    survives_refusal(&lab, false, async || disk.fill(), async || disk.free()).await;
}

// F30, rule 12
#[tokio::test]
async fn a_redis_that_evicts_makes_workers_unready_and_loses_no_job() {
    let lab = Lab::private(Durability::None).await;
    let worker = lab.worker().await;
    let (producer, health) = (lab.producer(), worker.health());
    let policy_is = async |policy: Policy| {
        eventually("the policy is seen", async || {
            (health.readiness().redis_policy == policy).then_some(())
        })
        .await;
    };
    policy_is(Policy::Keeps).await;
    assert!(
        health.readiness().ready
            && health
                .metrics()
                .contains("\nmillstream_redis_policy_ok 1\n")
    );
    faults::eviction_policy(&lab, "allkeys-lru").await;
    send(&producer, "sleep", r#"{"ms":40}"#, 200).await;
    faults::fill_memory(&lab).await;
    send(&producer, "noop", "1", 100).await;
    policy_is(Policy::Evicts).await;
    assert!(
        !health.readiness().ready
            && health
                .metrics()
                .contains("\nmillstream_redis_policy_ok 0\n")
    );
    lab.await_all_completed(300).await;
    faults::eviction_policy(&lab, "noeviction").await;
    faults::free_memory(&lab).await;
    policy_is(Policy::Keeps).await;
    assert!(health.readiness().ready);
}
