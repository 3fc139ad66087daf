//! Rescue: the leases of a dead worker are handed out again (F16, F15).
//!
//! A worker is dead when its beat counter has not moved for most of a lease of successful looks on this observer's own
//! monotonic clock; no wall clock of anyone decides. After an outage of Postgres the count starts anew for everybody, and then
//! only a whole lease of good looks counts, so nobody is rescued because the database was away. A look is good while this worker's own
//! beats get through: a database that is read and takes no writes silences everybody. Every worker observes, so that the death of the
//! leader changes nothing.
//!
//! The silence is 0.8 of the lease that stands in the dead worker's own row, so a fleet may mix
//! leases. The beat is read again, and locked, in the transaction that re-hands; a worker that
//! wakes up in between keeps what it has. The crash is written into the error history first. A
//! worker that was only frozen finds its leases gone at its next beat and goes on.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_common::{
    error::Outage, held::held, metrics::ReclaimReason, pg::Tx, seldom::Seldom,
};
use sqlx::Row;

use super::{
    Duty, Ran, Scope,
    crash::{Left, hand_out, is_still_silent},
};
use crate::{
    heartbeat::death_silence,
    settle::dead_stream::{Notice, announce},
    shared::Shared,
};

static LINES: Seldom = Seldom::new();

/// Leases handed out in one go.
const BATCH: i64 = 500;
/// A gap between two looks longer than this share of a lease is a gap in the evidence,
const GAP_SHARE: u32 = 6;
/// but with a short lease a slow answer is none,
const GAP_MIN: Duration = Duration::from_secs(1);
/// unless it takes up this share.
const GAP_SHARE_MAX: u32 = 2;

#[derive(Default)]
pub(super) struct Rescue {
    seen: HashMap<i64, (i64, Instant)>,
    last_look: Option<Instant>,
    /// Until then only a whole lease of silence counts: the looks have been interrupted.
    wary_until: Option<Instant>,
}

impl Duty for Rescue {
    const NAME: &'static str = "rescue";
    const SCOPE: Scope = Scope::Everywhere;

    fn every(&self, shared: &Shared) -> Duration {
        (shared.lease / 30).clamp(Duration::from_millis(100), Duration::from_secs(1))
    }

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<Ran, Outage> {
        if !shared.contact.is_up() {
            // A look is a read and a beat a write: where this worker's own beat does not get through, the silence of others says nothing.
            self.forget_everything(shared.lease);
            return Ok(Ran::Skipped);
        }
        let beats = match beats(shared).await {
            Ok(beats) => beats,
            Err(outage) => {
                self.forget_everything(shared.lease);
                return Err(outage);
            }
        };
        if self
            .last_look
            .is_some_and(|at| at.elapsed() > gap_max(shared.lease))
        {
            self.forget_everything(shared.lease);
        }
        self.last_look = Some(Instant::now());
        let mut failed = None;
        for (worker, beat) in self.dead(&beats) {
            // One that cannot be rescued is in nobody's way.
            match rescue(shared, worker, beat).await {
                Err(outage) if outage.is_server_down() => return Err(outage),
                Err(outage) => failed = Some(outage),
                Ok(()) => {}
            }
        }
        failed.map_or(Ok(Ran::Done), Err)
    }
}

fn gap_max(lease: Duration) -> Duration {
    (lease / GAP_SHARE).max(GAP_MIN.min(lease / GAP_SHARE_MAX))
}

impl Rescue {
    fn forget_everything(&mut self, lease: Duration) {
        self.seen.clear();
        self.wary_until = Some(Instant::now() + lease * 2);
    }

    /// Notes the beats and returns the workers that have been silent too long, with their last beats.
    fn dead(&mut self, beats: &[Beat]) -> Vec<(i64, i64)> {
        let now = Instant::now();
        let wary = self.wary_until.is_some_and(|until| now < until);
        self.seen
            .retain(|worker, _| beats.iter().any(|b| b.worker == *worker));
        let mut dead = Vec::new();
        for Beat {
            worker,
            count,
            lease,
        } in beats
        {
            let silence_max = if wary { *lease } else { death_silence(*lease) };
            let (seen, since) = self.seen.entry(*worker).or_insert((*count, now));
            if seen != count {
                (*seen, *since) = (*count, now);
            } else if now.duration_since(*since) > silence_max {
                dead.push((*worker, *count));
            }
        }
        dead
    }
}

/// A worker's counter, and the lease by which it is judged.
#[derive(Debug, Clone, Copy)]
struct Beat {
    worker: i64,
    count: i64,
    lease: Duration,
}

async fn beats(shared: &Shared) -> Result<Vec<Beat>, Outage> {
    // Also workers that ended with leases left (a crash during the last steps of a shutdown): their beat stands still for good.
    let query = sqlx::query(
        "SELECT w.id, b.beat, w.lease_ms FROM millstream.worker w JOIN millstream.worker_beat b ON b.worker_id = w.id
         WHERE w.state IN ('active', 'paused', 'draining') OR EXISTS (SELECT 1 FROM millstream.lease l WHERE l.worker_id = w.id)",
    );
    let rows = shared.pg.hot("looking at beats").all(query).await?;
    let beat = |row: &sqlx::postgres::PgRow| Beat {
        worker: row.get(0),
        count: row.get(1),
        lease: Duration::from_millis(row.get::<i64, _>(2).unsigned_abs()),
    };
    Ok(rows.iter().map(beat).collect())
}

