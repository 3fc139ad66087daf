//! How many jobs of each parcel are done here, until Postgres is told.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Jobs done per parcel that Postgres has not been told of.
#[derive(Default)]
pub(crate) struct Counts(Mutex<HashMap<i64, i16>>);

impl Counts {
    /// So many more jobs of these parcels are done.
    pub(crate) fn add(&self, parcels: HashMap<i64, i16>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (parcel, jobs) in parcels {
            let done = all.entry(parcel).or_default();
            *done = done.saturating_add(jobs);
        }
    }

    /// In the order of their ids, which is the lock order of all workers.
    pub(crate) fn take(&self) -> Vec<(i64, i16)> {
        let taken = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut sorted: Vec<_> = taken.into_iter().collect();
        sorted.sort_unstable();
        sorted
    }
}
