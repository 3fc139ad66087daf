//! A Redis that has no room: memory that is full, with and without eviction, and a disk that is full.

use std::time::Duration;

use anyhow::Result;
use millstream_local::LocalServices;
use tokio::time::{Instant, sleep};

use crate::{
    chaos::{fleet::Fleet, rng::Rng},
    faults::{machine::SmallDisk, redis as faults},
};

/// Far more than the log of half a minute of a run.
const DISK_MB: u32 = 32;
/// Workers look at the policy every 5 s; the rest is for a machine under load.
const SEEN_WITHIN: Duration = Duration::from_secs(20);

/// F29
pub(super) async fn memory(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    fleet.timeline.note("redis is full for 8 s");
    faults::fill(&mut fleet.redis().await?).await?;
    sleep(Duration::from_secs(8)).await;
    faults::free(&mut fleet.redis().await?).await
}

/// F30
pub(super) async fn evicting(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    let () = fleet
        .command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
        .await?;
    faults::fill(&mut fleet.redis().await?).await?;
    fleet.timeline.note("redis is full and evicts");
    all_workers_are(fleet, false).await;
    sleep(Duration::from_secs(3)).await;
    let () = fleet
        .command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])
        .await?;
    faults::free(&mut fleet.redis().await?).await?;
    all_workers_are(fleet, true).await;
    Ok(())
}

/// Waits until every worker says of itself that it is ready, or that it is not.
async fn all_workers_are(fleet: &Fleet, ready: bool) {
    let began = Instant::now();
    for name in fleet.names("worker") {
        while is_ready(fleet, &name).await != Some(ready) {
            if began.elapsed() > SEEN_WITHIN {
                if fleet.is_alone() {
                    fleet.complain(format!(
                        "F30: {name} did not say within {} s that it is ready: {ready}",
                        SEEN_WITHIN.as_secs()
                    ));
                }
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
    fleet.timeline.note(&format!(
        "all workers say after {:.1} s: ready {ready}",
        began.elapsed().as_secs_f64()
    ));
}

async fn is_ready(fleet: &Fleet, name: &str) -> Option<bool> {
    let answer = reqwest::get(fleet.probe_url(name).ok()?).await.ok()?;
    Some(answer.status().is_success())
}

/// F31, where mounting is allowed. The small disk is empty at first, and in the end the files from before it are there again.
pub(super) async fn disk(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    let folder = fleet.servers(faults::folder).await?;
    fleet.servers(LocalServices::stop_redis).await?;
    let Some(small) = SmallDisk::over(&folder, DISK_MB) else {
        fleet
            .timeline
            .note("no small disk can be mounted here: F31 is left out");
        return fleet.servers(LocalServices::start_redis).await;
    };
    fleet.servers(LocalServices::start_redis).await?;
    sleep(Duration::from_secs(2)).await;
    fleet.timeline.note("the disk of redis is full for 6 s");
    small.fill();
    sleep(Duration::from_secs(6)).await;
    small.free();
    sleep(Duration::from_secs(3)).await;
    fleet.timeline.note("redis is back on its own disk");
    fleet.servers(LocalServices::stop_redis).await?;
    drop(small);
    fleet.servers(LocalServices::start_redis).await
}
