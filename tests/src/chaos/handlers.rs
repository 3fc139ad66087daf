//! The handlers of the chaos worker: they wait as long as their kind says, and journal when they begin and end.

use std::{sync::Arc, time::Duration};

use millstream_common::retry::RetryPolicy;
use millstream_worker::{Context, Failure, Handler, Outcome, Success};

use super::{
    journal::{Event, Handout, How, Journal},
    workload::{LONG, MIDDLE, Payload, QUICK},
};

/// Short, so that a failed job does not hide behind its delay when the run asks whether all due work moves.
const RETRY: RetryPolicy = RetryPolicy { base: Duration::from_millis(200), factor: 2.0, cap: Duration::from_secs(2), max_attempts: 10 };

/// An attempt that is to fail does so by then.
const FAILS_WITHIN: Duration = Duration::from_millis(500);

/// Handlers of the three kinds; `long` is how long the longest takes.
pub fn all(journal: &Arc<Journal>, long: Duration) -> Vec<Handler> {
    let kinds = [(QUICK, Duration::from_millis(5)), (MIDDLE, Duration::from_millis(500)), (LONG, long)];
    kinds.into_iter().map(|(kind, takes)| handler(kind, takes, journal.clone())).collect()
}

fn handler(kind: &str, takes: Duration, journal: Arc<Journal>) -> Handler {
    let run = move |context: Context, payload: Payload| run(journal.clone(), takes, context, payload);
    Handler::new(kind, run).retry(RETRY)
}

async fn run(journal: Arc<Journal>, takes: Duration, context: Context, payload: Payload) -> Outcome {
    let handout = Handout { token: payload.token, job: context.job_id, epoch: context.epoch };
    let mut noted = Noted { journal, handout, how: How::Dropped };
    noted.journal.write(Event::Start(handout, context.attempt, std::process::id()));
    let fails = context.attempt <= payload.fail;
    // A long job that fails three times would keep a run from its end for a minute.
    tokio::time::sleep(if fails { takes.min(FAILS_WITHIN) } else { takes }).await;
    if fails {
        noted.how = How::Fail;
        return Err(Failure::retry("failed as asked"));
    }
    noted.how = How::Ok;
    Ok(Success::new())
}

/// Writes the end of a run, also of one whose future is dropped.
struct Noted {
    journal: Arc<Journal>,
    handout: Handout,
    how: How,
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.journal.write(Event::End(self.handout, self.how));
    }
}
