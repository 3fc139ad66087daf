//! Probes, handlers and registration.

use millstream_common::retry::RetryPolicy;
use millstream_tests::{Lab, eventually, process::run};
use millstream_worker::{Context, Handler, Outcome, Success};

async fn nothing(_: Context, (): ()) -> Outcome {
    Ok(Success::new())
}

fn trying(max_attempts: i16) -> Handler {
    Handler::new("trying", nothing).retry(RetryPolicy {
        max_attempts,
        ..RetryPolicy::default()
    })
}

/// The tries that a new job of the kind gets.
async fn tries(lab: &Lab) -> i16 {
    let id: millstream_common::id::JobId =
        sqlx::query_scalar("SELECT millstream.enqueue('trying', 'null')")
            .fetch_one(&lab.pool)
            .await
            .unwrap();
    sqlx::query_scalar("SELECT max_attempts FROM millstream.job WHERE id = $1")
        .bind(id)
        .fetch_one(&lab.pool)
        .await
        .unwrap()
}

async fn cli(lab: &Lab, args: &[&str]) -> String {
    let output = run(lab, args).await;
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn x35_a_new_leader_reaches_its_rare_duties_soon() {
    let lab = Lab::new().await;
    let last: String =
        sqlx::query_scalar("SELECT 'job_' || to_char(max(day), 'YYYYMMDD') FROM millstream.days()")
            .fetch_one(&lab.pool)
            .await
            .unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("DROP TABLE millstream.{last}")))
        .execute(&lab.pool)
        .await
        .unwrap();
    let worker = lab.worker().await;
    eventually("the missing partition is made", async || {
        let is_there: bool =
            sqlx::query_scalar("SELECT to_regclass('millstream.' || $1) IS NOT NULL")
                .bind(&last)
                .fetch_one(&lab.pool)
                .await
                .unwrap();
        is_there.then_some(())
    })
    .await;
    assert!(worker.health().stuck_loops().is_empty());
    worker
        .drain(tokio_util::sync::CancellationToken::new())
        .await;
}

#[tokio::test]
async fn x10_the_tries_of_a_kind_follow_its_handler_until_a_person_sets_them() {
    let lab = Lab::new().await;
    cli(&lab, &["kinds", "add", "trying"]).await;
    assert_eq!(tries(&lab).await, 3, "nobody has said anything yet");
    for said in [7, 5] {
        let worker = lab.worker_with(vec![trying(said)]).await;
        assert_eq!(tries(&lab).await, said, "the handler says so");
        worker
            .drain(tokio_util::sync::CancellationToken::new())
            .await;
    }
    cli(&lab, &["kinds", "set", "trying", "--max-attempts", "2"]).await;
    let worker = lab.worker_with(vec![trying(9)]).await;
    assert_eq!(tries(&lab).await, 2, "a person has said so");
    let listed = cli(&lab, &["kinds", "list"]).await;
    assert!(
        listed.contains("2 (set), workers say 9"),
        "the difference is shown: {listed}"
    );
    cli(
        &lab,
        &["kinds", "set", "trying", "--max-attempts", "handler"],
    )
    .await;
    assert_eq!(
        tries(&lab).await,
        9,
        "the live worker's handler holds again"
    );
    assert!(!cli(&lab, &["kinds", "list"]).await.contains("workers say"));
    worker
        .drain(tokio_util::sync::CancellationToken::new())
        .await;
}

#[tokio::test]
async fn x10_a_difference_between_live_workers_is_shown() {
    let lab = Lab::new().await;
    let (old, new) = (
        lab.worker_with(vec![trying(3)]).await,
        lab.worker_with(vec![trying(7)]).await,
    );
    assert_eq!(tries(&lab).await, 7, "who registered last");
    let listed = cli(&lab, &["kinds", "list"]).await;
    assert!(listed.contains("7, workers say 3"), "{listed}");
    for worker in [old, new] {
        worker
            .drain(tokio_util::sync::CancellationToken::new())
            .await;
    }
}

#[tokio::test]
async fn x10_a_typed_producer_leaves_the_tries_of_a_known_kind_alone() {
    let lab = Lab::new().await;
    let worker = lab.worker_with(vec![trying(7)]).await;
    lab.producer()
        .parts()
        .catalog
        .announce_kinds(&[("trying", 3)])
        .await
        .unwrap();
    assert_eq!(tries(&lab).await, 7);
    worker
        .drain(tokio_util::sync::CancellationToken::new())
        .await;
}
