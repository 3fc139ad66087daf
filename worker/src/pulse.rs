//! Whether every loop still turns: each reports its turns here, and `/livez` fails when one has been silent too long.
//!
//! It says nothing of Postgres or Redis: an outage of either must not restart the fleet.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

// The runtime's clock, so that a test can let a day pass.
use tokio::time::Instant;

/// Turns of all loops. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Pulses(Arc<Mutex<BTreeMap<String, (Instant, Duration)>>>);

impl Pulses {
    /// A loop has turned, and will again within `silence_max` even when everything it talks to hangs.
    pub(crate) fn turn(&self, name: &str, silence_max: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(name) {
            Some(pulse) => *pulse = (Instant::now(), silence_max),
            None => drop(all.insert(name.to_owned(), (Instant::now(), silence_max))),
        }
    }

    /// A loop has ended on purpose.
    pub(crate) fn end(&self, name: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }

    /// The loops that have been silent too long.
    pub(crate) fn stuck(&self) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .filter(|(_, (at, max))| at.elapsed() > *max)
            .map(|(name, _)| name.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_loop_is_named() {
        let pulses = Pulses::default();
        pulses.turn("reader", Duration::from_mins(1));
        pulses.turn("settle", Duration::ZERO);
        assert_eq!(pulses.stuck(), ["settle"]);
        pulses.end("settle");
        assert!(pulses.stuck().is_empty());
    }
}
