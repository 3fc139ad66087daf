//! Asks Redis whether it lives and what it throws away, so that the breaker opens within seconds of an outage and closes by itself (F12).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_common::error::Outage;

use super::{Duty, Scope};
use crate::shared::Shared;

/// Three failures open the breaker.
const EVERY: Duration = Duration::from_millis(500);

/// How often Redis is asked what it throws away: somebody may change it while it runs.
const POLICY_EVERY: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Probe {
    policy_seen: Option<Instant>,
}

impl Duty for Probe {
    const NAME: &'static str = "probe";
    const SCOPE: Scope = Scope::Everywhere;

    fn every(&self, _: &Shared) -> Duration {
        EVERY
    }

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<(), Outage> {
        let was_down = shared.redis.is_down();
        shared.redis.probe().await?;
        if was_down {
            // Whatever the streams lost or kept from before, compare it now.
            shared.reconcile_now.notify_one();
        }
        if self.policy_seen.is_none_or(|at| at.elapsed() > POLICY_EVERY) {
            shared.redis.look_at_policy().await?;
            self.policy_seen = Some(Instant::now());
        }
        Ok(())
    }
}
