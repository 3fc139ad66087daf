//! Everything that did not succeed: retryable, rate limited, snoozed or dead, in one statement per batch.
//!
//! The epoch is raised, so that hints of the ended run are stale. The error history and the dead letters are written with it.

use std::{collections::HashSet, sync::Arc};

use millstream_common::{
    error::{Outage, in_full},
    id::JobId,
    limits::{ERROR_BYTES_MAX, bounded},
    metrics::JobOutcome,
    persist::is_held,
    pg::Scalar,
};

use super::{
    Ended, Patience, conclude, dead_stream, streak,
    verdict::{History, Streak, Verdict, decide},
};
use crate::shared::Shared;

/// Writes failures. Returns those that must be tried again by themselves.
pub(crate) async fn settle(shared: &Arc<Shared>, mut batch: Vec<Ended>) -> Vec<Ended> {
    if batch.is_empty() {
        return batch;
    }
    // The lock order of all who change several jobs.
    batch.sort_unstable_by_key(|ended| ended.job.hold.id);
    let Some(judged) = judge(shared, batch).await else {
        return Vec::new();
    };
    let rows: Vec<_> = judged
        .iter()
        .map(|(ended, verdict)| Row::of(ended, verdict))
        .collect();
    let Some(Written { accepted, left }) = write_patiently(shared, &rows).await else {
        return Vec::new();
    };
    let (judged, left): (Vec<_>, Vec<_>) = judged
        .into_iter()
        .partition(|(ended, _)| !left.contains(&ended.job.hold.id));
    let buried = judged
        .iter()
        .filter(|(e, v)| v.outcome == JobOutcome::Dead && accepted.contains(&e.job.hold.id));
    dead_stream::announce(shared, buried.map(|(e, v)| dead_stream::Notice::of(e, v))).await;
    let settled = judged.into_iter().map(|(ended, verdict)| {
        let ok = accepted.contains(&ended.job.hold.id);
        (ended, ok, verdict.outcome)
    });
    conclude(shared, settled.collect()).await;
    left.into_iter().map(|(ended, _)| ended).collect()
}

/// What became of rows; the others were not ours any more.
#[derive(Default)]
pub(crate) struct Written {
    pub(crate) accepted: HashSet<JobId>,
    /// To be tried again: their jobs are held by somebody else's transaction, or Postgres could not for another reason than what they are.
    pub(crate) left: HashSet<JobId>,
}

/// Writes until Postgres has answered; `None`: it did not within a lease. What it refuses is tried again in halves, until the row that it
/// refuses is by itself: that is written with a text that every database can store.
pub(crate) async fn write_patiently(shared: &Shared, rows: &[Row]) -> Option<Written> {
    let (mut open, mut written) = (vec![rows], Written::default());
    while let Some(rows) = open.pop() {
        match write_or_refuse(shared, rows).await {
            Ok(ids) => written.accepted.extend(ids),
            Err(outage) if is_held(&outage) => written.left.extend(rows.iter().map(|row| row.id)),
            Err(outage) if !outage.may_be_of_one_row() => return None,
            Err(outage) => match rows {
                [row] if outage.is_about_the_data() => written
                    .accepted
                    .extend(write_plainly(shared, row, &outage).await),
                [row] => drop(written.left.insert(row.id)),
                rows => open.extend(<[_; 2]>::from(rows.split_at(rows.len() / 2))),
            },
        }
    }
    Some(written)
}

/// Until there is an answer, which may be a refusal.
async fn write_or_refuse(shared: &Shared, rows: &[Row]) -> Result<HashSet<JobId>, Outage> {
    let mut patience = Patience::new(shared);
    loop {
        match write_once(shared, rows).await {
            Err(outage)
                if !is_held(&outage)
                    && !outage.may_be_of_one_row()
                    && patience.allows_another(&outage).await => {}
            answered => return answered,
        }
    }
}

async fn write_plainly(shared: &Shared, row: &Row, refusal: &Outage) -> HashSet<JobId> {
    let plain = Row {
        message: plain(&row.message),
        ..row.clone()
    };
    match write_or_refuse(shared, &[plain]).await {
        Ok(accepted) => accepted,
        Err(outage) => {
            tracing::error!(job = %row.id, refusal = %in_full(refusal), error = %in_full(&outage), "a failure cannot be written; its job runs again");
            HashSet::new()
        }
    }
}

/// The text in letters that every encoding has; the others are told by their numbers.
pub(crate) fn plain(text: &str) -> String {
    let shown: String = text
        .chars()
        .map(|c| {
            if c == '\0' || !c.is_ascii() {
                c.escape_unicode().to_string()
            } else {
                c.to_string()
            }
        })
        .collect();
    bounded(&shown, ERROR_BYTES_MAX)
}

async fn write_once(shared: &Shared, rows: &[Row]) -> Result<HashSet<JobId>, Outage> {
    let written = write(shared.worker_id, rows);
    let ids = shared.pg.hot("settling failures").all(written).await?;
    Ok(ids.into_iter().collect())
}

/// The verdicts on the failures among these; `None`: Postgres did not tell their histories within a lease.
pub(crate) async fn judge(shared: &Shared, batch: Vec<Ended>) -> Option<Vec<(Ended, Verdict)>> {
    let streaks = streak::streaks(shared, &batch).await?;
    let judged = batch.into_iter().filter_map(|ended| {
        let before = streaks.get(&ended.job.hold.id).copied().unwrap_or_default();
        judge_one(ended, before)
    });
    Some(judged.collect())
}

