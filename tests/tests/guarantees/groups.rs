//! Quick jobs share a task: what one of them does is no matter of the others.

use millstream_common::job::NewJob;
use millstream_tests::{Lab, ask::send};
use millstream_worker::{Context, Handler, Outcome, Success};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// `1`: done at once; `"wait"`: done when the gate opens; `"panic"`: panics before there is a future.
fn moody(gate: &CancellationToken) -> Handler {
    let gate = gate.clone();
    Handler::new("moody", move |_: Context, mood: Value| {
        assert!(mood != "panic", "at once");
        let gate = gate.clone();
        async move {
            if mood == "wait" {
                gate.cancelled().await;
            }
            Outcome::Ok(Success::new())
        }
    })
}

/// A worker that knows from 60 runs that its kind is quick, and then gets thirty jobs at once, the first of which is in that mood.
async fn thirty_with(lab: &Lab, mood: &str) {
    send(&lab.producer(), "moody", "1", 60).await;
    lab.await_count("completed", 60).await;
    // Read together, because they come together.
    sqlx::query("UPDATE millstream.kind SET chunk = 25 WHERE name = 'moody'")
        .execute(&lab.pool)
        .await
        .unwrap();
    let job = |payload: Value| NewJob {
        max_attempts: Some(1),
        ..NewJob::new("moody", payload.to_string())
    };
    let jobs = std::iter::once(job(json!(mood)))
        .chain((1..30).map(|_| job(json!(1))))
        .collect();
    let answers = lab.producer().enqueue_many(jobs).await.unwrap();
    assert!(answers.iter().all(Result::is_ok));
    lab.await_count("completed", 60 + 29).await;
}

const EPOCHS: &str = "SELECT max(epoch)::bigint FROM millstream.job WHERE state <> 8";

// F30 I8
#[tokio::test]
async fn a_job_that_waits_does_not_hold_up_those_it_was_read_with() {
    let (lab, gate) = (Lab::new().await, CancellationToken::new());
    let _worker = lab.worker_with(vec![moody(&gate)]).await;
    thirty_with(&lab, "wait").await;
    lab.await_count("running", 1).await;
    gate.cancel();
    lab.await_count("completed", 90).await;
    assert_eq!(lab.number(EPOCHS).await, 0, "each was handed out once");
}

// F30 I8
#[tokio::test]
async fn a_job_that_panics_at_once_takes_none_of_those_with_it_that_it_was_read_with() {
    let lab = Lab::new().await;
    let _worker = lab
        .worker_with(vec![moody(&CancellationToken::new())])
        .await;
    thirty_with(&lab, "panic").await;
    lab.await_count("dead", 1).await;
    assert_eq!(lab.number(EPOCHS).await, 0, "each was handed out once");
    assert_eq!(lab.number("SELECT count(*) FROM millstream.job_error WHERE class = 'panic' AND message LIKE '%at once%'").await, 1);
}
