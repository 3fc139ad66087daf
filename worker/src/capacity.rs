//! How much this process takes on: slots for jobs that run, and a budget for reading ahead.
//!
//! A slot holds one running job. Reading ahead is measured in work, not in jobs: a job's weight is the share of a slot that
//! 20 ms of its kind's mean run time make up, so quick jobs are read in large batches and slow ones only when a slot is free.
//!
//! Suspects (`run::isolated`) go one after another, in a lane of their own; those that wait for it are few, so that the worker stays
//! open for others.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use millstream_common::limits::IN_FLIGHT_JOBS_MAX;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::registry::SLOT_WEIGHT;

/// So many jobs must have left before more are read ahead: a claim of a few jobs costs as much as one of many. The jobs in hand beyond this
/// are more than there are slots, so no slot waits for it.
const REFILL_MIN: usize = IN_FLIGHT_JOBS_MAX / 8;
/// Of so many slots one may be kept by a suspect that waits for its turn; a worker with fewer slots keeps none.
const SLOTS_PER_WAITING_SUSPECT: usize = 4;

/// Slots and budget of one worker process.
pub(crate) struct Capacity {
    slots: usize,
    running: Arc<Semaphore>,
    weight: AtomicU64,
    jobs: AtomicUsize,
    freed: Notify,
    /// Until when the jobs that run and were there at a crash before may still be killers.
    watched: Mutex<Vec<Instant>>,
    /// Places of suspects that wait for the lane.
    seats: Arc<Semaphore>,
    /// Whoever holds it is the one suspect of this process that may run alone.
    lane: Arc<Semaphore>,
    closing: AtomicBool,
    closed: AtomicBool,
}

impl Capacity {
    pub(crate) fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self {
            slots,
            running: Arc::new(Semaphore::new(slots)),
            weight: 0.into(),
            jobs: 0.into(),
            freed: Notify::new(),
            watched: Mutex::default(),
            seats: Arc::new(Semaphore::new(slots / SLOTS_PER_WAITING_SUSPECT)),
            lane: Arc::new(Semaphore::new(1)),
            closing: false.into(),
            closed: false.into(),
        })
    }

    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// Jobs that run at this moment.
    pub(crate) fn busy(&self) -> usize {
        self.slots - self.running.available_permits().min(self.slots)
    }

    /// Of those, how many were there at a crash before and have not run for long enough since.
    pub(crate) fn watched(&self) -> usize {
        let now = Instant::now();
        self.watched_until()
            .iter()
            .filter(|until| **until > now)
            .count()
    }

    /// One of them runs, until the guard is dropped, and counts for so long.
    pub(crate) fn watch(self: &Arc<Self>, time: Duration) -> Watched {
        let until = Instant::now() + time;
        self.watched_until().push(until);
        Watched {
            capacity: self.clone(),
            until,
        }
    }

    fn watched_until(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Jobs in this process that have not ended, waiting or running.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs.load(Ordering::Relaxed)
    }

    /// Jobs that may be taken on now if each weighs `weight`; 0: none.
    pub(crate) fn room(&self, weight: u64) -> usize {
        if self.is_closed() {
            return 0;
        }
        let budget =
            (self.slots as u64 * SLOT_WEIGHT).saturating_sub(self.weight.load(Ordering::Relaxed));
        let jobs = self.jobs_max().saturating_sub(self.jobs());
        if jobs < REFILL_MIN {
            return 0;
        }
        jobs.min(budget.div_ceil(weight.max(1)) as usize)
    }

    /// Slow jobs, of which there are as many as slots, leave room for quick ones.
    fn jobs_max(&self) -> usize {
        self.slots + IN_FLIGHT_JOBS_MAX
    }

    /// Waits until some job has ended that has made room. Returns at once if one has ended since the last call.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Whether nothing new may start. Asked with a slot in hand: whoever closes looks at the slots afterwards, so one of the two sees the
    /// other.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Whether nothing may start that was there at a crash before; others may. Asked with the guard of `watch` in hand, for the same reason.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// A place to wait for the lane; `None` if all are taken.
    pub(crate) fn seat(&self) -> Option<OwnedSemaphorePermit> {
        self.seats.clone().try_acquire_owned().ok()
    }

    /// The lane of suspects. With a seat its turn is waited for; without, `None` if another suspect has it.
    pub(crate) async fn lane(self: &Arc<Self>, has_seat: bool) -> Option<Lane> {
        let lane = self.lane.clone();
        let held = if has_seat {
            lane.acquire_owned().await.ok()
        } else {
            lane.try_acquire_owned().ok()
        };
        Some(Lane {
            capacity: self.clone(),
            _held: held?,
        })
    }

    /// Takes on so many jobs of that weight; the guard gives it back.
    pub(crate) fn take(self: &Arc<Self>, jobs: usize, weight: u64) -> Taken {
        let weight = weight * jobs as u64;
        self.weight.fetch_add(weight, Ordering::Relaxed);
        self.jobs.fetch_add(jobs, Ordering::Relaxed);
        Taken {
            capacity: self.clone(),
            jobs,
            weight,
        }
    }

    /// A slot to run in that is free now.
    pub(crate) fn free_slot(&self) -> Option<OwnedSemaphorePermit> {
        self.running.clone().try_acquire_owned().ok()
    }

    /// A slot to run in, when one is free.
    pub(crate) async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        self.running.clone().acquire_owned().await.ok()
    }
}

