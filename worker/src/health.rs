//! What the probes ask a worker (F52). Liveness never asks Postgres or Redis.

use std::sync::{Arc, atomic::Ordering};

use millstream_common::{
    breaker::BreakerState, metrics::Degraded, pg::GuardedPool, stream::policy::Policy,
};

use crate::{run::Runs, shared::Shared};

/// A handle for `/livez`, `/readyz` and `/metrics`.
#[derive(Clone)]
pub struct Health(Arc<Shared>, GuardedPool);

/// The answer of `/readyz`.
#[derive(Debug, Clone, serde::Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the JSON of a probe: independent facts"
)]
pub struct Readiness {
    /// Whether traffic (a rollout) may count on this worker.
    pub ready: bool,
    /// The last heartbeat reached Postgres.
    pub postgres: bool,
    /// `up`, or `down` while work goes on straight from Postgres.
    pub redis: &'static str,
    /// Since when and why a server is out of reach.
    pub breakers: Breakers,
    /// What Redis does when it is full. One that evicts makes a worker unready, though it goes on working: a rollout shall not
    /// come to rest on it.
    pub redis_policy: Policy,
    /// The right, or the command, for want of which jobs are worked straight from Postgres.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_lacks: Option<String>,
    /// This worker has found a stream that could not be used and has made it anew: until what it hid is handed out again some jobs stand
    /// still, and it is not ready.
    pub streams_mending: bool,
    /// Postgres says in time what is paused. Until it does, jobs that are in hand do not start, and the worker is not ready.
    pub pauses_known: bool,
    /// It claims nothing more and will end.
    pub draining: bool,
    /// A person paused it.
    pub paused: bool,
}

/// What this process believes of its servers.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Breakers {
    /// As the heartbeat sees it.
    pub postgres: BreakerState,
    /// As every command sees it.
    pub redis: BreakerState,
}

impl Health {
    pub(crate) fn of(runs: &Runs) -> Self {
        Self(runs.shared.clone(), runs.handlers_pg.clone())
    }

    /// Names of loops that do not turn any more; empty: alive.
    pub fn stuck_loops(&self) -> Vec<String> {
        self.0.pulses.stuck()
    }

    /// Whether this worker takes work safely. Redis being away makes it degraded, not unready.
    pub fn readiness(&self) -> Readiness {
        let postgres = self.0.contact.is_up();
        let draining = self.0.signals.draining.is_cancelled();
        let redis_policy = self.0.redis.policy();
        let streams_mending = self.0.redis.mending().is_under_way();
        let pauses_known = self.0.work.pauses.are_known();
        Readiness {
            ready: postgres
                && !draining
                && redis_policy != Policy::Evicts
                && !streams_mending
                && pauses_known,
            pauses_known,
            redis_lacks: self.0.redis.lacks(),
            streams_mending,
            redis_policy,
            postgres,
            redis: if self.0.redis.refuses_work() {
                "down"
            } else {
                "up"
            },
            breakers: Breakers {
                postgres: self.0.contact.breaker().state(),
                redis: self.0.redis.breaker().state(),
            },
            draining,
            paused: self.0.signals.paused.load(Ordering::Relaxed),
        }
    }

    /// The metrics text. Does no I/O beyond this process's own counters.
    pub fn metrics(&self) -> String {
        let gauges = &self.0.metrics.gauges;
        gauges.set_slots(self.0.work.capacity.busy(), self.0.work.capacity.slots());
        gauges.postgres_up.set(i64::from(self.0.contact.is_up()));
        gauges.redis_up.set(i64::from(!self.0.redis.refuses_work()));
        gauges
            .redis_policy_ok
            .set(i64::from(self.0.redis.policy() == Policy::Keeps));
        gauges
            .redis_breaker_open
            .set(i64::from(self.0.redis.refuses_work()));
        gauges
            .pauses_unknown
            .set(i64::from(!self.0.work.pauses.are_known()));
        let counters = &self.0.metrics.counters;
        counters.set_degraded(Degraded::PostgresAway, self.0.contact.breaker().toll());
        counters.set_degraded(Degraded::RedisAway, self.0.redis.breaker().toll());
        let (open, idle) = self.1.usage();
        for (pool, open, idle) in self
            .0
            .pg
            .usage()
            .into_iter()
            .chain([("handlers", open, idle)])
        {
            gauges.set_pool(pool, open - idle.min(open), open);
        }
        self.0.metrics.render()
    }
}
