//! Death at a step of the protocol: between the stores, where what is done in one is not yet said in the other.
//!
//! How many hand-outs each costs is in tests/tests/steps.rs; here it happens under load, again and again.

use std::time::Duration;

use anyhow::Result;
use futures::future::try_join_all;
use tokio::time::sleep;

use crate::chaos::{
    fleet::{Fleet, variable},
    rng::Rng,
};

/// Where a worker dies (F02). Not at once: it is to have work in hand.
const WORKER: [(&str, &str); 5] = [
    ("claim.read", "20*off->return"),
    ("claim.taken", "20*off->return"),
    ("run.started", "60*off->return"),
    ("lease.committed", "2*off->return"),
    ("settle.committed", "20*off->return"),
];
/// Where a worker that dispatches dies (F04).
const DISPATCHER: [(&str, &str); 2] = [
    ("dispatch.marked", "5*off->return"),
    ("dispatch.published", "5*off->return"),
];

/// F02
pub(super) async fn of_workers(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    let mut steps = WORKER;
    rng.shuffle(&mut steps);
    for steps in steps.chunks(2) {
        dying(fleet, rng, "worker", steps, Duration::from_secs(3)).await?;
    }
    Ok(())
}

/// F03: the only producers that publish are those of the library.
pub(super) async fn of_producers(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    let step = ("enqueue.committed", "5%return");
    dying(fleet, rng, "producer-0", &[step], Duration::from_secs(5)).await?;
    dying(fleet, rng, "producer-1", &[step], Duration::from_secs(5)).await
}

/// F04
pub(super) async fn of_dispatchers(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    dying(fleet, rng, "worker", &DISPATCHER, Duration::from_secs(10)).await
}

/// Some processes die, each at a step of its own, whenever they have come to it, for so long.
async fn dying(
    fleet: &Fleet,
    rng: &mut Rng,
    prefix: &str,
    steps: &[(&str, &str)],
    time: Duration,
) -> Result<()> {
    let mut names = fleet.names(prefix);
    rng.shuffle(&mut names);
    try_join_all(
        names
            .iter()
            .zip(steps)
            .map(|(name, (step, when))| dies_at(fleet, name, step, when, time)),
    )
    .await
    .map(drop)
}

/// It is started and ended in order: only the deaths at the step are crashes.
async fn dies_at(
    fleet: &Fleet,
    name: &String,
    step: &str,
    when: &str,
    time: Duration,
) -> Result<()> {
    let env = [(variable::FAILPOINTS.to_owned(), format!("{step}={when}"))];
    let died = || {
        fleet
            .deaths()
            .iter()
            .filter(|d| d.is_fault && d.process.starts_with(&format!("{name}.")))
            .count()
    };
    let while_dying = async {
        fleet.timeline.note(&format!("{name} is to die at {step}"));
        sleep(time).await;
        Ok(())
    };
    let before = died();
    fleet
        .altered(std::slice::from_ref(name), &env, while_dying)
        .await?;
    fleet
        .timeline
        .note(&format!("{name} died {} times at {step}", died() - before));
    if died() == before && fleet.is_alone() {
        fleet.complain(format!("{name} never came to {step}: nothing was shown"));
    }
    Ok(())
}
