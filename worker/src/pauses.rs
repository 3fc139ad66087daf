//! What may not start now, as this process last read it: a job that is in hand asks once more when its slot is free (X71).
//!
//! Whoever claimed it asked Postgres, and of that answer and the last look the newer one counts. Neither counts for longer than
//! [`KNOWN_MAX`], so a process that stood still, or cannot reach Postgres, starts nothing that was paused meanwhile. It does not know who waits,
//! nor what becomes of a job that may not start.

use std::time::{Duration, Instant};

use millstream_common::closed::Closed;
use tokio::sync::watch;

use crate::claim::ClaimedJob;

/// How old the word by which a job starts may be. With the step from here to the handler that is less than the two seconds that a pause
/// may take.
const KNOWN_MAX: Duration = Duration::from_millis(1_500);

/// The last look.
pub(crate) struct Pauses(watch::Sender<Look>);

struct Look {
    asked_at: Instant,
    closed: Closed,
}

/// Whether a job may start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    Granted,
    /// Its queue, kind or tenant is paused.
    Refused,
    /// What is known is too old.
    Unknown,
}

impl Look {
    /// Newer than the claim's own question, and the job may not start.
    fn closes(&self, job: &ClaimedJob) -> bool {
        self.asked_at > job.asked_at && self.closed.has(job.queue.id, job.kind.kind_id, job.tenant_id)
    }
}

impl Pauses {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Look { asked_at: Instant::now(), closed: Closed::default() }))
    }

    /// What Postgres has answered to a question asked then. Who waits is woken only if it is something else than before.
    pub(crate) fn note(&self, asked_at: Instant, closed: Closed) {
        self.0.send_if_modified(|look| {
            let is_new = look.closed != closed;
            *look = Look { asked_at, closed };
            is_new
        });
    }

    /// For a job that has a slot.
    pub(crate) fn leave(&self, job: &ClaimedJob) -> Leave {
        let look = self.0.borrow();
        if look.closes(job) {
            Leave::Refused
        } else if look.asked_at.max(job.asked_at).elapsed() <= KNOWN_MAX {
            Leave::Granted
        } else {
            Leave::Unknown
        }
    }

    /// Waits until a job that waits for its slot may not have it.
    pub(crate) async fn closes(&self, job: &ClaimedJob) {
        // An error would say that the sender is gone, which is here.
        drop(self.0.subscribe().wait_for(|look| look.closes(job)).await);
    }
}
