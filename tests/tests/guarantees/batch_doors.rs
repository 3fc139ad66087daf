//! The doors of batches: Rust, SQL, command line, and a job that adds to its own batch (F40).

use millstream_common::id::BatchId;
use millstream_producer::{BatchState, NewBatch, NewJob, Next};
use millstream_tests::{Lab, eventually, process::run};
use millstream_worker::{Context, Handler, Outcome, Success};
use serde_json::Value;

/// Adds two jobs to its own batch for each level that is left.
fn splitting() -> Handler {
    async fn split(context: Context, levels: u32) -> Outcome {
        if levels == 0 {
            return Ok(Success::new());
        }
        Ok(Success::new().and_write(Box::new(move |transaction| {
            Box::pin(async move {
                let jobs = (0..2).map(|_| NewJob::new("split", (levels - 1).to_string()));
                context.add_to_batch(transaction, jobs.collect()).await
            })
        })))
    }
    Handler::new("split", split)
}

async fn json(lab: &Lab, args: &[&str]) -> (i32, Value) {
    let done = run(lab, args).await;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    (
        done.status.code().unwrap(),
        serde_json::from_str(&text).unwrap_or_default(),
    )
}

// F40: a sealed batch takes jobs from its own jobs, and ends with the last of them
#[tokio::test]
async fn f40_jobs_of_a_sealed_batch_add_to_it() {
    let lab = Lab::new().await;
    let _worker = lab.worker_with(vec![splitting()]).await;
    let producer = lab.producer();
    let batch = producer
        .open_batch(&NewBatch {
            next: Some(Next::new("echo")),
            ..NewBatch::default()
        })
        .await
        .unwrap();
    let root = NewJob {
        batch_id: Some(batch),
        ..NewJob::new("split", "4")
    };
    producer.enqueue(root).await.unwrap();
    assert!(
        [BatchState::Sealed, BatchState::Completed]
            .contains(&producer.seal_batch(batch).await.unwrap())
    );
    let counts = eventually("the batch has ended", async || {
        sqlx::query_as::<_, (i32, i32)>(
            "SELECT total, succeeded FROM millstream.batch WHERE id = $1 AND state = 'completed'",
        )
        .bind(batch)
        .fetch_optional(&lab.pool)
        .await
        .unwrap()
    })
    .await;
    assert_eq!(counts, (31, 31));
    lab.await_count("completed", 32).await;
}

// F40: nobody from outside adds to a sealed batch, however many of its jobs are open
#[tokio::test]
async fn f40_a_sealed_batch_refuses_jobs_from_outside() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    let batch = producer.open_batch(&NewBatch::default()).await.unwrap();
    let job = || NewJob {
        batch_id: Some(batch),
        ..NewJob::new("noop", "1")
    };
    producer.enqueue_many(vec![job(), job()]).await.unwrap();
    assert_eq!(
        producer.seal_batch(batch).await.unwrap(),
        BatchState::Sealed
    );
    let late = producer.enqueue(job()).await.unwrap_err().to_string();
    assert!(late.contains("is sealed"), "{late}");
    let done =
        "UPDATE millstream.job SET state = 2 WHERE id = (SELECT id FROM millstream.job LIMIT 1)";
    sqlx::query(done).execute(&lab.pool).await.unwrap();
    // Nor does who names a job of it that another transaction has completed.
    let mut other = lab.pool.begin().await.unwrap();
    let pretend = "SELECT set_config('millstream.settling', (SELECT id::text FROM millstream.job WHERE state = 2), true)";
    sqlx::query(pretend).execute(&mut *other).await.unwrap();
    let late = sqlx::query("SELECT millstream.enqueue('echo', '1', batch => $1)").bind(batch);
    assert!(late.execute(&mut *other).await.is_err());
}