/// Hands out what the dead worker had and marks it lost.
async fn rescue(shared: &Arc<Shared>, worker: i64, beat: i64) -> Result<(), Outage> {
    let mut total = 0;
    loop {
        let mut lent = shared.pg.hot("rescuing").await?;
        let mut tx = lent.begin().await?;
        if !is_still_silent(&mut tx, worker, beat).await? {
            // It was only slow, or frozen: it beats again.
            return tx.rollback().await;
        }
        let (left, held) = free_of(&mut tx, worker).await?;
        if left.is_empty() && held > 0 {
            tx.rollback().await?;
            say_held(worker, total, held);
            return Ok(());
        }
        let notices = hand_out_or_end(&mut tx, worker, &left).await?;
        tx.commit().await?;
        announce(shared, notices.into_iter()).await;
        if left.is_empty() {
            break;
        }
        total += left.len();
        for job in left {
            shared
                .metrics
                .queue(&job.queue)
                .reclaimed(ReclaimReason::Rescue, 1);
        }
    }
    shared.signals.takeover_now.notify_one();
    tracing::warn!(
        worker,
        jobs = total,
        "a worker's heart has stopped; its jobs were handed out again"
    );
    Ok(())
}

/// Hands out what the worker left; a worker that left nothing is marked as lost.
async fn hand_out_or_end(
    tx: &mut Tx<'_>,
    worker: i64,
    left: &[Left],
) -> Result<Vec<Notice>, Outage> {
    if left.is_empty() {
        let lost = sqlx::query(
            "UPDATE millstream.worker SET state = 'lost', ended_at = now() WHERE id = $1 AND state IN ('active', 'paused', 'draining')",
        );
        tx.execute(lost.bind(worker)).await?;
        return Ok(Vec::new());
    }
    hand_out(tx, worker, left).await
}

/// The worker is not marked as lost: the next look finds the rest of its leases.
fn say_held(worker: i64, total: usize, held: usize) {
    if let Some(kept_back) = LINES.may_speak() {
        tracing::warn!(
            kept_back,
            worker,
            handed_out = total,
            held,
            "jobs of a dead worker wait: an open transaction holds their rows"
        );
    }
}

/// What it left, and how many more jobs it left whose rows somebody else's transaction holds.
async fn free_of(tx: &mut Tx<'_>, worker: i64) -> Result<(Vec<Left>, usize), Outage> {
    let mut left = left_by(tx, worker).await?;
    let held = tx.all(held(left.iter().map(|left| left.job.0))).await?;
    left.retain(|left| !held.contains(&left.job.0));
    Ok((left, held.len()))
}

async fn left_by(tx: &mut Tx<'_>, worker: i64) -> Result<Vec<Left>, Outage> {
    let query = sqlx::query(
        "SELECT l.job_id, l.epoch, COALESCE(q.name::text, 'default'), COALESCE(j.crash_count, 0::smallint), l.started
         FROM millstream.lease l LEFT JOIN millstream.job j ON j.id = l.job_id LEFT JOIN millstream.queue q ON q.id = j.queue_id
         WHERE l.worker_id = $1 LIMIT $2",
    )
    .bind(worker)
    .bind(BATCH);
    let rows = tx.all(query).await?;
    let left = |row: &sqlx::postgres::PgRow| Left {
        job: (row.get(0), row.get(1)),
        queue: row.get(2),
        crashes: row.get(3),
        started: row.get(4),
    };
    Ok(rows.iter().map(left).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    fn beat(worker: i64, count: i64) -> Beat {
        Beat {
            worker,
            count,
            lease: LEASE,
        }
    }

    #[test]
    fn a_worker_is_dead_only_after_the_silence_was_observed() {
        // F16
        let mut rescue = Rescue::default();
        assert!(rescue.dead(&[beat(1, 5), beat(2, 5)]).is_empty());
        let long_ago = Instant::now()
            .checked_sub(LEASE)
            .unwrap_or_else(Instant::now);
        rescue.seen.insert(1, (5, long_ago));
        rescue.seen.insert(2, (4, long_ago));
        assert_eq!(
            rescue.dead(&[beat(1, 5), beat(2, 5)]),
            [(1, 5)],
            "worker 2 has beaten since"
        );
    }

    #[test]
    fn after_an_outage_the_count_starts_anew_and_wants_a_whole_lease() {
        let mut rescue = Rescue::default();
        let almost = Instant::now()
            .checked_sub(death_silence(LEASE) + Duration::from_secs(1))
            .unwrap_or_else(Instant::now);
        rescue.seen.insert(1, (5, almost));
        rescue.forget_everything(LEASE);
        assert!(rescue.dead(&[beat(1, 5)]).is_empty());
        rescue.seen.insert(1, (5, almost));
        assert!(rescue.dead(&[beat(1, 5)]).is_empty());
    }
}
