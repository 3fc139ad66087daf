//! The handlers of this process, found by the number of their kind, and what it has learned about each kind.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use millstream_common::{
    error::Refusal,
    limits::{CHUNK_JOBS_MAX, CHUNK_WORK},
};

use crate::api::Handler;

/// Weight of the newest run in the moving mean: the last few dozen runs decide.
const NEWEST_SHARE: f64 = 0.05;
/// A job that fills a slot has this weight; a quick one has less.
pub(crate) const SLOT_WEIGHT: u64 = 1000;

/// A kind that this process runs.
pub(crate) struct Registered {
    pub(crate) kind_id: i32,
    pub(crate) handler: Handler,
    /// Moving mean of the run time in microseconds; 0: not measured yet.
    mean_us: AtomicU64,
}

impl Registered {
    /// Adds one run to the mean. Lost updates of racing threads do not matter.
    pub(crate) fn learn(&self, ran: Duration) {
        let (old, new) = (
            self.mean_us.load(Ordering::Relaxed),
            (ran.as_micros() as u64).max(1),
        );
        let mean = if old == 0 {
            new
        } else {
            (old as f64)
                .mul_add(1.0 - NEWEST_SHARE, new as f64 * NEWEST_SHARE)
                .ceil() as u64
        };
        self.mean_us.store(mean, Ordering::Relaxed);
    }

    /// How long a run takes; `None` until measured.
    pub(crate) fn mean(&self) -> Option<Duration> {
        let mean = self.mean_us.load(Ordering::Relaxed);
        (mean > 0).then(|| Duration::from_micros(mean))
    }

    /// Jobs per stream entry that make up `CHUNK_WORK`; `None` until measured.
    pub(crate) fn chunk(&self) -> Option<i16> {
        let mean = self.mean()?;
        Some((CHUNK_WORK.as_micros() / mean.as_micros()).clamp(1, CHUNK_JOBS_MAX as u128) as i16)
    }

    /// The same for a job with so many crashes: one that is isolated waits for its turn beside all others.
    pub(crate) fn weight_of(&self, crashes: i16) -> u64 {
        if crashes > 0 { 0 } else { self.weight() }
    }

    /// Share of a slot that one job takes, in thousandths: 20 ms of work fill a slot.
    pub(crate) fn weight(&self) -> u64 {
        match self.mean_us.load(Ordering::Relaxed) {
            0 => SLOT_WEIGHT,
            mean => (mean * SLOT_WEIGHT / CHUNK_WORK.as_micros() as u64).clamp(1, SLOT_WEIGHT),
        }
    }
}

/// All kinds of this process.
#[derive(Default)]
pub(crate) struct Registry {
    by_id: HashMap<i32, Arc<Registered>>,
}

impl Registry {
    /// `handlers` with the numbers of their kinds and the mean run times that their chunk sizes stand for.
    pub(crate) fn new(handlers: impl IntoIterator<Item = (i32, Handler)>) -> Self {
        let registered = |(kind_id, handler)| {
            (
                kind_id,
                Arc::new(Registered {
                    kind_id,
                    handler,
                    mean_us: AtomicU64::new(0),
                }),
            )
        };
        Self {
            by_id: handlers.into_iter().map(registered).collect(),
        }
    }

    pub(crate) fn get(&self, kind_id: i32) -> Option<&Arc<Registered>> {
        self.by_id.get(&kind_id)
    }

    /// Whether this process can run jobs of that kind and payload version.
    pub(crate) fn knows(&self, kind_id: i32, version: i16) -> bool {
        self.get(kind_id)
            .is_some_and(|kind| version <= kind.handler.version_max)
    }

    pub(crate) fn kind_ids(&self) -> Vec<i32> {
        let mut ids: Vec<_> = self.by_id.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Counted tries as the handlers have them, in the order of [`Registry::kind_ids`].
    pub(crate) fn tries(&self) -> Vec<i16> {
        self.kind_ids()
            .iter()
            .filter_map(|id| Some(self.get(*id)?.handler.retry.max_attempts))
            .collect()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Registered>> {
        self.by_id.values()
    }
}

/// The handlers to serve: all, or those whose kinds are named. Each kind has one: which of two should run a job, nobody could say.
pub(crate) fn chosen(handlers: Vec<Handler>, kinds: &[String]) -> Result<Vec<Handler>, Refusal> {
    let mut known: HashSet<&str> = HashSet::new();
    if let Some(twice) = handlers.iter().find(|h| !known.insert(&h.kind)) {
        return Err(Refusal::Invalid(format!(
            "two handlers are for kind \"{}\": leave one out, or name them differently",
            twice.kind
        )));
    }
    if let Some(unknown) = kinds.iter().find(|kind| !known.contains(kind.as_str())) {
        return Err(Refusal::Unknown {
            what: "kind",
            name: unknown.clone(),
            hint: "this worker has no handler for it",
        });
    }
    Ok(handlers
        .into_iter()
        .filter(|h| kinds.is_empty() || kinds.contains(&h.kind))
        .collect())
}
