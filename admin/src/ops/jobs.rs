//! Jobs as people and other languages see them: by id, or page by page, newest first.
//!
//! Pages go by id (a `UUIDv7`, so by time of enqueuing): no offset, no count, the same cost on page 1 and on page 1000.

use chrono::{DateTime, Utc};
use millstream_common::{id::JobId, pg::Pg, state::State};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::{FromRow, types::Json};

use super::{
    Error, Outage, PAGE_ROWS_MAX,
    names::{Thing, id_of},
    page, rows,
};

/// JSON exactly as it was given.
pub type RawJson = Json<Box<RawValue>>;

/// One job. The fields and their names are part of the outside interface.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Job {
    /// `UUIDv7`.
    pub id: JobId,
    /// Name of the handler.
    pub kind: String,
    /// Name of the queue.
    pub queue: String,
    /// `high`, `medium` or `low`.
    pub priority: String,
    /// One of the names of [`State`].
    pub state: String,
    /// As enqueued.
    pub payload: Option<RawJson>,
    /// As enqueued.
    pub metadata: Option<RawJson>,
    /// Name of the tenant.
    pub tenant: String,
    /// The batch it belongs to.
    pub batch_id: Option<uuid::Uuid>,
    /// The try that runs, or ran last, counted from 1; 0: none has begun.
    pub attempt: i32,
    /// Counted tries at most.
    pub max_attempts: i32,
    /// Number of the hand-out; only grows.
    pub epoch: i32,
    /// When it is due, while it is put off.
    pub run_at: Option<DateTime<Utc>>,
    /// When its row was written.
    pub enqueued_at: DateTime<Utc>,
    /// Start of the last try.
    pub started_at: Option<DateTime<Utc>>,
    /// When it became final.
    pub finished_at: Option<DateTime<Utc>>,
    /// Name of the worker that has or had it.
    pub worker: Option<String>,
    /// 0 to 1, as the handler told.
    pub progress: Option<f32>,
    /// What the handler said with it, while the job runs.
    pub progress_note: Option<String>,
    /// What the handler returned.
    pub result: Option<RawJson>,
    /// Text of the last failure; none once it has completed.
    pub error: Option<String>,
    /// Everything that went wrong, oldest first.
    #[sqlx(skip)]
    pub errors: Vec<JobError>,
}

/// One try that failed, crashed or was put off.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct JobError {
    /// Which job; not shown inside the job.
    #[serde(skip)]
    pub job_id: JobId,
    /// In which try, counted from 1.
    pub attempt: i32,
    /// Whether it used the try up. Rate limits, crashes and outages do not.
    pub counted: bool,
    /// Which hand-out.
    pub epoch: i32,
    /// `retry`, `permanent`, `rate_limited`, `timeout`, `panic`, `crash`, `cancelled`, `undecodable` or `unavailable`.
    pub class: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Name of the worker.
    pub worker: Option<String>,
    /// Bounded text.
    pub message: String,
}

/// Which jobs are meant. Empty: all of them.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Any of these states; empty: any state.
    pub states: Vec<State>,
    /// Name of a queue.
    pub queue: Option<String>,
    /// Name of a kind.
    pub kind: Option<String>,
    /// Name of a tenant.
    pub tenant: Option<String>,
    /// Enqueued at or after, by the time in the id.
    pub since: Option<DateTime<Utc>>,
}

impl Filter {
    /// Says nothing: every job is meant.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
            && self.queue.is_none()
            && self.kind.is_none()
            && self.tenant.is_none()
            && self.since.is_none()
    }
}

/// A page and the way to the next one.
#[derive(Debug, Serialize)]
pub struct JobPage {
    /// Newest first.
    pub items: Vec<Job>,
    /// Give this as the cursor; absent on the last page.
    pub next: Option<JobId>,
}

const COLUMNS_FROM_VIEW: &str =
    "SELECT id, kind, queue, priority, state, payload, metadata, tenant, batch_id, attempt, max_attempts, epoch, run_at,
    enqueued_at, started_at, finished_at, worker, progress, progress_note, result, error
  FROM millstream.job_view WHERE id = ANY($1) ORDER BY id DESC";

/// The jobs with these ids that exist, newest first.
pub async fn show(pg: &Pg, ids: &[JobId]) -> Result<Vec<Job>, Outage> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut jobs: Vec<Job> = rows(
        pg,
        "reading jobs",
        sqlx::query_as(COLUMNS_FROM_VIEW).bind(ids),
    )
    .await?;
    for error in errors(pg, ids).await? {
        if let Some(job) = jobs.iter_mut().find(|job| job.id == error.job_id) {
            job.errors.push(error);
        }
    }
    Ok(jobs)
}

