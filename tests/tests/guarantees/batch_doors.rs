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
    // An outsider cannot pretend to be one of its jobs.
    let mut other = lab.pool.begin().await.unwrap();
    let pretend = "SELECT set_config('millstream.settling', (SELECT max(id::text) FROM millstream.job WHERE batch_id = $1), true)";
    sqlx::query(pretend)
        .bind(batch)
        .execute(&mut *other)
        .await
        .unwrap();
    let late = "SELECT millstream.enqueue('echo', '1', batch => $1)";
    assert!(
        sqlx::query(late)
            .bind(batch)
            .execute(&mut *other)
            .await
            .is_err()
    );
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
