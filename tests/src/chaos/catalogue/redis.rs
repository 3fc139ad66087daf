//! Faults of the Redis server: emptied, killed, frozen, without its connections.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use crate::chaos::{fleet::Fleet, rng::Rng};

/// F08
pub(super) async fn flushed(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    for _ in 0..5 {
        fleet.timeline.note("FLUSHALL");
        let () = fleet.command(&["FLUSHALL"]).await?;
        sleep(Duration::from_millis(1000 + rng.below(2000))).await;
    }
    Ok(())
}

/// The server is there and goes on.
pub(super) async fn healed(fleet: &Fleet) -> Result<()> {
    fleet.servers(|services| if services.pids().redis.is_none() { services.start_redis() } else { Ok(()) }).await
}
