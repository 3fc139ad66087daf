//! Asks Redis whether it does what the work needs, and what it throws away, so that the breaker opens within seconds of an outage and closes by itself (F12).
//!
//! While it is away the questions come at growing, random intervals: a fleet that waits for one server must not meet it in
//! the moment that it is back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_common::{error::Outage, reconnect::Reconnect};

use super::{Duty, Ran, Scope};
use crate::shared::Shared;

/// While all is well. Three failures open the breaker.
const EVERY: Duration = Duration::from_millis(500);

/// How often Redis is asked what it throws away: somebody may change it while it runs.
const POLICY_EVERY: Duration = Duration::from_secs(5);

/// With the delay that the last failure asks for.
#[derive(Default)]
pub(super) struct Probe {
    reconnect: Reconnect,
    delay: Option<Duration>,
    policy_seen: Option<Instant>,
}

impl Duty for Probe {
    const NAME: &'static str = "probe";
    const SCOPE: Scope = Scope::Everywhere;

    fn every(&self, _: &Shared) -> Duration {
        self.delay.unwrap_or(EVERY)
    }

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<Ran, Outage> {
        let was_down = shared.redis.is_down();
        self.delay = Some(self.reconnect.next_delay());
        shared.redis.probe(&queues(shared)).await?;
        self.reconnect.reset();
        self.delay = None;
        if was_down && !shared.redis.is_down() {
            // Whatever the streams lost or kept from before, compare it now.
            shared.signals.reconcile_now.notify_one();
        }
        if self
            .policy_seen
            .is_none_or(|at| at.elapsed() > POLICY_EVERY)
        {
            shared.redis.look_at_policy().await?;
            self.policy_seen = Some(Instant::now());
        }
        Ok(Ran::Done)
    }
}

/// All that are known: a duty looks into the streams of each.
fn queues(shared: &Shared) -> Vec<Arc<str>> {
    shared
        .catalog
        .queues()
        .into_iter()
        .map(|(_, name)| name)
        .collect()
}
