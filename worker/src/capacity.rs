//! How much this process takes on: slots for jobs that run, and a budget for reading ahead.
//!
//! A slot holds one running job. Reading ahead is measured in work, not in jobs: a job's weight is the share of a slot that
//! 20 ms of its kind's mean run time make up, so quick jobs are read in large batches and slow ones only when a slot is free.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use millstream_common::limits::IN_FLIGHT_JOBS_MAX;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::registry::SLOT_WEIGHT;

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
        Arc::new(Self { slots, running: Arc::new(Semaphore::new(slots)), weight: 0.into(), jobs: 0.into(), freed: Notify::new() })
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
        let budget = (self.slots as u64 * SLOT_WEIGHT).saturating_sub(self.weight.load(Ordering::Relaxed));
        let jobs = IN_FLIGHT_JOBS_MAX.max(self.slots).saturating_sub(self.jobs());
        jobs.min(budget.div_ceil(weight.max(1)) as usize)
    }

    /// Waits until some job has ended. Returns at once if one has ended since the last call.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Takes on one job; the guard gives its weight back.
    pub(crate) fn take(self: &Arc<Self>, weight: u64) -> Taken {
        self.weight.fetch_add(weight, Ordering::Relaxed);
        self.jobs.fetch_add(1, Ordering::Relaxed);
        Taken { capacity: self.clone(), weight }
    }

    /// A slot to run in, when one is free.
    pub(crate) async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        self.running.clone().acquire_owned().await.ok()
    }
}

/// A job taken on.
pub(crate) struct Taken {
    capacity: Arc<Capacity>,
    weight: u64,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.capacity.weight.fetch_sub(self.weight, Ordering::Relaxed);
        self.capacity.jobs.fetch_sub(1, Ordering::Relaxed);
        self.capacity.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_jobs_are_taken_one_per_slot_and_quick_ones_in_batches() {
        let capacity = Capacity::new(8);
        assert_eq!(capacity.room(SLOT_WEIGHT), 8);
        assert_eq!(capacity.room(1), IN_FLIGHT_JOBS_MAX);
        let taken: Vec<_> = (0..8).map(|_| capacity.take(SLOT_WEIGHT)).collect();
        assert_eq!(capacity.room(1), 0);
        drop(taken);
        assert_eq!(capacity.room(SLOT_WEIGHT), 8);
    }
}
