//! Death at a step of the protocol: between the stores, where what is done in one is not yet said in the other.
//!
//! How many hand-outs each costs is in tests/tests/steps.rs; here it happens under load, again and again.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use crate::chaos::{fleet::Fleet, rng::Rng};

/// Where a worker dies (F02). Not at once: it is to have work in hand.
const WORKER: [(&str, &str); 5] = [
    ("claim.read", "10*off->30%return"),
    ("claim.taken", "10*off->30%return"),
    ("run.started", "50*off->5%return"),
    ("lease.committed", "2*off->30%return"),
    ("settle.committed", "10*off->20%return"),
];
/// Where a worker that dispatches dies (F04).
const DISPATCHER: [(&str, &str); 2] = [("dispatch.marked", "10*off->20%return"), ("dispatch.published", "10*off->20%return")];

/// F02
pub(super) async fn of_workers(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    let mut steps = WORKER;
    rng.shuffle(&mut steps);
    for steps in steps.chunks(2) {
        dying(fleet, rng, "worker", steps, Duration::from_secs(4)).await;
    }
    Ok(())
}

/// F03: the only producers that publish are those of the library.
pub(super) async fn of_producers(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    let step = ("enqueue.committed", "5%return");
    dying(fleet, rng, "producer-0", &[step], Duration::from_secs(5)).await;
    dying(fleet, rng, "producer-1", &[step], Duration::from_secs(5)).await;
    Ok(())
}

/// F04
pub(super) async fn of_dispatchers(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    dying(fleet, rng, "worker", &DISPATCHER, Duration::from_secs(10)).await;
    Ok(())
}

/// Some processes die, each at a step of its own, whenever they have come to it, for so long.
async fn dying(fleet: &Fleet, rng: &mut Rng, prefix: &str, steps: &[(&str, &str)], time: Duration) {
    let mut names = fleet.names(prefix);
    rng.shuffle(&mut names);
    let orders: Vec<_> =
        names.iter().zip(steps).map(|(name, (step, when))| (name, *step, [("FAILPOINTS".to_owned(), format!("{step}={when}"))])).collect();
    for (name, step, env) in &orders {
        fleet.timeline.note(&format!("{name} is to die at {step}"));
        fleet.set(name, env);
        fleet.kill9(name);
    }
    let before = fleet.deaths().len();
    sleep(time).await;
    let deaths = fleet.deaths().split_off(before);
    for (name, step, env) in &orders {
        fleet.unset(name, env);
        fleet.kill9(name);
        let died = deaths.iter().filter(|death| death.process.starts_with(&format!("{name}."))).count();
        fleet.timeline.note(&format!("{name} died {died} times at {step}"));
        if died == 0 && fleet.is_alone() {
            fleet.complain(format!("{name} never came to {step}: nothing was shown"));
        }
    }
}
