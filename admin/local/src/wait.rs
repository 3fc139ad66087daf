//! The one place of these modules that sleeps: looking again and again at another process, always with a deadline.
//!
//! It does not know what is waited for.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// The first pause, doubled after each look: short against the time a server takes to start (Redis 5 ms, Postgres 60 ms).
const LOOK_FIRST: Duration = Duration::from_millis(5);
/// The longest pause: a Postgres that recovers for a minute writes a line to its log for every look.
const LOOK_LAST: Duration = Duration::from_millis(100);

/// Looks until `look` finds something or `limit` is over; `None` when it is.
pub(super) fn until<T>(
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let deadline = Instant::now() + limit;
    let mut pause_next = LOOK_FIRST;
    loop {
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        pause(pause_next);
        pause_next = LOOK_LAST.min(pause_next * 2);
    }
}

/// Blocks this thread, which is never one of the async runtime's: all callers run in `spawn_blocking` or without one.
#[expect(
    clippy::disallowed_methods,
    reason = "another process gives no event to wait for"
)]
pub(super) fn pause(time: Duration) {
    thread::sleep(time);
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::*;

    #[test]
    fn what_is_never_found_ends_at_the_limit() {
        let found: Option<()> = until(Duration::from_millis(20), || Ok(None)).unwrap();
        assert!(found.is_none());
    }

    #[test]
    fn it_looks_again_until_something_is_found() {
        let mut looks = 0;
        let found = until(Duration::from_secs(5), || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(found.unwrap(), Some(3));
    }
}
