//! Postgres has done what it was asked for, and its answer is lost: the client must find out or repeat, and neither may do harm.

use millstream_common::job::NewJob;
use millstream_tests::{Fault, Lab, Links, Process, Starts, ask::send, eventually};
use millstream_worker::{Handler, Success};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

fn statement(text: &str) -> Fault {
    Fault::CutStatement { text: text.into() }
}

async fn pause(lab: &Lab, paused: bool) {
    sqlx::query("UPDATE millstream.queue SET paused = $1")
        .bind(paused)
        .execute(&lab.pool)
        .await
        .unwrap();
}

/// Waits until the answer has been cut off: a test that cuts nothing shows nothing.
async fn cut(links: &Links) {
    eventually("the answer is cut off", async || {
        (links.postgres.cuts() == 1).then_some(())
    })
    .await;
}

// F26, rule 35
#[tokio::test]
async fn an_enqueue_whose_answer_is_lost_is_answered_after_all() {
    let lab = Lab::new().await;
    let links = Links::of(&lab).await;
    let producer = lab.producer_in(&links.config);
    send(&producer, "noop", "0", 1).await;
    links.postgres.set(statement("millstream.persist"));
    let job = NewJob::new("noop", "1");
    let enqueued = producer.enqueue(job.clone()).await.unwrap();
    assert_eq!(
        (enqueued.id, enqueued.duplicate, links.postgres.cuts()),
        (job.id, false, 1),
        "it is this caller's own job"
    );
    let _worker = lab.worker().await;
    lab.await_all_completed(2).await;
}

// F26, rule 35
#[tokio::test]
async fn many_enqueues_whose_answer_is_lost_are_answered_after_all_and_can_be_repeated() {
    let lab = Lab::new().await;
    let links = Links::of(&lab).await;
    let producer = lab.producer_in(&links.config);
    let mut expected = 0;
    // One statement; and over the size of a parcel, so a transaction.
    for (jobs, cut_at) in [(300, "millstream.persist"), (700, "COMMIT")] {
        let jobs: Vec<NewJob> = (0..jobs).map(|_| NewJob::new("noop", "1")).collect();
        expected += jobs.len() as i64;
        links.postgres.set(statement(cut_at));
        let answers = producer.enqueue_many(jobs.clone()).await.unwrap();
        assert!(
            answers.iter().zip(&jobs).all(|(answer, job)| answer
                .as_ref()
                .is_ok_and(|a| a.id == job.id && !a.duplicate)),
            "{cut_at}"
        );
        assert_eq!(
            lab.number("SELECT count(*) FROM millstream.job").await,
            expected,
            "each is there once"
        );
        let again = producer.enqueue_many(jobs.clone()).await.unwrap();
        assert!(
            again
                .iter()
                .zip(&jobs)
                .all(|(answer, job)| answer.as_ref().is_ok_and(|a| a.id == job.id && a.duplicate))
        );
    }
    assert_eq!(links.postgres.cuts(), 2);
    let _worker = lab.worker().await;
    lab.await_all_completed(expected).await;
}

// F26, rule 35
#[tokio::test]
async fn a_post_whose_answer_from_the_database_is_lost_makes_one_job() {
    let lab = Lab::new().await;
    let links = Links::of(&lab).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = format!("127.0.0.1:{port}");
    let _api = Process::start_in(&links.config, &["api", "--listen", &address], &[]);
    let client = reqwest::Client::new();
    let ready = async || {
        client
            .get(format!("http://{address}/readyz"))
            .send()
            .await
            .ok()
            .filter(|r| r.status().is_success())
    };
    eventually("the API is ready", ready).await;
    let send_it = async |body: &Value| {
        let reply = client
            .post(format!("http://{address}/v1/jobs"))
            .header("Idempotency-Key", "once")
            .json(body)
            .send()
            .await
            .unwrap();
        (reply.status(), reply.json::<Value>().await.unwrap())
    };
    links.postgres.set(statement("millstream.persist"));
    let (status, first) = send_it(&json!({"kind": "noop"})).await;
    assert_eq!(
        (status, &first["duplicate"], links.postgres.cuts()),
        (StatusCode::ACCEPTED, &json!(false), 1),
        "{first}"
    );
    let (status, second) = send_it(&json!({"kind": "noop"})).await;
    assert_eq!(
        (status, &second["id"], &second["duplicate"]),
        (StatusCode::ACCEPTED, &first["id"], &json!(true)),
        "{second}"
    );
    let _worker = lab.worker().await;
    lab.await_all_completed(1).await;
}

