//! Parcels whose jobs have all left "available" are deleted, so that reconcile has little to look at.
//!
//! Only transitions that this process made itself are counted, each once, after COMMIT: the count can be too low, never too
//! high. What is missed (a crash right here), reconcile finds and deletes.

use std::collections::HashMap;

use millstream_common::pg::within;

use crate::shared::Shared;

/// Adds `done` jobs to each parcel and deletes those that are complete. Best effort.
pub(crate) async fn count_done(shared: &Shared, parcels: HashMap<i64, i16>) {
    if parcels.is_empty() {
        return;
    }
    // One lock order for all workers.
    let mut sorted: Vec<(i64, i16)> = parcels.into_iter().collect();
    sorted.sort_unstable();
    let (ids, done): (Vec<i64>, Vec<i16>) = sorted.into_iter().unzip();
    if let Err(outage) = write(shared, &ids, &done).await {
        tracing::debug!(error = %millstream_common::error::in_full(&outage), "parcels were not counted; reconcile will");
    }
}

async fn write(shared: &Shared, ids: &[i64], done: &[i16]) -> Result<(), millstream_common::error::Outage> {
    let op = "counting parcels";
    let mut lent = shared.pg.hot(op).await?;
    // Most batches complete their parcels in one go: a DELETE and nothing else.
    let delete = sqlx::query_scalar::<_, i64>(
        "DELETE FROM millstream.parcel p USING unnest($1::bigint[], $2::smallint[]) AS u(id, done)
         WHERE p.id = u.id AND p.taken = 0 AND p.done + u.done >= p.jobs RETURNING p.id",
    )
    .bind(ids)
    .bind(done);
    let gone = within(op, delete.fetch_all(lent.conn())).await?;
    let (rest, counts): (Vec<i64>, Vec<i16>) = ids.iter().zip(done).filter(|(id, _)| !gone.contains(id)).map(|(id, n)| (*id, *n)).unzip();
    if !rest.is_empty() {
        let update = sqlx::query(
            "UPDATE millstream.parcel p SET done = LEAST(p.done + u.done, p.jobs) FROM unnest($1::bigint[], $2::smallint[]) AS u(id, done) WHERE p.id = u.id",
        )
        .bind(&rest)
        .bind(&counts);
        within(op, update.execute(lent.conn())).await?;
    }
    lent.done();
    Ok(())
}
