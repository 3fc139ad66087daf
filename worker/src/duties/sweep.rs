//! Keeps small tables small, and looks for jobs that nobody would ever move.
//!
//! An available job that no parcel lists has no driver. The protocol never leaves one behind; this check is for what the protocol
//! does not know (a person's UPDATE, a restored backup). It looks at slices of the job table in turn, oldest ids first.

use std::{sync::Arc, time::Duration};

use millstream_common::{
    error::Outage,
    held::held,
    id::JobId,
    pg::Lent,
    rehand::{Leases, Reason, rehand},
};
use sqlx::Row;

use super::{Duty, Ran, Scope};
use crate::shared::Shared;

/// Jobs looked at in one run: bounds what the check costs, whatever the table's size.
const SLICE: i64 = 20_000;
/// Younger jobs may be on their way: their parcel is being written or settled right now.
const SETTLED_AGE_SECONDS: f64 = 60.0;

#[derive(Default)]
pub(super) struct Sweep {
    after: JobId,
}

impl Duty for Sweep {
    const NAME: &'static str = "sweep";
    const SCOPE: Scope = Scope::Leader;

    fn every(&self, _: &Shared) -> Duration {
        Duration::from_mins(1)
    }

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<Ran, Outage> {
        let mut lent = shared.pg.hot("sweeping").await?;
        forget_old_workers(&mut lent).await?;
        let (last, mut orphans) = find_orphans(&mut lent, self.after).await?;
        self.after = last;
        let held = lent.all(held(orphans.iter().map(|(id, _)| *id))).await?;
        orphans.retain(|(id, _)| !held.contains(id));
        if !orphans.is_empty() {
            tracing::warn!(
                jobs = orphans.len(),
                "available jobs without a parcel were found and handed out again"
            );
            let rehand = rehand(&orphans, Reason::Lost, Leases::Spared, None);
            lent.all(rehand).await?;
        }
        Ok(Ran::Done)
    }
}

/// Workers that ended a day ago are of no interest to anybody.
async fn forget_old_workers(lent: &mut Lent) -> Result<(), Outage> {
    let delete = sqlx::query(
        "DELETE FROM millstream.worker w WHERE state IN ('stopped', 'lost') AND ended_at < now() - interval '1 day' AND NOT EXISTS (SELECT 1 FROM millstream.lease l WHERE l.worker_id = w.id)",
    );
    lent.execute(delete).await.map(drop)
}

/// Returns where the next slice begins (from the start again after the last one) and the orphans of this one.
async fn find_orphans(lent: &mut Lent, after: JobId) -> Result<(JobId, Vec<(JobId, i32)>), Outage> {
    let query = sqlx::query(
        "WITH slice AS (SELECT id, epoch, state FROM millstream.job WHERE id > $1 AND id < millstream.uuid_at(now() - $3 * interval '1 second') ORDER BY id LIMIT $2),
         listed AS (SELECT unnest(ids) AS id FROM millstream.parcel WHERE EXISTS (SELECT 1 FROM slice WHERE state = 0))
         SELECT s.id, s.epoch, s.state = 0 AND NOT EXISTS (SELECT 1 FROM listed l WHERE l.id = s.id) AS orphan
         FROM slice s WHERE s.state = 0 OR s.id = (SELECT id FROM slice ORDER BY id DESC LIMIT 1) ORDER BY s.id",
    )
    .bind(after)
    .bind(SLICE)
    .bind(SETTLED_AGE_SECONDS);
    let rows = lent.all(query).await?;
    let last = rows.last().map(|row| row.get(0)).unwrap_or_default();
    Ok((
        last,
        rows.iter()
            .filter(|row| row.get(2))
            .map(|row| (row.get(0), row.get(1)))
            .collect(),
    ))
}
