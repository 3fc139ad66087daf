//! Retention: what goes, what stays, and who waits for it (F63, B2).

use millstream_common::{
    error::{Error, Refusal},
    job::NewJob,
};
use millstream_tests::{Lab, Process, ask::send, eventually};
use rustix::process::Signal;

/// A day long ago, with a partition of its own, and jobs of some states and tenants in it.
async fn long_ago(lab: &Lab, days: i32) {
    let made = format!(
        "DO $$
         DECLARE day date := (now() AT TIME ZONE 'UTC')::date - {days};
         BEGIN
           EXECUTE format('CREATE TABLE millstream.%I PARTITION OF millstream.job FOR VALUES FROM (%L) TO (%L)', 'job_' || to_char(day, 'YYYYMMDD'),
             millstream.uuid_at(day::timestamp AT TIME ZONE 'UTC'), millstream.uuid_at((day + 1)::timestamp AT TIME ZONE 'UTC'));
         END $$;
         INSERT INTO millstream.tenant (name, keep_days, keep_days_set_at) VALUES ('short', 7, now()), ('long', 90, now()) ON CONFLICT DO NOTHING;
         CREATE TABLE IF NOT EXISTS old (name text, id uuid);"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(made))
        .execute(&lab.pool)
        .await
        .unwrap();
    for (name, tenant, state) in [
        ("done", "default", 2),
        ("cancelled", "default", 7),
        ("dead", "default", 8),
        ("later", "default", 3),
        ("long", "long", 2),
        ("short", "short", 2),
    ] {
        put(lab, name, tenant, state, days, 1).await;
    }
}

/// So many jobs of that day, each with an error, a log line and a key.
async fn put(lab: &Lab, name: &str, tenant: &str, state: i16, days: i32, jobs: i32) {
    sqlx::query(
        "WITH added AS (
           INSERT INTO millstream.job (id, queue_id, kind_id, tenant_id, state, payload, finished_at, ready_at)
           SELECT (substr(millstream.uuid_at((now() AT TIME ZONE 'UTC')::date::timestamp AT TIME ZONE 'UTC' - $4 * interval '1 day' + interval '1 hour')::text, 1, 14)
                   || '7' || substr(r, 16, 3) || '-8' || substr(r, 21, 3) || '-' || substr(r, 25, 12))::uuid,
                  q.id, k.id, t.id, $3, '1', CASE WHEN $3 IN (2, 7, 8) THEN now() - $4 * interval '1 day' END, CASE WHEN $3 = 3 THEN now() + interval '1 day' END
           FROM (SELECT gen_random_uuid()::text AS r FROM generate_series(1, $5)) AS random, millstream.queue q, millstream.kind k, millstream.tenant t
           WHERE q.name = 'default' AND k.name = 'noop' AND t.name = $2 RETURNING id, tenant_id
         ), errors AS (INSERT INTO millstream.job_error (job_id, epoch, attempt, class, message) SELECT id, 0, 1, 'retry', 'x' FROM added
         ), lines AS (INSERT INTO millstream.job_log (job_id, epoch, line) SELECT id, 0, 'x' FROM added
         ), keys AS (INSERT INTO millstream.job_key (tenant_id, key, job_id, payload_hash) SELECT tenant_id, id::text, id, '' FROM added)
         INSERT INTO old SELECT $1, id FROM added",
    )
    .bind(name)
    .bind(tenant)
    .bind(state)
    .bind(days)
    .bind(jobs)
    .execute(&lab.pool)
    .await
    .unwrap();
}

/// Names of the old jobs that are there, with everything that hangs on them.
async fn left(lab: &Lab) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT o.name FROM old o JOIN millstream.job j ON j.id = o.id JOIN millstream.job_error e ON e.job_id = o.id
         JOIN millstream.job_log l ON l.job_id = o.id JOIN millstream.job_key k ON k.job_id = o.id GROUP BY o.name ORDER BY o.name",
    )
    .fetch_all(&lab.pool)
    .await
    .unwrap()
}

const DAYS: &str =
    "SELECT count(*) FROM millstream.days() WHERE day < (now() AT TIME ZONE 'UTC')::date - 1";
