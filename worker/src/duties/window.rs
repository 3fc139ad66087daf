//! How many entries a stream may hold: enough for the fleet until dispatch comes round again, and no more than is worked off in moments.
//!
//! The flow out of a stream is measured at the stream itself: Redis counts the entries ever added, and what is not there any more has been
//! worked off. The heartbeats tell the same too late for a fleet that has just begun.
//!
//! The window is the largest of three: a fixed minimum, four rounds of the fleet's slots, and half
//! a second of the flow.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use millstream_common::{
    error::Outage, job::Priority, limits::WINDOW_ENTRIES_MIN, stream::wire::Record,
};

use crate::{claim::group, shared::Shared};

/// The window holds so much of the recent flow.
const HOLDS: Duration = Duration::from_millis(500);
/// A flow that has ended counts half after so long.
const HALF_LIFE: Duration = Duration::from_secs(5);
/// Looks closer together than this measure their own noise.
const APART_MIN: Duration = Duration::from_millis(20);
/// Rounds of the fleet's slots.
const ROUNDS: u64 = 4;

/// A stream as it is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) length: u64,
    /// Entries ever added, since the stream was made.
    added: u64,
}

/// Entries per second out of each stream, as last measured.
#[derive(Default)]
pub(super) struct Flows(HashMap<(i32, Priority), Flow>);

struct Flow {
    removed: u64,
    at: Instant,
    per_s: f64,
}

impl Flows {
    /// Takes note of how a stream is at `now`.
    pub(super) fn note(&mut self, queue: i32, priority: Priority, level: Level, now: Instant) {
        let removed = level.added.saturating_sub(level.length);
        let flow = self.0.entry((queue, priority)).or_insert(Flow {
            removed,
            at: now,
            per_s: 0.0,
        });
        let elapsed = now.duration_since(flow.at);
        if elapsed < APART_MIN {
            return;
        }
        let kept = flow.per_s * 0.5_f64.powf(elapsed.as_secs_f64() / HALF_LIFE.as_secs_f64());
        // A stream that was made anew has removed less than before.
        let measured = removed.saturating_sub(flow.removed) as f64 / elapsed.as_secs_f64();
        *flow = Flow {
            removed,
            at: now,
            per_s: measured.max(kept),
        };
    }

    /// Entries that each stream of the queue may hold while the fleet has so many slots.
    pub(super) fn window(&self, queue: i32, slots: u64) -> u64 {
        let per_s = Priority::ALL
            .iter()
            .filter_map(|priority| self.0.get(&(queue, *priority)))
            .map(|flow| flow.per_s);
        let held = per_s.fold(0.0, f64::max) * HOLDS.as_secs_f64();
        WINDOW_ENTRIES_MIN.max(ROUNDS * slots).max(held as u64)
    }
}

/// Looks at a stream; one that is not there is empty.
pub(super) async fn level(
    shared: &Shared,
    queue: &str,
    priority: Priority,
) -> Result<Level, Outage> {
    let op = "measuring a stream";
    let stream = shared.redis.keys().stream(queue, priority);
    // XINFO refuses what is not there.
    let exists = redis::Cmd::exists(&stream);
    if !shared.redis.ask(op, &exists).await? {
        return Ok(Level::default());
    }
    let command = redis::Cmd::xinfo_stream(&stream);
    let Some(answer) = shared.redis.ask_about(op, &command).await? else {
        // No stream: mended here, where no worker may read this queue, so that it does not hold up the other ones.
        group::make(&shared.redis, &stream).await?;
        return Ok(Level::default());
    };
    let number = |name: &str| Record(&answer).number(name).unwrap_or_default();
    Ok(Level {
        length: number("length"),
        added: number("entries-added"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(length: u64, added: u64) -> Level {
        Level { length, added }
    }

    #[test]
    fn a_window_has_a_floor_and_holds_half_a_second_of_the_flow() {
        let (mut flows, start) = (Flows::default(), Instant::now());
        assert_eq!(flows.window(1, 8), WINDOW_ENTRIES_MIN);
        assert_eq!(flows.window(1, 100), 400);
        flows.note(1, Priority::Medium, level(200, 200), start);
        flows.note(
            1,
            Priority::Medium,
            level(100, 400),
            start + Duration::from_millis(50),
        );
        assert_eq!(flows.window(1, 8), 3_000, "300 entries in 50 ms");
        assert_eq!(flows.window(2, 8), WINDOW_ENTRIES_MIN, "another queue");
    }

    #[test]
    fn a_flow_that_has_ended_or_begins_anew_is_forgotten_in_seconds() {
        let (mut flows, start) = (Flows::default(), Instant::now());
        flows.note(1, Priority::High, level(0, 0), start);
        flows.note(
            1,
            Priority::High,
            level(0, 1_000),
            start + Duration::from_millis(100),
        );
        assert_eq!(flows.window(1, 8), 5_000);
        flows.note(
            1,
            Priority::High,
            level(0, 0),
            start + Duration::from_millis(5_100),
        );
        assert_eq!(flows.window(1, 8), 2_500);
        flows.note(
            1,
            Priority::High,
            level(0, 0),
            start + Duration::from_mins(1),
        );
        assert_eq!(flows.window(1, 8), WINDOW_ENTRIES_MIN);
    }
}
