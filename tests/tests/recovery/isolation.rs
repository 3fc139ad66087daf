//! What a job can rely on in a child process of its worker, and what becomes of the child (F15).

use std::path::Path;

use millstream_tests::{Lab, Process, ask::send, eventually};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use uuid::Uuid;

/// A job that was in hand at so many crashes, before anybody could claim it.
pub(super) async fn isolated(lab: &Lab, kind: &str, payload: &str, crashes: i16) -> Uuid {
    let pause = "UPDATE millstream.queue SET paused = NOT paused WHERE name = 'default'";
    sqlx::query(pause).execute(&lab.pool).await.unwrap();
    let job = send(&lab.producer(), kind, payload, 1).await[0];
    sqlx::query("UPDATE millstream.job SET crash_count = $2 WHERE id = $1")
        .bind(job)
        .bind(crashes)
        .execute(&lab.pool)
        .await
        .unwrap();
    sqlx::query(pause).execute(&lab.pool).await.unwrap();
    job
}

async fn lab_with_worker() -> (Lab, Process) {
    let lab = Lab::new().await;
    let worker = start(&lab).await;
    (lab, worker)
}

async fn start(lab: &Lab) -> Process {
    sqlx::query("CREATE TABLE IF NOT EXISTS public.written (n int)")
        .execute(&lab.pool)
        .await
        .unwrap();
    let worker = Process::start_program(lab, "isolated_worker", &["--concurrency", "4"]);
    lab.worker_of(&worker).await;
    worker
}

async fn result(lab: &Lab, job: Uuid) -> serde_json::Value {
    lab.await_state(job, "completed").await;
    sqlx::query_scalar("SELECT result FROM millstream.job_view WHERE id = $1")
        .bind(job)
        .fetch_one(&lab.pool)
        .await
        .unwrap()
}

async fn log_of(lab: &Lab, job: Uuid) -> Vec<String> {
    sqlx::query_scalar("SELECT line FROM millstream.job_log WHERE job_id = $1 ORDER BY id")
        .bind(job)
        .fetch_all(&lab.pool)
        .await
        .unwrap()
}

/// The process in which a job of kind `pid` runs.
async fn child_of(lab: &Lab, job: Uuid) -> Pid {
    eventually("the job says where it runs", async || {
        let said = log_of(lab, job).await;
        Pid::from_raw(said.last()?.parse().ok()?)
    })
    .await
}

async fn await_gone(child: Pid) {
    eventually("the child is gone", async || {
        test_kill_process(child).is_err().then_some(())
    })
    .await;
}

/// Class and message of what went wrong with a job last.
async fn error_of(lab: &Lab, job: Uuid) -> (String, String) {
    sqlx::query_as("SELECT class, message FROM millstream.job_error WHERE job_id = $1 ORDER BY epoch DESC LIMIT 1")
        .bind(job)
        .fetch_one(&lab.pool)
        .await
        .unwrap()
}

// F15: it is kept while jobs end well, and a job whose child has died gets a new one
#[tokio::test]
async fn a_child_is_reused_until_it_dies() {
    let (lab, worker) = lab_with_worker().await;
    let here = i64::from(worker.id());
    // One death of a fresh one is forgiven.
    let payload = serde_json::to_string(&lab.folder()).unwrap();
    let deadly = isolated(&lab, "deadly", &payload, 1).await;
    result(&lab, deadly).await;
    let first = isolated(&lab, "pid", "1", 1).await;
    let first = result(&lab, first).await;
    assert_ne!(first, here, "not in the worker");
    let second = isolated(&lab, "pid", "1", 1).await;
    assert_eq!(result(&lab, second).await, first);
    let deadly = isolated(&lab, "deadly", &payload, 1).await;
    assert_ne!(result(&lab, deadly).await, first);
    eventually("the death is told", async || {
        let said = log_of(&lab, deadly).await;
        said.first()?
            .contains("was killed by signal 6 (SIGABRT)")
            .then_some(())
    })
    .await;
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job_error")
            .await,
        0
    );
    lab.await_all_completed(4).await;
}

// F15, F35: handlers read and print; what they report comes through
#[tokio::test]
async fn a_handler_in_a_child_reports_reads_nothing_and_prints_what_it_likes() {
    let (lab, _worker) = lab_with_worker().await;
    let job = isolated(&lab, "talk", "1500", 1).await;
    lab.await_number(
        "SELECT count(*) FROM millstream.job_view WHERE progress = 0.5 AND progress_note = 'half'",
        1,
    )
    .await;
    assert_eq!(result(&lab, job).await, "said");
    eventually("both tries have spoken", async || {
        let said = log_of(&lab, job).await;
        (said == ["try 1 has read 0 bytes", "try 2 has read 0 bytes"]).then_some(())
    })
    .await;
    assert_eq!(
        error_of(&lab, job).await,
        ("retry".into(), "not yet".into())
    );
}