/// One job, if it exists.
pub async fn one(pg: &Pg, id: JobId) -> Result<Option<Job>, Outage> {
    Ok(show(pg, &[id]).await?.into_iter().next())
}

/// One page of jobs: as many as asked for, or as fit (see [`page::PAGE_BYTES_MAX`]).
pub async fn list(
    pg: &Pg,
    filter: &Filter,
    limit: u32,
    cursor: Option<JobId>,
) -> Result<JobPage, Error> {
    let limit = limit.clamp(1, PAGE_ROWS_MAX);
    // One row more than asked tells whether there is a next page.
    let mut ids = ids(pg, filter, limit + 1, cursor).await?;
    let asked = ids.len().min(limit as usize);
    // Jobs that are gone by now do not count, and never empty a page that has a next one.
    let fitting = if asked > 1 {
        page::fitting(pg, &ids[..asked]).await?.max(1)
    } else {
        asked
    };
    let more = ids.len() > fitting;
    ids.truncate(fitting);
    let next = ids.last().copied().filter(|_| more);
    Ok(JobPage {
        items: show(pg, &ids).await?,
        next,
    })
}

/// The ids of the jobs meant, newest first, below `cursor`.
pub async fn ids(
    pg: &Pg,
    filter: &Filter,
    limit: u32,
    cursor: Option<JobId>,
) -> Result<Vec<JobId>, Error> {
    let queue = number(pg, Thing::Queue, filter.queue.as_deref()).await?;
    let kind = number(pg, Thing::Kind, filter.kind.as_deref()).await?;
    let tenant = number(pg, Thing::Tenant, filter.tenant.as_deref()).await?;
    let states: Option<Vec<i16>> =
        (!filter.states.is_empty()).then(|| filter.states.iter().map(|s| s.number()).collect());
    let query = sqlx::query_as::<_, (JobId,)>(source(&filter.states))
        .bind(cursor)
        .bind(states)
        .bind(queue)
        .bind(kind)
        .bind(tenant)
        .bind(filter.since)
        .bind(i64::from(limit));
    Ok(rows(pg, "listing jobs", query)
        .await?
        .into_iter()
        .map(|(id,)| id)
        .collect())
}

async fn errors(pg: &Pg, ids: &[JobId]) -> Result<Vec<JobError>, Outage> {
    let query = sqlx::query_as(
        "SELECT e.job_id, e.attempt, e.counted, e.epoch, e.class, e.at, e.worker, e.message
         FROM millstream.job_error_view e WHERE e.job_id = ANY($1) ORDER BY e.job_id, e.epoch",
    );
    rows(pg, "reading job errors", query.bind(ids)).await
}

async fn number(pg: &Pg, thing: Thing, name: Option<&str>) -> Result<Option<i32>, Error> {
    match name {
        Some(name) => id_of(pg, thing, name).await.map(Some),
        None => Ok(None),
    }
}

/// The same conditions over the smallest table that has every job meant: the job table has no index on the state.
macro_rules! ids_from {
    ($from:literal, $also:literal) => {
        concat!(
            "SELECT j.id FROM ",
            $from,
            " WHERE ",
            $also,
            "($1::uuid IS NULL OR j.id < $1) AND ($2::smallint[] IS NULL OR j.state = ANY($2))
              AND ($3::int IS NULL OR j.queue_id = $3) AND ($4::int IS NULL OR j.kind_id = $4) AND ($5::int IS NULL OR j.tenant_id = $5)
              AND ($6::timestamptz IS NULL OR j.id >= millstream.uuid_at($6))
             ORDER BY j.id DESC LIMIT $7"
        )
    };
}

fn source(states: &[State]) -> &'static str {
    let put_off = |s: &State| matches!(s, State::Scheduled | State::Retryable | State::RateLimited);
    match states {
        [State::Dead] => ids_from!(
            "millstream.dead_letter d JOIN millstream.job j ON j.id = d.job_id",
            ""
        ),
        [State::Running] => ids_from!(
            "millstream.lease l JOIN millstream.job j ON j.id = l.job_id",
            ""
        ),
        states if !states.is_empty() && states.iter().all(put_off) => {
            ids_from!("millstream.job j", "j.ready_at IS NOT NULL AND ")
        }
        _ => ids_from!("millstream.job j", ""),
    }
}
