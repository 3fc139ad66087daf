//! Delays between attempts to reach a server again, with jitter, so that a fleet does not come back in one moment.
//!
//! The only user of the `backoff` crate (see the workspace `Cargo.toml`). Job retry times are `retry`'s, not these.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};

/// Endless delays: a floor and, on top, a random part of up to 100 ms at first and 5 s at last (full jitter).
pub struct Reconnect(ExponentialBackoff);

/// No loop fails faster than this.
const FLOOR: Duration = Duration::from_millis(100);
/// The middle of the random part at first; it is drawn from 0 to twice this.
const MIDDLE_FIRST: Duration = Duration::from_millis(50);
/// The middle of the random part at last: 200 processes come back at about 40 a second.
const MIDDLE_LAST: Duration = Duration::from_millis(2500);

impl Default for Reconnect {
    fn default() -> Self {
        Self(
            ExponentialBackoffBuilder::new()
                .with_initial_interval(MIDDLE_FIRST)
                .with_max_interval(MIDDLE_LAST)
                .with_randomization_factor(1.0)
                .with_max_elapsed_time(None)
                .build(),
        )
    }
}

impl Reconnect {
    /// How long to wait before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        // `None` would mean "give up", which an endless policy never says.
        FLOOR + self.0.next_backoff().unwrap_or(MIDDLE_LAST)
    }

    /// After a success the next failure starts with a short delay again.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The delay before this try.
    fn delay(tries: usize) -> Duration {
        let mut reconnect = Reconnect::default();
        (0..tries)
            .map(|_| reconnect.next_delay())
            .last()
            .unwrap_or_default()
    }

    // rule 7
    #[test]
    fn no_delay_is_below_the_floor_or_above_the_end() {
        for tries in [1, 2, 5, 30] {
            assert!(
                (0..200)
                    .map(|_| delay(tries))
                    .all(|d| d >= FLOOR && d <= FLOOR + MIDDLE_LAST * 2 + Duration::from_millis(1))
            );
        }
        assert!(
            (0..200).all(|_| delay(1) <= FLOOR * 2 + Duration::from_millis(1)),
            "the first delay is short"
        );
    }

    // rule 30
    #[test]
    fn two_hundred_processes_do_not_come_back_in_the_same_second() {
        let mut seconds = [0; 6];
        (0..200)
            .map(|_| delay(30))
            .for_each(|d| seconds[d.as_secs().min(5) as usize] += 1);
        // 40 on average; 75 is six standard deviations away.
        assert!(seconds.iter().all(|n| *n < 75), "{seconds:?}");
    }

    #[test]
    fn a_success_makes_the_next_delay_short_again() {
        let mut reconnect = Reconnect::default();
        for _ in 0..30 {
            reconnect.next_delay();
        }
        reconnect.reset();
        assert!(reconnect.next_delay() <= FLOOR * 2 + Duration::from_millis(1));
    }
}
