//! Batches: what there is, and the moves that people make with a whole one (F40).
//!
//! Moves go in steps of some hundred jobs. One that is cut short has moved whole jobs only, and is repeated.

use chrono::{DateTime, Utc};
use millstream_common::{
    batch::{self, BatchState},
    id::{BatchId, JobId},
    pg::Pg,
};
use serde::Serialize;
use sqlx::FromRow;

use super::{
    Error, Outage, PAGE_ROWS_MAX, Refusal,
    moves::{Move, STEP_JOBS},
    row, rows,
};

/// Failures that are shown with a batch.
const FAILURES_MAX: i64 = 50;

/// A batch and how its jobs have ended.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Batch {
    /// Its id.
    pub id: BatchId,
    /// For people.
    pub name: Option<String>,
    /// Whose it is.
    pub tenant: String,
    /// The part of Millstream that has opened it, such as `documents`.
    #[serde(skip)]
    pub system: Option<String>,
    /// Where it stands.
    pub state: BatchState,
    /// All jobs.
    pub total: i32,
    /// Jobs that have not ended.
    pub pending: i32,
    /// Jobs that have completed.
    pub succeeded: i32,
    /// Jobs that are dead.
    pub dead: i32,
    /// Jobs that were cancelled.
    pub cancelled: i32,
    /// Share of its jobs that have ended, 0 to 1.
    pub progress: f64,
    /// The share of failures of one kind of its work that it bears.
    pub failure_share_max: f32,
    /// Kind of the job that follows.
    pub next_kind: Option<String>,
    /// The job that followed.
    pub next_job_id: Option<JobId>,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
    /// When it was sealed.
    pub sealed_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// When it may end, by the rate so far.
    pub end_estimated_at: Option<DateTime<Utc>>,
}

/// A job of a batch that is dead or cancelled.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct BatchFailure {
    /// Which job.
    pub job_id: JobId,
    /// What it counts as.
    pub work: String,
    /// Text of its last failure.
    pub error: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// A batch with its latest failures.
#[derive(Debug, Clone, Serialize)]
pub struct BatchReport {
    /// The batch.
    #[serde(flatten)]
    pub batch: Batch,
    /// The latest failures first, some dozens at most.
    pub failures: Vec<BatchFailure>,
}

/// A page and the way to the next one.
#[derive(Debug, Serialize)]
pub struct BatchPage {
    /// Newest batch first.
    pub items: Vec<Batch>,
    /// Give this as the cursor; absent on the last page.
    pub next: Option<BatchId>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, tenant, system, state, total, pending, succeeded, dead, cancelled, progress, failure_share_max, next_kind,
                    next_job_id, created_at, sealed_at, ended_at, end_estimated_at
             FROM millstream.batch_view ",
            $rest
        )
    };
}

/// One page of the batches that callers have opened.
pub async fn list(
    pg: &Pg,
    tenant: Option<&str>,
    limit: u32,
    cursor: Option<BatchId>,
) -> Result<BatchPage, Outage> {
    let limit = limit.clamp(1, PAGE_ROWS_MAX);
    let query = sqlx::query_as(select!(
        "WHERE system IS NULL AND ($1::text IS NULL OR tenant = $1) AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3"
    ))
    .bind(tenant)
    .bind(cursor)
    .bind(i64::from(limit) + 1);
    let mut items: Vec<Batch> = rows(pg, "listing batches", query).await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    Ok(BatchPage {
        next: items.last().map(|batch| batch.id).filter(|_| more),
        items,
    })
}

/// One batch.
pub async fn one(pg: &Pg, id: BatchId) -> Result<Option<Batch>, Outage> {
    let query = sqlx::query_as(select!("WHERE id = $1")).bind(id);
    row(pg, "reading a batch", query).await
}

/// One batch with its latest failures.
pub async fn show(pg: &Pg, id: BatchId) -> Result<BatchReport, Error> {
    let batch = one(pg, id).await?.ok_or_else(|| no_batch(id))?;
    let query = sqlx::query_as(
        "SELECT job_id, work, error, at FROM millstream.batch_failure WHERE batch_id = $1 ORDER BY at DESC, job_id DESC LIMIT $2",
    )
    .bind(id)
    .bind(FAILURES_MAX);
    let failures = rows(pg, "reading failures of a batch", query).await?;
    Ok(BatchReport { batch, failures })
}

/// Nobody outside of it can add jobs from here on.
pub async fn seal(pg: &Pg, id: BatchId) -> Result<Batch, Error> {
    ours(pg, id).await?;
    batch::seal(pg, id, false).await?;
    Ok(one(pg, id).await?.ok_or_else(|| no_batch(id))?)
}

/// Seals it and cancels all of its jobs that have not ended.
pub async fn cancel(pg: &Pg, id: BatchId, actor: &str) -> Result<Batch, Error> {
    let found = ours(pg, id).await?;
    if found.state.is_end() && found.state != BatchState::Cancelled {
        let state = found.state.name();
        return Err(Refusal::State(format!("batch {id} is {state} already")).into());
    }
    batch::seal(pg, id, true).await?;
    move_all(pg, Move::Cancel, OPEN_JOBS, id, actor).await?;
    Ok(one(pg, id).await?.ok_or_else(|| no_batch(id))?)
}

/// Gives all of its dead jobs another chance. Returns how many.
pub async fn retry_failed(pg: &Pg, id: BatchId, actor: &str) -> Result<u64, Error> {
    ours(pg, id).await?;
    Ok(move_all(pg, Move::Retry, DEAD_JOBS, id, actor).await?)
}

const OPEN_JOBS: &str = "SELECT id FROM millstream.job
    WHERE batch_id = $1 AND id > $2 AND state IN (0, 1, 3, 4, 5, 6) ORDER BY id LIMIT $3";

const DEAD_JOBS: &str =
    "SELECT f.job_id FROM millstream.batch_failure f JOIN millstream.job j ON j.id = f.job_id
    WHERE f.batch_id = $1 AND f.job_id > $2 AND j.state = 8 ORDER BY f.job_id LIMIT $3";

async fn move_all(
    pg: &Pg,
    act: Move,
    jobs: &'static str,
    id: BatchId,
    actor: &str,
) -> Result<u64, Outage> {
    let (mut moved, mut after) = (0, JobId::nil());
    loop {
        let query = sqlx::query_as::<_, (JobId,)>(jobs)
            .bind(id)
            .bind(after)
            .bind(i64::from(STEP_JOBS));
        let step = rows(pg, "listing jobs of a batch", query).await?;
        let step: Vec<JobId> = step.into_iter().map(|(job,)| job).collect();
        let Some(last) = step.last() else {
            return Ok(moved);
        };
        after = *last;
        moved += act.step(pg, &step, actor).await?.len() as u64;
    }
}

/// The batch, unless it is not there or belongs to a part of Millstream, which moves it by itself.
async fn ours(pg: &Pg, id: BatchId) -> Result<Batch, Error> {
    let batch = one(pg, id).await?.ok_or_else(|| no_batch(id))?;
    match &batch.system {
        None => Ok(batch),
        Some(system) => Err(Refusal::State(format!("batch {id} is one of {system}")).into()),
    }
}

fn no_batch(id: BatchId) -> Refusal {
    Refusal::NotFound(format!("there is no batch {id}"))
}
