//! What follows from an outcome: one pure function (F13, F14).

use std::time::Duration;

use millstream_common::{
    limits::ERROR_BYTES_MAX, metrics::JobOutcome, redact::stored, retry::RetryPolicy, state::State,
};

use crate::api::{Failure, Handler};

/// No wait that a server asks for is honoured beyond this.
const WAIT_MAX: Duration = Duration::from_hours(24);
/// A server that is out of reach costs a job no attempt until it has been so for this long: longer is no outage, but a wrong address.
const OUTAGE_MAX: Duration = Duration::from_hours(24);
/// The first pause after a refusal that did not say how long.
const RATE_LIMIT_DELAY_FIRST: Duration = Duration::from_secs(1);
/// The longest pause after a refusal that did not say how long: a quota of a minute is whole again by then.
const RATE_LIMIT_DELAY_MAX: Duration = Duration::from_mins(2);
/// The shortest pause before a server that is out of reach is tried again.
const OUTAGE_DELAY_MIN: Duration = Duration::from_millis(500);

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

/// What is known of the job when its run has failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct History {
    /// Tries counted before this one.
    pub(crate) attempt: i16,
    pub(crate) max_attempts: i16,
    /// The runs before this one that ended as it did.
    pub(crate) before: Streak,
}

/// The runs with which a history ends, as far as all of them met what this run has met: a server out of reach, or one that asks to wait.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Streak {
    /// How many; this one is not among them.
    pub(crate) runs: i64,
    /// Since the first of them.
    pub(crate) since: Duration,
}

/// Decides. `dice`: uniform in [0, 1), for the jitter.
pub(crate) fn decide(failure: &Failure, handler: &Handler, job: History, dice: f64) -> Verdict {
    // Here the words of handlers enter: history, dead letters, notices and logs take them from the verdict.
    let message = stored(&failure.to_string(), ERROR_BYTES_MAX);
    match failure {
        Failure::Snooze(delay) => {
            put_off(State::Scheduled, *delay, None, message, JobOutcome::Snoozed)
        }
        Failure::RateLimited { after, .. } => {
            let delay = after.map_or_else(
                || rate_limit_delay(job.before.runs, dice),
                |after| later_than(after, dice),
            );
            put_off(
                State::RateLimited,
                delay,
                Some("rate_limited"),
                message,
                JobOutcome::RateLimited,
            )
        }
        // Tries that do not count: the pauses grow with their number all the same.
        Failure::Unavailable(_) if job.before.since < OUTAGE_MAX => {
            let delay = handler.retry.delay(nth(job.before.runs), dice);
            put_off(
                State::Retryable,
                delay.max(OUTAGE_DELAY_MIN),
                Some("unavailable"),
                message,
                JobOutcome::Retried,
            )
        }
        Failure::Unavailable(_) => again_or_dead("unavailable", handler, job, dice, message),
        Failure::Permanent(_) => bury("permanent", "permanent", message),
        Failure::Undecodable(_) => bury("undecodable", "undecodable", message),
        Failure::Killed(_) => Verdict {
            // No try has ended.
            counts: false,
            ..bury("crash", "crash", message)
        },
        Failure::Retry(_) => again_or_dead("retry", handler, job, dice, message),
        Failure::TimedOut(_) => again_or_dead("timeout", handler, job, dice, message),
        Failure::Panicked(_) => again_or_dead("panic", handler, job, dice, message),
    }
}

/// Never earlier than asked, and not all at the same moment: up to a fifth later.
fn later_than(asked: Duration, dice: f64) -> Duration {
    let floor = asked.min(WAIT_MAX);
    floor + floor.mul_f64(dice / 5.0)
}

/// A server that does not say for how long is left alone for longer each time: half of the delay is fixed, half is jitter.
fn rate_limit_delay(runs_before: i64, dice: f64) -> Duration {
    let growth = RetryPolicy {
        base: RATE_LIMIT_DELAY_FIRST,
        factor: 2.0,
        cap: RATE_LIMIT_DELAY_MAX,
        max_attempts: 1,
    };
    growth.delay(nth(runs_before), dice.mul_add(0.5, 0.5))
}

/// Number of the run after so many others, for a backoff.
fn nth(runs_before: i64) -> i16 {
    i16::try_from(runs_before)
        .unwrap_or(i16::MAX)
        .saturating_add(1)
}

