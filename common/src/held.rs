//! Jobs whose rows an open transaction of somebody else holds. Whoever changes many jobs leaves these for later. A statement that waits for one
//! of them keeps all the others waiting, and has written nothing when the wait is over.

use std::collections::HashSet;

use sqlx::PgConnection;

use crate::{
    error::Outage,
    id::JobId,
    pg::{Pg, within},
};

/// Those of `jobs` that are held at this moment. Waits for nobody. Inside a transaction the others are the caller's until it ends.
pub async fn held(
    conn: &mut PgConnection,
    jobs: impl IntoIterator<Item = JobId>,
) -> Result<HashSet<JobId>, sqlx::Error> {
    let jobs: Vec<JobId> = jobs.into_iter().collect();
    if jobs.is_empty() {
        return Ok(HashSet::new());
    }
    let held: Vec<JobId> = sqlx::query_scalar(
        "WITH free AS MATERIALIZED (SELECT id FROM millstream.job WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)
         SELECT j.id FROM millstream.job j WHERE j.id = ANY($1) AND j.id NOT IN (SELECT f.id FROM free f)",
    )
    .bind(jobs)
    .fetch_all(conn)
    .await?;
    Ok(held.into_iter().collect())
}

/// The same, for a caller without a connection. Nothing is locked when it returns.
pub async fn held_now(
    pg: &Pg,
    jobs: impl IntoIterator<Item = JobId>,
) -> Result<HashSet<JobId>, Outage> {
    let op = "asking for held rows";
    let mut lent = pg.hot(op).await?;
    let held = within(op, held(lent.conn(), jobs)).await?;
    lent.done();
    Ok(held)
}
