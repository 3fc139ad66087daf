//! Whoever waits for a lock leaves the batch (X63), on the way back as well: the row of one job that somebody else's transaction holds, as somebody
//! with `psql` who goes to lunch might, keeps no other job waiting. The same for a row that Postgres cannot write just now.

use millstream_local::Durability;
use millstream_tests::{Lab, Process, Starts, ask::send, eventually};
use millstream_worker::{Context, Failure, Handler, Outcome, Success};
use sqlx::{Postgres, Transaction};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Jobs of each way to end.
const JOBS: usize = 10;
/// Each is written by a statement of its own.
const WAYS: [&str; 3] = [r#""plain""#, r#""counted""#, r#""failed""#];

async fn hold(lab: &Lab, jobs: &[Uuid]) -> Transaction<'static, Postgres> {
    let mut tx = lab.pool.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM millstream.job WHERE id = ANY($1) FOR UPDATE")
        .bind(jobs)
        .execute(&mut *tx)
        .await
        .unwrap();
    tx
}

/// Ends in the way that its payload says when the gate opens.
fn ending(starts: &Starts, gate: &CancellationToken) -> Handler {
    let (starts, gate) = (starts.clone(), gate.clone());
    Handler::new("ending", move |context: Context, way: String| {
        let (run, gate) = (starts.run(context.job_id), gate.clone());
        async move {
            gate.cancelled().await;
            drop(run);
            let outcome: Outcome = match way.as_str() {
                "counted" => Ok(Success::new().and_tokens(Some(7))),
                "failed" => Err(Failure::permanent("as it was told to")),
                _ => Ok(Success::new()),
            };
            outcome
        }
    })
}

/// Thirty jobs in three ways. Returns one of each.
async fn thirty(lab: &Lab) -> Vec<Uuid> {
    let (producer, mut first) = (lab.producer(), Vec::new());
    for way in WAYS {
        first.extend(send(&producer, "ending", way, JOBS).await.pop());
    }
    first
}

async fn roomy() -> Lab {
    let mut lab = Lab::new().await;
    lab.config.worker.concurrency = 4 * JOBS;
    lab
}

