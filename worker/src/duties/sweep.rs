//! Keeps small tables small, and looks for jobs that nobody would ever move.
//!
//! An available job that no parcel lists has no driver. The protocol never leaves one behind; this check is for what the protocol
//! does not know (a person's UPDATE, a restored backup). It looks at slices of the job table in turn, oldest ids first.

use std::{sync::Arc, time::Duration};

use millstream_common::{
    error::Outage,
    held::held,
    id::JobId,
    pg::within,
    rehand::{Reach, Reason, rehand},
};
use sqlx::{PgConnection, Row};

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
        let op = "sweeping";
        let mut lent = shared.pg.hot(op).await?;
        within(op, forget_old_workers(lent.conn())).await?;
        let (last, mut orphans) = within(op, find_orphans(lent.conn(), self.after)).await?;
        self.after = last;
        let held = within(op, held(lent.conn(), orphans.iter().map(|(id, _)| *id))).await?;
        orphans.retain(|(id, _)| !held.contains(id));
        if !orphans.is_empty() {
            tracing::warn!(
                jobs = orphans.len(),
                "available jobs without a parcel were found and handed out again"
            );
            within(
                op,
                rehand(lent.conn(), &orphans, Reason::Lost, Reach::Unleased, None),
            )
            .await?;
        }
        lent.done();
        Ok(Ran::Done)
    }
}

/// Workers that ended a day ago are of no interest to anybody.
async fn forget_old_workers(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM millstream.worker w WHERE state IN ('stopped', 'lost') AND ended_at < now() - interval '1 day' AND NOT EXISTS (SELECT 1 FROM millstream.lease l WHERE l.worker_id = w.id)")
        .execute(conn)
        .await?;
    Ok(())
}

/// Returns where the next slice begins (from the start again after the last one) and the orphans of this one.
async fn find_orphans(
    conn: &mut PgConnection,
    after: JobId,
) -> Result<(JobId, Vec<(JobId, i32)>), sqlx::Error> {
    let rows = sqlx::query(
        "WITH slice AS (SELECT id, epoch, state FROM millstream.job WHERE id > $1 AND id < millstream.uuid_at(now() - $3 * interval '1 second') ORDER BY id LIMIT $2),
         listed AS (SELECT unnest(ids) AS id FROM millstream.parcel WHERE EXISTS (SELECT 1 FROM slice WHERE state = 0))
         SELECT s.id, s.epoch, s.state = 0 AND NOT EXISTS (SELECT 1 FROM listed l WHERE l.id = s.id) AS orphan
         FROM slice s WHERE s.state = 0 OR s.id = (SELECT id FROM slice ORDER BY id DESC LIMIT 1) ORDER BY s.id",
    )
    .bind(after)
    .bind(SLICE)
    .bind(SETTLED_AGE_SECONDS)
    .fetch_all(conn)
    .await?;
    let last = rows.last().map(|row| row.get(0)).unwrap_or_default();
    Ok((
        last,
        rows.iter()
            .filter(|row| row.get(2))
            .map(|row| (row.get(0), row.get(1)))
            .collect(),
    ))
}
