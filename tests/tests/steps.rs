//! Death at each step between the two stores (F11): what was done is known, what was not is done again, nothing twice.
//!
//! The processes die at failpoints, which only test builds have.

use millstream_tests::{Lab, Process, ask::send, eventually};
use uuid::Uuid;

/// Producers killed between COMMIT and XADD; `KILLS` in the environment asks for more.
const KILLS_DEFAULT: usize = 40;
/// Seconds until a parcel that nobody published is found: its publisher is trusted for 5 s, and the rest is for a loaded machine.
/// Far below a minute: whoever waits for a job must not think that it is lost.
const FOUND_WITHIN_S: f64 = 5.0 + 30.0;
/// Producers at a time.
const AT_A_TIME: usize = 4;

/// A lab whose housekeeper never runs the jobs of these tests.
async fn lab_with_keeper() -> (Lab, millstream_worker::Worker) {
    let mut lab = Lab::new().await;
    lab.config.worker.queues = vec!["documents".into()];
    let keeper = lab.worker().await;
    lab.config.worker.queues.clear();
    (lab, keeper)
}

fn dying_at(step: &str) -> Vec<(String, String)> {
    vec![("FAILPOINTS".into(), format!("{step}=return"))]
}

async fn await_death(process: &mut Process) {
    eventually("the process dies at its failpoint", async || {
        process.has_ended().then_some(())
    })
    .await;
}

/// Epoch and counted attempts of a completed job.
async fn told(lab: &Lab, id: Uuid) -> (i32, i32) {
    sqlx::query_as(
        "SELECT epoch, attempt FROM millstream.job_view WHERE id = $1 AND state = 'completed'",
    )
    .bind(id)
    .fetch_one(&lab.pool)
    .await
    .expect("a completed job")
}

/// One worker dies at the step, the next one finds what is left. `epoch`: hand-outs that this costs.
async fn worker_dies_at(step: &str, epoch: i32) {
    let (lab, _keeper) = lab_with_keeper().await;
    let mut dying = Process::start_in(&lab.config, &["worker"], &dying_at(step));
    lab.await_workers(2).await;
    let id = send(&lab.producer(), "sleep", r#"{"ms":500}"#, 1).await[0];
    await_death(&mut dying).await;
    let _next = Process::start(&lab, &["worker"]);
    lab.await_state(id, "completed").await;
    lab.await_drained("default").await;
    assert_eq!(
        told(&lab, id).await,
        (epoch, 1),
        "{step}: one hand-out more only if the first one was lost, one accepted outcome"
    );
    assert_eq!(lab.number("SELECT count(*) FROM millstream.lease").await, 0);
}

// F02
#[tokio::test]
async fn a_worker_that_dies_after_reading_an_entry_loses_no_job() {
    worker_dies_at("claim.read", 1).await;
}

// F02
#[tokio::test]
async fn a_worker_that_dies_after_its_claim_loses_no_job() {
    worker_dies_at("claim.taken", 1).await;
}

// F02
#[tokio::test]
async fn a_worker_that_dies_at_the_start_of_a_job_loses_no_job() {
    worker_dies_at("run.started", 1).await;
}

// F02
#[tokio::test]
async fn a_worker_that_dies_after_the_lease_loses_no_job() {
    worker_dies_at("lease.committed", 1).await;
}

// F02: completed is completed, also when nobody acknowledged the entry
#[tokio::test]
async fn a_worker_that_dies_between_the_commit_and_the_acknowledgement_makes_nothing_run_twice() {
    let (lab, _keeper) = lab_with_keeper().await;
    let mut dying = Process::start_in(&lab.config, &["worker"], &dying_at("settle.committed"));
    lab.await_workers(2).await;
    let id = send(&lab.producer(), "echo", "1", 1).await[0];
    await_death(&mut dying).await;
    assert_eq!(told(&lab, id).await, (0, 1));
    let _next = Process::start(&lab, &["worker"]);
    lab.await_drained("default").await;
    assert_eq!(told(&lab, id).await, (0, 1));
}

/// A job of the SQL door, which only dispatch publishes. Returns its epoch in the end.
async fn dispatcher_dies_at(step: &str) -> i32 {
    let lab = Lab::new().await;
    // The kind must be known before the SQL door takes a job of it.
    let mut first = Process::start(&lab, &["worker"]);
    lab.await_workers(1).await;
    first.signal(rustix::process::Signal::TERM);
    first.exit_code().await;
    let id: Uuid = sqlx::query_scalar("SELECT millstream.enqueue('echo', '1')")
        .fetch_one(&lab.pool)
        .await
        .expect("an id");
    let mut dying = Process::start_in(&lab.config, &["worker", "--kinds", "echo"], &dying_at(step));
    await_death(&mut dying).await;
    let _next = Process::start(&lab, &["worker"]);
    lab.await_state(id, "completed").await;
    lab.await_drained("default").await;
    let (epoch, attempt) = told(&lab, id).await;
    assert_eq!(attempt, 1);
    epoch
}

// F04: marked as publishing, never published
#[tokio::test]
async fn a_dispatcher_that_dies_before_the_stream_has_its_entries_loses_no_job() {
    assert_eq!(
        dispatcher_dies_at("dispatch.marked").await,
        1,
        "the entry never existed"
    );
}

// F04
#[tokio::test]
async fn a_dispatcher_that_dies_after_the_stream_has_its_entries_makes_nothing_run_twice() {
    // 1: the dying process had read its own entry.
    assert!(dispatcher_dies_at("dispatch.published").await <= 1);
}

// F03, rule 68
#[tokio::test]
async fn producers_killed_between_commit_and_publish_lose_no_job() {
    let kills: usize = std::env::var("KILLS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(KILLS_DEFAULT);
    let lab = Lab::new().await;
    let _worker = lab.worker().await;
    let env = dying_at("enqueue.committed");
    for batch in (0..kills).collect::<Vec<_>>().chunks(AT_A_TIME) {
        let mut dying: Vec<_> = batch
            .iter()
            .map(|_| Process::start_in(&lab.config, &["enqueue", "noop"], &env))
            .collect();
        for process in &mut dying {
            assert_eq!(process.exit_code().await, None, "it ends by a signal");
        }
    }
    lab.await_all_completed(kills as i64).await;
    let (epochs, median, worst): (i64, f64, f64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE epoch = 1), percentile_cont(0.5) WITHIN GROUP (ORDER BY d), max(d)
         FROM (SELECT epoch, extract(epoch FROM started_at - enqueued_at)::float8 AS d FROM millstream.job) j",
    )
    .fetch_one(&lab.pool)
    .await
    .expect("the delays");
    assert_eq!(epochs, kills as i64, "each was found missing once");
    assert!(worst <= FOUND_WITHIN_S, "a job waited for {worst:.1} s");
    println!("{kills} producers killed: delay median {median:.1} s, worst {worst:.1} s");
}
