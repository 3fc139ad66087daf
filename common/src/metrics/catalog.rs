//! The register: makes each metric, remembers its description, and writes the text format.
//!
//! Invariant: what is in the registry is in the descriptions and the other way round, because there is
//! no other way to register than through here. It does not know what any metric means.

use std::collections::HashSet;
use std::fmt::Write as _;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Registry, TextEncoder};

use super::family::{Family, Spec};
#[cfg(target_os = "linux")]
use super::process::Process;

/// A metric could not be made: its name, a label or a bucket list is invalid, or the name is taken.
/// It is a fault of this program; the process should not start.
#[derive(Debug, thiserror::Error)]
#[error("metric {name} cannot be registered")]
pub struct MetricsError {
    name: &'static str,
    #[source]
    source: prometheus::Error,
}

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets.
    Histogram,
}

impl MetricKind {
    /// The word of the TYPE line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What is known about a metric before its first sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The exported name, without the suffixes of a histogram's series.
    pub name: String,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// Label names in the order in which values are given.
    pub labels: Vec<String>,
    /// One line for people.
    pub help: String,
}

impl Description {
    fn new(desc: &Desc, kind: MetricKind) -> Self {
        Self {
            name: desc.fq_name.clone(),
            kind,
            labels: desc.variable_labels.clone(),
            help: desc.help.clone(),
        }
    }
}

/// The registry of a process and the descriptions of all that is in it.
#[derive(Debug)]
pub(super) struct Families {
    registry: Registry,
    descriptions: Vec<Description>,
}

impl Families {
    pub(super) fn new() -> Self {
        Self {
            registry: Registry::new(),
            descriptions: Vec::new(),
        }
    }

    pub(super) fn descriptions(&self) -> &[Description] {
        &self.descriptions
    }

    /// Makes a metric and registers it.
    pub(super) fn add<F: Family>(&mut self, spec: &Spec) -> Result<F, MetricsError> {
        let family = F::make(spec).map_err(|source| MetricsError {
            name: spec.name,
            source,
        })?;
        self.keep(spec.name, family.collector(), |_| F::KIND)?;
        Ok(family)
    }

    /// Adds `process_*`. They come from `/proc`, so there are none elsewhere than on Linux.
    #[cfg(target_os = "linux")]
    pub(super) fn add_process(&mut self) -> Result<(), MetricsError> {
        let name = "process_*";
        let collector = Process::new().map_err(|source| MetricsError { name, source })?;
        // A descriptor does not tell its type; ours follow the naming rule for counters.
        self.keep(name, Box::new(collector), |desc| {
            if desc.fq_name.ends_with("_total") {
                MetricKind::Counter
            } else {
                MetricKind::Gauge
            }
        })
    }

    /// See the Linux one.
    #[cfg(not(target_os = "linux"))]
    #[expect(
        clippy::unnecessary_wraps,
        reason = "the same signature on every system"
    )]
    #[expect(clippy::unused_self, reason = "the same signature on every system")]
    pub(super) fn add_process(&mut self) -> Result<(), MetricsError> {
        Ok(())
    }

    pub(super) fn render(&self) -> String {
        let sampled = self.registry.gather();
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&sampled, &mut text) {
            // Only a family without a name or samples is refused, and gathering leaves those out. Half a
            // page with the reason in a comment still tells the operator more than an empty one.
            let _ = writeln!(
                text,
                "# incomplete: {}",
                error.to_string().replace('\n', " ")
            );
        }
        self.render_silent(&sampled, &mut text);
        text
    }

    /// The library leaves out what has no sample; its name and meaning are written all the same.
    fn render_silent(&self, sampled: &[MetricFamily], text: &mut String) {
        let sampled: HashSet<&str> = sampled.iter().map(MetricFamily::name).collect();
        for silent in self
            .descriptions
            .iter()
            .filter(|d| !sampled.contains(d.name.as_str()))
        {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {} {}", silent.name, silent.help);
            let _ = writeln!(text, "# TYPE {} {}", silent.name, silent.kind.as_str());
        }
    }

    fn keep(
        &mut self,
        name: &'static str,
        collector: Box<dyn Collector>,
        kind: impl Fn(&Desc) -> MetricKind,
    ) -> Result<(), MetricsError> {
        let described = collector
            .desc()
            .into_iter()
            .map(|desc| Description::new(desc, kind(desc)));
        let described: Vec<Description> = described.collect();
        self.registry
            .register(collector)
            .map_err(|source| MetricsError { name, source })?;
        self.descriptions.extend(described);
        Ok(())
    }
}
