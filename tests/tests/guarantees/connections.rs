//! Connections: who has one of its own, and what is left when they are cut.

use std::time::Duration;

use millstream_common::{limits::READ_BLOCK, stream::link::Redis};
use millstream_local::{Durability, LocalServices, PostgresStop};
use millstream_producer::NewJob;
use millstream_tests::{Lab, Served, ask::send, eventually};
use reqwest::StatusCode;
use tokio_util::sync::CancellationToken;

// rule 26
#[tokio::test]
async fn a_blocked_reader_is_in_nobodys_way() {
    let lab = Lab::private(Durability::None).await;
    let worker = lab.worker().await;
    let queues = lab.number("SELECT count(*) FROM millstream.queue").await;
    let clients = eventually("the readers block", async || {
        let clients: String = lab.command(&["CLIENT", "LIST"]).await;
        let blocked = clients
            .lines()
            .filter(|client| client.contains(" flags=b"))
            .count();
        (blocked as i64 == queues).then_some(clients)
    })
    .await;
    let blocked = clients.lines().filter(|client| client.contains(" flags=b"));
    assert!(
        blocked
            .clone()
            .all(|client| client.contains(" cmd=xreadgroup")),
        "{clients}"
    );
    assert!(
        clients.lines().count() > blocked.count(),
        "commands have connections of their own: {clients}"
    );
    let text = worker.health().metrics();
    assert!(
        !text.contains(r#"millstream_duty_runs_total{duty="probe",outcome="failed"}"#),
        "no command waited too long"
    );
}

// rules 22, 25: the client's own patience must outlast the block, or the server hands entries to nobody
#[tokio::test]
async fn a_blocking_read_that_finds_nothing_ends_without_an_error_and_within_seconds() {
    let lab = Lab::new().await;
    assert!((1..=5).contains(&READ_BLOCK.as_secs()));
    let link = Redis::new(lab.config.redis.url.expose(), lab.keys()).unwrap();
    let mut reader = link.reader("reading").await.unwrap();
    let mut read = redis::cmd("XREAD");
    read.arg("BLOCK")
        .arg(READ_BLOCK.as_millis() as u64)
        .arg("STREAMS")
        .arg(lab.work_stream())
        .arg("$");
    for _ in 0..2 {
        let nothing: redis::Value = read
            .query_async(&mut reader)
            .await
            .expect("the same connection, twice");
        assert_eq!(nothing, redis::Value::Nil);
    }
}

// rule 29
#[tokio::test]
async fn clients_that_are_cut_again_and_again_refuse_no_job_and_lose_none() {
    let lab = Lab::private(Durability::None).await;
    let (producer, _worker) = (lab.producer(), lab.worker().await);
    let (mut killer, stop) = (lab.redis().await, CancellationToken::new());
    let stopped = stop.clone();
    let killing = tokio::spawn(async move {
        let mut cut = 0;
        while !stopped.is_cancelled() {
            let kill: i64 = redis::cmd("CLIENT")
                .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
                .query_async(&mut killer)
                .await
                .unwrap();
            cut += kill;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        cut
    });
    for _ in 0..300 {
        // Panics on a refusal or an outage.
        send(&producer, "echo", "1", 1).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    assert!(
        killing.await.unwrap() > 20,
        "connections were cut all the time"
    );
    lab.await_all_completed(300).await;
    assert_eq!(
        lab.number("SELECT max(crash_count)::bigint FROM millstream.job")
            .await,
        0
    );
}

/// Callers of one producer, and connections that its two pools may have.
const CALLERS: usize = 60;
const POOLED_MAX: i64 = 18;

// What you must set: the sum of the pools is what a process takes, also when its callers wait
#[tokio::test]
async fn callers_that_wait_for_a_lock_open_no_connections_beside_the_pools() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    producer
        .parts()
        .catalog
        .announce_kinds(&[("echo", 3)])
        .await
        .unwrap();
    send(&producer, "echo", "1", 1).await;
    let mut locking = lab.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE millstream.job")
        .execute(&mut *locking)
        .await
        .unwrap();
    let calls: Vec<_> = (0..CALLERS)
        .map(|_| {
            let producer = producer.clone();
            tokio::spawn(async move { producer.enqueue_many(vec![NewJob::new("echo", "1")]).await })
        })
        .collect();
    let mut most = 0;
    eventually("the first callers give up on the lock", async || {
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'millstream'";
        most = most.max(lab.number(sessions).await);
        calls.iter().any(tokio::task::JoinHandle::is_finished).then_some(())
    })
    .await;
    locking.rollback().await.unwrap();
    for call in calls {
        // Whether it got through depends on when the lock went.
        drop(call.await.unwrap());
    }
    assert!((8..=POOLED_MAX + 1).contains(&most), "{most} connections");
}

// rules 87, 89
#[tokio::test]
async fn metrics_and_liveness_are_answered_with_both_servers_dead() {
    let lab = Lab::private(Durability::None).await;
    let both = [
        Served::start(&lab, &["api"]).await,
        Served::start(&lab, &["worker"]).await,
    ];
    lab.harm(LocalServices::kill9_redis).await;
    lab.harm(|servers| servers.stop_postgres(PostgresStop::Immediate))
        .await;
    for served in &both {
        served
            .await_ready("both are missed", |body| {
                body["breakers"]["postgres"]["open"] == true
                    && body["breakers"]["redis"]["open"] == true
            })
            .await;
        // Each with a server asked on the way would take seconds; the bound is for all fifty.
        let asking = async {
            for _ in 0..50 {
                assert_eq!(served.get("/metrics").await.status(), StatusCode::OK);
            }
        };
        tokio::time::timeout(Duration::from_secs(30), asking)
            .await
            .expect("nobody is asked for metrics");
        assert_eq!(served.get("/livez").await.status(), StatusCode::OK);
        assert_eq!(
            (
                served.sample("millstream_postgres_up").await,
                served.sample("millstream_redis_up").await
            ),
            (0.0, 0.0)
        );
    }
}

/// Processes of Postgres that serve this installation.
async fn backends(lab: &Lab) -> Vec<i32> {
    let served = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'";
    sqlx::query_scalar(served)
        .fetch_all(&lab.pool)
        .await
        .expect("the backends")
}

// F10: whoever repeats his ids makes nobody wait for a new connection
#[tokio::test]
async fn a_repeated_enqueue_keeps_its_connection() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    let job = NewJob::new("noop", "1");
    // More than one statement takes: they are one transaction.
    let jobs: Vec<_> = (0..1_001).map(|_| NewJob::new("noop", "1")).collect();
    producer.enqueue(job.clone()).await.unwrap();
    producer.enqueue_many(jobs.clone()).await.unwrap();
    let before = backends(&lab).await;
    assert!(producer.enqueue(job).await.unwrap().duplicate);
    let again = producer.enqueue_many(jobs).await.unwrap();
    assert!(
        again
            .iter()
            .all(|answer| answer.as_ref().is_ok_and(|answer| answer.duplicate))
    );
    let after = backends(&lab).await;
    assert!(
        before.iter().all(|backend| after.contains(backend)),
        "{before:?} became {after:?}"
    );
}
