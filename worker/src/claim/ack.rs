//! Acknowledge: XACK and XDEL in one pipeline, in the background, for entries that Postgres has taken over.
//!
//! Never MULTI, which fails when Redis is full, and then nothing could ever drain. What is lost here, the next reader drops.

use millstream_common::stream::{GROUP, link::Redis};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::entry::Ack;

/// Entries acknowledged in one pipeline.
const BATCH_MAX: usize = 500;

/// Runs until `stop` fires and nothing is left.
pub(crate) async fn acknowledge(redis: Redis, mut acks: mpsc::UnboundedReceiver<Ack>, stop: CancellationToken) {
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

async fn send(redis: &Redis, batch: &mut [Ack]) -> Result<(), millstream_common::error::Outage> {
    let op = "acknowledging";
    batch.sort_unstable();
    let mut pipe = redis::pipe();
    for same in batch.chunk_by(|a, b| a.0 == b.0) {
        let (stream, ids) = (&*same[0].0, same.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>());
        pipe.cmd("XACK").arg(stream).arg(GROUP).arg(&ids).ignore();
        pipe.cmd("XDEL").arg(stream).arg(&ids).ignore();
    }
    let mut conn = redis.connection(op).await?;
    redis.within(op, pipe.exec_async(&mut conn)).await
}
