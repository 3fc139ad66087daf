//! Outcomes that cannot be written now. Somebody else's open transaction holds the row of their job, or Postgres fails on just this row. They
//! wait here, beside the writers of batches.
//!
//! A row that is held is not waited for inside a statement: that would keep a connection, and the rows locked before it, for seconds.

use std::{collections::HashSet, sync::Arc};

use millstream_common::{error::in_full, held::held, id::JobId, seldom::Seldom};
use tokio::sync::Semaphore;

use super::{Ended, Patience, Sorted, by_themselves, together};
use crate::shared::Shared;

static LINES: Seldom = Seldom::new();

/// Tries again until all are written; those whose rows are held as long as the heart beats, the others for one lease.
pub(super) async fn settle(shared: &Arc<Shared>, mut left: Vec<Ended>, alone: &Semaphore) {
    let mut patience = Patience::new(shared);
    // Held, as far as is known.
    let mut passing = true;
    while !left.is_empty() {
        if !patience.allows(passing).await {
            tracing::warn!(
                jobs = left.len(),
                "outcomes were given up: their jobs are handed out again"
            );
            return;
        }
        let held = held(left.iter().map(|ended| ended.job.hold.id));
        match shared.pg.hot("asking for held rows").all(held).await {
            Ok(held) => {
                let held: HashSet<JobId> = held.into_iter().collect();
                passing = !held.is_empty();
                left = Box::pin(write_free(shared, left, &held, alone)).await;
            }
            Err(outage) => {
                passing = outage.is_passing();
                tracing::debug!(error = %in_full(&outage), "whether rows are held is asked again");
            }
        }
    }
}

/// Returns those that must wait on.
async fn write_free(
    shared: &Arc<Shared>,
    left: Vec<Ended>,
    held: &HashSet<JobId>,
    alone: &Semaphore,
) -> Vec<Ended> {
    let (mut waiting, free): (Vec<_>, Vec<_>) = left
        .into_iter()
        .partition(|ended| held.contains(&ended.job.hold.id));
    if let Some(job) = waiting.first()
        && let Some(kept_back) = LINES.may_speak()
    {
        let (jobs, first) = (waiting.len(), job.job.hold.id);
        tracing::warn!(kept_back, jobs, %first, "outcomes wait for a transaction of somebody else, which holds the rows of their jobs");
    }
    let sorted = Sorted::of(free);
    waiting.extend(Box::pin(together(shared, sorted.plain, sorted.failed)).await);
    waiting.extend(by_themselves(shared, sorted.alone, alone).await);
    waiting
}
