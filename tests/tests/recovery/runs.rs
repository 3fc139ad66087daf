//! Runs that are long, greedy, cancelled, held back or not for everybody.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use millstream_tests::{Lab, Process, Starts, ask::send, eventually};
use millstream_worker::{Handler, Success};
use tokio_util::sync::CancellationToken;

/// Longer than three leases, shorter than anybody's patience.
const HOG: Duration = Duration::from_secs(7);

/// Waits for the gate, then computes without a pause: no other task of its thread turns.
fn hog(starts: &Starts, gate: &CancellationToken) -> Handler {
    let (starts, gate) = (starts.clone(), gate.clone());
    Handler::new(
        "hog",
        move |context: millstream_worker::Context, _: serde_json::Value| {
            starts.note(context.job_id);
            let gate = gate.clone();
            async move {
                gate.cancelled().await;
                let begin = Instant::now();
                while begin.elapsed() < HOG {
                    std::hint::black_box(begin);
                }
                Ok(Success::new())
            }
        },
    )
}

// F16: the heart beats on a thread of its own
#[tokio::test]
async fn a_handler_that_hogs_every_thread_does_not_make_its_worker_look_dead() {
    let lab = Arc::new(Lab::new().await);
    // It watches the beats of everybody, and reads nothing that these jobs go through.
    let _observer = Process::start(&lab, &["worker", "--queues", "documents"]);
    let (starts, gate) = (Starts::default(), CancellationToken::new());
    let (end, ended) = mpsc::channel::<()>();
    let (handler, of_thread) = (hog(&starts, &gate), lab.clone());
    // A runtime of its own, or the hogs would take this test's threads too.
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let worker = runtime.block_on(of_thread.worker_with(vec![handler]));
        let _ = ended.recv();
        runtime.block_on(worker.drain(CancellationToken::new()));
    });
    lab.await_workers(2).await;
    send(&lab.producer(), "hog", "1", 4).await;
    lab.await_number("SELECT count(*) FROM millstream.lease", 4)
        .await;
    gate.cancel();
    lab.await_all_completed(4).await;
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE epoch > 0 OR crash_count > 0")
            .await,
        0,
        "nobody took them over"
    );
    assert_eq!((starts.repeated(), starts.jobs()), (Vec::new(), 4));
    drop(end);
    thread.join().unwrap();
}

// F16
#[tokio::test]
async fn a_job_of_many_leases_runs_once_on_a_healthy_worker() {
    let lab = Lab::new().await;
    let starts = Starts::default();
    let (_one, _two) = (
        lab.worker_with(vec![starts.timed("timed")]).await,
        lab.worker_with(vec![starts.timed("timed")]).await,
    );
    let id = send(&lab.producer(), "timed", "11000", 1).await[0];
    lab.await_all_completed(1).await;
    assert_eq!(starts.of(id), 1);
    assert_eq!(
        lab.number("SELECT max(epoch)::bigint FROM millstream.job")
            .await,
        0
    );
}

// F8
#[tokio::test]
async fn a_job_of_an_unknown_kind_waits_for_a_worker_that_knows_it() {
    let mut lab = Lab::new().await;
    lab.config.worker.kinds = vec!["noop".into()];
    let _stranger = lab.worker().await;
    let producer = lab.producer();
    let id = send(&producer, "echo", "1", 1).await[0];
    eventually("it was put back", async || {
        (lab.number("SELECT max(epoch)::bigint FROM millstream.job")
            .await
            >= 1)
            .then_some(())
    })
    .await;
    let known = send(&producer, "noop", "1", 1).await[0];
    lab.await_state(known, "completed").await;
    assert_eq!(lab.state(id).await, "available");
    lab.config.worker.kinds = vec!["echo".into()];
    let _friend = lab.worker().await;
    lab.await_all_completed(2).await;
    assert_eq!(
        lab.number("SELECT max(crash_count)::bigint FROM millstream.job")
            .await,
        0,
        "putting back costs nothing"
    );
}

/// A job that was handed out thirty times, whatever for; how long it rests once it is put back again, in milliseconds.
async fn rest_after_thirty_hand_outs(lab: &Lab, version: i16) -> i64 {
    pause(lab, true).await;
    let mut job = millstream_producer::NewJob::new("echo", "1");
    job.version = version;
    lab.producer().enqueue(job).await.unwrap();
    let mut tx = lab.pool.begin().await.unwrap();
    sqlx::query("UPDATE millstream.job SET epoch = 30 WHERE state = 0")
        .execute(&mut *tx)
        .await
        .unwrap();
    sqlx::query("UPDATE millstream.parcel SET epochs = ARRAY[30]")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    pause(lab, false).await;
    eventually("it was put back", async || {
        (lab.number("SELECT max(epoch)::bigint FROM millstream.job")
            .await
            > 30)
            .then_some(())
    })
    .await;
    // Both times are of one transaction.
    lab.number(
        "SELECT (extract(epoch FROM not_before - enqueued_at) * 1000)::bigint FROM millstream.parcel WHERE epochs[1] > 30 ORDER BY id DESC LIMIT 1",
    )
    .await
}

