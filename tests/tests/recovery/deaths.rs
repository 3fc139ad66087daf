//! Workers that die or freeze.

use millstream_common::{metrics::Metrics, stream::GROUP};
use millstream_local::Durability;
use millstream_tests::{Fault, Lab, Links, Process, Served, Starts, ask::send, eventually};
use millstream_worker::{Context, Failure, Handler, Parts, Worker};
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

const LEASES_OF: &str = "SELECT count(*) FROM millstream.lease WHERE worker_id = $1";

async fn leases_of(lab: &Lab, worker: i64) -> i64 {
    sqlx::query_scalar(LEASES_OF)
        .bind(worker)
        .fetch_one(&lab.pool)
        .await
        .unwrap()
}

// F15, F16: leased jobs
#[tokio::test]
async fn the_leased_jobs_of_a_killed_worker_complete_elsewhere() {
    let lab = Lab::new().await;
    let mut victim = Process::start(&lab, &["worker", "--concurrency", "6"]);
    let _other = Process::start(&lab, &["worker", "--concurrency", "6"]);
    lab.await_workers(2).await;
    let victim_id = lab.worker_of(&victim).await;
    send(&lab.producer(), "sleep", r#"{"ms":2000}"#, 16).await;
    eventually("the victim has leases", async || {
        (leases_of(&lab, victim_id).await >= 2).then_some(())
    })
    .await;
    victim.kill9();
    lab.await_all_completed(16).await;
    let told: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM millstream.job_error e JOIN millstream.job j ON j.id = e.job_id
         WHERE e.class = 'crash' AND e.worker_id = $1 AND e.message = format('worker %s died while it had this job', $1)
           AND j.epoch > e.epoch AND j.crash_count = 1 AND j.worker_id <> $1",
    )
    .bind(victim_id)
    .fetch_one(&lab.pool)
    .await
    .unwrap();
    assert!(told >= 1, "the history says whose death it was");
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job_error WHERE class <> 'crash'")
            .await,
        0
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.worker WHERE state = 'lost'")
            .await,
        1
    );
}

// F15, F16: jobs in their first 200 ms, which only the pending list knows of
#[tokio::test]
async fn the_unleased_jobs_of_a_killed_worker_complete_elsewhere() {
    let lab = Lab::new().await;
    let mut victim = Process::start(&lab, &["worker"]);
    let _other = Process::start(&lab, &["worker"]);
    lab.await_workers(2).await;
    let victim_id = lab.worker_of(&victim).await;
    let producer = lab.producer();
    send(&producer, "sleep", r#"{"ms":50}"#, 600).await;
    send(&producer, "noop", "1", 600).await;
    // Frozen first, so that what is pending stays pending until the end comes.
    eventually("the victim is stopped with entries pending", async || {
        victim.signal(Signal::STOP);
        let pending = lab.pending_with(victim_id).await;
        if pending < 3 {
            victim.signal(Signal::CONT);
        }
        (pending >= 3).then_some(())
    })
    .await;
    victim.kill9();
    lab.await_all_completed(1_200).await;
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE crash_count > 1")
            .await,
        0
    );
}

/// The outcome is that of the second worker, and the silence of the first one isolated the job.
async fn assert_settled_by(lab: &Lab, id: uuid::Uuid, second: i64) {
    let settled: (i16, i64, i16, i32) = sqlx::query_as(
        "SELECT attempt, worker_id, crash_count, epoch FROM millstream.job WHERE id = $1",
    )
    .bind(id)
    .fetch_one(&lab.pool)
    .await
    .unwrap();
    assert_eq!(settled, (1, second, 1, 1));
}

// F10, F16, rule 18: a worker that slept through its lease is not believed
#[tokio::test]
async fn the_outcome_of_a_worker_that_was_frozen_past_its_lease_is_refused() {
    let lab = Lab::new().await;
    let frozen = Served::start(&lab, &["worker", "--kinds", "sleep"]).await;
    let frozen_id = lab.worker_of(&frozen.process).await;
    // One step of the handler's clock, longer than the 200 ms before the lease: stopped in between, the run is over when it wakes.
    let producer = lab.producer();
    let id = eventually("a job is leased to a frozen worker", async || {
        let id = send(&producer, "sleep", r#"{"ms":480}"#, 1).await[0];
        eventually("leased or over", async || {
            (lab.state(id).await != "available").then_some(())
        })
        .await;
        frozen.process.signal(Signal::STOP);
        if lab.state(id).await == "running" {
            return Some(id);
        }
        frozen.process.signal(Signal::CONT);
        None
    })
    .await;
    let other = lab.worker().await;
    lab.await_state(id, "completed").await;
    let beats = beat_of(&lab, frozen_id).await;
    frozen.process.signal(Signal::CONT);
    eventually("the frozen worker goes on", async || {
        (beat_of(&lab, frozen_id).await > beats + 3).then_some(())
    })
    .await;
    assert_settled_by(&lab, id, other.id()).await;
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.worker WHERE state = 'active'")
            .await,
        2,
        "it is back in the fleet"
    );
    lab.await_drained("default").await;
}

