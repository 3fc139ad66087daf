//! How much this process takes on: slots for jobs that run, and a budget for reading ahead.
//!
//! A slot holds one running job. Reading ahead is measured in work, not in jobs: a job's weight is the share of a slot that
//! 20 ms of its kind's mean run time make up, so quick jobs are read in large batches and slow ones only when a slot is free.
//! An isolated job (`run::child`) weighs nothing while it waits for its turn, so that the worker stays open for others.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use millstream_common::limits::IN_FLIGHT_JOBS_MAX;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::registry::SLOT_WEIGHT;

/// So many jobs must have left before more are read ahead: a claim of a few jobs costs as much as one of many. The jobs in hand beyond this
/// are more than there are slots, so no slot waits for it.
const REFILL_MIN: usize = IN_FLIGHT_JOBS_MAX / 8;

/// As many slots as are configured; 0: as many as suit this machine.
pub(crate) fn slots(configured: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    if configured == 0 {
        (4 * cores).max(8)
    } else {
        configured
    }
}

/// Slots and budget of one worker process.
pub(crate) struct Capacity {
    slots: usize,
    running: Arc<Semaphore>,
    weight: AtomicU64,
    jobs: AtomicUsize,
    freed: Notify,
}

impl Capacity {
    pub(crate) fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self {
            slots,
            running: Arc::new(Semaphore::new(slots)),
            weight: 0.into(),
            jobs: 0.into(),
            freed: Notify::new(),
        })
    }

    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// Jobs that run at this moment.
    pub(crate) fn busy(&self) -> usize {
        self.slots - self.running.available_permits().min(self.slots)
    }

    /// Jobs in this process that have not ended, waiting or running.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs.load(Ordering::Relaxed)
    }

    /// Jobs that may be taken on now if each weighs `weight`; 0: none.
    pub(crate) fn room(&self, weight: u64) -> usize {
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
}
