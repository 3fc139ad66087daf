//! The fleet: live workers, and whether the backlog moves.

use super::Check;
use crate::{
    cli::{CommandError, Invocation},
    ops::{stats, workers},
};

/// A parcel that waits longer than this is waiting for workers, not for its turn.
const PARCEL_AGE_WARN_S: f64 = 300.0;

pub(super) async fn check(context: &Invocation) -> Vec<Check> {
    match asked(context).await {
        Ok(checks) => checks,
        Err(failure) => vec![Check::down("fleet", &failure, context)],
    }
}

async fn asked(context: &Invocation) -> Result<Vec<Check>, CommandError> {
    let pg = context.pg().await?;
    let live = stats::workers(pg).await?;
    let silent = workers::list(pg, false)
        .await?
        .iter()
        .filter(|w| w.state == "silent")
        .count();
    let parcels = stats::parcels(pg).await?;
    let age = parcels.oldest_waiting_seconds.unwrap_or(0.0);
    let mut checks = vec![
        Check::warn_unless(
            live.live > 0,
            "workers",
            format!(
                "{} live, {} of {} slots busy",
                live.live, live.busy, live.slots
            ),
            "start one: millstream worker",
        ),
        Check::warn_unless(
            age < PARCEL_AGE_WARN_S,
            "backlog",
            format!(
                "{} parcels wait, {} are on a stream, the oldest waits {age:.0} s",
                parcels.waiting, parcels.publishing
            ),
            "more workers are needed, or the queue is paused: millstream queues list",
        ),
    ];
    if silent > 0 {
        let advice = "they have died or are frozen; their jobs are handed out again once a live worker has noticed";
        checks.push(Check::warn("silent workers", silent.to_string(), advice));
    }
    Ok(checks)
}