// X63
#[tokio::test]
async fn x63_a_held_row_keeps_no_other_job_from_its_lease() {
    let lab = roomy().await;
    let jobs = send(&lab.producer(), "sleep", r#"{"ms":20000}"#, 3 * JOBS).await;
    let holder = hold(&lab, &jobs[..3]).await;
    let _worker = lab.worker().await;
    let leases = "SELECT count(*) FROM millstream.lease";
    lab.await_number(leases, 3 * JOBS as i64 - 3).await;
    assert_eq!(lab.number(leases).await, 3 * JOBS as i64 - 3);
    holder.rollback().await.unwrap();
    // One that could not be leased in time is stopped and handed out again.
    lab.await_number(leases, 3 * JOBS as i64).await;
}

// X63
#[tokio::test]
async fn x63_a_held_row_keeps_no_other_outcome_waiting() {
    let (lab, starts, gate) = (roomy().await, Starts::default(), CancellationToken::new());
    let _worker = lab.worker_with(vec![ending(&starts, &gate)]).await;
    let first = thirty(&lab).await;
    lab.await_number("SELECT count(*) FROM millstream.lease", 3 * JOBS as i64)
        .await;
    let holder = hold(&lab, &first).await;
    gate.cancel();
    lab.await_count("dead", JOBS as i64 - 1).await;
    lab.await_count("completed", 2 * (JOBS as i64 - 1)).await;
    // Short ones pass as well, however many batches they are.
    for _ in 0..5 {
        send(&lab.producer(), "noop", "1", 20).await;
    }
    lab.await_count("completed", 2 * (JOBS as i64 - 1) + 100)
        .await;
    holder.rollback().await.unwrap();
    lab.await_count("dead", JOBS as i64).await;
    lab.await_count("completed", 2 * JOBS as i64 + 100).await;
    let counted = "SELECT count(*) FROM millstream.job WHERE state = 2 AND tokens_actual = 7";
    assert_eq!(lab.number(counted).await, JOBS as i64);
    assert!(starts.repeated().is_empty(), "{:?}", starts.repeated());
    lab.await_drained("default").await;
}

// X63: jobs that end before they are leased
#[tokio::test]
async fn x63_a_held_row_keeps_no_short_job_waiting() {
    let lab = Lab::new().await;
    let jobs = send(&lab.producer(), "noop", "1", 200).await;
    let holder = hold(&lab, &jobs[100..101]).await;
    let _worker = lab.worker().await;
    lab.await_count("completed", 199).await;
    holder.rollback().await.unwrap();
    lab.await_all_completed(200).await;
}

// X63: what a dead worker had in hand
#[tokio::test]
async fn x63_a_held_row_keeps_no_other_job_of_a_dead_worker_waiting() {
    let lab = roomy().await;
    let concurrency = lab.config.worker.concurrency.to_string();
    let mut victim = Process::start(&lab, &["worker", "--concurrency", &concurrency]);
    lab.await_workers(1).await;
    let jobs = send(&lab.producer(), "sleep", r#"{"ms":3000}"#, JOBS).await;
    lab.await_number("SELECT count(*) FROM millstream.lease", JOBS as i64)
        .await;
    let holder = hold(&lab, &jobs[..1]).await;
    victim.kill9();
    let _other = lab.worker().await;
    lab.await_count("completed", JOBS as i64 - 1).await;
    holder.rollback().await.unwrap();
    lab.await_all_completed(JOBS as i64).await;
}

// X63: what Redis has lost
#[tokio::test]
async fn x63_a_held_row_keeps_no_other_lost_hint_waiting() {
    let mut lab = Lab::private(Durability::None).await;
    lab.config.worker.concurrency = 1;
    let (starts, gate) = (Starts::default(), CancellationToken::new());
    let _worker = lab.worker_with(vec![starts.gated("gated", &gate)]).await;
    let producer = lab.producer();
    send(&producer, "gated", "1", 1).await;
    lab.await_number("SELECT count(*) FROM millstream.lease", 1)
        .await;
    let jobs = send(&producer, "noop", "1", 200).await;
    let promised = "SELECT count(*) FROM millstream.parcel WHERE publishing_since IS NOT NULL";
    lab.await_number(promised, 1).await;
    let holder = hold(&lab, &jobs[199..]).await;
    lab.command::<String>(&["FLUSHALL"]).await;
    let again = "SELECT count(*) FROM millstream.job WHERE epoch > 0";
    lab.await_number(again, 1).await;
    gate.cancel();
    lab.await_count("completed", 200).await;
    holder.rollback().await.unwrap();
    lab.await_all_completed(201).await;
}

// X63: nobody waits for a job that is not his
#[tokio::test]
async fn x63_what_may_not_be_changed_is_not_waited_for() {
    let lab = Lab::new().await;
    let (job, final_job) = {
        let jobs = send(&lab.producer(), "noop", "1", 2).await;
        (jobs[0], jobs[1])
    };
    sqlx::query("UPDATE millstream.job SET state = 2, finished_at = now() WHERE id = $1")
        .bind(final_job)
        .execute(&lab.pool)
        .await
        .unwrap();
    let _holder = hold(&lab, &[job, final_job]).await;
    let mut asking = lab.pool.acquire().await.unwrap();
    sqlx::query("SET lock_timeout = '1s'")
        .execute(&mut *asking)
        .await
        .unwrap();
    for (what, job) in [
        (
            "SELECT count(*) FROM millstream.rehand(ARRAY[$1::uuid], ARRAY[7], 0, NULL, 3, true)",
            job,
        ),
        (
            "SELECT count(*) FROM millstream.bury(ARRAY[$1::uuid], ARRAY[7], 'crash', 'x')",
            job,
        ),
        (
            "SELECT count(*) FROM millstream.cancel(ARRAY[$1::uuid], 'x')",
            final_job,
        ),
        (
            "SELECT count(*) FROM millstream.retry_now(ARRAY[$1::uuid], 'x')",
            job,
        ),
    ] {
        let changed: i64 = sqlx::query_scalar(what)
            .bind(job)
            .fetch_one(&mut *asking)
            .await
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(changed, 0, "{what}");
    }
}

/// As a broken index page might, for one row.
const CURSED: &str = "CREATE FUNCTION public.curse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      RAISE EXCEPTION 'could not read block 7' USING ERRCODE = 'XX001';
    END $$;
    CREATE TRIGGER curse BEFORE UPDATE ON millstream.job FOR EACH ROW WHEN (NEW.state IN (2, 8) AND NEW.metadata LIKE '%cursed%')
    EXECUTE FUNCTION public.curse()";

// X07: an error that says nothing of the values
#[tokio::test]
async fn x07_a_row_that_postgres_cannot_write_holds_back_no_other() {
    let (lab, starts, gate) = (roomy().await, Starts::default(), CancellationToken::new());
    let _worker = lab.worker_with(vec![ending(&starts, &gate)]).await;
    let first = thirty(&lab).await;
    let curse = "UPDATE millstream.job SET metadata = '{\"is\": \"cursed\"}' WHERE id = ANY($1)";
    sqlx::query(curse)
        .bind(&first)
        .execute(&lab.pool)
        .await
        .unwrap();
    sqlx::raw_sql(CURSED).execute(&lab.pool).await.unwrap();
    lab.await_number("SELECT count(*) FROM millstream.lease", 3 * JOBS as i64)
        .await;
    gate.cancel();
    lab.await_count("dead", JOBS as i64 - 1).await;
    lab.await_count("completed", 2 * (JOBS as i64 - 1)).await;
    let repeated = starts.repeated();
    assert!(
        repeated.iter().all(|id| first.contains(id)),
        "only those run again: {repeated:?}"
    );
    sqlx::raw_sql("DROP TRIGGER curse ON millstream.job")
        .execute(&lab.pool)
        .await
        .unwrap();
    lab.await_count("dead", JOBS as i64).await;
    lab.await_count("completed", 2 * JOBS as i64).await;
}

// X11: a slow write of a handler holds up those like it only
#[tokio::test]
async fn x11_slow_writes_of_handlers_keep_no_other_outcome_waiting() {
    let (lab, gate) = (roomy().await, CancellationToken::new());
    let opens = gate.clone();
    let writing = Handler::new("writing", move |_: Context, _: serde_json::Value| {
        let gate = opens.clone();
        async move {
            let outcome: Outcome = Ok(Success::new().and_write(Box::new(move |_| {
                Box::pin(async move {
                    gate.cancelled().await;
                    Ok(())
                })
            })));
            outcome
        }
    });
    let _worker = lab.worker_with(vec![writing]).await;
    let producer = lab.producer();
    send(&producer, "writing", "1", JOBS).await;
    let in_writes = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'";
    lab.await_number(in_writes, 2).await;
    send(&producer, "noop", "1", 100).await;
    lab.await_count("completed", 100).await;
    gate.cancel();
    lab.await_all_completed(100 + JOBS as i64).await;
    eventually("no connection is kept", async || {
        (lab.number(in_writes).await == 0).then_some(())
    })
    .await;
}
