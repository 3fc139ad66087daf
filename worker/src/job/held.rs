//! All jobs in the hands of this process, by id: what the heartbeat compares with Postgres, and what keeps a repeated
//! entry from starting the same job twice here.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use millstream_common::id::JobId;

use super::Hold;

/// The jobs in hand.
#[derive(Default)]
pub(crate) struct Held(Mutex<HashMap<JobId, Arc<Hold>>>);

impl Held {
    /// Takes a job in hand until the guard is dropped; `None` if it is in hand already.
    pub(crate) fn take(self: &Arc<Self>, hold: &Arc<Hold>) -> Option<InHand> {
        match self.lock().entry(hold.id) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                place.insert(hold.clone());
                Some(InHand {
                    held: self.clone(),
                    id: hold.id,
                })
            }
        }
    }

    pub(crate) fn contains(&self, id: JobId) -> bool {
        self.lock().contains_key(&id)
    }

    /// The holds that Postgres has a lease for.
    pub(crate) fn leased(&self) -> Vec<Arc<Hold>> {
        self.lock()
            .values()
            .filter(|h| h.is_leased())
            .cloned()
            .collect()
    }

    /// Every hold.
    pub(crate) fn all(&self) -> Vec<Arc<Hold>> {
        self.lock().values().cloned().collect()
    }

    /// Jobs whose handlers block their threads, as it seems.
    pub(crate) fn stuck(&self) -> Vec<Arc<Hold>> {
        self.lock()
            .values()
            .filter(|h| h.is_stuck())
            .cloned()
            .collect()
    }

    /// The same, and those that were told to end and have not.
    pub(crate) fn deaf(&self) -> Vec<JobId> {
        let all = self.lock();
        all.values().filter(|h| h.is_deaf()).map(|h| h.id).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Hold>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One job in hand.
pub(crate) struct InHand {
    held: Arc<Held>,
    id: JobId,
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.held.lock().remove(&self.id);
    }
}
