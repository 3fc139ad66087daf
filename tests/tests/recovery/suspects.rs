//! What it costs to have been there at a crash: the wait of a watched job, the term of a suspect, the workers that are closed for it (F15).

use std::sync::{Arc, Mutex, mpsc};

use millstream_producer::Producer;
use millstream_tests::{Lab, Process, ask::send, eventually, supervise::supervise};
use millstream_worker::Handler;
use tokio::sync::watch;
use uuid::Uuid;

const ALONE: &str = "SELECT count(*) FROM millstream.lease WHERE isolated";
/// One of them may be kept by a suspect that waits.
const SLOTS: usize = 4;
const STARTED: &str = "SELECT count(*) FROM millstream.lease WHERE started";

async fn pause(lab: &Lab, is_paused: bool) {
    sqlx::query("UPDATE millstream.queue SET paused = $1")
        .bind(is_paused)
        .execute(&lab.pool)
        .await
        .expect("the queues");
}

/// A job that looks as if it had been there at crashes, before anybody could claim it.
async fn blamed(lab: &Lab, producer: &Producer, kind: &str, payload: &str, crashes: i16) -> Uuid {
    pause(lab, true).await;
    let id = send(producer, kind, payload, 1).await[0];
    sqlx::query("UPDATE millstream.job SET crash_count = $2 WHERE id = $1")
        .bind(id)
        .bind(crashes)
        .execute(&lab.pool)
        .await
        .unwrap();
    pause(lab, false).await;
    id
}

async fn crash_count(lab: &Lab, id: Uuid) -> i16 {
    sqlx::query_scalar("SELECT crash_count FROM millstream.job WHERE id = $1")
        .bind(id)
        .fetch_one(&lab.pool)
        .await
        .expect("a count")
}

/// Takes a thread of its worker, until the sender is dropped.
fn blocking(kind: &str) -> (Handler, mpsc::Sender<()>) {
    let (gate, opened) = mpsc::channel();
    let opened = Arc::new(Mutex::new(opened));
    let handler = Handler::new(
        kind,
        move |_: millstream_worker::Context, _: serde_json::Value| {
            let opened = opened.clone();
            async move {
                // Its future never yields: that is the point.
                let _ = opened.lock().expect("no handler panics here").recv();
                Ok(millstream_worker::Success::new())
            }
        },
    );
    (handler, gate)
}

/// Waits at a gate that is closed until the sender opens it.
fn gated() -> (Handler, watch::Sender<bool>) {
    let (gate, is_open) = watch::channel(false);
    let handler = Handler::new(
        "gated",
        move |_: millstream_worker::Context, _: serde_json::Value| {
            let mut is_open = is_open.clone();
            async move {
                is_open
                    .wait_for(|is_open| *is_open)
                    .await
                    .map_err(|e| millstream_worker::Failure::retry(e.to_string()))?;
                Ok(millstream_worker::Success::new())
            }
        },
    );
    (handler, gate)
}