// F8: isolated and rescued jobs have high epochs too
#[tokio::test]
async fn what_another_worker_knows_is_soon_offered_again_however_often_it_was_handed_out() {
    let mut lab = Lab::new().await;
    let gate = CancellationToken::new();
    lab.config.worker.concurrency = 1;
    lab.config.worker.kinds = vec!["gated".into(), "echo".into()];
    let _friend = lab
        .worker_with(vec![Starts::default().gated("gated", &gate)])
        .await;
    // The friend has no hand free: whoever reads the other one cannot run it.
    send(&lab.producer(), "gated", "1", 1).await;
    lab.await_number("SELECT count(*) FROM millstream.lease", 1)
        .await;
    lab.config.worker.kinds = vec!["noop".into()];
    let _stranger = lab.worker().await;
    let rest_ms = rest_after_thirty_hand_outs(&lab, 1).await;
    assert!(rest_ms <= 2_000, "it rests for {rest_ms} ms");
    gate.cancel();
    lab.await_all_completed(2).await;
}

// F8
#[tokio::test]
async fn versions_that_nobody_knows_keep_the_fleet_less_and_less_busy() {
    let lab = Lab::new().await;
    let _old = lab.worker().await;
    let rest_ms = rest_after_thirty_hand_outs(&lab, i16::MAX).await;
    assert!(rest_ms >= 60_000, "it rests for {rest_ms} ms");
}

// F8, rule 85: an old and a new program beside each other
#[tokio::test]
async fn a_job_of_a_newer_version_waits_for_a_worker_that_knows_it() {
    let lab = Lab::new().await;
    let (old, new) = (Starts::default(), Starts::default());
    let _old = lab.worker_with(vec![old.timed("timed")]).await;
    let producer = lab.producer();
    let job = |version: i16| {
        let mut job = millstream_producer::NewJob::new("timed", "1");
        job.version = version;
        job
    };
    let newer = producer.enqueue(job(2)).await.unwrap().id;
    eventually("it was put back", async || {
        (lab.number("SELECT max(epoch)::bigint FROM millstream.job")
            .await
            >= 2)
            .then_some(())
    })
    .await;
    let known = producer.enqueue(job(1)).await.unwrap().id;
    lab.await_state(known, "completed").await;
    assert_eq!(
        (lab.state(newer).await.as_str(), old.of(newer)),
        ("available", 0)
    );
    let _new = lab
        .worker_with(vec![new.timed("timed").versions_up_to(2)])
        .await;
    lab.await_all_completed(2).await;
    assert_eq!((old.of(newer), new.of(newer)), (0, 1));
    assert_eq!(
        lab.number("SELECT max(crash_count)::bigint FROM millstream.job")
            .await,
        0,
        "putting back costs nothing"
    );
}

async fn pause(lab: &Lab, paused: bool) {
    sqlx::query("UPDATE millstream.queue SET paused = $1 WHERE name = 'default'")
        .bind(paused)
        .execute(&lab.pool)
        .await
        .unwrap();
}

// F27
#[tokio::test]
async fn a_paused_queue_holds_its_jobs_until_it_is_resumed() {
    let lab = Lab::new().await;
    let _worker = lab.worker().await;
    let producer = lab.producer();
    pause(&lab, true).await;
    send(&producer, "noop", "1", 20).await;
    let mut elsewhere = millstream_producer::NewJob::new("noop", "1");
    elsewhere.queue = "documents".into();
    let elsewhere = producer.enqueue(elsewhere).await.unwrap().id;
    lab.await_state(elsewhere, "completed").await;
    assert_eq!(
        (
            lab.count("available").await,
            lab.stream_length("default").await
        ),
        (20, 0)
    );
    pause(&lab, false).await;
    lab.await_all_completed(21).await;
}

/// Sets its flag when it is dropped.
struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

async fn cancel(lab: &Lab, id: uuid::Uuid) {
    sqlx::query("SELECT millstream.cancel(ARRAY[$1::uuid], 'test')")
        .bind(id)
        .execute(&lab.pool)
        .await
        .unwrap();
}

// F6
#[tokio::test]
async fn a_cancelled_job_stays_cancelled_and_its_run_is_dropped() {
    let lab = Lab::new().await;
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = dropped.clone();
    let endless = Handler::new(
        "endless",
        move |_: millstream_worker::Context, _: serde_json::Value| {
            let flag = Flag(flag.clone());
            async move {
                std::future::pending::<()>().await;
                drop(flag);
                Ok(Success::new())
            }
        },
    );
    let producer = lab.producer();
    let waiting = send(&producer, "noop", "1", 1).await[0];
    cancel(&lab, waiting).await;
    let _worker = lab.worker_with(vec![endless]).await;
    let running = send(&lab.producer(), "endless", "1", 1).await[0];
    lab.await_state(running, "running").await;
    cancel(&lab, running).await;
    eventually("the run is dropped", async || {
        dropped.load(Ordering::SeqCst).then_some(())
    })
    .await;
    lab.await_drained("default").await;
    for id in [waiting, running] {
        assert_eq!(lab.state(id).await, "cancelled");
    }
    assert_eq!(
        lab.number("SELECT sum(attempt) FROM millstream.job").await,
        0
    );
    assert_eq!(lab.number("SELECT count(*) FROM millstream.lease").await, 0);
}
