//! Rescue: the leases of a dead worker are handed out again (F16, F15).
//!
//! A worker is dead when its beat counter has not moved for most of a lease of successful looks on this observer's own
//! monotonic clock; no wall clock of anyone decides. After an outage of Postgres the count starts anew for everybody, and then
//! only a whole lease of good looks counts, so nobody is rescued because the database was away. Every worker observes, so
//! that the death of the leader changes nothing.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_common::{
    error::Outage,
    id::JobId,
    metrics::ReclaimReason,
    pg::within,
    rehand::{Reason, rehand},
};
use sqlx::{PgConnection, Row};

use super::{Duty, Scope};
use crate::{
    heartbeat::death_silence,
    settle::dead_stream::{Notice, announce},
    shared::Shared,
};

/// Leases handed out in one go.
const BATCH: i64 = 500;
/// A gap between two looks longer than this share of a lease is a gap in the evidence.
const GAP_SHARE: u32 = 6;

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

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<(), Outage> {
        let op = "looking at beats";
        let looked = async {
            let mut lent = shared.pg.main(op).await?;
            let beats = within(op, beats(lent.conn())).await?;
            lent.done();
            Ok(beats)
        };
        let beats = match looked.await {
            Ok(beats) => beats,
            Err(outage) => {
                self.forget_everything(shared.lease);
                return Err(outage);
            }
        };
        if self.last_look.is_some_and(|at| at.elapsed() > shared.lease / GAP_SHARE) {
            self.forget_everything(shared.lease);
        }
        self.last_look = Some(Instant::now());
        for worker in self.dead(&beats) {
            rescue(shared, worker).await?;
        }
        Ok(())
    }
}

impl Rescue {
    fn forget_everything(&mut self, lease: Duration) {
        self.seen.clear();
        self.wary_until = Some(Instant::now() + lease * 2);
    }

