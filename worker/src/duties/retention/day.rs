//! One day: sealed, looked through for what must stay, rid of what hangs on its jobs, dropped.

use std::time::Instant;

use chrono::NaiveDate;
use millstream_common::{error::Outage, id::JobId, pg::within};
use sqlx::Row;

use super::rules::Expired;
use crate::shared::Shared;

/// More than this is not moved while everybody waits: the day stays, and what has expired of it is deleted.
pub(super) const STAY_MAX: usize = 5_000;
/// Jobs looked at in one statement.
const SLICE: i64 = 100_000;
/// Rows that hang on jobs, deleted in one statement.
const FORGET: i64 = 5_000;

/// What became of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retired {
    NotYet,
    TooMuchStays,
    Dropped { moved: i64 },
}

/// A day that is sealed, as far as it has been looked through.
pub(super) struct Looking {
    day: NaiveDate,
    after: JobId,
    /// Jobs that must stay.
    stay: Vec<JobId>,
}

impl Looking {
    pub(super) async fn begin(shared: &Shared, day: NaiveDate) -> Result<Self, Outage> {
        let op = "sealing a day of jobs";
        let mut lent = shared.pg.hot(op).await?;
        within(op, sqlx::query("SELECT millstream.seal_day($1)").bind(day).execute(lent.conn())).await?;
        lent.done();
        Ok(Self { day, after: JobId::nil(), stay: Vec::new() })
    }

    pub(super) fn day(&self) -> NaiveDate {
        self.day
    }

    /// Until the day is dropped, or it is clear that it stays, or `end`.
    pub(super) async fn go_on(&mut self, shared: &Shared, expired: &Expired, end: Instant) -> Result<Retired, Outage> {
        while self.look(shared, expired).await? {
            if self.stay.len() > STAY_MAX {
                return Ok(Retired::TooMuchStays);
            }
            if Instant::now() > end {
                return Ok(Retired::NotYet);
            }
        }
        // Before the jobs: should this be cut short, they are still there to be found again.
        while self.forget(shared).await? > 0 {
            if Instant::now() > end {
                return Ok(Retired::NotYet);
            }
        }
        let op = "dropping a day of jobs";
        let mut lent = shared.pg.hot(op).await?;
        let query = sqlx::query_scalar("SELECT millstream.drop_day($1, $2)").bind(self.day).bind(&self.stay);
        let moved = within(op, query.fetch_one(lent.conn())).await?;
        lent.done();
        Ok(Retired::Dropped { moved })
    }

    /// Looks at the next slice; false if there is none. Finished jobs never come to life again and no job comes in any more, so what is
    /// found here is all that must stay.
    async fn look(&mut self, shared: &Shared, expired: &Expired) -> Result<bool, Outage> {
        let op = "looking through a day of jobs";
        let mut lent = shared.pg.hot(op).await?;
        let query = sqlx::query(
            "WITH slice AS (SELECT id, state, tenant_id FROM millstream.job
               WHERE id > $1 AND id >= millstream.uuid_at($2::date::timestamp AT TIME ZONE 'UTC')
                 AND id < millstream.uuid_at(($2::date + 1)::timestamp AT TIME ZONE 'UTC') ORDER BY id LIMIT $3)
             SELECT (SELECT id FROM slice ORDER BY id DESC LIMIT 1) AS last,
               ARRAY(SELECT id FROM slice
                 WHERE NOT (state IN (2, 7) AND ($4 AND tenant_id <> ALL($5) OR tenant_id = ANY($6))) LIMIT $7) AS stay",
        )
        .bind(self.after)
        .bind(self.day)
        .bind(SLICE)
        .bind(expired.by_default)
        .bind(&expired.longer)
        .bind(&expired.own)
        .bind(STAY_MAX as i64 + 1);
        let row = within(op, query.fetch_one(lent.conn())).await?;
        lent.done();
        let Some(last) = row.get::<Option<JobId>, _>("last") else { return Ok(false) };
        self.after = last;
        self.stay.extend(row.get::<Vec<JobId>, _>("stay"));
        Ok(true)
    }

    /// Removes some of the errors, log lines and idempotency keys of jobs that go. Returns how many.
    async fn forget(&self, shared: &Shared) -> Result<i64, Outage> {
        let op = "forgetting what hangs on old jobs";
        let mut lent = shared.pg.hot(op).await?;
        let query = sqlx::query_scalar(
            "WITH bounds AS MATERIALIZED (SELECT millstream.uuid_at($1::date::timestamp AT TIME ZONE 'UTC') AS low,
               millstream.uuid_at(($1::date + 1)::timestamp AT TIME ZONE 'UTC') AS high),
             errors AS (DELETE FROM millstream.job_error WHERE (job_id, epoch) IN (
               SELECT e.job_id, e.epoch FROM millstream.job_error e, bounds WHERE e.job_id >= low AND e.job_id < high AND e.job_id <> ALL($2) LIMIT $3) RETURNING 1),
             lines AS (DELETE FROM millstream.job_log WHERE id IN (
               SELECT l.id FROM millstream.job_log l, bounds WHERE l.job_id >= low AND l.job_id < high AND l.job_id <> ALL($2) LIMIT $3) RETURNING 1),
             keys AS (DELETE FROM millstream.job_key WHERE (tenant_id, key) IN (
               SELECT k.tenant_id, k.key FROM millstream.job_key k, bounds WHERE k.job_id >= low AND k.job_id < high AND k.job_id <> ALL($2) LIMIT $3) RETURNING 1)
             SELECT (SELECT count(*) FROM errors) + (SELECT count(*) FROM lines) + (SELECT count(*) FROM keys)",
        )
        .bind(self.day)
        .bind(&self.stay)
        .bind(FORGET);
        let gone = within(op, query.fetch_one(lent.conn())).await?;
        lent.done();
        Ok(gone)
    }
}
