//! The way of a job: enqueue, run, settle, retry, bury.

use millstream_common::{error::Refusal, job::Priority, state::State};
use millstream_producer::NewJob;
use millstream_tests::{Lab, eventually};
use serde_json::{Value, json};

async fn job(lab: &Lab, id: uuid::Uuid) -> Value {
    let text: String =
        sqlx::query_scalar("SELECT row_to_json(v)::text FROM millstream.job_view v WHERE id = $1")
            .bind(id)
            .fetch_one(&lab.pool)
            .await
            .unwrap();
    serde_json::from_str(&text).unwrap()
}

async fn await_state(lab: &Lab, id: uuid::Uuid, state: &str) -> Value {
    eventually(&format!("job {id} is {state}"), async || {
        let found = job(lab, id).await;
        (found["state"] == state).then_some(found)
    })
    .await
}

// F1, F3, F10
#[tokio::test]
async fn a_job_runs_once_and_keeps_its_result() {
    let lab = Lab::new().await;
    let (producer, _worker) = (lab.producer(), lab.worker().await);
    let enqueued = producer
        .enqueue(NewJob::new("echo", r#"{"a":1}"#))
        .await
        .unwrap();
    assert_eq!(
        (enqueued.state, enqueued.duplicate),
        (State::Available, false)
    );
    let done = await_state(&lab, enqueued.id, "completed").await;
    assert_eq!(
        (
            &done["result"],
            &done["attempt"],
            &done["epoch"],
            &done["progress"]
        ),
        (&json!({"a": 1}), &json!(1), &json!(0), &json!(1))
    );
    lab.await_drained("default").await;
}

// F3, F8: the three kinds of refusal write nothing
#[tokio::test]
async fn refused_jobs_leave_no_row() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    let mut unknown_queue = NewJob::new("echo", "1");
    unknown_queue.queue = "nowhere".into();
    for bad in [
        NewJob::new("echo", "{"),
        NewJob::new("nothing", "1"),
        unknown_queue,
        NewJob::new("echo", format!("\"{}\"", "x".repeat(70_000))),
    ] {
        assert!(producer.enqueue(bad).await.is_err());
    }
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM millstream.job")
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    assert_eq!(rows, 0);
}

// F3: the SQL door, committed and rolled back
#[tokio::test]
async fn the_sql_door_runs_what_commits_and_nothing_else() {
    let lab = Lab::new().await;
    let _worker = lab.worker().await;
    let mut tx = lab.pool.begin().await.unwrap();
    sqlx::query("SELECT millstream.enqueue('echo', '{\"b\":2}')")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.rollback().await.unwrap();
    let id: uuid::Uuid =
        sqlx::query_scalar("SELECT millstream.enqueue('echo', '{\"a\":1}', priority => 'high')")
            .fetch_one(&lab.pool)
            .await
            .unwrap();
    await_state(&lab, id, "completed").await;
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM millstream.job")
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    assert_eq!(rows, 1);
}

// F4
#[tokio::test]
async fn an_idempotency_key_enqueues_one_job_through_every_door() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    let keyed = |payload: &str| {
        let mut job = NewJob::new("echo", payload);
        job.idempotency_key = Some("order-7".into());
        job
    };
    let first = producer.enqueue(keyed(r#"{"a":1}"#)).await.unwrap();
    let again = producer.enqueue(keyed(r#"{ "a": 1 }"#)).await.unwrap();
    assert_eq!((again.id, again.duplicate), (first.id, true));
    let by_sql: uuid::Uuid = sqlx::query_scalar(
        "SELECT millstream.enqueue('echo', '{\"a\":1}', idempotency_key => 'order-7')",
    )
    .fetch_one(&lab.pool)
    .await
    .unwrap();
    assert_eq!(by_sql, first.id);
    let other = producer.enqueue(keyed(r#"{"a":2}"#)).await;
    assert!(
        matches!(
            other,
            Err(millstream_producer::Error::Refused(Refusal::Conflict(_)))
        ),
        "{other:?}"
    );
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM millstream.job")
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    assert_eq!(rows, 1);
}

// F10: a repeated enqueue with the same id is safe
#[tokio::test]
async fn the_same_id_twice_is_one_job() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    let job = NewJob::new("echo", "1");
    let first = producer.enqueue(job.clone()).await.unwrap();
    let second = producer.enqueue(job.clone()).await.unwrap();
    assert_eq!((second.id, second.duplicate), (first.id, true));
    let mut changed = job;
    changed.payload = "2".into();
    assert!(producer.enqueue(changed).await.is_err());
}

// F13, F14
#[tokio::test]
async fn failures_are_retried_and_the_last_one_buries() {
    let lab = Lab::new().await;
    let (producer, _worker) = (lab.producer(), lab.worker().await);
    let twice = producer
        .enqueue(NewJob::new("fail", r#"{"times":2,"message":"boom"}"#))
        .await
        .unwrap()
        .id;
    let always = producer
        .enqueue(NewJob::new("fail", r#"{"message":"never"}"#))
        .await
        .unwrap()
        .id;
    let permanent = producer
        .enqueue(NewJob::new("fail", r#"{"class":"permanent"}"#))
        .await
        .unwrap()
        .id;
    let limited = producer
        .enqueue(NewJob::new("fail", r#"{"times":1,"class":"rate_limited"}"#))
        .await
        .unwrap()
        .id;
    let undecodable = producer
        .enqueue(NewJob::new("sleep", r#"{"ms":"soon"}"#))
        .await
        .unwrap()
        .id;
    assert_eq!(await_state(&lab, twice, "completed").await["attempt"], 3);
    let dead = await_state(&lab, always, "dead").await;
    assert_eq!(
        (&dead["attempt"], &dead["error"]),
        (&json!(3), &json!("never"))
    );
    assert_eq!(await_state(&lab, permanent, "dead").await["attempt"], 1);
    assert_eq!(
        await_state(&lab, limited, "completed").await["attempt"],
        1,
        "a rate limit uses up no attempt"
    );
    await_state(&lab, undecodable, "dead").await;
    let reasons: Vec<(String, i64)> =
        sqlx::query_as("SELECT reason, count(*) FROM millstream.dead_letter GROUP BY 1 ORDER BY 1")
            .fetch_all(&lab.pool)
            .await
            .unwrap();
    assert_eq!(
        reasons,
        [
            ("attempts".into(), 1),
            ("permanent".into(), 1),
            ("undecodable".into(), 1)
        ]
    );
    let history: Vec<(i16, String)> = sqlx::query_as(
        "SELECT attempt, message FROM millstream.job_error WHERE job_id = $1 ORDER BY epoch",
    )
    .bind(always)
    .fetch_all(&lab.pool)
    .await
    .unwrap();
    assert_eq!(history.iter().map(|h| h.0).collect::<Vec<_>>(), [1, 2, 3]);
    let mut redis = lab.redis().await;
    let notices: usize = redis::cmd("XLEN")
        .arg(lab.keys().dead("default"))
        .query_async(&mut redis)
        .await
        .unwrap();
    assert_eq!(notices, 3);
}

// F14: the board of one queue is somebody's list, that of another cannot take one more entry, and the third is as it should be
#[tokio::test]
async fn a_notice_board_that_takes_nothing_is_made_anew_and_no_other() {
    let lab = Lab::new().await;
    sqlx::raw_sql("INSERT INTO millstream.queue (name) VALUES ('used-up')")
        .execute(&lab.pool)
        .await
        .unwrap();
    let board = |queue: &str| lab.keys().dead(queue);
    let (fine, list, used_up) = (board("default"), board("documents"), board("used-up"));
    lab.command::<String>(&["XADD", &fine, "1-1", "job", "an older one"])
        .await;
    lab.command::<i64>(&["LPUSH", &list, "x"]).await;
    lab.command::<String>(&[
        "XADD",
        &used_up,
        "18446744073709551615-18446744073709551615",
        "job",
        "the last one",
    ])
    .await;
    let (producer, _worker) = (lab.producer(), lab.worker().await);
    let jobs = (0..60).map(|nth| {
        let queue = ["default", "documents", "used-up"][nth % 3].to_owned();
        NewJob {
            queue,
            ..NewJob::new("fail", r#"{"class":"permanent"}"#)
        }
    });
    producer.enqueue_many(jobs.collect()).await.unwrap();
    lab.await_count("dead", 60).await;
    for (board, notices) in [(&fine, 21), (&list, 20), (&used_up, 20)] {
        eventually("the board has them all", async || {
            let answer: Result<usize, _> = redis::cmd("XLEN")
                .arg(board)
                .query_async(&mut lab.redis().await)
                .await;
            (answer.ok() == Some(notices)).then_some(())
        })
        .await;
    }
}

// F14, rule 84: redrive
#[tokio::test]
async fn a_redriven_job_starts_anew_at_a_higher_epoch() {
    let lab = Lab::new().await;
    let (producer, _worker) = (lab.producer(), lab.worker().await);
    let mut job = NewJob::new("fail", r#"{"message":"x"}"#);
    job.max_attempts = Some(1);
    let id = producer.enqueue(job).await.unwrap().id;
    let dead = await_state(&lab, id, "dead").await;
    let letters = "SELECT (SELECT count(*) FROM millstream.dead_letter) * 100 + (SELECT count(*) FROM millstream.job_error)";
    assert_eq!(
        lab.number(letters).await,
        101,
        "a letter, and an error in its history"
    );
    sqlx::query("SELECT millstream.retry_now(ARRAY[$1::uuid], 'test')")
        .bind(id)
        .execute(&lab.pool)
        .await
        .unwrap();
    let again = eventually("dead again at a higher epoch", async || {
        let found = job_epoch(&lab, id).await;
        (found.0 == "dead" && found.1 > dead["epoch"].as_i64().unwrap() + 1).then_some(found)
    })
    .await;
    assert!(again.1 >= 3);
    assert_eq!(
        lab.number(letters).await,
        102,
        "one letter again, and both errors"
    );
    let row = await_state(&lab, id, "dead").await;
    assert_eq!(
        (&row["payload"], &row["attempt"], &row["max_attempts"]),
        (&dead["payload"], &1.into(), &1.into()),
        "attempts begin anew"
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job").await,
        1,
        "it is the same job"
    );
    let audits: Vec<(String, serde_json::Value)> =
        sqlx::query_as("SELECT actor, detail FROM millstream.audit WHERE action = 'retry'")
            .fetch_all(&lab.pool)
            .await
            .unwrap();
    assert_eq!(
        audits,
        [("test".to_owned(), serde_json::json!({"jobs": [id]}))],
        "who did it, and to which job"
    );
}

async fn job_epoch(lab: &Lab, id: uuid::Uuid) -> (String, i64) {
    let found = job(lab, id).await;
    (
        found["state"].as_str().unwrap().to_owned(),
        found["epoch"].as_i64().unwrap(),
    )
}

// F5
#[tokio::test]
async fn a_scheduled_job_waits_for_its_time() {
    let lab = Lab::new().await;
    let (producer, _worker) = (lab.producer(), lab.worker().await);
    let mut soon = NewJob::new("echo", "1");
    soon.run_at = Some(millstream_common::clock::now() + chrono::Duration::milliseconds(900));
    let enqueued = producer.enqueue(soon.clone()).await.unwrap();
    assert_eq!(enqueued.state, State::Scheduled);
    let done = await_state(&lab, enqueued.id, "completed").await;
    let started: chrono::DateTime<chrono::Utc> =
        done["started_at"].as_str().unwrap().parse().unwrap();
    assert!(started >= soon.run_at.unwrap(), "{done}");
}

// F2
#[tokio::test]
async fn the_database_refuses_illegal_transitions_and_falling_epochs() {
    let lab = Lab::new().await;
    for from in State::ALL {
        for to in State::ALL {
            let id = millstream_common::id::new_job_id();
            sqlx::query(
                "INSERT INTO millstream.job (id, queue_id, kind_id, tenant_id, payload, state, epoch) VALUES ($1, 1, 1, 1, '1', $2, 5)",
            )
            .bind(id)
            .bind(from.number())
            .execute(&lab.pool)
            .await
            .unwrap();
            let moved = sqlx::query("UPDATE millstream.job SET state = $2 WHERE id = $1")
                .bind(id)
                .bind(to.number())
                .execute(&lab.pool)
                .await;
            assert_eq!(
                moved.is_ok(),
                from == to || from.may_become(to),
                "{from} -> {to}"
            );
            let fallen = sqlx::query("UPDATE millstream.job SET epoch = 4 WHERE id = $1")
                .bind(id)
                .execute(&lab.pool)
                .await;
            assert!(fallen.is_err());
        }
    }
}

// F3, P: bulk, with several priorities, through one worker
#[tokio::test]
async fn many_jobs_all_run_and_nothing_is_left_behind() {
    let lab = Lab::new().await;
    let (producer, worker) = (lab.producer(), lab.worker().await);
    let jobs: Vec<_> = (0..5_000)
        .map(|n| {
            let mut job = NewJob::new("noop", n.to_string());
            job.priority = Priority::ALL[n % 3];
            job
        })
        .collect();
    let answers = producer.enqueue_many(jobs).await.unwrap();
    assert!(answers.iter().all(Result::is_ok));
    lab.await_count("completed", 5_000).await;
    lab.await_drained("default").await;
    let attempts: (i64, i64) =
        sqlx::query_as("SELECT min(attempt)::bigint, max(attempt)::bigint FROM millstream.job")
            .fetch_one(&lab.pool)
            .await
            .unwrap();
    assert_eq!(attempts, (1, 1));
    worker
        .drain(tokio_util::sync::CancellationToken::new())
        .await;
}

// F8: what would overflow calendars or partitions is refused at every door
#[tokio::test]
async fn far_futures_and_internal_kinds_are_refused_at_every_door() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    let mut far = NewJob::new("echo", "1");
    far.run_at = Some(chrono::DateTime::<chrono::Utc>::MAX_UTC);
    let mut future_id = NewJob::new("echo", "1");
    future_id.id = "ffffffff-ffff-7fff-bfff-ffffffffffff".parse().unwrap();
    for bad in [far, future_id, NewJob::new("document.chunk", "{}")] {
        assert!(producer.enqueue(bad).await.is_err());
    }
    for sql in [
        "SELECT millstream.enqueue('echo', run_at => 'infinity')",
        "SELECT millstream.enqueue('echo', run_at => '290000-01-01')",
        "SELECT millstream.enqueue('document.chunk')",
        "SELECT millstream.enqueue('echo', metadata => to_jsonb(repeat('m', 100000)))",
        "SELECT millstream.enqueue('echo', idempotency_key => '')",
    ] {
        assert!(sqlx::query(sql).execute(&lab.pool).await.is_err(), "{sql}");
    }
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM millstream.job")
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    assert_eq!(rows, 0);
}

// F4, S13: a key or an id belongs to one kind and one payload, also inside one batch
#[tokio::test]
async fn a_key_or_id_reused_for_something_else_is_a_conflict() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    let keyed = |kind: &str| {
        let mut job = NewJob::new(kind, "1");
        job.idempotency_key = Some("k".into());
        job
    };
    producer.enqueue(keyed("echo")).await.unwrap();
    assert!(producer.enqueue(keyed("noop")).await.is_err());
    assert!(
        sqlx::query("SELECT millstream.enqueue('noop', '1', idempotency_key => 'k')")
            .execute(&lab.pool)
            .await
            .is_err()
    );
    let old = NewJob::new("echo", "1");
    producer.enqueue(old.clone()).await.unwrap();
    let mut changed = old.clone();
    changed.payload = "2".into();
    let answers = producer.enqueue_many(vec![changed, old]).await.unwrap();
    assert!(
        answers[0].is_err() && answers[1].as_ref().is_ok_and(|a| a.duplicate),
        "{answers:?}"
    );
}

// F3: a role that may only use the schema can enqueue, and nothing else
#[tokio::test]
async fn an_application_role_can_enqueue_and_read_nothing() {
    let lab = Lab::new().await;
    let mut tx = lab.pool.begin().await.unwrap();
    let role = format!("app_{}", millstream_common::id::new_job_id().simple());
    for sql in [
        format!("CREATE ROLE {role}"),
        format!("GRANT USAGE ON SCHEMA millstream TO {role}"),
        format!("SET LOCAL ROLE {role}"),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .execute(&mut *tx)
            .await
            .unwrap();
    }
    sqlx::query("SELECT millstream.enqueue('echo', '1')")
        .execute(&mut *tx)
        .await
        .unwrap();
    assert!(
        sqlx::query("SELECT id FROM millstream.job")
            .execute(&mut *tx)
            .await
            .is_err()
    );
}
