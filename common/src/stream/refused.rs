//! What the server does not let this program do, and how long that is believed when a probe says otherwise.
//!
//! The probe does what the work does, with keys of its own, and asks for the right to those of the work. A right that only the work meets all
//! the same (rules for single keys and commands together) would open and close the breaker twice a second; so each time that happens the breaker
//! stays open longer.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redis::RedisError;

/// Work that is refused so soon after a good probe was refused something that the probe does not meet. Longer than the pause of the rarest work:
/// consumers are looked through every 30 s, and that waits for the breaker to close.
const SOON: Duration = Duration::from_mins(2);
/// How long good probes are not believed then, at first and at last.
const HOLD_FIRST: Duration = Duration::from_secs(1);
const HOLD_LAST: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Default)]
pub(super) struct Refused(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    what: Option<String>,
    /// A probe has met it as well, so the next good one can be believed.
    is_met: bool,
    /// When a good probe was last believed about something that no probe had met.
    closed: Option<Instant>,
    hold: Duration,
    until: Option<Instant>,
}

impl Refused {
    /// Whether a word of [`super::remedy::Remedy::of`] says that this user may not, or this server cannot, do what was asked.
    pub(super) fn is_meant(word: &str) -> bool {
        matches!(word, "NOPERM" | "unknown command")
    }

    /// Work was refused. `has_opened`: the breaker was closed until now.
    pub(super) fn note(&self, has_opened: bool, now: Instant, error: &RedisError) {
        let mut inner = self.inner();
        inner.what.get_or_insert_with(|| error.to_string());
        if has_opened && !inner.is_met {
            let is_soon = inner
                .closed
                .is_some_and(|at| now.saturating_duration_since(at) < SOON);
            inner.hold = if is_soon {
                (inner.hold * 2).clamp(HOLD_FIRST, HOLD_LAST)
            } else {
                Duration::ZERO
            };
            inner.until = Some(now + inner.hold);
        }
    }

    /// A probe was refused, and knows what exactly is missing.
    pub(super) fn know(&self, what: String) {
        let mut inner = self.inner();
        (inner.what, inner.is_met, inner.until) = (Some(what), true, None);
    }

    /// The same for people.
    pub(super) fn what(&self) -> Option<String> {
        self.inner().what.clone()
    }

    /// A probe has met no refusal. Returns whether that is believed; then nothing is missing any more.
    pub(super) fn may_close(&self, now: Instant) -> bool {
        let mut inner = self.inner();
        if inner.until.is_some_and(|until| now < until) {
            return false;
        }
        if inner.what.take().is_some() {
            inner.closed = Some(now).filter(|_| !inner.is_met);
        }
        inner.is_met = false;
        true
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> RedisError {
        (redis::ErrorKind::Client, "no right").into()
    }

    // X20
    #[test]
    fn a_good_probe_is_believed_less_each_time_work_is_refused_behind_it() {
        let (refused, mut now) = (Refused::default(), Instant::now());
        let mut held = Vec::new();
        for _ in 0..8 {
            refused.note(true, now, &error());
            let start = now;
            while !refused.may_close(now) {
                now += Duration::from_millis(500);
            }
            held.push((now - start).as_secs());
        }
        assert_eq!(
            held,
            [0, 1, 2, 4, 8, 16, 30, 30],
            "the first is believed at once"
        );
        assert!(refused.what().is_none());
    }

    // X20
    #[test]
    fn a_refusal_that_rare_work_meets_twice_a_minute_is_not_forgotten() {
        let (refused, mut now) = (Refused::default(), Instant::now());
        for nth in 0..8 {
            refused.note(true, now, &error());
            assert_eq!(
                refused.may_close(now + Duration::from_millis(500)),
                nth == 0,
                "{nth}"
            );
            now += HOLD_LAST;
            assert!(refused.may_close(now), "{nth}");
            now += Duration::from_secs(30);
        }
    }

    #[test]
    fn what_the_probe_meets_too_is_over_as_soon_as_the_probe_is_good() {
        let (refused, now) = (Refused::default(), Instant::now());
        for nth in 0..8 {
            let at = now + Duration::from_secs(nth);
            refused.note(nth % 2 == 0, at, &error());
            refused.know("the right to XADD".to_owned());
            refused.note(nth % 2 == 1, at, &error());
            assert!(refused.may_close(at), "{nth}");
        }
    }

    #[test]
    fn a_refusal_long_after_the_last_one_is_a_new_one() {
        let (refused, now) = (Refused::default(), Instant::now());
        for at in [now, now + SOON * 2] {
            refused.note(true, at, &error());
            assert!(refused.what().is_some());
            refused.know("the right to XADD".to_owned());
            assert_eq!(refused.what().as_deref(), Some("the right to XADD"));
            assert!(refused.may_close(at), "as soon as the right is there");
        }
    }
}
