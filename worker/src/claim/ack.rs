//! Acknowledge: XACK and XDEL in one script, in the background, for entries that Postgres has taken over.
//!
//! Never MULTI, which fails when Redis is full, and then nothing could ever drain. What is lost here, the next reader drops.

#[cfg(not(feature = "sabotage-multi"))]
use std::sync::LazyLock;

use millstream_common::{
    error::Outage,
    stream::{GROUP, link::Redis},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::job::Ack;

/// Entries acknowledged in one call.
const BATCH_MAX: usize = 500;
const OP: &str = "acknowledging";

#[cfg(not(feature = "sabotage-multi"))]
static ACK: LazyLock<redis::Script> = LazyLock::new(|| redis::Script::new(include_str!("ack.lua")));

/// Runs until `stop` fires and nothing is left.
pub(crate) async fn acknowledge(
    redis: Redis,
    mut acks: mpsc::UnboundedReceiver<Ack>,
    stop: CancellationToken,
) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        tokio::select! {
            biased;
            taken = acks.recv_many(&mut batch, BATCH_MAX) => if taken == 0 { return },
            () = stop.cancelled() => return,
        }
        if let Err(outage) = send(&redis, &mut batch).await {
            tracing::debug!(error = %millstream_common::error::in_full(&outage), "acknowledging failed; the entries will be found stale");
        }
        batch.clear();
    }
}

async fn send(redis: &Redis, batch: &mut [Ack]) -> Result<(), Outage> {
    batch.sort_unstable();
    for same in batch.chunk_by(|a, b| a.0 == b.0) {
        send_stream(redis, &same[0].0, same).await?;
    }
    Ok(())
}

#[cfg(not(feature = "sabotage-multi"))]
async fn send_stream(redis: &Redis, stream: &str, same: &[Ack]) -> Result<(), Outage> {
    let mut call = ACK.key(stream);
    call.arg(GROUP);
    for (_, id) in same {
        call.arg(id.as_str());
    }
    let mut conn = redis.connection(OP).await?;
    redis.within(OP, call.invoke_async(&mut conn)).await
}

/// Sabotage: the transaction that a full Redis refuses.
#[cfg(feature = "sabotage-multi")]
async fn send_stream(redis: &Redis, stream: &str, same: &[Ack]) -> Result<(), Outage> {
    let ids: Vec<&str> = same.iter().map(|(_, id)| id.as_str()).collect();
    let mut pipe = redis::pipe();
    pipe.atomic()
        .cmd("XACK")
        .arg(stream)
        .arg(GROUP)
        .arg(&ids)
        .ignore()
        .cmd("XDEL")
        .arg(stream)
        .arg(&ids)
        .ignore();
    let mut conn = redis.connection(OP).await?;
    redis.within(OP, pipe.exec_async(&mut conn)).await
}
