//! Batches as callers see them: a group of jobs is opened, gets its jobs, and is sealed (F40).
//!
//! The rules are those of `millstream.open_batch` and `millstream.seal_batch`, so every door has the same. Jobs name their batch
//! in [`NewJob::batch_id`](crate::job::NewJob::batch_id). How they are counted is not known here.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::{
    error::{Error, Outage, Refusal},
    id::{BatchId, new_job_id},
    persist::is_held,
    pg::Pg,
};

/// So long is waited for transactions that add jobs to a batch which is to be sealed.
const SEAL_PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries to seal: each waits by itself for a fifth of a second.
const SEAL_EVERY: Duration = Duration::from_millis(50);

/// A batch to be opened.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// Made here unless the caller brings one; opening the same id twice makes one batch.
    pub id: BatchId,
    /// For people.
    pub name: Option<String>,
    /// The tenant's name. Its jobs are of the same.
    pub tenant: String,
    /// The batch fails when a larger share of one kind of its work is dead or cancelled.
    pub failure_share_max: f32,
    /// The job that follows.
    pub next: Option<Next>,
}

/// The job that a batch starts when it ends, once.
#[derive(Debug, Clone)]
pub struct Next {
    /// Its kind, which exists.
    pub kind: String,
    /// Its queue.
    pub queue: String,
    /// A JSON object. It gets a field `batch`, which says how the batch has ended.
    pub payload: String,
    /// Not when the batch has failed or was cancelled.
    pub only_if_completed: bool,
}

/// Where a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum BatchState {
    /// It takes jobs.
    Open,
    /// It takes jobs from its own jobs only.
    Sealed,
    /// All jobs have ended, and as many as it asks for have succeeded.
    Completed,
    /// All jobs have ended, too many of them without success.
    Failed,
    /// It was cancelled, and all jobs have ended.
    Cancelled,
}

impl BatchState {
    /// The name in JSON and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Sealed => "sealed",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether all of its jobs have ended.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl Default for NewBatch {
    fn default() -> Self {
        Self {
            id: new_job_id(),
            name: None,
            tenant: "default".into(),
            failure_share_max: 0.0,
            next: None,
        }
    }
}

impl Next {
    /// A job of this kind with no payload of its own, at every end of the batch.
    pub fn new(kind: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            queue: "default".into(),
            payload: "{}".into(),
            only_if_completed: false,
        }
    }
}

/// Opens a batch. Safe to repeat.
pub async fn open(pg: &Pg, batch: &NewBatch) -> Result<BatchId, Error> {
    let next = batch.next.as_ref();
    let query = sqlx::query_scalar(
        "SELECT millstream.open_batch($1, $2, $3, $4, $5::text::jsonb, $6, $7, $8)",
    )
    .bind(&batch.name)
    .bind(&batch.tenant)
    .bind(batch.failure_share_max)
    .bind(next.map(|next| &next.kind))
    .bind(next.map_or("{}", |next| &next.payload))
    .bind(next.map_or("default", |next| &next.queue))
    .bind(if next.is_some_and(|next| next.only_if_completed) {
        "completed"
    } else {
        "ended"
    })
    .bind(batch.id);
    pg.repeat("opening a batch")
        .one(query)
        .await
        .map_err(blamed)
}

/// What the caller has asked for and cannot have.
fn blamed(outage: Outage) -> Error {
    match &outage {
        Outage::Postgres {
            source: sqlx::Error::Database(error),
            ..
        } if outage.is_about_the_data() => Refusal::Invalid(error.message().to_owned()).into(),
        _ => outage.into(),
    }
}

/// Seals a batch, and says where it stands then. `cancel`: it will end as cancelled, and the caller cancels its jobs. `None`: there is
/// no such batch. Safe to repeat. Waits a moment for those who are adding jobs.
pub async fn seal(pg: &Pg, id: BatchId, cancel: bool) -> Result<Option<BatchState>, Error> {
    let deadline = Instant::now() + SEAL_PATIENCE;
    loop {
        let query = sqlx::query_scalar(if cancel {
            "SELECT millstream.close_batch($1, true)"
        } else {
            "SELECT millstream.seal_batch($1)"
        })
        .bind(id);
        match pg.repeat("sealing a batch").one(query).await {
            Err(outage) if is_held(&outage) && Instant::now() < deadline => {
                sleep(SEAL_EVERY).await;
            }
            Err(outage) if is_held(&outage) => {
                let why = format!(
                    "a transaction that adds jobs to batch {id} is still open; seal it again when that has ended"
                );
                return Err(Refusal::Conflict(why).into());
            }
            answer => return Ok(answer?),
        }
    }
}
