//! The dead-letter stream: a capped notice board for whoever wants to be told. The truth is `millstream.dead_letter` (F14).

use std::collections::HashSet;

use millstream_common::{
    error::Outage,
    limits::{DEAD_STREAM_ENTRIES_MAX, bounded},
    stream::remedy::takes_no_entries,
};
use redis::{Cmd, Pipeline, RedisError, Value};

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
    let told: Vec<(String, Cmd)> = notices
        .map(|notice| {
            tracing::warn!(
                job = notice.job,
                kind = notice.kind,
                reason = notice.reason,
                error = notice.error,
                "a job is dead"
            );
            let board = shared.redis.keys().dead(&notice.queue);
            let added = added(&board, &notice);
            (board, added)
        })
        .collect();
    if told.is_empty() || shared.redis.refuses_work() {
        return;
    }
    if let Err(outage) = put_up(shared, &told).await {
        tracing::debug!(error = %millstream_common::error::in_full(&outage), "the dead-letter stream was not told");
    }
}

fn added(board: &str, notice: &Notice) -> Cmd {
    let mut cmd = redis::cmd("XADD");
    cmd.arg(board)
        .arg("MAXLEN")
        .arg("~")
        .arg(DEAD_STREAM_ENTRIES_MAX)
        .arg("*");
    cmd.arg("job")
        .arg(&notice.job)
        .arg("kind")
        .arg(&notice.kind)
        .arg("reason")
        .arg(&notice.reason);
    cmd.arg("error")
        .arg(bounded(&notice.error, NOTICE_ERROR_BYTES_MAX));
    cmd.arg("at")
        .arg(millstream_common::clock::now().to_rfc3339());
    cmd
}

/// Each notice by itself: only a board that takes nothing any more is made anew, and whatever else is wrong with one costs no other a line.
async fn put_up(shared: &Shared, told: &[(String, Cmd)]) -> Result<(), Outage> {
    let all = pipeline(told.iter().map(|(_, added)| added));
    let refused = sent(shared, all).await?;
    let gone: HashSet<&str> = refused
        .iter()
        .filter(|(_, error)| takes_no_entries(error))
        .map(|(nth, _)| told[*nth].0.as_str())
        .collect();
    let other = refused.iter().find(|(_, error)| !takes_no_entries(error));
    if let Some((nth, error)) = other {
        tracing::debug!(board = told[*nth].0, %error, "a dead-letter stream has not taken a notice");
    }
    if gone.is_empty() {
        return Ok(());
    }
    let removed: Vec<Cmd> = gone
        .iter()
        .map(|board| redis::cmd("DEL").arg(*board).to_owned())
        .collect();
    let again = told
        .iter()
        .filter(|(board, _)| gone.contains(board.as_str()))
        .map(|(_, added)| added);
    let anew = pipeline(removed.iter().chain(again));
    sent(shared, anew).await.map(drop)
}

fn pipeline<'a>(commands: impl Iterator<Item = &'a Cmd>) -> Pipeline {
    let mut pipe = redis::pipe();
    commands.for_each(|command| _ = pipe.add_command(command.clone()));
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
