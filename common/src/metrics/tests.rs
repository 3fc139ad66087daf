//! The promises that dashboards, alerts and callers rely on.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::HashSet;
use std::time::Duration;

use super::*;

/// What the outside relies on: name, type, labels. Changing a line here changes a published interface.
const PUBLISHED: &[(&str, &str, &str)] = &[
    ("millstream_build_info", "gauge", "version"),
    ("millstream_children_not_started_total", "counter", ""),
    ("millstream_degraded_seconds_total", "counter", "reason"),
    ("millstream_degraded_total", "counter", "reason"),
    ("millstream_documents", "gauge", "state"),
    ("millstream_duty_runs_total", "counter", "duty,outcome"),
    ("millstream_enqueue_duration_seconds", "histogram", ""),
    ("millstream_job_duration_seconds", "histogram", "queue,kind"),
    ("millstream_job_queue_time_seconds", "histogram", "queue"),
    ("millstream_jobs_claimed_directly_total", "counter", "queue"),
    ("millstream_jobs_claimed_total", "counter", "queue"),
    ("millstream_jobs_deduplicated_total", "counter", "queue"),
    (
        "millstream_jobs_enqueued_total",
        "counter",
        "queue,kind,source",
    ),
    (
        "millstream_jobs_finished_total",
        "counter",
        "queue,kind,outcome",
    ),
    ("millstream_jobs_published_total", "counter", "queue"),
    ("millstream_jobs_reclaimed_total", "counter", "queue,reason"),
    ("millstream_last_success_timestamp_seconds", "gauge", "duty"),
    ("millstream_leader", "gauge", ""),
    ("millstream_leases_lost_total", "counter", ""),
    ("millstream_parcels", "gauge", "state"),
    ("millstream_pauses_unknown", "gauge", ""),
    ("millstream_pool_connections", "gauge", "pool,state"),
    ("millstream_postgres_errors_total", "counter", "op"),
    ("millstream_postgres_up", "gauge", ""),
    ("millstream_queue_jobs", "gauge", "queue,state"),
    ("millstream_queue_oldest_job_age_seconds", "gauge", "queue"),
    ("millstream_rate_limited_total", "counter", "kind"),
    ("millstream_redis_breaker_open", "gauge", ""),
    ("millstream_redis_errors_total", "counter", "op"),
    ("millstream_redis_policy_ok", "gauge", ""),
    ("millstream_redis_up", "gauge", ""),
    ("millstream_settle_batch_jobs", "histogram", ""),
    ("millstream_stage_duration_seconds", "histogram", "stage"),
    ("millstream_stale_hints_total", "counter", ""),
    ("millstream_stream_entries", "gauge", "queue,priority"),
    (
        "millstream_stream_pending_entries",
        "gauge",
        "queue,priority",
    ),
    ("millstream_worker_slots", "gauge", "state"),
    ("millstream_workers_live", "gauge", ""),
    ("millstream_workers_wanted", "gauge", ""),
];

fn metrics() -> Metrics {
    Metrics::new("1.2.3").expect("every name is free")
}

/// The value of the one sample that starts with `series` and a space.
fn sample(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.render();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(value.parse().unwrap())
}

fn own(metrics: &Metrics) -> impl Iterator<Item = &Description> {
    metrics
        .describe()
        .iter()
        .filter(|d| d.name.starts_with("millstream_"))
}

// F52
#[test]
fn every_published_metric_has_its_type_and_labels_and_there_is_no_other() {
    let metrics = metrics();
    let described = own(&metrics).map(|d| (d.name.as_str(), d.kind.as_str(), d.labels.join(",")));
    let mut described: Vec<_> = described.collect();
    described.sort();
    let published = PUBLISHED
        .iter()
        .map(|&(name, kind, labels)| (name, kind, labels.to_owned()));
    assert_eq!(described, published.collect::<Vec<_>>());
}

// F52
#[test]
fn a_fresh_process_renders_help_and_type_of_every_metric_once() {
    let metrics = metrics();
    let text = metrics.render();
    for d in metrics.describe() {
        let (help, kind) = (format!("# HELP {} {}\n", d.name, d.help), d.kind.as_str());
        assert_eq!(text.matches(&help).count(), 1, "{help}");
        assert_eq!(
            text.matches(&format!("# TYPE {} {kind}\n", d.name)).count(),
            1,
            "{}",
            d.name
        );
    }
    assert!(!text.contains("# incomplete"));
}

