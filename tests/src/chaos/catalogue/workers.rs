//! Faults of processes: killed, frozen, told to end.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tokio::time::sleep;

use crate::chaos::{fleet::Fleet, rng::Rng};

/// A worker told to end has 10 s of grace and then writes what it has; the rest is for a machine under load.
const END_LIMIT: Duration = Duration::from_secs(40);

/// F01
pub(super) async fn killed(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    for _ in 0..6 {
        fleet.kill9(&rng.pick(&fleet.names("worker")));
        sleep(Duration::from_secs(2)).await;
    }
    Ok(())
}

/// F03, at whatever moment the kill comes: a producer is gone between COMMIT and XADD, the API with requests in hand.
pub(super) async fn producers_killed(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    let names: Vec<String> = fleet.names("producer").into_iter().chain(fleet.names("api")).collect();
    for _ in 0..10 {
        fleet.kill9(&rng.pick(&names));
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// F05
pub(super) async fn frozen(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    freeze(fleet, &rng.pick(&fleet.names("worker")), 3 * fleet.settings.lease).await;
    Ok(())
}

/// F06
pub(super) async fn leader_frozen(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    let leader = "SELECT w.pid::bigint FROM millstream.leader l JOIN millstream.worker w ON w.id = l.worker_id";
    let pid = fleet.number(leader).await?;
    let name = fleet.name_of(pid as u32).with_context(|| format!("the leader, process {pid}, is not of the fleet"))?;
    freeze(fleet, &name, Duration::from_secs(12)).await;
    Ok(())
}

async fn freeze(fleet: &Fleet, name: &str, time: Duration) {
    fleet.signal(name, Signal::STOP);
    sleep(time).await;
    fleet.signal(name, Signal::CONT);
}

/// F51: once, twice, and while it starts. None of it is a crash.
pub(super) async fn told_to_end(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    let crashes = "SELECT count(*) FROM millstream.job_error WHERE class = 'crash'";
    let before = if fleet.is_alone() { fleet.number(crashes).await? } else { 0 };
    for second_after_ms in [None, Some(rng.below(3000)), None] {
        let name = rng.pick(&fleet.names("worker"));
        fleet.signal(&name, Signal::TERM);
        if let Some(ms) = second_after_ms {
            sleep(Duration::from_millis(ms)).await;
            fleet.signal(&name, Signal::TERM);
        }
        expect_end(fleet, &name).await;
        fleet.until_started(&name).await;
        sleep(Duration::from_millis(rng.below(600))).await;
        fleet.signal(&name, Signal::TERM);
        expect_end(fleet, &name).await;
    }
    if fleet.is_alone() && fleet.number(crashes).await? > before {
        fleet.complain("F51: a worker that was told to end was taken for crashed".to_owned());
    }
    Ok(())
}

/// In order with code 0, or by the signal before it was caught; a worker that cannot reach Postgres ends with 5.
pub(super) async fn expect_end(fleet: &Fleet, name: &str) {
    match fleet.ended(name, END_LIMIT).await {
        None => fleet.complain(format!("{name} did not end within {} s", END_LIMIT.as_secs())),
        Some(death) if fleet.is_alone() && !matches!(death.code, Some(0) | None) => {
            fleet.complain(format!("{} ended with code {:?}", death.process, death.code));
        }
        Some(_) => {}
    }
}
