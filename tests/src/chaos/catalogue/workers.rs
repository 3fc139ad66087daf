//! Faults of processes: killed, frozen, told to end.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use crate::chaos::{fleet::Fleet, rng::Rng};

/// F01
pub(super) async fn killed(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    for _ in 0..6 {
        fleet.kill9(&rng.pick(&fleet.names("worker")));
        sleep(Duration::from_secs(2)).await;
    }
    Ok(())
}
