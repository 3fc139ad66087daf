//! Batches: exact counts, one end, one job that follows (F40, F41).

use millstream_common::id::{BatchId, JobId};
use millstream_tests::{Lab, Process, eventually};
use sqlx::{Connection, PgConnection};

use millstream_producer::NewJob;

/// The three numbers of a batch that say how its jobs have ended.
type Counts = (i32, i32, i32);

/// Opens a batch whose end starts an `echo` job.
async fn open(lab: &Lab, failure_share_max: f32) -> BatchId {
    sqlx::query_scalar("SELECT millstream.open_batch(failure_share_max => $1, next_kind => 'echo')")
        .bind(failure_share_max)
        .fetch_one(&lab.pool)
        .await
        .unwrap()
}

async fn seal(lab: &Lab, batch: BatchId) -> String {
    sqlx::query_scalar("SELECT millstream.seal_batch($1)")
        .bind(batch)
        .fetch_one(&lab.pool)
        .await
        .unwrap()
}

fn member(batch: BatchId, kind: &str, payload: &str) -> NewJob {
    NewJob {
        batch_id: Some(batch),
        ..NewJob::new(kind, payload)
    }
}

async fn send_all(lab: &Lab, jobs: Vec<NewJob>) -> Vec<JobId> {
    let sent = lab.producer().enqueue_many(jobs).await.unwrap();
    sent.into_iter().map(|job| job.unwrap().id).collect()
}

async fn add(lab: &Lab, batch: BatchId, kind: &str, payload: &str, count: usize) -> Vec<JobId> {
    let jobs = (0..count).map(|_| member(batch, kind, payload));
    send_all(lab, jobs.collect()).await
}

async fn state(lab: &Lab, batch: BatchId) -> (String, Counts) {
    let (state, succeeded, dead, cancelled) = sqlx::query_as(
        "SELECT state, succeeded, dead, cancelled FROM millstream.batch WHERE id = $1",
    )
    .bind(batch)
    .fetch_one(&lab.pool)
    .await
    .unwrap();
    (state, (succeeded, dead, cancelled))
}

async fn ended(lab: &Lab, batch: BatchId) -> (String, Counts) {
    eventually("the batch has ended", async || {
        let (state, counts) = state(lab, batch).await;
        (!["open", "sealed"].contains(&state.as_str())).then_some((state, counts))
    })
    .await
}

/// Counts every end of every batch from here on.
async fn watch_ends(lab: &Lab) {
    let watch = "CREATE TABLE public.ends (batch_id uuid);
        CREATE FUNCTION note_end() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO public.ends VALUES (NEW.id); RETURN NULL; END $$;
        CREATE TRIGGER note_end AFTER UPDATE ON millstream.batch FOR EACH ROW
          WHEN (OLD.state IN ('open', 'sealed') AND NEW.state NOT IN ('open', 'sealed')) EXECUTE FUNCTION note_end()";
    sqlx::raw_sql(watch).execute(&lab.pool).await.unwrap();
}

/// Batches whose numbers are not those of their jobs.
const INEXACT: &str = "SELECT count(*) FROM millstream.batch b JOIN (
    SELECT batch_id, count(*) AS total, count(*) FILTER (WHERE state = 2) AS succeeded,
           count(*) FILTER (WHERE state = 8) AS dead, count(*) FILTER (WHERE state = 7) AS cancelled
    FROM millstream.job WHERE batch_id IS NOT NULL GROUP BY batch_id) j ON j.batch_id = b.id
  JOIN millstream.batch_view v ON v.id = b.id
  WHERE (v.total, v.succeeded, v.dead, v.cancelled) <> (j.total, j.succeeded, j.dead, j.cancelled)
  OR b.dead + b.cancelled <> (SELECT count(*) FROM millstream.batch_failure f WHERE f.batch_id = b.id)";

/// When the one batch has ended, in microseconds.
const END: &str = "SELECT (extract(epoch FROM ended_at) * 1000000)::bigint FROM millstream.batch";

const FOLLOWED: &str = "SELECT count(*) FROM millstream.job WHERE payload LIKE '%\"batch\"%'";

