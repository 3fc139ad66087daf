//! Claimed jobs that do not run here go back. It does not know why.

use std::time::Duration;

use millstream_common::{
    error::Outage,
    id::JobId,
    pg::Pg,
    rehand::{Reach, Reason, rehand},
};

/// Gives jobs back unstarted, at no cost to them. Returns how many were still ours to give.
pub(crate) async fn hand_back(
    pg: &Pg,
    jobs: &[(JobId, i32)],
    reach: Reach,
    rest: Option<Duration>,
) -> Result<usize, Outage> {
    let rehand = rehand(jobs, Reason::Lost, reach, rest);
    let back = pg.main("handing jobs back").all(rehand).await?;
    Ok(back.len())
}
