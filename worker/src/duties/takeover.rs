//! Takeover: entries that stay pending with the same owner were abandoned, since entries leave the pending list within 200 ms.
//!
//! Judged by looks on this observer's own monotonic clock; Redis' idle times follow a wall clock that can step. What is pending with a
//! worker that `rescue` has declared dead is taken over at once. The jobs are handed out again at a new epoch and the
//! old entry is removed. It counts as a crash only if the owner was declared dead.
//!
//! While the owner's beat stands still nothing is taken: only rescue can tell a death from a pause
//! shorter than the lease. A lost acknowledgement costs the job nothing.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_common::{
    error::Outage,
    held::held,
    id::JobId,
    job::Priority,
    limits::TAKEOVER_AFTER,
    metrics::ReclaimReason,
    pg::Tx,
    rehand::{Leases, Reason, rehand},
};
use sqlx::Row;

use super::{
    Duty, Ran, Scope,
    crash::{counts, is_still_silent, note_crash},
    pending::{Pending, between, pending},
};
use crate::shared::{Shared, worker_of};

/// A pause between two looks longer than this is a gap in the evidence.
const GAP_MAX: Duration = Duration::from_secs(10);
/// Entries handed out in one transaction.
const ENTRIES_MAX: usize = 100;
/// Pause between looks; two looks at least `TAKEOVER_AFTER` apart decide.
const EVERY: Duration = Duration::from_secs(2);

/// What is known of a worker.
struct Owner {
    beat: i64,
    /// It ended in order.
    stopped: bool,
    /// Declared dead: whatever is pending with it was abandoned.
    lost: bool,
}

type Owners = HashMap<i64, Owner>;

/// A pending entry as it was first seen.
struct Sighting {
    consumer: String,
    deliveries: usize,
    beat: Option<i64>,
    since: Instant,
}

/// A pending entry that its owner will not settle any more.
struct Abandoned {
    item: Pending,
    owner: Option<i64>,
    /// The owner has died, at this beat.
    died_at: Option<i64>,
}

#[derive(Default)]
pub(super) struct Takeover {
    seen: HashMap<(String, String), Sighting>,
    last_look: Option<Instant>,
}

impl Duty for Takeover {
    const NAME: &'static str = "takeover";
    const SCOPE: Scope = Scope::Leader;

    fn every(&self, _: &Shared) -> Duration {
        EVERY
    }

    async fn nudged(shared: &Shared) {
        shared.signals.takeover_now.notified().await;
    }

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<Ran, Outage> {
        // Taken out: a look that fails, or comes late, has forgotten everything, and nobody is judged by what was seen before an outage.
        let mut seen = std::mem::take(&mut self.seen);
        if self
            .last_look
            .replace(Instant::now())
            .is_some_and(|at| at.elapsed() > GAP_MAX)
        {
            seen.clear();
        }
        // Without beats of its own this worker cannot tell who could have settled or leased.
        if shared.redis.is_down() || !shared.contact.is_up() {
            return Ok(Ran::Skipped);
        }
        let owners = owners(shared).await?;
        shared.catalog.refresh().await?;
        let mut still = HashMap::new();
        for (_, queue) in shared.catalog.queues() {
            for priority in Priority::ALL {
                let stream = shared.redis.keys().stream(&queue, priority);
                let mut abandoned = Vec::new();
                for item in pending(&shared.redis, &stream).await? {
                    let key = (stream.clone(), item.id.clone());
                    let sighting = sight(&mut seen, &key, &item, &owners);
                    let owner = owner(&item, &owners);
                    match sighting.crashed(owner) {
                        Some(crashed) => abandoned.push(Abandoned {
                            owner: worker_of(&item.consumer),
                            died_at: owner.filter(|_| crashed).map(|o| o.beat),
                            item,
                        }),
                        None => drop(still.insert(key, sighting)),
                    }
                }
                take_over(shared, &queue, &stream, &abandoned).await?;
            }
        }
        // What is no longer pending is forgotten with the old map.
        self.seen = still;
        Ok(Ran::Done)
    }
}

/// The earlier sighting of the same hand-out, or this one.
fn sight(
    seen: &mut HashMap<(String, String), Sighting>,
    key: &(String, String),
    item: &Pending,
    owners: &Owners,
) -> Sighting {
    let earlier = seen
        .remove(key)
        .filter(|s| s.consumer == item.consumer && s.deliveries == item.deliveries);
    earlier.unwrap_or_else(|| Sighting {
        consumer: item.consumer.clone(),
        deliveries: item.deliveries,
        beat: owner(item, owners).map(|o| o.beat),
        since: Instant::now(),
    })
}

impl Sighting {
    /// `Some`: abandoned, and whether its owner has died. `None`: too early to say. While the owner's beat stands still only rescue can
    /// tell a death from a pause that is shorter than its lease.
    fn crashed(&self, owner: Option<&Owner>) -> Option<bool> {
        let old = self.since.elapsed() >= TAKEOVER_AFTER;
        match owner {
            Some(owner) if owner.lost => Some(true),
            Some(owner) if !owner.stopped && self.beat == Some(owner.beat) => None,
            // Nobody we know, one that has ended in order, or one that lives and has forgotten the entry.
            _ => old.then_some(false),
        }
    }
}

fn owner<'a>(item: &Pending, owners: &'a Owners) -> Option<&'a Owner> {
    owners.get(&worker_of(&item.consumer)?)
}