// F15, I6: hundreds are in hand when it kills, and nobody knows at first which of them had started
#[tokio::test]
async fn a_killer_among_hundreds_of_quick_jobs_kills_three_workers_and_makes_few_suspects() {
    let mut lab = Lab::new().await;
    lab.config.worker.kinds = vec!["echo".into()];
    // It keeps house and runs none of these.
    let _keeper = lab.worker().await;
    lab.config.worker.kinds.clear();
    lab.config.diagnostics = true;
    let start = || Process::start(&lab, &["worker", "--concurrency", "8"]);
    let mut workers = [start()];
    lab.await_workers(2).await;
    let producer = lab.producer();
    pause(&lab, true).await;
    send(&producer, "noop", "1", 100).await;
    let killer = send(&producer, "crash", r#"{"how":"abort"}"#, 1).await[0];
    send(&producer, "noop", "1", 100).await;
    pause(&lab, false).await;
    let over = async || lab.state(killer).await == "dead" && lab.count("completed").await == 200;
    assert_eq!(supervise(&mut workers, start, over).await, 3);
    let suspects = lab
        .number("SELECT count(*) FROM millstream.job WHERE state = 2 AND crash_count >= 2")
        .await;
    assert!(
        suspects < 50,
        "{suspects} of 200 neighbours became suspects"
    );
    // What was not counted is no evidence later: nothing stands there of how long it ran.
    let told = "SELECT count(*) FROM millstream.job j WHERE crash_count <>
                (SELECT count(ran_ms) FROM millstream.job_error e WHERE e.job_id = j.id AND e.class = 'crash')";
    assert_eq!(lab.number(told).await, 0);
    lab.await_drained("default").await;
}

// F15
#[tokio::test]
async fn a_job_that_was_there_at_a_crash_says_in_its_lease_that_it_starts() {
    let lab = Lab::new().await;
    let _worker = lab.worker().await;
    let producer = lab.producer();
    send(&producer, "sleep", r#"{"ms":3000}"#, 1).await;
    blamed(&lab, &producer, "sleep", r#"{"ms":3000}"#, 1).await;
    lab.await_number(STARTED, 1).await;
    assert_eq!(lab.number(ALONE).await, 0, "one crash makes no suspect");
    lab.await_all_completed(2).await;
    assert_eq!(
        lab.number(
            "SELECT crash_count::bigint FROM millstream.job ORDER BY crash_count DESC LIMIT 1"
        )
        .await,
        1
    );
}

// rule 45: the term ends although the handler never yields
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_suspect_that_blocks_its_thread_gives_its_worker_back_after_its_term() {
    let lab = Lab::new().await;
    let (handler, gate) = blocking("blocking");
    let worker = lab.worker_with(vec![handler]).await;
    let is_closed = || {
        worker
            .health()
            .metrics()
            .contains("\nmillstream_worker_closed 1\n")
    };
    let producer = lab.producer();
    let suspect = blamed(&lab, &producer, "blocking", "1", 2).await;
    lab.await_number(ALONE, 1).await;
    assert!(is_closed());
    assert_eq!(lab.number(STARTED).await, 1);
    send(&producer, "noop", "1", 50).await;
    lab.await_count("completed", 50).await;
    assert_eq!(lab.number(ALONE).await, 0, "the mark is gone");
    assert_eq!(lab.state(suspect).await, "running");
    assert_eq!(crash_count(&lab, suspect).await, 1, "one crash is forgiven");
    eventually("the worker is open", async || (!is_closed()).then_some(())).await;
    drop(gate);
    lab.await_all_completed(51).await;
}

// rule 45: workers that could not run these jobs anyway keep nothing flowing
#[tokio::test]
async fn suspects_of_a_queue_leave_half_of_its_own_workers_to_others() {
    let mut lab = Lab::new().await;
    let mut workers = Vec::new();
    for queue in ["default", "default", "documents", "documents", "documents"] {
        lab.config.worker.queues = vec![queue.into()];
        workers.push(lab.worker().await);
    }
    let producer = lab.producer();
    blamed(&lab, &producer, "sleep", r#"{"ms":3500}"#, 2).await;
    lab.await_number(ALONE, 1).await;
    // For the other worker: that of the first is closed.
    blamed(&lab, &producer, "sleep", r#"{"ms":1000}"#, 2).await;
    let mut at_once_max = 0;
    eventually("both have run", async || {
        at_once_max = lab.number(ALONE).await.max(at_once_max);
        (lab.count("completed").await == 2).then_some(())
    })
    .await;
    assert_eq!(at_once_max, 1, "suspects that were alone at the same time");
}

// rule 45: what was there at a crash may be a killer and is waited for, but not by those who have nothing to do with it
#[tokio::test]
async fn a_worker_whose_suspect_waits_for_a_watched_neighbour_is_open() {
    let lab = Lab::new().await;
    let (handler, gate) = gated();
    let worker = lab.worker_with(vec![handler]).await;
    let producer = lab.producer();
    let watched = blamed(&lab, &producer, "gated", "1", 1).await;
    lab.await_number(STARTED, 1).await;
    let suspect = blamed(&lab, &producer, "noop", "1", 2).await;
    eventually("the suspect has run", async || {
        let is_closed = worker.health().metrics().contains("\nmillstream_worker_closed 1\n");
        // Asked after the worker, so load only makes it look older.
        let age_ms =
            lab.number("SELECT (extract(epoch FROM now() - min(leased_at)) * 1000)::bigint FROM millstream.lease WHERE started").await;
        assert!(!is_closed || age_ms >= 3_000, "closed for a neighbour that runs for {age_ms} ms");
        (lab.state(suspect).await == "completed").then_some(())
    })
    .await;
    assert_eq!(lab.state(watched).await, "running");
    gate.send_replace(true);
    lab.await_all_completed(2).await;
}

// rule 45: with all slots taken it cannot run, so it is not alone yet, and nothing is forgiven
#[tokio::test]
async fn the_term_of_a_suspect_begins_when_it_has_a_slot() {
    let mut lab = Lab::new().await;
    lab.config.worker.concurrency = SLOTS;
    let (handler, gate) = gated();
    let _worker = lab.worker_with(vec![handler]).await;
    let producer = lab.producer();
    // Known to be quick: more of them are taken in hand than there are slots.
    gate.send_replace(true);
    send(&producer, "gated", "1", 50).await;
    lab.await_all_completed(50).await;
    gate.send_replace(false);
    send(&producer, "gated", "1", SLOTS).await;
    lab.await_number("SELECT count(*) FROM millstream.lease", SLOTS as i64)
        .await;
    let suspect = blamed(&lab, &producer, "gated", "1", 2).await;
    // Another worker might have a slot: it is given back.
    lab.await_number(
        "SELECT epoch::bigint FROM millstream.job WHERE crash_count > 0",
        1,
    )
    .await;
    assert_eq!(lab.number(ALONE).await, 0);
    assert_eq!(crash_count(&lab, suspect).await, 2);
    gate.send_replace(true);
    lab.await_all_completed(50 + SLOTS as i64 + 1).await;
}