// F40
#[tokio::test]
async fn f40_the_command_line_opens_fills_seals_awaits_and_cancels_batches() {
    let lab = Lab::new().await;
    let _worker = lab.worker().await;
    let (_, made) = json(
        &lab,
        &[
            "batches", "create", "--name", "July", "--next", "echo", "--json",
        ],
    )
    .await;
    let id = made["id"].as_str().unwrap().to_owned();
    run(&lab, &["enqueue", "noop", "--count", "5", "--batch", &id]).await;
    run(
        &lab,
        &[
            "enqueue",
            "fail",
            "--payload",
            r#"{"times":1,"class":"permanent"}"#,
            "--batch",
            &id,
        ],
    )
    .await;
    let (_, sealed) = json(&lab, &["batches", "seal", &id, "--json"]).await;
    assert_eq!(sealed["total"], 6);
    let (exit, ended) = json(&lab, &["batches", "wait", &id, "--json"]).await;
    assert_eq!((exit, &ended["state"]), (1, &"failed".into()));
    let (_, shown) = json(&lab, &["batches", "show", &id, "--json"]).await;
    assert_eq!(
        (&shown["dead"], &shown["failures"][0]["work"]),
        (&1.into(), &"fail".into())
    );
    let (_, retried) = json(&lab, &["batches", "retry-failed", &id, "--json"]).await;
    assert_eq!(retried["retried"], 1);
    let listed = run(&lab, &["batches", "list"]).await;
    assert!(String::from_utf8_lossy(&listed.stdout).contains("July"));
    let (_, made) = json(&lab, &["batches", "create", "--json"]).await;
    let id = made["id"].as_str().unwrap().to_owned();
    run(
        &lab,
        &[
            "enqueue", "noop", "--run-at", "1h", "--count", "700", "--batch", &id,
        ],
    )
    .await;
    let (exit, cancelled) = json(&lab, &["batches", "cancel", &id, "--json"]).await;
    assert_eq!(
        (exit, &cancelled["state"], &cancelled["cancelled"]),
        (0, &"cancelled".into(), &700.into())
    );
    let (exit, _) = json(
        &lab,
        &["batches", "show", &BatchId::nil().to_string(), "--json"],
    )
    .await;
    assert_eq!(exit, 3);
}

// F40
#[tokio::test]
async fn f40_a_batch_that_cannot_be_is_refused_with_the_reason() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    let wrong = [
        (
            NewBatch {
                failure_share_max: 2.0,
                ..NewBatch::default()
            },
            "between 0 and 1",
        ),
        (
            NewBatch {
                tenant: "nobody".into(),
                ..NewBatch::default()
            },
            "tenant",
        ),
        (
            NewBatch {
                next: Some(Next::new("unheard-of")),
                ..NewBatch::default()
            },
            "kind",
        ),
        (
            NewBatch {
                next: Some(Next {
                    payload: "1".into(),
                    ..Next::new("echo")
                }),
                ..NewBatch::default()
            },
            "object",
        ),
    ];
    for (batch, reason) in wrong {
        let refused = producer.open_batch(&batch).await.unwrap_err().to_string();
        assert!(refused.contains(reason), "{refused}");
    }
    let unknown = NewJob {
        batch_id: Some(BatchId::nil()),
        ..NewJob::new("noop", "1")
    };
    let refused = producer.enqueue(unknown).await.unwrap_err().to_string();
    assert!(refused.contains("there is none"), "{refused}");
    assert!(
        producer
            .seal_batch(BatchId::nil())
            .await
            .unwrap_err()
            .to_string()
            .contains("no batch")
    );
}

// F63, F40
#[tokio::test]
async fn batches_that_ended_long_ago_go_and_no_others() {
    let lab = Lab::new().await;
    let batches = "SELECT millstream.seal_batch(millstream.open_batch(name)) FROM unnest(ARRAY['old', 'new']) AS name;
        SELECT millstream.open_batch('open');
        UPDATE millstream.batch SET ended_at = ended_at - interval '400 days' WHERE name = 'old';
        UPDATE millstream.batch SET created_at = created_at - interval '400 days'";
    sqlx::raw_sql(batches).execute(&lab.pool).await.unwrap();
    let _worker = lab.worker().await;
    let left = "SELECT array_agg(name ORDER BY name) FROM millstream.batch HAVING count(*) < 3";
    let left: Vec<String> = eventually("the old one is gone", async || {
        let left = sqlx::query_scalar(left).fetch_optional(&lab.pool).await;
        left.unwrap()
    })
    .await;
    assert_eq!(left, ["new", "open"]);
}

// F40: an application that enqueues by SQL needs no more rights for a batch
#[tokio::test]
async fn f40_the_doors_by_sql_need_usage_of_the_schema_only() {
    let lab = Lab::new().await;
    let mut tx = lab.pool.begin().await.unwrap();
    let role = "CREATE ROLE batch_app; GRANT USAGE ON SCHEMA millstream TO batch_app; SET LOCAL ROLE batch_app";
    sqlx::raw_sql(role).execute(&mut *tx).await.unwrap();
    let used = "SELECT millstream.seal_batch(b) FROM (SELECT b, millstream.enqueue('echo', '1', batch => b) FROM millstream.open_batch() AS b) AS used";
    let state: String = sqlx::query_scalar(used).fetch_one(&mut *tx).await.unwrap();
    assert_eq!(state, "sealed");
}
