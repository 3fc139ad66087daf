//! The channel on which handlers write log lines. It does not know who stores them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use chrono::{DateTime, Utc};
use millstream_common::id::JobId;
use tokio::sync::mpsc;

/// Log lines kept while Postgres is slow; more are dropped, the job is worth more than its chatter.
pub(crate) const LINES_MAX: usize = 10_000;
/// Log lines taken in one go, and written in one statement.
pub(crate) const BATCH_MAX: usize = 500;

/// One log line of a job, and the hand-out and try in which it was said.
pub(crate) struct Line {
    pub(crate) job: JobId,
    pub(crate) epoch: i32,
    pub(crate) attempt: i16,
    pub(crate) at: DateTime<Utc>,
    pub(crate) text: String,
}

/// The front that handlers write to.
#[derive(Clone)]
pub(crate) struct Reporter {
    lines: mpsc::Sender<Line>,
    dropped: Arc<AtomicU64>,
}

/// The end that is read.
pub(crate) struct Reports {
    lines: mpsc::Receiver<Line>,
    /// Lines that were lost and not told of yet.
    pub(crate) dropped: Arc<AtomicU64>,
}

impl Reporter {
    pub(crate) fn new() -> (Self, Reports) {
        let (sender, lines) = mpsc::channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        (
            Self {
                lines: sender,
                dropped: dropped.clone(),
            },
            Reports { lines, dropped },
        )
    }

    /// Never waits: where there is no room, the line is dropped and counted.
    pub(crate) fn send(&self, line: Line) {
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

impl Reports {
    /// What has come since, up to a statement's worth.
    pub(crate) fn batch(&mut self) -> Vec<Line> {
        let mut batch = Vec::new();
        while batch.len() < BATCH_MAX
            && let Ok(line) = self.lines.try_recv()
        {
            batch.push(line);
        }
        batch
    }

    /// The lines so far.
    #[cfg(feature = "testing")]
    pub(crate) fn texts(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.lines.try_recv().ok())
            .map(|line| line.text)
            .collect()
    }
}
