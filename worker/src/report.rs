//! What handlers say while they run: progress into the lease rows, log lines into `job_log`, twice a second (F35).
//!
//! Progress of jobs that end within 200 ms is never written: nobody could have seen it. Log lines always are, each with the time and
//! the try in which it was said.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use millstream_common::{
    error::{Outage, in_full},
    id::JobId,
    limits::NOTE_BYTES_MAX,
    redact::stored,
    seldom::Seldom,
};
use sqlx::{Postgres, postgres::PgArguments, query::Query};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{BATCH_MAX, LINES_MAX, Line, Reports},
    settle::fail::plain,
    shared::Shared,
};

/// How often reports are written.
const EVERY: Duration = Duration::from_millis(500);
/// `/livez` fails when the loop has not turned for this long.
const SILENCE_MAX: Duration = Duration::from_mins(1);

static DROPPED_LINES: Seldom = Seldom::new();

/// Writes reports until `stop` fires, then what is left.
pub(crate) async fn run(shared: Arc<Shared>, mut reports: Reports, stop: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        tokio::select! { _ = tick.tick() => {}, () = stop.cancelled() => {} }
        shared.pulses.turn("report", SILENCE_MAX);
        reports.write(&shared).await;
    }
    shared.pulses.end("report");
}

impl Reports {
    /// What has been said until now. What Postgres does not take is lost and counted.
    async fn write(&mut self, shared: &Shared) {
        let written = write_progress(shared).await;
        tell_failure(written);
        for _ in 0..LINES_MAX / BATCH_MAX {
            let mut batch = self.batch();
            if batch.is_empty() {
                break;
            }
            let written = write_lines(shared, &mut batch).await;
            if written.is_err() {
                self.dropped.fetch_add(batch.len() as u64, Relaxed);
                tell_failure(written);
                break;
            }
        }
        if self.dropped.load(Relaxed) > 0 && DROPPED_LINES.may_speak().is_some() {
            let lines = self.dropped.swap(0, Relaxed);
            tracing::warn!(
                lines,
                "log lines of jobs were lost: they came faster than Postgres took them"
            );
        }
    }
}

fn tell_failure(written: Result<(), Outage>) {
    if let Err(outage) = written {
        tracing::debug!(error = %in_full(&outage), "reports were not written");
    }
}

/// A job, its hand-out, and what was told of it last.
type Told = (JobId, i32, (f32, String));

async fn write_progress(shared: &Shared) -> Result<(), Outage> {
    let mut told: Vec<Told> = shared
        .work
        .held
        .leased()
        .into_iter()
        .filter_map(|hold| Some((hold.id, hold.epoch, hold.take_report()?)))
        .collect();
    if told.is_empty() {
        return Ok(());
    }
    told.iter_mut()
        .for_each(|told| told.2.1 = stored(&told.2.1, NOTE_BYTES_MAX));
    let op = "writing the progress of jobs";
    match shared.pg.main(op).execute(update(&told)).await {
        // A text that this database cannot store must not cost the others theirs.
        Err(outage) if outage.is_about_the_data() => {
            told.iter_mut().for_each(|told| told.2.1 = plain(&told.2.1));
            shared.pg.main(op).execute(update(&told)).await.map(drop)
        }
        written => written.map(drop),
    }
}

async fn write_lines(shared: &Shared, lines: &mut [Line]) -> Result<(), Outage> {
    let op = "writing log lines of jobs";
    match shared.pg.main(op).execute(insert(lines)).await {
        Err(outage) if outage.is_about_the_data() => {
            lines
                .iter_mut()
                .for_each(|line| line.text = plain(&line.text));
            shared.pg.main(op).execute(insert(lines)).await.map(drop)
        }
        written => written.map(drop),
    }
}

type Statement<'q> = Query<'q, Postgres, PgArguments>;

fn update(told: &[Told]) -> Statement<'_> {
    sqlx::query(
        "UPDATE millstream.lease l SET progress = GREATEST(l.progress, u.progress), progress_note = u.note
         FROM unnest($1::uuid[], $2::int[], $3::real[], $4::text[]) AS u(id, epoch, progress, note) WHERE l.job_id = u.id AND l.epoch = u.epoch",
    )
    .bind(told.iter().map(|t| t.0).collect::<Vec<_>>())
    .bind(told.iter().map(|t| t.1).collect::<Vec<_>>())
    .bind(told.iter().map(|t| t.2.0).collect::<Vec<_>>())
    .bind(told.iter().map(|t| t.2.1.as_str()).collect::<Vec<_>>())
}

fn insert(lines: &[Line]) -> Statement<'_> {
    sqlx::query(
        "INSERT INTO millstream.job_log (job_id, epoch, attempt, at, line)
         SELECT * FROM unnest($1::uuid[], $2::int[], $3::smallint[], $4::timestamptz[], $5::text[])",
    )
    .bind(lines.iter().map(|l| l.job).collect::<Vec<_>>())
    .bind(lines.iter().map(|l| l.epoch).collect::<Vec<_>>())
    .bind(lines.iter().map(|l| l.attempt).collect::<Vec<_>>())
    .bind(lines.iter().map(|l| l.at).collect::<Vec<_>>())
    .bind(lines.iter().map(|l| l.text.as_str()).collect::<Vec<_>>())
}
