//! The backlog counts what can still run, at once (X12).

use millstream_tests::{Lab, ask::send, faults::random::Random, process::run};
use uuid::Uuid;

/// As `queues list`, `tenants list` and the metrics count it.
const BACKLOG: &str = "SELECT COALESCE(sum(GREATEST(jobs - GREATEST(done, CASE WHEN publishing_since IS NULL THEN taken ELSE 0 END), 0)), 0)::bigint FROM millstream.parcel";

async fn known(lab: &Lab, kind: &'static str) {
    lab.producer()
        .parts()
        .catalog
        .register_kinds(&[(kind, 3)])
        .await
        .unwrap();
}

async fn backlog(lab: &Lab) -> i64 {
    lab.number(BACKLOG).await
}

// X12: parcels that a producer has promised to the stream, and parcels that wait
#[tokio::test]
async fn x12_cancelled_jobs_leave_the_backlog_although_no_worker_lives() {
    let lab = Lab::new().await;
    known(&lab, "orphan").await;
    send(&lab.producer(), "orphan", "1", 700).await;
    sqlx::query("SELECT millstream.enqueue_many('orphan', array_fill('1'::jsonb, ARRAY[551]))")
        .execute(&lab.pool)
        .await
        .unwrap();
    assert_eq!(backlog(&lab).await, 1_251);
    let output = run(&lab, &["jobs", "cancel", "--kind", "orphan", "--yes"]).await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        (lab.count("cancelled").await, backlog(&lab).await),
        (1_251, 0)
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.parcel").await,
        0
    );
    let listed = run(&lab, &["--json", "queues", "list"]).await;
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let queue: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(queue["backlog"], 0, "{queue}");
    }
}

async fn ids(lab: &Lab, sql: &'static str) -> Vec<Uuid> {
    sqlx::query_scalar(sql).fetch_all(&lab.pool).await.unwrap()
}

fn some(random: &mut Random, ids: &[Uuid]) -> Vec<Uuid> {
    ids.iter()
        .copied()
        .filter(|_| random.below(3) == 0)
        .collect()
}

// X12: jobs of any age and epoch, in parcels of any form, after any move
#[tokio::test]
async fn x12_the_backlog_is_what_is_available_after_every_move() {
    let lab = Lab::new().await;
    known(&lab, "orphan").await;
    let mut random = Random::new(12);
    for round in 0..30 {
        let run_at = if round % 3 == 0 {
            "now() + interval '1 hour'"
        } else {
            "NULL"
        };
        let door = format!(
            "SELECT millstream.enqueue_many('orphan', array_fill('1'::jsonb, ARRAY[{}]), run_at => {run_at}, priority => '{}')",
            1 + random.below(60),
            ["high", "medium"][random.below(2) as usize]
        );
        sqlx::query(sqlx::AssertSqlSafe(door))
            .execute(&lab.pool)
            .await
            .unwrap();
        if round % 5 == 0 {
            // As a producer that promises, and dispatch that has split a parcel, leave them.
            sqlx::query("UPDATE millstream.parcel SET publishing_since = now() WHERE id % 3 = 0")
                .execute(&lab.pool)
                .await
                .unwrap();
        }
        let (open, later) = (
            ids(&lab, "SELECT id FROM millstream.job WHERE state = 0").await,
            ids(&lab, "SELECT id FROM millstream.job WHERE state = 3").await,
        );
        for (sql, jobs) in [
            (
                "SELECT millstream.retry_now($1, 'test')",
                some(&mut random, &later),
            ),
            (
                "SELECT millstream.cancel($1, 'test')",
                some(&mut random, &open),
            ),
            (
                "SELECT millstream.cancel($1, 'test')",
                some(&mut random, &later),
            ),
        ] {
            sqlx::query(sql)
                .bind(jobs)
                .execute(&lab.pool)
                .await
                .unwrap();
            assert_eq!(
                backlog(&lab).await,
                lab.count("available").await,
                "round {round}: {sql}"
            );
        }
    }
    let lengths = "SELECT count(*) FROM millstream.parcel WHERE jobs <> cardinality(ids) OR jobs <> COALESCE(cardinality(epochs), jobs) OR jobs = 0";
    assert_eq!(lab.number(lengths).await, 0);
    let all = ids(&lab, "SELECT id FROM millstream.job").await;
    sqlx::query("SELECT millstream.cancel($1, 'test')")
        .bind(all)
        .execute(&lab.pool)
        .await
        .unwrap();
    assert_eq!(
        (
            backlog(&lab).await,
            lab.number("SELECT count(*) FROM millstream.parcel").await
        ),
        (0, 0)
    );
}

// X12: many who cancel jobs of the same parcels at the same time
#[tokio::test]
async fn x12_cancels_that_meet_in_one_parcel_take_all_of_theirs_off_it() {
    let lab = Lab::new().await;
    known(&lab, "orphan").await;
    let jobs = send(&lab.producer(), "orphan", "1", 800).await;
    let cancels = (0..8).map(|nth| {
        let (pool, mine): (_, Vec<Uuid>) = (
            lab.pool.clone(),
            jobs.iter().copied().skip(nth).step_by(8).collect(),
        );
        tokio::spawn(async move {
            for chunk in mine.chunks(10) {
                sqlx::query("SELECT millstream.cancel($1, 'test')")
                    .bind(chunk)
                    .execute(&pool)
                    .await
                    .unwrap();
            }
        })
    });
    for cancel in cancels.collect::<Vec<_>>() {
        cancel.await.unwrap();
    }
    assert_eq!(
        (lab.count("cancelled").await, backlog(&lab).await),
        (800, 0)
    );
}

// X12: what still waits in a parcel of which some were cancelled runs
#[tokio::test]
async fn x12_what_is_left_of_a_parcel_runs() {
    let lab = Lab::new().await;
    let jobs: Vec<Uuid> = sqlx::query_scalar(
        "SELECT millstream.enqueue_many('noop', array_fill('1'::jsonb, ARRAY[900]))",
    )
    .fetch_all(&lab.pool)
    .await
    .unwrap();
    let cancelled: Vec<Uuid> = jobs.iter().copied().step_by(2).collect();
    sqlx::query("SELECT millstream.cancel($1, 'test')")
        .bind(cancelled)
        .execute(&lab.pool)
        .await
        .unwrap();
    assert_eq!(backlog(&lab).await, 450);
    let _worker = lab.worker().await;
    lab.await_count("completed", 450).await;
    lab.await_drained("default").await;
}

// X12: a purge takes nothing off that it should not, and leaves nothing behind
#[tokio::test]
async fn x12_a_purge_leaves_no_count_behind() {
    let lab = Lab::new().await;
    let worker = lab.worker().await;
    sqlx::query("SELECT millstream.enqueue_many('fail', array_fill('{\"class\":\"permanent\"}'::jsonb, ARRAY[40]))")
        .execute(&lab.pool)
        .await
        .unwrap();
    lab.await_count("dead", 40).await;
    let again = ids(&lab, "SELECT id FROM millstream.job LIMIT 20").await;
    worker
        .drain(tokio_util::sync::CancellationToken::new())
        .await;
    sqlx::query("SELECT millstream.retry_now($1, 'test')")
        .bind(again)
        .execute(&lab.pool)
        .await
        .unwrap();
    let output = run(&lab, &["dead", "purge", "--kind", "fail", "--yes"]).await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        (lab.count("available").await, backlog(&lab).await),
        (20, 20)
    );
}
