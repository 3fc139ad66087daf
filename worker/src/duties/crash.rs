//! Who answers for a crash (F15): the jobs that a dead worker had in hand are handed out again, and one may be buried.
//!
//! The first two crashes are only counted, and the jobs run again like any others: most workers die of something else. After two
//! a job is a suspect and runs alone (`run::isolated`); if its worker dies then, it is dead, and nobody else on that worker is
//! counted. When the whole fleet died at the same moment, or Postgres with it, it was a power cut or a bad rollout, and nobody is buried.

use std::time::Duration;

use millstream_common::{
    error::Outage,
    id::JobId,
    limits::CRASHES_MAX,
    pg::within,
    rehand::{Reach, Reason, rehand},
};
use sqlx::{PgConnection, Row};

use crate::{heartbeat::BEATS_PER_LEASE, settle::dead_stream::Notice};

/// Deaths this share of a lease apart happened at the same moment: three beats.
const SAME_MOMENT: f64 = 0.3;
/// So many crashes of a lone suspect are excused because the whole fleet died with it: a job that takes whole machines down ends too.
const EXCUSES_MAX: i64 = 3;

/// A job that a dead worker had leased.
pub(super) struct Left {
    /// Id and epoch.
    pub(super) job: (JobId, i32),
    pub(super) queue: String,
    /// It ran alone.
    pub(super) isolated: bool,
    /// Crashes counted so far.
    pub(super) crashes: i16,
}

/// What is known about one death.
pub(super) struct Scene {
    worker: i64,
    /// A suspect ran alone there: the others are innocent.
    had_suspect: bool,
    /// It did not die alone.
    outage: bool,
}

/// Whether a crash is still counted against a job in company; the last one never is.
pub(super) fn is_first(crashes: i16) -> bool {
    i32::from(crashes) < CRASHES_MAX - 1
}

impl Scene {
    /// Looks around. `left`: at least the suspect, if there was one.
    pub(super) async fn look(conn: &mut PgConnection, worker: i64, lease: Duration, left: &[Left]) -> Result<Self, Outage> {
        let had_suspect = left.iter().any(|l| l.isolated);
        let outage = had_suspect && within("looking for other deaths", whole_fleet_died(conn, worker, lease)).await?;
        Ok(Self { worker, had_suspect, outage })
    }
}

/// Whether others died at the same moment and none of those there at that time lived on; or Postgres itself has started since, as after a
/// power cut of the one machine that has everything. The clock of Postgres decides who is blamed, never who is dead.
async fn whole_fleet_died(conn: &mut PgConnection, worker: i64, lease: Duration) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT bool_or(mine.beat_at < pg_postmaster_start_time())
             OR count(*) FILTER (WHERE o.beat_at <= mine.beat_at + m.moment AND o.beat_at < now() - m.moment) > 0
            AND count(*) FILTER (WHERE o.beat_at > mine.beat_at + m.moment) = 0
         FROM (SELECT $2 * interval '1 second' AS moment) m
         JOIN millstream.worker_beat mine ON mine.worker_id = $1
         LEFT JOIN (millstream.worker_beat o JOIN millstream.worker w ON w.id = o.worker_id AND w.state <> 'stopped')
           ON o.worker_id <> mine.worker_id AND o.beat_at >= mine.beat_at - m.moment AND w.started_at < mine.beat_at",
    )
    .bind(worker)
    .bind(lease.as_secs_f64() * SAME_MOMENT)
    .fetch_one(conn)
    .await
}

/// Hands the jobs out again, counts, and buries the one that has killed three workers: to be told after the commit.
pub(super) async fn hand_out(conn: &mut PgConnection, scene: &Scene, left: &[Left]) -> Result<Vec<Notice>, Outage> {
    let op = "handing out after a crash";
    let all: Vec<_> = left.iter().map(|l| l.job).collect();
    let message = format!("worker {} died while it had this job", scene.worker);
    within(op, note_crash(&mut *conn, &all, scene.worker, &message)).await?;
    let mut excused = Vec::new();
    for suspect in left.iter().filter(|l| l.isolated && scene.outage) {
        if within(op, is_excused(&mut *conn, suspect.job.0)).await? {
            excused.push(suspect.job.0);
        }
    }
    let counts = |l: &&Left| if l.isolated { !excused.contains(&l.job.0) } else { !scene.had_suspect && is_first(l.crashes) };
    let (counted, free): (Vec<_>, Vec<_>) = left.iter().partition(counts);
    let counted: Vec<_> = counted.iter().map(|l| l.job).collect();
    let free: Vec<_> = free.iter().map(|l| l.job).collect();
    let mut again = within(op, rehand(&mut *conn, &counted, Reason::Crash, Reach::Leased, None)).await?;
    again.extend(within(op, rehand(&mut *conn, &free, Reason::Lost, Reach::Leased, None)).await?);
    // Neither handed out: the suspect, to be buried, and leases of jobs that are somebody else's by now.
    let (buried, gone): (Vec<_>, Vec<_>) = all.into_iter().filter(|(id, _)| !again.contains(id)).partition(|job| counted.contains(job));
    within(op, unlease(&mut *conn, &gone)).await?;
    bury(conn, &buried).await
}