const GONE: &str = "SELECT count(*) FROM old o WHERE NOT EXISTS (SELECT 1 FROM millstream.job j WHERE j.id = o.id)";
const HANGING: &str = "SELECT (SELECT count(*) FROM millstream.job_error) + (SELECT count(*) FROM millstream.job_log) + (SELECT count(*) FROM millstream.job_key)";

// F63 B2
#[tokio::test]
async fn a_day_that_is_over_is_dropped_and_what_must_stay_is_moved_out() {
    let lab = Lab::new().await;
    long_ago(&lab, 40).await;
    let _worker = lab.worker().await;
    lab.await_number(GONE, 3).await;
    assert_eq!(left(&lab).await, ["dead", "later", "long"]);
    assert_eq!(lab.number(DAYS).await, 0);
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job_default")
            .await,
        3
    );
    eventually("nothing hangs on jobs that are gone", async || {
        (lab.number(HANGING).await == 9).then_some(())
    })
    .await;
    // What was moved lives on: it is released, runs and ends.
    sqlx::query("UPDATE millstream.job SET ready_at = now() WHERE state = 3")
        .execute(&lab.pool)
        .await
        .unwrap();
    lab.await_number("SELECT count(*) FROM millstream.job WHERE state = 2", 2)
        .await;
}

// B2
#[tokio::test]
async fn a_tenant_with_a_short_rule_is_rid_of_its_jobs_earlier() {
    let lab = Lab::new().await;
    long_ago(&lab, 10).await;
    let _worker = lab.worker().await;
    lab.await_number(GONE, 1).await;
    assert_eq!(
        left(&lab).await,
        ["cancelled", "dead", "done", "later", "long"]
    );
    assert_eq!((lab.number(DAYS).await, lab.number(HANGING).await), (1, 15));
}

// F63 B2
#[tokio::test]
async fn a_day_of_which_too_much_must_stay_is_not_dropped_but_rid_of_the_rest() {
    let lab = Lab::new().await;
    long_ago(&lab, 40).await;
    put(&lab, "long", "long", 2, 40, 6_000).await;
    let _worker = lab.worker().await;
    lab.await_number(GONE, 3).await;
    assert_eq!(left(&lab).await, ["dead", "later", "long"]);
    assert_eq!(
        (
            lab.number(DAYS).await,
            lab.number("SELECT count(*) FROM millstream.job_default")
                .await
        ),
        (1, 0)
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM pg_trigger WHERE tgname = 'job_sealed'")
            .await,
        0,
        "it takes jobs again"
    );
}

// F63: who reads the table for long delays the end of a day, and nobody waits for either.
#[tokio::test]
async fn a_day_is_not_dropped_under_a_reader_and_work_goes_on() {
    let lab = Lab::new().await;
    long_ago(&lab, 10).await;
    let mut reader = lab.pool.begin().await.unwrap();
    sqlx::query("SELECT count(*) FROM millstream.job")
        .execute(&mut *reader)
        .await
        .unwrap();
    let end = "SELECT millstream.seal_day(day), millstream.drop_day(day, '{}', millstream.rules()) FROM millstream.days() ORDER BY day LIMIT 1";
    let refused = sqlx::query(end).execute(&lab.pool).await.unwrap_err();
    assert_eq!(
        refused
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .as_deref(),
        Some("55P03"),
        "{refused}"
    );
    send(&lab.producer(), "noop", "1", 3).await;
    let _worker = lab.worker().await;
    lab.await_number(
        "SELECT count(*) FROM millstream.job WHERE state = 2 AND id NOT IN (SELECT id FROM old)",
        3,
    )
    .await;
    reader.rollback().await.unwrap();
    eventually("the day is dropped", async || {
        sqlx::query(end).execute(&lab.pool).await.ok()
    })
    .await;
    assert_eq!(lab.number(DAYS).await, 0);
}

