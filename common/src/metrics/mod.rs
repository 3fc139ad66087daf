//! What this process tells Prometheus.
//!
//! Role: owns every metric of Millstream, its name, its labels and its help text. Each process makes
//! one [`Metrics`] at its start and hands clones of it (cheap, shared) to whoever has something to count.
//!
//! Invariants:
//! - a metric that nobody has fed yet is still known: it is in [`Metrics::names`], and its HELP and TYPE
//!   lines are in [`Metrics::render`], so that dashboards and alerts can be checked against a fresh process;
//! - label values come from registered configuration or from the closed sets in [`labels`], never from a
//!   payload, an id or an error text: the number of series stays bounded, and no secret gets here;
//! - nothing here waits, takes the time, or does I/O; only rendering reads `/proc` (process metrics, Linux).
//!
//! It knows nothing about Postgres, Redis or HTTP: callers measure, this module only adds up.

mod catalog;
mod counters;
mod family;
mod gauges;
mod histograms;
pub mod labels;
mod levels;
mod meters;
#[cfg(target_os = "linux")]
mod process;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use prometheus::TEXT_FORMAT;

use catalog::Families;
pub use catalog::{Description, MetricKind, MetricsError};
pub use counters::Counters;
pub use gauges::Gauges;
pub use histograms::Histograms;
pub use labels::{Degraded, DutyOutcome, EnqueueSource, JobOutcome, ReclaimReason, SlotState};
pub use levels::Levels;
pub use meters::{JobMeters, JobTally, QueueMeters};
pub use prometheus::local::LocalHistogram;

/// The `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = TEXT_FORMAT;

/// All metrics of one process. Clones share the same values.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// What has happened since the process started.
    pub counters: Arc<Counters>,
    /// How long things took, and how large they were.
    pub histograms: Arc<Histograms>,
    /// How things stand now.
    pub gauges: Arc<Gauges>,
    catalog: Arc<Families>,
}

impl Metrics {
    /// Registers every metric in a registry of its own. `version` becomes the label of
    /// `millstream_build_info`. It fails only if two metrics share a name, which the tests exclude.
    pub fn new(version: &str) -> Result<Self, MetricsError> {
        let mut catalog = Families::new();
        let counters = Counters::register(&mut catalog)?;
        let histograms = Histograms::register(&mut catalog)?;
        let gauges = Gauges::register(&mut catalog)?;
        catalog.add_process()?;
        gauges.build_info.with_label_values(&[version]).set(1);
        Ok(Self {
            counters: Arc::new(counters),
            histograms: Arc::new(histograms),
            gauges: Arc::new(gauges),
            catalog: Arc::new(catalog),
        })
    }

    /// Everything in Prometheus' text format, to be served as [`CONTENT_TYPE`].
    pub fn render(&self) -> String {
        self.catalog.render()
    }

    /// The names that this process exports, sorted; histograms without `_bucket`, `_sum`, `_count`.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.describe().iter().map(|d| d.name.clone()).collect();
        names.sort();
        names
    }

    /// Name, type, labels and help of every metric, whether it has a sample or not.
    pub fn describe(&self) -> &[Description] {
        self.catalog.descriptions()
    }

    /// The counters of one queue, resolved once; keep them as long as the queue is served.
    pub fn queue(&self, queue: &str) -> QueueMeters {
        QueueMeters::resolve(self, queue)
    }

    /// The meters of one kind on one queue, resolved once; keep them as long as the kind is served.
    pub fn job(&self, queue: &str, kind: &str) -> JobMeters {
        JobMeters::resolve(self, queue, kind)
    }

    /// Counts a run of a duty, and on success moves its last-success time. `at_unix_s` is seconds since
    /// 1970 from the caller's clock.
    pub fn record_duty(&self, duty: &str, outcome: DutyOutcome, at_unix_s: f64) {
        let labels = [duty, outcome.as_str()];
        self.counters.duty_runs.with_label_values(&labels).inc();
        if outcome == DutyOutcome::Succeeded {
            let last = &self.gauges.last_success_timestamp_seconds;
            last.with_label_values(&[duty]).set(at_unix_s);
        }
    }
}
