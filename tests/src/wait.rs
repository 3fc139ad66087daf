//! Waiting for a state, with a bound.

use std::time::{Duration, Instant};

/// Bound of every wait: far above what a loaded machine needs, so that only a real stop fails a test.
pub const BOUND: Duration = Duration::from_mins(1);
/// How often the state is looked at.
const LOOK: Duration = Duration::from_millis(15);

/// Waits until `look` returns something, and fails with `what` after [`BOUND`].
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            start.elapsed() < BOUND,
            "not within {} s: {what}",
            BOUND.as_secs()
        );
        tokio::time::sleep(LOOK).await;
    }
}
