//! Asks Redis whether it lives, so that the breaker opens within seconds of an outage and closes by itself (F12).

use std::{sync::Arc, time::Duration};

use millstream_common::error::Outage;

use super::{Duty, Scope};
use crate::shared::Shared;

/// Three failures open the breaker.
const EVERY: Duration = Duration::from_millis(500);

pub(super) struct Probe;

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
        Ok(())
    }
}
