//! Jobs whose rows somebody else's open transaction holds. Whoever changes many jobs leaves these for later: a statement that waits for one keeps
//! all the others waiting, and has written nothing when the wait is over.

use std::collections::HashSet;

use sqlx::PgConnection;

use crate::id::JobId;

/// Those of `jobs` that are held at this moment. Waits for nobody. Inside a transaction the others are the caller's until it ends.
pub async fn held(conn: &mut PgConnection, jobs: &[JobId]) -> Result<HashSet<JobId>, sqlx::Error> {
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
