//! Re-hand: jobs are handed out again at a new epoch. Every recovery path ends in this one statement.
//!
//! Raising the epoch is what makes the earlier hand-out harmless: its settle, lease and hints match nothing any more.

use std::time::Duration;

use crate::{id::JobId, limits::CRASHES_MAX, pg::Scalar};

/// Why jobs are handed out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Their worker died; it is counted, and they are isolated (F15).
    Crash,
    /// Their hint was lost, or a worker handed them back. Costs the job nothing.
    Lost,
}

/// Whether jobs with a lease are handed out too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leases {
    /// No, only jobs that nobody has leased: a missing or abandoned hint says nothing about the others.
    Spared,
    /// Yes: their worker is dead, or it is the caller.
    Included,
}

/// The statement that hands out those of `jobs` (id, epoch) that are still at that epoch and may be, and returns their
/// ids. A job that has used up its crashes is not among them: the caller buries it. The dispatch duty publishes within
/// 50 ms, or after they have rested. Postgres counts the rest: no process's own clock keeps a job waiting.
pub fn rehand(
    jobs: &[(JobId, i32)],
    reason: Reason,
    leases: Leases,
    rest: Option<Duration>,
) -> Scalar<'static, JobId> {
    let (ids, epochs): (Vec<JobId>, Vec<i32>) = jobs.iter().copied().unzip();
    sqlx::query_scalar("SELECT * FROM millstream.rehand($1, $2, $3, now() + $4 * interval '1 millisecond', $5, $6)")
        .bind(ids)
        .bind(epochs)
        .bind(i32::from(reason == Reason::Crash))
        .bind(rest.map(|rest| rest.as_millis() as i64))
        .bind(CRASHES_MAX)
        .bind(leases == Leases::Included)
}
