//! Jobs that kill their workers, and workers that die of something else (F15).

use millstream_admin::services::{Durability, LocalServices, PostgresStop};
use millstream_producer::Producer;
use millstream_tests::{Lab, Process, ask::send, eventually, supervise};
use rustix::process::{Resource, Rlimit, Signal};
use uuid::Uuid;

/// Far more than an idle worker maps, far less than this machine has.
const ADDRESS_SPACE_BYTES: u64 = 1 << 29;
/// A lab with a worker that keeps house throughout and never meets the killers.
async fn lab_with_keeper() -> (Lab, millstream_worker::Worker) {
    let mut lab = Lab::new().await;
    lab.config.worker.kinds = vec!["noop".into()];
    let keeper = lab.worker().await;
    lab.config.worker.kinds.clear();
    lab.config.diagnostics = true;
    (lab, keeper)
}

fn start(lab: &Lab) -> Process {
    let worker = Process::start(lab, &["worker", "--concurrency", "8"]);
    let limit = Rlimit {
        current: Some(ADDRESS_SPACE_BYTES),
        maximum: Some(ADDRESS_SPACE_BYTES),
    };
    rustix::process::prlimit(
        rustix::process::Pid::from_raw(worker.id() as i32),
        Resource::As,
        limit,
    )
    .expect("a limit");
    worker
}

/// As a supervisor does, until `over`; returns the deaths.
async fn supervise(lab: &Lab, workers: &mut [Process], over: impl AsyncFnMut() -> bool) -> usize {
    supervise::supervise(workers, || start(lab), over).await
}

async fn crashes_of(lab: &Lab, id: Uuid) -> i64 {
    sqlx::query_scalar(
        "SELECT count(*) FROM millstream.job_error WHERE job_id = $1 AND class = 'crash'",
    )
    .bind(id)
    .fetch_one(&lab.pool)
    .await
    .expect("a count")
}

/// The killer takes three workers with it and is dead; eight neighbours, slow and quick ones, complete.
async fn kills_three(how: &str) {
    kills(how, 0, 3).await;
}

