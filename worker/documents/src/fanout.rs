//! Fan-out: the jobs of the next stage, in the transaction that settles the job which asks for them (P2, F41).
//!
//! The stage is told its number of jobs first and then gets exactly so many; nothing here is visible before COMMIT, so no
//! job can end before all are counted. No jobs at all: the database closes the stage and starts the one after it. Last, the
//! jobs are counted by what they do, because a stage bears a share of failures of each kind of work and not of all together.

use std::collections::{BTreeMap, HashMap};

use millstream_common::{
    catalog::JobNames,
    job::NewJob,
    limits::PARCEL_JOBS_MAX,
    persist::{Ids, persist},
};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::QUEUE;

/// The stage that extraction fans out into: one job per image.
pub(super) const IMAGES: i16 = 2;
/// The stage that chunking fans out into: three analyses and a vector per chunk.
pub(super) const ANALYSIS: i16 = 4;

/// Begins the names of all kinds of the pipeline.
const KINDS_PREFIX: &str = "document.";

/// A job to be.
pub(super) struct StageJob {
    kind: &'static str,
    /// As `millstream.work_of` names it.
    work: &'static str,
    payload: String,
}

impl StageJob {
    /// A payload is a struct of plain fields, so it always serialises; if it did not, the job would be refused as undecodable.
    pub(super) fn new(kind: &'static str, payload: &impl Serialize) -> Self {
        let work = kind.strip_prefix(KINDS_PREFIX).unwrap_or(kind);
        Self {
            kind,
            work,
            payload: serde_json::to_string(payload).unwrap_or_default(),
        }
    }

    /// The job counts as work of this name, not as that of its kind.
    pub(super) fn of_work(self, work: &'static str) -> Self {
        Self { work, ..self }
    }
}

/// Opens stage `ordinal` of the document with these jobs.
pub(super) async fn open(
    conn: &mut PgConnection,
    document_id: Uuid,
    ordinal: i16,
    mut jobs: impl ExactSizeIterator<Item = StageJob> + Send,
) -> Result<(), sqlx::Error> {
    let stage_id: i64 = sqlx::query_scalar("SELECT millstream.open_stage($1, $2, $3)")
        .bind(document_id)
        .bind(ordinal)
        .bind(jobs.len() as i32)
        .fetch_one(&mut *conn)
        .await?;
    let names = Names::read(conn, document_id).await?;
    let mut work = BTreeMap::new();
    loop {
        let slice: Vec<(NewJob, JobNames)> = jobs
            .by_ref()
            .take(PARCEL_JOBS_MAX)
            .inspect(|job| *work.entry(job.work).or_insert(0) += 1)
            .map(|job| names.job(job, stage_id))
            .collect::<Result<_, _>>()?;
        if slice.is_empty() {
            return count_work(conn, stage_id, work).await;
        }
        persist(conn, &slice, false, Ids::MayExist).await?;
    }
}

async fn count_work(
    conn: &mut PgConnection,
    stage_id: i64,
    work: BTreeMap<&'static str, i32>,
) -> Result<(), sqlx::Error> {
    let (names, jobs): (Vec<_>, Vec<_>) = work.into_iter().unzip();
    let insert = "INSERT INTO millstream.stage_work (stage_id, work, jobs_total) SELECT $1, w.work, w.jobs FROM unnest($2::text[], $3::int[]) AS w(work, jobs)";
    sqlx::query(insert)
        .bind(stage_id)
        .bind(names)
        .bind(jobs)
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

    fn job(&self, job: StageJob, stage_id: i64) -> Result<(NewJob, JobNames), sqlx::Error> {
        let kind = *self.kinds.get(job.kind).ok_or(sqlx::Error::RowNotFound)?;
        let new = NewJob {
            queue: QUEUE.to_owned(),
            stage_id: Some(stage_id),
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
