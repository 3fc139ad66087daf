//! Looks into the streams of the queues: what is in them, and what is pending there with whom.

use millstream_common::{
    error::Outage,
    id::JobId,
    job::Priority,
    stream::{GROUP, entry, link::Redis},
};
use redis::streams::{StreamPendingCountReply, StreamRangeReply};

/// Entries listed by one command.
const PAGE: usize = 1000;

/// One pending entry.
pub(super) struct Pending {
    pub(super) id: String,
    pub(super) consumer: String,
    pub(super) deliveries: usize,
}

/// Everything pending in a stream; empty if there is no such stream or group.
pub(super) async fn pending(redis: &Redis, stream: &str) -> Result<Vec<Pending>, Outage> {
    let op = "listing pending entries";
    let mut all = Vec::new();
    let mut from = "-".to_owned();
    loop {
        let mut conn = redis.connection(op).await?;
        let mut command = redis::cmd("XPENDING");
        command.arg(stream).arg(GROUP).arg(&from).arg("+").arg(PAGE);
        let page: StreamPendingCountReply = match redis.within(op, command.query_async(&mut conn)).await {
            Err(Outage::Redis { source, .. }) if source.code() == Some("NOGROUP") => return Ok(all),
            other => other?,
        };
        let count = page.ids.len();
        all.extend(page.ids.into_iter().map(|p| Pending { id: p.id, consumer: p.consumer, deliveries: p.times_delivered }));
        match all.last() {
            Some(last) if count == PAGE => from = format!("({}", last.id),
            _ => return Ok(all),
        }
    }
}

/// The jobs of the whole stream, read or not, with their epochs. The window bounds its length.
pub(super) async fn jobs_in(redis: &Redis, queue: &str, priority: Priority) -> Result<Vec<(JobId, i32)>, Outage> {
    let stream = redis.keys().stream(queue, priority);
    let mut jobs = Vec::new();
    let mut from = "-".to_owned();
    loop {
        let entries = range(redis, &stream, &from, "+", PAGE).await?;
        let count = entries.len();
        if let Some((id, _)) = entries.last() {
            from = format!("({id}");
        }
        jobs.extend(entries.into_iter().filter_map(|(_, hint)| hint).flat_map(|hint| hint.jobs));
        if count < PAGE {
            return Ok(jobs);
        }
    }
}

/// One entry by its id: `None` if it is gone, `Some(None)` if it is garbage.
pub(super) async fn entry(redis: &Redis, stream: &str, id: &str) -> Result<Option<Option<entry::Hint>>, Outage> {
    Ok(range(redis, stream, id, id, 1).await?.pop().map(|(_, hint)| hint))
}

async fn range(redis: &Redis, stream: &str, from: &str, to: &str, count: usize) -> Result<Vec<(String, Option<entry::Hint>)>, Outage> {
    let op = "listing a stream";
    let mut conn = redis.connection(op).await?;
    let mut command = redis::cmd("XRANGE");
    command.arg(stream).arg(from).arg(to).arg("COUNT").arg(count);
    let reply: StreamRangeReply = redis.within(op, command.query_async(&mut conn)).await?;
    Ok(reply
        .ids
        .into_iter()
        .map(|id| {
            let hint = crate::claim::reader::decode(&id);
            (id.id, hint)
        })
        .collect())
}