// F26: the question about a hint is answered to nobody; the entry stays pending and is handed out again
#[tokio::test]
async fn a_claim_whose_answer_is_lost_loses_no_job() {
    let lab = Lab::new().await;
    let (links, starts) = (Links::of(&lab).await, Starts::default());
    let _worker = lab
        .worker_in(&links.config, vec![starts.timed("timed")])
        .await;
    links.postgres.set(statement(
        "FROM millstream.job j CROSS JOIN millstream.closed WHERE id = ANY($1)",
    ));
    send(&lab.producer(), "timed", "1", 5).await;
    cut(&links).await;
    lab.await_all_completed(5).await;
    assert_eq!((starts.repeated(), starts.jobs()), (Vec::new(), 5));
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE crash_count > 0")
            .await,
        0,
        "nobody has died"
    );
}

// F26: leased to a worker that does not know it
#[tokio::test]
async fn a_claim_without_redis_whose_commit_is_cut_off_is_handed_back() {
    let lab = Lab::new().await;
    let (links, starts) = (Links::of(&lab).await, Starts::default());
    let worker = lab
        .worker_in(&links.config, vec![starts.timed("timed")])
        .await;
    links.redis.set(Fault::Refuse);
    links.redis.cut_all();
    let health = worker.health();
    eventually("the outage is noticed", async || {
        (health.readiness().redis == "down").then_some(())
    })
    .await;
    // Through the worker's own links, so that the parcels are not promised to a stream that nobody reads now.
    pause(&lab, true).await;
    send(&lab.producer_in(&links.config), "timed", "1", 5).await;
    // The claim is held up inside its transaction: a COMMIT of a claim that found nothing must not be the one that is cut off.
    let mut tx = lab.pool.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM millstream.job FOR UPDATE")
        .execute(&mut *tx)
        .await
        .unwrap();
    pause(&lab, false).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    lab.await_number(waiting, 1).await;
    links.postgres.set(statement("COMMIT"));
    tx.rollback().await.unwrap();
    cut(&links).await;
    lab.await_all_completed(5).await;
    assert_eq!((starts.repeated(), starts.jobs()), (Vec::new(), 5));
    assert_eq!(
        lab.number("SELECT min(epoch)::bigint FROM millstream.job")
            .await,
        3,
        "leased, handed back, leased"
    );
}

// F26
#[tokio::test]
async fn a_lease_whose_answer_is_lost_is_asked_for_again() {
    let lab = Lab::new().await;
    let (links, starts, gate) = (
        Links::of(&lab).await,
        Starts::default(),
        CancellationToken::new(),
    );
    let _worker = lab
        .worker_in(&links.config, vec![starts.gated("gated", &gate)])
        .await;
    links
        .postgres
        .set(statement("SELECT id, epoch, $3 FROM running"));
    let ids = send(&lab.producer(), "gated", "1", 3).await;
    cut(&links).await;
    for id in ids {
        lab.await_state(id, "running").await;
    }
    gate.cancel();
    lab.await_all_completed(3).await;
    assert_eq!((starts.repeated(), starts.jobs()), (Vec::new(), 3));
    assert_eq!(
        lab.number("SELECT max(epoch)::bigint FROM millstream.job")
            .await,
        0
    );
}

