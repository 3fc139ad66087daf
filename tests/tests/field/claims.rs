//! What may start, and what a move leaves behind: pauses (X62, X71) and cancels that wait for a lease (X17).

use std::process::Output;

use millstream_common::{
    id::new_job_id,
    stream::entry::{JOBS_FIELD, PARCEL_FIELD, pack},
};
use millstream_producer::NewJob;
use millstream_tests::{
    Lab, Served, Starts,
    ask::{forge, send},
    eventually,
    process::run,
};
use millstream_worker::{Context, Handler, Success, Worker};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

async fn execute(lab: &Lab, sql: &'static str) {
    sqlx::raw_sql(sql)
        .execute(&lab.pool)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"));
}

/// Through the SQL door, which publishes nothing.
async fn enqueue(lab: &Lab, kind: &str, queue: &str, tenant: &str) -> Uuid {
    let ask = sqlx::query_scalar("SELECT millstream.enqueue($1, '0', queue => $2, tenant => $3)")
        .bind(kind)
        .bind(queue)
        .bind(tenant);
    ask.fetch_one(&lab.pool).await.unwrap()
}

async fn forge_hint(lab: &Lab, queue: &str, job: Uuid) {
    let stream = lab
        .keys()
        .stream(queue, millstream_common::job::Priority::Medium);
    forge(
        &mut lab.redis().await,
        &stream,
        &[
            (PARCEL_FIELD, b"1".to_vec()),
            (JOBS_FIELD, pack(&[(job, 0)])),
        ],
    )
    .await;
}

/// Available jobs that wait in a parcel at the epoch they have now.
const WAITING: &str = "SELECT count(*) FROM millstream.job j WHERE j.state = 0 AND EXISTS (
    SELECT 1 FROM millstream.parcel p, unnest(p.ids, p.epochs) AS u(id, epoch)
    WHERE p.publishing_since IS NULL AND u.id = j.id AND COALESCE(u.epoch, 0) = j.epoch)";

// X62: in every stream that this worker reads, for every reason why the job may not go
#[tokio::test]
async fn x62_a_forged_entry_starts_nothing_that_may_not_go_now() {
    let mut lab = Lab::new().await;
    execute(
        &lab,
        "INSERT INTO millstream.queue (name) VALUES ('halted'), ('unserved'); INSERT INTO millstream.tenant (name) VALUES ('halted')",
    )
    .await;
    lab.config.worker.queues = vec!["default".into(), "halted".into()];
    let starts = Starts::default();
    let worker = lab
        .worker_with(vec![starts.timed("timed"), starts.timed("halted")])
        .await;
    for table in [
        "UPDATE millstream.queue",
        "UPDATE millstream.kind",
        "UPDATE millstream.tenant",
    ] {
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "{table} SET paused = true WHERE name = 'halted'"
        )))
        .execute(&lab.pool)
        .await
        .unwrap();
    }
    let mut jobs = Vec::new();
    for (kind, queue, tenant) in [
        ("halted", "default", "default"),
        ("timed", "halted", "default"),
        ("timed", "default", "halted"),
        ("timed", "unserved", "default"),
    ] {
        let job = enqueue(&lab, kind, queue, tenant).await;
        jobs.push(job);
        for stream in ["default", "halted"] {
            forge_hint(&lab, stream, job).await;
        }
    }
    eventually("the forged entries are gone", async || {
        (lab.stream_length("default").await + lab.stream_length("halted").await == 0).then_some(())
    })
    .await;
    lab.await_number(WAITING, 4).await;
    assert_eq!((starts.jobs(), lab.count("available").await), (0, 4));
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE attempt + crash_count > 0")
            .await,
        0,
        "it has cost them nothing"
    );
    // What is closed opens: it goes on at once, and only once.
    execute(&lab, "UPDATE millstream.queue SET paused = false; UPDATE millstream.kind SET paused = false; UPDATE millstream.tenant SET paused = false").await;
    lab.await_count("completed", 3).await;
    assert_eq!(
        lab.state(jobs[3]).await,
        "available",
        "nobody serves its queue yet"
    );
    lab.config.worker.queues = vec!["unserved".into()];
    let _other = lab.worker_with(vec![starts.timed("timed")]).await;
    lab.await_count("completed", 4).await;
    assert_eq!(starts.repeated(), Vec::<Uuid>::new());
    worker.drain(CancellationToken::new()).await;
}

