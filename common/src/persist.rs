//! Persist: jobs become rows, with the parcels that announce them, in one statement (`millstream.persist`).
//!
//! Every Rust door ends here, and so does the fan-out of a pipeline stage; the SQL door calls the same function. The jobs
//! exist exactly if the surrounding transaction commits. Nothing here talks to Redis.
//!
//! The order within the statement: idempotency keys first, in one lock order; then jobs, `ON
//! CONFLICT (id) DO NOTHING`; then one parcel per queue, tenant, kind and priority with the jobs
//! that are ready. A job with a `run_at` in the future gets `ready_at` and no parcel. A request
//! that wrote nothing is answered with the job that was there before, or with a conflict if its
//! payload is another one. The caller answers OK only after COMMIT.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::{
    PgConnection, Row,
    postgres::{PgDatabaseError, PgRow},
};

use crate::{
    catalog::JobNames,
    error::{Outage, Refusal},
    id::{BatchId, JobId},
    job::{NewJob, Priority},
    limits::{HELD_ROW_WAIT_MS, bounded},
    state::State,
};

/// Of what Postgres says in a refusal.
const REASON_BYTES_MAX: usize = 200;

/// What became of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueued {
    /// The job's id: the new one, or that of the job which the idempotency key belongs to.
    pub id: JobId,
    /// Where the job stands.
    pub state: State,
    /// The job existed before; nothing was written for this request.
    pub duplicate: bool,
}

/// A parcel that was committed as `publishing`: the caller is to XADD it after COMMIT.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// Its row.
    pub id: i64,
    /// Number of the queue.
    pub queue: i32,
    /// Which of the queue's streams.
    pub priority: Priority,
    /// Jobs per stream entry.
    pub chunk: usize,
    /// The jobs with their epochs, in the order of their ids.
    pub jobs: Vec<(JobId, i32)>,
}

/// Answers in the order of the requests, and the parcels to publish.
#[derive(Debug, Default)]
pub struct Persisted {
    /// One answer per request.
    pub answers: Vec<Result<Enqueued, Refusal>>,
    /// To be published after COMMIT; empty unless `publish` was asked for.
    pub parcels: Vec<Parcel>,
}

/// Whether jobs with these ids may be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// No: if one is after all, nothing is written, and [`are_taken`] knows the error. A third quicker.
    New,
    /// Perhaps: those that are there are left as they are.
    MayExist,
}