async fn kills(how: &str, after_ms: u64, workers_max: usize) {
    let (lab, _keeper) = lab_with_keeper().await;
    let mut workers = [start(&lab)];
    lab.await_workers(2).await;
    let producer = lab.producer();
    let mut innocent = send(&producer, "sleep", r#"{"ms":700}"#, 3).await;
    let killer = send(
        &producer,
        "crash",
        &format!(r#"{{"how":"{how}","after_ms":{after_ms}}}"#),
        1,
    )
    .await[0];
    innocent.extend(send(&producer, "sleep", r#"{"ms":5}"#, 5).await);
    let deaths = supervise(&lab, &mut workers, async || {
        lab.state(killer).await == "dead" && lab.count("completed").await == innocent.len() as i64
    })
    .await;
    assert_eq!(deaths, workers_max, "{how}");
    assert_eq!(
        crashes_of(&lab, killer).await,
        workers_max as i64,
        "every death is told"
    );
    let (reason, error): (String, String) =
        sqlx::query_as("SELECT reason, error FROM millstream.dead_letter WHERE job_id = $1")
            .bind(killer)
            .fetch_one(&lab.pool)
            .await
            .unwrap();
    assert_eq!(reason, "crash");
    assert!(error.contains("three times"), "{error}");
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE state = 2 AND crash_count > 2")
            .await,
        0,
        "nobody else is blamed"
    );
    lab.await_drained("default").await;
}

// F15, I6, rule 44
#[tokio::test]
async fn a_job_that_aborts_kills_three_workers_and_its_neighbours_live() {
    kills_three("abort").await;
}

// F15, I6, rule 44
#[tokio::test]
async fn a_job_that_exits_kills_three_workers_and_its_neighbours_live() {
    kills_three("exit").await;
}

// F15, I6, rule 44
#[tokio::test]
async fn a_job_that_overflows_its_stack_kills_three_workers_and_its_neighbours_live() {
    kills_three("overflow").await;
}

// F15, I6, rule 44
#[tokio::test]
async fn a_job_that_eats_all_memory_kills_three_workers_and_its_neighbours_live() {
    kills_three("oom").await;
}

// F15, I6, rule 44: it outlives its first term, and is found in the second
#[tokio::test]
async fn a_job_that_kills_late_kills_four_workers() {
    kills("abort", 4500, 4).await;
}

// F15, I6: they cannot excuse each other
#[tokio::test]
async fn several_killers_at_once_kill_three_workers_each_at_most() {
    let (lab, _keeper) = lab_with_keeper().await;
    let mut workers = [start(&lab), start(&lab)];
    lab.await_workers(3).await;
    let producer = lab.producer();
    let killers = [
        send(&producer, "crash", r#"{"how":"abort"}"#, 2).await,
        send(&producer, "crash", r#"{"how":"exit"}"#, 1).await,
    ]
    .concat();
    let innocent = send(&producer, "sleep", r#"{"ms":300}"#, 6).await;
    let deaths = supervise(&lab, &mut workers, async || {
        lab.count("dead").await == 3 && lab.count("completed").await == innocent.len() as i64
    })
    .await;
    // A killer may be there when another one kills: that is told in its history too.
    assert!(deaths <= 3 * killers.len(), "{deaths} deaths");
}

/// A job that looks as if it had been there at two crashes, before anybody could claim it.
async fn suspect(lab: &Lab, producer: &Producer, ms: u64) -> Uuid {
    sqlx::query("UPDATE millstream.queue SET paused = true WHERE name = 'default'")
        .execute(&lab.pool)
        .await
        .unwrap();
    let suspect = send(producer, "sleep", &format!(r#"{{"ms":{ms}}}"#), 1).await[0];
    sqlx::query("UPDATE millstream.job SET crash_count = 2 WHERE id = $1")
        .bind(suspect)
        .execute(&lab.pool)
        .await
        .unwrap();
    sqlx::query("UPDATE millstream.queue SET paused = false WHERE name = 'default'")
        .execute(&lab.pool)
        .await
        .unwrap();
    suspect
}

// rule 45: what is with a killer in one worker when it is handed out for the third time
#[tokio::test]
async fn neighbours_of_a_suspect_that_kills_do_not_answer_for_it() {
    let (lab, _keeper) = lab_with_keeper().await;
    let mut workers = [start(&lab)];
    lab.await_workers(2).await;
    let producer = lab.producer();
    sqlx::query("UPDATE millstream.queue SET paused = true WHERE name = 'default'")
        .execute(&lab.pool)
        .await
        .unwrap();
    let mut neighbours = send(&producer, "sleep", r#"{"ms":300}"#, 6).await;
    let killer = send(&producer, "crash", r#"{"how":"abort"}"#, 1).await[0];
    neighbours.extend(send(&producer, "sleep", r#"{"ms":5}"#, 60).await);
    sqlx::query("UPDATE millstream.job SET crash_count = 2 WHERE id = $1")
        .bind(killer)
        .execute(&lab.pool)
        .await
        .unwrap();
    sqlx::query("UPDATE millstream.queue SET paused = false WHERE name = 'default'")
        .execute(&lab.pool)
        .await
        .unwrap();
    let over = async || {
        lab.state(killer).await == "dead" && lab.count("completed").await == neighbours.len() as i64
    };
    let deaths = supervise(&lab, &mut workers, over).await;
    assert_eq!(deaths, 1, "it is dead after this one");
    // They are waited for, but not for ever: under load one may still be on its way out. It does not answer for the death then.
    let told: Vec<Uuid> =
        sqlx::query_scalar("SELECT job_id FROM millstream.job_error WHERE ran_ms IS NOT NULL")
            .fetch_all(&lab.pool)
            .await
            .unwrap();
    assert_eq!(told, [killer], "nobody else answers for it");
    assert_eq!(
        lab.number("SELECT sum(crash_count) FROM millstream.job WHERE state = 2")
            .await,
        0
    );
}

/// A suspect alone on a worker that then dies in some way; what becomes of it when it was handed out again.
async fn suspect_after(die: impl AsyncFnOnce(&Lab, &mut Process)) -> (Lab, Uuid) {
    let (lab, _keeper) = lab_with_keeper().await;
    let mut worker = start(&lab);
    lab.await_workers(2).await;
    let suspect = suspect(&lab, &lab.producer(), 60_000).await;
    lab.await_number("SELECT count(*) FROM millstream.lease WHERE isolated", 1)
        .await;
    die(&lab, &mut worker).await;
    worker.kill9();
    eventually("its worker is rescued", async || {
        (lab.number("SELECT count(*) FROM millstream.lease").await == 0).then_some(())
    })
    .await;
    (lab, suspect)
}

// rule 86: it went in order, but Postgres did not let it give everything back
#[tokio::test]
async fn leases_left_by_a_worker_that_ended_in_order_are_no_crash() {
    let (lab, suspect) = suspect_after(async |lab, _| {
        sqlx::query("UPDATE millstream.worker SET state = 'stopped' WHERE id = (SELECT worker_id FROM millstream.lease WHERE isolated)")
            .execute(&lab.pool)
            .await
            .unwrap();
    })
    .await;
    assert_eq!(
        (
            lab.state(suspect).await.as_str(),
            crashes_of(&lab, suspect).await
        ),
        ("available", 0)
    );
}

// rule 48: no clock makes a worker's jobs stay where they are
#[tokio::test]
async fn a_lease_that_seems_weeks_old_is_rescued() {
    let (lab, suspect) = suspect_after(async |lab, _| {
        sqlx::query("UPDATE millstream.lease SET leased_at = now() - interval '40 days'")
            .execute(&lab.pool)
            .await
            .unwrap();
    })
    .await;
    assert_eq!(
        lab.state(suspect).await,
        "dead",
        "the control: a suspect whose worker really dies"
    );
}

// rule 45: the kernel closes the connections of a process that dies, and these are open
#[tokio::test]
async fn a_worker_that_freezes_again_and_again_gets_nobody_blamed() {
    let (lab, _keeper) = lab_with_keeper().await;
    let workers = [start(&lab), start(&lab)];
    lab.await_workers(3).await;
    let ids = [
        lab.worker_of(&workers[0]).await,
        lab.worker_of(&workers[1]).await,
    ];
    let job = send(&lab.producer(), "sleep", r#"{"ms":8000}"#, 1).await[0];
    for freeze in 1..=3 {
        let holder: i64 = eventually("it runs", async || {
            sqlx::query_scalar("SELECT worker_id FROM millstream.lease WHERE job_id = $1")
                .bind(job)
                .fetch_optional(&lab.pool)
                .await
                .unwrap()
        })
        .await;
        let frozen = &workers[usize::from(ids[1] == holder)];
        frozen.signal(Signal::STOP);
        eventually("it is taken over", async || {
            (crashes_of(&lab, job).await == freeze).then_some(())
        })
        .await;
        frozen.signal(Signal::CONT);
    }
    lab.await_state(job, "completed").await;
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE crash_count > 0")
            .await,
        0
    );
}

// rule 45: the outage is met by jobs that were suspects before it, and have a history
#[tokio::test]
async fn power_cuts_of_the_whole_fleet_bury_nothing() {
    let mut lab = Lab::new().await;
    // No keeper here: everybody dies.
    lab.config.diagnostics = true;
    let producer = lab.producer();
    let mut workers = vec![start(&lab), start(&lab)];
    lab.await_workers(2).await;
    let suspect = suspect(&lab, &producer, 6000).await;
    let earlier = "INSERT INTO millstream.job_error (job_id, epoch, attempt, class, message) SELECT $1, -n, 1, 'crash', 'earlier' FROM generate_series(1, 5) n";
    sqlx::query(earlier)
        .bind(suspect)
        .execute(&lab.pool)
        .await
        .unwrap();
    let others = send(&producer, "sleep", r#"{"ms":4000}"#, 4).await;
    for cut in 6..=7 {
        lab.await_number("SELECT count(*) FROM millstream.lease WHERE isolated", 1)
            .await;
        workers.iter_mut().for_each(Process::kill9);
        workers = vec![start(&lab), start(&lab)];
        let handed_out = "SELECT count(*) = 0 FROM millstream.lease WHERE isolated";
        eventually("the cut is noticed", async || {
            let left: bool = sqlx::query_scalar(handed_out)
                .fetch_one(&lab.pool)
                .await
                .expect("a look");
            (left && crashes_of(&lab, suspect).await >= cut).then_some(())
        })
        .await;
    }
    lab.await_count("completed", 1 + others.len() as i64).await;
    assert_eq!(lab.count("dead").await, 0);
}

// rule 45: one machine has the only worker, Postgres and everything
#[tokio::test]
async fn power_cuts_of_a_machine_with_one_worker_bury_nothing() {
    let mut lab = Lab::private(Durability::Full).await;
    lab.config.diagnostics = true;
    let producer = lab.producer();
    let mut worker = start(&lab);
    lab.await_workers(1).await;
    let suspect = suspect(&lab, &producer, 4000).await;
    for cut in 1..=2 {
        lab.await_number("SELECT count(*) FROM millstream.lease WHERE isolated", 1)
            .await;
        worker.kill9();
        lab.harm(|servers| servers.stop_postgres(PostgresStop::Immediate))
            .await;
        lab.harm(LocalServices::start_postgres).await;
        eventually("Postgres answers", async || {
            sqlx::query("SELECT 1").execute(&lab.pool).await.ok()
        })
        .await;
        worker = start(&lab);
        eventually("the cut is noticed", async || {
            (crashes_of(&lab, suspect).await >= cut).then_some(())
        })
        .await;
    }
    lab.await_state(suspect, "completed").await;
}

// rule 45: what ran through its term alone is not blamed for a killer that came after it
#[tokio::test]
async fn a_suspect_that_has_served_its_term_does_not_answer_for_others() {
    let (lab, _keeper) = lab_with_keeper().await;
    let mut workers = [start(&lab)];
    lab.await_workers(2).await;
    let producer = lab.producer();
    let suspect = suspect(&lab, &producer, 9000).await;
    lab.await_number("SELECT count(*) FROM millstream.lease WHERE isolated", 1)
        .await;
    lab.await_number(
        "SELECT count(*) FROM millstream.lease WHERE NOT isolated",
        1,
    )
    .await;
    let killer = send(&producer, "crash", r#"{"how":"abort"}"#, 1).await[0];
    let over =
        async || lab.state(killer).await == "dead" && lab.state(suspect).await == "completed";
    assert_eq!(supervise(&lab, &mut workers, over).await, 3);
}

// rule 45: a suspect has its worker for itself
#[tokio::test]
async fn a_suspect_runs_alone() {
    let lab = Lab::new().await;
    let _worker = lab.worker().await;
    let producer = lab.producer();
    let suspect = suspect(&lab, &producer, 2000).await;
    lab.await_number("SELECT count(*) FROM millstream.lease WHERE isolated", 1)
        .await;
    let others = send(&producer, "noop", "1", 200).await;
    lab.await_all_completed(201).await;
    let before: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM millstream.job o JOIN millstream.job s ON s.id = $1 WHERE o.id = ANY($2) AND o.started_at < s.started_at + interval '2 seconds'",
    )
    .bind(suspect)
    .bind(&others)
    .fetch_one(&lab.pool)
    .await
    .unwrap();
    assert_eq!(before, 0, "jobs that started beside the suspect");
}
