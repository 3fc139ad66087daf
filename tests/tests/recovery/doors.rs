//! Callers that give up half way, and tenants that flood.

use std::time::Duration;

use millstream_producer::NewJob;
use millstream_tests::{Lab, ask::send, eventually};

/// Calls that are given up somewhere between their begin and their end.
const CALLS: u64 = 200;

// F3, F11: no timing of a dropped call leaves a transaction open or writes half of something
#[tokio::test]
async fn callers_that_give_up_leave_no_transaction_open() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    let mut answered = 0;
    for call in 0..CALLS {
        let patience = Duration::from_micros(call * 100);
        let one = tokio::time::timeout(patience, producer.enqueue(NewJob::new("noop", "1"))).await;
        // Over the size of a parcel, so that it takes a transaction of several statements.
        let many = (0..501).map(|_| NewJob::new("noop", "1")).collect();
        let several = tokio::time::timeout(patience, producer.enqueue_many(many)).await;
        answered += i64::from(one.is_ok_and(|a| a.is_ok()))
            + 501 * i64::from(several.is_ok_and(|a| a.is_ok()));
    }
    eventually("no transaction is open", async || {
        let idle = lab
            .number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'")
            .await;
        (idle == 0).then_some(())
    })
    .await;
    send(&producer, "noop", "1", 10).await;
    let written = lab.number("SELECT count(*) FROM millstream.job").await;
    assert!(
        written >= answered + 10,
        "what was answered exists: {written} of {answered}"
    );
    let _worker = lab.worker().await;
    lab.await_all_completed(written).await;
}

// F21: a flood of one tenant is not in the way of another
#[tokio::test]
async fn a_flood_of_one_tenant_does_not_hold_up_another() {
    let mut lab = Lab::new().await;
    lab.config.worker.concurrency = 4;
    sqlx::query("INSERT INTO millstream.tenant (name) VALUES ('a'), ('b')")
        .execute(&lab.pool)
        .await
        .unwrap();
    let producer = lab.producer();
    let of = |tenant: &str, jobs: usize| -> Vec<NewJob> {
        let job = |_| NewJob {
            tenant: tenant.into(),
            ..NewJob::new("sleep", r#"{"ms":5}"#)
        };
        (0..jobs).map(job).collect()
    };
    producer.enqueue_many(of("a", 5_000)).await.unwrap();
    let few = producer.enqueue_many(of("b", 10)).await.unwrap();
    let _worker = lab.worker().await;
    for job in few {
        lab.await_state(job.unwrap().id, "completed").await;
    }
    let flood = lab.count("available").await;
    assert!(
        flood > 2_500,
        "only {flood} jobs of the flood were left when the others were done"
    );
}
