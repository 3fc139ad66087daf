//! Two that want the same job, or two commits that pass each other.

use std::time::Duration;

use millstream_common::id::new_job_id;
use millstream_tests::{Lab, Starts, ask::send, eventually};
use sqlx::Connection;

const JOBS: u64 = 1_000;

// rule 52
#[tokio::test]
async fn a_cancel_that_was_answered_is_final_in_a_thousand_races_with_completion() {
    let lab = Lab::new().await;
    let starts = Starts::default();
    let _worker = lab.worker_with(vec![starts.timed("timed")]).await;
    let producer = lab.producer();
    let mut cancelled = std::collections::HashSet::new();
    for round in 0..JOBS / 50 {
        let ids = send(&producer, "timed", &(round % 5 * 60).to_string(), 50).await;
        for (nth, chunk) in ids.chunks(10).enumerate() {
            // From before the claim, through the first 200 ms, to after the lease.
            tokio::time::sleep(Duration::from_millis((round * 13 + nth as u64 * 17) % 70)).await;
            let done: Vec<uuid::Uuid> = sqlx::query_scalar("SELECT millstream.cancel($1, 'test')")
                .bind(chunk)
                .fetch_all(&lab.pool)
                .await
                .unwrap();
            cancelled.extend(done);
        }
    }
    assert!(
        cancelled.len() > 50 && (cancelled.len() as u64) < JOBS,
        "both sides win some: {} cancelled",
        cancelled.len()
    );
    lab.await_count("completed", JOBS as i64 - cancelled.len() as i64)
        .await;
    lab.await_drained("default").await;
    let rows: Vec<uuid::Uuid> =
        sqlx::query_scalar("SELECT id FROM millstream.job_view WHERE state = 'cancelled'")
            .fetch_all(&lab.pool)
            .await
            .unwrap();
    assert_eq!(
        rows.into_iter().collect::<std::collections::HashSet<_>>(),
        cancelled
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE state NOT IN (2, 7)")
            .await,
        0,
        "each has one of two ends"
    );
    // What was completed counts its one attempt, and what was cancelled counts none, whichever had begun first.
    assert_eq!(lab.number("SELECT count(*) FROM millstream.job WHERE attempt <> CASE state WHEN 2 THEN 1 ELSE 0 END").await, 0);
    eventually("no lease is left", async || {
        (lab.number("SELECT count(*) FROM millstream.lease").await == 0).then_some(())
    })
    .await;
}

// rule 63: no watermark passes a commit that is late
#[tokio::test]
async fn jobs_of_a_transaction_that_commits_late_are_not_passed_over() {
    let lab = Lab::new().await;
    let _worker = lab.worker().await;
    let producer = lab.producer();
    let mut slow = lab.pool.acquire().await.unwrap();
    let mut transaction = slow.begin().await.unwrap();
    let early = millstream_producer::NewJob {
        id: new_job_id(),
        ..millstream_producer::NewJob::new("noop", "1")
    };
    let id = early.id;
    producer
        .enqueue_in(&mut transaction, vec![early])
        .await
        .unwrap();
    // Younger ids, younger parcels, committed and done before.
    for _ in 0..20 {
        send(&producer, "noop", "1", 100).await;
    }
    lab.await_count("completed", 2_000).await;
    lab.await_drained("default").await;
    transaction.commit().await.unwrap();
    lab.await_state(id, "completed").await;
    lab.await_all_completed(2_001).await;
}
