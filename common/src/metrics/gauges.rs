//! How things stand now.
//!
//! Two families: what this process sees of itself (slots, pools, its servers), exported by everybody; and
//! the *fleet's* state read from Postgres and Redis, exported by whoever leads. Dashboards take `max by (…)`
//! of the latter, so two leaders for a moment do no harm, but a former leader's last reading would: it
//! calls [`Gauges::clear_fleet`] when its term ends.

use prometheus::{GaugeVec, IntGauge, IntGaugeVec};

use super::family::families;
use super::labels::SlotState;
use super::levels::Levels;

families! {
    /// The gauges. The fleet's are [`Levels`] and the two `workers_…`; the others are this process's own.
    Gauges {
        queue_jobs: Levels<2> = "millstream_queue_jobs" ["queue", "state"]
            "Jobs of a queue by state, as the leader last counted them.";
        queue_oldest_job_age_seconds: Levels<1> = "millstream_queue_oldest_job_age_seconds" ["queue"]
            "How long the oldest job that could run has been waiting; 0 when none is.";
        stream_entries: Levels<2> = "millstream_stream_entries" ["queue", "priority"]
            "Entries in a Redis stream, read or not.";
        stream_pending_entries: Levels<2> = "millstream_stream_pending_entries" ["queue", "priority"]
            "Entries read by a worker and not yet acknowledged.";
        parcels: Levels<1> = "millstream_parcels" ["state"]
            "Parcels in the outbox by state.";
        documents: Levels<1> = "millstream_documents" ["state"]
            "Documents by state.";
        workers_live: IntGauge = "millstream_workers_live" []
            "Worker processes whose heartbeat goes on, as the leader sees it; 0 elsewhere.";
        workers_wanted: IntGauge = "millstream_workers_wanted" []
            "Worker processes that the backlog asks for, as the leader computes it; 0 elsewhere.";
        worker_slots: IntGaugeVec = "millstream_worker_slots" ["state"]
            "Slots of this worker by state.";
        leader: IntGauge = "millstream_leader" []
            "1 while this process leads the fleet's duties.";
        redis_up: IntGauge = "millstream_redis_up" []
            "1 while Redis answers this process.";
        postgres_up: IntGauge = "millstream_postgres_up" []
            "1 while Postgres answers this process.";
        redis_policy_ok: IntGauge = "millstream_redis_policy_ok" []
            "1 while Redis is known to evict nothing.";
        pauses_unknown: IntGauge = "millstream_pauses_unknown" []
            "1 while Postgres does not tell this worker in time what is paused: jobs in its hand do not start.";
        redis_breaker_open: IntGauge = "millstream_redis_breaker_open" []
            "1 while this process works without Redis.";
        pool_connections: IntGaugeVec = "millstream_pool_connections" ["pool", "state"]
            "Connections of a pool: used are lent out, idle are still to be had under its limit.";
        last_success_timestamp_seconds: GaugeVec = "millstream_last_success_timestamp_seconds" ["duty"]
            "Unix time of the last good run of a duty in this process.";
        build_info: IntGaugeVec = "millstream_build_info" ["version"]
            "Always 1; the label tells the version.";
    }
}

impl Gauges {
    /// How many slots of this worker are busy, out of `total`.
    pub fn set_slots(&self, busy: usize, total: usize) {
        let slots = |state: SlotState| self.worker_slots.with_label_values(&[state.as_str()]);
        slots(SlotState::Busy).set(busy as i64);
        slots(SlotState::Idle).set(total.saturating_sub(busy) as i64);
    }

    /// How many connections of `pool` are lent out, out of the `limit` that it may open. A pool that
    /// opens lazily is not full while it may open more, so idle is what is left under the limit.
    pub fn set_pool(&self, pool: &str, used: usize, limit: usize) {
        let connections = |state: &str| self.pool_connections.with_label_values(&[pool, state]);
        connections("used").set(used as i64);
        connections("idle").set(limit.saturating_sub(used) as i64);
    }

    /// Withdraws every reading about the fleet; for a process that stops leading.
    pub fn clear_fleet(&self) {
        self.queue_jobs.clear();
        self.queue_oldest_job_age_seconds.clear();
        self.stream_entries.clear();
        self.stream_pending_entries.clear();
        self.parcels.clear();
        self.documents.clear();
        self.workers_live.set(0);
        self.workers_wanted.set(0);
    }
}
