//! What follows from an outcome: one pure function (F13, F14).

use std::time::Duration;

use millstream_common::{
    limits::{ERROR_BYTES_MAX, bounded},
    metrics::JobOutcome,
    state::State,
};

use crate::{
    handler::{Handler, RATE_LIMIT_DELAY_DEFAULT},
    outcome::Failure,
};

/// No wait that a server asks for is honoured beyond this.
const WAIT_MAX: Duration = Duration::from_hours(24);

/// What is to be written for a job that did not succeed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) state: State,
    /// When it is due again; `None` for a final state.
    pub(crate) delay: Option<Duration>,
    /// Whether an attempt is used up.
    pub(crate) counts: bool,
    /// Class of the error in the history; `None`: no error at all.
    pub(crate) class: Option<&'static str>,
    /// Why the job is dead.
    pub(crate) dead_reason: Option<&'static str>,
    pub(crate) message: String,
    pub(crate) outcome: JobOutcome,
}

/// Decides. `attempt`: tries counted before this one. `dice`: uniform in [0, 1), for the jitter.
pub(crate) fn decide(failure: &Failure, handler: &Handler, attempt: i16, max_attempts: i16, dice: f64) -> Verdict {
    let message = bounded(&failure.to_string(), ERROR_BYTES_MAX);
    match failure {
        Failure::Snooze(delay) => put_off(State::Scheduled, *delay, None, message, JobOutcome::Snoozed),
        Failure::RateLimited { after, .. } => {
            let floor = after.unwrap_or(handler.rate_limit_delay.max(RATE_LIMIT_DELAY_DEFAULT)).min(WAIT_MAX);
            // Never earlier than asked, and not all at the same moment: up to a fifth later.
            let delay = floor + floor.mul_f64(dice / 5.0);
            put_off(State::RateLimited, delay, Some("rate_limited"), message, JobOutcome::RateLimited)
        }
        Failure::Permanent(_) => bury("permanent", "permanent", message),
        Failure::Undecodable(_) => bury("undecodable", "undecodable", message),
        Failure::Retry(_) => again_or_dead("retry", handler, attempt, max_attempts, dice, message),
        Failure::TimedOut(_) => again_or_dead("timeout", handler, attempt, max_attempts, dice, message),
        Failure::Panicked(_) => again_or_dead("panic", handler, attempt, max_attempts, dice, message),
    }
}

fn put_off(state: State, delay: Duration, class: Option<&'static str>, message: String, outcome: JobOutcome) -> Verdict {
    Verdict { state, delay: Some(delay.min(WAIT_MAX)), counts: false, class, dead_reason: None, message, outcome }
}

fn bury(class: &'static str, reason: &'static str, message: String) -> Verdict {
    Verdict {
        state: State::Dead,
        delay: None,
        counts: true,
        class: Some(class),
        dead_reason: Some(reason),
        message,
        outcome: JobOutcome::Dead,
    }
}

fn again_or_dead(class: &'static str, handler: &Handler, attempt: i16, max_attempts: i16, dice: f64, message: String) -> Verdict {
    let tries = attempt.saturating_add(1);
    if tries >= max_attempts {
        return bury(class, "attempts", message);
    }
    let delay = handler.retry.delay(tries, dice);
    Verdict {
        state: State::Retryable,
        delay: Some(delay),
        counts: true,
        class: Some(class),
        dead_reason: None,
        message,
        outcome: JobOutcome::Retried,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Outcome, Success};

    fn handler() -> Handler {
        async fn nothing(_: crate::Context, (): ()) -> Outcome {
            Ok(Success::new())
        }
        Handler::new("k", nothing)
    }

    #[test]
    fn the_last_attempt_buries_and_earlier_ones_retry() {
        // F13, F14
        let fail = Failure::retry("boom");
        let second = decide(&fail, &handler(), 1, 3, 1.0);
        assert_eq!((second.state, second.delay, second.counts), (State::Retryable, Some(Duration::from_secs(2)), true));
        let third = decide(&fail, &handler(), 2, 3, 1.0);
        assert_eq!((third.state, third.dead_reason, third.message.as_str()), (State::Dead, Some("attempts"), "boom"));
    }

    #[test]
    fn a_permanent_failure_is_dead_at_once() {
        let verdict = decide(&Failure::permanent("no"), &handler(), 0, 3, 0.5);
        assert_eq!((verdict.state, verdict.dead_reason), (State::Dead, Some("permanent")));
        assert_eq!(decide(&Failure::Undecodable("x".into()), &handler(), 0, 3, 0.5).dead_reason, Some("undecodable"));
    }

    #[test]
    fn rate_limits_and_snoozes_use_up_no_attempt_and_never_come_early() {
        // F13, F24
        let asked = Duration::from_secs(10);
        for dice in [0.0, 0.5, 0.99] {
            let limited = decide(&Failure::RateLimited { after: Some(asked), message: "429".into() }, &handler(), 2, 3, dice);
            assert_eq!((limited.state, limited.counts), (State::RateLimited, false));
            assert!(limited.delay >= Some(asked) && limited.delay <= Some(asked * 6 / 5));
        }
        let snoozed = decide(&Failure::Snooze(asked), &handler(), 2, 3, 0.5);
        assert_eq!((snoozed.state, snoozed.delay, snoozed.counts, snoozed.class), (State::Scheduled, Some(asked), false, None));
    }
}