/// Whether [`persist`] has failed because an id that should be new is there already, or twice among the jobs.
pub fn are_taken(outage: &Outage) -> bool {
    let Outage::Postgres { source, .. } = outage else {
        return false;
    };
    source
        .as_database_error()
        .is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// The refusal of a job, if [`persist`] has failed because of what one of its jobs is: its id is of a day that is being dropped
/// (`millstream.refuse_sealed`), or it has a value that Postgres does not take and [`NewJob::check`] did not know of.
pub fn refused(outage: &Outage) -> Option<Refusal> {
    let Outage::Postgres { source, .. } = outage else {
        return None;
    };
    match source {
        sqlx::Error::Encode(e) => Some(Refusal::Invalid(format!(
            "the job cannot be written: {}",
            bounded(&e.to_string(), REASON_BYTES_MAX)
        ))),
        sqlx::Error::Database(e) => {
            let message = bounded(e.message(), REASON_BYTES_MAX);
            match e.code().as_deref() {
                Some("55000") => Some(Refusal::Conflict(message)),
                _ if outage.is_about_the_data() => Some(Refusal::Invalid(format!(
                    "Postgres does not take the job: {message}"
                ))),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether somebody else's transaction holds what the statement waited for: an idempotency key, a job's id, a table.
pub fn is_held(outage: &Outage) -> bool {
    outage.code().as_deref() == Some("55P03")
}

/// Whether what is held is a row: then a statement about other rows would not wait. The server tells the place of the row, in every language. A
/// table that is locked is held for all jobs alike. A copy of the outage does not know.
pub fn is_row_held(outage: &Outage) -> bool {
    let Outage::Postgres {
        source: sqlx::Error::Database(error),
        ..
    } = outage
    else {
        return false;
    };
    let context = error
        .try_downcast_ref::<PgDatabaseError>()
        .and_then(PgDatabaseError::r#where);
    is_held(outage) && context.is_some_and(names_a_row)
}

/// Whether a text has `(BLOCK,NUMBER)` in it. Of the statements that are quoted there none has.
fn names_a_row(context: &str) -> bool {
    let is_place = |text: &str| {
        let place = text
            .split_once(')')
            .and_then(|(place, _)| place.split_once(','));
        place.is_some_and(|(block, number)| {
            [block, number]
                .iter()
                .all(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
        })
    };
    context.split('(').skip(1).any(is_place)
}

/// How long a statement may wait for somebody else's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// As long as the session says.
    Session,
    /// [`HELD_ROW_WAIT_MS`] at most: callers who have nothing to do with the held row wait as well. Holds for the one statement, or for
    /// what is left of a transaction.
    Short,
}

/// Writes up to `PARCEL_JOBS_MAX` checked jobs with their resolved names. `publish`: the caller promises to publish the parcels
/// after COMMIT; otherwise the dispatch duty does within 50 ms.
pub async fn persist(
    conn: &mut PgConnection,
    jobs: &[(NewJob, JobNames)],
    publish: bool,
    ids: Ids,
) -> Result<Persisted, sqlx::Error> {
    persist_within(conn, jobs, publish, ids, Patience::Session).await
}

/// The same, with a word about how long it may wait for others.
pub async fn persist_within(
    conn: &mut PgConnection,
    jobs: &[(NewJob, JobNames)],
    publish: bool,
    ids: Ids,
    patience: Patience,
) -> Result<Persisted, sqlx::Error> {
    let rows = insert(conn, jobs, publish, ids, patience).await?;
    let mut inserted = HashMap::with_capacity(jobs.len());
    let mut parcels = Vec::new();
    for row in &rows {
        let ids: Vec<JobId> = row.try_get("ids")?;
        // Jobs without a parcel are due later.
        let state = if row.try_get::<Option<i64>, _>("parcel_id")?.is_some() {
            State::Available
        } else {
            State::Scheduled
        };
        inserted.extend(ids.iter().map(|id| (*id, state)));
        if row.try_get::<bool, _>("publishing")? {
            parcels.push(parcel(row, ids)?);
        }
    }
    let answers = answer(conn, jobs, &inserted).await?;
    Ok(Persisted { answers, parcels })
}

/// One of the three functions. With little patience the statement sets the limit itself: first, because `p_publish` depends on that.
macro_rules! persisting {
    ($function:literal) => {
        concat!(
            "SELECT parcel_id, queue_id, priority, chunk, publishing, ids FROM ",
            $function,
            "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
        )
    };
    ($function:literal, within) => {
        concat!(
            "SELECT p.parcel_id, p.queue_id, p.priority, p.chunk, p.publishing, p.ids FROM set_config('lock_timeout', $15, true) AS c(value),
               LATERAL ",
            $function,
            "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13 AND c.value IS NOT NULL, $14) AS p"
        )
    };
}

fn statement(in_batches: bool, ids: Ids, patience: Patience) -> &'static str {
    match (in_batches, ids, patience) {
        (true, _, Patience::Session) => persisting!("millstream.persist_in_batches"),
        (true, _, Patience::Short) => persisting!("millstream.persist_in_batches", within),
        (_, Ids::New, Patience::Session) => persisting!("millstream.persist_fresh"),
        (_, Ids::New, Patience::Short) => persisting!("millstream.persist_fresh", within),
        (_, Ids::MayExist, Patience::Session) => persisting!("millstream.persist"),
        (_, Ids::MayExist, Patience::Short) => persisting!("millstream.persist", within),
    }
}

async fn insert(
    conn: &mut PgConnection,
    jobs: &[(NewJob, JobNames)],
    publish: bool,
    ids: Ids,
    patience: Patience,
) -> Result<Vec<PgRow>, sqlx::Error> {
    let column =
        |f: fn(&JobNames) -> i32| -> Vec<i32> { jobs.iter().map(|(_, names)| f(names)).collect() };
    // Columns that no job of the batch uses travel as one null: most batches have neither keys nor metadata.
    let keys: Option<Vec<Option<&str>>> = optional(jobs, |job| job.idempotency_key.as_deref());
    let metadata: Option<Vec<Option<&str>>> = optional(jobs, |job| job.metadata.as_deref());
    let traces: Option<Vec<Option<&str>>> = optional(jobs, |job| job.trace.as_deref());
    let batches: Option<Vec<Option<BatchId>>> = optional(jobs, |job| job.batch_id);
    let attempts: Option<Vec<Option<i16>>> = optional(jobs, |job| job.max_attempts);
    let ready: Option<Vec<Option<DateTime<Utc>>>> = optional(jobs, |job| job.run_at);
    let versions: Option<Vec<Option<i16>>> =
        optional(jobs, |job| (job.version > 1).then_some(job.version));
    let query = sqlx::query(statement(batches.is_some(), ids, patience))
        .bind(jobs.iter().map(|(job, _)| job.id).collect::<Vec<_>>())
        .bind(column(|names| names.queue))
        .bind(column(|names| names.kind))
        .bind(column(|names| names.tenant))
        .bind(
            jobs.iter()
                .map(|(job, _)| job.priority.number())
                .collect::<Vec<_>>(),
        )
        .bind(
            jobs.iter()
                .map(|(job, _)| job.payload.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(attempts)
        .bind(ready)
        .bind(keys)
        .bind(metadata)
        .bind(traces)
        .bind(batches)
        .bind(publish)
        .bind(versions);
    match patience {
        Patience::Session => query.fetch_all(conn).await,
        Patience::Short => {
            query
                .bind(HELD_ROW_WAIT_MS.to_string())
                .fetch_all(conn)
                .await
        }
    }
}

fn optional<'a, T>(
    jobs: &'a [(NewJob, JobNames)],
    field: impl Fn(&'a NewJob) -> Option<T>,
) -> Option<Vec<Option<T>>> {
    let values: Vec<Option<T>> = jobs.iter().map(|(job, _)| field(job)).collect();
    values.iter().any(Option::is_some).then_some(values)
}

fn parcel(row: &PgRow, ids: Vec<JobId>) -> Result<Parcel, sqlx::Error> {
    Ok(Parcel {
        id: row.try_get("parcel_id")?,
        queue: row.try_get("queue_id")?,
        priority: Priority::from_number(row.try_get("priority")?).unwrap_or_default(),
        chunk: row.try_get::<i16, _>("chunk")?.max(1) as usize,
        jobs: ids.into_iter().map(|id| (id, 0)).collect(),
    })
}

async fn answer(
    conn: &mut PgConnection,
    jobs: &[(NewJob, JobNames)],
    inserted: &HashMap<JobId, State>,
) -> Result<Vec<Result<Enqueued, Refusal>>, sqlx::Error> {
    let mut written = HashSet::new();
    // Two requests of one batch with the same new id: the second one is the duplicate.
    let new: Vec<bool> = jobs
        .iter()
        .map(|(job, _)| inserted.contains_key(&job.id) && written.insert(job.id))
        .collect();
    let mut existing = if new.iter().all(|new| *new) {
        HashMap::new()
    } else {
        existing(conn, jobs, &new).await?
    };
    let answers = jobs.iter().enumerate().map(|(nth, (job, _))| {
        if new[nth] {
            let state = inserted.get(&job.id).copied().unwrap_or(State::Available);
            return Ok(Enqueued {
                id: job.id,
                state,
                duplicate: false,
            });
        }
        match existing.remove(&nth) {
            Some((id, state, true)) => Ok(Enqueued {
                id,
                state,
                duplicate: true,
            }),
            Some((id, _, false)) => Err(Refusal::Conflict(format!(
                "job {id} was enqueued with another kind or payload"
            ))),
            // Its job was removed while this call was looking at it.
            None => Err(Refusal::Conflict(
                "the job that has this id or idempotency key is being removed; enqueue it again"
                    .to_owned(),
            )),
        }
    });
    Ok(answers.collect())
}

/// For the requests that wrote nothing, by their place: the job that was there before, its state, and whether it is the same.
async fn existing(
    conn: &mut PgConnection,
    jobs: &[(NewJob, JobNames)],
    new: &[bool],
) -> Result<HashMap<usize, (JobId, State, bool)>, sqlx::Error> {
    let old: Vec<(usize, &(NewJob, JobNames))> = jobs
        .iter()
        .enumerate()
        .filter(|(nth, _)| !new[*nth])
        .collect();
    let rows = sqlx::query(
        "SELECT a.nth, j.id, j.state, j.kind_id = a.kind_id AND CASE
                  WHEN k.payload_hash IS NOT NULL THEN k.payload_hash = sha256(convert_to(a.payload::jsonb::text, 'UTF8'))
                  WHEN j.payload = a.payload THEN true
                  -- In jsonb's normal form, as the hash: blanks, escapes and the order of keys make no other job.
                  ELSE j.payload::jsonb::text = a.payload::jsonb::text END AS same
         FROM unnest($1::bigint[], $2::uuid[], $3::int[], $4::int[], $5::text[], $6::text[]) AS a(nth, id, tenant_id, kind_id, key, payload)
         LEFT JOIN millstream.job_key k ON k.tenant_id = a.tenant_id AND k.key = a.key
         JOIN millstream.job j ON j.id = COALESCE(k.job_id, a.id)",
    )
    .bind(old.iter().map(|(nth, _)| *nth as i64).collect::<Vec<_>>())
    .bind(old.iter().map(|(_, (job, _))| job.id).collect::<Vec<_>>())
    .bind(old.iter().map(|(_, (_, names))| names.tenant).collect::<Vec<_>>())
    .bind(old.iter().map(|(_, (_, names))| names.kind).collect::<Vec<_>>())
    .bind(old.iter().map(|(_, (job, _))| job.idempotency_key.clone()).collect::<Vec<_>>())
    .bind(old.iter().map(|(_, (job, _))| job.payload.as_str()).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let state = State::from_number(row.try_get("state")?).unwrap_or(State::Available);
            Ok((
                row.try_get::<i64, _>("nth")? as usize,
                (row.try_get("id")?, state, row.try_get("same")?),
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::names_a_row;

    // X63: the texts of PostgreSQL 15, the second one as it is in German
    #[test]
    fn x63_a_held_row_is_told_from_a_held_table() {
        let function = "SQL statement \"INSERT INTO millstream.job_key (tenant_id, key) SELECT t, k FROM unnest(p_tenants, p_keys) AS u(t, k)\"\n\
                        PL/pgSQL function millstream.persist_fresh(uuid[],integer[],text[]) line 14 at SQL statement";
        for place in [
            "while inserting index tuple (0,5) in relation \"job_default_pkey\"",
            "beim Sperren von Tupel (12,107) in Relation \"job_key\"",
        ] {
            assert!(
                names_a_row(place) && names_a_row(&format!("{place}\n{function}")),
                "{place}"
            );
        }
        assert!(!names_a_row(function) && !names_a_row("") && !names_a_row("(,) (1,) (1,2"));
    }
}
