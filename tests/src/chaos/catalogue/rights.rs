//! A Redis that takes one right after another away from its user, while everything else goes on.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

use crate::{
    chaos::{fleet::Fleet, rng::Rng},
    faults::rights,
};

/// The user of the fleet, and of this harness, which needs none of the rights that are taken away.
const USER: &str = "default";
/// Probes run twice a second; the rest is for a machine under load.
const NAMED_WITHIN: Duration = Duration::from_secs(5);
/// Probes that fail come at growing intervals of 5 s at most.
const BACK_WITHIN: Duration = Duration::from_secs(15);
/// How long it is looked whether jobs are finished without Redis.
const AWAY: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);

const FINISHED: &str = "SELECT count(*) FROM millstream.job WHERE state = 2";

/// X20: each right in turn, and that to the keys, in any order.
pub(super) async fn taken_away(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    let mut acts: Vec<(String, Vec<String>, Vec<String>)> = rights::needed()
        .into_iter()
        .map(|right| {
            (
                format!("the right to {} (", right.replace('|', " ").to_uppercase()),
                vec![format!("-{right}")],
                vec![format!("+{right}")],
            )
        })
        .collect();
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    acts.push((
        "the right to the keys".to_owned(),
        words(&["resetkeys", "~elsewhere:*"]),
        words(&["resetkeys", "~*"]),
    ));
    rng.shuffle(&mut acts);
    for (named, take, give) in acts {
        set_user(fleet, &take).await?;
        // Who may load no script shows it when the server has forgotten them.
        let () = fleet.command(&["SCRIPT", "FLUSH"]).await?;
        await_all(
            fleet,
            NAMED_WITHIN,
            &format!("{take:?} is not named"),
            |told| {
                told["redis_lacks"]
                    .as_str()
                    .is_some_and(|lacks| lacks.contains(&named))
            },
        )
        .await;
        let before = fleet.number(FINISHED).await?;
        // The length of the fault.
        sleep(AWAY).await;
        if fleet.is_alone() && fleet.number(FINISHED).await? == before {
            fleet.complain(format!(
                "X20: no job was finished in {} s after {take:?}",
                AWAY.as_secs()
            ));
        }
        set_user(fleet, &give).await?;
        await_all(
            fleet,
            BACK_WITHIN,
            &format!("{give:?} is not noticed"),
            |told| told["redis"] == "up",
        )
        .await;
    }
    Ok(())
}

/// Gives back whatever was taken.
pub(super) async fn healed(fleet: &Fleet) -> Result<()> {
    set_user(fleet, &["+@all".to_owned(), "~*".to_owned()]).await
}

async fn set_user(fleet: &Fleet, rules: &[String]) -> Result<()> {
    fleet
        .timeline
        .note(&format!("ACL SETUSER {USER} {}", rules.join(" ")));
    let words: Vec<&str> = ["ACL", "SETUSER", USER]
        .into_iter()
        .chain(rules.iter().map(String::as_str))
        .collect();
    fleet.command(&words).await
}

/// Waits until every worker tells so of itself.
async fn await_all(
    fleet: &Fleet,
    within: Duration,
    what: &str,
    is_so: impl Fn(&serde_json::Value) -> bool,
) {
    let began = Instant::now();
    for name in fleet.names("worker") {
        while !readiness(fleet, &name)
            .await
            .is_some_and(|told| is_so(&told))
        {
            if began.elapsed() > within {
                if fleet.is_alone() {
                    fleet.complain(format!(
                        "X20: {what} by {name} within {} s",
                        within.as_secs()
                    ));
                }
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

async fn readiness(fleet: &Fleet, name: &str) -> Option<serde_json::Value> {
    reqwest::get(fleet.probe_url(name).ok()?)
        .await
        .ok()?
        .json()
        .await
        .ok()
}
