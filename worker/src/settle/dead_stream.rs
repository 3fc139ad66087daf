//! The dead-letter stream: a capped notice board for whoever wants to be told. The truth is `millstream.dead_letter` (F14).

use millstream_common::{
    error::Outage,
    limits::{DEAD_STREAM_ENTRIES_MAX, bounded},
    stream::link::is_outage,
};

use super::{Ended, verdict::Verdict};
use crate::shared::Shared;

/// Error text in a notice: enough to recognise it, the whole text is in Postgres.
const NOTICE_ERROR_BYTES_MAX: usize = 500;

/// One burial.
pub(crate) struct Notice {
    pub(crate) queue: String,
    pub(crate) job: String,
    pub(crate) kind: String,
    pub(crate) reason: String,
    pub(crate) error: String,
}

impl Notice {
    pub(crate) fn of(ended: &Ended, verdict: &Verdict) -> Self {
        Self {
            queue: ended.job.queue.name.to_string(),
            job: ended.job.hold.id.to_string(),
            kind: ended.job.kind.handler.kind().to_owned(),
            reason: verdict.dead_reason.unwrap_or_default().to_owned(),
            error: verdict.message.clone(),
        }
    }
}

/// Puts notices up. Best effort: Redis may be away.
pub(crate) async fn announce(shared: &Shared, notices: impl Iterator<Item = Notice>) {
    let (mut pipe, mut boards) = (redis::pipe(), Vec::new());
    for notice in notices {
        tracing::warn!(job = notice.job, kind = notice.kind, reason = notice.reason, error = notice.error, "a job is dead");
        let board = shared.redis.keys().dead(&notice.queue);
        pipe.cmd("XADD").arg(&board).arg("MAXLEN").arg("~").arg(DEAD_STREAM_ENTRIES_MAX).arg("*");
        pipe.arg("job").arg(notice.job).arg("kind").arg(notice.kind).arg("reason").arg(notice.reason);
        pipe.arg("error")
            .arg(bounded(&notice.error, NOTICE_ERROR_BYTES_MAX))
            .arg("at")
            .arg(millstream_common::clock::now().to_rfc3339())
            .ignore();
        boards.push(board);
    }
    if pipe.is_empty() || shared.redis.refuses_work() {
        return;
    }
    let op = "announcing dead jobs";
    let sent = async {
        let mut conn = shared.redis.connection(op).await?;
        match shared.redis.within(op, pipe.exec_async(&mut conn)).await {
            // No stream, or one that takes nothing more: the board is made anew.
            Err(Outage::Redis { source, .. }) if !is_outage(&source) => {
                shared.redis.within(op, redis::cmd("DEL").arg(&boards).exec_async(&mut conn)).await?;
                shared.redis.within(op, pipe.exec_async(&mut conn)).await
            }
            other => other,
        }
    };
    if let Err(outage) = sent.await {
        tracing::debug!(error = %millstream_common::error::in_full(&outage), "the dead-letter stream was not told");
    }
}
