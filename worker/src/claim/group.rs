//! The consumer group of a stream: made where it is missing, and where it stands.
//!
//! A full Redis makes none, and refuses in the same words where there is one.

use std::sync::LazyLock;

use millstream_common::{
    error::Outage,
    stream::{
        GROUP,
        link::{Redis, is_outage},
        remedy::Remedy,
    },
};
use redis::streams::StreamInfoGroupsReply;

/// Removes a key of ours that somebody has made into something else.
static HEAL: LazyLock<redis::Script> = LazyLock::new(|| redis::Script::new(include_str!("heal.lua")));

/// Makes the group if there is none. Returns whether there is one now, and whether something else had to make place for the stream.
pub(super) async fn make(redis: &Redis, stream: &str) -> Result<(bool, bool), Outage> {
    let op = "making groups";
    let mut conn = redis.connection(op).await?;
    let healed: i32 = redis.within(op, HEAL.key(stream).arg("stream").invoke_async(&mut conn)).await?;
    let mut command = redis::cmd("XGROUP");
    // At 0, never at $: entries added before the group must be seen.
    command.arg("CREATE").arg(stream).arg(GROUP).arg("0").arg("MKSTREAM");
    let is_there = match redis.within(op, command.exec_async(&mut conn)).await {
        Err(Outage::Redis { source, .. }) if source.code() == Some("BUSYGROUP") => true,
        Err(Outage::Redis { source, .. }) if Remedy::of(&source).0 == Remedy::Drain => position(redis, stream).await?.is_some(),
        other => other.map(|()| true)?,
    };
    Ok((is_there, healed == 1))
}

/// The last entry that the group was given; `None` if there is no stream or group.
pub(crate) async fn position(redis: &Redis, stream: &str) -> Result<Option<(u64, u64)>, Outage> {
    let op = "asking for the group's position";
    let mut conn = redis.connection(op).await?;
    let mut command = redis::cmd("XINFO");
    command.arg("GROUPS").arg(stream);
    let found: Result<StreamInfoGroupsReply, Outage> = redis.within(op, command.query_async(&mut conn)).await;
    match found {
        Ok(reply) => Ok(reply.groups.iter().find(|group| group.name == GROUP).and_then(|group| parse(&group.last_delivered_id))),
        Err(Outage::Redis { source, .. }) if !is_outage(&source) => Ok(None),
        Err(outage) => Err(outage),
    }
}

/// An entry id as numbers, in the order of the stream.
pub(crate) fn parse(id: &str) -> Option<(u64, u64)> {
    let (ms, nth) = id.split_once('-')?;
    Some((ms.parse().ok()?, nth.parse().ok()?))
}
