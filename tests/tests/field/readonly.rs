//! A Postgres that is read and takes no writes (X21), and one whose default is another level of isolation (X34).

use std::time::{Duration, Instant};

use millstream_admin::{
    ops::upload::{Upload, add_file, open_store},
    samples::write_to,
};
use millstream_local::Durability;
use millstream_tests::{Lab, Process, Served, Starts, ask::send, eventually};
use millstream_worker::{Context, Handler, Success, Worker};
use tokio_util::sync::CancellationToken;

async fn take_writes(lab: &Lab, takes: bool) {
    let alter = if takes {
        "ALTER SYSTEM RESET default_transaction_read_only"
    } else {
        "ALTER SYSTEM SET default_transaction_read_only = on"
    };
    sqlx::query(alter).execute(&lab.pool).await.unwrap();
    sqlx::query("SELECT pg_reload_conf()")
        .execute(&lab.pool)
        .await
        .unwrap();
}

/// Waits for the gate, and has a row to write with its completion.
fn writing(starts: &Starts, gate: &CancellationToken) -> Handler {
    let (starts, gate) = (starts.clone(), gate.clone());
    Handler::new("writing", move |context: Context, _: serde_json::Value| {
        let (run, gate, id) = (starts.run(context.job_id), gate.clone(), context.job_id);
        async move {
            gate.cancelled().await;
            drop(run);
            Ok(Success::new().and_write(Box::new(move |conn| {
                Box::pin(async move {
                    sqlx::query("INSERT INTO written (id) VALUES ($1)")
                        .bind(id)
                        .execute(conn)
                        .await
                        .map(drop)
                })
            })))
        }
    })
}

// X21, rule 50: with jobs that run through it, that end in it, that fail in it, and that have something to write
#[tokio::test]
async fn x21_a_postgres_that_takes_no_writes_counts_as_nobodys_crash_and_nothing_runs_twice() {
    let mut lab = Lab::private(Durability::None).await;
    sqlx::query("CREATE TABLE written (id uuid)")
        .execute(&lab.pool)
        .await
        .unwrap();
    lab.config.worker.concurrency = 40;
    // Others take a worker for dead after 0.8 of a lease of silence, and a worker believes in an outage for four.
    lab.config.worker.lease_ms = 6_000;
    let lease = Duration::from_millis(lab.config.worker.lease_ms);
    let (starts, gate, within) = (
        Starts::default(),
        CancellationToken::new(),
        CancellationToken::new(),
    );
    let handlers = || {
        vec![
            starts.gated("through", &gate),
            starts.gated("within", &within),
            writing(&starts, &within),
        ]
    };
    let workers = [
        lab.worker_with(handlers()).await,
        lab.worker_with(handlers()).await,
    ];
    let api = Served::start(&lab, &["api"]).await;
    let producer = lab.producer();
    for kind in ["through", "within", "writing"] {
        send(&producer, kind, "1", 15).await;
    }
    eventually("all run", async || {
        (lab.number("SELECT count(*) FROM millstream.lease").await == 45).then_some(())
    })
    .await;
    let began = Instant::now();
    take_writes(&lab, false).await;
    for worker in workers.each_ref().map(Worker::health) {
        eventually("it knows", async || {
            (!worker.readiness().ready
                && worker.readiness().breakers.postgres.why == Some("takes no writes"))
            .then_some(())
        })
        .await;
    }
    let (status, told) = api
        .await_ready("the API knows", |body| {
            body["breakers"]["postgres"]["why"] == "takes no writes"
        })
        .await;
    assert_eq!(
        (status.as_u16(), &told["status"]),
        (503, &"not_ready".into())
    );
    let (_, refused) = api.json("/v1/jobs?limit=1").await;
    assert!(
        refused["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("takes no writes")),
        "{refused}"
    );
    within.cancel();
    lab.await_number(
        "SELECT count(*) FROM millstream.worker_beat WHERE beat_at < now() - interval '12 seconds'",
        2,
    )
    .await;
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE state <> 1 OR epoch > 0")
            .await,
        0,
        "nothing could be written"
    );
    take_writes(&lab, true).await;
    for worker in workers.each_ref().map(Worker::health) {
        eventually("its heart beats", async || {
            worker.readiness().ready.then_some(())
        })
        .await;
    }
    // With the beat before it. Longer than promised, should the machine have been that slow: then runs may have started again.
    let was_longer = began.elapsed() + lease / 10 > lease * 4;
    api.await_ready("the API is ready", |body| body["status"] == "ready")
        .await;
    lab.await_count("completed", 30).await;
    gate.cancel();
    lab.await_all_completed(45).await;
    assert_eq!(
        (
            starts.jobs(),
            lab.number("SELECT count(*) FROM written").await
        ),
        (45, 15)
    );
    assert!(
        was_longer || starts.repeated().is_empty(),
        "{:?}",
        starts.repeated()
    );
    assert!(starts.overlapped().is_empty(), "{:?}", starts.overlapped());
    assert_nobody_crashed(&lab).await;
}

async fn assert_nobody_crashed(lab: &Lab) {
    for sql in [
        "SELECT count(*) FROM millstream.job WHERE crash_count > 0",
        "SELECT count(*) FROM millstream.job_error",
        "SELECT count(*) FROM millstream.worker WHERE state = 'lost'",
    ] {
        assert_eq!(lab.number(sql).await, 0, "{sql}");
    }
}

// X34: what the database prescribes for sessions that do not say what they want
#[tokio::test]
async fn x34_every_session_has_the_isolation_that_its_statements_are_made_for() {
    let lab = Lab::new().await;
    let database: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    let alter =
        format!("ALTER DATABASE \"{database}\" SET default_transaction_isolation = 'serializable'");
    sqlx::query(sqlx::AssertSqlSafe(alter))
        .execute(&lab.pool)
        .await
        .unwrap();
    let pg = millstream_common::pg::Pg::new(lab.config.database.url.expose(), 2).unwrap();
    let isolation = "SELECT current_setting('transaction_isolation')";
    let mut sessions = vec![
        sqlx::query_scalar::<_, String>(isolation)
            .fetch_one(&mut pg.connect("looking").await.unwrap())
            .await
            .unwrap(),
    ];
    for loan in [pg.hot("looking"), pg.main("looking")] {
        sessions.push(loan.one(sqlx::query_scalar(isolation)).await.unwrap());
    }
    assert_eq!(sessions, ["read committed"; 3]);
    let refused = {
        // A document's stages, which many jobs end at once, are where it was slow.
        let _workers = [
            Process::start(&lab, &["worker"]),
            Process::start(&lab, &["worker"]),
        ];
        add_sample(&lab, "catalogue.pdf").await;
        send(&lab.producer(), "noop", "1", 500).await;
        lab.await_number(
            "SELECT count(*) FROM millstream.document WHERE state = 'completed'",
            1,
        )
        .await;
        lab.number("SELECT count(*) FROM millstream.job_error")
            .await
    };
    assert_eq!(refused, 0);
}

async fn add_sample(lab: &Lab, name: &str) {
    let producer = lab.producer();
    let parts = producer.parts();
    let objects = open_store(&lab.config.objects.url).unwrap();
    let samples = write_to(&lab.folder().join("samples")).unwrap();
    let path = samples.iter().find(|path| path.ends_with(name)).unwrap();
    let upload = Upload {
        name,
        tenant: "default",
        bytes_max: 100_000_000,
    };
    add_file(&parts.pg, &parts.catalog, &objects, path, &upload)
        .await
        .unwrap();
}
