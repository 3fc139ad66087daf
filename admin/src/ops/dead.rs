//! Dead letters: jobs that ended for good without success, until somebody redrives or purges them.

use chrono::{DateTime, Utc};
use millstream_common::{id::JobId, pg::Pg, state::State};
use serde::Serialize;
use sqlx::FromRow;

use super::{Error, Outage, PAGE_ROWS_MAX, jobs, jobs::Filter, moves::STEP_JOBS, rows};

/// One dead letter.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct DeadLetter {
    /// Which job.
    pub id: JobId,
    /// Its kind.
    pub kind: String,
    /// Its queue.
    pub queue: String,
    /// Its tenant.
    pub tenant: String,
    /// `attempts`, `permanent`, `crash`, `undecodable` or `deadline`.
    pub reason: String,
    /// Text of the last failure.
    pub error: String,
    /// When.
    pub died_at: DateTime<Utc>,
}

/// A page and the way to the next one.
#[derive(Debug, Serialize)]
pub struct DeadPage {
    /// Newest job first.
    pub items: Vec<DeadLetter>,
    /// Give this as the cursor; absent on the last page.
    pub next: Option<JobId>,
}

/// One page of dead letters. The states of the filter are not looked at.
pub async fn list(
    pg: &Pg,
    filter: &Filter,
    limit: u32,
    cursor: Option<JobId>,
) -> Result<DeadPage, Error> {
    let limit = limit.clamp(1, PAGE_ROWS_MAX);
    let dead = Filter {
        states: vec![State::Dead],
        ..filter.clone()
    };
    let mut ids = jobs::ids(pg, &dead, limit + 1, cursor).await?;
    let more = ids.len() > limit as usize;
    ids.truncate(limit as usize);
    Ok(DeadPage {
        next: ids.last().copied().filter(|_| more),
        items: letters(pg, &ids).await?,
    })
}

/// The letters of these jobs, newest job first.
pub async fn letters(pg: &Pg, ids: &[JobId]) -> Result<Vec<DeadLetter>, Outage> {
    let query = sqlx::query_as(
        "SELECT d.job_id AS id, k.name::text AS kind, q.name::text AS queue, t.name::text AS tenant, d.reason, d.error, d.died_at
         FROM millstream.dead_letter d JOIN millstream.kind k ON k.id = d.kind_id JOIN millstream.queue q ON q.id = d.queue_id
         JOIN millstream.tenant t ON t.id = d.tenant_id
         WHERE d.job_id = ANY($1) ORDER BY d.job_id DESC",
    );
    rows(pg, "reading dead letters", query.bind(ids)).await
}

/// Deletes dead jobs with everything that hangs on them; nothing brings them back. Others are left alone. Returns the ids
/// deleted.
pub async fn purge(pg: &Pg, ids: &[JobId], actor: &str) -> Result<Vec<JobId>, Outage> {
    let mut purged = Vec::new();
    for step in ids.chunks(STEP_JOBS as usize) {
        let query = sqlx::query_as::<_, (JobId,)>(PURGE).bind(step).bind(actor);
        purged.extend(
            rows(pg, "purging dead jobs", query)
                .await?
                .into_iter()
                .map(|(id,)| id),
        );
    }
    Ok(purged)
}

/// Deletes all dead jobs that the filter means. Returns how many.
pub async fn purge_all(pg: &Pg, filter: &Filter, actor: &str) -> Result<u64, Error> {
    let dead = Filter {
        states: vec![State::Dead],
        ..filter.clone()
    };
    let (mut done, mut cursor) = (0, None);
    loop {
        let ids = jobs::ids(pg, &dead, STEP_JOBS, cursor).await?;
        let Some(last) = ids.last() else {
            return Ok(done);
        };
        cursor = Some(*last);
        done += purge(pg, &ids, actor).await?.len() as u64;
    }
}

/// The idempotency key goes too: it would name a job that is no more, and keep the next one with it from being written.
const PURGE: &str = "WITH purged AS (
    DELETE FROM millstream.job WHERE id = ANY($1) AND state = 8 RETURNING id
  ), letters AS (DELETE FROM millstream.dead_letter d USING purged p WHERE d.job_id = p.id
  ), errors AS (DELETE FROM millstream.job_error e USING purged p WHERE e.job_id = p.id
  ), lines AS (DELETE FROM millstream.job_log l USING purged p WHERE l.job_id = p.id
  ), keys AS (DELETE FROM millstream.job_key k USING purged p WHERE k.job_id = p.id
  ), audited AS (
    INSERT INTO millstream.audit (actor, action, detail)
    SELECT $2, 'purge', jsonb_build_object('jobs', jsonb_agg(id)) FROM purged HAVING count(*) > 0
  )
  SELECT id FROM purged";
