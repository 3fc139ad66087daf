//! Who answers for a crash (F15): the jobs that a dead worker had in hand are handed out again, and one may be buried.
//!
//! The first crash counts for all that the worker had in hand, and the second for what had started: from the first on, a job says so in
//! its lease before it starts (`run::watched`). After two a job is a suspect and runs alone (`run::isolated`); if its worker dies
//! then, it is dead, and nobody else on that worker is counted.
//!
//! Not every silence is a crash. A worker that ended in order has left its leases behind, nothing else. One whose connection is open is
//! frozen or cut off: the kernel closes the connections of a process that dies. And when the whole fleet died at the same moment, or
//! Postgres with it, it was a power cut or a bad rollout. The last two excuse a job a few times at most: one that takes machines down ends
//! too, and a pooler may keep the connection of a process that is gone.

use millstream_common::{
    error::Outage,
    id::JobId,
    limits::{CRASHES_MAX, EXCUSES_MAX, LEASE_DELAY},
    pg::within,
    rehand::{Reach, Reason, rehand},
};
use sqlx::{PgConnection, Row};

use crate::{
    heartbeat::{BEATS_PER_LEASE, heart_name},
    settle::dead_stream::Notice,
};

/// Deaths this share of a lease apart happened at the same moment: three beats.
const SAME_MOMENT: f64 = 0.3;
/// What is noted of how long a job had run, at most: more says only that a clock was set.
const RAN_MS_MAX: i64 = 86_400_000;
/// How long at most a job had run that had no lease yet.
const UNLEASED_MS: i64 = LEASE_DELAY.as_millis() as i64;

/// A job that a dead worker had leased.
pub(super) struct Left {
    /// Id and epoch.
    pub(super) job: (JobId, i32),
    pub(super) queue: String,
    /// It ran alone.
    pub(super) isolated: bool,
    /// It had said that it starts; those without a crash do not say so.
    pub(super) started: bool,
    /// Crashes counted so far.
    pub(super) crashes: i16,
}

/// What is known about one death.
pub(super) struct Scene {
    worker: i64,
    /// A suspect ran alone there: the others are innocent.
    had_suspect: bool,
    end: End,
    /// It did not die alone.
    outage: bool,
}

/// What became of a worker whose beat stands still.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Died,
    /// Its connection is open: it does not answer, but lives.
    Silent,
    /// It ended in order and only left leases behind.
    Stopped,
}

/// Whether a crash is counted against a job in company; the last one never is.
pub(super) fn counts_in_company(crashes: i16, started: bool) -> bool {
    crashes == 0 || started && i32::from(crashes) < CRASHES_MAX - 1
}

impl Scene {
    /// Looks around. `left`: at least the suspect, if there was one.
    pub(super) async fn look(
        conn: &mut PgConnection,
        worker: i64,
        left: &[Left],
    ) -> Result<Self, Outage> {
        let had_suspect = left.iter().any(|l| l.isolated);
        let end = within("looking at a death", how_it_ended(&mut *conn, worker)).await?;
        let outage = had_suspect
            && within("looking for other deaths", whole_fleet_died(conn, worker)).await?;
        Ok(Self {
            worker,
            had_suspect,
            end,
            outage,
        })
    }

    /// Nobody has crashed.
    pub(super) fn is_no_crash(&self) -> bool {
        self.end != End::Died
    }

    fn excuses(&self, left: &Left) -> bool {
        self.end == End::Silent || left.isolated && self.outage
    }

    fn told(&self) -> String {
        let how = if self.end == End::Silent {
            "fell silent"
        } else {
            "died"
        };
        format!("worker {} {how} while it had this job", self.worker)
    }
}

