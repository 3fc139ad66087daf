//! Re-hand: jobs are handed out again at a new epoch. Every recovery path ends in this one statement.
//!
//! Raising the epoch is what makes the earlier hand-out harmless: its settle, lease and hints match nothing any more.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::{id::JobId, limits::CRASHES_MAX};

/// Why jobs are handed out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Their worker died or froze; counted against the job (F15).
    Crash,
    /// Their hint was lost, or a worker gave them back unstarted. Costs the job nothing.
    Lost,
}

/// Hands out those of `jobs` (id, epoch) that are still available or running at that epoch, and returns their ids. A job
/// that has used up its crashes is not among them: the caller buries it. The dispatch duty publishes within 50 ms, or after
/// `not_before`.
pub async fn rehand(
    conn: &mut PgConnection,
    jobs: &[(JobId, i32)],
    reason: Reason,
    not_before: Option<DateTime<Utc>>,
) -> Result<Vec<JobId>, sqlx::Error> {
    let (ids, epochs): (Vec<JobId>, Vec<i32>) = jobs.iter().copied().unzip();
    sqlx::query_scalar("SELECT * FROM millstream.rehand($1, $2, $3, $4, $5)")
        .bind(ids)
        .bind(epochs)
        .bind(i32::from(reason == Reason::Crash))
        .bind(not_before)
        .bind(CRASHES_MAX)
        .fetch_all(conn)
        .await
}
