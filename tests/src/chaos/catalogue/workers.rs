//! Faults of processes: killed, frozen, told to end.

use std::{collections::HashSet, time::Duration};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tokio::time::sleep;
use uuid::Uuid;

use super::asks::{Asks, Options};
use crate::chaos::{
    fleet::Fleet,
    journal::{Event, How, Micros, now, parse},
    rng::Rng,
    workload::LONG,
};

/// A worker told to end has 10 s of grace and then writes what it has; the rest is for a machine under load.
const END_LIMIT: Duration = Duration::from_secs(40);
/// Pauses that are shorter than a lease.
const ROUNDS: usize = 2;
/// Long jobs that are asked for before each of them: less than half of all slots.
const IN_HAND: usize = 9;
/// They have their leases by then.
const LEASED_BY: Duration = Duration::from_secs(2);

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
    let names: Vec<String> = fleet
        .names("producer")
        .into_iter()
        .chain(fleet.names("api"))
        .collect();
    for _ in 0..10 {
        fleet.kill9(&rng.pick(&names));
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// F05
pub(super) async fn frozen(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    freeze(
        fleet,
        &rng.pick(&fleet.names("worker")),
        3 * fleet.settings.lease,
    )
    .await;
    Ok(())
}

/// F06
pub(super) async fn leader_frozen(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    let leader = "SELECT w.pid::bigint FROM millstream.leader l JOIN millstream.worker w ON w.id = l.worker_id";
    let pid = fleet.number(leader).await?;
    let name = fleet
        .name_of(pid as u32)
        .with_context(|| format!("the leader, process {pid}, is not of the fleet"))?;
    freeze(fleet, &name, Duration::from_secs(12)).await;
    Ok(())
}

async fn freeze(fleet: &Fleet, name: &str, time: Duration) {
    let frozen = async {
        fleet.signal(name, Signal::STOP);
        sleep(time).await;
        fleet.signal(name, Signal::CONT);
    };
    fleet.held(name, frozen).await;
}

/// F05: a pause that is shorter than the lease takes nothing away. The judge is not told of it, so every overlap is wrong.
pub(super) async fn frozen_shortly(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    let (mut asks, mut conn, mut held) = (Asks::open(fleet)?, fleet.postgres().await?, 0);
    for _ in 0..ROUNDS {
        // Of the usual work a worker has nothing in hand at most moments.
        for _ in 0..IN_HAND {
            asks.job(&mut conn, LONG, "", Options::default()).await?;
        }
        sleep(LEASED_BY).await;
        let name = rng.pick(&fleet.names("worker"));
        let process = fleet
            .process(&name)
            .with_context(|| format!("there is no {name}"))?;
        let began = now();
        fleet.signal(&name, Signal::STOP);
        let in_hand = Hand::of(fleet, &process)?.open;
        sleep(fleet.settings.lease * 2 / 5).await;
        fleet.signal(&name, Signal::CONT);
        // Whoever had given it up would have said so by then.
        sleep(fleet.settings.lease).await;
        held += in_hand.len();
        let again = handed_out_again(fleet, &in_hand, &Hand::of(fleet, &process)?.failed).await?;
        fleet.timeline.note(&format!(
            "{name} had {} jobs in hand; {again} of them were handed out again",
            in_hand.len()
        ));
        // A Postgres that was silent to all of them, on a machine under load, makes all of them give up their runs.
        let silent = others_gave_up(fleet, &name, began)?;
        if again > 0 && !silent && fleet.is_alone() {
            fleet.complain(format!(
                "F05: {again} jobs were taken from {name}, which paused for less than its lease"
            ));
        }
    }
    if held == 0 && fleet.is_alone() {
        fleet.complain("F05: no paused worker had a job in hand: nothing was shown".to_owned());
    }
    Ok(())
}

type Handouts = HashSet<(Uuid, i32)>;

/// What the journal of a process says of its runs.
#[derive(Default)]
struct Hand {
    open: Handouts,
    failed: Handouts,
}

impl Hand {
    fn of(fleet: &Fleet, process: &str) -> Result<Self> {
        let mut hand = Self::default();
        let path = fleet
            .dir()
            .join("journals")
            .join(format!("{process}.journal"));
        for line in parse(&std::fs::read_to_string(path)?)? {
            match line.event {
                Event::Start(run, ..) => drop(hand.open.insert((run.job, run.epoch))),
                Event::End(run, how) => {
                    hand.open.remove(&(run.job, run.epoch));
                    hand.failed
                        .extend((how == How::Fail).then_some((run.job, run.epoch)));
                }
                _ => {}
            }
        }
        Ok(hand)
    }
}

/// Whether a worker that was not paused has dropped a run since a moment.
fn others_gave_up(fleet: &Fleet, paused: &str, since: Micros) -> Result<bool> {
    for process in fleet
        .names("worker")
        .iter()
        .filter(|name| *name != paused)
        .filter_map(|name| fleet.process(name))
    {
        let path = fleet
            .dir()
            .join("journals")
            .join(format!("{process}.journal"));
        let lines = parse(&std::fs::read_to_string(path)?)?;
        if lines
            .iter()
            .any(|line| line.at >= since && matches!(line.event, Event::End(_, How::Dropped)))
        {
            fleet.timeline.note(&format!(
                "{process}, which was not paused, gave up its runs too: this round shows nothing"
            ));
            return Ok(true);
        }
    }
    Ok(false)
}

/// Of these; those that failed are tried again as they should be.
async fn handed_out_again(fleet: &Fleet, handouts: &Handouts, failed: &Handouts) -> Result<i64> {
    let rows: Vec<String> = handouts
        .difference(failed)
        .map(|(job, epoch)| format!("('{job}'::uuid, {epoch})"))
        .collect();
    if rows.is_empty() {
        return Ok(0);
    }
    let newer = "SELECT count(*) FROM millstream.job j JOIN (VALUES";
    fleet
        .number(&format!(
            "{newer} {}) AS h(id, epoch) ON j.id = h.id WHERE j.epoch > h.epoch",
            rows.join(", ")
        ))
        .await
}

/// F51: once, twice, and while it starts. None of it is a crash.
pub(super) async fn told_to_end(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    let crashes = "SELECT count(*) FROM millstream.job_error WHERE class = 'crash'";
    let before = if fleet.is_alone() {
        fleet.number(crashes).await?
    } else {
        0
    };
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
        None => fleet.complain(format!(
            "{name} did not end within {} s",
            END_LIMIT.as_secs()
        )),
        Some(death) if fleet.is_alone() && !matches!(death.code, Some(0) | None) => {
            fleet.complain(format!(
                "{} ended with code {:?}",
                death.process, death.code
            ));
        }
        Some(_) => {}
    }
}
