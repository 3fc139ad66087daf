//! The entries of one read, on their way to runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use millstream_common::{error::Outage, failpoint::reach, seldom::Seldom};

use super::rows::{Delivery, claim};
use crate::{
    capacity::Taken,
    job::Claimed,
    queues::Queue,
    run::{Runs, group::spawn_runs},
};

static LINES: Seldom = Seldom::new();

/// What has been read at once.
pub(super) struct Claim {
    pub(super) runs: Arc<Runs>,
    pub(super) queue: Queue,
    /// Where the reader looks for the weight of the next jobs.
    pub(super) job_weight: Arc<AtomicU64>,
    pub(super) read_at: Instant,
}

impl Claim {
    /// The room that was `reserved` is the jobs' own when they are in hand.
    pub(super) async fn run(self, batches: Vec<(Arc<str>, Vec<Delivery>)>, reserved: Taken) {
        for (stream, deliveries) in batches {
            match claim(
                &self.runs.shared,
                &self.queue,
                &stream,
                deliveries,
                self.read_at,
            )
            .await
            {
                Ok(claimed) => self.start(claimed),
                Err(outage) => self.complain(&outage),
            }
        }
        drop(reserved);
    }

    fn start(&self, claimed: Vec<Claimed>) {
        reach("claim.taken");
        if let Some(heaviest) = claimed.iter().map(|job| job.kind.weight()).max() {
            self.job_weight.store(heaviest, Relaxed);
        }
        spawn_runs(&self.runs, claimed);
    }

    fn complain(&self, outage: &Outage) {
        self.runs.shared.metrics.counters.postgres_failed("claim");
        if let Some(kept_back) = LINES.may_speak() {
            tracing::warn!(kept_back, error = %millstream_common::error::in_full(outage), "claiming failed; the entries stay pending");
        }
    }
}