    /// Notes the beats and returns the workers that have been silent too long.
    fn dead(&mut self, beats: &[Beat]) -> Vec<i64> {
        let now = Instant::now();
        let wary = self.wary_until.is_some_and(|until| now < until);
        self.seen.retain(|worker, _| beats.iter().any(|b| b.worker == *worker));
        let mut dead = Vec::new();
        for Beat { worker, count, lease } in beats {
            let silence_max = if wary { *lease } else { death_silence(*lease) };
            let (seen, since) = self.seen.entry(*worker).or_insert((*count, now));
            if seen != count {
                (*seen, *since) = (*count, now);
            } else if now.duration_since(*since) > silence_max {
                dead.push(*worker);
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

async fn beats(conn: &mut PgConnection) -> Result<Vec<Beat>, sqlx::Error> {
    // Also workers that ended with leases left (a crash during the last steps of a shutdown): their beat stands still for good.
    let rows = sqlx::query(
        "SELECT w.id, b.beat, w.lease_ms FROM millstream.worker w JOIN millstream.worker_beat b ON b.worker_id = w.id
         WHERE w.state IN ('active', 'paused', 'draining') OR EXISTS (SELECT 1 FROM millstream.lease l WHERE l.worker_id = w.id)",
    )
    .fetch_all(conn)
    .await?;
    let beat = |row: &sqlx::postgres::PgRow| Beat {
        worker: row.get(0),
        count: row.get(1),
        lease: Duration::from_millis(row.get::<i64, _>(2).unsigned_abs()),
    };
    Ok(rows.iter().map(beat).collect())
}

/// Hands out what the dead worker had and marks it lost.
async fn rescue(shared: &Arc<Shared>, worker: i64) -> Result<(), Outage> {
    let op = "rescuing";
    let mut total = 0;
    loop {
        let mut lent = shared.pg.main(op).await?;
        let leases = within(op, leases(lent.conn(), worker)).await?;
        if leases.is_empty() {
            let update = sqlx::query(
                "UPDATE millstream.worker SET state = 'lost', ended_at = now() WHERE id = $1 AND state IN ('active', 'paused', 'draining')",
            )
            .bind(worker);
            within(op, update.execute(lent.conn())).await?;
            lent.done();
            break;
        }
        total += leases.len();
        let jobs: Vec<(JobId, i32)> = leases.iter().map(|(id, epoch, _)| (*id, *epoch)).collect();
        let message = format!("worker {worker} died while it had this job");
        within(op, note_crash(lent.conn(), &jobs, worker, &message)).await?;
        let again = within(op, rehand(lent.conn(), &jobs, Reason::Crash, None)).await?;
        let rest: Vec<_> = jobs.iter().filter(|(id, _)| !again.contains(id)).copied().collect();
        bury(shared, lent.conn(), &rest).await?;
        lent.done();
        for (_, _, queue) in leases {
            shared.metrics.queue(&queue).reclaimed(ReclaimReason::Rescue, 1);
        }
    }
    tracing::warn!(worker, jobs = total, "a worker's heart has stopped; its jobs were handed out again");
    Ok(())
}

async fn leases(conn: &mut PgConnection, worker: i64) -> Result<Vec<(JobId, i32, String)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT l.job_id, l.epoch, COALESCE(q.name::text, 'default') FROM millstream.lease l LEFT JOIN millstream.job j ON j.id = l.job_id LEFT JOIN millstream.queue q ON q.id = j.queue_id
         WHERE l.worker_id = $1 LIMIT $2",
    )
    .bind(worker)
    .bind(BATCH)
    .fetch_all(conn)
    .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
}

/// The crash goes into the job's error history before the job is handed out: whatever happens next, it is told once.
pub(super) async fn note_crash(conn: &mut PgConnection, jobs: &[(JobId, i32)], worker: i64, message: &str) -> Result<(), sqlx::Error> {
    let (ids, epochs): (Vec<JobId>, Vec<i32>) = jobs.iter().copied().unzip();
    sqlx::query(
        "INSERT INTO millstream.job_error (job_id, epoch, attempt, class, worker_id, message)
         SELECT j.id, j.epoch, j.attempt, 'crash', $3, $4 FROM unnest($1::uuid[], $2::int[]) AS u(id, epoch)
         JOIN millstream.job j ON j.id = u.id AND j.epoch = u.epoch AND j.state IN (0, 1) ON CONFLICT DO NOTHING",
    )
    .bind(ids)
    .bind(epochs)
    .bind(worker)
    .bind(message)
    .execute(conn)
    .await?;
    Ok(())
}

/// Jobs that were not handed out again have crashed too many workers, or belong to somebody else by now: the first are buried,
/// leases of the others are removed.
pub(super) async fn bury(shared: &Shared, conn: &mut PgConnection, jobs: &[(JobId, i32)]) -> Result<(), Outage> {
    if jobs.is_empty() {
        return Ok(());
    }
    let op = "burying jobs that kill workers";
    let (ids, epochs): (Vec<JobId>, Vec<i32>) = jobs.iter().copied().unzip();
    let error = "its worker died three times while running it";
    let buried: Vec<JobId> = within(
        op,
        sqlx::query_scalar("SELECT * FROM millstream.bury($1, $2, 'crash', $3)").bind(&ids).bind(&epochs).bind(error).fetch_all(&mut *conn),
    )
    .await?;
    let delete = sqlx::query(
        "DELETE FROM millstream.lease l USING unnest($1::uuid[], $2::int[]) AS u(id, epoch) WHERE l.job_id = u.id AND l.epoch = u.epoch",
    );
    within(op, delete.bind(&ids).bind(&epochs).execute(&mut *conn)).await?;
    let rows = sqlx::query("SELECT id::text, queue, kind FROM millstream.job_view WHERE id = ANY($1)").bind(buried);
    let rows = within(op, rows.fetch_all(conn)).await?;
    let notices =
        rows.iter().map(|row| Notice { job: row.get(0), queue: row.get(1), kind: row.get(2), reason: "crash".into(), error: error.into() });
    announce(shared, notices).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    fn beat(worker: i64, count: i64) -> Beat {
        Beat { worker, count, lease: LEASE }
    }

    #[test]
    fn a_worker_is_dead_only_after_the_silence_was_observed() {
        // F16
        let mut rescue = Rescue::default();
        assert!(rescue.dead(&[beat(1, 5), beat(2, 5)]).is_empty());
        let long_ago = Instant::now().checked_sub(LEASE).unwrap_or_else(Instant::now);
        rescue.seen.insert(1, (5, long_ago));
        rescue.seen.insert(2, (4, long_ago));
        assert_eq!(rescue.dead(&[beat(1, 5), beat(2, 5)]), [1], "worker 2 has beaten since");
    }

    #[test]
    fn after_an_outage_the_count_starts_anew_and_wants_a_whole_lease() {
        let mut rescue = Rescue::default();
        let almost = Instant::now().checked_sub(death_silence(LEASE) + Duration::from_secs(1)).unwrap_or_else(Instant::now);
        rescue.seen.insert(1, (5, almost));
        rescue.forget_everything(LEASE);
        assert!(rescue.dead(&[beat(1, 5)]).is_empty());
        rescue.seen.insert(1, (5, almost));
        assert!(rescue.dead(&[beat(1, 5)]).is_empty());
    }
}