fn judge_one(ended: Ended, before: Streak) -> Option<(Ended, Verdict)> {
    let failure = ended.outcome.as_ref().err()?;
    let job = &ended.job;
    let history = History {
        attempt: job.attempt,
        max_attempts: job.max_attempts,
        before,
    };
    let verdict = decide(failure, &job.kind.handler, history, rand_unit());
    Some((ended, verdict))
}

/// Uniform in [0, 1). Jitter needs no better source than the tail of a new id.
fn rand_unit() -> f64 {
    let tail = millstream_common::id::entropy();
    (tail >> 11) as f64 / (1u64 << 53) as f64
}

/// One failed job as columns.
#[derive(Clone)]
pub(crate) struct Row {
    id: JobId,
    epoch: i32,
    from: i16,
    to: i16,
    delay_ms: Option<i64>,
    counts: i16,
    class: Option<&'static str>,
    dead_reason: Option<&'static str>,
    /// Whether a batch counts it: it is dead, and has one.
    is_counted: bool,
    message: String,
    started_at: chrono::DateTime<chrono::Utc>,
}

impl Row {
    pub(crate) fn of(ended: &Ended, verdict: &Verdict) -> Self {
        Self {
            id: ended.job.hold.id,
            epoch: ended.job.hold.epoch,
            from: ended.from.number(),
            to: verdict.state.number(),
            delay_ms: verdict.delay.map(|d| d.as_millis() as i64),
            counts: i16::from(verdict.counts),
            class: verdict.class,
            dead_reason: verdict.dead_reason,
            is_counted: verdict.dead_reason.is_some() && ended.job.batch_id.is_some(),
            message: verdict.message.clone(),
            started_at: ended.started_at,
        }
    }
}

/// The statement that writes failures. A run that has come to an end shows that earlier deaths were not of the job's making: it stays isolated,
/// and the count begins anew. `counted`: dead ones among them have a batch, which counts them at its end.
macro_rules! failed {
    () => {
        failed!("", "SELECT id FROM settled")
    };
    (counted) => {
        failed!(
            ", counted AS MATERIALIZED (
               SELECT millstream.count_failed(array_agg(id)) FROM settled WHERE dead_reason IS NOT NULL
             )",
            "SELECT s.id FROM settled s, counted"
        )
    };
    ($counted:literal, $settled:literal) => {
        concat!(
            "WITH u AS (
               SELECT * FROM unnest($2::uuid[], $3::int[], $4::smallint[], $5::smallint[], $6::bigint[], $7::smallint[], $8::text[], $9::text[], $10::text[], $11::timestamptz[])
                 AS u(id, epoch, from_state, to_state, delay_ms, counts, class, dead_reason, message, started_at)
             ), settled AS (
               UPDATE millstream.job j SET state = u.to_state, epoch = j.epoch + 1, attempt = j.attempt + u.counts,
                 ready_at = now() + u.delay_ms * interval '1 millisecond', worker_id = $1, started_at = u.started_at,
                 finished_at = CASE WHEN u.to_state = 8 THEN now() END, error = CASE WHEN u.class IS NULL THEN j.error ELSE u.message END,
                 crash_count = LEAST(j.crash_count, 1)
               FROM u WHERE j.id = u.id",
            epoch_guard!(),
            " AND j.state = u.from_state
               RETURNING j.id, u.epoch, j.attempt, j.queue_id, j.kind_id, j.tenant_id, u.class, u.dead_reason, u.message
             ), unleased AS (DELETE FROM millstream.lease USING settled WHERE lease.job_id = settled.id
             ), history AS (
               INSERT INTO millstream.job_error (job_id, epoch, attempt, class, worker_id, message)
               SELECT id, epoch, attempt, class, $1, message FROM settled WHERE class IS NOT NULL ON CONFLICT DO NOTHING
             ), letters AS (
               INSERT INTO millstream.dead_letter (job_id, queue_id, kind_id, tenant_id, reason, error)
               SELECT id, queue_id, kind_id, tenant_id, dead_reason, message FROM settled WHERE dead_reason IS NOT NULL ON CONFLICT (job_id) DO NOTHING
             )",
            $counted,
            " ",
            $settled,
            " UNION
             SELECT u.id FROM u JOIN millstream.job_error e ON e.job_id = u.id AND e.epoch = u.epoch AND e.worker_id = $1 AND e.class = u.class AND e.message = u.message"
        )
    };
}

/// The statement that returns the ids accepted. Also true for a repeated write whose first try had committed: the history has this epoch, in these words. Others
/// write other words there, for a worker that they take for dead.
fn write(worker_id: i64, rows: &[Row]) -> Scalar<'static, JobId> {
    fn column<T>(rows: &[Row], f: impl Fn(&Row) -> T) -> Vec<T> {
        rows.iter().map(f).collect()
    }
    let is_counted = rows.iter().any(|row| row.is_counted);
    sqlx::query_scalar(if is_counted {
        failed!(counted)
    } else {
        failed!()
    })
    .bind(worker_id)
    .bind(column(rows, |r| r.id))
    .bind(column(rows, |r| r.epoch))
    .bind(column(rows, |r| r.from))
    .bind(column(rows, |r| r.to))
    .bind(column(rows, |r| r.delay_ms))
    .bind(column(rows, |r| r.counts))
    .bind(column(rows, |r| r.class))
    .bind(column(rows, |r| r.dead_reason))
    .bind(column(rows, |r| r.message.clone()))
    .bind(column(rows, |r| r.started_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    // X07
    #[test]
    fn x07_a_text_that_no_database_need_know_is_plain() {
        assert_eq!(
            plain("no room: \0 in ü, 😀"),
            "no room: \\u{0} in \\u{fc}, \\u{1f600}"
        );
        assert!(plain(&"漢".repeat(ERROR_BYTES_MAX)).len() <= ERROR_BYTES_MAX + 8);
    }
}
