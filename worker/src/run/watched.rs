//! A watched job, one that was in hand at a crash before, says in its lease that it starts (F15).
//!
//! Quick jobs are read ahead by the hundred, and when their worker dies nobody knows which of them had started: the first crash counts
//! for all. At the next one only those are counted whose lease says that they had (`duties::crash`), so a killer leaves its
//! neighbours behind. This costs a watched job the wait for its lease and a statement; others pay nothing.

use std::time::Duration;

use millstream_common::{
    error::{Outage, in_full},
    pg::within,
};
use tokio::sync::OwnedSemaphorePermit;

use crate::{claim::hold::Hold, shared::Shared};

/// How long Postgres is left alone after it could not be told.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits for the lease, then for a slot, then until Postgres knows of the start. `None`: the job is lost. Nothing has started if this is dropped.
pub(super) async fn slot(shared: &Shared, hold: &Hold) -> Option<OwnedSemaphorePermit> {
    if !hold.is_leased_in_the_end().await {
        return None;
    }
    let slot = shared.capacity.slot().await?;
    loop {
        match tell(shared, hold).await {
            Ok(is_ours) => {
                // Whoever waited for the connection was woken on this thread and goes first: the handler may block it.
                tokio::task::yield_now().await;
                return is_ours.then_some(slot);
            }
            Err(outage) => {
                tracing::debug!(job = %hold.id, error = %in_full(&outage), "the start of a job that was there at a crash could not be told; it is tried again");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// False: the lease is not ours any more.
async fn tell(shared: &Shared, hold: &Hold) -> Result<bool, Outage> {
    let op = "starting a watched job";
    let mut lent = shared.pg.main(op).await?;
    // What it has waited for its slot is no part of its run.
    let update =
        sqlx::query("UPDATE millstream.lease SET started = true, leased_at = now() WHERE job_id = $1 AND epoch = $2 AND worker_id = $3")
            .bind(hold.id)
            .bind(hold.epoch)
            .bind(shared.worker_id);
    let told = within(op, update.execute(lent.conn())).await?;
    lent.done();
    Ok(told.rows_affected() == 1)
}
