//! Redis away: work goes on, more slowly, and says so.

use std::time::Instant;

use millstream_local::{Durability, LocalServices};
use millstream_tests::{Lab, Served, ask::send, eventually};
use reqwest::StatusCode;

const DIRECTLY: &str = r#"millstream_jobs_claimed_directly_total{queue="default"}"#;
const AWAY: &str = r#"millstream_degraded_total{reason="redis_away"}"#;
const SKIPPED: &str = r#"millstream_duty_runs_total{duty="dispatch",outcome="skipped"}"#;
const SECONDS: &str = r#"millstream_degraded_seconds_total{reason="redis_away"}"#;
/// Places that may say a line a second each.
const SPEAKERS: u64 = 8;

/// One line when it began and one when it ended; in between nobody shouted.
pub(crate) fn assert_quiet(served: &Served, begins: &str, ends: &str, began: Instant) {
    let log = served.log();
    let said = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(said(begins), 1, "{log}");
    assert_eq!(said(ends), 1, "{log}");
    let lines = log.lines().count() as u64;
    assert!(
        lines <= (began.elapsed().as_secs() + 2) * SPEAKERS,
        "{lines} lines in {:?}: {log}",
        began.elapsed()
    );
}

// F12, F52, rule 7
#[tokio::test]
async fn redis_away_is_seen_in_probes_metrics_and_log_and_ends_by_itself() {
    let lab = Lab::private(Durability::None).await;
    let (api, worker) = (
        Served::start(&lab, &["api"]).await,
        Served::start(&lab, &["worker"]).await,
    );
    let producer = lab.producer();
    send(&producer, "echo", "1", 50).await;
    lab.await_count("completed", 50).await;
    assert_eq!(
        (worker.sample(DIRECTLY).await, worker.sample(AWAY).await),
        (0.0, 0.0),
        "by the streams, while all is well"
    );
    let (_, body) = worker.json("/readyz").await;
    assert_eq!(
        (&body["redis"], &body["breakers"]["redis"]["open"]),
        (&"up".into(), &false.into()),
        "{body}"
    );

    let began = Instant::now();
    lab.harm(LocalServices::kill9_redis).await;
    let (status, body) = worker
        .await_ready("the worker knows", |body| {
            body["breakers"]["redis"]["open"] == true
        })
        .await;
    assert_eq!(
        (status, &body["redis"]),
        (StatusCode::OK, &"down".into()),
        "degraded is not unready"
    );
    assert!(
        body["breakers"]["redis"]["since"].is_string()
            && body["breakers"]["redis"]["why"].is_string(),
        "{body}"
    );
    let (status, body) = api
        .await_ready("the API knows", |body| {
            body["breakers"]["redis"]["open"] == true
        })
        .await;
    assert_eq!(
        (status, &body["status"]),
        (StatusCode::OK, &"degraded".into())
    );
    send(&producer, "echo", "1", 50).await;
    lab.await_count("completed", 100).await;
    assert!(
        worker.sample(DIRECTLY).await >= 1.0,
        "taken straight from Postgres"
    );
    assert_eq!(
        (
            worker.sample("millstream_redis_breaker_open").await,
            worker.sample(AWAY).await
        ),
        (1.0, 1.0)
    );
    let idle = async || (worker.sample(SKIPPED).await >= 1.0).then_some(());
    eventually(
        "a duty that needs Redis does not count its idle runs as successes",
        idle,
    )
    .await;
    eventually("the time without Redis is counted", async || {
        (worker.sample(SECONDS).await >= 2.0).then_some(())
    })
    .await;

    lab.harm(LocalServices::start_redis).await;
    worker
        .await_ready("the worker is back", |body| {
            body["breakers"]["redis"]["open"] == false
        })
        .await;
    api.await_ready("the API is back", |body| body["status"] == "ready")
        .await;
    let directly = worker.sample(DIRECTLY).await;
    send(&producer, "echo", "1", 50).await;
    lab.await_count("completed", 150).await;
    assert_eq!(
        (
            worker.sample("millstream_redis_breaker_open").await,
            worker.sample(AWAY).await
        ),
        (0.0, 1.0)
    );
    // What the producer had not yet learned to publish may still have come that way.
    assert!(worker.sample(DIRECTLY).await <= directly + 50.0);
    assert_quiet(&worker, "Redis is out of reach", "Redis is back", began);
    assert_quiet(&api, "Redis is out of reach", "Redis is back", began);
}
