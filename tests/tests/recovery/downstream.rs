//! Servers that jobs need and that are away: an outage of theirs buries nothing, and a wrong address does not live for ever.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use millstream_common::retry::RetryPolicy;
use millstream_producer::NewJob;
use millstream_tests::{Clock, Lab, Process, eventually};
use millstream_worker::{Context, Failure, Handler, Success};
use uuid::Uuid;

/// A kind that needs a server, which is away until it is told otherwise, and is tried again as soon as it may be.
fn needy(is_back: &Arc<AtomicBool>) -> Handler {
    let is_back = is_back.clone();
    let retry = RetryPolicy {
        base: Duration::from_millis(1),
        factor: 1.0,
        cap: Duration::from_millis(1),
        max_attempts: 2,
    };
    Handler::new("needy", move |_: Context, _: serde_json::Value| {
        let answer = if is_back.load(Ordering::SeqCst) {
            Ok(Success::new())
        } else {
            Err(Failure::Unavailable("refused".into()))
        };
        async move { answer }
    })
    .retry(retry)
}

async fn attempt_and_epoch(lab: &Lab, id: Uuid) -> (i16, i32) {
    sqlx::query_as("SELECT attempt, epoch FROM millstream.job WHERE id = $1")
        .bind(id)
        .fetch_one(&lab.pool)
        .await
        .unwrap()
}

/// Waits for so many more hand-outs, none of which may count.
async fn is_tried_for_free(lab: &Lab, id: Uuid, hand_outs: i32) {
    let (_, begin) = attempt_and_epoch(lab, id).await;
    eventually("it is tried again and again", async || {
        let (attempt, epoch) = attempt_and_epoch(lab, id).await;
        assert_eq!(
            (attempt, lab.count("dead").await),
            (0, 0),
            "an outage has used up an attempt"
        );
        (epoch >= begin + hand_outs).then_some(())
    })
    .await;
}

// C2: how long it has waited for its turn says nothing about the server
#[tokio::test]
async fn a_job_that_was_enqueued_days_ago_loses_no_attempt_to_an_outage() {
    let lab = Lab::new().await;
    let is_back = Arc::new(AtomicBool::new(false));
    let _worker = lab.worker_with(vec![needy(&is_back)]).await;
    let mut job = NewJob::new("needy", "1");
    job.max_attempts = Some(1);
    job.run_at = Some(millstream_common::clock::now() + chrono::Duration::days(1));
    let id = lab.producer().enqueue(job).await.unwrap().id;
    sqlx::query(
        "UPDATE millstream.job SET enqueued_at = now() - interval '3 days', ready_at = now()",
    )
    .execute(&lab.pool)
    .await
    .unwrap();
    is_tried_for_free(&lab, id, 2).await;
    is_back.store(true, Ordering::SeqCst);
    lab.await_state(id, "completed").await;
}

// C2: a day of nothing else is a wrong address, and a redrive begins anew
#[tokio::test]
async fn an_outage_is_counted_from_the_first_failure_that_was_one() {
    let lab = Lab::new().await;
    let is_back = Arc::new(AtomicBool::new(false));
    let _worker = lab.worker_with(vec![needy(&is_back)]).await;
    let id = lab
        .producer()
        .enqueue(NewJob::new("needy", "1"))
        .await
        .unwrap()
        .id;
    is_tried_for_free(&lab, id, 2).await;
    sqlx::query("UPDATE millstream.job_error SET at = at - interval '25 hours'")
        .execute(&lab.pool)
        .await
        .unwrap();
    lab.await_state(id, "dead").await;
    let counted =
        "SELECT count(*) FROM millstream.job_error WHERE class = 'unavailable' AND attempt > 0";
    assert_eq!(
        (
            attempt_and_epoch(&lab, id).await.0,
            lab.number(counted).await
        ),
        (2, 2),
        "every attempt was used"
    );
    sqlx::query("SELECT millstream.retry_now(ARRAY[$1], 'test')")
        .bind(id)
        .execute(&lab.pool)
        .await
        .unwrap();
    is_tried_for_free(&lab, id, 3).await;
    // An answer of the server ends the outage: what came before it does not count.
    let answered = "UPDATE millstream.job_error SET at = at - interval '25 hours', class = 'rate_limited' WHERE attempt = 0";
    sqlx::query(answered).execute(&lab.pool).await.unwrap();
    is_tried_for_free(&lab, id, 2).await;
    is_back.store(true, Ordering::SeqCst);
    lab.await_state(id, "completed").await;
}

// C2, F46
#[tokio::test]
async fn a_worker_whose_clock_is_days_ahead_takes_no_outage_for_a_wrong_address() {
    let lab = Lab::new().await;
    let mut clock = Clock::new().unwrap();
    // A port that was ours a moment ago: nobody listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut env = clock.env();
    env.push(("MILLSTREAM_HTTP__ALLOW".to_owned(), address.to_string()));
    let _worker = Process::start_in(&lab.config, &["worker"], &env);
    lab.await_workers(1).await;
    clock.step(3 * 24 * 3_600);
    let mut job = NewJob::new("http", format!(r#"{{"url": "http://{address}/"}}"#));
    job.max_attempts = Some(1);
    let id = lab.producer().enqueue(job).await.unwrap().id;
    is_tried_for_free(&lab, id, 2).await;
}
