//! What handlers say while they run: progress into the lease rows, log lines into `job_log`, twice a second (F35).
//!
//! Reports of jobs that end within 200 ms are never written: nobody could have seen them.

use std::{sync::Arc, time::Duration};

use millstream_common::{error::Outage, id::JobId, pg::within};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{settle::fail::plain, shared::Shared};

/// How often reports are written.
const EVERY: Duration = Duration::from_millis(500);
/// Log lines kept while Postgres is slow; more are dropped, the job is worth more than its chatter.
const LINES_MAX: usize = 10_000;
/// Log lines written in one statement.
const BATCH_MAX: usize = 500;
/// `/livez` fails when the loop has not turned for this long.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// One log line of a job.
pub(crate) struct Line {
    job: JobId,
    epoch: i32,
    text: String,
}

/// The front that handlers write to.
#[derive(Clone)]
pub(crate) struct Reporter(mpsc::Sender<Line>);

impl Reporter {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Line>) {
        let (sender, lines) = mpsc::channel(LINES_MAX);
        (Self(sender), lines)
    }

    pub(crate) fn log(&self, job: JobId, epoch: i32, text: String) {
        drop(self.0.try_send(Line { job, epoch, text }));
    }
}

/// Writes reports until `stop` fires, then what is left.
pub(crate) async fn run(shared: Arc<Shared>, mut lines: mpsc::Receiver<Line>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        tokio::select! { _ = tick.tick() => {}, () = stop.cancelled() => {} }
        shared.pulses.turn("report", SILENCE_MAX);
        let mut batch = Vec::new();
        while batch.len() < BATCH_MAX
            && let Ok(line) = lines.try_recv()
        {
            batch.push(line);
        }
        if let Err(outage) = write(&shared, batch).await {
            tracing::debug!(error = %millstream_common::error::in_full(&outage), "reports were not written");
        }
    }
    shared.pulses.end("report");
}

async fn write(shared: &Shared, mut lines: Vec<Line>) -> Result<(), Outage> {
    let mut reports: Vec<_> =
        shared.held.leased().into_iter().filter_map(|hold| Some((hold.id, hold.epoch, hold.take_report()?))).collect();
    if reports.is_empty() && lines.is_empty() {
        return Ok(());
    }
    match write_once(shared, &reports, &lines).await {
        // A text that this database cannot store must not cost the others theirs.
        Err(outage) if outage.is_about_the_data() => {
            reports.iter_mut().for_each(|report| report.2.1 = plain(&report.2.1));
            lines.iter_mut().for_each(|line| line.text = plain(&line.text));
            write_once(shared, &reports, &lines).await
        }
        written => written,
    }
}

async fn write_once(shared: &Shared, reports: &[(JobId, i32, (f32, String))], lines: &[Line]) -> Result<(), Outage> {
    let op = "writing reports";
    let mut lent = shared.pg.main(op).await?;
    if !reports.is_empty() {
        let update = sqlx::query(
            "UPDATE millstream.lease l SET progress = GREATEST(l.progress, u.progress), progress_note = u.note
             FROM unnest($1::uuid[], $2::int[], $3::real[], $4::text[]) AS u(id, epoch, progress, note) WHERE l.job_id = u.id AND l.epoch = u.epoch",
        )
        .bind(reports.iter().map(|r| r.0).collect::<Vec<_>>())
        .bind(reports.iter().map(|r| r.1).collect::<Vec<_>>())
        .bind(reports.iter().map(|r| r.2.0).collect::<Vec<_>>())
        .bind(reports.iter().map(|r| r.2.1.clone()).collect::<Vec<_>>());
        within(op, update.execute(lent.conn())).await?;
    }
    if !lines.is_empty() {
        let insert =
            sqlx::query("INSERT INTO millstream.job_log (job_id, epoch, line) SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[])")
                .bind(lines.iter().map(|l| l.job).collect::<Vec<_>>())
                .bind(lines.iter().map(|l| l.epoch).collect::<Vec<_>>())
                .bind(lines.iter().map(|l| l.text.clone()).collect::<Vec<_>>());
        within(op, insert.execute(lent.conn())).await?;
    }
    lent.done();
    Ok(())
}