async fn owners(shared: &Shared) -> Result<Owners, Outage> {
    let query = sqlx::query(
        "SELECT b.worker_id, b.beat, w.state = 'stopped', w.state = 'lost' FROM millstream.worker_beat b JOIN millstream.worker w ON w.id = b.worker_id",
    );
    let rows = shared.pg.hot("looking at beats").all(query).await?;
    let owner = |row: &sqlx::postgres::PgRow| {
        (
            row.get(0),
            Owner {
                beat: row.get(1),
                stopped: row.get(2),
                lost: row.get(3),
            },
        )
    };
    Ok(rows.iter().map(owner).collect())
}

/// Hands out what the entries hint at, owner by owner, and removes them.
async fn take_over(
    shared: &Arc<Shared>,
    queue: &str,
    stream: &str,
    abandoned: &[Abandoned],
) -> Result<(), Outage> {
    let (Some(first), Some(last)) = (abandoned.first(), abandoned.last()) else {
        return Ok(());
    };
    let found = between(&shared.redis, stream, &first.item.id, &last.item.id).await?;
    let mut hints: HashMap<String, _> = found
        .into_iter()
        .map(|entry| (entry.id, entry.hint))
        .collect();
    for of_one in
        abandoned.chunk_by(|a, b| (&a.item.consumer, a.died_at) == (&b.item.consumer, b.died_at))
    {
        for batch in of_one.chunks(ENTRIES_MAX) {
            // Trimmed or garbage: nothing to hand out, reconcile has the jobs.
            let mut entries: Vec<(&str, Vec<(JobId, i32)>)> = Vec::new();
            for a in batch {
                let jobs = hints
                    .remove(&a.item.id)
                    .flatten()
                    .map_or_else(Vec::new, |hint| hint.jobs);
                entries.push((&a.item.id, jobs));
            }
            // An entry with a job that somebody else's transaction holds stays pending until a later look.
            let listed = entries.iter().flat_map(|(_, jobs)| jobs);
            let held = held(listed.map(|(id, _)| *id));
            let held = shared.pg.hot("asking for held rows").all(held).await?;
            entries.retain(|(_, jobs)| !jobs.iter().any(|(id, _)| held.contains(id)));
            let mut jobs: Vec<_> = entries
                .iter()
                .flat_map(|(_, jobs)| jobs.iter().copied())
                .collect();
            jobs.sort_unstable();
            jobs.dedup();
            if !jobs.is_empty() && !hand_out(shared, queue, &jobs, &batch[0]).await? {
                // The owner beats again: its entries are its own until the next look.
                continue;
            }
            entries
                .iter()
                .for_each(|(id, _)| drop(shared.work.acks.send((stream.into(), (*id).to_owned()))));
        }
    }
    Ok(())
}

/// Hands out what is still available of the jobs; false: the owner lives after all.
async fn hand_out(
    shared: &Arc<Shared>,
    queue: &str,
    jobs: &[(JobId, i32)],
    of: &Abandoned,
) -> Result<bool, Outage> {
    let mut lent = shared.pg.hot("taking entries over").await?;
    let mut tx = lent.begin().await?;
    let mut dead_worker = None;
    if let (Some(worker), Some(beat)) = (of.owner, of.died_at) {
        if !is_still_silent(&mut tx, worker, beat).await? {
            tx.rollback().await?;
            return Ok(false);
        }
        dead_worker = Some(worker);
    }
    let open = available(&mut tx, jobs).await?;
    // Nobody is buried here: from its first crash on a job has a lease before it starts.
    let (counted, free): (Vec<_>, Vec<_>) = open
        .into_iter()
        .partition(|(_, crashes)| dead_worker.is_some() && counts(*crashes, false));
    let ids = |jobs: Vec<((JobId, i32), i16)>| -> Vec<_> {
        jobs.into_iter().map(|(job, _)| job).collect()
    };
    let (counted, free) = (ids(counted), ids(free));
    if let Some(worker) = dead_worker {
        let message = format!("worker {worker} died within 200 ms of taking this job");
        let all = [&counted[..], &free[..]].concat();
        note_crash(&mut tx, &all, worker, &message).await?;
    }
    let mut again = 0;
    for (reason, jobs) in [(Reason::Crash, counted), (Reason::Lost, free)] {
        let rehand = rehand(&jobs, reason, Leases::Spared, None);
        again += tx.all(rehand).await?.len();
    }
    tx.commit().await?;
    shared
        .metrics
        .queue(queue)
        .reclaimed(ReclaimReason::Takeover, again as u64);
    tracing::info!(
        owner = of.item.consumer,
        jobs = again,
        crashed = dead_worker.is_some(),
        "abandoned entries were taken over"
    );
    Ok(true)
}

/// Those that nobody has leased or finished, with their crashes: leased jobs have a worker that answers for them. They are locked, in the order
/// in which all lock who change several jobs.
async fn available(
    tx: &mut Tx<'_>,
    jobs: &[(JobId, i32)],
) -> Result<Vec<((JobId, i32), i16)>, Outage> {
    let (ids, epochs): (Vec<JobId>, Vec<i32>) = jobs.iter().copied().unzip();
    let query = sqlx::query(
        "SELECT j.id, j.epoch, j.crash_count FROM unnest($1::uuid[], $2::int[]) AS u(id, epoch)
         JOIN millstream.job j ON j.id = u.id AND j.epoch = u.epoch AND j.state = 0 ORDER BY j.id FOR NO KEY UPDATE OF j",
    );
    let rows = tx.all(query.bind(ids).bind(epochs)).await?;
    Ok(rows
        .iter()
        .map(|row| ((row.get(0), row.get(1)), row.get(2)))
        .collect())
}
