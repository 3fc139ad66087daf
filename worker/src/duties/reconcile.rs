//! Reconcile: what Postgres believes to be in the streams and is not, is handed out again.
//!
//! For parcels whose promise to publish is older than the grace period: list the stream (waiting and unacknowledged entries
//! alike, but not those that the group was moved past), wait out one lease delay with margin, then ask Postgres which of the missing jobs are still available. An entry
//! leaves the stream only after its jobs are settled or leased, so the difference is exactly what was lost. Never filters
//! on "published": what was published and then lost with Redis is the case that matters.
//!
//! It also runs at once when the breaker closes, and when a reader meets a missing group or stream.
//! The grace is shorter after the incarnation key has changed: that key is gone after a FLUSHALL
//! and on an empty replica. A parcel of which nothing is left in the stream is deleted. An entry
//! that is pending with nobody, behind the group, is removed: nobody will ever read it.
//!
//! The order (list, wait, ask) is the point. Asking first would take a job for lost that was just
//! being claimed. The wait covers the first 200 ms of a job, in which its row still says available.
//! It is too short only if a stream is lost and, in the same moment, a job takes over a second to
//! be leased; the epoch still lets one outcome in. Grace and rest are measured on the clock of
//! Postgres alone. If that clock is set back, times that lie more than a minute ahead count as
//! past.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use millstream_common::{
    error::Outage,
    held::held,
    id::{JobId, new_job_id},
    job::Priority,
    limits::{PUBLISH_GRACE, PUBLISH_GRACE_AFTER_LOSS, RECONCILE_SETTLE},
    metrics::ReclaimReason,
    rehand::{Leases, Reason, rehand},
    stream::remedy::code,
};
use sqlx::Row;

use super::{
    Duty, Ran, Scope,
    pending::{Listing, listing},
};
use crate::{job::Ack, shared::Shared};

/// Parcels compared in one round.
const ROUND: i64 = 500;
/// Pause between runs: with nothing in doubt a run is one look into an index and one into Redis.
const EVERY: Duration = Duration::from_secs(1);
/// Every how many runs the streams are looked at although no parcel is in doubt.
const TIDY_EVERY: u32 = 12;

#[derive(Default)]
pub(super) struct Reconcile {
    /// As bytes: somebody may have written anything there.
    incarnation: Option<Vec<u8>>,
    runs: u32,
}

/// A parcel as reconcile sees it.
struct Doubtful {
    id: i64,
    queue: i32,
    priority: Priority,
    jobs: Vec<(JobId, i32)>,
}

impl Duty for Reconcile {
    const NAME: &'static str = "reconcile";
    const SCOPE: Scope = Scope::Leader;

    fn every(&self, _: &Shared) -> Duration {
        EVERY
    }

    async fn nudged(shared: &Shared) {
        shared.signals.reconcile_now.notified().await;
    }

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<Ran, Outage> {
        if shared.redis.is_down() {
            return Ok(Ran::Skipped);
        }
        let grace = if self.data_was_lost(shared).await? {
            PUBLISH_GRACE_AFTER_LOSS
        } else {
            PUBLISH_GRACE
        };
        self.runs = self.runs.wrapping_add(1);
        if self.runs.is_multiple_of(TIDY_EVERY) {
            remove_passed(shared).await?;
        }
        let mut after = 0;
        loop {
            let doubtful = fetch(shared, after, grace).await?;
            let Some(last) = doubtful.last() else {
                return Ok(Ran::Done);
            };
            after = last.id;
            let was_last = (doubtful.len() as i64) < ROUND;
            compare(shared, doubtful).await?;
            if was_last {
                // What has come to be in doubt meanwhile is for the next run: under load this one would never end, and a loss of
                // Redis, or an older parcel that was published late, would not be seen.
                return Ok(Ran::Done);
            }
        }
    }
}

