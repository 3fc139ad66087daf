//! Endpoints of jobs, one per file.

pub(super) mod bulk;
pub(super) mod enqueue;
pub(super) mod explain;
pub(super) mod list;
pub(super) mod log;
pub(super) mod moves;
pub(super) mod show;
pub(super) mod wait;

use millstream_common::id::JobId;

use super::problem::Problem;

fn no_job(id: JobId) -> Problem {
    Problem::not_found(format!("there is no job {id}"))
}
