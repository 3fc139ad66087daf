//! For how long and how often a job has found nothing but a server out of reach: what tells an outage of theirs from a wrong address.
//!
//! Counted from the first of the `unavailable` rows with which its error history ends, on the clock of Postgres, which wrote them. How old
//! the job is says nothing: it may have been scheduled, redriven, or have waited its turn. Any other end of a run begins a new count.

use std::{collections::HashMap, time::Duration};

use millstream_common::{error::Outage, id::JobId, pg::within};
use sqlx::{PgConnection, Row};

use super::{Ended, Patience, verdict::Away};
use crate::{outcome::Failure, shared::Shared};

/// By job, of those in the batch that have met one before; `None`: Postgres did not answer within a lease.
pub(super) async fn outages(shared: &Shared, batch: &[Ended]) -> Option<HashMap<JobId, Away>> {
    let asked: Vec<(JobId, i16)> = batch.iter().filter(|ended| has_history(ended)).map(|e| (e.job.hold.id, e.job.attempt)).collect();
    if asked.is_empty() {
        return Some(HashMap::new());
    }
    let mut patience = Patience::new(shared);
    loop {
        match read(shared, &asked).await {
            Ok(outages) => return Some(outages),
            Err(outage) if patience.allows_another(&outage).await => {}
            Err(_) => return None,
        }
    }
}

/// A job that is out for the first time has none.
fn has_history(ended: &Ended) -> bool {
    matches!(ended.outcome, Err(Failure::Unavailable(_))) && ended.job.hold.epoch > 0
}

async fn read(shared: &Shared, asked: &[(JobId, i16)]) -> Result<HashMap<JobId, Away>, Outage> {
    let op = "reading error histories";
    let mut lent = shared.pg.hot(op).await?;
    let outages = within(op, trailing(lent.conn(), asked)).await?;
    lent.done();
    Ok(outages)
}

/// A row that has counted more attempts than the job has now is of a life before a redrive. A clock of Postgres that was set back makes
/// an outage new, not negative.
async fn trailing(conn: &mut PgConnection, asked: &[(JobId, i16)]) -> Result<HashMap<JobId, Away>, sqlx::Error> {
    let (ids, attempts): (Vec<JobId>, Vec<i16>) = asked.iter().copied().unzip();
    let rows = sqlx::query(
        "SELECT u.id, GREATEST(extract(epoch FROM now() - away.ats[1]), 0)::float8, cardinality(away.ats)::bigint
         FROM unnest($1::uuid[], $2::smallint[]) AS u(id, attempt)
         CROSS JOIN LATERAL (SELECT COALESCE(max(o.epoch), -1) AS epoch FROM millstream.job_error o
           WHERE o.job_id = u.id AND (o.class <> 'unavailable' OR o.attempt > u.attempt)) other
         CROSS JOIN LATERAL (SELECT array_agg(e.at ORDER BY e.epoch) AS ats FROM millstream.job_error e
           WHERE e.job_id = u.id AND e.epoch > other.epoch) away
         WHERE cardinality(away.ats) > 0",
    )
    .bind(ids)
    .bind(attempts)
    .fetch_all(conn)
    .await?;
    Ok(rows.iter().map(|row| (row.get(0), Away { since: Duration::from_secs_f64(row.get(1)), runs: row.get(2) })).collect())
}
