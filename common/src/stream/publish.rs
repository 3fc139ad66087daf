//! Publish: parcels whose `publishing` was committed become stream entries. Best effort: what is lost here, reconcile finds.
//!
//! A parcel has two states, told by one column. `publishing_since` is null while it waits for room;
//! it is set once somebody has committed to XADD it. There is no third state for "published",
//! because nobody could act on it. Whether an entry arrived, was read, or was lost with Redis is
//! known only by looking into the stream, which reconcile does. What fails between COMMIT and XADD
//! stays publishing, and only reconcile may touch it. What the script refused goes back to waiting,
//! because the script added nothing.
//!
//! Dispatch works per queue and priority. It measures the room in the stream and writes the window
//! into a key for everybody. Then it goes round until the window is full: it takes an advisory lock
//! of the transaction, picks parcels that are not closed and that some active worker serves, marks
//! them publishing, COMMITs, and only then calls the script. From a parcel that is larger than the
//! room it splits off the next part as a parcel of its own; the column `taken` is the cursor.

use std::sync::LazyLock;

use redis::Script;

use super::{GROUP, entry, link::Redis, mending::Fault, remedy::Remedy};
use crate::{
    error::Outage,
    job::Priority,
    limits::{CHUNK_JOBS_MAX, WINDOW_ENTRIES_MIN},
    persist::Parcel,
};

static SCRIPT: LazyLock<Script> = LazyLock::new(|| {
    let script = include_str!("publish.lua");
    if cfg!(feature = "sabotage-maxlen") {
        // Sabotage: a work stream with a cap, which drops entries that nobody has read.
        return Script::new(&script.replace(
            "KEYS[1], '*'",
            &format!("KEYS[1], '{}{}', '50', '*'", "MAX", "LEN"),
        ));
    }
    Script::new(script)
});

/// Publishes parcels of one stream in order. Returns how many were accepted; the others found no room, no memory or no connection.
/// An error leaves it open whether entries were added: the parcels must stay `publishing`.
pub async fn publish(
    redis: &Redis,
    queue: &str,
    priority: Priority,
    parcels: &[Parcel],
) -> Result<usize, Outage> {
    let op = "publishing";
    // Without a connection nothing was sent: the parcels wait, and are worked straight from Postgres if Redis stays away.
    let Ok(mut conn) = redis.connection(op).await else {
        return Ok(0);
    };
    let mut call = SCRIPT.prepare_invoke();
    let stream = redis.keys().stream(queue, priority);
    call.key(&stream).key(redis.keys().window(queue));
    call.arg(GROUP).arg(WINDOW_ENTRIES_MIN).arg(parcels.len());
    for parcel in parcels {
        let chunk = parcel.chunk.clamp(1, CHUNK_JOBS_MAX);
        call.arg(parcel.id).arg(parcel.jobs.len().div_ceil(chunk));
        for jobs in parcel.jobs.chunks(chunk) {
            call.arg(entry::pack(jobs));
        }
    }
    let answer: Result<(usize, u64, u8), Outage> =
        redis.within(op, call.invoke_async(&mut conn)).await;
    match answer {
        Ok((accepted, _length, mended)) => {
            if accepted > 0 {
                redis.note_added();
            }
            if let Some(fault) = Fault::from_number(mended) {
                // Best effort: without it what the stream held is missed a little later.
                drop(redis.tell_mended(&stream, fault).await);
            }
            Ok(accepted)
        }
        // A script that finds no memory at its first write has written nothing; after its first it is not refused any more. One that lacks a
        // right lacks it from the first entry on.
        Err(Outage::Redis { source, .. })
            if matches!(Remedy::of(&source).0, Remedy::Drain | Remedy::Operator) =>
        {
            Ok(0)
        }
        Err(outage) => Err(outage),
    }
}
