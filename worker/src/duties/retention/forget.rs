//! After a day was dropped: the errors, log lines and idempotency keys of jobs that are not there any more go too, in steps.

use std::time::Instant;

use chrono::NaiveDate;
use millstream_common::error::Outage;

use crate::shared::Shared;

/// Rows of each kind deleted in one statement.
const STEP: i64 = 5_000;

/// Ids of day $1 in a table.
macro_rules! of_the_day {
    () => {
        " job_id >= millstream.uuid_at($1::date::timestamp AT TIME ZONE 'UTC') AND job_id < millstream.uuid_at(($1::date + 1)::timestamp AT TIME ZONE 'UTC')
          AND NOT EXISTS (SELECT 1 FROM millstream.job j WHERE j.id = job_id) ORDER BY job_id LIMIT $2"
    };
}

/// What hung on jobs of dropped days. False: the time is up.
pub(super) async fn dropped_days(shared: &Shared, end: Instant) -> Result<bool, Outage> {
    let query =
        sqlx::query_scalar("SELECT day FROM millstream.swept WHERE keep_days = 0 ORDER BY day");
    let days: Vec<NaiveDate> = shared.pg.hot("listing dropped days").all(query).await?;
    for day in days {
        while step(shared, day).await? > 0 {
            if Instant::now() > end {
                return Ok(false);
            }
        }
        let close = sqlx::query("DELETE FROM millstream.swept WHERE day = $1 AND keep_days = 0");
        let loan = shared.pg.hot("closing a dropped day");
        loan.execute(close.bind(day)).await?;
    }
    Ok(true)
}

/// Returns how many rows went.
async fn step(shared: &Shared, day: NaiveDate) -> Result<u64, Outage> {
    let mut lent = shared.pg.hot("forgetting what hangs on old jobs").await?;
    let mut gone = 0;
    for statement in [
        concat!(
            "DELETE FROM millstream.job_error WHERE (job_id, epoch) IN (SELECT job_id, epoch FROM millstream.job_error WHERE",
            of_the_day!(),
            ")"
        ),
        concat!(
            "DELETE FROM millstream.job_log WHERE id IN (SELECT id FROM millstream.job_log WHERE",
            of_the_day!(),
            ")"
        ),
        concat!(
            "DELETE FROM millstream.job_key WHERE (tenant_id, key) IN (SELECT tenant_id, key FROM millstream.job_key WHERE",
            of_the_day!(),
            ")"
        ),
    ] {
        let delete = sqlx::query(statement).bind(day).bind(STEP);
        gone += lent.execute(delete).await?;
    }
    Ok(gone)
}
