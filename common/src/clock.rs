//! The only place that reads the wall clock.
//!
//! Wall-clock times are for people and for `ready_at`; leases, rescue and takeover are decided on the monotonic clock
//! (`std::time::Instant`) alone, because wall clocks step.

use chrono::{DateTime, Utc};

/// Now, by this machine's wall clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that may ask for the time"
)]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}
