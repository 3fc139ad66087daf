//! When a failed job runs again: exponential backoff with full jitter, as a pure function (F13).
//!
//! Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: `random_between(0, min(cap, base * factor^n))`.

use std::time::Duration;

/// How a kind is retried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Upper bound of the first delay.
    pub base: Duration,
    /// Growth per attempt.
    pub factor: f64,
    /// Upper bound of every delay.
    pub cap: Duration,
    /// Counted tries before the job is dead.
    pub max_attempts: i16,
}

impl Default for RetryPolicy {
    /// 1 s, doubling, at most 10 minutes, 3 attempts.
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            factor: 2.0,
            cap: Duration::from_mins(10),
            max_attempts: 3,
        }
    }
}

impl RetryPolicy {
    /// The delay after failed attempt number `attempt` (1, 2, …). `dice` is uniform in [0, 1).
    pub fn delay(&self, attempt: i16, dice: f64) -> Duration {
        let exponent = f64::from(attempt.max(1) - 1);
        let ceiling = (self.base.as_secs_f64() * self.factor.max(1.0).powf(exponent))
            .min(self.cap.as_secs_f64());
        Duration::from_secs_f64(ceiling * dice.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap_and_never_beyond() {
        // F13
        let policy = RetryPolicy::default();
        let ceilings: Vec<_> = (1..=12).map(|n| policy.delay(n, 1.0).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        assert_eq!(policy.delay(i16::MAX, 1.0), policy.cap);
    }

    #[test]
    fn jitter_covers_the_whole_range() {
        // F13: a thousand jobs that failed together do not come back together
        let policy = RetryPolicy::default();
        assert_eq!(policy.delay(5, 0.0), Duration::ZERO);
        assert_eq!(policy.delay(5, 0.25), Duration::from_secs(4));
    }
}