async fn how_it_ended(conn: &mut PgConnection, worker: i64) -> Result<End, sqlx::Error> {
    let (stopped, connected) = sqlx::query_as(
        "SELECT COALESCE((SELECT state = 'stopped' FROM millstream.worker WHERE id = $1), false),
                EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = $2)",
    )
    .bind(worker)
    .bind(heart_name(worker))
    .fetch_one(conn)
    .await?;
    Ok(match (stopped, connected) {
        (true, _) => End::Stopped,
        (false, true) => End::Silent,
        (false, false) => End::Died,
    })
}

/// Whether others died at the same moment and none of those there at that time lived on; or Postgres itself has started since, as after a
/// power cut of the one machine that has everything. The clock of Postgres decides who is blamed, never who is dead.
async fn whole_fleet_died(conn: &mut PgConnection, worker: i64) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT bool_or(mine.beat_at < pg_postmaster_start_time())
             OR count(*) FILTER (WHERE o.beat_at <= mine.beat_at + m.moment AND o.beat_at < now() - m.moment) > 0
            AND count(*) FILTER (WHERE o.beat_at > mine.beat_at + m.moment) = 0
         FROM (SELECT $2 * lease_ms * interval '1 millisecond' AS moment FROM millstream.worker WHERE id = $1) m
         JOIN millstream.worker_beat mine ON mine.worker_id = $1
         LEFT JOIN (millstream.worker_beat o JOIN millstream.worker w ON w.id = o.worker_id AND w.state <> 'stopped')
           ON o.worker_id <> mine.worker_id AND o.beat_at >= mine.beat_at - m.moment AND w.started_at < mine.beat_at",
    )
    .bind(worker)
    .bind(SAME_MOMENT)
    .fetch_one(conn)
    .await
}

/// Hands the jobs out again, counts, and buries the one that has killed three workers: to be told after the commit.
pub(super) async fn hand_out(
    conn: &mut PgConnection,
    scene: &Scene,
    left: &[Left],
) -> Result<Vec<Notice>, Outage> {
    let op = "handing out after a crash";
    let all: Vec<_> = left.iter().map(|l| l.job).collect();
    within(op, lock(&mut *conn, &all)).await?;
    let excused = within(op, excused(&mut *conn, scene, left)).await?;
    let counts = |l: &&Left| {
        let answers = l.isolated || !scene.had_suspect && counts_in_company(l.crashes, l.started);
        answers && scene.end != End::Stopped && !excused.contains(&l.job.0)
    };
    let (counted, free): (Vec<_>, Vec<_>) = left.iter().partition(counts);
    let counted: Vec<_> = counted.iter().map(|l| l.job).collect();
    let free: Vec<_> = free.iter().map(|l| l.job).collect();
    if scene.end != End::Stopped {
        let crash = Crash {
            worker: scene.worker,
            counted: &counted,
            excused: &excused,
        };
        within(op, note_crash(&mut *conn, &all, &crash, &scene.told())).await?;
    }
    let mut again = within(
        op,
        rehand(&mut *conn, &counted, Reason::Crash, Reach::Leased, None),
    )
    .await?;
    again.extend(
        within(
            op,
            rehand(&mut *conn, &free, Reason::Lost, Reach::Leased, None),
        )
        .await?,
    );
    // Neither handed out: the suspect, to be buried, and leases of jobs that are somebody else's by now.
    let (buried, gone): (Vec<_>, Vec<_>) = all
        .into_iter()
        .filter(|(id, _)| !again.contains(id))
        .partition(|job| counted.contains(job));
    within(op, unlease(&mut *conn, &gone)).await?;
    bury(conn, &buried).await
}

/// All at once, in the lock order of all who change several jobs: they are changed in several statements.
async fn lock(conn: &mut PgConnection, jobs: &[(JobId, i32)]) -> Result<(), sqlx::Error> {
    let ids: Vec<JobId> = jobs.iter().map(|(id, _)| *id).collect();
    sqlx::query("SELECT 1 FROM millstream.job WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE")
        .bind(ids)
        .execute(conn)
        .await?;
    Ok(())
}

