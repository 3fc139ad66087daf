//! Wall clocks that jump by an hour, of either server or of one worker, while jobs run: nobody decides by them who has a job.

use millstream_local::{Durability, ServerEnv};
use millstream_tests::{Clock, Lab, Process, Starts, ask::send, eventually};
use tokio_util::sync::CancellationToken;

const HOUR_S: i64 = 3_600;

/// Two workers have short jobs and leased ones under way while a clock goes an hour forward and two hours back.
async fn survives_steps(lab: &Lab, clock: &mut Clock) {
    let (starts, gate) = (Starts::default(), CancellationToken::new());
    let handlers = || vec![starts.timed("timed"), starts.gated("gated", &gate)];
    let (_one, _two) = (
        lab.worker_with(handlers()).await,
        lab.worker_with(handlers()).await,
    );
    let producer = lab.producer();
    send(&producer, "gated", "1", 6).await;
    lab.await_number("SELECT count(*) FROM millstream.lease", 6)
        .await;
    let mut jobs = 6;
    for step in [HOUR_S, -2 * HOUR_S, HOUR_S] {
        send(&producer, "timed", "20", 100).await;
        eventually("work is under way", async || {
            (starts.jobs() > jobs + 5).then_some(())
        })
        .await;
        clock.step(step);
        send(&producer, "timed", "20", 50).await;
        jobs += 150;
        eventually("all of it is done", async || {
            (lab.count("completed").await == jobs as i64 - 6).then_some(())
        })
        .await;
    }
    gate.cancel();
    lab.await_all_completed(jobs as i64).await;
    assert_eq!((starts.repeated(), starts.jobs()), (Vec::new(), jobs));
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.worker WHERE state = 'active'")
            .await,
        2,
        "nobody was taken for dead"
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE crash_count > 0")
            .await,
        0
    );
}

// F44, rule 19
#[tokio::test]
async fn a_clock_of_redis_that_jumps_changes_nothing() {
    let mut clock = Clock::new().unwrap();
    let env = ServerEnv {
        redis: clock.env(),
        ..ServerEnv::default()
    };
    let lab = Lab::private_with(Durability::None, env).await;
    survives_steps(&lab, &mut clock).await;
}

// F45
#[tokio::test]
async fn a_clock_of_postgres_that_jumps_rescues_nobody() {
    let mut clock = Clock::new().unwrap();
    let env = ServerEnv {
        postgres: clock.env(),
        ..ServerEnv::default()
    };
    let lab = Lab::private_with(Durability::None, env).await;
    survives_steps(&lab, &mut clock).await;
}

// F45: a promise from what is now the future is older than it looks
#[tokio::test]
async fn what_redis_loses_is_found_although_the_clock_of_postgres_went_back() {
    let mut clock = Clock::new().unwrap();
    let env = ServerEnv {
        postgres: clock.env(),
        ..ServerEnv::default()
    };
    let mut lab = Lab::private_with(Durability::None, env).await;
    let producer = lab.producer();
    send(&producer, "noop", "1", 50).await;
    eventually("the jobs are published", async || {
        (!lab.entries().await.is_empty()).then_some(())
    })
    .await;
    clock.step(-HOUR_S);
    lab.command::<String>(&["FLUSHALL"]).await;
    let _worker = lab.worker().await;
    lab.await_all_completed(50).await;
    // And the same without Redis, straight from the parcels.
    lab.harm(millstream_local::LocalServices::stop_redis).await;
    lab.config.worker.name = "second".into();
    clock.step(HOUR_S);
    sqlx::query("UPDATE millstream.queue SET paused = true")
        .execute(&lab.pool)
        .await
        .unwrap();
    send(&producer, "noop", "1", 50).await;
    sqlx::query("UPDATE millstream.parcel SET publishing_since = now()")
        .execute(&lab.pool)
        .await
        .unwrap();
    clock.step(-HOUR_S);
    sqlx::query("UPDATE millstream.queue SET paused = false")
        .execute(&lab.pool)
        .await
        .unwrap();
    lab.await_count("completed", 100).await;
}

// F46
#[tokio::test]
async fn a_clock_of_a_worker_that_jumps_changes_nothing() {
    let lab = Lab::new().await;
    let mut clock = Clock::new().unwrap();
    let _jumps = Process::start_in(&lab.config, &["worker", "--concurrency", "4"], &clock.env());
    let _neighbour = Process::start(&lab, &["worker", "--concurrency", "4"]);
    lab.await_workers(2).await;
    let producer = lab.producer();
    let mut jobs = 0;
    for step in [HOUR_S, -2 * HOUR_S] {
        send(&producer, "sleep", r#"{"ms":2500}"#, 6).await;
        send(&producer, "sleep", r#"{"ms":20}"#, 60).await;
        send(&producer, "fail", r#"{"times":1}"#, 4).await;
        jobs += 70;
        lab.await_number("SELECT count(*) FROM millstream.lease", 2)
            .await;
        clock.step(step);
        lab.await_count("completed", jobs).await;
    }
    lab.await_drained("default").await;
    let again = "SELECT count(*) FROM millstream.job_view WHERE attempt <> CASE WHEN kind = 'fail' THEN 2 ELSE 1 END OR crash_count > 0";
    assert_eq!(lab.number(again).await, 0);
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.worker WHERE state = 'active'")
            .await,
        2,
        "nobody was taken for dead"
    );
}
