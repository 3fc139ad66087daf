//! What has expired in a day that stays is deleted, in small steps: jobs of tenants with a short rule, and of everybody else where a tenant
//! with a long one keeps too much to move.

use std::time::Instant;

use chrono::NaiveDate;
use millstream_common::{error::Outage, id::JobId};
use sqlx::Row;

use super::rules::{Rules, days_until};
use crate::shared::Shared;

/// Jobs looked at in one statement.
const SLICE: i64 = 5_000;

/// A job goes with its errors, log lines and idempotency key.
macro_rules! with_all_that_hangs_on_it {
    () => {
        ", errors AS (DELETE FROM millstream.job_error e USING gone WHERE e.job_id = gone.id)
         , lines AS (DELETE FROM millstream.job_log l USING gone WHERE l.job_id = gone.id)
         , keys AS (DELETE FROM millstream.job_key k USING gone WHERE k.job_id = gone.id) "
    };
}

/// Every day on which some rule is over, once for each rule. False: the time is up.
pub(super) async fn days(shared: &Shared, rules: &Rules, end: Instant) -> Result<bool, Outage> {
    for keep_days in rules.lengths() {
        let Some(last) = rules.last_over(keep_days) else {
            continue;
        };
        for day in days_until(shared, last).await? {
            if Instant::now() > end {
                return Ok(false);
            }
            if is_swept(shared, rules, day, keep_days).await? {
                continue;
            }
            if !sweep(shared, rules, day, end).await? {
                return Ok(false);
            }
            mark(shared, rules, day, keep_days).await?;
        }
    }
    Ok(true)
}

async fn is_swept(
    shared: &Shared,
    rules: &Rules,
    day: NaiveDate,
    keep_days: u32,
) -> Result<bool, Outage> {
    let query = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM millstream.swept s WHERE s.day = $1 AND s.keep_days = $2
           AND NOT EXISTS (SELECT 1 FROM millstream.tenant t WHERE COALESCE(t.keep_days, $3) = $2 AND t.keep_days_set_at >= s.at))",
    )
    .bind(day)
    .bind(keep_days.cast_signed())
    .bind(rules.keep_days().map(u32::cast_signed));
    let loan = shared.pg.hot("looking whether a day was swept");
    loan.one(query).await
}

/// As of the rules by which it was: one that is set meanwhile is another one.
async fn mark(
    shared: &Shared,
    rules: &Rules,
    day: NaiveDate,
    keep_days: u32,
) -> Result<(), Outage> {
    let query = sqlx::query(
        "INSERT INTO millstream.swept (day, keep_days, at) VALUES ($1, $2, $3) ON CONFLICT (day, keep_days) DO UPDATE SET at = excluded.at",
    )
    .bind(day)
    .bind(keep_days.cast_signed())
    .bind(rules.read_at());
    let loan = shared.pg.hot("noting that a day was swept");
    loan.execute(query).await.map(drop)
}

/// Deletes what has expired of a day. False: the time is up; begun again, it finds less.
async fn sweep(
    shared: &Shared,
    rules: &Rules,
    day: NaiveDate,
    end: Instant,
) -> Result<bool, Outage> {
    let expired = rules.on(day);
    let (mut after, mut deleted) = (JobId::nil(), 0);
    loop {
        let query = sqlx::query(concat!(
            "WITH slice AS (SELECT id FROM millstream.job
               WHERE id > $1 AND id >= millstream.uuid_at($2::date::timestamp AT TIME ZONE 'UTC')
                 AND id < millstream.uuid_at(($2::date + 1)::timestamp AT TIME ZONE 'UTC') ORDER BY id LIMIT $3)
             , gone AS (DELETE FROM millstream.job WHERE id = ANY(ARRAY(SELECT id FROM slice))
                 AND id >= millstream.uuid_at($2::date::timestamp AT TIME ZONE 'UTC') AND id < millstream.uuid_at(($2::date + 1)::timestamp AT TIME ZONE 'UTC')
                 AND state IN (2, 7) AND ($4 AND tenant_id <> ALL($5) OR tenant_id = ANY($6)) AND (SELECT millstream.rules()) = $7 RETURNING id)",
            with_all_that_hangs_on_it!(),
            "SELECT (SELECT id FROM slice ORDER BY id DESC LIMIT 1) AS last, (SELECT count(*) FROM gone) AS gone"
        ))
        .bind(after)
        .bind(day)
        .bind(SLICE)
        .bind(expired.by_default)
        .bind(&expired.longer)
        .bind(&expired.own)
        .bind(rules.print());
        let row = shared.pg.hot("deleting old jobs").one(query).await?;
        deleted += row.get::<i64, _>("gone");
        let Some(last) = row.get::<Option<JobId>, _>("last") else {
            break;
        };
        after = last;
        if Instant::now() > end {
            return Ok(false);
        }
    }
    if deleted > 0 {
        tracing::info!(%day, deleted, "finished jobs of tenants with a rule of their own were deleted");
    }
    Ok(true)
}

/// Jobs that were moved out of their day, or had the id of a day without a partition, go one by one after they have ended. False: the time is up.
pub(super) async fn default_partition(
    shared: &Shared,
    rules: &Rules,
    end: Instant,
) -> Result<bool, Outage> {
    loop {
        let query = sqlx::query_scalar(concat!(
            "WITH old AS (SELECT j.id FROM millstream.job_default j JOIN millstream.tenant t ON t.id = j.tenant_id
               WHERE j.state IN (2, 7) AND j.finished_at < now() - COALESCE(t.keep_days, $1) * interval '1 day' LIMIT $2)
             , gone AS (DELETE FROM millstream.job_default WHERE id = ANY(ARRAY(SELECT id FROM old)) AND state IN (2, 7) RETURNING id)",
            with_all_that_hangs_on_it!(),
            "SELECT count(*) FROM gone"
        ))
        .bind(rules.keep_days().map(u32::cast_signed))
        .bind(SLICE);
        let loan = shared.pg.hot("deleting old jobs of the default partition");
        let gone: i64 = loan.one(query).await?;
        if gone < SLICE {
            return Ok(true);
        }
        if Instant::now() > end {
            return Ok(false);
        }
    }
}

/// Batches that have ended go after as many days as the jobs of their tenant. Those of documents go with their documents. False: the
/// time is up.
pub(super) async fn batches(shared: &Shared, rules: &Rules, end: Instant) -> Result<bool, Outage> {
    loop {
        let query = sqlx::query_scalar(
            "WITH gone AS (
               DELETE FROM millstream.batch WHERE ended_at IS NOT NULL AND id = ANY(ARRAY(
                 SELECT b.id FROM millstream.batch b JOIN millstream.tenant t ON t.id = b.tenant_id
                 WHERE b.system IS NULL AND b.ended_at < now() - COALESCE(t.keep_days, $1) * interval '1 day' LIMIT $2))
               RETURNING id
             ), changes AS (DELETE FROM millstream.batch_change c USING gone WHERE c.batch_id = gone.id)
             SELECT count(*) FROM gone",
        )
        .bind(rules.keep_days().map(u32::cast_signed))
        .bind(SLICE);
        let gone: i64 = shared.pg.hot("deleting old batches").one(query).await?;
        if gone < SLICE {
            return Ok(true);
        }
        if Instant::now() > end {
            return Ok(false);
        }
    }
}
