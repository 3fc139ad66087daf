//! Jobs whose rows an open transaction of somebody else holds. Whoever changes many jobs leaves these for later. A statement that waits for one
//! of them keeps all the others waiting, and has written nothing when the wait is over.

use crate::{id::JobId, pg::Scalar};

/// The statement that returns those of `jobs` that are held at this moment. It waits for nobody. Inside a transaction the others are the
/// caller's until it ends.
pub fn held(jobs: impl IntoIterator<Item = JobId>) -> Scalar<'static, JobId> {
    sqlx::query_scalar(
        "WITH free AS MATERIALIZED (SELECT id FROM millstream.job WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)
         SELECT j.id FROM millstream.job j WHERE j.id = ANY($1) AND j.id NOT IN (SELECT f.id FROM free f)",
    )
    .bind(jobs.into_iter().collect::<Vec<JobId>>())
}
