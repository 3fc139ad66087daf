//! The consumer group of a stream: made where it is missing, where it stands, and what keeps a stream from being used mended.
//!
//! A full Redis makes no group.

use std::sync::LazyLock;

use millstream_common::{
    error::Outage,
    stream::{GROUP, link::Redis, mending::Fault, wire},
};

/// Makes a stream usable that is missing, was made into something else, or gives or takes nothing any more.
static HEAL: LazyLock<redis::Script> =
    LazyLock::new(|| redis::Script::new(include_str!("heal.lua")));

/// Makes the group if there is none, and mends what would keep the stream from being used. Returns whether there is a group now, and whether
/// something was hidden or lost.
pub(crate) async fn make(redis: &Redis, stream: &str) -> Result<(bool, bool), Outage> {
    let op = "making groups";
    let mut conn = redis.connection(op).await?;
    let (is_there, mended): (u8, u8) = redis
        .within(op, HEAL.key(stream).arg(GROUP).invoke_async(&mut conn))
        .await?;
    let fault = Fault::from_number(mended);
    if let Some(fault) = fault {
        redis.tell_mended(stream, fault).await?;
    }
    Ok((is_there == 1, fault.is_some()))
}

/// The last entry that the group was given; `None` if there is no stream or group.
pub(crate) async fn position(redis: &Redis, stream: &str) -> Result<Option<(u64, u64)>, Outage> {
    let command = redis::Cmd::xinfo_groups(stream);
    let answer = redis.ask_about("asking for the group's position", &command);
    let Some(answer) = answer.await? else {
        return Ok(None);
    };
    let ours = wire::records(&answer).find(|group| group.bytes("name") == Some(GROUP.as_bytes()));
    Ok(ours
        .and_then(|group| group.text("last-delivered-id"))
        .and_then(|id| parse(&id)))
}

/// An entry id as numbers, in the order of the stream.
pub(crate) fn parse(id: &str) -> Option<(u64, u64)> {
    let (ms, nth) = id.split_once('-')?;
    Some((ms.parse().ok()?, nth.parse().ok()?))
}
