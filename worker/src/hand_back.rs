//! Claimed jobs that do not run here go back. It does not know why.

use std::time::Duration;

use millstream_common::{
    error::Outage,
    id::JobId,
    pg::Pg,
    rehand::{Leases, Reason, rehand},
};

/// Hands jobs back, at no cost to them. Returns how many were still ours to give.
pub(crate) async fn hand_back(
    pg: &Pg,
    jobs: &[(JobId, i32)],
    leases: Leases,
    rest: Option<Duration>,
) -> Result<usize, Outage> {
    let rehand = rehand(jobs, Reason::Lost, leases, rest);
    let back = pg.main("handing jobs back").all(rehand).await?;
    Ok(back.len())
}
