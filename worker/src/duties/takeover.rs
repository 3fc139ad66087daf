//! Takeover: entries that stay pending with the same owner were abandoned, since entries leave the pending list within 200 ms.
//!
//! Judged by looks on this observer's own monotonic clock; Redis' idle times follow a wall clock that can step. The jobs are
//! handed out again at a new epoch and the old entry is removed. It counts as a crash only if the owner's heart stood still meanwhile.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_common::{
    error::Outage,
    id::JobId,
    job::Priority,
    limits::TAKEOVER_AFTER,
    metrics::ReclaimReason,
    pg::within,
    rehand::{Reason, rehand},
};
use sqlx::Row;

use super::{
    Duty, Scope,
    pending::{Pending, entry, pending},
    rescue::{bury, note_crash},
};
use crate::{
    heartbeat::beat_interval,
    shared::{Shared, worker_of},
};

/// Pause between looks; two looks at least `TAKEOVER_AFTER` apart decide.
const EVERY: Duration = Duration::from_secs(2);

/// Beat counter and lease per worker.
type Beats = HashMap<i64, (i64, Duration)>;

/// A pending entry as it was first seen.
struct Sighting {
    consumer: String,
    deliveries: usize,
    beat: Option<i64>,
    since: Instant,
}

#[derive(Default)]
pub(super) struct Takeover {
    seen: HashMap<(String, String), Sighting>,
}

impl Duty for Takeover {
    const NAME: &'static str = "takeover";
    const SCOPE: Scope = Scope::Leader;

    fn every(&self, _: &Shared) -> Duration {
        EVERY
    }

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<(), Outage> {
        if shared.redis.is_down() {
            self.seen.clear();
            return Ok(());
        }
        let beats = beats(shared).await?;
        shared.catalog.refresh().await?;
        let mut still = HashMap::new();
        for (_, queue) in shared.catalog.queues() {
            for priority in Priority::ALL {
                let stream = shared.redis.keys().stream(&queue, priority);
                for item in pending(&shared.redis, &stream).await? {
                    let key = (stream.clone(), item.id.clone());
                    let sighting = self.sight(&key, &item, &beats);
                    if sighting.since.elapsed() < TAKEOVER_AFTER {
                        still.insert(key, sighting);
                        continue;
                    }
                    take_over(shared, &queue, &stream, &item, heart_stood_still(&sighting, &item, &beats)).await?;
                }
            }
        }
        // What is no longer pending is forgotten with the old map.
        self.seen = still;
        Ok(())
    }
}

impl Takeover {
    /// The earlier sighting of the same hand-out, or this one.
    fn sight(&mut self, key: &(String, String), item: &Pending, beats: &Beats) -> Sighting {
        let earlier = self.seen.remove(key).filter(|s| s.consumer == item.consumer && s.deliveries == item.deliveries);
        earlier.unwrap_or_else(|| Sighting {
            consumer: item.consumer.clone(),
            deliveries: item.deliveries,
            beat: beat_of(item, beats),
            since: Instant::now(),
        })
    }
}

fn beat_of(item: &Pending, beats: &Beats) -> Option<i64> {
    beats.get(&worker_of(&item.consumer)?).map(|(beat, _)| *beat)
}

/// Whether the owner has died since the entry was first seen. A live worker has beaten at least once in two of its intervals; with a
/// long lease that is not known yet, and then nobody is blamed.
fn heart_stood_still(sighting: &Sighting, item: &Pending, beats: &Beats) -> bool {
    let lease = worker_of(&item.consumer).and_then(|id| beats.get(&id)).map_or(Duration::ZERO, |(_, lease)| *lease);
    sighting.beat == beat_of(item, beats) && sighting.since.elapsed() > beat_interval(lease) * 2
}

async fn beats(shared: &Shared) -> Result<Beats, Outage> {
    let op = "looking at beats";
    let mut lent = shared.pg.main(op).await?;
    let rows = within(
        op,
        sqlx::query("SELECT b.worker_id, b.beat, w.lease_ms FROM millstream.worker_beat b JOIN millstream.worker w ON w.id = b.worker_id")
            .fetch_all(lent.conn()),
    )
    .await?;
    lent.done();
    Ok(rows.iter().map(|row| (row.get(0), (row.get(1), Duration::from_millis(row.get::<i64, _>(2).unsigned_abs())))).collect())
}

async fn take_over(shared: &Arc<Shared>, queue: &str, stream: &str, item: &Pending, heart_stood_still: bool) -> Result<(), Outage> {
    let jobs = match entry(&shared.redis, stream, &item.id).await? {
        Some(Some(hint)) => hint.jobs,
        // Trimmed or garbage: nothing to hand out, reconcile has the jobs.
        _ => Vec::new(),
    };
    if !jobs.is_empty() {
        hand_out(shared, queue, &jobs, item, heart_stood_still).await?;
    }
    drop(shared.acks.send((stream.into(), item.id.clone())));
    Ok(())
}

async fn hand_out(shared: &Arc<Shared>, queue: &str, jobs: &[(JobId, i32)], item: &Pending, crashed: bool) -> Result<(), Outage> {
    let op = "taking entries over";
    let mut lent = shared.pg.main(op).await?;
    // Only what is still available: leased jobs have a worker that answers for them.
    let (ids, epochs): (Vec<JobId>, Vec<i32>) = jobs.iter().copied().unzip();
    let query = sqlx::query(
        "SELECT j.id, j.epoch FROM unnest($1::uuid[], $2::int[]) AS u(id, epoch) JOIN millstream.job j ON j.id = u.id AND j.epoch = u.epoch AND j.state = 0",
    );
    let rows = within(op, query.bind(ids).bind(epochs).fetch_all(lent.conn())).await?;
    let open: Vec<(JobId, i32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    if crashed {
        let worker = worker_of(&item.consumer).unwrap_or(0);
        within(op, note_crash(lent.conn(), &open, worker, &format!("worker {worker} died within 200 ms of taking this job"))).await?;
    }
    let reason = if crashed { Reason::Crash } else { Reason::Lost };
    let again = within(op, rehand(lent.conn(), &open, reason, None)).await?;
    if crashed {
        let rest: Vec<_> = open.iter().filter(|(id, _)| !again.contains(id)).copied().collect();
        bury(shared, lent.conn(), &rest).await?;
    }
    lent.done();
    shared.metrics.queue(queue).reclaimed(ReclaimReason::Takeover, again.len() as u64);
    tracing::info!(entry = item.id, owner = item.consumer, jobs = again.len(), crashed, "an abandoned entry was taken over");
    Ok(())
}