/// Those for whom the scene is an excuse, and who have not had all of theirs.
async fn excused(
    conn: &mut PgConnection,
    scene: &Scene,
    left: &[Left],
) -> Result<Vec<JobId>, sqlx::Error> {
    let ids: Vec<JobId> = left
        .iter()
        .filter(|l| scene.excuses(l))
        .map(|l| l.job.0)
        .collect();
    if ids.is_empty() {
        return Ok(ids);
    }
    let query = sqlx::query_scalar(
        "SELECT u.id FROM unnest($1::uuid[]) AS u(id)
         WHERE (SELECT count(*) FROM millstream.job_error e WHERE e.job_id = u.id AND e.excused) < $2",
    );
    query
        .bind(ids)
        .bind(i64::from(EXCUSES_MAX))
        .fetch_all(conn)
        .await
}

/// For whom a death has which consequence.
pub(super) struct Crash<'a> {
    /// Who died.
    pub(super) worker: i64,
    /// They answer for it.
    pub(super) counted: &'a [(JobId, i32)],
    /// They would, but for the circumstances.
    pub(super) excused: &'a [JobId],
}

/// The crash goes into the job's error history before the job is handed out: whatever happens next, it is told once. With those that are
/// counted stands how long the job had been leased one interval after the last beat, since it cannot have run for longer; without a
/// lease, how long it takes to get one.
pub(super) async fn note_crash(
    conn: &mut PgConnection,
    jobs: &[(JobId, i32)],
    crash: &Crash<'_>,
    message: &str,
) -> Result<(), sqlx::Error> {
    let (ids, epochs): (Vec<JobId>, Vec<i32>) = jobs.iter().copied().unzip();
    let counted: Vec<JobId> = crash.counted.iter().map(|(id, _)| *id).collect();
    sqlx::query(
        "INSERT INTO millstream.job_error (job_id, epoch, attempt, class, worker_id, message, excused, ran_ms)
         SELECT j.id, j.epoch, j.attempt, 'crash', $3, $4, j.id = ANY($7), CASE WHEN j.id = ANY($8) THEN COALESCE(
           (SELECT LEAST(GREATEST(0, extract(epoch FROM b.beat_at - l.leased_at) * 1000 + w.lease_ms / $5), $6)
            FROM millstream.lease l JOIN millstream.worker w ON w.id = l.worker_id JOIN millstream.worker_beat b ON b.worker_id = w.id
            WHERE l.job_id = j.id AND l.epoch = j.epoch), $9) END
         FROM unnest($1::uuid[], $2::int[]) AS u(id, epoch)
         JOIN millstream.job j ON j.id = u.id AND j.epoch = u.epoch AND j.state IN (0, 1) ON CONFLICT DO NOTHING",
    )
    .bind(ids)
    .bind(epochs)
    .bind(crash.worker)
    .bind(message)
    .bind(i64::from(BEATS_PER_LEASE))
    .bind(RAN_MS_MAX)
    .bind(crash.excused)
    .bind(counted)
    .bind(UNLEASED_MS)
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether the worker's beat is still the one by which it was judged; holds it until the end of the transaction: a worker that wakes up
/// meanwhile learns at its next beat what it has lost.
pub(super) async fn is_still_silent(
    conn: &mut PgConnection,
    worker: i64,
    beat: i64,
) -> Result<bool, sqlx::Error> {
    let held = sqlx::query(
        "SELECT 1 FROM millstream.worker_beat WHERE worker_id = $1 AND beat = $2 FOR UPDATE",
    )
    .bind(worker)
    .bind(beat);
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
        sqlx::query_scalar("SELECT * FROM millstream.bury($1, $2, 'crash', $3)")
            .bind(&ids)
            .bind(&epochs)
            .bind(error)
            .fetch_all(&mut *conn),
    )
    .await?;
    within(op, unlease(&mut *conn, jobs)).await?;
    let rows =
        sqlx::query("SELECT id::text, queue, kind FROM millstream.job_view WHERE id = ANY($1)")
            .bind(buried);
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
