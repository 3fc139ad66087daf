//! Postgres away: nothing can be accepted, and that is said at once.

use std::time::{Duration, Instant};

use millstream_common::error::in_full;
use millstream_local::{Durability, PostgresStop};
use millstream_producer::NewJob;
use millstream_tests::{Lab, Served, ask::send, eventually};
use reqwest::StatusCode;
use serde_json::json;

use super::redis_away::assert_quiet;

const DEAD: &str = r#"millstream_degraded_total{reason="postgres_away"}"#;

// F12, F52, rule 7
#[tokio::test]
async fn a_post_while_postgres_is_away_is_refused_at_once_and_served_again_when_it_is_back() {
    // An immediate stop forgets what was not synced, and that would be the schema.
    let lab = Lab::private(Durability::Full).await;
    let (api, worker) = (
        Served::start(&lab, &["api"]).await,
        Served::start(&lab, &["worker"]).await,
    );
    let began = Instant::now();
    lab.harm(|servers| servers.stop_postgres(PostgresStop::Immediate))
        .await;
    let (status, body) = api
        .await_ready("the API knows", |body| {
            body["breakers"]["postgres"]["open"] == true
        })
        .await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        body["breakers"]["postgres"]["since"].is_string()
            && body["breakers"]["postgres"]["why"].is_string(),
        "{body}"
    );
    let (status, body) = worker
        .await_ready("the worker knows", |body| {
            body["breakers"]["postgres"]["open"] == true
        })
        .await;
    assert_eq!(
        (status, &body["postgres"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!(false)),
        "a worker without Postgres takes no work"
    );

    // Each used to take ten seconds. The bound is for all of them, on a machine that is busy with other things.
    let asked = Instant::now();
    for _ in 0..20 {
        let reply = api.post("/v1/jobs", &json!({"kind": "echo"})).await;
        assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(reply.headers().contains_key("retry-after"));
        assert_eq!(
            reply.json::<serde_json::Value>().await.unwrap()["code"],
            "unavailable"
        );
    }
    assert!(
        asked.elapsed() < Duration::from_secs(30),
        "20 refusals took {:?}",
        asked.elapsed()
    );
    assert!(api.sample(DEAD).await >= 1.0 && worker.sample(DEAD).await >= 1.0);
    assert_eq!(
        worker.get("/livez").await.status(),
        StatusCode::OK,
        "an outage must not restart the fleet"
    );

    lab.harm(millstream_local::LocalServices::start_postgres)
        .await;
    eventually("jobs are accepted again", async || {
        (api.post("/v1/jobs", &json!({"kind": "echo"}))
            .await
            .status()
            == StatusCode::ACCEPTED)
            .then_some(())
    })
    .await;
    worker
        .await_ready("the worker is back", |body| body["ready"] == true)
        .await;
    eventually("the job is done", async || {
        (lab.count("completed").await >= 1).then_some(())
    })
    .await;
    assert_quiet(&api, "Postgres is out of reach", "Postgres is back", began);
    assert_quiet(
        &worker,
        "no heartbeat",
        "Postgres answers the heartbeat again",
        began,
    );
}

// F12: the first callers meet connections of the pool that are dead, and then a pool that waits for a server to start
#[tokio::test]
async fn the_first_enqueue_after_postgres_stopped_is_told_of_the_refusal_and_not_of_a_deadline() {
    let lab = Lab::private(Durability::None).await;
    let producer = lab.producer();
    send(&producer, "echo", "1", 20).await;
    lab.harm(|servers| servers.stop_postgres(PostgresStop::Immediate))
        .await;
    let one = producer
        .enqueue(NewJob::new("echo", "1"))
        .await
        .unwrap_err();
    assert!(in_full(&one).contains("refused"), "{}", in_full(&one));
    let several = producer
        .enqueue_many(vec![NewJob::new("echo", "1"), NewJob::new("echo", "2")])
        .await
        .unwrap_err();
    // What is not repeated may also be told by a dead connection itself.
    assert!(
        !in_full(&several).contains("timed out"),
        "{}",
        in_full(&several)
    );
}
