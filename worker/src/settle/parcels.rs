//! Parcels whose jobs have all left "available" are deleted, so that reconcile has little to look at.
//!
//! Only transitions that this process made itself are counted, each once, after COMMIT: the count can be too low, never too
//! high. What is missed (a crash right here), reconcile finds and deletes. Counts are gathered for a moment, so that most parcels
//! are done when they are written and cost one DELETE together.
//!
//! A stale hint is not counted: whoever moved that job may have counted it. A cancel takes its job
//! off the parcel by itself, so the backlog is right at once, also when no worker lives. An entry
//! that was forged with real jobs and another parcel's number can make a count too high; the sweep
//! finds the jobs that lose their parcel by that.

use std::{sync::Arc, time::Duration};

use millstream_common::error::Outage;
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;

/// How long counts are gathered: far below what reconcile waits before it looks at a parcel.
const EVERY: Duration = Duration::from_millis(100);
/// Parcels in one statement.
const BATCH_MAX: usize = 1000;
/// `/livez` fails when the loop has not turned for this long.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// Writes the counts until `stop` fires, then what is left. Best effort.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut stopped = false;
    while !stopped {
        shared.pulses.turn("parcels", SILENCE_MAX);
        tokio::select! { () = stop.cancelled() => stopped = true, () = tokio::time::sleep(EVERY) => {} }
        for batch in shared.work.parcels.take().chunks(BATCH_MAX) {
            let (ids, done): (Vec<i64>, Vec<i16>) = batch.iter().copied().unzip();
            if let Err(outage) = write(&shared, &ids, &done).await {
                tracing::debug!(error = %millstream_common::error::in_full(&outage), "parcels were not counted; reconcile will");
            }
        }
    }
    shared.pulses.end("parcels");
}

async fn write(shared: &Shared, ids: &[i64], done: &[i16]) -> Result<(), Outage> {
    let mut lent = shared.pg.hot("counting parcels").await?;
    // Most batches complete their parcels in one go: a DELETE and nothing else.
    let delete = sqlx::query_scalar::<_, i64>(
        "DELETE FROM millstream.parcel p USING unnest($1::bigint[], $2::smallint[]) AS u(id, done)
         WHERE p.id = u.id AND p.taken = 0 AND p.done + u.done >= p.jobs RETURNING p.id",
    )
    .bind(ids)
    .bind(done);
    let gone = lent.all(delete).await?;
    let (rest, counts): (Vec<i64>, Vec<i16>) = ids
        .iter()
        .zip(done)
        .filter(|(id, _)| !gone.contains(id))
        .map(|(id, n)| (*id, *n))
        .unzip();
    if !rest.is_empty() {
        let update = sqlx::query(
            "UPDATE millstream.parcel p SET done = LEAST(p.done + u.done, p.jobs) FROM unnest($1::bigint[], $2::smallint[]) AS u(id, done) WHERE p.id = u.id",
        )
        .bind(&rest)
        .bind(&counts);
        lent.execute(update).await?;
    }
    Ok(())
}
