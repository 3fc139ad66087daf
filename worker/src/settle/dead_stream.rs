//! The dead-letter stream: a capped notice board for whoever wants to be told. The truth is `millstream.dead_letter` (F14).

use std::{collections::HashSet, sync::LazyLock};

use millstream_common::{
    error::Outage,
    limits::{DEAD_STREAM_ENTRIES_MAX, bounded},
    stream::remedy::takes_no_entries,
};
use redis::{Pipeline, RedisError, Script, Value};

use super::{Ended, verdict::Verdict};
use crate::shared::Shared;

/// Error text in a notice: enough to recognise it, the whole text is in Postgres.
const NOTICE_ERROR_BYTES_MAX: usize = 500;

static ANEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("notice.lua")));

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
    let told: Vec<Told> = notices
        .map(|notice| {
            tracing::warn!(
                job = notice.job,
                kind = notice.kind,
                reason = notice.reason,
                error = notice.error,
                "a job is dead"
            );
            Told {
                board: shared.redis.keys().dead(&notice.queue),
                entry: entry(&notice),
            }
        })
        .collect();
    if told.is_empty() || shared.redis.refuses_work() {
        return;
    }
    if let Err(outage) = put_up(shared, &told).await {
        tracing::debug!(error = %millstream_common::error::in_full(&outage), "the dead-letter stream was not told");
    }
}

/// A notice on its way.
struct Told {
    board: String,
    /// The arguments of XADD after the key.
    entry: Vec<String>,
}

fn entry(notice: &Notice) -> Vec<String> {
    let at = millstream_common::clock::now().to_rfc3339();
    let cap = DEAD_STREAM_ENTRIES_MAX.to_string();
    let error = bounded(&notice.error, NOTICE_ERROR_BYTES_MAX);
    let fields = [
        ("job", notice.job.as_str()),
        ("kind", &notice.kind),
        ("reason", &notice.reason),
        ("error", &error),
        ("at", &at),
    ];
    // On a work stream MAXLEN would delete work. Here it bounds a notice board.
    ["MAXLEN", "~", &cap, "*"]
        .into_iter()
        .chain(fields.into_iter().flat_map(|(name, value)| [name, value]))
        .map(str::to_owned)
        .collect()
}

/// Each notice by itself: only a board that takes nothing any more is made anew, and whatever else is wrong with one costs no other a line.
async fn put_up(shared: &Shared, told: &[Told]) -> Result<(), Outage> {
    let refused = sent(shared, pipeline(told.iter())).await?;
    let other = refused.iter().find(|(_, error)| !takes_no_entries(error));
    if let Some((nth, error)) = other {
        tracing::debug!(board = told[*nth].board, %error, "a dead-letter stream has not taken a notice");
    }
    let mut again = Vec::new();
    let mut anew = HashSet::new();
    for (nth, _) in refused.iter().filter(|(_, error)| takes_no_entries(error)) {
        if anew.insert(told[*nth].board.as_str()) {
            add_anew(shared, &told[*nth]).await?;
        } else {
            again.push(&told[*nth]);
        }
    }
    if again.is_empty() {
        return Ok(());
    }
    sent(shared, pipeline(again.into_iter())).await.map(drop)
}

async fn add_anew(shared: &Shared, told: &Told) -> Result<(), Outage> {
    let op = "making a dead-letter stream anew";
    let mut conn = shared.redis.connection(op).await?;
    let mut call = ANEW.key(&told.board);
    call.arg(&told.entry);
    let added = call.invoke_async::<Value>(&mut conn);
    shared.redis.within(op, added).await.map(drop)
}

fn pipeline<'a>(told: impl Iterator<Item = &'a Told>) -> Pipeline {
    let mut pipe = redis::pipe();
    for told in told {
        pipe.cmd("XADD").arg(&told.board).arg(&told.entry);
    }
    pipe
}

/// Sends all of them. Returns the places of those that were refused, and why.
async fn sent(shared: &Shared, mut pipe: Pipeline) -> Result<Vec<(usize, RedisError)>, Outage> {
    let op = "announcing dead jobs";
    let mut conn = shared.redis.connection(op).await?;
    let answers: Vec<Result<Value, RedisError>> = shared
        .redis
        .within(op, pipe.ignore_errors().query_async(&mut conn))
        .await?;
    Ok(answers
        .into_iter()
        .enumerate()
        .filter_map(|(nth, answer)| Some((nth, answer.err()?)))
        .collect())
}