// F40
#[tokio::test]
async fn f40_a_batch_ends_once_whatever_dies_and_however_often_its_jobs_are_sent() {
    let lab = Lab::new().await;
    watch_ends(&lab).await;
    let start = || Process::start(&lab, &["worker", "--concurrency", "16"]);
    let mut workers = [start(), start(), start()];
    lab.await_workers(3).await;
    let mut batches = Vec::new();
    for nth in 0..6 {
        let batch = open(&lab, 0.5).await;
        let mut jobs: Vec<_> = (0..300).map(|_| member(batch, "noop", "1")).collect();
        jobs.push(member(batch, "fail", r#"{"times":9,"class":"permanent"}"#));
        jobs.push(member(batch, "sleep", r#"{"ms":600}"#));
        for copies in [jobs.clone(), jobs] {
            send_all(&lab, copies).await;
        }
        seal(&lab, batch).await;
        batches.push(batch);
        if nth % 2 == 1 {
            workers[nth / 2].kill9();
            workers[nth / 2] = start();
        }
    }
    for batch in batches {
        assert_eq!(ended(&lab, batch).await, ("failed".into(), (301, 1, 0)));
    }
    assert_eq!(lab.number(INEXACT).await, 0);
    assert_eq!(lab.number("SELECT count(*) FROM ends").await, 6);
    lab.await_number(FOLLOWED, 6).await;
    assert_eq!(lab.number(FOLLOWED).await, 6);
}

// F40: jobs can be added while it is open, and their end is not its end
#[tokio::test]
async fn f40_an_open_batch_takes_jobs_and_ends_only_when_it_is_sealed() {
    let lab = Lab::new().await;
    let _worker = lab.worker().await;
    let batch = open(&lab, 0.0).await;
    for round in 1..=3 {
        add(&lab, batch, "noop", "1", 5).await;
        lab.await_count("completed", 5 * round).await;
        assert_eq!(state(&lab, batch).await.0, "open");
    }
    assert_eq!(seal(&lab, batch).await, "completed");
    assert_eq!(ended(&lab, batch).await.1, (15, 0, 0));
    let late = lab.producer().enqueue(member(batch, "noop", "1")).await;
    assert!(late.unwrap_err().to_string().contains("is sealed"));
    let empty = open(&lab, 0.0).await;
    assert_eq!(seal(&lab, empty).await, "completed");
    lab.await_number(FOLLOWED, 2).await;
    assert_eq!(lab.number(INEXACT).await, 0);
}

// F40: an end within the tolerance is final
#[tokio::test]
async fn f40_a_completed_batch_stays_so_when_a_dead_job_of_it_dies_again() {
    let lab = Lab::new().await;
    let _worker = lab.worker().await;
    let batch = open(&lab, 0.5).await;
    let jobs = [
        ("noop", "1"),
        ("fail", r#"{"times":9,"class":"permanent"}"#),
    ];
    let jobs = jobs.map(|(kind, payload)| NewJob {
        metadata: Some(r#"{"work":"one"}"#.into()),
        ..member(batch, kind, payload)
    });
    let dead = send_all(&lab, jobs.into()).await.pop().unwrap();
    seal(&lab, batch).await;
    assert_eq!(ended(&lab, batch).await, ("completed".into(), (1, 1, 0)));
    let first = lab.number(END).await;
    for _ in 0..2 {
        let retry = sqlx::query("SELECT millstream.retry_now(ARRAY[$1], 'test')").bind(dead);
        retry.execute(&lab.pool).await.unwrap();
        lab.await_state(dead, "dead").await;
    }
    assert_eq!(state(&lab, batch).await, ("completed".into(), (1, 1, 0)));
    assert_eq!(lab.number(END).await, first, "it has ended once");
}

// F40
#[tokio::test]
async fn f40_counts_are_exact_after_bury_cancel_and_retry() {
    let lab = Lab::new().await;
    watch_ends(&lab).await;
    // A kind that no worker runs.
    sqlx::query("INSERT INTO millstream.kind (name) VALUES ('nobody')")
        .execute(&lab.pool)
        .await
        .unwrap();
    let batch = open(&lab, 0.0).await;
    let buried = add(&lab, batch, "nobody", "1", 3).await;
    let cancelled = add(&lab, batch, "nobody", "1", 2).await;
    let lasting = add(&lab, batch, "nobody", "1", 1).await;
    seal(&lab, batch).await;
    let bury = "SELECT count(*) FROM millstream.bury($1, '{0,0,0}', 'crash', 'it killed two')";
    let cancel = "SELECT count(*) FROM millstream.cancel($1, 'test')";
    let retry = "SELECT count(*) FROM millstream.retry_now($1, 'test')";
    let act = async |sql: &'static str, jobs: &[JobId]| {
        // Once more: a repetition finds nothing to do.
        for _ in 0..2 {
            let query = sqlx::query(sql).bind(jobs);
            query.execute(&lab.pool).await.unwrap();
        }
        assert_eq!(lab.number(INEXACT).await, 0, "after {sql}");
        state(&lab, batch).await
    };
    assert_eq!(act(bury, &buried).await, ("sealed".into(), (0, 3, 0)));
    assert_eq!(act(retry, &buried[..1]).await, ("sealed".into(), (0, 2, 0)));
    assert_eq!(act(cancel, &cancelled).await, ("sealed".into(), (0, 2, 2)));
    assert_eq!(
        act(cancel, &buried[..1]).await,
        ("sealed".into(), (0, 2, 3))
    );
    assert_eq!(act(cancel, &lasting).await, ("failed".into(), (0, 2, 4)));
    // What failed gets another chance, and the batch with it. What followed has followed.
    assert_eq!(act(retry, &buried[1..]).await, ("sealed".into(), (0, 0, 4)));
    assert_eq!(
        act(cancel, &buried[1..]).await,
        ("failed".into(), (0, 0, 6))
    );
    assert_eq!(lab.number("SELECT count(*) FROM ends").await, 2);
    assert_eq!(lab.number(FOLLOWED).await, 1);
}

// F41: many successes of one kind of work do not hide that another failed
#[tokio::test]
async fn f41_a_batch_bears_a_share_of_failures_of_each_kind_of_work() {
    let lab = Lab::new().await;
    let _worker = lab.worker().await;
    let (fails, works) = (r#"{"times":9,"class":"permanent"}"#, "1");
    let job = |batch, kind: &str, payload: &str, work: &str| NewJob {
        metadata: Some(format!(r#"{{"work":"{work}"}}"#)),
        ..member(batch, kind, payload)
    };
    for (share, dead, of_their_work, wanted) in [
        (0.5, 1, 2, "completed"),
        (0.5, 2, 3, "failed"),
        (0.5, 1, 1, "failed"),
        (0.7, 7, 10, "completed"),
    ] {
        let batch = open(&lab, share).await;
        let mut jobs = Vec::new();
        for nth in 0..of_their_work {
            jobs.push(if nth < dead {
                job(batch, "fail", fails, "reading")
            } else {
                job(batch, "noop", works, "reading")
            });
        }
        jobs.extend((0..9).map(|_| job(batch, "noop", works, "writing")));
        send_all(&lab, jobs).await;
        seal(&lab, batch).await;
        let (state, (_, failed, _)) = ended(&lab, batch).await;
        assert_eq!(
            (state.as_str(), failed),
            (wanted, dead),
            "{dead} of {of_their_work}"
        );
    }
}

// F40: whoever adds in a long transaction keeps nobody waiting, and is waited for when the batch is sealed
#[tokio::test]
async fn f40_an_open_transaction_that_adds_jobs_holds_up_no_outcome() {
    let lab = Lab::new().await;
    let _worker = lab.worker().await;
    let batch = open(&lab, 0.0).await;
    let mut connection = lab.pool.acquire().await.unwrap();
    let mut adding = connection.begin().await.unwrap();
    lab.producer()
        .enqueue_in(&mut adding, vec![member(batch, "noop", "1")])
        .await
        .unwrap();
    add(&lab, batch, "noop", "1", 20).await;
    eventually("they are counted", async || {
        (state(&lab, batch).await.1.0 == 20).then_some(())
    })
    .await;
    let sealed = sqlx::query("SELECT millstream.seal_batch($1)").bind(batch);
    let refused = sealed.execute(&lab.pool).await.unwrap_err();
    assert_eq!(
        refused.as_database_error().unwrap().code().unwrap(),
        "55P03"
    );
    adding.commit().await.unwrap();
    seal(&lab, batch).await;
    assert_eq!(ended(&lab, batch).await, ("completed".into(), (21, 0, 0)));
}

// F40: who holds a batch keeps no outcome of its jobs waiting
#[tokio::test]
async fn f40_a_held_batch_keeps_no_outcome_waiting_and_is_counted_later() {
    let lab = Lab::new().await;
    let batch = open(&lab, 0.0).await;
    add(&lab, batch, "noop", "1", 20).await;
    seal(&lab, batch).await;
    let mut connection = lab.pool.acquire().await.unwrap();
    let mut holder = connection.begin().await.unwrap();
    // As somebody who seals it in a transaction of his own.
    lock(&mut holder, batch, "FOR UPDATE").await.unwrap();
    let _worker = lab.worker().await;
    lab.await_all_completed(20).await;
    let again = "SELECT count(*) FROM millstream.job WHERE epoch > 0";
    assert_eq!(lab.number(again).await, 0, "no outcome was given up");
    assert_eq!(state(&lab, batch).await, ("sealed".into(), (0, 0, 0)));
    assert_eq!(lab.number(INEXACT).await, 0, "the view knows of them");
    holder.rollback().await.unwrap();
    assert_eq!(ended(&lab, batch).await, ("completed".into(), (20, 0, 0)));
}

async fn lock(conn: &mut PgConnection, batch: BatchId, how: &str) -> Result<(), sqlx::Error> {
    let sql = format!("SELECT 1 FROM millstream.batch WHERE id = $1 {how}");
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(batch)
        .execute(conn)
        .await
        .map(drop)
}

// F40: one lock order for all who count
#[tokio::test]
async fn f40_batches_are_locked_in_the_order_of_their_ids() {
    let lab = Lab::new().await;
    let mut batches = Vec::new();
    for _ in 0..40 {
        batches.push(open(&lab, 0.0).await);
    }
    batches.sort();
    let patient = "ALTER FUNCTION millstream.lock_batches SET lock_timeout = '60s'";
    sqlx::query(patient).execute(&lab.pool).await.unwrap();
    let mut holding = lab.pool.begin().await.unwrap();
    lock(&mut holding, batches[0], "FOR NO KEY UPDATE")
        .await
        .unwrap();
    for order in [batches.clone(), batches.iter().rev().copied().collect()] {
        let pool = lab.pool.clone();
        let counting = async move {
            let mut connection = pool.acquire().await.unwrap();
            let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
                .fetch_one(&mut *connection)
                .await
                .unwrap();
            let count = tokio::spawn(async move {
                sqlx::query("SELECT millstream.count_completed($1)")
                    .bind(order)
                    .execute(&mut *connection)
                    .await
            });
            (pid, count)
        };
        let (pid, count) = counting.await;
        eventually("it waits for the first one", async || {
            let waits = "SELECT count(*) FROM pg_locks WHERE pid = $1 AND NOT granted";
            let waits: i64 = sqlx::query_scalar(waits)
                .bind(pid)
                .fetch_one(&lab.pool)
                .await
                .unwrap();
            (waits > 0).then_some(())
        })
        .await;
        for batch in &batches[1..] {
            let mut asking = lab.pool.begin().await.unwrap();
            lock(&mut asking, *batch, "FOR NO KEY UPDATE NOWAIT")
                .await
                .unwrap();
        }
        count.abort();
    }
}

// F40: jobs of many batches end together, in three processes
#[tokio::test]
async fn f40_many_batches_that_end_together_never_deadlock() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    let mut batches = Vec::new();
    for _ in 0..40 {
        batches.push(open(&lab, 0.0).await);
    }
    // Every slice of jobs has all batches in it, forwards or backwards.
    for round in 0..50 {
        let mut order = batches.clone();
        if round % 2 == 1 {
            order.reverse();
        }
        let jobs = order.into_iter().map(|batch| member(batch, "noop", "1"));
        let sent = producer.enqueue_many(jobs.collect()).await.unwrap();
        assert!(sent.iter().all(Result::is_ok));
    }
    for batch in &batches {
        seal(&lab, *batch).await;
    }
    let _workers = [0, 1, 2].map(|_| Process::start(&lab, &["worker"]));
    for batch in batches {
        assert_eq!(ended(&lab, batch).await, ("completed".into(), (50, 0, 0)));
    }
    let again = "SELECT count(*) FROM millstream.job WHERE epoch > 0";
    assert_eq!(lab.number(again).await, 0, "no outcome was lost");
    lab.await_number(FOLLOWED, 40).await;
    assert_eq!(lab.number(FOLLOWED).await, 40);
}