// F26
#[tokio::test]
async fn a_run_that_ends_before_it_is_known_whether_it_is_leased_counts() {
    let lab = Lab::new().await;
    let (links, starts, gate) = (
        Links::of(&lab).await,
        Starts::default(),
        CancellationToken::new(),
    );
    let _worker = lab
        .worker_in(&links.config, vec![starts.gated("gated", &gate)])
        .await;
    links
        .postgres
        .set(statement("SELECT id, epoch, $3 FROM running"));
    send(&lab.producer(), "gated", "1", 3).await;
    cut(&links).await;
    gate.cancel();
    lab.await_all_completed(3).await;
    assert_eq!((starts.repeated(), starts.jobs()), (Vec::new(), 3));
}

/// Jobs of a kind end, the answer to the statement that writes their outcomes is cut off, and still each has one outcome, the first.
async fn settles(kind: &str, payload: &str, cut_at: &str, more: Vec<Handler>) -> Lab {
    let lab = Lab::new().await;
    let links = Links::of(&lab).await;
    sqlx::raw_sql("CREATE TABLE written (n int)")
        .execute(&lab.pool)
        .await
        .unwrap();
    let _worker = lab.worker_in(&links.config, more).await;
    links.postgres.set(statement(cut_at));
    send(&lab.producer(), kind, payload, 4).await;
    cut(&links).await;
    lab.await_number(
        "SELECT count(*) FROM millstream.job WHERE state IN (2, 8)",
        4,
    )
    .await;
    lab.await_drained("default").await;
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE attempt <> 1 OR crash_count > 0")
            .await,
        0,
        "one outcome each"
    );
    assert_eq!(lab.number("SELECT count(*) FROM millstream.lease").await, 0);
    lab
}

// F26
#[tokio::test]
async fn a_completion_whose_answer_is_lost_is_accepted_once() {
    let starts = Starts::default();
    settles(
        "timed",
        "1",
        "j.id BETWEEN $5 AND $6 AND j.state = 0",
        vec![starts.timed("timed")],
    )
    .await;
    assert_eq!((starts.repeated(), starts.jobs()), (Vec::new(), 4));
}

// F26
#[tokio::test]
async fn the_completion_of_a_leased_job_whose_answer_is_lost_is_accepted_once() {
    let starts = Starts::default();
    settles(
        "timed",
        "600",
        "j.id BETWEEN $5 AND $6 AND j.state = 1",
        vec![starts.timed("timed")],
    )
    .await;
    assert_eq!((starts.repeated(), starts.jobs()), (Vec::new(), 4));
}

// F26
#[tokio::test]
async fn a_burial_whose_answer_is_lost_is_told_once() {
    let lab = settles(
        "fail",
        r#"{"class":"permanent"}"#,
        "INSERT INTO millstream.dead_letter",
        Vec::new(),
    )
    .await;
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.dead_letter")
            .await,
        4
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job_error")
            .await,
        4
    );
}

// F26: what a job wrote with its completion is there once, and the job does not run again for it
#[tokio::test]
async fn a_completion_with_writes_whose_commit_is_cut_off_is_accepted_once() {
    let starts = Starts::default();
    let counted = starts.clone();
    let writes = Handler::new(
        "writes",
        move |context: millstream_worker::Context, _: Value| {
            let run = counted.run(context.job_id);
            async move {
                drop(run);
                Ok(Success::new().and_write(Box::new(|conn| {
                    Box::pin(async move {
                        sqlx::query("INSERT INTO written VALUES (1)")
                            .execute(conn)
                            .await
                            .map(drop)
                    })
                })))
            }
        },
    );
    let lab = settles("writes", "1", "COMMIT", vec![writes]).await;
    assert_eq!((starts.repeated(), starts.jobs()), (Vec::new(), 4));
    assert_eq!(lab.number("SELECT count(*) FROM written").await, 4);
}
