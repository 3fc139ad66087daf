//! Whether the heart reaches Postgres, and what a worker may believe when it does not.
//!
//! A server that *refuses*, or takes no writes, is most likely down for everybody: then nobody can take anything over, and stopping runs would only waste
//! them. It may also be a dead pooler beside this worker, or a firewall before it, and others take its jobs over at that moment. So
//! the belief has an end. It knows neither runs nor outcomes: the fence and settle ask.
//!
//! A worker that gets no answer at all stops its runs and gives its results up after a lease. One
//! that alone is refused may overlap with its successors as long as the belief lasts; the epoch
//! refuses its results.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use millstream_common::{
    breaker::{Breaker, Lines},
    error::Outage,
};

/// So many leases after the last beat that got through, a refusal no longer says that Postgres is down for everybody. A restart, a crash
/// recovery and most failovers are over by then, and no run overlaps its successor for longer.
const BELIEF_LEASES_MAX: u32 = 4;

/// Shared by the heart, its fence, and whoever claims or writes outcomes.
pub(crate) struct Contact {
    /// Closed while beats get through: one that fails is enough to claim nothing new.
    breaker: Breaker,
    times: Mutex<Times>,
    /// The last beat was refused.
    refused: AtomicBool,
}

struct Times {
    /// When the last beat that got through was sent.
    passed_at: Instant,
    /// When others were last about to take this worker for dead.
    fallen_at: Option<Instant>,
    /// When a beat got through again after one that was refused; at first, the start.
    back_since: Instant,
}

impl Contact {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        let lines = Lines {
            begins: "no heartbeat: Postgres is out of reach, nothing new is claimed",
            ends: "Postgres answers the heartbeat again",
        };
        Self {
            breaker: Breaker::new(1, lines),
            times: Mutex::new(Times {
                passed_at: now,
                fallen_at: None,
                back_since: now,
            }),
            refused: false.into(),
        }
    }

    /// A beat that was sent then has been answered.
    pub(crate) fn passed(&self, sent_at: Instant) {
        let mut times = self.times();
        times.passed_at = sent_at;
        if self.refused.swap(false, Ordering::Relaxed) {
            times.back_since = Instant::now();
        }
        drop(times);
        self.breaker.note_success();
    }

    /// A beat has failed: refused, or just not answered.
    pub(crate) fn failed(&self, outage: &Outage) {
        self.breaker.note_failure(outage.word());
        self.refused
            .store(outage.is_server_down(), Ordering::Relaxed);
    }

    /// No beat has got through for some time.
    pub(crate) fn is_missed(&self) {
        self.breaker.note_failure("no answer");
    }

    /// Whether beats get through. If not, nothing new is claimed, and a look that finds others silent says nothing.
    pub(crate) fn is_up(&self) -> bool {
        !self.breaker.is_open()
    }

    /// The same for people: since when it is not, and why.
    pub(crate) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Since the last beat that got through.
    pub(crate) fn silence(&self) -> Duration {
        self.times().passed_at.elapsed()
    }

    /// Whether an outcome need not be given up: beats get through, or Postgres refuses this worker. To keep one hurts nobody: if the job
    /// was taken over, the epoch refuses it.
    pub(crate) fn may_keep_outcomes(&self) -> bool {
        self.is_up() || self.is_refused()
    }

    fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether a worker with this lease may go on with its runs, because nobody can take them over.
    pub(crate) fn is_down_for_all(&self, lease: Duration) -> bool {
        self.is_refused() && self.silence() < lease * BELIEF_LEASES_MAX
    }

    /// Since when nobody has been refused: before, nothing could be leased, and nobody could take anything over.
    pub(crate) fn back_at(&self) -> Instant {
        self.times().back_since
    }

    /// The fence falls now.
    pub(crate) fn fall(&self) {
        self.times().fallen_at = Some(Instant::now());
    }

    /// Whether the fence has fallen since then: what was asked for before is somebody else's, even if beats get through again.
    pub(crate) fn has_fallen_since(&self, then: Instant) -> bool {
        self.times().fallen_at.is_some_and(|at| at >= then)
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    fn failure(refused: bool) -> Outage {
        let op = "beating";
        if !refused {
            return Outage::PostgresTimeout { op };
        }
        let source = sqlx::Error::Io(std::io::ErrorKind::ConnectionRefused.into());
        Outage::Postgres { op, source }
    }

    #[test]
    fn one_beat_that_fails_is_enough_to_claim_nothing_and_one_that_gets_through_ends_it() {
        let contact = Contact::new();
        assert!(contact.is_up());
        for fail in [
            |contact: &Contact| contact.failed(&failure(false)),
            |contact: &Contact| contact.is_missed(),
        ] {
            fail(&contact);
            assert!(!contact.is_up());
            contact.passed(Instant::now());
            assert!(contact.is_up());
        }
    }

    fn silent_for(silence: Duration, refused: bool) -> Contact {
        let contact = Contact::new();
        contact.passed(
            Instant::now()
                .checked_sub(silence)
                .unwrap_or_else(Instant::now),
        );
        contact.failed(&failure(refused));
        contact
    }

    #[test]
    fn a_refusal_is_an_outage_for_everybody_until_four_leases_after_the_last_beat() {
        assert!(silent_for(LEASE * 3, true).is_down_for_all(LEASE));
        assert!(
            !silent_for(LEASE * 4, true).is_down_for_all(LEASE),
            "others may have had the jobs for long"
        );
        assert!(
            silent_for(LEASE * 4, true).may_keep_outcomes(),
            "an outcome is kept all the same"
        );
        assert!(
            !silent_for(Duration::ZERO, false).is_down_for_all(LEASE),
            "no answer is no refusal"
        );
    }

    // X21
    #[test]
    fn what_could_not_be_leased_while_everybody_was_refused_has_its_time_after_that() {
        let contact = silent_for(LEASE, true);
        let before = Instant::now();
        contact.passed(before);
        assert!(contact.back_at() >= before);
        let back_at = contact.back_at();
        contact.failed(&failure(false));
        contact.passed(Instant::now());
        assert_eq!(
            contact.back_at(),
            back_at,
            "a beat that was only late takes nothing back"
        );
    }

    #[test]
    fn a_fence_that_has_fallen_is_remembered_when_beats_get_through_again() {
        let (before, contact) = (Instant::now(), silent_for(LEASE, false));
        assert!(!contact.has_fallen_since(before));
        contact.fall();
        contact.passed(Instant::now());
        assert!(contact.has_fallen_since(before));
        assert!(!contact.has_fallen_since(Instant::now() + LEASE));
    }
}
