//! One delivered stream entry and how many of its jobs still need it.
//!
//! An entry is acknowledged and deleted as soon as each of its jobs is settled, leased or found stale: from then on Postgres
//! alone answers for them. If this process dies before, the entry stays pending and takeover hands its jobs out again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc;

/// An entry that may be acknowledged: its stream's key and its id.
pub(crate) type Ack = (Arc<str>, String);

/// A delivered entry.
pub(crate) struct Entry {
    stream: Arc<str>,
    id: String,
    /// Row of the parcel that lists its jobs.
    pub(crate) parcel: i64,
    open: AtomicUsize,
    acks: mpsc::UnboundedSender<Ack>,
}

impl Entry {
    /// `jobs`: how many of its jobs need it.
    pub(crate) fn new(
        stream: Arc<str>,
        id: String,
        parcel: i64,
        jobs: usize,
        acks: mpsc::UnboundedSender<Ack>,
    ) -> Arc<Self> {
        let entry = Arc::new(Self {
            stream,
            id,
            parcel,
            open: AtomicUsize::new(jobs),
            acks,
        });
        if jobs == 0 {
            entry.acknowledge();
        }
        entry
    }

    /// One of its jobs no longer needs it.
    pub(crate) fn release(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.acknowledge();
        }
    }

    fn acknowledge(&self) {
        // The acker is gone only when the process ends: then the entry stays pending, which is safe.
        drop(self.acks.send((self.stream.clone(), self.id.clone())));
    }
}
