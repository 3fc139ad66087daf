//! Handlers that remember which jobs they were started for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use millstream_worker::{Handler, Success};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often each job was started.
#[derive(Clone, Default)]
pub struct Starts(Arc<Mutex<HashMap<Uuid, usize>>>);

impl Starts {
    /// A handler that waits as many milliseconds as its payload says.
    pub fn timed(&self, kind: &str) -> Handler {
        let starts = self.clone();
        Handler::new(kind, move |context: millstream_worker::Context, ms: u64| {
            starts.note(context.job_id);
            async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(Success::new())
            }
        })
    }

    /// A handler that waits until the gate is opened (its token cancelled).
    pub fn gated(&self, kind: &str, gate: &CancellationToken) -> Handler {
        let (starts, gate) = (self.clone(), gate.clone());
        Handler::new(kind, move |context: millstream_worker::Context, _: serde_json::Value| {
            starts.note(context.job_id);
            let gate = gate.clone();
            async move {
                gate.cancelled().await;
                Ok(Success::new())
            }
        })
    }

    /// Counts one start.
    pub fn note(&self, id: Uuid) {
        *self.0.lock().expect("no handler panics here").entry(id).or_default() += 1;
    }

    /// Starts of one job.
    pub fn of(&self, id: Uuid) -> usize {
        self.0.lock().expect("no handler panics here").get(&id).copied().unwrap_or(0)
    }

    /// Jobs that were started more than once.
    pub fn repeated(&self) -> Vec<Uuid> {
        self.0.lock().expect("no handler panics here").iter().filter(|(_, n)| **n > 1).map(|(id, _)| *id).collect()
    }

    /// Jobs that were started at all.
    pub fn jobs(&self) -> usize {
        self.0.lock().expect("no handler panics here").len()
    }
}
