//! Jobs that kill their workers.

use millstream_tests::{Lab, Process, ask::send, eventually};

/// Longer than any worker lives here: the bound only ends a test that would never end.
const RESTARTS_MAX: usize = 6;

// F15
#[tokio::test]
async fn a_job_that_kills_its_workers_is_buried_and_its_neighbours_live() {
    let mut lab = Lab::new().await;
    // Keeps house throughout, and never meets the job.
    lab.config.worker.kinds = vec!["noop".into()];
    let _keeper = lab.worker().await;
    lab.config.worker.kinds.clear();
    lab.config.diagnostics = true;
    let mut worker = Process::start(&lab, &["worker"]);
    lab.await_workers(2).await;
    let producer = lab.producer();
    let killer = send(&producer, "crash", r#"{"how":"abort"}"#, 1).await[0];
    let innocent = send(&producer, "sleep", r#"{"ms":300}"#, 1).await[0];
    let deaths = deaths_until_buried(&lab, &mut worker, killer).await;
    assert_eq!(deaths, 3);
    let reason: String =
        sqlx::query_scalar("SELECT reason FROM millstream.dead_letter WHERE job_id = $1").bind(killer).fetch_one(&lab.pool).await.unwrap();
    assert_eq!(reason, "crash");
    let history: i64 = sqlx::query_scalar("SELECT count(*) FROM millstream.job_error WHERE job_id = $1 AND class = 'crash'")
        .bind(killer)
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    assert_eq!(history, 3, "every death is told");
    let _last = Process::start(&lab, &["worker"]);
    lab.await_state(innocent, "completed").await;
    lab.await_drained("default").await;
}

/// Restarts the worker whenever it dies, as a supervisor does, and counts the deaths.
async fn deaths_until_buried(lab: &Lab, worker: &mut Process, killer: uuid::Uuid) -> usize {
    for deaths in 0..RESTARTS_MAX {
        let buried = eventually("the worker dies or the job is dead", async || {
            if lab.state(killer).await == "dead" { Some(true) } else { worker.has_ended().then_some(false) }
        })
        .await;
        if buried {
            return deaths;
        }
        *worker = Process::start(lab, &["worker"]);
    }
    panic!("the job was never buried");
}
