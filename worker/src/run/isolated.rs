//! A suspect, a job that was in hand at two crashes, runs alone (F15).
//!
//! Its worker closes for new jobs, waits a moment for the others to end, and says in the lease that the suspect is by itself.
//! Only a crash with that mark can bury a job (`duties::crash`), so an innocent neighbour of a crash never is. Half of the
//! workers at most do this at a time: the others keep work flowing, and if all died together, it could not be told from a power cut.

use std::{sync::Arc, time::Duration};

use millstream_common::{
    error::{Outage, in_full},
    pg::within,
};
use sqlx::Connection;
use tokio::time::Instant;

use super::{forget, give_back};
use crate::{claim::Claimed, shared::Shared};

/// How long jobs that run already are waited for. Those that remain have shown that they do not crash at once.
const NEIGHBOURS_MAX: Duration = Duration::from_secs(1);
/// How often the neighbours are counted.
const LOOK: Duration = Duration::from_millis(50);
/// A suspect that has run alone this long shares its worker again, and is still the one to answer for a crash. Killers kill early, and
/// long jobs must not take a worker out of the fleet.
const ALONE_MAX: Duration = Duration::from_secs(3);
/// How long a suspect rests when it is not its turn.
const NOT_NOW: Duration = Duration::from_secs(1);

/// Whether suspects have less than half of the workers for themselves now, apart from job $1; $2: for how many seconds they do.
macro_rules! room {
    () => {
        "(SELECT count(*) FROM millstream.lease WHERE isolated AND job_id <> $1 AND leased_at > now() - $2 * interval '1 second')
           < GREATEST(1, (SELECT count(*) / 2 FROM millstream.worker WHERE state = 'active'))"
    };
}
/// Runs the suspect when it is alone, or gives it back for later.
pub(super) async fn run(shared: Arc<Shared>, job: Claimed) {
    // Asked before the worker closes, so that a suspect which has to wait keeps nobody waiting.
    let my_turn = has_room(&shared, &job).await.unwrap_or_else(|outage| not_marked(&outage));
    let Some(closed) = my_turn.then(|| shared.capacity.close()).flatten() else {
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
    let closed_at = Instant::now();
    // What waits for a slot, or is being read at this moment, is given back when it gets one.
    while shared.capacity.busy() > 0 && closed_at.elapsed() < NEIGHBOURS_MAX {
        tokio::time::sleep(LOOK).await;
    }
    mark(shared, job).await.unwrap_or_else(|outage| not_marked(&outage))
}

fn not_marked(outage: &Outage) -> bool {
    tracing::debug!(error = %in_full(outage), "a suspect could not be marked; it is tried again");
    false
}

/// Whether another suspect may run alone in the fleet now.
async fn has_room(shared: &Shared, job: &Claimed) -> Result<bool, Outage> {
    let op = "looking for other suspects";
    let mut lent = shared.pg.main(op).await?;
    let query = sqlx::query_scalar(concat!("SELECT ", room!())).bind(job.hold.id).bind(ALONE_MAX.as_secs_f64());
    let room = within(op, query.fetch_one(lent.conn())).await?;
    lent.done();
    Ok(room)
}

/// From here on a crash of this worker is this job's. False: another suspect was quicker, or the job is lost.
async fn mark(shared: &Shared, job: &Claimed) -> Result<bool, Outage> {
    let op = "isolating a suspect";
    let mut lent = shared.pg.main(op).await?;
    let mut tx = within(op, lent.conn().begin()).await?;
    // One at a time: the statement after the lock sees what the last holder has written.
    within(op, sqlx::query("SELECT pg_advisory_xact_lock(hashtext('millstream.isolated'))").execute(&mut *tx)).await?;
    let update = sqlx::query(concat!(
        "UPDATE millstream.lease SET isolated = true, leased_at = now() WHERE job_id = $1 AND epoch = $3 AND worker_id = $4 AND ",
        room!()
    ))
    .bind(job.hold.id)
    .bind(ALONE_MAX.as_secs_f64())
    .bind(job.hold.epoch)
    .bind(shared.worker_id);
    let marked = within(op, update.execute(&mut *tx)).await?;
    within(op, tx.commit()).await?;
    lent.done();
    Ok(marked.rows_affected() == 1)
}