// F63: between the look through a day and its end nothing gets in, or it would be dropped unseen.
#[tokio::test]
async fn a_day_that_is_sealed_takes_no_job_and_only_such_a_day_is_dropped() {
    let lab = Lab::new().await;
    long_ago(&lab, 10).await;
    let drop_it = "SELECT millstream.drop_day(day, '{}', millstream.rules()) FROM millstream.days() ORDER BY day LIMIT 1";
    let refused = sqlx::query(drop_it).execute(&lab.pool).await.unwrap_err();
    assert!(refused.to_string().contains("is not sealed"), "{refused}");
    sqlx::query("SELECT millstream.seal_day(day) FROM millstream.days() ORDER BY day LIMIT 1")
        .execute(&lab.pool)
        .await
        .unwrap();
    let old: millstream_common::id::JobId = sqlx::query_scalar(
        "SELECT (substr(millstream.uuid_at(now() - interval '10 days')::text, 1, 14) || '7000-8000-000000000000')::uuid",
    )
    .fetch_one(&lab.pool)
    .await
    .unwrap();
    let late = NewJob {
        id: old,
        ..NewJob::new("noop", "1")
    };
    // Others that come in at the same time are not kept from their jobs by it.
    let producer = lab.producer();
    let late_call = producer.enqueue(late.clone());
    let others =
        futures::future::join_all((0..20).map(|_| producer.enqueue(NewJob::new("noop", "1"))));
    let (refused, others) = futures::join!(late_call, others);
    assert!(
        matches!(&refused, Err(Error::Refused(Refusal::Conflict(why))) if why.contains("are being removed")),
        "{refused:?}"
    );
    assert!(others.iter().all(Result::is_ok), "{others:?}");
    let refused = producer.enqueue_many(vec![late.clone()]).await;
    assert!(
        matches!(&refused, Err(Error::Refused(Refusal::Conflict(_)))),
        "{refused:?}"
    );
    let there: millstream_common::id::JobId =
        sqlx::query_scalar("SELECT id FROM old WHERE name = 'done'")
            .fetch_one(&lab.pool)
            .await
            .unwrap();
    let again = NewJob {
        id: there,
        ..NewJob::new("noop", "1")
    };
    assert!(
        producer.enqueue(again).await.unwrap().duplicate,
        "a repeated call finds its job"
    );
    sqlx::query(drop_it).execute(&lab.pool).await.unwrap();
    assert!(
        !lab.producer().enqueue(late).await.unwrap().duplicate,
        "it goes to the default partition now"
    );
}

// F51, B2: a bench at somebody's own servers, and what is left when it is interrupted
#[tokio::test]
async fn a_bench_removes_nobodys_old_jobs_and_tidies_up_when_it_is_interrupted() {
    let lab = Lab::new().await;
    long_ago(&lab, 40).await;
    let producer = lab.producer();
    // As one that was killed leaves it: of a kind that the next one does not serve.
    sqlx::query("INSERT INTO millstream.queue (name) VALUES ('bench')")
        .execute(&lab.pool)
        .await
        .unwrap();
    let left_behind = producer
        .enqueue(NewJob {
            queue: "bench".into(),
            ..NewJob::new("echo", "1")
        })
        .await
        .unwrap()
        .id;
    let out = lab.folder().join("bench");
    let mut bench = Process::start(
        &lab,
        &[
            "bench",
            "--only",
            "latency_library",
            "--runs",
            "9",
            "--out",
            out.to_str().unwrap(),
        ],
    );
    // Its worker's retention has run: a tenant's own rule counts for everybody.
    lab.await_number("SELECT count(*) FROM millstream.swept", 1)
        .await;
    assert_eq!(
        left(&lab).await,
        ["cancelled", "dead", "done", "later", "long"]
    );
    assert_eq!(lab.state(left_behind).await, "cancelled");
    bench.signal(Signal::INT);
    assert_eq!(bench.exit_code().await, Some(1));
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.parcel").await,
        0
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.worker WHERE state = 'active'")
            .await,
        0
    );
    assert_eq!(
        lab.number(
            "SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'bench_raw'"
        )
        .await,
        0
    );
    let keys: Vec<String> = lab
        .command(&["KEYS", &format!("*bench-{}:*", bench.id())])
        .await;
    assert!(keys.is_empty(), "{keys:?}");
    assert_eq!(
        std::fs::read_dir(&out).unwrap().count(),
        1,
        "what was measured is told"
    );
}