/// Fails once the gate is open.
fn failing(kind: &str, gate: &CancellationToken) -> Handler {
    let gate = gate.clone();
    Handler::new(kind, move |_: Context, _: serde_json::Value| {
        let gate = gate.clone();
        async move {
            gate.cancelled().await;
            Err(Failure::retry("too late"))
        }
    })
}

// F10, F16, rule 37: a crash that others have written into the history is not the failure that this worker could not write
#[tokio::test]
async fn the_failure_of_a_worker_that_was_silent_past_its_lease_is_refused_and_told_as_refused() {
    let mut lab = Lab::private(Durability::None).await;
    // Between the end of the run and the fence lie seconds.
    lab.config.worker.lease_ms = 4_000;
    let (links, metrics, gate) = (
        Links::of(&lab).await,
        Metrics::new("test").unwrap(),
        CancellationToken::new(),
    );
    let handlers = vec![failing("late", &gate)];
    let silent = Worker::start(Parts {
        config: links.config.clone(),
        metrics: metrics.clone(),
        handlers,
        isolation: None,
    })
    .await
    .unwrap();
    let id = send(&lab.producer(), "late", "1", 1).await[0];
    lab.await_state(id, "running").await;
    links.postgres.set(Fault::BLACK_HOLE);
    gate.cancel();
    let other = lab.worker_with(vec![Starts::default().timed("late")]).await;
    lab.await_state(id, "completed").await;
    links.postgres.heal();
    eventually("the failure is told as too late", async || {
        (metrics.counters.leases_lost.get() == 1).then_some(())
    })
    .await;
    assert_settled_by(&lab, id, other.id()).await;
    let classes: Vec<String> = sqlx::query_scalar("SELECT class FROM millstream.job_error")
        .fetch_all(&lab.pool)
        .await
        .unwrap();
    assert_eq!(classes, ["crash"]);
    let retried = |line: &str| line.contains(r#"outcome="retried""#) && !line.ends_with(" 0");
    assert!(
        !metrics.render().lines().any(retried),
        "it counts as no retry"
    );
    drop(silent);
}

async fn beat_of(lab: &Lab, worker: i64) -> i64 {
    sqlx::query_scalar("SELECT beat FROM millstream.worker_beat WHERE worker_id = $1")
        .bind(worker)
        .fetch_one(&lab.pool)
        .await
        .unwrap()
}

// F16: a name is no identity
#[tokio::test]
async fn two_workers_of_one_name_are_two_workers() {
    let lab = Lab::new().await;
    let mut first = Process::start(&lab, &["worker", "--name", "twin", "--concurrency", "4"]);
    let _second = Process::start(&lab, &["worker", "--name", "twin", "--concurrency", "4"]);
    lab.await_workers(2).await;
    let first_id = lab.worker_of(&first).await;
    send(&lab.producer(), "sleep", r#"{"ms":1500}"#, 10).await;
    eventually("both work", async || {
        let busy = lab
            .number("SELECT count(DISTINCT worker_id) FROM millstream.lease")
            .await;
        (busy == 2 && leases_of(&lab, first_id).await >= 1).then_some(())
    })
    .await;
    first.kill9();
    lab.await_all_completed(10).await;
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.worker WHERE name = 'twin'")
            .await,
        2
    );
    let blamed = lab
        .number("SELECT count(DISTINCT worker_id) FROM millstream.job_error")
        .await;
    assert_eq!(blamed, 1, "the survivor was not taken for dead");
}

// F16: names do not pile up; workers that end in order are in shutdown.rs
#[tokio::test]
async fn the_consumers_of_killed_workers_are_removed() {
    let lab = Lab::new().await;
    let keeper = lab.worker().await;
    for _ in 0..4 {
        let mut worker = Process::start(&lab, &["worker"]);
        let id = lab.worker_of(&worker).await;
        eventually("it reads", async || {
            consumers(&lab)
                .await
                .contains(&format!("w{id}"))
                .then_some(())
        })
        .await;
        worker.kill9();
    }
    let own = vec![format!("w{}", keeper.id())];
    eventually("only the living are left", async || {
        (consumers(&lab).await == own).then_some(())
    })
    .await;
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.worker WHERE state = 'lost'")
            .await,
        4
    );
}

async fn consumers(lab: &Lab) -> Vec<String> {
    let mut redis = lab.redis().await;
    let found: redis::RedisResult<redis::streams::StreamInfoConsumersReply> = redis::cmd("XINFO")
        .arg("CONSUMERS")
        .arg(lab.work_stream())
        .arg(GROUP)
        .query_async(&mut redis)
        .await;
    found
        .map(|reply| reply.consumers.into_iter().map(|c| c.name).collect())
        .unwrap_or_default()
}