impl Reconcile {
    /// Whether the streams are not the ones of the last look: the incarnation key is another one, or gone.
    async fn data_was_lost(&mut self, shared: &Shared) -> Result<bool, Outage> {
        let op = "reading the incarnation";
        let key = shared.redis.keys().incarnation();
        let mut conn = shared.redis.connection(op).await?;
        let mut pipe = redis::pipe();
        if !shared.redis.refuses_work() {
            pipe.cmd("SET")
                .arg(&key)
                .arg(new_job_id().to_string())
                .arg("NX")
                .ignore();
        }
        pipe.cmd("GET").arg(&key);
        let read: Result<(Option<Vec<u8>>,), Outage> =
            shared.redis.within(op, pipe.query_async(&mut conn)).await;
        let now = match read {
            // Gone, and there is no room for a new one: another word than before all the same.
            Ok((now,)) => now.unwrap_or_default(),
            // Somebody has made it into something else: it is not the word of the last look, whatever it is.
            Err(Outage::Redis { source, .. }) if code(&source).as_deref() == Some("WRONGTYPE") => {
                shared.redis.ask::<()>(op, &redis::Cmd::del(&key)).await?;
                Vec::new()
            }
            Err(outage) => return Err(outage),
        };
        let lost = self
            .incarnation
            .as_ref()
            .is_some_and(|before| *before != now);
        if lost {
            tracing::warn!(
                "Redis has lost its data: everything published is compared with Postgres"
            );
        }
        self.incarnation = Some(now);
        Ok(lost)
    }
}

/// Entries that were acknowledged and not deleted (Redis lost the end of its file, or a connection between the two commands) are
/// nobody's, and take up room in the window for ever. Should a job of theirs be open after all, its parcel is in doubt.
async fn remove_passed(shared: &Shared) -> Result<(), Outage> {
    for (_, queue) in shared.catalog.queues() {
        for priority in Priority::ALL {
            let stream: Arc<str> = shared.redis.keys().stream(&queue, priority).into();
            let passed = listing(&shared.redis, &stream).await?.skipped;
            passed
                .into_iter()
                .for_each(|id| drop(shared.work.acks.send((stream.clone(), id))));
        }
    }
    Ok(())
}

/// A promise made far ahead was made before the clock of Postgres was set back: it is old as well.
async fn fetch(shared: &Shared, after: i64, grace: Duration) -> Result<Vec<Doubtful>, Outage> {
    let query = sqlx::query(
        "SELECT id, queue_id, priority, ids, epochs FROM millstream.parcel
         WHERE (publishing_since < now() - $2 * interval '1 second' OR publishing_since > now() + interval '1 minute') AND id > $1 ORDER BY id LIMIT $3",
    )
    .bind(after)
    .bind(grace.as_secs_f64())
    .bind(ROUND);
    let rows = shared.pg.hot("listing doubtful parcels").all(query).await?;
    Ok(rows.iter().map(doubtful).collect())
}

fn doubtful(row: &sqlx::postgres::PgRow) -> Doubtful {
    let ids: Vec<JobId> = row.get("ids");
    let epochs: Option<Vec<i32>> = row.get("epochs");
    let epoch = |i: usize| epochs.as_ref().and_then(|e| e.get(i).copied()).unwrap_or(0);
    Doubtful {
        id: row.get("id"),
        queue: row.get("queue_id"),
        priority: Priority::from_number(row.get("priority")).unwrap_or_default(),
        // Also those before the cursor: what was moved on is listed by another parcel or not available any more.
        jobs: ids
            .into_iter()
            .enumerate()
            .map(|(i, id)| (id, epoch(i)))
            .collect(),
    }
}

