//! What all loops of one worker process share.

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
    pg::{GuardedPool, Pg},
    stream::link::Redis,
    tasks::Tasks,
};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    api::Reporter,
    capacity::Capacity,
    heartbeat::contact::Contact,
    job::{Ack, Ended, Held, Hold},
    pauses::Pauses,
    pulse::Pulses,
    queues::{Queue, Queues},
    registry::Registry,
    run::child::Children,
    settle::parcels::Counts,
};

/// Handles, channels and signals.
pub(crate) struct Shared {
    pub(crate) pg: Pg,
    /// Of the handlers alone: what they hold is not missing here.
    pub(crate) handlers_pg: GuardedPool,
    pub(crate) database_url: String,
    pub(crate) redis: Redis,
    pub(crate) catalog: Catalog,
    pub(crate) metrics: Metrics,
    pub(crate) registry: Registry,
    pub(crate) queues: Queues,
    pub(crate) worker_id: i64,
    pub(crate) lease: Duration,
    /// How long finished jobs are kept; none: for ever.
    pub(crate) keep_days: Option<u32>,
    pub(crate) capacity: Arc<Capacity>,
    pub(crate) held: Arc<Held>,
    /// In which isolated jobs run.
    pub(crate) children: Arc<Children>,
    pub(crate) finished: AtomicU64,
    /// Counts the tasks that run jobs; closed when the worker drains.
    pub(crate) runs: Tasks,
    pub(crate) paused: AtomicBool,
    /// What jobs in hand may not start.
    pub(crate) pauses: Pauses,
    /// Whether the heart reaches Postgres: what may be claimed, what runs may go on, and that no outcome need be given up.
    pub(crate) contact: Contact,
    pub(crate) pulses: Pulses,
    pub(crate) reporter: Reporter,
    pub(crate) outcomes: mpsc::UnboundedSender<Ended>,
    pub(crate) fresh: mpsc::UnboundedSender<Vec<Arc<Hold>>>,
    pub(crate) acks: mpsc::UnboundedSender<Ack>,
    pub(crate) parcels: Counts,
    /// Claim nothing more; what runs may finish.
    pub(crate) draining: CancellationToken,
    /// Hand back what still runs.
    pub(crate) aborting: CancellationToken,
    /// The streams have lost something: reconcile at once.
    pub(crate) reconcile_now: Notify,
    /// A worker has died: what is pending with it is taken over at once.
    pub(crate) takeover_now: Notify,
    pub(crate) meters: Meters,
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
