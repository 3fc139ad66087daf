//! Faults of the Redis server: emptied, killed, frozen, without its connections.

use std::time::Duration;

use anyhow::{Context as _, Result};
use millstream_local::LocalServices;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::rights;
use crate::{
    chaos::{fleet::Fleet, rng::Rng},
    faults::redis as faults,
};

/// F08
pub(super) async fn flushed(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    for _ in 0..5 {
        fleet.timeline.note("FLUSHALL");
        let () = fleet.command(&["FLUSHALL"]).await?;
        sleep(Duration::from_millis(1000 + rng.below(2000))).await;
    }
    Ok(())
}

/// F14: up to a second of its log is lost, so that acknowledged entries are there again.
pub(super) async fn killed(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    for _ in 0..3 {
        fleet.timeline.note("kill -9 redis, start");
        fleet
            .servers(|services| services.kill9_redis().and_then(|()| services.start_redis()))
            .await?;
        sleep(Duration::from_millis(2000 + rng.below(2000))).await;
    }
    Ok(())
}

/// F15: entries that were added are gone, and those that were acknowledged are there again.
pub(super) async fn tail_cut(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    for _ in 0..2 {
        let bytes = 1000 + rng.below(20_000);
        fleet.timeline.note(&format!(
            "kill -9 redis, the last {bytes} bytes of its log are gone, start"
        ));
        let cut = move |services: &LocalServices| {
            services.kill9_redis()?;
            faults::cut_aof_tail(services, bytes)?;
            services.start_redis()
        };
        fleet.servers(cut).await?;
        sleep(Duration::from_secs(4)).await;
    }
    Ok(())
}

/// F16
pub(super) async fn put_back(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    let copy = fleet.servers(faults::Copy::of).await?;
    sleep(Duration::from_secs(8)).await;
    fleet
        .timeline
        .note("redis is put back to how it was 8 s ago");
    let restore = move |services: &LocalServices| {
        services.stop_redis()?;
        copy.restore(services)?;
        services.start_redis()
    };
    fleet.servers(restore).await
}

/// F17
pub(super) async fn restarted_empty(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    for _ in 0..2 {
        fleet.timeline.note("redis restarts with nothing");
        fleet.servers(restart_empty).await?;
        sleep(Duration::from_secs(5)).await;
    }
    Ok(())
}

fn restart_empty(services: &LocalServices) -> Result<()> {
    services.kill9_redis()?;
    let log = services
        .dir()
        .context("the servers are private")?
        .join("redis")
        .join("appendonlydir");
    std::fs::remove_dir_all(&log).with_context(|| format!("cannot remove {}", log.display()))?;
    services.start_redis()
}

/// F20
pub(super) async fn disconnected(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    fleet
        .timeline
        .note("CLIENT KILL TYPE normal, every 200 ms for 10 s");
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        let _killed: i64 = fleet.command(&["CLIENT", "KILL", "TYPE", "normal"]).await?;
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// F21
pub(super) async fn paused(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    for (mode, seconds) in [("ALL", 8), ("WRITE", 5)] {
        fleet
            .timeline
            .note(&format!("CLIENT PAUSE {seconds} s {mode}"));
        let () = fleet
            .command(&["CLIENT", "PAUSE", &(seconds * 1000).to_string(), mode])
            .await?;
        sleep(Duration::from_secs(seconds)).await;
    }
    Ok(())
}

/// F22
pub(super) async fn frozen(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    fleet.timeline.note("SIGSTOP redis for 8 s");
    signal(fleet, Signal::STOP).await?;
    sleep(Duration::from_secs(8)).await;
    signal(fleet, Signal::CONT).await
}

async fn signal(fleet: &Fleet, signal: Signal) -> Result<()> {
    let send = move |services: &LocalServices| {
        let pid = services.pids().redis.context("redis does not run")?;
        kill_process(Pid::from_raw(pid as i32).context("no process id")?, signal)
            .context("redis cannot be signalled")
    };
    fleet.servers(send).await
}

/// The server is there, goes on, lets its user do everything, and has room.
pub(super) async fn healed(fleet: &Fleet) -> Result<()> {
    fleet
        .servers(|services| {
            if services.pids().redis.is_none() {
                services.start_redis()
            } else {
                Ok(())
            }
        })
        .await?;
    signal(fleet, Signal::CONT).await?;
    rights::healed(fleet).await?;
    let () = fleet
        .command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])
        .await?;
    faults::free(&mut fleet.redis().await?).await
}