fn said(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A kind that is quick, so that its jobs are read ahead, until a job says that it waits for the gate.
fn mixed(starts: &Starts, gate: &CancellationToken) -> Handler {
    let (starts, gate) = (starts.clone(), gate.clone());
    Handler::new("mixed", move |context: Context, waits: bool| {
        let run = starts.run(context.job_id);
        let gate = gate.clone();
        async move {
            if waits {
                gate.cancelled().await;
            }
            drop(run);
            Ok(Success::new())
        }
    })
}

// X71: what was read ahead and waits for a slot does not start either, and the command says what still runs
#[tokio::test]
async fn x71_nothing_starts_after_a_pause_that_had_not_and_everything_after_its_end() {
    let mut lab = Lab::new().await;
    lab.config.worker.concurrency = 2;
    let (starts, gate) = (Starts::default(), CancellationToken::new());
    let worker = lab.worker_with(vec![mixed(&starts, &gate)]).await;
    let producer = lab.producer();
    send(&producer, "mixed", "false", 300).await;
    lab.await_all_completed(300).await;
    send(&producer, "mixed", "true", 30).await;
    lab.await_number("SELECT count(*) FROM millstream.lease", 30)
        .await;
    assert_eq!(
        starts.running().len(),
        2,
        "the others wait in hand for a slot"
    );

    let told = said(&run(&lab, &["kinds", "pause", "mixed"]).await);
    assert!(
        told.contains("30 jobs of it") && told.contains("two seconds"),
        "{told}"
    );
    eventually("what had not started is given back", async || {
        (lab.number("SELECT count(*) FROM millstream.lease").await == 2).then_some(())
    })
    .await;
    let told = said(&run(&lab, &["kinds", "pause", "mixed"]).await);
    assert!(told.contains("2 jobs of it still run"), "{told}");
    gate.cancel();
    lab.await_count("completed", 302).await;
    let dispatched = || {
        let runs = worker.health().metrics();
        let line = runs.lines().find_map(|l| {
            l.strip_prefix(r#"millstream_duty_runs_total{duty="dispatch",outcome="succeeded"} "#)?
                .parse::<u64>()
                .ok()
        });
        line.unwrap_or(0)
    };
    let before = dispatched();
    eventually("dispatch has looked again", async || {
        (dispatched() > before + 5).then_some(())
    })
    .await;
    assert_eq!(
        (
            starts.jobs(),
            lab.count("available").await,
            lab.number(WAITING).await
        ),
        (302, 28, 28)
    );
    assert_eq!(
        lab.number(
            "SELECT count(*) FROM millstream.job WHERE state = 0 AND attempt + crash_count > 0"
        )
        .await,
        0
    );

    said(&run(&lab, &["kinds", "resume", "mixed"]).await);
    lab.await_all_completed(330).await;
    assert_eq!(starts.repeated(), Vec::<Uuid>::new());
}

/// What is paused, as it is read now; a worker's own look at it takes longer than its word counts.
async fn slow_down_looks(lab: &Lab) -> String {
    let view: String = sqlx::query_scalar("SELECT pg_get_viewdef('millstream.closed'::regclass)")
        .fetch_one(&lab.pool)
        .await
        .expect("the view");
    let plain = view.trim_end().trim_end_matches(';').to_owned();
    let slow = format!(
        "SELECT c.* FROM ({plain}) c, (SELECT CASE WHEN current_query() LIKE 'SELECT queues, kinds, tenants%' THEN pg_sleep(2)::text END AS slept) s"
    );
    replace_closed(lab, &slow).await;
    plain
}

async fn replace_closed(lab: &Lab, select: &str) {
    let view = format!("CREATE OR REPLACE VIEW millstream.closed AS {select}");
    sqlx::query(sqlx::AssertSqlSafe(view))
        .execute(&lab.pool)
        .await
        .expect("a view");
}

// X71: nothing that waits in hand starts then, and that is not kept quiet
#[tokio::test]
async fn x71_a_worker_that_learns_too_late_what_is_paused_says_so_until_it_learns_it_in_time() {
    let lab = Lab::new().await;
    let worker = Served::start(&lab, &["worker"]).await;
    let plain = slow_down_looks(&lab).await;
    let (status, told) = worker
        .await_ready("it does not know what is paused", |told| {
            told["pauses_known"] == false
        })
        .await;
    assert!(
        status == 503 && told["ready"] == false && told["postgres"] == true,
        "{status} {told}"
    );
    assert!(
        worker.sample("millstream_pauses_unknown").await > 0.5
            && worker.log().contains("what is paused"),
        "{}",
        worker.log()
    );
    // What Postgres has just handed out is known to be open.
    send(&lab.producer(), "noop", "1", 20).await;
    lab.await_all_completed(20).await;
    replace_closed(&lab, &plain).await;
    let (status, told) = worker
        .await_ready("it knows what is paused", |told| {
            told["pauses_known"] == true
        })
        .await;
    assert!(status == 200 && told["ready"] == true, "{status} {told}");
    eventually("the metric says so", async || {
        (worker.sample("millstream_pauses_unknown").await < 0.5).then_some(())
    })
    .await;
}

const WAIT_FOR_ROWS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event IN ('transactionid', 'tuple', 'spectoken')";

/// Has a worker lease a job, holds its statement between the job's row and the lease, and calls a function on the job that waits for the row.
async fn while_it_is_leased(call: &'static str) -> (Lab, Worker, Starts, Uuid) {
    let lab = Lab::new().await;
    let (starts, gate) = (Starts::default(), CancellationToken::new());
    let worker = lab.worker_with(vec![starts.gated("gated", &gate)]).await;
    let mut held = lab.pool.begin().await.unwrap();
    let job = NewJob {
        id: new_job_id(),
        ..NewJob::new("gated", "1")
    };
    let id = job.id;
    // Whoever inserts this row too waits for the end of this transaction.
    let lease =
        sqlx::query("INSERT INTO millstream.lease (job_id, worker_id, epoch) VALUES ($1, 0, 0)")
            .bind(id);
    lease.execute(&mut *held).await.unwrap();
    lab.producer().enqueue(job).await.unwrap();
    lab.await_number(WAIT_FOR_ROWS, 1).await;
    let pool = lab.pool.clone();
    let waits = tokio::spawn(async move { sqlx::query(call).bind(id).execute(&pool).await });
    lab.await_number(WAIT_FOR_ROWS, 2).await;
    held.rollback().await.unwrap();
    waits.await.unwrap().unwrap();
    let left = "SELECT count(*) FROM millstream.lease WHERE epoch = 0";
    eventually("no lease stays", async || {
        (lab.number(left).await == 0).then_some(())
    })
    .await;
    (lab, worker, starts, id)
}

// X17
#[tokio::test]
async fn x17_a_cancel_that_waits_for_a_lease_stops_the_run() {
    let (lab, _worker, starts, id) =
        while_it_is_leased("SELECT millstream.cancel(ARRAY[$1], 'test')").await;
    assert_eq!(lab.state(id).await, "cancelled");
    eventually("nothing runs", async || {
        starts.running().is_empty().then_some(())
    })
    .await;
}

// X17
#[tokio::test]
async fn x17_a_burial_that_waits_for_a_lease_stops_the_run() {
    let (lab, _worker, starts, id) =
        while_it_is_leased("SELECT millstream.bury(ARRAY[$1], ARRAY[0], 'crash', 'test')").await;
    assert_eq!(lab.state(id).await, "dead");
    eventually("nothing runs", async || {
        starts.running().is_empty().then_some(())
    })
    .await;
}

// X17: the run is stopped, and the next hand-out has a lease of its own
#[tokio::test]
async fn x17_a_rehand_that_waits_for_a_lease_leaves_none_behind() {
    let (lab, _worker, starts, id) =
        while_it_is_leased("SELECT millstream.rehand(ARRAY[$1], ARRAY[0], 0, NULL, 3, true)").await;
    eventually("the next hand-out runs, and no other", async || {
        ((starts.of(id), starts.running().len()) == (2, 1)).then_some(())
    })
    .await;
    // On a machine that is busy the next hand-out may have been put back unstarted once: its number says nothing.
    let stale = "SELECT count(*) FROM millstream.lease l JOIN millstream.job j ON j.id = l.job_id WHERE l.epoch <> j.epoch";
    assert_eq!(
        (lab.number(stale).await, starts.overlapped()),
        (0, Vec::new())
    );
}
