//! Batches in wrong hands, and batches to which odd things happen (F40).

use millstream_common::id::{BatchId, JobId};
use millstream_producer::NewJob;
use millstream_tests::{Lab, eventually};

/// What Postgres says to a statement that it refuses.
async fn refusal(lab: &Lab, sql: &'static str) -> String {
    let refused = sqlx::query(sql).execute(&lab.pool).await.unwrap_err();
    refused.as_database_error().unwrap().message().to_owned()
}

// F40: a dead job that was purged may come back with its id
#[tokio::test]
async fn f40_a_job_that_dies_purges_and_dies_again_is_dead() {
    let lab = Lab::new().await;
    let _worker = lab.worker().await;
    let batch: BatchId = sqlx::query_scalar("SELECT millstream.open_batch()")
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    let job = NewJob {
        batch_id: Some(batch),
        max_attempts: Some(1),
        ..NewJob::new("fail", r#"{"times":9}"#)
    };
    let mut before: Option<JobId> = None;
    for _ in 0..2 {
        let job = NewJob {
            id: before.unwrap_or(job.id),
            ..job.clone()
        };
        let id = lab.producer().enqueue(job).await.unwrap().id;
        lab.await_state(id, "dead").await;
        let purge = "DELETE FROM millstream.dead_letter; DELETE FROM millstream.job";
        sqlx::raw_sql(purge).execute(&lab.pool).await.unwrap();
        before = Some(id);
    }
    let failures = "SELECT count(*) FROM millstream.batch_failure";
    assert_eq!(lab.number(failures).await, 1);
}

// F40: one odd batch does not break the list of all
#[tokio::test]
async fn f40_a_batch_that_hardly_moves_has_an_estimate_all_the_same() {
    let lab = Lab::new().await;
    let slow = "SELECT millstream.open_batch();
        UPDATE millstream.batch SET state = 'sealed', total = 2000000000, succeeded = 1,
          created_at = now() - interval '30 days'";
    sqlx::raw_sql(slow).execute(&lab.pool).await.unwrap();
    let estimated = "SELECT count(*) FROM millstream.batch_view
        WHERE end_estimated_at BETWEEN now() + interval '90 years' AND now() + interval '110 years'";
    assert_eq!(lab.number(estimated).await, 1);
}

// F40: what a caller may not do with batches that are not his
#[tokio::test]
async fn f40_a_caller_seals_no_batch_of_millstream_itself() {
    let lab = Lab::new().await;
    let theirs = "SELECT millstream.open_batch(); UPDATE millstream.batch SET system = 'documents'";
    sqlx::raw_sql(theirs).execute(&lab.pool).await.unwrap();
    let said = refusal(
        &lab,
        "SELECT millstream.seal_batch(id) FROM millstream.batch",
    )
    .await;
    assert!(said.contains("is not one of a caller"), "{said}");
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.batch WHERE state = 'open'")
            .await,
        1
    );
}

// F40: what follows is a job like any other
#[tokio::test]
async fn f40_a_job_that_follows_is_refused_for_what_an_enqueue_is_refused_for() {
    let lab = Lab::new().await;
    sqlx::query(
        "INSERT INTO millstream.kind (name) VALUES ('document.extract') ON CONFLICT DO NOTHING",
    )
    .execute(&lab.pool)
    .await
    .unwrap();
    for (sql, reason) in [
        (
            "SELECT millstream.open_batch(next_kind => 'document.extract')",
            "made by the document pipeline",
        ),
        (
            "SELECT millstream.open_batch(next_kind => 'echo', next_payload =>
               ('{\"a\":' || repeat('[', 200) || repeat(']', 200) || '}')::jsonb)",
            "nested more than 124 deep",
        ),
        (
            "SELECT millstream.open_batch(next_kind => 'echo', next_payload =>
               jsonb_build_object('a', repeat('x', 60000)))",
            "at most 60000 bytes",
        ),
    ] {
        let said = refusal(&lab, sql).await;
        assert!(said.contains(reason), "{said}");
    }
    // The longest that is taken fits into a job, with the longest name.
    let longest = "SELECT millstream.seal_batch(millstream.open_batch(repeat(chr(1), 255), next_kind => 'echo',
        next_payload => jsonb_build_object('a', repeat('x', 59980))))";
    sqlx::query(longest).execute(&lab.pool).await.unwrap();
    let _worker = lab.worker().await;
    eventually("it has run", async || {
        let ran =
            "SELECT count(*) FROM millstream.job WHERE state = 2 AND octet_length(payload) < 65536";
        (lab.number(ran).await == 1).then_some(())
    })
    .await;
}
