//! At most one log line a second from a loop that fails again and again (with what it kept back in the next one).
//!
//! Only for lines that repeat themselves. What tells of one job or one decision is always said.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Lines of one place are at least this far apart.
const APART: Duration = Duration::from_secs(1);

/// One place that logs; a `static` beside the line.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Option<Spoken>>);

#[derive(Debug, Clone, Copy)]
struct Spoken {
    at: Instant,
    kept_back: u64,
}

impl Seldom {
    /// Nothing has been said yet.
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether a line may be said now, and then how many were kept back since the last one.
    pub fn may_speak(&self) -> Option<u64> {
        self.may_speak_at(Instant::now())
    }

    fn may_speak_at(&self, now: Instant) -> Option<u64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spoken) = last.as_mut()
            && now.saturating_duration_since(spoken.at) < APART
        {
            spoken.kept_back += 1;
            return None;
        }
        let kept_back = last.map_or(0, |spoken| spoken.kept_back);
        *last = Some(Spoken {
            at: now,
            kept_back: 0,
        });
        Some(kept_back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule 7
    #[test]
    fn a_loop_that_fails_600_times_a_second_says_one_line_a_second_and_counts_the_rest() {
        let (seldom, start) = (Seldom::new(), Instant::now());
        let said: Vec<u64> = (0..1800_u64)
            .filter_map(|i| {
                seldom.may_speak_at(start + Duration::from_nanos(i * 1_000_000_000 / 600))
            })
            .collect();
        assert_eq!(said, [0, 599, 599]);
    }

    #[test]
    fn a_rare_line_is_always_said() {
        let (seldom, start) = (Seldom::new(), Instant::now());
        assert!((0..5).all(|i| seldom.may_speak_at(start + APART * i) == Some(0)));
    }
}
