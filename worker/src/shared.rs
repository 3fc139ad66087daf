//! What all loops of one worker process share. It stands below everything that claims, runs, leases and settles, and knows none of it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use millstream_common::{
    catalog::Catalog,
    metrics::{JobMeters, Metrics, QueueMeters},
    pg::Pg,
    stream::link::Redis,
};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    capacity::Capacity,
    contact::Contact,
    job::{Ack, Counts, Held, Hold},
    pauses::Pauses,
    pulse::Pulses,
    queues::{Queue, Queues},
    registry::Registry,
};

/// The servers, who this is, and what all loops look at.
pub(crate) struct Shared {
    pub(crate) pg: Pg,
    pub(crate) redis: Redis,
    pub(crate) catalog: Catalog,
    pub(crate) metrics: Metrics,
    pub(crate) meters: Meters,
    pub(crate) worker_id: i64,
    pub(crate) lease: Duration,
    pub(crate) pulses: Pulses,
    /// Whether the heart reaches Postgres: what may be claimed, what runs may go on, and that no outcome need be given up.
    pub(crate) contact: Contact,
    pub(crate) signals: Signals,
    pub(crate) serves: Serves,
    pub(crate) work: Work,
}

/// What this process takes jobs of.
pub(crate) struct Serves {
    pub(crate) registry: Registry,
    pub(crate) queues: Queues,
}

/// The jobs in hand, the room for more, and what is to be written of them.
pub(crate) struct Work {
    pub(crate) capacity: Arc<Capacity>,
    pub(crate) held: Arc<Held>,
    /// What jobs in hand may not start.
    pub(crate) pauses: Pauses,
    /// To the lessor: what was claimed from a stream.
    pub(crate) fresh: mpsc::UnboundedSender<Vec<Arc<Hold>>>,
    pub(crate) acks: mpsc::UnboundedSender<Ack>,
    pub(crate) parcels: Counts,
    /// Jobs that have ended here.
    pub(crate) finished: AtomicU64,
}

/// What loops tell each other without a channel.
pub(crate) struct Signals {
    /// Claim nothing more; what runs may finish.
    pub(crate) draining: CancellationToken,
    /// Hand back what still runs.
    pub(crate) aborting: CancellationToken,
    pub(crate) paused: AtomicBool,
    /// The streams have lost something: reconcile at once.
    pub(crate) reconcile_now: Notify,
    /// A worker has died: what is pending with it is taken over at once.
    pub(crate) takeover_now: Notify,
}

impl Signals {
    pub(crate) fn new() -> Self {
        Self {
            draining: CancellationToken::new(),
            aborting: CancellationToken::new(),
            paused: false.into(),
            reconcile_now: Notify::new(),
            takeover_now: Notify::new(),
        }
    }
}

impl Shared {
    /// This process as a stream consumer. New at every start, so a restarted name never hides its predecessor's entries.
    pub(crate) fn consumer(&self) -> String {
        consumer(self.worker_id)
    }
}

/// The consumer name of a worker.
pub(crate) fn consumer(worker_id: i64) -> String {
    format!("w{worker_id}")
}

/// The worker behind a consumer name, if it is one of ours.
pub(crate) fn worker_of(consumer: &str) -> Option<i64> {
    consumer.strip_prefix('w')?.parse().ok()
}

/// Metric handles, looked up once per queue and kind.
pub(crate) struct Meters {
    metrics: Metrics,
    jobs: Mutex<HashMap<(i32, i32), JobMeters>>,
    queues: Mutex<HashMap<i32, QueueMeters>>,
}

impl Meters {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            jobs: Mutex::default(),
            queues: Mutex::default(),
        }
    }

    pub(crate) fn job(&self, queue: &Queue, kind_id: i32, kind: &str) -> JobMeters {
        let mut all = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry((queue.id, kind_id))
            .or_insert_with(|| self.metrics.job(&queue.name, kind))
            .clone()
    }

    pub(crate) fn queue(&self, queue: &Queue) -> QueueMeters {
        let mut all = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(queue.id)
            .or_insert_with(|| self.metrics.queue(&queue.name))
            .clone()
    }
}
