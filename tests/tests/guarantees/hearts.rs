//! Beats and leases: cheap, compared with what really runs, and judged one by one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use millstream_common::job::NewJob;
use millstream_tests::{Lab, Starts, ask::send, eventually};
use millstream_worker::{Handler, Success};
use tokio_util::sync::CancellationToken;

/// A worker by its rows, without a process.
async fn fake_worker(lab: &Lab, name: &str) -> i64 {
    sqlx::query_scalar(
        "WITH w AS (INSERT INTO millstream.worker (name, host, pid, version, queues, kinds, slots, state, lease_ms)
           VALUES ($1, 'nowhere', 0, '0', '{1}', '{1}', 8, 'active', 2000) RETURNING id)
         INSERT INTO millstream.worker_beat (worker_id) SELECT id FROM w RETURNING worker_id",
    )
    .bind(name)
    .fetch_one(&lab.pool)
    .await
    .unwrap()
}

/// Turns all available jobs into running ones of this worker, with leases.
async fn lease_all(lab: &Lab, worker: i64) {
    let leased =
        "WITH taken AS (UPDATE millstream.job SET state = 1, worker_id = $1, started_at = now() WHERE state = 0 RETURNING id, epoch),
                    gone AS (DELETE FROM millstream.parcel)
                  INSERT INTO millstream.lease (job_id, epoch, worker_id) SELECT id, epoch, $1 FROM taken";
    sqlx::query(leased)
        .bind(worker)
        .execute(&lab.pool)
        .await
        .unwrap();
}

// rule 40
#[tokio::test]
async fn a_lease_that_no_run_here_knows_is_handed_back() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    send(&producer, "noop", "1", 3).await;
    let worker_to_be = fake_worker(&lab, "nobody").await;
    lease_all(&lab, worker_to_be).await;
    let worker = lab.worker().await;
    // As if the answer to its lease statement had been lost.
    sqlx::query("UPDATE millstream.lease SET worker_id = $1")
        .bind(worker.id())
        .execute(&lab.pool)
        .await
        .unwrap();
    lab.await_all_completed(3).await;
    assert_eq!(
        lab.number("SELECT max(crash_count)::bigint FROM millstream.job")
            .await,
        0,
        "a lost answer is nobody's crash"
    );
}