// F4, B2: its keys outlive a dropped day for a while; whoever uses one gets a job of his own
#[tokio::test]
async fn a_key_whose_job_was_dropped_belongs_to_whoever_asks_next() {
    let lab = Lab::new().await;
    long_ago(&lab, 40).await;
    put(&lab, "done", "default", 2, 40, 3).await;
    let end = "SELECT millstream.seal_day(day), millstream.drop_day(day, '{}', millstream.rules()) FROM millstream.days() ORDER BY day LIMIT 1";
    let keys: Vec<String> = sqlx::query_scalar("SELECT id::text FROM old WHERE name = 'done'")
        .fetch_all(&lab.pool)
        .await
        .unwrap();
    sqlx::query(end).execute(&lab.pool).await.unwrap();
    assert!(
        lab.number("SELECT count(*) FROM millstream.job_key").await >= 4,
        "they are still there"
    );
    let keyed = |key: &str| NewJob {
        idempotency_key: Some(key.into()),
        ..NewJob::new("noop", "1")
    };
    let producer = lab.producer();
    let one = producer.enqueue(keyed(&keys[0])).await.unwrap();
    let many = producer
        .enqueue_many(vec![keyed(&keys[1]), keyed(&keys[0])])
        .await
        .unwrap();
    let [new, known] = [many[0].as_ref().unwrap(), many[1].as_ref().unwrap()];
    assert_eq!(
        (one.duplicate, new.duplicate, known.duplicate, known.id),
        (false, false, true, one.id)
    );
    let by_sql = "SELECT millstream.enqueue('noop', '1', idempotency_key => $1)";
    let sql: uuid::Uuid = sqlx::query_scalar(by_sql)
        .bind(&keys[2])
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    let again: uuid::Uuid = sqlx::query_scalar(by_sql)
        .bind(&keys[2])
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    assert_eq!(sql, again);
    let there: i64 = sqlx::query_scalar("SELECT count(*) FROM millstream.job WHERE id = ANY($1)")
        .bind(vec![one.id, new.id, sql])
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    assert_eq!(there, 3);
}

// B2: whoever was told that his jobs are kept does not lose them to the rule of before.
#[tokio::test]
async fn a_rule_that_is_set_while_a_day_is_looked_through_counts() {
    let lab = Lab::new().await;
    long_ago(&lab, 10).await;
    let seal = "SELECT millstream.seal_day(day) FROM millstream.days() ORDER BY day LIMIT 1";
    sqlx::query(seal).execute(&lab.pool).await.unwrap();
    let before: String = sqlx::query_scalar("SELECT millstream.rules()")
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    let mut keep = lab.pool.begin().await.unwrap();
    let set = "UPDATE millstream.tenant SET keep_days = 365, keep_days_set_at = now() WHERE name = 'default'";
    sqlx::query(set).execute(&mut *keep).await.unwrap();
    let end =
        "SELECT millstream.drop_day(day, '{}', $1) FROM millstream.days() ORDER BY day LIMIT 1";
    let waits = sqlx::query(end)
        .bind(&before)
        .execute(&lab.pool)
        .await
        .unwrap_err();
    assert_eq!(
        waits
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .as_deref(),
        Some("55P03"),
        "{waits}"
    );
    keep.commit().await.unwrap();
    let moved: Option<i64> = sqlx::query_scalar(end)
        .bind(&before)
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    assert_eq!(
        (moved, lab.number(DAYS).await, left(&lab).await.len()),
        (None, 1, 6),
        "nothing was done"
    );
}

// F21: tenants whose jobs nobody can run are as many as get their turn at a time, and hold up nobody.
#[tokio::test]
async fn tenants_whose_jobs_nobody_can_run_do_not_hold_up_those_behind_them() {
    let lab = Lab::new().await;
    sqlx::raw_sql(
        "INSERT INTO millstream.kind (name) VALUES ('nobodys');
         INSERT INTO millstream.tenant (name) SELECT 'blocked-' || n FROM generate_series(1, 70) AS n;
         INSERT INTO millstream.tenant (name) VALUES ('behind');
         SELECT millstream.enqueue('nobodys', '1', tenant => 'blocked-' || n) FROM generate_series(1, 70) AS n;
         SELECT millstream.enqueue('noop', '1', tenant => 'behind') FROM generate_series(1, 5);",
    )
    .execute(&lab.pool)
    .await
    .unwrap();
    let _worker = lab.worker().await;
    lab.await_number("SELECT count(*) FROM millstream.job WHERE state = 2", 5)
        .await;
}
