//! Looks into the streams of the queues: what is in them, and what is pending there with whom. A key that holds something else has nothing in
//! it: its reader mends it, and what it hides is missed.

use std::collections::HashSet;

use millstream_common::{
    error::Outage,
    id::JobId,
    stream::{
        GROUP,
        link::Redis,
        wire::{self, Told},
    },
};

use crate::claim::group;

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
    let mut all = Vec::new();
    let mut from = "-".to_owned();
    loop {
        let command = redis::Cmd::xpending_count(stream, GROUP, &from, "+", PAGE);
        let page = redis.ask_about("listing pending entries", &command);
        let Some(page) = page.await? else {
            return Ok(all);
        };
        let count = wire::items(&page).len();
        all.extend(wire::items(&page).iter().filter_map(pending_entry));
        match all.last() {
            Some(last) if count == PAGE => from = format!("({}", last.id),
            _ => return Ok(all),
        }
    }
}

/// Somebody may have read under a name that is no text.
fn pending_entry(told: &redis::Value) -> Option<Pending> {
    let [id, consumer, _idle_ms, deliveries, ..] = wire::items(told) else {
        return None;
    };
    Some(Pending {
        id: wire::text(id)?,
        consumer: wire::text(consumer)?,
        deliveries: wire::number(deliveries)? as usize,
    })
}

/// What a stream holds.
#[derive(Default)]
pub(super) struct Listing {
    /// Jobs of the entries that are unread or pending: somebody will look at them.
    pub(super) jobs: Vec<(JobId, i32)>,
    /// Entries that nobody will ever read: the group has passed them, and they are pending with nobody. Somebody has moved the
    /// group or deleted a consumer, or they are being removed right now. In a full Redis also those of a stream without a group.
    pub(super) skipped: Vec<String>,
}

/// The whole stream. The window bounds its length.
pub(super) async fn listing(redis: &Redis, stream: &str) -> Result<Listing, Outage> {
    // In this order: what the group had passed before the entries were listed, and is not pending afterwards, is in no hands.
    let passed = group::position(redis, stream).await?;
    let entries = entries(redis, stream).await?;
    // A stream without a group is read from its start, as soon as somebody has made one. A full Redis refuses that.
    let has_no_reader = passed.is_none() && redis.refuses_work();
    let is_passed = |id: &str| {
        has_no_reader
            || passed.is_some_and(|passed| group::parse(id).is_some_and(|id| id <= passed))
    };
    let pending: HashSet<String> = if entries.iter().any(|entry| is_passed(&entry.id)) {
        pending(redis, stream)
            .await?
            .into_iter()
            .map(|p| p.id)
            .collect()
    } else {
        HashSet::new()
    };
    let mut listing = Listing::default();
    for Told { id, hint } in entries {
        if is_passed(&id) && !pending.contains(&id) {
            listing.skipped.push(id);
        } else {
            listing
                .jobs
                .extend(hint.map(|hint| hint.jobs).unwrap_or_default());
        }
    }
    Ok(listing)
}

async fn entries(redis: &Redis, stream: &str) -> Result<Vec<Told>, Outage> {
    between(redis, stream, "-", "+").await
}

/// The entries from one id to another, both included; those that are no entries of ours have no hint.
pub(super) async fn between(
    redis: &Redis,
    stream: &str,
    first: &str,
    last: &str,
) -> Result<Vec<Told>, Outage> {
    let mut all: Vec<Told> = Vec::new();
    let mut from = first.to_owned();
    loop {
        let command = redis::Cmd::xrange_count(stream, &from, last, PAGE);
        let page = redis.ask_about("listing a stream", &command).await?;
        let page = page.as_ref().map(wire::entries).unwrap_or_default();
        let count = page.len();
        all.extend(page);
        match all.last() {
            Some(newest) if count == PAGE => from = format!("({}", newest.id),
            _ => return Ok(all),
        }
    }
}