// rule 40: a lease that was being written while its job was handed out again
#[tokio::test]
async fn a_lease_of_an_earlier_hand_out_stops_nobody_and_goes() {
    let lab = Lab::new().await;
    let worker = lab.worker().await;
    let job = NewJob::new("sleep", r#"{"ms":600}"#);
    let stale = "INSERT INTO millstream.lease (job_id, epoch, worker_id) VALUES ($1, $2, $3)";
    sqlx::query(stale)
        .bind(job.id)
        .bind(-1)
        .bind(0_i64)
        .execute(&lab.pool)
        .await
        .unwrap();
    lab.producer().enqueue(job.clone()).await.unwrap();
    lab.await_all_completed(1).await;
    assert_eq!(
        lab.number("SELECT epoch::bigint FROM millstream.job").await,
        0,
        "it was leased at once, over the old one"
    );
    assert_eq!(lab.number("SELECT count(*) FROM millstream.lease").await, 0);
    sqlx::query(stale)
        .bind(job.id)
        .bind(0)
        .bind(worker.id())
        .execute(&lab.pool)
        .await
        .unwrap();
    eventually("what binds nobody is forgotten", async || {
        (lab.number("SELECT count(*) FROM millstream.lease").await == 0).then_some(())
    })
    .await;
}

// rule 40
#[tokio::test]
async fn a_handler_over_its_deadline_ends_and_the_slot_is_free() {
    let mut lab = Lab::new().await;
    lab.config.worker.concurrency = 1;
    let endless = Handler::new(
        "endless",
        |_: millstream_worker::Context, _: serde_json::Value| async {
            std::future::pending::<()>().await;
            Ok(Success::new())
        },
    );
    let _worker = lab
        .worker_with(vec![endless.timeout(Duration::from_millis(300))])
        .await;
    let producer = lab.producer();
    let endless = send(&producer, "endless", "1", 1).await[0];
    lab.await_state(endless, "retryable").await;
    let next = send(&producer, "noop", "1", 1).await[0];
    lab.await_state(next, "completed").await;
}

// rule 41
#[tokio::test]
async fn a_beat_is_a_hot_update_of_one_narrow_row() {
    let lab = Lab::new().await;
    let _workers = (lab.worker().await, lab.worker().await);
    lab.await_number("SELECT min(beat) FROM millstream.worker_beat", 40)
        .await;
    let statistics = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE schemaname = 'millstream' AND relname = 'worker_beat'";
    lab.await_number(statistics, 60).await;
    let hot = "SELECT (100 * n_tup_hot_upd / n_tup_upd) FROM pg_stat_user_tables WHERE schemaname = 'millstream' AND relname = 'worker_beat'";
    assert!(lab.number(hot).await >= 95);
    assert!(
        lab.number("SELECT pg_relation_size('millstream.worker_beat')")
            .await
            <= 16 * 8192,
        "and it stays small"
    );
}

// rule 47
#[tokio::test]
async fn ten_thousand_leases_of_a_living_worker_do_not_hide_one_of_a_dead_worker() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    let (living, dead) = (
        fake_worker(&lab, "living").await,
        fake_worker(&lab, "dead").await,
    );
    for _ in 0..20 {
        send(&producer, "noop", "1", 500).await;
    }
    lease_all(&lab, living).await;
    let lost = send(&producer, "noop", "2", 1).await[0];
    lease_all(&lab, dead).await;
    let (pool, stop) = (lab.pool.clone(), CancellationToken::new());
    let (beating, stopped) = (pool.clone(), stop.clone());
    let heart = tokio::spawn(async move {
        while !stopped.is_cancelled() {
            let beat = sqlx::query(
                "UPDATE millstream.worker_beat SET beat = beat + 1 WHERE worker_id = $1",
            )
            .bind(living);
            beat.execute(&beating).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let _worker = lab.worker().await;
    lab.await_state(lost, "completed").await;
    assert_eq!(
        lab.count("running").await,
        10_000,
        "the living one keeps what it has"
    );
    stop.cancel();
    heart.await.unwrap();
}

// rule 48
#[tokio::test]
async fn leases_that_lead_nowhere_do_not_hold_up_the_rescue_of_others() {
    let lab = Lab::new().await;
    let dead = fake_worker(&lab, "dead").await;
    let odd = send(&lab.producer(), "noop", "1", 3).await;
    let producer = lab.producer();
    send(&producer, "noop", "1", 10).await;
    lease_all(&lab, dead).await;
    let oddities = [
        // A job that is gone with its partition, one that has ended, one that somebody else was given.
        "DELETE FROM millstream.job WHERE id = $1",
        "UPDATE millstream.job SET state = 2, attempt = 1, finished_at = now() WHERE id = $1",
        "UPDATE millstream.job SET epoch = epoch + 5 WHERE id = $1",
    ];
    for (oddity, id) in oddities.into_iter().zip(&odd) {
        sqlx::query(oddity)
            .bind(id)
            .execute(&lab.pool)
            .await
            .unwrap();
    }
    let _worker = lab.worker().await;
    lab.await_count("completed", 11).await;
    eventually("no lease is left", async || {
        (lab.number("SELECT count(*) FROM millstream.lease").await == 0).then_some(())
    })
    .await;
    lab.await_number(
        "SELECT count(*) FROM millstream.worker WHERE state = 'lost'",
        1,
    )
    .await;
}

// rule 53
#[tokio::test]
async fn a_drain_ends_although_a_handler_blocks_its_thread_and_the_job_runs_elsewhere() {
    let mut lab = Lab::new().await;
    lab.config.worker.grace_ms = 1_000;
    let (lab, again) = (Arc::new(lab), Arc::new(AtomicBool::new(false)));
    let stuck = move |again: Arc<AtomicBool>| {
        Handler::new(
            "stuck",
            move |_: millstream_worker::Context, _: serde_json::Value| {
                let again = again.clone();
                async move {
                    if !again.swap(true, Ordering::SeqCst) {
                        // Deaf to any cancellation, and longer than any test.
                        std::thread::sleep(Duration::from_hours(1));
                    }
                    Ok(Success::new())
                }
            },
        )
    };
    let (handler, of_thread) = (stuck(again.clone()), lab.clone());
    let (drain, told) = std::sync::mpsc::channel::<()>();
    // A runtime of its own, as the command has: its end does not wait for what cannot be ended.
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(3)
            .enable_all()
            .build()
            .unwrap();
        let worker = runtime.block_on(of_thread.worker_with(vec![handler]));
        told.recv().unwrap();
        runtime.block_on(worker.drain(CancellationToken::new()));
        runtime.shutdown_timeout(Duration::from_secs(1));
    });
    lab.await_workers(1).await;
    let id = send(&lab.producer(), "stuck", "1", 1).await[0];
    eventually("it is stuck", async || {
        again.load(Ordering::SeqCst).then_some(())
    })
    .await;
    drain.send(()).unwrap();
    eventually("the drain ends", async || {
        thread.is_finished().then_some(())
    })
    .await;
    let _other = lab.worker_with(vec![stuck(again)]).await;
    lab.await_state(id, "completed").await;
}

// rule 17, 42: nobody's patience with a job is what finds its worker dead
#[tokio::test]
async fn a_job_that_may_run_for_hours_is_handed_out_soon_after_its_worker_died() {
    let lab = Lab::new().await;
    let (starts, gate) = (Starts::default(), CancellationToken::new());
    let dead = fake_worker(&lab, "dead").await;
    let producer = lab.producer();
    producer
        .parts()
        .catalog
        .announce_kinds(&[("gated", 3)])
        .await
        .unwrap();
    let id = send(&producer, "gated", "1", 1).await[0];
    lease_all(&lab, dead).await;
    let _worker = lab
        .worker_with(vec![
            starts
                .gated("gated", &gate)
                .timeout(Duration::from_hours(6)),
        ])
        .await;
    eventually("it runs again", async || (starts.of(id) == 1).then_some(())).await;
    gate.cancel();
    lab.await_state(id, "completed").await;
    assert_eq!(
        lab.number("SELECT max(crash_count)::bigint FROM millstream.job")
            .await,
        1
    );
}