async fn compare(shared: &Shared, doubtful: Vec<Doubtful>) -> Result<(), Outage> {
    let (present, skipped) = list_streams(shared, &doubtful).await?;
    tokio::time::sleep(RECONCILE_SETTLE).await;
    let missing: Vec<(JobId, i32)> = doubtful
        .iter()
        .flat_map(|p| p.jobs.iter().copied())
        .filter(|job| !present.contains(job))
        .collect();
    // Sabotage: nothing is ever missed.
    let (lost, held) = if missing.is_empty() || cfg!(feature = "sabotage-reconcile") {
        Default::default()
    } else {
        still_available(shared, &missing).await?
    };
    let mut lent = shared.pg.hot("reconciling").await?;
    if !lost.is_empty() {
        let jobs: Vec<_> = lost.iter().copied().collect();
        let rehand = rehand(&jobs, Reason::Lost, Leases::Spared, None);
        let again = lent.all(rehand).await?;
        tracing::info!(
            jobs = again.len(),
            "jobs missing from the streams were handed out again"
        );
        count(shared, &doubtful, &again);
    }
    // A parcel with nothing in the stream has nothing left: its lost jobs are in new parcels now. Of what is held nobody knows yet.
    let is_open = |job: &(JobId, i32)| present.contains(job) || held.contains(&job.0);
    let over: Vec<i64> = doubtful
        .iter()
        .filter(|p| !p.jobs.iter().any(is_open))
        .map(|p| p.id)
        .collect();
    let delete = sqlx::query(
        "DELETE FROM millstream.parcel WHERE id = ANY($1) AND publishing_since IS NOT NULL",
    );
    lent.execute(delete.bind(over)).await?;
    // Nobody will read them, and they take up the window: what they hinted at was missing, and is in new parcels now.
    skipped
        .into_iter()
        .for_each(|ack| drop(shared.work.acks.send(ack)));
    Ok(())
}

/// Jobs that the streams of these parcels still have a use for, and entries that they have none for.
async fn list_streams(
    shared: &Shared,
    doubtful: &[Doubtful],
) -> Result<(HashSet<(JobId, i32)>, Vec<Ack>), Outage> {
    let streams: HashSet<(i32, Priority)> =
        doubtful.iter().map(|p| (p.queue, p.priority)).collect();
    let (mut present, mut unread) = (HashSet::new(), Vec::new());
    for (queue, priority) in streams {
        if shared.catalog.queue_name(queue).is_none() {
            shared.catalog.refresh().await?;
        }
        if let Some(name) = shared.catalog.queue_name(queue) {
            let stream: Arc<str> = shared.redis.keys().stream(&name, priority).into();
            let Listing { jobs, skipped } = listing(&shared.redis, &stream).await?;
            present.extend(jobs);
            unread.extend(skipped.into_iter().map(|id| (stream.clone(), id)));
        }
    }
    Ok((present, unread))
}

/// Those that can be handed out, and those that somebody else's transaction holds.
async fn still_available(
    shared: &Shared,
    jobs: &[(JobId, i32)],
) -> Result<(HashSet<(JobId, i32)>, HashSet<JobId>), Outage> {
    let (ids, epochs): (Vec<JobId>, Vec<i32>) = jobs.iter().copied().unzip();
    let query = sqlx::query_as(
        "SELECT j.id, j.epoch FROM unnest($1::uuid[], $2::int[]) AS u(id, epoch) JOIN millstream.job j ON j.id = u.id AND j.epoch = u.epoch AND j.state = 0",
    )
    .bind(ids)
    .bind(epochs);
    let mut lent = shared.pg.hot("asking for missing jobs").await?;
    let mut open: HashSet<(JobId, i32)> = lent.all(query).await?.into_iter().collect();
    let held = held(open.iter().map(|(id, _)| *id));
    let held: HashSet<JobId> = lent.all(held).await?.into_iter().collect();
    open.retain(|(id, _)| !held.contains(id));
    Ok((open, held))
}

fn count(shared: &Shared, doubtful: &[Doubtful], again: &[JobId]) {
    let mut queues: HashMap<i32, u64> = HashMap::new();
    let of: HashMap<JobId, i32> = doubtful
        .iter()
        .flat_map(|p| p.jobs.iter().map(|(id, _)| (*id, p.queue)))
        .collect();
    again
        .iter()
        .filter_map(|id| of.get(id))
        .for_each(|queue| *queues.entry(*queue).or_default() += 1);
    for (queue, jobs) in queues {
        if let Some(name) = shared.catalog.queue_name(queue) {
            shared
                .metrics
                .queue(&name)
                .reclaimed(ReclaimReason::Reconcile, jobs);
        }
    }
}
