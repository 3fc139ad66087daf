//! Put back: jobs of kinds or payload versions that this process does not know go back for another worker, after a short rest (F8), and
//! those that may not start now go back to wait for dispatch.
//!
//! A hint goes to whoever reads it first, so where several workers serve one queue and not all know its kinds, some jobs are put back a few
//! times. Postgres knows which kinds the others serve, but not which versions.
//!
//! A put-back is free for the job. A version that nobody knows rests longer each time.

use std::{collections::BTreeMap, time::Duration};

use millstream_common::{
    error::in_full,
    id::JobId,
    limits::{PUT_BACK_DELAY, PUT_BACK_DELAY_MAX, PUT_BACKS_PER_DELAY},
    metrics::ReclaimReason,
    rehand::Leases,
    seldom::Seldom,
};

use crate::{hand_back::hand_back, queues::Queue, shared::Shared};

static LINES: Seldom = Seldom::new();

/// A job that this process cannot run, or not now.
pub(super) struct Foreign {
    pub(super) id: JobId,
    pub(super) epoch: i32,
    pub(super) kind_id: i32,
    /// Its queue, kind or tenant is paused: dispatch leaves it alone until that is over.
    pub(super) is_closed: bool,
}

/// Puts jobs of that queue back. What cannot be put back is found by reconcile or, if leased, by the heart.
pub(super) async fn put_back(shared: &Shared, queue: &Queue, jobs: &[Foreign]) {
    // One statement for each length of rest, of which there are few.
    let mut by_rest: BTreeMap<Option<Duration>, Vec<(JobId, i32)>> = BTreeMap::new();
    for job in jobs {
        let is_kind_known = shared.serves.registry.get(job.kind_id).is_some();
        let rest = (!job.is_closed).then(|| rest(job.epoch, is_kind_known));
        by_rest.entry(rest).or_default().push((job.id, job.epoch));
    }
    for (rest, jobs) in by_rest {
        match hand_back(&shared.pg, &jobs, Leases::Included, rest).await {
            Ok(back) => shared
                .meters
                .queue(queue)
                .reclaimed(ReclaimReason::PutBack, back as u64),
            Err(outage) => {
                if let Some(kept_back) = LINES.may_speak() {
                    tracing::warn!(kept_back, error = %in_full(&outage), "jobs that cannot run here now could not be put back; reconcile will find them");
                }
            }
        }
    }
}

/// Of an unknown kind always the same: dispatch offers only what some live worker serves, so it only has to be that worker who reads it.
/// A version may be unknown to all: twice as long after every few hand-outs, since a rollout is over in seconds, and what no worker ever knows
/// must not keep the fleet busy.
fn rest(epoch: i32, is_kind_known: bool) -> Duration {
    if !is_kind_known {
        return PUT_BACK_DELAY;
    }
    let doublings = epoch.unsigned_abs() / PUT_BACKS_PER_DELAY;
    2_u32
        .checked_pow(doublings)
        .map_or(PUT_BACK_DELAY_MAX, |times| {
            (PUT_BACK_DELAY * times).min(PUT_BACK_DELAY_MAX)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    // F8
    #[test]
    fn versions_that_nobody_knows_rest_longer_and_longer_and_at_first_as_short_as_a_rollout_wants()
    {
        let rest = |epoch| rest(epoch, true);
        assert_eq!([0, 1, 2].map(rest), [PUT_BACK_DELAY; 3]);
        assert_eq!(rest(3), 2 * PUT_BACK_DELAY);
        assert_eq!([18, 40, i32::MAX].map(rest), [PUT_BACK_DELAY_MAX; 3]);
        let lengths: std::collections::BTreeSet<_> = (0..1_000).map(rest).collect();
        assert!(lengths.len() < 8, "a batch is few statements: {lengths:?}");
    }
}