/// Jobs taken on.
pub(crate) struct Taken {
    capacity: Arc<Capacity>,
    jobs: usize,
    weight: u64,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.capacity
            .weight
            .fetch_sub(self.weight, Ordering::Relaxed);
        let left = self.capacity.jobs.fetch_sub(self.jobs, Ordering::Relaxed) - self.jobs;
        if left + REFILL_MIN <= self.capacity.jobs_max() {
            self.capacity.freed.notify_one();
        }
    }
}

/// A job that runs and was there at a crash before.
pub(crate) struct Watched {
    capacity: Arc<Capacity>,
    until: Instant,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut all = self.capacity.watched_until();
        if let Some(at) = all.iter().position(|until| *until == self.until) {
            all.swap_remove(at);
        }
    }
}

/// The right of one suspect to run alone here; while it is closed this process takes nothing new.
pub(crate) struct Lane {
    capacity: Arc<Capacity>,
    _held: OwnedSemaphorePermit,
}

impl Lane {
    /// From here on nothing starts that was there at a crash before.
    pub(crate) fn begin_to_close(&self) {
        self.capacity.closing.store(true, Ordering::SeqCst);
    }

    pub(crate) fn close(&self) {
        self.capacity.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn open(&self) {
        self.capacity.closing.store(false, Ordering::SeqCst);
        self.capacity.closed.store(false, Ordering::SeqCst);
        self.capacity.freed.notify_one();
    }
}

impl Drop for Lane {
    // Before the next suspect can have the lane: what it closes stays closed.
    fn drop(&mut self) {
        self.open();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_jobs_are_taken_one_per_slot_and_quick_ones_in_batches() {
        let capacity = Capacity::new(8);
        assert_eq!(capacity.room(SLOT_WEIGHT), 8);
        assert_eq!(capacity.room(1), IN_FLIGHT_JOBS_MAX + 8);
        let taken: Vec<_> = (0..8).map(|_| capacity.take(1, SLOT_WEIGHT)).collect();
        assert_eq!(capacity.room(1), 0);
        drop(taken);
        assert_eq!(capacity.room(SLOT_WEIGHT), 8);
    }

    #[test]
    fn quick_jobs_are_read_ahead_by_the_hundred() {
        let capacity = Capacity::new(8);
        let all = capacity.take(IN_FLIGHT_JOBS_MAX + 8 - REFILL_MIN, 1);
        assert_eq!(capacity.room(1), REFILL_MIN);
        let one = capacity.take(1, 1);
        assert_eq!(capacity.room(1), 0);
        drop((all, one));
        assert_eq!(capacity.room(1), IN_FLIGHT_JOBS_MAX + 8);
    }

    #[tokio::test]
    async fn a_closed_process_takes_nothing_and_only_one_can_close_it() {
        let capacity = Capacity::new(8);
        let lane = capacity.lane(false).await;
        lane.iter().for_each(Lane::close);
        assert!(lane.is_some() && capacity.lane(false).await.is_none());
        assert_eq!(capacity.room(1), 0);
        drop(lane);
        assert_eq!(capacity.room(SLOT_WEIGHT), 8);
        assert!(capacity.lane(true).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watched_job_counts_while_it_runs_and_is_young() {
        let (capacity, term) = (Capacity::new(8), Duration::from_secs(5));
        let old = capacity.watch(term);
        tokio::time::advance(Duration::from_secs(3)).await;
        let young = capacity.watch(term);
        assert_eq!(capacity.watched(), 2);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(capacity.watched(), 1);
        drop((old, young));
        assert_eq!(capacity.watched(), 0);
    }

    #[test]
    fn suspects_that_wait_leave_most_of_the_slots_to_others() {
        let capacity = Capacity::new(8);
        let seats = [capacity.seat(), capacity.seat()];
        assert!(seats.iter().all(Option::is_some) && capacity.seat().is_none());
        assert!(Capacity::new(1).seat().is_none());
    }
}
