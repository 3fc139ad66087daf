//! The handlers of the chaos worker: they do as their kind says, and journal when they begin and end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_common::retry::RetryPolicy;
use millstream_worker::{Context, Failure, Handler, Outcome, Success};

use super::{
    journal::{Event, Handout, How, Journal},
    workload::{HOG, LONG, MIDDLE, PANIC, Payload, QUICK, STUCK},
};

/// Short, so that a failed job does not hide behind its delay when the run asks whether all due work moves.
const RETRY: RetryPolicy = RetryPolicy {
    base: Duration::from_millis(200),
    factor: 2.0,
    cap: Duration::from_secs(2),
    max_attempts: 10,
};

/// An attempt that is to fail does so by then.
const FAILS_WITHIN: Duration = Duration::from_millis(500);
/// A job that runs this long has its lease.
const LEASED_BY: Duration = Duration::from_millis(800);
/// How long a job that hogs its thread does so: eight of them on the two threads of a small machine are three leases.
const HOGS_FOR: Duration = Duration::from_millis(4500);

/// Handlers of all kinds; `long` is how long the longest takes.
pub fn all(journal: &Arc<Journal>, long: Duration) -> Vec<Handler> {
    let kinds = [
        (QUICK, Duration::from_millis(5)),
        (MIDDLE, Duration::from_millis(500)),
        (LONG, long),
    ];
    let mut handlers: Vec<Handler> = kinds
        .into_iter()
        .map(|(kind, takes)| timed(kind, takes, journal.clone()))
        .collect();
    handlers.extend([HOG, STUCK, PANIC].map(|kind| rude(kind, journal.clone())));
    handlers
}

fn timed(kind: &str, takes: Duration, journal: Arc<Journal>) -> Handler {
    let run =
        move |context: Context, payload: Payload| run(journal.clone(), takes, context, payload);
    Handler::new(kind, run).retry(RETRY)
}

async fn run(
    journal: Arc<Journal>,
    takes: Duration,
    context: Context,
    payload: Payload,
) -> Outcome {
    let mut noted = Noted::begin(journal, &context, &payload);
    let fails = context.attempt <= payload.fail;
    // A long job that fails three times would keep a run from its end for a minute.
    tokio::time::sleep(if fails {
        takes.min(FAILS_WITHIN)
    } else {
        takes
    })
    .await;
    if fails {
        noted.how = How::Fail;
        return Err(Failure::retry("failed as asked"));
    }
    noted.how = How::Ok;
    Ok(Success::new())
}

/// What a handler must not do: it keeps its thread for itself, or panics.
fn rude(kind: &'static str, journal: Arc<Journal>) -> Handler {
    let run = move |context: Context, payload: Payload| {
        let journal = journal.clone();
        async move {
            let mut noted = Noted::begin(journal, &context, &payload);
            misbehave(kind, &context, payload.token).await;
            noted.how = How::Ok;
            Ok(Success::new())
        }
    };
    Handler::new(kind, run).retry(RETRY)
}

async fn misbehave(kind: &str, context: &Context, token: u64) {
    match kind {
        PANIC if context.attempt > 1 => {}
        PANIC if token.is_multiple_of(2) => drop(PanicsWhenDropped),
        PANIC => panic!("as asked"),
        HOG => {
            tokio::time::sleep(LEASED_BY).await;
            let began = Instant::now();
            while began.elapsed() < HOGS_FOR {
                std::hint::spin_loop();
            }
        }
        // Once: whoever gets it next may be done with it.
        _ if context.epoch == 0 => {
            tokio::time::sleep(LEASED_BY).await;
            loop {
                std::thread::park();
            }
        }
        _ => {}
    }
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("as asked, when dropped");
    }
}

/// Writes the end of a run, also of one whose future is dropped.
struct Noted {
    journal: Arc<Journal>,
    handout: Handout,
    how: How,
}

impl Noted {
    fn begin(journal: Arc<Journal>, context: &Context, payload: &Payload) -> Self {
        let handout = Handout {
            token: payload.token,
            job: context.job_id,
            epoch: context.epoch,
        };
        journal.write(Event::Start(handout, context.attempt, std::process::id()));
        Self {
            journal,
            handout,
            how: How::Dropped,
        }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.journal.write(Event::End(self.handout, self.how));
    }
}