// F15, G1
#[tokio::test]
async fn an_effect_in_a_child_commits_with_the_completion_or_not_at_all() {
    let (lab, _worker) = lab_with_worker().await;
    let written = "SELECT count(*) FROM public.written";
    let job = isolated(&lab, "write", r#""refuse""#, 1).await;
    eventually("it is refused", async || {
        (lab.state(job).await == "retryable").then_some(())
    })
    .await;
    assert_eq!(lab.number(written).await, 0);
    assert_eq!(error_of(&lab, job).await.0, "retry");
    let job = isolated(&lab, "write", r#""well""#, 1).await;
    lab.await_state(job, "completed").await;
    assert_eq!(lab.number(written).await, 1);
    let job = isolated(&lab, "write", r#""abort""#, 1).await;
    lab.await_state(job, "dead").await;
    assert_eq!(lab.number(written).await, 1);
    assert!(error_of(&lab, job).await.1.contains("SIGABRT"));
}

// F15, G1: nobody but Postgres knows that it has committed
#[tokio::test]
async fn an_effect_whose_child_dies_behind_the_commit_is_not_written_twice() {
    let lab = Lab::new().await;
    sqlx::query("CREATE TABLE public.written (n int)")
        .execute(&lab.pool)
        .await
        .unwrap();
    let env = [("FAILPOINTS".to_owned(), "child.committed=return".to_owned())];
    let mut worker = Process::start_program_in(&lab.config, "isolated_worker", &[], &env);
    lab.worker_of(&worker).await;
    let job = isolated(&lab, "write", r#""well""#, 1).await;
    lab.await_state(job, "completed").await;
    lab.await_all_completed(1).await;
    assert_eq!(lab.number("SELECT count(*) FROM public.written").await, 1);
    // Whatever it would say is written by then.
    worker.signal(Signal::TERM);
    worker.exit_code().await;
    let said = log_of(&lab, job).await;
    assert!(
        said.is_empty(),
        "no death is told, the job is done: {said:?}"
    );
}

// F15, F8
#[tokio::test]
async fn what_a_child_may_not_say_is_an_outcome_like_any_other() {
    let (lab, _worker) = lab_with_worker().await;
    let job = isolated(&lab, "large", "1000000", 1).await;
    lab.await_state(job, "dead").await;
    assert_eq!(error_of(&lab, job).await.0, "permanent");
    let job = isolated(&lab, "slow", "null", 1).await;
    lab.await_state(job, "retryable").await;
    assert_eq!(error_of(&lab, job).await.0, "timeout");
}

// F15: a service manager signals all processes of a service
#[tokio::test]
async fn a_child_does_not_end_by_the_signals_that_are_for_its_worker() {
    let (lab, _worker) = lab_with_worker().await;
    let job = isolated(&lab, "pid", "1500", 1).await;
    let child = child_of(&lab, job).await;
    for signal in [Signal::TERM, Signal::INT] {
        kill_process(child, signal).unwrap();
    }
    assert_eq!(result(&lab, job).await, child.as_raw_pid());
    lab.await_all_completed(1).await;
}

// F15, rule 86
#[tokio::test]
async fn the_child_of_a_worker_that_drains_ends_and_its_job_has_not_crashed() {
    let mut lab = Lab::new().await;
    lab.config.worker.grace_ms = 200;
    let mut worker = start(&lab).await;
    let job = isolated(&lab, "pid", "60000", 1).await;
    let child = child_of(&lab, job).await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.exit_code().await, Some(0));
    await_gone(child).await;
    assert_eq!(lab.state(job).await, "available");
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job_error")
            .await,
        0
    );
}

// F15, F21
#[tokio::test]
async fn the_child_of_a_cancelled_job_ends_and_its_worker_goes_on() {
    let (lab, mut worker) = lab_with_worker().await;
    let job = isolated(&lab, "pid", "60000", 1).await;
    let child = child_of(&lab, job).await;
    sqlx::query("SELECT millstream.cancel(ARRAY[$1::uuid], 'test')")
        .bind(job)
        .execute(&lab.pool)
        .await
        .unwrap();
    await_gone(child).await;
    assert!(!worker.has_ended());
    assert_eq!(lab.state(job).await, "cancelled");
}

// F15: two runs of one job would overlap
#[tokio::test]
async fn a_child_does_not_outlive_its_worker_nor_its_silence() {
    let (lab, mut worker) = lab_with_worker().await;
    let job = isolated(&lab, "pid", "60000", 1).await;
    let child = child_of(&lab, job).await;
    worker.signal(Signal::STOP);
    await_ended(child).await;
    worker.signal(Signal::CONT);
    let again = eventually("it runs elsewhere", async || {
        let now = child_of(&lab, job).await;
        (now != child).then_some(now)
    })
    .await;
    worker.kill9();
    await_gone(again).await;
}

/// The parent may be unable to wait for it.
async fn await_ended(child: Pid) {
    let stat = format!("/proc/{}/stat", child.as_raw_pid());
    eventually("the child has ended", async || {
        let stat = std::fs::read_to_string(Path::new(&stat)).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z")).then_some(())
    })
    .await;
}

// F15: a program that says no command for it
#[tokio::test]
async fn without_a_command_isolated_jobs_run_in_the_worker() {
    let lab = Lab::new().await;
    let _worker = lab.worker().await;
    isolated(&lab, "sleep", r#"{"ms":300}"#, 1).await;
    lab.await_all_completed(1).await;
}

/// A worker whose children have this fault.
fn start_with(lab: &Lab, fault: &str) -> Process {
    let env = [("CHILD_FAULT".to_owned(), fault.to_owned())];
    Process::start_program_in(&lab.config, "isolated_worker", &[], &env)
}

// F15: nobody can help a job of which nothing is said, and its worker's death must not count for it
#[tokio::test]
async fn a_child_that_cannot_start_is_told_in_the_log_of_the_job_and_costs_it_nothing() {
    let lab = Lab::new().await;
    let worker = start_with(&lab, "exit");
    lab.worker_of(&worker).await;
    let job = isolated(&lab, "pid", "1", 1).await;
    let line = eventually("the log tells it", async || {
        log_of(&lab, job).await.into_iter().next()
    })
    .await;
    assert!(
        line.starts_with("no child process could be started for it: ended with exit code 7"),
        "{line}"
    );
    drop(worker);
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE attempt > 0 OR crash_count > 1")
            .await,
        0
    );
    let _whole = start(&lab).await;
    result(&lab, job).await;
}

// F15
#[tokio::test]
async fn a_job_whose_child_lacks_its_handler_rests_and_uses_no_attempt() {
    let lab = Lab::new().await;
    let worker = start_with(&lab, "lacks pid");
    lab.worker_of(&worker).await;
    let job = isolated(&lab, "pid", "1", 1).await;
    let line = eventually("the log tells it", async || {
        log_of(&lab, job).await.into_iter().next()
    })
    .await;
    assert!(line.contains("has no handler for pid"), "{line}");
    let attempts = "SELECT count(*) FROM millstream.job WHERE attempt = 0 AND state IN (0, 3)";
    lab.await_number(attempts, 1).await;
}

// F15: the bound of six is for a job that never comes to an end
#[tokio::test]
async fn a_run_that_ends_begins_the_count_of_deaths_anew() {
    let (lab, _worker) = lab_with_worker().await;
    let job = isolated(&lab, "talk", "1", 5).await;
    result(&lab, job).await;
    let deaths = "SELECT count(*) FROM millstream.job WHERE crash_count = 1 AND attempt = 2";
    lab.await_number(deaths, 1).await;
}

// F15, rule 44: whole machines go down with it, and nobody is left to count children
#[tokio::test]
async fn the_sixth_death_of_a_worker_that_ran_it_isolated_buries_a_job() {
    let lab = Lab::new().await;
    let _keeper = lab.worker().await;
    let mut worker = start(&lab).await;
    let job = isolated(&lab, "pid", "60000", 5).await;
    let other = isolated(&lab, "pid", "60000", 1).await;
    for (death, state) in [(1, "running"), (2, "dead")] {
        child_of(&lab, job).await;
        lab.await_number("SELECT count(*) FROM millstream.lease WHERE started", 2)
            .await;
        worker.kill9();
        let noted = "SELECT count(*) FROM millstream.job_error";
        lab.await_number(noted, 2 * death).await;
        worker = start(&lab).await;
        lab.await_state(job, state).await;
    }
    let (class, message) = error_of(&lab, job).await;
    assert_eq!(class, "crash", "{message}");
    lab.await_state(other, "running").await;
    // A person's redrive spares the workers.
    sqlx::query("SELECT millstream.retry_now(ARRAY[$1::uuid], 'test')")
        .bind(job)
        .execute(&lab.pool)
        .await
        .unwrap();
    let isolated: i16 = sqlx::query_scalar("SELECT crash_count FROM millstream.job WHERE id = $1")
        .bind(job)
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    assert_eq!(isolated, 1);
}
