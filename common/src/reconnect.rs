//! Delays between attempts to reach a server again, with jitter, so that a fleet does not come back in one moment.
//!
//! The only user of the `backoff` crate (see the workspace `Cargo.toml`). Job retry times are `retry`'s, not these.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};

/// Endless delays from 100 ms up to 5 s, half of each random.
pub struct Reconnect(ExponentialBackoff);

impl Default for Reconnect {
    fn default() -> Self {
        Self(
            ExponentialBackoffBuilder::new()
                .with_initial_interval(Duration::from_millis(100))
                .with_max_interval(Duration::from_secs(5))
                .with_randomization_factor(0.5)
                .with_max_elapsed_time(None)
                .build(),
        )
    }
}

impl Reconnect {
    /// How long to wait before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        // `None` would mean "give up", which an endless policy never says.
        self.0.next_backoff().unwrap_or(Duration::from_secs(5))
    }

    /// After a success the next failure starts with a short delay again.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}
