//! A Redis that is away for long: work goes on from Postgres, at a rate that is printed, and by streams again when it is back.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use millstream_local::LocalServices;
use redis::streams::StreamInfoGroupsReply;
use tokio::time::{Instant, sleep};

use crate::chaos::{
    fleet::Fleet,
    journal::{self, Event, Micros, now, parse},
    rng::Rng,
};

/// How long the usual rate is measured.
const BEFORE: Duration = Duration::from_secs(10);
/// Breakers open within a second or two, and what was published and not read becomes free for direct claims in about six.
const SETTLING: Duration = Duration::from_secs(10);
/// How long the rate without Redis is measured: with [`SETTLING`] it is away for a minute.
const AWAY: Duration = Duration::from_secs(50);
/// How often it is looked whether jobs are still accepted and finished.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Breakers ask again every 5 s at most; the rest is for a machine under load.
const STREAMS_WITHIN: Duration = Duration::from_secs(30);

const FINISHED: &str = "SELECT count(*) FROM millstream.job WHERE state = 2";

/// F14: it is stopped in order, so that nothing but its absence is at work.
pub(super) async fn of_redis(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    let before = rate(fleet, BEFORE).await?;
    let from = now();
    fleet.timeline.note(&format!(
        "redis is stopped for {} s",
        (SETTLING + AWAY).as_secs()
    ));
    fleet.servers(LocalServices::stop_redis).await?;
    // These sleeps are the length of the fault and of what is measured in it: there is nothing to wait for.
    sleep(SETTLING).await;
    let (mut slowest, mut sum, looks) = (f64::MAX, 0.0, AWAY.as_secs() / LOOK_EVERY.as_secs());
    for _ in 0..looks {
        let now = rate(fleet, LOOK_EVERY).await?;
        (slowest, sum) = (slowest.min(now), sum + now);
    }
    let away = sum / looks as f64;
    // Under another fault of the soak the figures say nothing.
    let share = if before > 0.0 {
        100.0 * away / before
    } else {
        0.0
    };
    fleet.timeline.note(&format!(
        "jobs finished a second: {before:.0} before, {away:.0} while redis is away ({slowest:.0} in the slowest {} s): a share of {share:.0} %",
        LOOK_EVERY.as_secs()
    ));
    let refused = unanswered(fleet, from)?;
    if fleet.is_alone() && (slowest <= 0.0 || refused > 0) {
        fleet.complain(format!("F14: while redis was away {refused} enqueues failed, and {slowest:.1} jobs a second were finished"));
    }
    fleet.servers(LocalServices::start_redis).await?;
    streams_take_over(fleet).await
}

/// Jobs finished a second, over so long.
async fn rate(fleet: &Fleet, time: Duration) -> Result<f64> {
    let (before, began) = (fleet.number(FINISHED).await?, Instant::now());
    sleep(time).await;
    Ok((fleet.number(FINISHED).await? - before) as f64 / began.elapsed().as_secs_f64())
}

/// Requests of producers since a moment that were refused, or whose answer did not come.
fn unanswered(fleet: &Fleet, since: Micros) -> Result<usize> {
    let mut count = 0;
    for (_, path) in journal::files(&fleet.dir().join("journals"))?
        .into_iter()
        .filter(|(process, _)| process.starts_with("producer"))
    {
        let lines = parse(&std::fs::read_to_string(path)?)?;
        count += lines
            .iter()
            .filter(|l| l.at >= since && matches!(l.event, Event::Failed(..) | Event::Unknown(..)))
            .count();
    }
    Ok(count)
}

/// Waits until groups have been given entries that were not there before.
async fn streams_take_over(fleet: &Fleet) -> Result<()> {
    let (began, before) = (Instant::now(), delivered(fleet).await?);
    while delivered(fleet).await? == before {
        if began.elapsed() > STREAMS_WITHIN {
            if fleet.is_alone() {
                fleet.complain(format!(
                    "F14: no entry was read within {} s of the return of redis",
                    STREAMS_WITHIN.as_secs()
                ));
            }
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
    fleet.timeline.note(&format!(
        "entries are read again {:.1} s after the return of redis",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// The last entry that each group was given.
async fn delivered(fleet: &Fleet) -> Result<BTreeMap<String, Vec<String>>> {
    let mut last = BTreeMap::new();
    for stream in fleet.streams() {
        // No stream, no group: nothing was delivered.
        let groups: StreamInfoGroupsReply = fleet
            .command(&["XINFO", "GROUPS", &stream])
            .await
            .unwrap_or_default();
        last.insert(
            stream,
            groups
                .groups
                .into_iter()
                .map(|group| group.last_delivered_id)
                .collect(),
        );
    }
    Ok(last)
}
