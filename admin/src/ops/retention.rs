//! Retention: the days of jobs that are there, when they go, and the tenants' own rules.

use chrono::{Days, NaiveDate};
use millstream_common::{
    error::{Error, Outage, Refusal},
    pg::Pg,
};
use serde::Serialize;

use super::{
    names::{Thing, not_found},
    row, rows,
};

/// The longest rule, in days: a hundred years.
pub const KEEP_DAYS_MAX: u32 = 36_500;

/// One day of jobs.
#[derive(Debug, Clone, Serialize)]
pub struct Day {
    /// When its jobs were enqueued, in UTC.
    pub day: NaiveDate,
    /// As Postgres last estimated.
    pub jobs_estimated: i64,
    /// On disk, with its indexes.
    pub bytes: i64,
    /// The first day on which it may be dropped, in UTC; none: never.
    pub goes_on: Option<NaiveDate>,
}

/// The days that have a partition, oldest first, if finished jobs are kept for so long.
pub async fn days(pg: &Pg, keep_days: Option<u32>) -> Result<Vec<Day>, Outage> {
    let query = sqlx::query_as::<_, (NaiveDate, i64, i64)>(
        "SELECT day, jobs_estimated, bytes FROM millstream.days()",
    );
    let found = rows(pg, "listing the days of jobs", query).await?;
    let goes_on = |day: NaiveDate| day.checked_add_days(Days::new(u64::from(keep_days?) + 1));
    Ok(found
        .into_iter()
        .map(|(day, jobs_estimated, bytes)| Day {
            day,
            jobs_estimated,
            bytes,
            goes_on: goes_on(day),
        })
        .collect())
}

/// Sets a tenant's own rule; `None`: as configured for all.
pub async fn keep(pg: &Pg, tenant: &str, days: Option<u32>, actor: &str) -> Result<(), Error> {
    if days.is_some_and(|days| !(1..=KEEP_DAYS_MAX).contains(&days)) {
        return Err(
            Refusal::Invalid(format!("jobs can be kept for 1 to {KEEP_DAYS_MAX} days")).into(),
        );
    }
    let query = sqlx::query_as::<_, (bool,)>(
        "WITH changed AS (
           UPDATE millstream.tenant SET keep_days = $2, keep_days_set_at = now() WHERE name = $1 RETURNING name
         ), noted AS (
           INSERT INTO millstream.audit (actor, action, detail) SELECT $3, 'tenant keep', jsonb_build_object('tenant', name, 'keep_days', $2::int) FROM changed
         ) SELECT EXISTS (SELECT 1 FROM changed)",
    )
    .bind(tenant)
    .bind(days.map(u32::cast_signed))
    .bind(actor);
    match row(pg, "setting how long jobs are kept", query).await? {
        Some((true,)) => Ok(()),
        _ => Err(not_found(Thing::Tenant, tenant).into()),
    }
}
