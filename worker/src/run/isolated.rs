//! A suspect, a job that was in hand at two crashes, runs alone (F15).
//!
//! Its worker closes for new jobs, waits a moment for the others to end, and says in the lease that the suspect is by itself.
//! Only a crash with that mark can bury a job (`duties::crash`), so an innocent neighbour of a crash never is. One suspect at a time in the
//! fleet: two that crash together could not be told from a power cut.

use std::{sync::Arc, time::Duration};

use millstream_common::{
    error::{Outage, in_full},
    limits::READ_BLOCK,
    pg::within,
};
use sqlx::Connection;
use tokio::time::Instant;

use super::{forget, give_back};
use crate::{claim::Claimed, shared::Shared};

/// After closing, a read that was under way may still bring jobs: they are waited for as well.
const LAST_READ_MAX: Duration = Duration::from_millis(READ_BLOCK.as_millis() as u64 + 500);
/// How long jobs that run already are waited for. Those that remain have shown that they do not crash at once.
const NEIGHBOURS_MAX: Duration = Duration::from_secs(5);
/// How often the neighbours are counted.
const LOOK: Duration = Duration::from_millis(50);
/// A suspect that has run alone this long shares its worker again, and is still the first to be asked.
const ALONE_MAX: Duration = Duration::from_mins(1);
/// No suspect keeps the others waiting longer than this.
const TURN_MAX: Duration = ALONE_MAX;
/// How long a suspect rests when it is not its turn.
const NOT_NOW: Duration = Duration::from_secs(2);

/// Runs the suspect when it is alone, or gives it back for later.
pub(super) async fn run(shared: Arc<Shared>, job: Claimed) {
    let Some(closed) = shared.capacity.close() else {
        return give_back(&shared, job, Some(NOT_NOW)).await;
    };
    tokio::select! {
        biased;
        () = job.hold.cancel.cancelled() => return forget(&job),
        () = shared.draining.cancelled() => return give_back(&shared, job, None).await,
        alone = is_alone(&shared, &job) => if !alone {
            drop(closed);
            return give_back(&shared, job, Some(NOT_NOW)).await;
        }
    }
    tracing::warn!(job = %job.hold.id, kind = job.kind.handler.kind(), "a job that was there at two crashes runs alone");
    let running = super::run(shared, job);
    tokio::pin!(running);
    tokio::select! {
        () = &mut running => return,
        () = tokio::time::sleep(ALONE_MAX) => closed.open(),
    }
    running.await;
}

/// Waits for the lease and for the neighbours, and marks the lease. False: it is another suspect's turn.
async fn is_alone(shared: &Shared, job: &Claimed) -> bool {
    if !job.hold.is_leased_in_the_end().await {
        return false;
    }
    match others_turn(shared, job).await {
        Ok(false) => {}
        Ok(true) => return false,
        Err(outage) => return not_marked(&outage),
    }
    let closed_at = Instant::now();
    tokio::time::sleep(LAST_READ_MAX).await;
    while shared.capacity.jobs() > 1 && closed_at.elapsed() < NEIGHBOURS_MAX {
        tokio::time::sleep(LOOK).await;
    }
    mark(shared, job).await.unwrap_or_else(|outage| not_marked(&outage))
}

fn not_marked(outage: &Outage) -> bool {
    tracing::debug!(error = %in_full(outage), "a suspect could not be marked; it is tried again");
    false
}

/// Whether another suspect runs by itself now.
async fn others_turn(shared: &Shared, job: &Claimed) -> Result<bool, Outage> {
    let op = "looking for other suspects";
    let mut lent = shared.pg.main(op).await?;
    let query = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM millstream.lease WHERE isolated AND job_id <> $1 AND leased_at > now() - $2 * interval '1 second')",
    )
    .bind(job.hold.id)
    .bind(TURN_MAX.as_secs_f64());
    let other = within(op, query.fetch_one(lent.conn())).await?;
    lent.done();
    Ok(other)
}

/// From here on a crash of this worker is this job's. False: another suspect was quicker, or the job is lost.
async fn mark(shared: &Shared, job: &Claimed) -> Result<bool, Outage> {
    let op = "isolating a suspect";
    let mut lent = shared.pg.main(op).await?;
    let mut tx = within(op, lent.conn().begin()).await?;
    // One at a time: the statement after the lock sees what the last holder has written.
    within(op, sqlx::query("SELECT pg_advisory_xact_lock(hashtext('millstream.isolated'))").execute(&mut *tx)).await?;
    let update = sqlx::query(
        "UPDATE millstream.lease SET isolated = true, leased_at = now() WHERE job_id = $1 AND epoch = $2 AND worker_id = $3
           AND NOT EXISTS (SELECT 1 FROM millstream.lease WHERE isolated AND job_id <> $1 AND leased_at > now() - $4 * interval '1 second')",
    )
    .bind(job.hold.id)
    .bind(job.hold.epoch)
    .bind(shared.worker_id)
    .bind(TURN_MAX.as_secs_f64());
    let marked = within(op, update.execute(&mut *tx)).await?;
    within(op, tx.commit()).await?;
    lent.done();
    Ok(marked.rows_affected() == 1)
}