/// The history has all crashes: those counted, and those excused.
async fn is_excused(conn: &mut PgConnection, job: JobId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) <= $2 FROM millstream.job_error WHERE job_id = $1 AND class = 'crash'")
        .bind(job)
        .bind(i64::from(CRASHES_MAX - 1) + EXCUSES_MAX)
        .fetch_one(conn)
        .await
}

/// The crash goes into the job's error history before the job is handed out: whatever happens next, it is told once; and how long
/// the job had been leased one interval after the last beat, since it cannot have run for longer.
pub(super) async fn note_crash(conn: &mut PgConnection, jobs: &[(JobId, i32)], worker: i64, message: &str) -> Result<(), sqlx::Error> {
    let (ids, epochs): (Vec<JobId>, Vec<i32>) = jobs.iter().copied().unzip();
    sqlx::query(
        "INSERT INTO millstream.job_error (job_id, epoch, attempt, class, worker_id, message, ran_ms)
         SELECT j.id, j.epoch, j.attempt, 'crash', $3, $4, (SELECT GREATEST(0, extract(epoch FROM b.beat_at - l.leased_at) * 1000 + w.lease_ms / $5)
           FROM millstream.lease l JOIN millstream.worker w ON w.id = l.worker_id JOIN millstream.worker_beat b ON b.worker_id = w.id
           WHERE l.job_id = j.id AND l.epoch = j.epoch)
         FROM unnest($1::uuid[], $2::int[]) AS u(id, epoch)
         JOIN millstream.job j ON j.id = u.id AND j.epoch = u.epoch AND j.state IN (0, 1) ON CONFLICT DO NOTHING",
    )
    .bind(ids)
    .bind(epochs)
    .bind(worker)
    .bind(message)
    .bind(i64::from(BEATS_PER_LEASE))
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether the worker's beat is still the one by which it was judged; holds it until the end of the transaction: a worker that wakes up
/// meanwhile learns at its next beat what it has lost.
pub(super) async fn is_still_silent(conn: &mut PgConnection, worker: i64, beat: i64) -> Result<bool, sqlx::Error> {
    let held = sqlx::query("SELECT 1 FROM millstream.worker_beat WHERE worker_id = $1 AND beat = $2 FOR UPDATE").bind(worker).bind(beat);
    Ok(held.fetch_optional(conn).await?.is_some())
}

async fn unlease(conn: &mut PgConnection, jobs: &[(JobId, i32)]) -> Result<(), sqlx::Error> {
    if jobs.is_empty() {
        return Ok(());
    }
    let (ids, epochs): (Vec<JobId>, Vec<i32>) = jobs.iter().copied().unzip();
    sqlx::query(
        "DELETE FROM millstream.lease l USING unnest($1::uuid[], $2::int[]) AS u(id, epoch) WHERE l.job_id = u.id AND l.epoch = u.epoch",
    )
    .bind(&ids)
    .bind(&epochs)
    .execute(conn)
    .await?;
    Ok(())
}

/// Buries what is still at its epoch, and removes the leases.
async fn bury(conn: &mut PgConnection, jobs: &[(JobId, i32)]) -> Result<Vec<Notice>, Outage> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let op = "burying jobs that kill workers";
    let (ids, epochs): (Vec<JobId>, Vec<i32>) = jobs.iter().copied().unzip();
    let error = "its worker died three times while running it, the last time with this job alone";
    let buried: Vec<JobId> = within(
        op,
        sqlx::query_scalar("SELECT * FROM millstream.bury($1, $2, 'crash', $3)").bind(&ids).bind(&epochs).bind(error).fetch_all(&mut *conn),
    )
    .await?;
    within(op, unlease(&mut *conn, jobs)).await?;
    let rows = sqlx::query("SELECT id::text, queue, kind FROM millstream.job_view WHERE id = ANY($1)").bind(buried);
    let rows = within(op, rows.fetch_all(conn)).await?;
    let notice = |row: &sqlx::postgres::PgRow| Notice {
        job: row.get(0),
        queue: row.get(1),
        kind: row.get(2),
        reason: "crash".into(),
        error: error.into(),
    };
    Ok(rows.iter().map(notice).collect())
}
