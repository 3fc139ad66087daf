//! Jobs that kill their workers, and workers that die of something else (F15).

use millstream_tests::{Lab, Process, ask::send, eventually, supervise};
use rustix::process::{Pid, Resource, Rlimit};
use uuid::Uuid;

/// Far more than an idle worker has, far less than this machine.
const MEMORY_BYTES: u64 = 1 << 29;
/// Those of a job that kills at once end within it, whatever the machine does beside.
const A_MINUTE: &str =
    "SELECT count(*) FROM millstream.job j JOIN millstream.dead_letter d ON d.job_id = j.id
                        WHERE d.died_at < j.enqueued_at + interval '1 minute'";

/// A lab with a worker that keeps house throughout and never meets the killers.
async fn lab_with_keeper() -> (Lab, millstream_worker::Worker) {
    let mut lab = Lab::new().await;
    lab.config.worker.lease_ms = 4_000;
    lab.config.worker.child_memory_bytes = MEMORY_BYTES;
    lab.config.worker.kinds = vec!["echo".into()];
    let keeper = lab.worker().await;
    lab.config.worker.kinds.clear();
    lab.config.diagnostics = true;
    (lab, keeper)
}

/// A worker that does not eat the machine's memory before it dies.
fn start(lab: &Lab) -> Process {
    let worker = Process::start(lab, &["worker", "--concurrency", "8"]);
    let limit = Rlimit {
        current: Some(2 * MEMORY_BYTES),
        maximum: Some(2 * MEMORY_BYTES),
    };
    let pid = Pid::from_raw(worker.id() as i32);
    rustix::process::prlimit(pid, Resource::Data, limit).expect("a limit");
    worker
}

async fn pause(lab: &Lab, is_paused: bool) {
    sqlx::query("UPDATE millstream.queue SET paused = $1")
        .bind(is_paused)
        .execute(&lab.pool)
        .await
        .expect("the queues");
}

