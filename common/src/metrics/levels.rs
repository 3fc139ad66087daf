//! A labelled gauge that is read as a whole: drained means 0, not the last number seen.
//!
//! A query grouped by queue and state returns no row for an empty group. Setting only the returned rows
//! would leave the old level standing for ever; leaving the series out would make a gap in every chart.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::GaugeVec;
use prometheus::core::Collector;

use super::catalog::MetricKind;
use super::family::{Family, Spec};

/// A gauge with `N` labels that remembers which of its series exist.
#[derive(Debug)]
pub struct Levels<const N: usize> {
    gauge: GaugeVec,
    known: Mutex<HashSet<[String; N]>>,
}

impl<const N: usize> Levels<N> {
    /// Sets one series. `labels` are the values in the order of the metric's label names.
    pub fn set(&self, labels: [&str; N], value: f64) {
        let mut known = self.known();
        self.gauge.with_label_values(&labels).set(value);
        known.insert(labels.map(str::to_owned));
    }

    /// Takes a whole reading: sets every series in it, and to 0 every series that an earlier one had.
    pub fn replace<S: AsRef<str>>(&self, reading: impl IntoIterator<Item = ([S; N], f64)>) {
        let mut known = self.known();
        let mut missing = known.clone();
        for (labels, value) in reading {
            let labels = labels.map(|label| label.as_ref().to_owned());
            self.gauge.with_label_values(&labels).set(value);
            missing.remove(&labels);
            known.insert(labels);
        }
        for labels in missing {
            self.gauge.with_label_values(&labels).set(0.0);
        }
    }

    /// Withdraws all series.
    pub fn clear(&self) {
        let mut known = self.known();
        self.gauge.reset();
        known.clear();
    }

    fn known(&self) -> MutexGuard<'_, HashSet<[String; N]>> {
        // A set of names is whole after every step, whoever panicked while holding it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<const N: usize> Family for Levels<N> {
    const KIND: MetricKind = GaugeVec::KIND;

    fn make(spec: &Spec) -> prometheus::Result<Self> {
        Ok(Self {
            gauge: <GaugeVec as Family>::make(spec)?,
            known: Mutex::default(),
        })
    }

    fn collector(&self) -> Box<dyn Collector> {
        self.gauge.collector()
    }
}
