//! What a crash costs a job (F15): the jobs that a dead worker had in hand are handed out again, and are isolated from then on.
//!
//! The first crash counts for all that the worker had in hand, and later ones for what had started: from the first crash on a job runs in
//! a child process (`run::child`) and says in its lease when it starts. The death of a worker buries nothing. There is one bound, for jobs
//! that take whole machines down: the sixth death of a worker that ran the job isolated.
//!
//! A worker that ended in order has left its leases behind, nothing else: that is no crash.

use millstream_common::{
    error::Outage,
    id::JobId,
    limits::CRASHES_MAX,
    pg::Tx,
    rehand::{Leases, Reason, rehand},
};
use sqlx::Row;

use crate::settle::dead_stream::Notice;

/// A job that a dead worker had leased.
pub(super) struct Left {
    /// Id and epoch.
    pub(super) job: (JobId, i32),
    pub(super) queue: String,
    /// It had said that it starts; those without a crash do not say so.
    pub(super) started: bool,
    /// Crashes counted so far.
    pub(super) crashes: i16,
}

/// Whether a crash is counted against a job.
pub(super) fn counts(crashes: i16, started: bool) -> bool {
    crashes == 0 || started
}

/// Hands the jobs out again, counts, and buries what was in too many crashes: to be told after the commit.
pub(super) async fn hand_out(
    tx: &mut Tx<'_>,
    worker: i64,
    left: &[Left],
) -> Result<Vec<Notice>, Outage> {
    let all: Vec<_> = left.iter().map(|l| l.job).collect();
    lock(tx, &all).await?;
    let crashed = !is_stopped(tx, worker).await?;
    if crashed {
        let message = format!("worker {worker} died while it had this job");
        note_crash(tx, &all, worker, &message).await?;
    }
    let (mut again, mut counted) = (Vec::new(), Vec::new());
    for reason in [Reason::Crash, Reason::Lost] {
        let is_of =
            |l: &&Left| (crashed && counts(l.crashes, l.started)) == (reason == Reason::Crash);
        let jobs: Vec<_> = left.iter().filter(is_of).map(|l| l.job).collect();
        again.extend(
            tx.all(rehand(&jobs, reason, Leases::Included, None))
                .await?,
        );
        if reason == Reason::Crash {
            counted = jobs;
        }
    }
    // Neither handed out: those to be buried, and leases of jobs that are somebody else's by now.
    let (buried, gone): (Vec<_>, Vec<_>) = all
        .into_iter()
        .filter(|(id, _)| !again.contains(id))
        .partition(|job| counted.contains(job));
    unlease(tx, &gone).await?;
    bury(tx, &buried).await
}

async fn is_stopped(tx: &mut Tx<'_>, worker: i64) -> Result<bool, Outage> {
    let query = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM millstream.worker WHERE id = $1 AND state = 'stopped')",
    )
    .bind(worker);
    tx.one(query).await
}

/// All at once, in the lock order of all who change several jobs: they are changed in several statements.
async fn lock(tx: &mut Tx<'_>, jobs: &[(JobId, i32)]) -> Result<(), Outage> {
    let ids: Vec<JobId> = jobs.iter().map(|(id, _)| *id).collect();
    let lock = sqlx::query(
        "SELECT 1 FROM millstream.job WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE",
    );
    tx.execute(lock.bind(ids)).await.map(drop)
}

/// The crash goes into the job's error history before the job is handed out: whatever happens next, it is told once.
pub(super) async fn note_crash(
    tx: &mut Tx<'_>,
    jobs: &[(JobId, i32)],
    worker: i64,
    message: &str,
) -> Result<(), Outage> {
    let (ids, epochs): (Vec<JobId>, Vec<i32>) = jobs.iter().copied().unzip();
    let insert = sqlx::query(
        "INSERT INTO millstream.job_error (job_id, epoch, attempt, class, worker_id, message)
         SELECT j.id, j.epoch, j.attempt, 'crash', $3, $4 FROM unnest($1::uuid[], $2::int[]) AS u(id, epoch)
         JOIN millstream.job j ON j.id = u.id AND j.epoch = u.epoch AND j.state IN (0, 1) ON CONFLICT DO NOTHING",
    )
    .bind(ids)
    .bind(epochs)
    .bind(worker)
    .bind(message);
    tx.execute(insert).await.map(drop)
}

/// Whether the worker's beat is still the one by which it was judged; holds it until the end of the transaction: a worker that wakes up
/// meanwhile learns at its next beat what it has lost.
pub(super) async fn is_still_silent(
    tx: &mut Tx<'_>,
    worker: i64,
    beat: i64,
) -> Result<bool, Outage> {
    let held = sqlx::query(
        "SELECT 1 FROM millstream.worker_beat WHERE worker_id = $1 AND beat = $2 FOR UPDATE",
    )
    .bind(worker)
    .bind(beat);
    Ok(tx.optional(held).await?.is_some())
}

async fn unlease(tx: &mut Tx<'_>, jobs: &[(JobId, i32)]) -> Result<(), Outage> {
    if jobs.is_empty() {
        return Ok(());
    }
    let (ids, epochs): (Vec<JobId>, Vec<i32>) = jobs.iter().copied().unzip();
    let delete = sqlx::query(
        "DELETE FROM millstream.lease l USING unnest($1::uuid[], $2::int[]) AS u(id, epoch) WHERE l.job_id = u.id AND l.epoch = u.epoch",
    )
    .bind(&ids)
    .bind(&epochs);
    tx.execute(delete).await.map(drop)
}

/// Buries what is still at its epoch, and removes the leases.
async fn bury(tx: &mut Tx<'_>, jobs: &[(JobId, i32)]) -> Result<Vec<Notice>, Outage> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let (ids, epochs): (Vec<JobId>, Vec<i32>) = jobs.iter().copied().unzip();
    let error = format!("{CRASHES_MAX} workers died while they ran it");
    let bury = sqlx::query_scalar("SELECT * FROM millstream.bury($1, $2, 'crash', $3)")
        .bind(&ids)
        .bind(&epochs)
        .bind(&error);
    let buried: Vec<JobId> = tx.all(bury).await?;
    unlease(tx, jobs).await?;
    let rows =
        sqlx::query("SELECT id::text, queue, kind FROM millstream.job_view WHERE id = ANY($1)")
            .bind(buried);
    let rows = tx.all(rows).await?;
    let notice = |row: &sqlx::postgres::PgRow| Notice {
        job: row.get(0),
        queue: row.get(1),
        kind: row.get(2),
        reason: "crash".into(),
        error: error.clone(),
    };
    Ok(rows.iter().map(notice).collect())
}