/// The killer, among 200 quick and 20 slow neighbours that all workers find at the same moment.
async fn send_among_neighbours(lab: &Lab, killer: &str) -> Uuid {
    let producer = lab.producer();
    pause(lab, true).await;
    send(&producer, "noop", "1", 100).await;
    send(&producer, "sleep", r#"{"ms":1500}"#, 10).await;
    let killer = send(&producer, "crash", killer, 1).await[0];
    send(&producer, "sleep", r#"{"ms":1500}"#, 10).await;
    send(&producer, "noop", "1", 100).await;
    pause(lab, false).await;
    killer
}

/// Three workers, the killer and its neighbours, until it is dead and they have completed. Returns the deaths and the reason.
async fn kill(lab: &Lab, killer: &str) -> (usize, String) {
    let mut workers = [start(lab), start(lab), start(lab)];
    lab.await_workers(4).await;
    let killer = send_among_neighbours(lab, killer).await;
    let over = async || lab.state(killer).await == "dead" && lab.count("completed").await == 220;
    let deaths = supervise::supervise(&mut workers, || start(lab), over).await;
    let letter = "SELECT reason, error FROM millstream.dead_letter WHERE job_id = $1";
    let (reason, error): (String, String) = sqlx::query_as(letter)
        .bind(killer)
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    assert_eq!(reason, "crash");
    assert_eq!(lab.count("dead").await, 1, "no neighbour is buried");
    let again = "SELECT count(*) FROM (SELECT FROM millstream.job_error e JOIN millstream.job j ON j.id = e.job_id
                 WHERE j.state = 2 GROUP BY e.job_id HAVING count(*) > 1) twice";
    assert_eq!(
        lab.number(again).await,
        0,
        "no neighbour has two extra runs"
    );
    let children = "SELECT count(*) FROM millstream.job_log l JOIN millstream.job j ON j.id = l.job_id WHERE j.state = 2";
    assert_eq!(
        lab.number(children).await,
        0,
        "no neighbour is in a child that dies"
    );
    lab.await_drained("default").await;
    (deaths, error)
}

/// It takes one worker with it, is dead within a minute, and the reason is exact.
async fn kills_one_worker(how: &str, reason: &str) {
    let (lab, _keeper) = lab_with_keeper().await;
    let (deaths, error) = kill(&lab, &format!(r#"{{"how":"{how}"}}"#)).await;
    assert_eq!(deaths, 1, "{how}");
    assert!(error.contains(reason), "{error}");
    assert_eq!(lab.number(A_MINUTE).await, 1, "{how}");
}

// F15, I6, rule 44
#[tokio::test]
async fn a_job_that_aborts_kills_one_worker_and_is_dead_with_the_signal_as_the_reason() {
    kills_one_worker("abort", "was killed by signal 6 (SIGABRT)").await;
}

// F15, I6, rule 44
#[tokio::test]
async fn a_job_that_exits_kills_one_worker_and_is_dead_with_the_code_as_the_reason() {
    kills_one_worker("exit", "ended with exit code 86").await;
}

// F15, I6, rule 44
#[tokio::test]
async fn a_job_that_overflows_its_stack_kills_one_worker_and_is_dead_with_its_last_words() {
    kills_one_worker("overflow", "has overflowed its stack").await;
}

// F15, I6, rule 44
#[tokio::test]
async fn a_job_that_eats_all_memory_kills_one_worker_and_is_dead_with_the_limit_as_the_reason() {
    kills_one_worker("oom", "ran into its memory limit of 536870912 bytes").await;
}

// F15, rule 44: nothing dies here by itself
#[tokio::test]
async fn a_job_that_blocks_its_thread_ends_its_worker_and_is_dead_when_two_children_were_killed() {
    let (lab, _keeper) = lab_with_keeper().await;
    let (ended, error) = kill(&lab, r#"{"how":"block"}"#).await;
    assert_eq!(ended, 1, "its worker ends, and no other");
    // Its row says so until somebody has seen that it is gone. The job may be dead before: if it had no lease, nobody waited for that.
    let gone = "SELECT count(*) FROM millstream.worker WHERE state IN ('draining', 'lost')";
    assert_eq!(lab.number(gone).await, 1);
    assert!(
        error.contains("did not answer 2 s after its timeout of 3000 ms"),
        "{error}"
    );
}

// F15, rule 45: nobody lives to tell what killed them
#[tokio::test]
async fn three_power_cuts_of_the_whole_fleet_bury_nothing() {
    let mut lab = Lab::new().await;
    lab.config.diagnostics = true;
    let producer = lab.producer();
    let mut workers = vec![start(&lab), start(&lab)];
    lab.await_workers(2).await;
    let jobs = send(&producer, "sleep", r#"{"ms":3000}"#, 6).await;
    for cut in 0..3 {
        // From the second cut on in children.
        let running = "SELECT count(*) FROM millstream.lease l JOIN millstream.job j ON j.id = l.job_id WHERE j.crash_count = 0 OR l.started";
        lab.await_number(running, 1).await;
        workers.iter_mut().for_each(Process::kill9);
        let seen = "SELECT count(*) FROM millstream.job_error WHERE class = 'crash'";
        let before = lab.number(seen).await;
        workers = vec![start(&lab), start(&lab)];
        eventually(&format!("cut {cut} is noticed"), async || {
            (lab.number(seen).await > before).then_some(())
        })
        .await;
    }
    lab.await_count("completed", jobs.len() as i64).await;
    assert_eq!(lab.count("dead").await, 0);
}

/// A job whose worker dies in some way, until it was handed out again.
async fn handed_out_after(die: impl AsyncFnOnce(&Lab)) -> (Lab, Uuid) {
    let (lab, _keeper) = lab_with_keeper().await;
    let mut worker = start(&lab);
    lab.await_workers(2).await;
    let job = send(&lab.producer(), "sleep", r#"{"ms":60000}"#, 1).await[0];
    lab.await_number("SELECT count(*) FROM millstream.lease", 1)
        .await;
    worker.kill9();
    die(&lab).await;
    eventually("its worker is rescued", async || {
        (lab.number("SELECT count(*) FROM millstream.lease").await == 0).then_some(())
    })
    .await;
    (lab, job)
}

const CRASHES: &str = "SELECT max(crash_count)::bigint FROM millstream.job";

// rule 86: it went in order, but Postgres did not let it give everything back
#[tokio::test]
async fn leases_left_by_a_worker_that_ended_in_order_are_no_crash() {
    let (lab, job) = handed_out_after(async |lab| {
        sqlx::query("UPDATE millstream.worker SET state = 'stopped' WHERE id = (SELECT worker_id FROM millstream.lease)")
            .execute(&lab.pool)
            .await
            .unwrap();
    })
    .await;
    assert_eq!(lab.state(job).await, "available");
    assert_eq!(lab.number(CRASHES).await, 0);
}

// rule 48: no clock makes a worker's jobs stay where they are
#[tokio::test]
async fn a_lease_that_seems_weeks_old_is_rescued() {
    let (lab, job) = handed_out_after(async |lab| {
        sqlx::query("UPDATE millstream.lease SET leased_at = now() - interval '40 days'")
            .execute(&lab.pool)
            .await
            .unwrap();
    })
    .await;
    assert_eq!(lab.state(job).await, "available");
    assert_eq!(lab.number(CRASHES).await, 1, "the control: a crash");
}
