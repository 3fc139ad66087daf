//! Handlers that say another number of tries than the kind has.

use millstream_common::{error::Outage, pg::Pg};

/// Which number of tries jobs get is decided by whoever registered last, or by a person: nobody should have to guess that.
pub(crate) async fn tell_differing_tries(pg: &Pg, worker_id: i64) -> Result<(), Outage> {
    let query = sqlx::query_as(
        "SELECT kind, max_attempts, max_attempts_fixed, worker_id, worker, worker_says FROM millstream.tries_differ ORDER BY kind, worker_id",
    );
    let differing: Vec<(String, i16, bool, i64, String, i16)> =
        pg.main("comparing the tries of kinds").all(query).await?;
    for (kind, tries, fixed, id, worker, says) in differing {
        if id == worker_id {
            tracing::warn!(
                kind,
                tries,
                fixed,
                says,
                "the handler of this kind says another number of tries than a person has set; theirs holds (millstream kinds set)"
            );
        } else {
            tracing::warn!(
                kind,
                tries,
                worker,
                says,
                "another worker's handler of this kind says another number of tries; jobs enqueued from now on get ours"
            );
        }
    }
    Ok(())
}
