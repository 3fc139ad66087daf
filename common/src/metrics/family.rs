//! From one line per metric to a typed field: what a metric is declared by, and how each type is made.
//!
//! It knows the types of the prometheus crate and nothing about any particular metric.

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Result,
};

use super::catalog::MetricKind;

/// The declaration of a metric. Histograms alone have buckets (upper bounds, ascending).
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) labels: &'static [&'static str],
    pub(super) buckets: &'static [f64],
    pub(super) help: &'static str,
}

impl Spec {
    fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }

    fn histogram_opts(&self) -> HistogramOpts {
        HistogramOpts::new(self.name, self.help).buckets(self.buckets.to_vec())
    }
}

/// A type that a field of a metrics struct may have.
pub(super) trait Family: Sized {
    const KIND: MetricKind;

    fn make(spec: &Spec) -> Result<Self>;

    /// A second handle on the same values, for the registry.
    fn collector(&self) -> Box<dyn Collector>;
}

/// Implements [`Family`] for a type of the prometheus crate.
macro_rules! family {
    ($type:ty, $kind:ident, $spec:ident => $make:expr) => {
        impl Family for $type {
            const KIND: MetricKind = MetricKind::$kind;

            fn make($spec: &Spec) -> Result<Self> {
                $make
            }

            fn collector(&self) -> Box<dyn Collector> {
                Box::new(self.clone())
            }
        }
    };
}

family!(IntCounter, Counter, spec => Self::with_opts(spec.opts()));
family!(IntCounterVec, Counter, spec => Self::new(spec.opts(), spec.labels));
family!(IntGauge, Gauge, spec => Self::with_opts(spec.opts()));
family!(IntGaugeVec, Gauge, spec => Self::new(spec.opts(), spec.labels));
family!(GaugeVec, Gauge, spec => Self::new(spec.opts(), spec.labels));
family!(Histogram, Histogram, spec => Self::with_opts(spec.histogram_opts()));
family!(HistogramVec, Histogram, spec => Self::new(spec.histogram_opts(), spec.labels));

/// Declares a struct of metrics, one line each:
/// `field: Type = "exported_name" [labels] "help"`, for histograms `… [labels] in BUCKETS "help"`.
/// The help text is the field's documentation too, so that the two cannot drift apart.
macro_rules! families {
    ($(#[$meta:meta])* $name:ident {
        $($field:ident: $type:ty = $metric:literal [$($label:literal),*] $(in $buckets:ident)? $help:literal;)+
    }) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub struct $name {
            $(
                #[doc = concat!("`", $metric, "`, labels (", $(" `", $label, "`",)* " ): ", $help)]
                pub $field: $type,
            )+
        }

        impl $name {
            pub(super) fn register(
                catalog: &mut $crate::metrics::catalog::Families,
            ) -> Result<Self, $crate::metrics::catalog::MetricsError> {
                Ok(Self {
                    $($field: catalog.add(&$crate::metrics::family::Spec {
                        name: $metric,
                        labels: &[$($label),*],
                        buckets: families!(@buckets $($buckets)?),
                        help: $help,
                    })?,)+
                })
            }
        }
    };
    (@buckets) => { &[] };
    (@buckets $buckets:ident) => { &$buckets };
}

pub(super) use families;
