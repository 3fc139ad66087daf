//! The belief of one process that a server is out of reach: whether, since when, why, and how much of its life.
//!
//! Says one line when an outage begins and one when it ends. It decides nothing: whoever talks to the server reports how
//! that went, and whoever would rather not ask a dead server looks here first. Closing is automatic, on the first success.
//!
//! Knows neither Redis nor Postgres: reasons are short words of a closed set, so that an open probe tells no secrets.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};

/// What a breaker says when its state changes.
#[derive(Debug, Clone, Copy)]
pub struct Lines {
    /// When it opens: what is lost and how work goes on.
    pub begins: &'static str,
    /// When it closes.
    pub ends: &'static str,
}

/// See the module.
#[derive(Debug)]
pub struct Breaker {
    failures_to_open: u32,
    lines: Lines,
    /// Beside the lock, because every command looks at these two.
    failures: AtomicU32,
    open: AtomicBool,
    past: Mutex<Past>,
}

#[derive(Debug, Default)]
struct Past {
    now: Option<Outage>,
    times: u64,
    /// Of the outages that are over.
    lasted: Duration,
}

#[derive(Debug)]
struct Outage {
    /// For people.
    since: DateTime<Utc>,
    /// For durations: the wall clock may step.
    began: Instant,
    why: &'static str,
}

/// A breaker as a probe shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct BreakerState {
    /// The server counts as out of reach.
    pub open: bool,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// The last failure, in a word: a server that was unreachable may by now be one that refuses the password.
    pub why: Option<&'static str>,
}

/// How often and how long a server was out of reach, since this process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Toll {
    /// Outages, with the one that lasts.
    pub times: u64,
    /// Their whole length.
    pub lasted: Duration,
}

impl Breaker {
    /// A closed breaker that so many failures in a row will open.
    pub fn new(failures_to_open: u32, lines: Lines) -> Self {
        Self {
            failures_to_open,
            lines,
            failures: AtomicU32::new(0),
            open: AtomicBool::new(false),
            past: Mutex::default(),
        }
    }

    /// Whether the server counts as out of reach.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// The server has done what it was asked.
    pub fn note_success(&self) {
        // The usual case costs one read of memory that nobody writes.
        if self.failures.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut past = self.past();
        self.failures.store(0, Ordering::Relaxed);
        if !self.open.swap(false, Ordering::Relaxed) {
            return;
        }
        if let Some(outage) = past.now.take() {
            let lasted = outage.began.elapsed();
            past.lasted += lasted;
            drop(past);
            tracing::info!(lasted_ms = lasted.as_millis() as u64, "{}", self.lines.ends);
        }
    }

    /// The server has failed; enough of these in a row open the breaker. Returns whether this one did.
    pub fn note_failure(&self, why: &'static str) -> bool {
        self.note_failures(1, why)
    }

    /// The server has failed in a way that will not pass by itself: that opens the breaker however much else succeeds. Returns whether this
    /// one did.
    pub fn note_refusal(&self, why: &'static str) -> bool {
        self.note_failures(self.failures_to_open, why)
    }

    fn note_failures(&self, more: u32, why: &'static str) -> bool {
        let mut past = self.past();
        let failures = self.failures.load(Ordering::Relaxed).saturating_add(more);
        self.failures.store(failures, Ordering::Relaxed);
        if let Some(outage) = past.now.as_mut() {
            outage.why = why;
        }
        if failures < self.failures_to_open || self.open.swap(true, Ordering::Relaxed) {
            return false;
        }
        past.times += 1;
        past.now = Some(Outage {
            since: crate::clock::now(),
            began: Instant::now(),
            why,
        });
        drop(past);
        tracing::warn!(why, "{}", self.lines.begins);
        true
    }

    /// For probes.
    pub fn state(&self) -> BreakerState {
        let past = self.past();
        let now = past.now.as_ref();
        BreakerState {
            open: now.is_some(),
            since: now.map(|o| o.since),
            why: now.map(|o| o.why),
        }
    }

    /// For metrics.
    pub fn toll(&self) -> Toll {
        let past = self.past();
        let now = past
            .now
            .as_ref()
            .map_or(Duration::ZERO, |outage| outage.began.elapsed());
        Toll {
            times: past.times,
            lasted: past.lasted + now,
        }
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(
            3,
            Lines {
                begins: "away",
                ends: "back",
            },
        )
    }

    fn open(breaker: &Breaker) {
        assert!(
            !breaker.note_failure("x") && !breaker.note_failure("x") && breaker.note_failure("x")
        );
    }

    #[test]
    fn it_opens_at_the_third_failure_in_a_row_and_closes_at_the_first_success() {
        let breaker = breaker();
        breaker.note_failure("a");
        breaker.note_failure("a");
        breaker.note_success();
        breaker.note_failure("b");
        breaker.note_failure("b");
        assert!(!breaker.is_open(), "never three in a row");
        breaker.note_failure("c");
        breaker.note_failure("d");
        assert_eq!(
            (breaker.is_open(), breaker.state().why),
            (true, Some("d")),
            "the last failure is told"
        );
        assert!(breaker.state().since.is_some());
        breaker.note_success();
        assert_eq!(
            (breaker.is_open(), breaker.state()),
            (false, BreakerState::default())
        );
    }

    // X20
    #[test]
    fn a_refusal_opens_it_at_once() {
        let breaker = breaker();
        assert!(breaker.note_refusal("right") && breaker.is_open());
        assert!(!breaker.note_refusal("right"), "it was open already");
        breaker.note_success();
        assert!(!breaker.is_open());
    }

    /// An outage that lasts.
    fn pass(time: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn its_toll_counts_the_outages_and_adds_up_their_lengths() {
        let breaker = breaker();
        for _ in 0..2 {
            open(&breaker);
            pass(Duration::from_millis(2));
            breaker.note_success();
        }
        let over = breaker.toll();
        assert!(
            over.times == 2 && over.lasted >= Duration::from_millis(4),
            "{over:?}"
        );
        assert_eq!(
            breaker.toll(),
            over,
            "nothing is added while the server answers"
        );
        open(&breaker);
        pass(Duration::from_millis(2));
        assert!(
            breaker.toll().times == 3 && breaker.toll().lasted > over.lasted,
            "the one that lasts counts too"
        );
    }
}
