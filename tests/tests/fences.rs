//! Rules that a sabotaged build must break: each of these tests guards one, and `make sabotage` shows that it does.
//!
//! The other of that list stands where it belongs: lost entries in `recovery/streams.rs`.

use millstream_common::pg::Pg;
use millstream_local::Durability;
use millstream_tests::{Lab, ask::send, eventually};
use millstream_worker::{Failure, Handler, Outcome, Success};
use tokio_util::sync::CancellationToken;

/// Fits into the window as it is without any worker.
const ENTRIES: usize = 180;

/// Somebody else runs the job by now, and this worker, whose run ends, has not heard of it yet.
async fn lab_after_an_earlier_hand_out(gate: &CancellationToken, handler: Handler) -> Lab {
    let mut lab = Lab::new().await;
    // Far between: no beat tells the worker what it has lost.
    lab.config.worker.lease_ms = 60_000;
    sqlx::query("CREATE TABLE written (n int)")
        .execute(&lab.pool)
        .await
        .unwrap();
    let worker = lab.worker_with(vec![handler]).await;
    let id = send(&lab.producer(), "gated", "1", 1).await[0];
    lab.await_state(id, "running").await;
    sqlx::query("UPDATE millstream.job SET epoch = epoch + 1 WHERE id = $1")
        .bind(id)
        .execute(&lab.pool)
        .await
        .unwrap();
    gate.cancel();
    // Returns when all outcomes are settled.
    worker.drain(CancellationToken::new()).await;
    assert_eq!(
        lab.state(id).await,
        "running",
        "the run of the newer hand-out goes on"
    );
    lab
}

/// Ends, in its own way, when the gate is opened.
fn gated(gate: &CancellationToken, outcome: fn() -> Outcome) -> Handler {
    let gate = gate.clone();
    Handler::new(
        "gated",
        move |_: millstream_worker::Context, _: serde_json::Value| {
            let gate = gate.clone();
            async move {
                gate.cancelled().await;
                outcome()
            }
        },
    )
}

// rule 18, I3
#[tokio::test]
async fn an_outcome_of_an_earlier_hand_out_is_refused() {
    let gate = CancellationToken::new();
    lab_after_an_earlier_hand_out(&gate, gated(&gate, || Ok(Success::new()))).await;
}

// rule 18, I3, G1: and what it wrote is not there
#[tokio::test]
async fn an_outcome_with_writes_of_an_earlier_hand_out_is_refused() {
    let gate = CancellationToken::new();
    let writing = || {
        Ok(Success::new().and_write(Box::new(|conn| {
            Box::pin(async move {
                sqlx::query("INSERT INTO written VALUES (1)")
                    .execute(conn)
                    .await
                    .map(drop)
            })
        })))
    };
    let lab = lab_after_an_earlier_hand_out(&gate, gated(&gate, writing)).await;
    assert_eq!(
        lab.number("SELECT count(*) FROM written").await,
        0,
        "an effect is written with its outcome or not at all"
    );
}

// rule 18, I3
#[tokio::test]
async fn a_failure_of_an_earlier_hand_out_is_refused() {
    let gate = CancellationToken::new();
    let lab =
        lab_after_an_earlier_hand_out(&gate, gated(&gate, || Err(Failure::permanent("no")))).await;
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job_error")
            .await,
        0,
        "its error is none of the job's"
    );
}

