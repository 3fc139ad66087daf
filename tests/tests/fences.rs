//! Rules that a sabotaged build must break: each of these tests guards one, and `make sabotage` shows that it does.
//!
//! The other of that list stands where it belongs: lost entries in `recovery/streams.rs`.

use millstream_admin::services::Durability;
use millstream_common::pg::{Pg, within};
use millstream_tests::{Lab, Starts, ask::send, eventually};
use millstream_worker::{Handler, Success};
use tokio_util::sync::CancellationToken;

/// Fits into the window as it is without any worker.
const ENTRIES: usize = 180;

// rule 18, I3: somebody else runs the job by now, and this worker has not heard of it yet
#[tokio::test]
async fn an_outcome_of_an_earlier_hand_out_is_refused() {
    let mut lab = Lab::new().await;
    // Far between: no beat tells the worker what it has lost.
    lab.config.worker.lease_ms = 60_000;
    let gate = CancellationToken::new();
    let worker = lab.worker_with(vec![Starts::default().gated("gated", &gate)]).await;
    let id = send(&lab.producer(), "gated", "1", 1).await[0];
    lab.await_state(id, "running").await;
    sqlx::query("UPDATE millstream.job SET epoch = epoch + 1 WHERE id = $1").bind(id).execute(&lab.pool).await.unwrap();
    gate.cancel();
    // Returns when all outcomes are settled.
    worker.drain(CancellationToken::new()).await;
    assert_eq!(lab.state(id).await, "running", "the run of the newer hand-out goes on");
}

// rule 2, I8: nobody trims a work stream
#[tokio::test]
async fn a_full_window_keeps_every_entry() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    // Kinds are known once a worker has registered them.
    lab.worker().await.drain(CancellationToken::new()).await;
    let jobs = send(&producer, "sleep", r#"{"ms":1}"#, ENTRIES).await;
    eventually("everything is published", async || (lab.entries().await.len() >= ENTRIES.div_ceil(25)).then_some(())).await;
    for _ in 0..ENTRIES {
        send(&producer, "sleep", r#"{"ms":1}"#, 1).await;
    }
    let entries = eventually("an entry for each job", async || {
        let length = lab.entries().await.len();
        (lab.number("SELECT count(*) FROM millstream.parcel WHERE publishing_since IS NULL").await > 0 || length > ENTRIES)
            .then_some(length)
    })
    .await;
    assert!(entries > ENTRIES, "{entries} entries are left of more than {ENTRIES}");
    assert_eq!(jobs.len(), ENTRIES);
}

// rule 32, I15: a write on such a connection would vanish
#[tokio::test]
async fn a_connection_cut_short_inside_a_transaction_is_not_lent_again() {
    let lab = Lab::new().await;
    let pg = Pg::new(lab.config.database.url.expose(), 1).unwrap();
    let mut cut = pg.main("test").await.unwrap();
    within("test", sqlx::query("BEGIN").execute(cut.conn())).await.unwrap();
    drop(cut);
    let mut next = pg.main("test").await.unwrap();
    within("test", sqlx::query("INSERT INTO millstream.config (key, value, updated_by) VALUES ('k', '1', 'test')").execute(next.conn()))
        .await
        .unwrap();
    next.done();
    assert_eq!(lab.number("SELECT count(*) FROM millstream.config WHERE key = 'k'").await, 1, "the write is there for everybody");
}

// rule 13
#[tokio::test]
async fn an_entry_leaves_a_redis_that_is_full() {
    let lab = Lab::private(Durability::None).await;
    let url = lab.config.redis.url.expose().to_owned();
    let filling = Handler::new("filling", move |_: millstream_worker::Context, _: serde_json::Value| {
        let client = redis::Client::open(url.as_str()).unwrap();
        async move {
            let mut conn = client.get_multiplexed_async_connection().await.unwrap();
            redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).exec_async(&mut conn).await.unwrap();
            Ok(Success::new())
        }
    });
    let _worker = lab.worker_with(vec![filling]).await;
    let id = send(&lab.producer(), "filling", "1", 1).await[0];
    lab.await_state(id, "completed").await;
    let refused: Result<(), redis::RedisError> = redis::cmd("SET").arg(&["k", "v"]).exec_async(&mut lab.redis().await).await;
    assert!(refused.unwrap_err().to_string().contains("OOM"), "Redis is full");
    eventually("the entry is gone all the same", async || lab.entries().await.is_empty().then_some(())).await;
}
