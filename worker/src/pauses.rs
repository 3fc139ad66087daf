//! What may not start now, as this process last read it: a job that is in hand asks once more when its slot is free (X71).
//!
//! Whoever claimed it asked Postgres, and of that answer and the last look the newer one counts. Neither counts for longer than
//! [`KNOWN_MAX`], so a process that stood still, or cannot reach Postgres, starts nothing that was paused meanwhile. A Postgres that says too late
//! what is paused keeps jobs in hand from starting, and that is told. It does not know who waits, nor what becomes of a job that may not start.

use std::time::{Duration, Instant};

use millstream_common::{
    breaker::{Breaker, Lines},
    closed::Closed,
};
use tokio::sync::watch;

use crate::job::ClaimedJob;

/// How old the word by which a job starts may be. With the step from here to the handler that is less than the two seconds that a pause
/// may take.
const KNOWN_MAX: Duration = Duration::from_millis(1_500);

/// Looks in a row that came too late, or failed, after which it is told: one alone is no news.
const LATE_TO_TELL: u32 = 3;
const LINES: Lines = Lines {
    begins: "Postgres does not say in time what is paused: jobs that are in hand do not start until it does",
    ends: "Postgres says in time what is paused: jobs start again",
};

/// The last look, and whether looks are of use.
pub(crate) struct Pauses {
    look: watch::Sender<Look>,
    known: Breaker,
}

struct Look {
    asked_at: Instant,
    closed: Closed,
}

/// Whether a job may start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    Granted,
    /// Its queue, kind or tenant is paused.
    Refused,
    /// What is known is too old.
    Unknown,
}

impl Look {
    /// Newer than what Postgres said then, and jobs of these names may not start.
    fn closes(&self, asked_at: Instant, names: Names) -> bool {
        self.asked_at > asked_at && self.closed.has(names.0, names.1, names.2)
    }

    fn leave(&self, asked_at: Instant, names: Names, now: Instant) -> Leave {
        if self.closes(asked_at, names) {
            Leave::Refused
        } else if now.duration_since(self.asked_at.max(asked_at)) <= KNOWN_MAX {
            Leave::Granted
        } else {
            Leave::Unknown
        }
    }
}

/// Numbers of queue, kind and tenant.
type Names = (i32, i32, i32);

fn names(job: &ClaimedJob) -> Names {
    (job.queue.id, job.kind.kind_id, job.tenant_id)
}

impl Pauses {
    pub(crate) fn new() -> Self {
        let look = Look {
            asked_at: Instant::now(),
            closed: Closed::default(),
        };
        Self {
            look: watch::Sender::new(look),
            known: Breaker::new(LATE_TO_TELL, LINES),
        }
    }

    /// What Postgres has answered to a question asked then. Who waits is woken only if it is something else than before.
    pub(crate) fn note(&self, asked_at: Instant, closed: Closed) {
        if asked_at.elapsed() <= KNOWN_MAX {
            self.known.note_success();
        } else {
            self.note_failure("no answer in time");
        }
        self.look.send_if_modified(|look| {
            let is_new = look.closed != closed;
            *look = Look { asked_at, closed };
            is_new
        });
    }

    /// Postgres was asked in vain.
    pub(crate) fn note_failure(&self, why: &'static str) {
        self.known.note_failure(why);
    }

    /// Whether what is known is new enough for jobs in hand to start, but for a moment now and then.
    pub(crate) fn are_known(&self) -> bool {
        !self.known.is_open()
    }

    /// For a job that has a slot.
    pub(crate) fn leave(&self, job: &ClaimedJob) -> Leave {
        self.look
            .borrow()
            .leave(job.asked_at, names(job), Instant::now())
    }

    /// Waits until a job that waits for its slot may not have it.
    pub(crate) async fn closes(&self, job: &ClaimedJob) {
        self.closes_names(job.asked_at, names(job)).await;
    }

    async fn closes_names(&self, asked_at: Instant, names: Names) {
        // An error would say that the sender is gone, which is here.
        drop(
            self.look
                .subscribe()
                .wait_for(|look| look.closes(asked_at, names))
                .await,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names = (1, 2, 3);

    // X71
    #[test]
    fn x71_the_newer_word_counts_and_none_for_long() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let leave = |looked, closed: bool, claimed, now| {
            let closed = if closed {
                Closed::of(&[], &[NAMES.1], &[])
            } else {
                Closed::default()
            };
            Look {
                asked_at: at(looked),
                closed,
            }
            .leave(at(claimed), NAMES, at(now))
        };
        assert_eq!(leave(1_000, false, 0, 1_100), Leave::Granted);
        assert_eq!(leave(1_000, true, 500, 1_100), Leave::Refused);
        assert_eq!(
            leave(1_000, true, 1_050, 1_100),
            Leave::Granted,
            "resumed since"
        );
        assert_eq!(leave(1_000, true, 500, 9_000), Leave::Refused);
        for (looked, claimed) in [(1_000, 0), (0, 1_000), (1_000, 1_000)] {
            assert_eq!(leave(looked, false, claimed, 2_500), Leave::Granted);
            assert_eq!(
                leave(looked, false, claimed, 2_501),
                Leave::Unknown,
                "it may have been paused meanwhile"
            );
        }
    }

    // X71
    #[test]
    fn x71_looks_that_come_too_late_are_told_until_one_comes_in_time() {
        let pauses = Pauses::new();
        let Some(late) = Instant::now().checked_sub(KNOWN_MAX * 2) else {
            return;
        };
        for known in [true, true, false] {
            pauses.note(late, Closed::default());
            assert_eq!(pauses.are_known(), known, "one late look is no news");
        }
        pauses.note(Instant::now(), Closed::default());
        assert!(pauses.are_known());
        (0..LATE_TO_TELL).for_each(|_| pauses.note_failure("refused"));
        assert!(!pauses.are_known());
    }

    // X71
    #[tokio::test]
    async fn x71_who_waits_is_woken_by_a_pause_of_what_he_waits_for() {
        let pauses = Pauses::new();
        let asked_at = Instant::now();
        let closes = pauses.closes_names(asked_at, NAMES);
        tokio::pin!(closes);
        pauses.note(asked_at + KNOWN_MAX, Closed::of(&[7], &[7], &[7]));
        assert!(futures::poll!(closes.as_mut()).is_pending());
        pauses.note(asked_at + KNOWN_MAX, Closed::of(&[7], &[7], &[NAMES.2]));
        assert!(futures::poll!(closes.as_mut()).is_ready());
    }
}
