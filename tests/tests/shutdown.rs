//! How a worker process ends when it is told to (F17).

use millstream_common::stream::GROUP;
use millstream_tests::{Lab, Process, ask::send, eventually};
use rustix::process::Signal;

/// A worker with these jobs running, all leased.
async fn busy_worker(lab: &Lab, payload: &str, jobs: usize) -> (Process, i64) {
    let process = Process::start(lab, &["worker", "--concurrency", "8"]);
    let id = lab.worker_of(&process).await;
    send(&lab.producer(), "sleep", payload, jobs).await;
    eventually("all are leased", async || {
        let leases = lab.number("SELECT count(*) FROM millstream.lease").await;
        (leases == jobs as i64).then_some(())
    })
    .await;
    (process, id)
}

async fn state_of(lab: &Lab, worker: i64) -> String {
    sqlx::query_scalar("SELECT state FROM millstream.worker WHERE id = $1")
        .bind(worker)
        .fetch_one(&lab.pool)
        .await
        .unwrap()
}

/// Its row says so, nothing is leased to it, and no stream knows its consumer.
async fn assert_gone(lab: &Lab, worker: i64) {
    assert_eq!(state_of(lab, worker).await, "stopped");
    assert_eq!(lab.number("SELECT count(*) FROM millstream.lease").await, 0);
    let consumers: redis::streams::StreamInfoConsumersReply = lab
        .command(&["XINFO", "CONSUMERS", &lab.work_stream(), GROUP])
        .await;
    assert!(
        consumers
            .consumers
            .iter()
            .all(|c| c.name != format!("w{worker}")),
        "its consumer is still there"
    );
}

/// The jobs are back as if they had never been started.
async fn assert_handed_back(lab: &Lab, jobs: i64) {
    let unharmed = "SELECT count(*) FROM millstream.job WHERE state = 0 AND attempt = 0 AND crash_count = 0 AND epoch = 1";
    assert_eq!(lab.number(unharmed).await, jobs);
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job_error")
            .await,
        0
    );
}

// F17
#[tokio::test]
async fn what_ends_within_the_grace_period_is_finished() {
    let mut lab = Lab::new().await;
    lab.config.worker.grace_ms = 50_000;
    let (mut worker, id) = busy_worker(&lab, r#"{"ms":3000}"#, 6).await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.exit_code().await, Some(0));
    lab.await_all_completed(6).await;
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE epoch > 0")
            .await,
        0,
        "none was handed back"
    );
    assert_gone(&lab, id).await;
}

// F17
#[tokio::test]
async fn what_outlasts_the_grace_period_is_handed_back_at_no_cost() {
    let mut lab = Lab::new().await;
    lab.config.worker.grace_ms = 300;
    let (mut worker, id) = busy_worker(&lab, r#"{"ms":600000}"#, 5).await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.exit_code().await, Some(0));
    assert_handed_back(&lab, 5).await;
    assert_gone(&lab, id).await;
    let next = lab.worker().await;
    eventually("another worker has them", async || {
        let taken: i64 =
            sqlx::query_scalar("SELECT count(*) FROM millstream.lease WHERE worker_id = $1")
                .bind(next.id())
                .fetch_one(&lab.pool)
                .await
                .unwrap();
        (taken == 5).then_some(())
    })
    .await;
}

// F17
#[tokio::test]
async fn a_second_signal_cuts_the_grace_period_short() {
    let mut lab = Lab::new().await;
    lab.config.worker.grace_ms = 3_600_000;
    let (mut worker, id) = busy_worker(&lab, r#"{"ms":600000}"#, 3).await;
    worker.signal(Signal::TERM);
    eventually("it drains", async || {
        (state_of(&lab, id).await == "draining").then_some(())
    })
    .await;
    assert!(!worker.has_ended(), "it waits for what runs");
    worker.signal(Signal::INT);
    assert_eq!(worker.exit_code().await, Some(0));
    assert_handed_back(&lab, 3).await;
    assert_gone(&lab, id).await;
}

// F17
#[tokio::test]
async fn a_draining_worker_takes_nothing_new() {
    let mut lab = Lab::new().await;
    lab.config.worker.grace_ms = 3_600_000;
    let (mut worker, id) = busy_worker(&lab, r#"{"ms":600000}"#, 1).await;
    worker.signal(Signal::TERM);
    eventually("it drains", async || {
        (state_of(&lab, id).await == "draining").then_some(())
    })
    .await;
    let late = send(&lab.producer(), "noop", "1", 50).await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.exit_code().await, Some(0));
    assert_eq!(lab.count("completed").await, 0);
    let _next = lab.worker().await;
    for id in late {
        lab.await_state(id, "completed").await;
    }
}

// F17, F32: told by the fleet instead of by a signal
#[tokio::test]
async fn a_worker_that_is_told_to_drain_ends_in_order() {
    let mut lab = Lab::new().await;
    lab.config.worker.grace_ms = 50_000;
    let (mut worker, id) = busy_worker(&lab, r#"{"ms":1500}"#, 4).await;
    sqlx::query("UPDATE millstream.worker SET state = 'draining' WHERE id = $1")
        .bind(id)
        .execute(&lab.pool)
        .await
        .unwrap();
    assert_eq!(worker.exit_code().await, Some(0));
    lab.await_all_completed(4).await;
    assert_gone(&lab, id).await;
}

// F17: at whatever moment of the start the signal comes, no worker is left behind that is not there
#[tokio::test]
async fn a_signal_during_the_start_leaves_no_worker_behind() {
    let lab = Lab::new().await;
    for looks in [0, 1, 2, 4, 8, 16, 32, 64, 128] {
        let mut worker = Process::start(&lab, &["worker"]);
        for _ in 0..looks {
            // Any statement will do: it moves the signal a little later each time.
            lab.count("available").await;
        }
        worker.signal(Signal::TERM);
        let code = worker.exit_code().await;
        assert!(matches!(code, Some(0) | None), "{code:?}");
    }
    let mut worker = Process::start(&lab, &["worker"]);
    lab.worker_of(&worker).await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.exit_code().await, Some(0));
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.worker WHERE state <> 'stopped'")
            .await,
        0
    );
}

// F16, F17: names do not pile up
#[tokio::test]
async fn a_worker_that_is_restarted_again_and_again_leaves_no_consumer() {
    let lab = Lab::new().await;
    for _ in 0..5 {
        let mut worker = Process::start(&lab, &["worker", "--name", "again"]);
        let id = lab.worker_of(&worker).await;
        let job = send(&lab.producer(), "noop", "1", 1).await[0];
        lab.await_state(job, "completed").await;
        worker.signal(Signal::TERM);
        assert_eq!(worker.exit_code().await, Some(0));
        assert_gone(&lab, id).await;
    }
    let consumers: redis::streams::StreamInfoConsumersReply = lab
        .command(&["XINFO", "CONSUMERS", &lab.work_stream(), GROUP])
        .await;
    assert!(
        consumers.consumers.is_empty(),
        "{} consumers are left",
        consumers.consumers.len()
    );
}
