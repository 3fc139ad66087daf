//! What a worker takes: what it can start, and nothing that it cannot.

use millstream_tests::{Lab, Starts, ask::send, eventually};
use tokio_util::sync::CancellationToken;

// rules 20, 21
#[tokio::test]
async fn a_busy_worker_hoards_nothing_that_an_idle_one_could_do() {
    let mut lab = Lab::new().await;
    lab.config.worker.concurrency = 2;
    let (starts, gate) = (Starts::default(), CancellationToken::new());
    let busy = lab.worker_with(vec![starts.gated("gated", &gate)]).await;
    let producer = lab.producer();
    send(&producer, "gated", "1", 2).await;
    lab.await_number("SELECT count(*) FROM millstream.lease", 2)
        .await;
    send(&producer, "sleep", r#"{"ms":20}"#, 40).await;
    // Its slots are full, so what it was given and has not started is nothing.
    eventually("the jobs are published", async || {
        (lab.stream_length("default").await > 0).then_some(())
    })
    .await;
    assert_eq!(lab.pending_with(busy.id()).await, 0);
    let _idle = lab.worker().await;
    lab.await_count("completed", 40).await;
    assert_eq!(lab.pending_with(busy.id()).await, 0);
    gate.cancel();
    lab.await_all_completed(42).await;
}

// rule 43
#[tokio::test]
async fn what_is_not_due_is_in_postgres_alone() {
    let lab = Lab::new().await;
    let (producer, _worker) = (lab.producer(), lab.worker().await);
    let later = millstream_common::clock::now() + chrono::TimeDelta::hours(1);
    let jobs = (0..50).map(|_| millstream_producer::NewJob {
        run_at: Some(later),
        ..millstream_producer::NewJob::new("noop", "1")
    });
    producer.enqueue_many(jobs.collect()).await.unwrap();
    // A failed attempt waits there as well.
    send(&producer, "fail", r#"{"class":"retry"}"#, 10).await;
    eventually("the failed ones wait", async || {
        (lab.count("retryable").await > 0).then_some(())
    })
    .await;
    let probe = send(&producer, "noop", "1", 1).await[0];
    lab.await_state(probe, "completed").await;
    assert_eq!(lab.count("scheduled").await, 50);
    let worker_has = lab.number("SELECT count(*) FROM millstream.lease l JOIN millstream.job j ON j.id = l.job_id WHERE j.state = 3").await;
    let parcels = lab
        .number("SELECT count(*) FROM millstream.parcel p, unnest(p.ids) AS id JOIN millstream.job j USING (id) WHERE j.state = 3")
        .await;
    assert_eq!(
        (worker_has, parcels),
        (0, 0),
        "neither a lease nor a promise to publish"
    );
}