// rule 2, I8: nobody trims a work stream
#[tokio::test]
async fn a_full_window_keeps_every_entry() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    // Kinds are known once a worker has registered them.
    lab.worker().await.drain(CancellationToken::new()).await;
    let jobs = send(&producer, "sleep", r#"{"ms":1}"#, ENTRIES).await;
    eventually("everything is published", async || {
        (lab.entries().await.len() >= ENTRIES.div_ceil(25)).then_some(())
    })
    .await;
    for _ in 0..ENTRIES {
        send(&producer, "sleep", r#"{"ms":1}"#, 1).await;
    }
    let entries = eventually("an entry for each job", async || {
        let length = lab.entries().await.len();
        (lab.number("SELECT count(*) FROM millstream.parcel WHERE publishing_since IS NULL")
            .await
            > 0
            || length > ENTRIES)
            .then_some(length)
    })
    .await;
    assert!(
        entries > ENTRIES,
        "{entries} entries are left of more than {ENTRIES}"
    );
    assert_eq!(jobs.len(), ENTRIES);
}

// rule 32, I15: a write on such a connection would vanish
#[tokio::test]
async fn a_connection_cut_short_inside_a_transaction_is_not_lent_again() {
    let lab = Lab::new().await;
    let pg = Pg::new(lab.config.database.url.expose(), 1).unwrap();
    let mut cut = pg.main("test").await.unwrap();
    sqlx::query("BEGIN").execute(cut.conn()).await.unwrap();
    drop(cut);
    let insert = sqlx::query("INSERT INTO millstream.queue (name) VALUES ('k')");
    pg.main("test").execute(insert).await.unwrap();
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.queue WHERE name = 'k'")
            .await,
        1,
        "the write is there for everybody"
    );
}

// rule 32: what Postgres refuses outside of a transaction costs no connection
#[tokio::test]
async fn a_connection_is_lent_again_after_a_refused_value_but_not_out_of_a_transaction() {
    let lab = Lab::new().await;
    let pg = Pg::new(lab.config.database.url.expose(), 1).unwrap();
    let session = async || -> i32 {
        let query = sqlx::query_scalar("SELECT pg_backend_pid()");
        pg.main("test").one(query).await.unwrap()
    };
    let refused = || sqlx::query("SELECT 1 / 0");
    let first = session().await;
    assert!(pg.main("test").execute(refused()).await.is_err());
    assert_eq!(session().await, first);
    let mut lent = pg.main("test").await.unwrap();
    let mut tx = lent.begin().await.unwrap();
    assert!(tx.execute(refused()).await.is_err());
    drop(tx);
    drop(lent);
    let second = session().await;
    assert_ne!(second, first);
    let mut lent = pg.main("test").await.unwrap();
    let mut tx = lent.begin().await.unwrap();
    tx.execute(sqlx::query("SELECT 1")).await.unwrap();
    tx.rollback().await.unwrap();
    drop(lent);
    assert_eq!(session().await, second, "its transaction has ended");
    let mut lent = pg.main("test").await.unwrap();
    lent.execute(sqlx::query("SELECT 1")).await.unwrap();
    sqlx::query("BEGIN").execute(lent.conn()).await.unwrap();
    drop(lent);
    assert_ne!(
        session().await,
        second,
        "a good statement vouches for no later one"
    );
}

// rule 13
#[tokio::test]
async fn an_entry_leaves_a_redis_that_is_full() {
    let lab = Lab::private(Durability::None).await;
    let url = lab.config.redis.url.expose().to_owned();
    let filling = Handler::new(
        "filling",
        move |_: millstream_worker::Context, _: serde_json::Value| {
            let client = redis::Client::open(url.as_str()).unwrap();
            async move {
                let mut conn = client.get_multiplexed_async_connection().await.unwrap();
                redis::cmd("CONFIG")
                    .arg(&["SET", "maxmemory", "1"])
                    .exec_async(&mut conn)
                    .await
                    .unwrap();
                Ok(Success::new())
            }
        },
    );
    let _worker = lab.worker_with(vec![filling]).await;
    let id = send(&lab.producer(), "filling", "1", 1).await[0];
    lab.await_state(id, "completed").await;
    let refused: Result<(), redis::RedisError> = redis::cmd("SET")
        .arg(&["k", "v"])
        .exec_async(&mut lab.redis().await)
        .await;
    assert!(
        refused.unwrap_err().to_string().contains("OOM"),
        "Redis is full"
    );
    eventually("the entry is gone all the same", async || {
        lab.entries().await.is_empty().then_some(())
    })
    .await;
}
