//! Fan-out: the jobs of the next stage, in the transaction that settles the job which asks for them (P2, F41).
//!
//! The jobs of a stage are a batch. It is opened, gets its jobs, and is sealed. No jobs at all: the batch ends at once, and with
//! it the stage. A job that counts as other work than its kind says so in its metadata, because a batch bears a share of
//! failures of each kind of work and not of all together.

use std::collections::HashMap;

use millstream_common::{
    catalog::JobNames,
    id::BatchId,
    job::NewJob,
    limits::PARCEL_JOBS_MAX,
    persist::{Ids, persist},
};
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::QUEUE;

/// The stage that extraction fans out into: one job per image.
pub(super) const IMAGES: i16 = 2;
/// The stage that chunking fans out into: three analyses and a vector per chunk.
pub(super) const ANALYSIS: i16 = 4;

/// A job to be.
pub(super) struct StageJob {
    kind: &'static str,
    /// What it counts as, if not as work of its kind.
    work: Option<&'static str>,
    payload: String,
}

impl StageJob {
    /// A payload is a struct of plain fields, so it always serialises; if it did not, the job would be refused as undecodable.
    pub(super) fn new(kind: &'static str, payload: &impl Serialize) -> Self {
        Self {
            kind,
            work: None,
            payload: serde_json::to_string(payload).unwrap_or_default(),
        }
    }

    /// The job counts as work of this name, not as that of its kind.
    pub(super) fn of_work(self, work: &'static str) -> Self {
        Self {
            work: Some(work),
            ..self
        }
    }
}

/// Opens stage `ordinal` of the document with these jobs.
pub(super) async fn open(
    conn: &mut PgConnection,
    document_id: Uuid,
    ordinal: i16,
    mut jobs: impl Iterator<Item = StageJob> + Send,
) -> Result<(), sqlx::Error> {
    let stage: BatchId = sqlx::query_scalar("SELECT millstream.open_stage($1, $2)")
        .bind(document_id)
        .bind(ordinal)
        .fetch_one(&mut *conn)
        .await?;
    let names = Names::read(conn, document_id).await?;
    loop {
        let slice: Vec<(NewJob, JobNames)> = jobs
            .by_ref()
            .take(PARCEL_JOBS_MAX)
            .map(|job| names.job(job, stage))
            .collect::<Result<_, _>>()?;
        if slice.is_empty() {
            break;
        }
        persist(conn, &slice, false, Ids::MayExist).await?;
    }
    sqlx::query("SELECT millstream.close_batch($1, false)")
        .bind(stage)
        .execute(conn)
        .await
        .map(drop)
}

/// The numbers of the names that the jobs of one document use.
struct Names {
    queue: i32,
    tenant: i32,
    kinds: HashMap<String, i32>,
}

impl Names {
    async fn read(conn: &mut PgConnection, document_id: Uuid) -> Result<Self, sqlx::Error> {
        let (tenant, queue) =
            sqlx::query_as("SELECT d.tenant_id, q.id FROM millstream.document d JOIN millstream.queue q ON q.name = $2 WHERE d.id = $1")
                .bind(document_id)
                .bind(QUEUE)
                .fetch_one(&mut *conn)
                .await?;
        let kinds: Vec<(String, i32)> = sqlx::query_as(
            "SELECT name::text, id FROM millstream.kind WHERE name LIKE 'document.%'",
        )
        .fetch_all(conn)
        .await?;
        Ok(Self {
            queue,
            tenant,
            kinds: kinds.into_iter().collect(),
        })
    }

    fn job(&self, job: StageJob, stage: BatchId) -> Result<(NewJob, JobNames), sqlx::Error> {
        let kind = *self.kinds.get(job.kind).ok_or(sqlx::Error::RowNotFound)?;
        let new = NewJob {
            queue: QUEUE.to_owned(),
            batch_id: Some(stage),
            metadata: job.work.map(|work| json!({ "work": work }).to_string()),
            ..NewJob::new(job.kind, job.payload)
        };
        Ok((
            new,
            JobNames {
                queue: self.queue,
                kind,
                tenant: self.tenant,
            },
        ))
    }
}

#[cfg(test)]
impl StageJob {
    /// For tests: what tells two jobs apart.
    pub(super) fn described(&self) -> String {
        format!("{} {}", self.kind, self.payload)
    }
}