fn put_off(
    state: State,
    delay: Duration,
    class: Option<&'static str>,
    message: String,
    outcome: JobOutcome,
) -> Verdict {
    Verdict {
        state,
        delay: Some(delay.min(WAIT_MAX)),
        counts: false,
        class,
        dead_reason: None,
        message,
        outcome,
    }
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

fn again_or_dead(
    class: &'static str,
    handler: &Handler,
    job: History,
    dice: f64,
    message: String,
) -> Verdict {
    let tries = job.attempt.saturating_add(1);
    if tries >= job.max_attempts {
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
    use crate::api::{Outcome, Success};

    fn history(attempt: i16) -> History {
        History {
            attempt,
            max_attempts: 3,
            before: Streak::default(),
        }
    }

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
        let second = decide(&fail, &handler(), history(1), 1.0);
        assert_eq!(
            (second.state, second.delay, second.counts),
            (State::Retryable, Some(Duration::from_secs(2)), true)
        );
        let third = decide(&fail, &handler(), history(2), 1.0);
        assert_eq!(
            (third.state, third.dead_reason, third.message.as_str()),
            (State::Dead, Some("attempts"), "boom")
        );
    }

    #[test]
    fn a_permanent_failure_is_dead_at_once() {
        let verdict = decide(&Failure::permanent("no"), &handler(), history(0), 0.5);
        assert_eq!(
            (verdict.state, verdict.dead_reason),
            (State::Dead, Some("permanent"))
        );
        assert_eq!(
            decide(
                &Failure::Undecodable("x".into()),
                &handler(),
                history(0),
                0.5
            )
            .dead_reason,
            Some("undecodable")
        );
    }

    #[test]
    fn rate_limits_and_snoozes_use_up_no_attempt_and_never_come_early() {
        // F13, F24
        let asked = Duration::from_secs(10);
        for dice in [0.0, 0.5, 0.99] {
            let limited = decide(
                &Failure::RateLimited {
                    after: Some(asked),
                    message: "429".into(),
                },
                &handler(),
                history(2),
                dice,
            );
            assert_eq!((limited.state, limited.counts), (State::RateLimited, false));
            assert!(limited.delay >= Some(asked) && limited.delay <= Some(asked * 6 / 5));
        }
        let snoozed = decide(&Failure::Snooze(asked), &handler(), history(2), 0.5);
        assert_eq!(
            (snoozed.state, snoozed.delay, snoozed.counts, snoozed.class),
            (State::Scheduled, Some(asked), false, None)
        );
    }

    // field X69
    #[test]
    fn x69_a_rate_limit_without_a_time_grows_with_jitter_to_a_cap() {
        let limited = Failure::RateLimited {
            after: None,
            message: "429".into(),
        };
        let delay = |runs, dice| {
            let job = History {
                before: Streak {
                    runs,
                    since: Duration::ZERO,
                },
                ..history(0)
            };
            let verdict = decide(&limited, &handler(), job, dice);
            assert_eq!((verdict.state, verdict.counts), (State::RateLimited, false));
            verdict.delay.unwrap_or_default()
        };
        let longest: Vec<_> = (0..9).map(|runs| delay(runs, 1.0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
        for runs in [0, 1, 5, 40, i64::MAX] {
            assert_eq!(delay(runs, 0.0) * 2, delay(runs, 1.0), "after {runs} runs");
        }
    }

    #[test]
    fn a_server_out_of_reach_buries_nothing_for_a_day() {
        // C2: an outage of theirs uses up no attempt, however often it is met
        let away = Failure::Unavailable("refused".into());
        let late = History {
            before: Streak {
                runs: 40,
                since: OUTAGE_MAX / 2,
            },
            ..history(2)
        };
        let put_off = decide(&away, &handler(), late, 1.0);
        assert_eq!(
            (put_off.state, put_off.counts, put_off.delay),
            (State::Retryable, false, Some(handler().retry.cap))
        );
        assert_eq!(
            decide(&away, &handler(), history(2), 0.0).delay,
            Some(OUTAGE_DELAY_MIN)
        );
        let long = History {
            before: Streak {
                runs: 1,
                since: OUTAGE_MAX,
            },
            ..history(2)
        };
        assert_eq!(
            decide(&away, &handler(), long, 1.0).dead_reason,
            Some("attempts")
        );
    }
}
