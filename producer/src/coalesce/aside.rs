//! A place beside the flusher for callers whose idempotency key or id an open transaction holds: they wait, or are told so, and nobody else does.
//!
//! Anybody who may enqueue in SQL can hold them as long as he likes. So at most two connections are spent on this, and what was held a moment
//! ago does not get into a batch again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use millstream_common::{
    error::{Error, Outage},
    limits::{ACQUIRE_DEADLINE, STATEMENT_DEADLINE},
    persist::{Enqueued, is_held},
    tasks::Tasks,
};
use tokio::{sync::Semaphore, time::Instant};

use super::{Request, count_answers, tell, unzip};
use crate::{
    Parts,
    write::{Awaited, OP, Writer},
};

/// Connections that may wait for what is held.
const CONNECTIONS_MAX: usize = 2;
/// How long a key or an id counts as held after it was seen so: a batch loses its short waits for it once in this time.
const HELD_FOR: Duration = Duration::from_secs(10);
/// So many are remembered: more are forgotten at once, which costs batches a wait.
const HELD_MAX: usize = 10_000;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Aside {
    parts: Parts,
    writer: Writer,
    tasks: Tasks,
    connections: Arc<Semaphore>,
    /// And when they were last seen held.
    held: Arc<Mutex<HashMap<Awaited<'static>, Instant>>>,
}

impl Aside {
    pub(super) fn new(parts: Parts, writer: Writer, tasks: Tasks) -> Self {
        Self {
            parts,
            writer,
            tasks,
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            held: Arc::default(),
        }
    }

    /// Takes those out of a batch whose keys or ids were held a moment ago. The rest comes back.
    pub(super) fn take_held(&self, batch: Vec<Request>) -> Vec<Request> {
        let (held, rest): (Vec<_>, Vec<_>) = {
            let mut known = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            if known.is_empty() {
                return batch;
            }
            known.retain(|_, seen| seen.elapsed() < HELD_FOR);
            batch
                .into_iter()
                .partition(|request| known.contains_key(&Awaited::by(&request.job, &request.names)))
        };
        self.write(held);
        rest
    }

    /// Writes these without anybody waiting for it but themselves.
    pub(super) fn write(&self, batch: Vec<Request>) {
        if !batch.is_empty() {
            let aside = self.clone();
            // Its end is told to the callers.
            drop(
                self.tasks
                    .spawn(async move { aside.write_now(batch).await }),
            );
        }
    }

    async fn write_now(&self, batch: Vec<Request>) {
        let Ok(Ok(_connection)) =
            tokio::time::timeout(ACQUIRE_DEADLINE, self.connections.acquire()).await
        else {
            let (_, answers) = unzip(batch);
            return tell(
                answers,
                std::iter::repeat_with(|| Err(Error::Outage(Outage::PostgresTimeout { op: OP }))),
            );
        };
        self.write_each(batch, STATEMENT_DEADLINE).await;
    }

    /// Writes each that can be written, answers, and remembers what was held.
    pub(super) async fn write_each(&self, batch: Vec<Request>, search: Duration) {
        let awaited: Vec<_> = batch
            .iter()
            .map(|request| Awaited::by(&request.job, &request.names).into_owned())
            .collect();
        let (jobs, answers) = unzip(batch);
        let results = self.writer.write_each(&jobs, search).await;
        let outage = |result: &Result<Enqueued, Error>| {
            if let Err(Error::Outage(outage)) = result {
                Some(is_held(outage))
            } else {
                None
            }
        };
        self.remember(
            awaited
                .into_iter()
                .zip(&results)
                .filter(|(_, result)| outage(result) == Some(true))
                .map(|(awaited, _)| awaited),
        );
        count_answers(&self.parts, jobs.iter().map(|(job, _)| job).zip(&results));
        if results.iter().any(|result| outage(result) == Some(false)) {
            self.parts.metrics.counters.postgres_failed("enqueue");
        }
        tell(answers, results);
    }

    fn remember(&self, more: impl Iterator<Item = Awaited<'static>>) {
        let now = Instant::now();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.extend(more.map(|awaited| (awaited, now)));
        if held.len() > HELD_MAX {
            held.clear();
        }
    }
}
