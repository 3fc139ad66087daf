//! A hold: one job in the hands of this process, from the claim to the settle.
//!
//! The phase says who may write the job next. Only one of the lessor (200 ms have passed) and the run (it has ended) wins
//! the step out of `Fresh`, so the settle statement always knows which state it must find in the row.
//!
//! A lease whose answer was lost stays "leasing" until it has been asked for again, and a run that
//! ends meanwhile waits for that.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Instant,
};

use millstream_common::id::JobId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Entry;
use crate::api::RunLink;

/// Claimed, neither leased nor ended.
const FRESH: u8 = 0;
/// The lease statement is under way, or was, and its answer is not known: the row may say available or running.
const LEASING: u8 = 1;
/// Postgres has a lease row for it.
const LEASED: u8 = 2;
/// The run has ended; the settle statement is next.
const SETTLING: u8 = 3;
/// Somebody else's job now.
const LOST: u8 = 4;

/// What the row must look like for a settle to be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowState {
    /// Never leased: the row still says available.
    Available,
    /// Leased: the row says running.
    Running,
}

impl RowState {
    /// The number of that state.
    pub(crate) fn number(self) -> i16 {
        match self {
            Self::Available => 0,
            Self::Running => 1,
        }
    }
}

/// One claimed job. Shared by its run, the lessor, the heartbeat and the settler.
pub(crate) struct Hold {
    pub(crate) id: JobId,
    pub(crate) epoch: i32,
    pub(crate) read_at: Instant,
    /// The stream entry that brought it; none if it was claimed without Redis.
    pub(crate) entry: Option<Arc<Entry>>,
    /// Made when somebody asks for it: most jobs end before anybody does.
    cancel: OnceLock<CancellationToken>,
    phase: AtomicU8,
    phase_changed: Notify,
    report: Mutex<Option<(f32, String)>>,
    /// Its handler is at work, and blocks its thread if it still is then.
    stuck_at: Mutex<Option<Instant>>,
}

impl Hold {
    pub(crate) fn fresh(id: JobId, epoch: i32, read_at: Instant, entry: Arc<Entry>) -> Self {
        Self::new(id, epoch, read_at, Some(entry), FRESH)
    }

    pub(crate) fn leased(id: JobId, epoch: i32) -> Self {
        Self::new(id, epoch, Instant::now(), None, LEASED)
    }

    fn new(id: JobId, epoch: i32, read_at: Instant, entry: Option<Arc<Entry>>, phase: u8) -> Self {
        Self {
            id,
            epoch,
            read_at,
            entry,
            cancel: OnceLock::new(),
            phase: phase.into(),
            phase_changed: Notify::new(),
            report: Mutex::default(),
            stuck_at: Mutex::default(),
        }
    }

    /// Stopped by this as well.
    pub(crate) fn cancelled_by(self, token: CancellationToken) -> Self {
        Self {
            cancel: token.into(),
            ..self
        }
    }

    /// The lessor takes it for a lease statement. False: it has ended or is leased already.
    pub(crate) fn begin_lease(&self) -> bool {
        self.step(FRESH, LEASING)
    }

    /// Postgres has the lease. From here on the stream entry is not needed for this job.
    pub(crate) fn lease_granted(&self) {
        self.step(LEASING, LEASED);
    }

    /// The job is somebody else's: stops the run.
    pub(crate) fn lose(&self) {
        self.phase.store(LOST, Ordering::Release);
        self.phase_changed.notify_waiters();
        self.cancel().cancel();
    }

    /// Claimed and not yet at its settle: waiting for a slot, or its handler at work.
    pub(crate) fn is_unsettled(&self) -> bool {
        matches!(self.phase.load(Ordering::Acquire), FRESH | LEASING | LEASED)
    }

    /// Loses it if it has neither a lease nor an outcome. Its entry stays pending: whoever takes that over hands the job out again.
    pub(crate) fn lose_unleased(&self) {
        if self.step(FRESH, LOST) || self.step(LEASING, LOST) {
            self.cancel().cancel();
        }
    }

    pub(crate) fn is_leased(&self) -> bool {
        self.phase.load(Ordering::Acquire) == LEASED
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.phase.load(Ordering::Acquire) == LOST
    }

    /// The run has ended: which state must the row be in? `None`: the job was lost.
    pub(crate) async fn begin_settle(&self) -> Option<RowState> {
        if self.step(FRESH, SETTLING) {
            return Some(RowState::Available);
        }
        loop {
            let changed = self.phase_changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that a change in between is not missed.
            changed.as_mut().enable();
            match self.phase.load(Ordering::Acquire) {
                LEASED => return Some(RowState::Running),
                LOST => return None,
                LEASING => changed.await,
                _ if self.step(FRESH, SETTLING) => return Some(RowState::Available),
                SETTLING => return Some(RowState::Available),
                _ => {}
            }
        }
    }

    /// Waits until Postgres has a lease for it; false: the job was lost first.
    pub(crate) async fn is_leased_in_the_end(&self) -> bool {
        loop {
            let changed = self.phase_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.phase.load(Ordering::Acquire) {
                LEASED => return true,
                LOST | SETTLING => return false,
                _ => changed.await,
            }
        }
    }

    fn step(&self, from: u8, to: u8) -> bool {
        let stepped = self
            .phase
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if stepped {
            self.phase_changed.notify_waiters();
        }
        stepped
    }

    /// Its handler begins, and blocks its thread if it is still at work at `stuck_at`.
    pub(crate) fn begin_run(&self, stuck_at: Option<Instant>) {
        *self.stuck_at() = stuck_at;
    }

    /// Its handler is done.
    pub(crate) fn end_run(&self) {
        *self.stuck_at() = None;
    }

    /// Its handler has not heard of its timeout, which was long ago.
    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck_at().is_some_and(|at| at < Instant::now())
    }

    /// Its handler is at work and does not hear that it should end, or has not heard of its timeout.
    pub(crate) fn is_deaf(&self) -> bool {
        self.is_stuck() || self.is_lost() && self.stuck_at().is_some()
    }

    fn stuck_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.stuck_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the report that has not been written yet.
    pub(crate) fn take_report(&self) -> Option<(f32, String)> {
        self.report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl RunLink for Hold {
    /// Cancelled, lease lost, or the worker must go.
    fn cancel(&self) -> &CancellationToken {
        self.cancel.get_or_init(CancellationToken::new)
    }

    /// Kept until it is written.
    fn report(&self, share: f32, note: String) {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some((share, note));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold() -> Hold {
        Hold {
            entry: None,
            ..Hold::new(JobId::nil(), 0, Instant::now(), None, FRESH)
        }
    }

    #[tokio::test]
    async fn a_run_that_ends_first_settles_from_available_and_is_never_leased() {
        let hold = hold();
        assert_eq!(hold.begin_settle().await, Some(RowState::Available));
        assert!(!hold.begin_lease());
    }

    #[tokio::test]
    async fn a_run_that_ends_during_the_lease_statement_waits_for_its_answer() {
        let hold = Arc::new(hold());
        assert!(hold.begin_lease());
        let settle = hold.begin_settle();
        tokio::pin!(settle);
        assert!(futures::poll!(settle.as_mut()).is_pending());
        hold.lease_granted();
        assert_eq!(settle.await, Some(RowState::Running));
    }

    #[tokio::test]
    async fn a_lost_job_is_stopped_and_not_settled() {
        // F10
        let hold = hold();
        assert!(hold.begin_lease());
        hold.lose();
        assert!(hold.cancel().is_cancelled());
        assert_eq!(hold.begin_settle().await, None);
    }
}
