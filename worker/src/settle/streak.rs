//! For how long and how often a job has met nothing but what it met this time: a server out of reach, or one that asks to wait without
//! saying how long. That tells an outage of theirs from a wrong address, and how much longer to wait.
//!
//! Counted from the first of the rows of one class with which its error history ends, on the clock of Postgres, which wrote them. How old
//! the job is says nothing: it may have been scheduled, redriven, or have waited its turn. Any other end of a run begins a new count.

use std::{collections::HashMap, time::Duration};

use millstream_common::{error::Outage, id::JobId};
use sqlx::Row;

use super::{Ended, Patience, verdict::Streak};
use crate::{api::Failure, shared::Shared};

/// A job whose history matters: id, attempts, and the class of its error.
type Asked = (JobId, i16, &'static str);

/// By job, of those in the batch whose history matters; `None`: Postgres did not answer within a lease.
pub(super) async fn streaks(shared: &Shared, batch: &[Ended]) -> Option<HashMap<JobId, Streak>> {
    let asked: Vec<Asked> = batch.iter().filter_map(asked).collect();
    if asked.is_empty() {
        return Some(HashMap::new());
    }
    let mut patience = Patience::new(shared);
    loop {
        match read(shared, &asked).await {
            Ok(streaks) => return Some(streaks),
            Err(outage) if patience.allows_another(&outage).await => {}
            Err(_) => return None,
        }
    }
}

/// A job that is out for the first time has no history.
fn asked(ended: &Ended) -> Option<Asked> {
    let class = match ended.outcome.as_ref().err()? {
        Failure::Unavailable(_) => "unavailable",
        Failure::RateLimited { after: None, .. } => "rate_limited",
        _ => return None,
    };
    (ended.job.hold.epoch > 0).then_some((ended.job.hold.id, ended.job.attempt, class))
}

/// A row that has counted more attempts than the job has now is of a life before a redrive. A clock of Postgres that was set back makes
/// a streak new, not negative.
async fn read(shared: &Shared, asked: &[Asked]) -> Result<HashMap<JobId, Streak>, Outage> {
    let query = sqlx::query(
        "SELECT u.id, GREATEST(extract(epoch FROM now() - same.ats[1]), 0)::float8, cardinality(same.ats)::bigint
         FROM unnest($1::uuid[], $2::smallint[], $3::text[]) AS u(id, attempt, class)
         CROSS JOIN LATERAL (SELECT COALESCE(max(o.epoch), -1) AS epoch FROM millstream.job_error o
           WHERE o.job_id = u.id AND (o.class <> u.class OR o.attempt > u.attempt)) other
         CROSS JOIN LATERAL (SELECT array_agg(e.at ORDER BY e.epoch) AS ats FROM millstream.job_error e
           WHERE e.job_id = u.id AND e.epoch > other.epoch) same
         WHERE cardinality(same.ats) > 0",
    )
    .bind(asked.iter().map(|(id, ..)| *id).collect::<Vec<_>>())
    .bind(asked.iter().map(|(_, attempt, _)| *attempt).collect::<Vec<_>>())
    .bind(asked.iter().map(|(.., class)| *class).collect::<Vec<_>>());
    let loan = shared.pg.hot("reading error histories");
    let rows = loan.all(query).await?;
    Ok(rows
        .iter()
        .map(|row| {
            (
                row.get(0),
                Streak {
                    since: Duration::from_secs_f64(row.get(1)),
                    runs: row.get(2),
                },
            )
        })
        .collect())
}
