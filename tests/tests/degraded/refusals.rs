//! A Redis that lives and refuses work, in its various ways: each is named, work goes on, and it ends by itself.

use millstream_common::stream::GROUP;
use millstream_local::Durability;
use millstream_tests::{Lab, ask::send, eventually};

/// Refuses for a while; 40 jobs complete meanwhile, 10 after it.
async fn refused<T>(
    why: &str,
    refuse: impl AsyncFnOnce(&Lab) -> T,
    relent: impl AsyncFnOnce(&Lab, T),
) {
    let lab = Lab::private(Durability::None).await;
    let (worker, producer) = (lab.worker().await, lab.producer());
    let health = worker.health();
    send(&producer, "echo", "1", 20).await;
    lab.await_count("completed", 20).await;
    let refusing = refuse(&lab).await;
    send(&producer, "echo", "1", 20).await;
    eventually(&format!("the refusal is known as {why}"), async || {
        (health.readiness().breakers.redis.why == Some(why)).then_some(())
    })
    .await;
    assert!(health.readiness().ready);
    send(&producer, "echo", "1", 20).await;
    lab.await_count("completed", 60).await;
    relent(&lab, refusing).await;
    eventually("the end of it is noticed", async || {
        (!health.readiness().breakers.redis.open).then_some(())
    })
    .await;
    send(&producer, "echo", "1", 10).await;
    lab.await_all_completed(70).await;
    let pending: redis::streams::StreamPendingReply =
        lab.command(&["XPENDING", &lab.work_stream(), GROUP]).await;
    assert_eq!(pending.count(), 0);
}

// F12, rule 13, rule 31
#[tokio::test]
async fn work_goes_on_while_redis_is_full_and_it_drains_without_a_restart() {
    refused(
        "OOM",
        async |lab| {
            lab.command::<String>(&["CONFIG", "SET", "maxmemory", "1"])
                .await
        },
        async |lab, _| lab.command(&["CONFIG", "SET", "maxmemory", "0"]).await,
    )
    .await;
}

// F12, rule 31: the primary has become a replica of somebody
#[tokio::test]
async fn work_goes_on_while_redis_is_a_read_only_replica() {
    refused(
        "READONLY",
        async |lab| {
            lab.command::<String>(&["REPLICAOF", "127.0.0.1", "1"])
                .await
        },
        async |lab, _| lab.command(&["REPLICAOF", "NO", "ONE"]).await,
    )
    .await;
}

// F12, rule 31: somebody's script does not end
#[tokio::test]
async fn work_goes_on_while_redis_is_busy_with_a_script() {
    refused(
        "BUSY",
        async |lab| {
            lab.command::<String>(&["CONFIG", "SET", "busy-reply-threshold", "50"])
                .await;
            let mut redis = lab.redis().await;
            // Answered when it is killed, or not at all: nobody waits for it.
            tokio::spawn(async move {
                redis::cmd("EVAL")
                    .arg("while true do end")
                    .arg(0)
                    .exec_async(&mut redis)
                    .await
            });
        },
        async |lab, ()| {
            // A connection of a client that introduces itself is refused as well, so this one does nothing else.
            eventually("the script is killed", async || {
                let client = redis::Client::open(lab.config.redis.url.expose()).unwrap();
                let mut conn = client.get_multiplexed_async_connection().await.ok()?;
                redis::cmd("SCRIPT")
                    .arg("KILL")
                    .exec_async(&mut conn)
                    .await
                    .ok()
            })
            .await;
        },
    )
    .await;
}

// F12, rule 31: the password was changed, and this program does not know the new one
#[tokio::test]
async fn work_goes_on_while_redis_asks_for_another_password() {
    refused(
        "WRONGPASS",
        async |lab| {
            // This connection stays logged in.
            let mut redis = lab.redis().await;
            let (_, old): (String, String) = redis::cmd("CONFIG")
                .arg(&["GET", "requirepass"])
                .query_async(&mut redis)
                .await
                .unwrap();
            redis::cmd("CONFIG")
                .arg(&["SET", "requirepass", "another"])
                .exec_async(&mut redis)
                .await
                .unwrap();
            redis::cmd("CLIENT")
                .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
                .exec_async(&mut redis)
                .await
                .unwrap();
            (redis, old)
        },
        async |_, (mut redis, old)| {
            redis::cmd("CONFIG")
                .arg(&["SET", "requirepass", &old])
                .exec_async(&mut redis)
                .await
                .unwrap();
        },
    )
    .await;
}
