//! Job ids: `UUIDv7` made by the client, so that a commit whose answer was lost can be repeated with the same id.
//!
//! Ids made by one process rise strictly, also within a millisecond: neighbours in a parcel then differ by little, which
//! is what keeps a stream entry at a few bytes per job (`stream::entry`), and primary key inserts go to the last page.
//! The id carries the enqueue time of the client's clock; nothing is decided by it except the partition.

use std::sync::{Mutex, PoisonError};

use rand::Rng;
use uuid::Uuid;

use crate::clock;

/// The id of a job.
pub type JobId = Uuid;

/// The id of a batch of jobs.
pub type BatchId = Uuid;

/// 12 + 62 bits below the timestamp, less the version and variant bits: the room of the counter.
const TAIL_BITS: u32 = 74;
/// The counter of a new millisecond starts in the lower half of its range, so that it cannot overflow in practice.
const TAIL_START_MASK: u128 = (1 << (TAIL_BITS - 1)) - 1;

/// Milliseconds and tail of the newest id of this process.
static LAST: Mutex<(u64, u128)> = Mutex::new((0, 0));

/// Makes a new id, larger than every id this process made before (RFC 9562, 6.2, method 2).
pub fn new_job_id() -> JobId {
    new_job_ids(1).next().unwrap_or_default()
}

/// Makes `count` ids in one go; they are consecutive.
pub fn new_job_ids(count: usize) -> impl Iterator<Item = JobId> {
    let (ms, first) = reserve(count as u128);
    (0..count as u128).map(move |i| compose(ms, first + i))
}

/// 64 random bits, for jitter.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that asks for randomness"
)]
pub fn entropy() -> u64 {
    rand::random()
}

fn reserve(count: u128) -> (u64, u128) {
    let now_ms = clock::now().timestamp_millis().max(0) as u64;
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    // A clock that steps back must not make ids that fall: the old millisecond goes on.
    if now_ms > last.0 {
        *last = (now_ms, rand::rng().random::<u128>() & TAIL_START_MASK);
    }
    let first = last.1 + 1;
    last.1 += count;
    (last.0, first)
}

/// Lays version and variant bits between timestamp and tail.
fn compose(ms: u64, tail: u128) -> Uuid {
    let high = tail >> 62 & 0xfff;
    let low = tail & ((1 << 62) - 1);
    Uuid::from_u128(u128::from(ms) << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_strictly_and_are_version_7() {
        let ids: Vec<_> = (0..1000).flat_map(|n| new_job_ids(n % 7 + 1)).collect();
        assert!(ids.windows(2).all(|w| w[0] < w[1]));
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
    }
}