// F52
#[test]
fn a_sampled_metric_is_rendered_with_its_labels() {
    let metrics = metrics();
    metrics.job("mail", "http").enqueued(EnqueueSource::Cli, 3);
    let series = r#"millstream_jobs_enqueued_total{kind="http",queue="mail",source="cli"}"#;
    assert_eq!(sample(&metrics, series), Some(3.0));
    assert_eq!(
        sample(&metrics, r#"millstream_build_info{version="1.2.3"}"#),
        Some(1.0)
    );
}

// F52
#[test]
fn names_follow_the_conventions_of_prometheus() {
    const NOT_BASE_UNITS: [&str; 8] = [
        "_ms",
        "_millis",
        "_milliseconds",
        "_us",
        "_minutes",
        "_hours",
        "_kb",
        "_mb",
    ];
    for d in metrics().describe() {
        let is_counter = d.kind == MetricKind::Counter;
        assert_eq!(
            d.name.ends_with("_total"),
            is_counter,
            "_total is for counters: {}",
            d.name
        );
        assert!(
            d.name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        );
        assert!(
            !NOT_BASE_UNITS.iter().any(|unit| d.name.ends_with(unit)),
            "base units: {}",
            d.name
        );
        let reserved = ["_bucket", "_sum", "_count"]
            .iter()
            .any(|suffix| d.name.ends_with(suffix));
        assert!(!reserved, "suffix of a histogram's series: {}", d.name);
        let about_time = ["duration", "age", "_time_", "timestamp"]
            .iter()
            .any(|word| d.name.contains(word));
        assert!(
            !about_time || d.name.ends_with("_seconds"),
            "times are in seconds: {}",
            d.name
        );
        assert!(
            !d.help.is_empty() && !d.help.contains(['\\', '\n']),
            "help: {}",
            d.name
        );
    }
}

// F64: no tenant, no id, no address can become a label.
#[test]
fn labels_are_of_the_agreed_set() {
    const AGREED: [&str; 12] = [
        "queue", "kind", "outcome", "state", "source", "op", "duty", "reason", "stage", "priority",
        "pool", "version",
    ];
    for d in metrics().describe() {
        for label in &d.labels {
            assert!(AGREED.contains(&label.as_str()), "{label} of {}", d.name);
        }
    }
}

// F52: dashboards select by these words.
#[test]
fn closed_label_values_are_the_published_words() {
    fn words<T: Copy>(all: &[T], text: impl Fn(T) -> &'static str) -> String {
        all.iter()
            .map(|&value| text(value))
            .collect::<Vec<_>>()
            .join("|")
    }
    let sources = words(EnqueueSource::ALL, EnqueueSource::as_str);
    assert_eq!(sources, "library|http|cli|sql|pipeline|schedule");
    let outcomes = words(JobOutcome::ALL, JobOutcome::as_str);
    assert_eq!(
        outcomes,
        "succeeded|retried|rate_limited|snoozed|dead|cancelled|released"
    );
    let reasons = words(ReclaimReason::ALL, ReclaimReason::as_str);
    assert_eq!(reasons, "takeover|rescue|reconcile|put_back");
    assert_eq!(
        words(Degraded::ALL, Degraded::as_str),
        "redis_away|postgres_away"
    );
    assert_eq!(words(SlotState::ALL, SlotState::as_str), "busy|idle");
    assert_eq!(
        words(DutyOutcome::ALL, DutyOutcome::as_str),
        "succeeded|failed|skipped"
    );
}

// F52
#[test]
fn names_are_sorted_unique_and_know_the_process() {
    let names = metrics().names();
    assert!(names.is_sorted());
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    let knows_process = names
        .iter()
        .any(|name| name == "process_resident_memory_bytes");
    assert_eq!(knows_process, cfg!(target_os = "linux"));
}

// F52
#[test]
fn clones_share_their_values_and_two_registries_do_not() {
    let (one, other) = (metrics(), metrics());
    one.clone().counters.leases_lost.inc_by(2);
    assert_eq!(sample(&one, "millstream_leases_lost_total"), Some(2.0));
    assert_eq!(sample(&other, "millstream_leases_lost_total"), Some(0.0));
}

// F52: drained means 0.
#[test]
fn a_reading_sets_to_zero_what_it_no_longer_lists() {
    let metrics = metrics();
    let levels = &metrics.gauges.queue_jobs;
    levels.replace([(["mail", "available"], 7.0), (["mail", "running"], 1.0)]);
    levels.replace([(["mail".to_owned(), "running".to_owned()], 2.0)]);
    let of = |state: &str| {
        sample(
            &metrics,
            &format!(r#"millstream_queue_jobs{{queue="mail",state="{state}"}}"#),
        )
    };
    assert_eq!((of("available"), of("running")), (Some(0.0), Some(2.0)));
}

// F52
#[test]
fn a_former_leader_withdraws_its_view_of_the_fleet() {
    let metrics = metrics();
    metrics
        .gauges
        .queue_oldest_job_age_seconds
        .set(["mail"], 90.0);
    metrics.gauges.workers_live.set(4);
    metrics.gauges.clear_fleet();
    assert_eq!(
        sample(
            &metrics,
            r#"millstream_queue_oldest_job_age_seconds{queue="mail"}"#
        ),
        None
    );
    assert_eq!(sample(&metrics, "millstream_workers_live"), Some(0.0));
}

// F52
#[test]
fn a_tally_reaches_the_shared_metrics_when_flushed_or_dropped() {
    let metrics = metrics();
    let meters = metrics.job("mail", "http");
    let mut tally = meters.tally();
    tally.waited(Duration::from_secs(2));
    tally.finished(JobOutcome::Succeeded, Duration::from_millis(20));
    tally.finished(JobOutcome::RateLimited, Duration::from_millis(1));
    assert_eq!(
        meters.duration.get_sample_count(),
        0,
        "not before the flush"
    );
    tally.flush();
    tally.flush();
    tally.finished(JobOutcome::Succeeded, Duration::from_millis(30));
    drop(tally);
    assert_eq!(meters.duration.get_sample_count(), 3);
    assert_eq!(metrics.queue("mail").queue_time.get_sample_count(), 1);
    let done = r#"millstream_jobs_finished_total{kind="http",outcome="succeeded",queue="mail"}"#;
    assert_eq!(sample(&metrics, done), Some(2.0));
    assert_eq!(
        sample(&metrics, r#"millstream_rate_limited_total{kind="http"}"#),
        Some(1.0)
    );
}

// F52: a rate over a counter misses its first step unless the series was there at 0 before.
#[test]
fn resolved_meters_stand_at_zero_before_the_first_job() {
    let metrics = metrics();
    let (_queue, _job) = (metrics.queue("mail"), metrics.job("mail", "http"));
    let dead = r#"millstream_jobs_finished_total{kind="http",outcome="dead",queue="mail"}"#;
    assert_eq!(sample(&metrics, dead), Some(0.0));
    let rescued = r#"millstream_jobs_reclaimed_total{queue="mail",reason="rescue"}"#;
    assert_eq!(sample(&metrics, rescued), Some(0.0));
}

// F52
#[test]
fn a_failed_or_skipped_duty_does_not_move_its_last_success() {
    let metrics = metrics();
    metrics.record_duty("dispatch", DutyOutcome::Succeeded, 100.0);
    metrics.record_duty("dispatch", DutyOutcome::Failed, 200.0);
    metrics.record_duty("dispatch", DutyOutcome::Skipped, 300.0);
    let last = r#"millstream_last_success_timestamp_seconds{duty="dispatch"}"#;
    assert_eq!(sample(&metrics, last), Some(100.0));
    let failed = r#"millstream_duty_runs_total{duty="dispatch",outcome="failed"}"#;
    assert_eq!(sample(&metrics, failed), Some(1.0));
}

// F12, F52
#[test]
fn the_toll_of_a_breaker_becomes_counters_that_never_fall() {
    let metrics = metrics();
    let toll = |times, seconds| crate::breaker::Toll {
        times,
        lasted: Duration::from_secs(seconds),
    };
    for taken in [toll(1, 9), toll(2, 30), toll(1, 8)] {
        metrics.counters.set_degraded(Degraded::RedisAway, taken);
    }
    assert_eq!(
        sample(
            &metrics,
            r#"millstream_degraded_total{reason="redis_away"}"#
        ),
        Some(2.0)
    );
    assert_eq!(
        sample(
            &metrics,
            r#"millstream_degraded_seconds_total{reason="redis_away"}"#
        ),
        Some(30.0)
    );
}

// F52
#[test]
fn idle_is_what_is_left_under_the_limit() {
    let metrics = metrics();
    metrics.gauges.set_slots(3, 8);
    metrics.gauges.set_pool("hot", 9, 4);
    assert_eq!(
        sample(&metrics, r#"millstream_worker_slots{state="idle"}"#),
        Some(5.0)
    );
    assert_eq!(
        sample(
            &metrics,
            r#"millstream_pool_connections{pool="hot",state="idle"}"#
        ),
        Some(0.0)
    );
}

// F52: buckets are part of the interface, alerts name one of them.
#[test]
fn the_objective_of_sixty_seconds_is_a_bucket_of_the_queue_time() {
    let metrics = metrics();
    metrics.queue("mail").queue_time.observe(59.0);
    let series = r#"millstream_job_queue_time_seconds_bucket{queue="mail",le="60"}"#;
    assert_eq!(sample(&metrics, series), Some(1.0));
}
