//! Sessions of Postgres that end while nobody uses them: no caller pays for that, at no door.

use millstream_tests::{Lab, Links, Served, ask::send, eventually};
use reqwest::StatusCode;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Idle sessions of a process of ours are ended so often.
const ROUNDS: usize = 8;
/// As many requests at once open as many connections.
const AT_ONCE: usize = 6;

/// An API that has several idle connections of both pools.
async fn warm(api: &Served) {
    let job = json!({"kind": "echo"});
    let reads = futures::future::join_all((0..AT_ONCE).map(|_| api.get("/v1/jobs")));
    let (reads, written) = tokio::join!(reads, api.post("/v1/jobs", &job));
    assert!(
        reads.iter().all(|reply| reply.status() == StatusCode::OK)
            && written.status() == StatusCode::ACCEPTED
    );
}

/// The first request of each kind after the idle sessions are gone.
async fn answers(api: &Served) -> Vec<StatusCode> {
    let job = json!({"kind": "echo", "payload": {"a": 1}});
    let mut statuses = Vec::new();
    for path in ["/v1/jobs", "/v1/queues", "/v1/stats", "/v1/documents"] {
        statuses.push(api.get(path).await.status());
    }
    statuses.push(api.post("/v1/jobs", &job).await.status());
    statuses.push(
        api.post("/v1/jobs/bulk", &json!({"jobs": [job]}))
            .await
            .status(),
    );
    statuses
}

async fn assert_answers(api: &Served, after: &str) {
    let expected = [200, 200, 200, 200, 202, 200];
    let seen = answers(api).await;
    assert!(
        seen.iter()
            .zip(expected)
            .all(|(seen, expected)| *seen == expected),
        "after {after}: {seen:?}"
    );
}

/// Makes the kinds known, as any worker does.
async fn lab_with_kinds() -> Lab {
    let lab = Lab::new().await;
    lab.worker().await.drain(CancellationToken::new()).await;
    lab
}

#[tokio::test]
async fn x22_sessions_that_postgres_ends_cost_no_request_an_error() {
    let lab = lab_with_kinds().await;
    let api = Served::start(&lab, &["api"]).await;
    for _ in 0..ROUNDS {
        warm(&api).await;
        let ended = lab
            .number(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'millstream'",
            )
            .await;
        assert!(ended > 1, "{ended} sessions");
        assert_answers(&api, "an administrator's command").await;
    }
}

#[tokio::test]
async fn x22_a_reset_of_idle_connections_costs_no_request_an_error() {
    let mut lab = lab_with_kinds().await;
    let links = Links::of(&lab).await;
    lab.config = links.config.clone();
    let api = Served::start(&lab, &["api"]).await;
    for _ in 0..ROUNDS {
        warm(&api).await;
        assert!(links.postgres.connections() > 1);
        links.postgres.cut_all();
        // The watch of the API may have connected again by now.
        eventually("they are reset", async || {
            (links.postgres.connections() <= 1).then_some(())
        })
        .await;
        assert_answers(&api, "a reset").await;
    }
}

#[tokio::test]
async fn x22_the_library_enqueues_over_a_new_connection_when_the_old_one_was_reset() {
    let lab = lab_with_kinds().await;
    let links = Links::of(&lab).await;
    let producer = lab.producer_in(&links.config);
    for round in 0..ROUNDS {
        // `send` fails on the first error.
        send(&producer, "echo", "1", 1).await;
        links.postgres.cut_all();
        eventually("it is reset", async || {
            (links.postgres.connections() == 0).then_some(())
        })
        .await;
        let many = send(&producer, "echo", "1", 3).await;
        assert_eq!(many.len(), 3);
        links.postgres.cut_all();
        eventually("it is reset", async || {
            (links.postgres.connections() == 0).then_some(())
        })
        .await;
        let one = producer
            .enqueue(millstream_producer::NewJob::new("echo", "1"))
            .await;
        assert!(one.is_ok_and(|one| !one.duplicate), "round {round}");
    }
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job").await,
        5 * ROUNDS as i64,
        "each exactly once"
    );
}

/// Every look of the API's watch and every beat of the worker comes later than the timeout allows.
#[tokio::test]
async fn x22_probes_stay_ready_while_postgres_ends_every_session_that_idles() {
    let lab = Lab::new().await;
    sqlx::query("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET idle_session_timeout = ''100ms''', current_database()); END $$")
        .execute(&lab.pool)
        .await
        .unwrap();
    let (api, worker) = (
        Served::start(&lab, &["api"]).await,
        Served::start(&lab, &["worker"]).await,
    );
    let sessions = async || {
        lab.number("SELECT sessions FROM pg_stat_database WHERE datname = current_database()")
            .await
    };
    let before = sessions().await;
    eventually(
        "every look was made over a new session, many times",
        async || {
            for served in [&api, &worker] {
                let (status, body) = served.json("/readyz").await;
                assert_eq!(status, StatusCode::OK, "{body}");
            }
            (sessions().await > before + 40).then_some(())
        },
    )
    .await;
    assert_answers(&api, "idle_session_timeout").await;
    let id = send(&lab.producer(), "echo", "1", 1).await[0];
    lab.await_state(id, "completed").await;
}
