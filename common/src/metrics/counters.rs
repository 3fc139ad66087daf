//! What has happened since the process started. Every name ends in `_total`.
//!
//! Each process counts what it did itself, so a sum over all instances is the fleet's figure.

use prometheus::{IntCounter, IntCounterVec};

use super::{Degraded, family::families};
use crate::breaker::Toll;

families! {
    /// The counters. The values of `source`, `outcome` and `reason` come from [`super::labels`].
    Counters {
        jobs_enqueued: IntCounterVec = "millstream_jobs_enqueued_total" ["queue", "kind", "source"]
            "Jobs committed to Postgres, by the door they came in by.";
        jobs_deduplicated: IntCounterVec = "millstream_jobs_deduplicated_total" ["queue"]
            "Enqueue requests answered with an existing job because of their key or id.";
        jobs_published: IntCounterVec = "millstream_jobs_published_total" ["queue"]
            "Jobs whose hint was written to a Redis stream.";
        jobs_claimed: IntCounterVec = "millstream_jobs_claimed_total" ["queue"]
            "Jobs handed out to a slot of this worker.";
        jobs_claimed_directly: IntCounterVec = "millstream_jobs_claimed_directly_total" ["queue"]
            "Of the jobs claimed, those taken straight from Postgres because Redis was away.";
        jobs_finished: IntCounterVec = "millstream_jobs_finished_total" ["queue", "kind", "outcome"]
            "Hand-outs that ended, by accepted outcome.";
        jobs_reclaimed: IntCounterVec = "millstream_jobs_reclaimed_total" ["queue", "reason"]
            "Jobs handed out again because their first hand-out was lost.";
        leases_lost: IntCounter = "millstream_leases_lost_total" []
            "Results dropped because the job had been taken over, rescued or cancelled meanwhile.";
        stale_hints: IntCounter = "millstream_stale_hints_total" []
            "Stream hints that found nothing to claim in Postgres and were dropped.";
        children_not_started: IntCounter = "millstream_children_not_started_total" []
            "Times that no child process could be started for a job that was in hand at a crash.";
        rate_limited: IntCounterVec = "millstream_rate_limited_total" ["kind"]
            "Hand-outs that a rate limit refused or an upstream answered with slow down.";
        redis_errors: IntCounterVec = "millstream_redis_errors_total" ["op"]
            "Redis commands that failed or timed out, by operation.";
        postgres_errors: IntCounterVec = "millstream_postgres_errors_total" ["op"]
            "Postgres statements that failed or timed out, by operation.";
        degraded: IntCounterVec = "millstream_degraded_total" ["reason"]
            "Times that this process began to do without a server.";
        degraded_seconds: IntCounterVec = "millstream_degraded_seconds_total" ["reason"]
            "Whole seconds that this process has done without a server.";
        duty_runs: IntCounterVec = "millstream_duty_runs_total" ["duty", "outcome"]
            "Runs of the housekeeping duties, by outcome.";
    }
}

impl Counters {
    /// Counts one failed or timed-out Redis operation.
    pub fn redis_failed(&self, op: &str) {
        self.redis_errors.with_label_values(&[op]).inc();
    }

    /// Takes over what a breaker has counted.
    pub fn set_degraded(&self, reason: Degraded, toll: Toll) {
        let labels = [reason.as_str()];
        catch_up(&self.degraded.with_label_values(&labels), toll.times);
        catch_up(
            &self.degraded_seconds.with_label_values(&labels),
            toll.lasted.as_secs(),
        );
    }

    /// Counts one failed or timed-out Postgres operation.
    pub fn postgres_failed(&self, op: &str) {
        self.postgres_errors.with_label_values(&[op]).inc();
    }
}

/// Moves a counter on to a total. Two scrapes at once may overshoot by a step; then it stands until the total has caught up.
fn catch_up(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}
