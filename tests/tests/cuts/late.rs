//! Answers of Postgres that come when what they say may no longer be true.

use millstream_common::limits::CLAIM_ANSWER_MAX;
use millstream_local::{Durability, LocalServices};
use millstream_tests::{Fault, Lab, Links, Starts, ask::send, eventually};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What Postgres says is held on its way to the clients.
const DEAF: Fault = Fault::BlackHole {
    up: false,
    down: true,
};

async fn epoch(lab: &Lab, id: Uuid) -> i32 {
    sqlx::query_scalar("SELECT epoch FROM millstream.job WHERE id = $1")
        .bind(id)
        .fetch_one(&lab.pool)
        .await
        .unwrap()
}

// I4: the job was taken over while the answer was on its way
#[tokio::test]
async fn a_claim_that_is_answered_when_another_worker_runs_the_job_starts_nothing() {
    let lab = Lab::private(Durability::None).await;
    // It keeps house, and reads nothing that these jobs go through.
    let mut elsewhere = lab.config.clone();
    elsewhere.worker.queues = vec!["documents".into()];
    let _keeper = lab.worker_in(&elsewhere, Vec::new()).await;
    lab.await_number(
        "SELECT count(*) FROM millstream.leader WHERE worker_id IS NOT NULL",
        1,
    )
    .await;
    let links = Links::of(&lab).await;
    let (own, others, gate) = (
        Starts::default(),
        Starts::default(),
        CancellationToken::new(),
    );
    let handlers = |starts: &Starts| vec![starts.gated("gated", &gate), starts.timed("timed")];
    let deaf = lab.worker_in(&links.config, handlers(&own)).await;
    // From here on it has connections whose statements are prepared.
    send(&lab.producer(), "timed", "1", 5).await;
    lab.await_all_completed(5).await;
    links.postgres.set(DEAF);
    let id = send(&lab.producer(), "gated", "1", 1).await[0];
    eventually("the deaf worker has read it", async || {
        (lab.pending_with(deaf.id()).await == 1).then_some(())
    })
    .await;
    let neighbour = lab.worker_with(handlers(&others)).await;
    eventually("the neighbour runs it", async || {
        (others.running() == [id]).then_some(())
    })
    .await;
    links.postgres.heal();
    let health = deaf.health();
    eventually("the deaf worker is ready again", async || {
        health.readiness().ready.then_some(())
    })
    .await;
    // It has answered by now: this is read and done behind it.
    let before = own.jobs();
    let producer = lab.producer();
    eventually("the deaf worker works again", async || {
        send(&producer, "timed", "1", 20).await;
        (own.jobs() > before).then_some(())
    })
    .await;
    drop(neighbour);
    gate.cancel();
    lab.await_state(id, "completed").await;
    assert_eq!((own.of(id), others.of(id)), (0, 1), "both ran it");
}

// I1: what is not started is handed out again, although the worker that has it pending lives
#[tokio::test]
async fn jobs_whose_claim_is_answered_late_are_handed_out_again() {
    let mut lab = Lab::private(Durability::None).await;
    // Long enough that nobody is taken for dead.
    lab.config.worker.lease_ms = 30_000;
    let (links, starts) = (Links::of(&lab).await, Starts::default());
    let worker = lab
        .worker_in(&links.config, vec![starts.timed("timed")])
        .await;
    send(&lab.producer(), "timed", "1", 5).await;
    lab.await_all_completed(5).await;
    links.postgres.set(DEAF);
    let id = send(&lab.producer(), "timed", "1", 1).await[0];
    eventually("it is read", async || {
        (lab.pending_with(worker.id()).await == 1).then_some(())
    })
    .await;
    // The length of the fault.
    tokio::time::sleep(CLAIM_ANSWER_MAX * 2).await;
    links.postgres.heal();
    lab.await_all_completed(6).await;
    assert_eq!(
        (starts.of(id), epoch(&lab, id).await),
        (1, 1),
        "it was started by the late answer"
    );
}

/// Makes the first commit of a lease slow.
const SLOW_COMMIT: [&str; 2] = [
    "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
     $$ BEGIN IF NEW.epoch = 1 THEN PERFORM pg_sleep(3.5); END IF; RETURN NULL; END $$",
    "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON millstream.lease DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()",
];

// I4: the same without Redis
#[tokio::test]
async fn jobs_claimed_from_postgres_whose_grant_is_answered_late_are_given_back() {
    let lab = Lab::private(Durability::None).await;
    for statement in SLOW_COMMIT {
        sqlx::query(statement).execute(&lab.pool).await.unwrap();
    }
    let starts = Starts::default();
    let worker = lab.worker_with(vec![starts.timed("timed")]).await;
    lab.harm(LocalServices::stop_redis).await;
    let health = worker.health();
    eventually("Redis counts as down", async || {
        (health.readiness().redis == "down").then_some(())
    })
    .await;
    let id = send(&lab.producer(), "timed", "1", 1).await[0];
    lab.await_state(id, "completed").await;
    // Granted, given back, granted again.
    assert_eq!(
        (starts.of(id), epoch(&lab, id).await),
        (1, 3),
        "it was started by the late answer"
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE attempt <> 1 OR crash_count > 0")
            .await,
        0
    );
}
