//! Handlers that remember which jobs they were started for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use millstream_worker::{Handler, Success};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often each job was started, and whether two of its runs overlapped.
#[derive(Clone, Default)]
pub struct Starts(Arc<Mutex<HashMap<Uuid, Runs>>>);

/// The runs of one job.
#[derive(Clone, Copy, Default)]
struct Runs {
    started: usize,
    now: usize,
    at_once_max: usize,
}

/// One run; over when it is dropped.
pub struct Run {
    starts: Starts,
    id: Uuid,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.starts.change(self.id, |runs| runs.now -= 1);
    }
}

impl Starts {
    /// A handler that waits as many milliseconds as its payload says.
    pub fn timed(&self, kind: &str) -> Handler {
        let starts = self.clone();
        Handler::new(kind, move |context: millstream_worker::Context, ms: u64| {
            let run = starts.run(context.job_id);
            async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                drop(run);
                Ok(Success::new())
            }
        })
    }

    /// A handler that waits until the gate is opened (its token cancelled).
    pub fn gated(&self, kind: &str, gate: &CancellationToken) -> Handler {
        let (starts, gate) = (self.clone(), gate.clone());
        Handler::new(
            kind,
            move |context: millstream_worker::Context, _: serde_json::Value| {
                let run = starts.run(context.job_id);
                let gate = gate.clone();
                async move {
                    gate.cancelled().await;
                    drop(run);
                    Ok(Success::new())
                }
            },
        )
    }

    /// Counts one start of a run whose end is not watched.
    pub fn note(&self, id: Uuid) {
        self.change(id, |runs| runs.started += 1);
    }

    /// Counts one start; the run lasts as long as what is returned.
    pub fn run(&self, id: Uuid) -> Run {
        self.change(id, |runs| {
            runs.started += 1;
            runs.now += 1;
            runs.at_once_max = runs.at_once_max.max(runs.now);
        });
        Run {
            starts: self.clone(),
            id,
        }
    }

    fn change(&self, id: Uuid, change: impl FnOnce(&mut Runs)) {
        change(
            self.0
                .lock()
                .expect("no handler panics here")
                .entry(id)
                .or_default(),
        );
    }

    /// Starts of one job.
    pub fn of(&self, id: Uuid) -> usize {
        self.0
            .lock()
            .expect("no handler panics here")
            .get(&id)
            .map_or(0, |runs| runs.started)
    }

    /// Jobs that were started more than once.
    pub fn repeated(&self) -> Vec<Uuid> {
        self.of_which(|runs| runs.started > 1)
    }

    /// Jobs of which two runs went on at the same time.
    pub fn overlapped(&self) -> Vec<Uuid> {
        self.of_which(|runs| runs.at_once_max > 1)
    }

    /// Jobs that run now.
    pub fn running(&self) -> Vec<Uuid> {
        self.of_which(|runs| runs.now > 0)
    }

    fn of_which(&self, is_wanted: impl Fn(&Runs) -> bool) -> Vec<Uuid> {
        self.0
            .lock()
            .expect("no handler panics here")
            .iter()
            .filter(|(_, runs)| is_wanted(runs))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Jobs that were started at all.
    pub fn jobs(&self) -> usize {
        self.0.lock().expect("no handler panics here").len()
    }
}
