//! A place beside the flusher for callers whose idempotency key an open transaction holds: they wait, or are told so, and nobody else does.
//!
//! Anybody who may enqueue in SQL can hold keys as long as he likes. So at most two connections are spent on this, and a key that was held
//! a moment ago does not get into a batch again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use millstream_common::{
    error::{Error, Outage},
    limits::ACQUIRE_DEADLINE,
    persist::is_held,
    tasks::Tasks,
};
use tokio::{sync::Semaphore, time::Instant};

use super::{Request, count_answers, tell, unzip};
use crate::{
    Parts,
    write::{OP, Writer},
};

/// Connections that may wait for keys.
const CONNECTIONS_MAX: usize = 2;
/// How long a key counts as held after it was seen so: a batch loses its short wait for a key once in this time.
const HELD_FOR: Duration = Duration::from_secs(1);
/// Held keys that are remembered: more are forgotten at once, which costs batches a wait.
const HELD_KEYS_MAX: usize = 10_000;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Aside {
    parts: Parts,
    writer: Writer,
    tasks: Tasks,
    connections: Arc<Semaphore>,
    /// Tenant and key, and when they were last seen held.
    held: Arc<Mutex<HashMap<(i32, String), Instant>>>,
}

impl Aside {
    pub(super) fn new(parts: Parts, writer: Writer, tasks: Tasks) -> Self {
        Self { parts, writer, tasks, connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)), held: Arc::default() }
    }

    /// Takes those out of a batch whose keys were held a moment ago. The rest comes back.
    pub(super) fn take_held(&self, batch: Vec<Request>) -> Vec<Request> {
        let (held, rest): (Vec<_>, Vec<_>) = {
            let mut known = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            if known.is_empty() {
                return batch;
            }
            known.retain(|_, seen| seen.elapsed() < HELD_FOR);
            batch.into_iter().partition(|request| key(request).is_some_and(|key| known.contains_key(&key)))
        };
        self.write(held);
        rest
    }

    /// Writes these without anybody waiting for it but themselves.
    pub(super) fn write(&self, batch: Vec<Request>) {
        if !batch.is_empty() {
            let aside = self.clone();
            // Its end is told to the callers.
            drop(self.tasks.spawn(async move { aside.write_now(batch).await }));
        }
    }

    async fn write_now(&self, batch: Vec<Request>) {
        let keys: Vec<_> = batch.iter().map(key).collect();
        let (jobs, answers) = unzip(batch);
        let Ok(Ok(_connection)) = tokio::time::timeout(ACQUIRE_DEADLINE, self.connections.acquire()).await else {
            return tell(answers, std::iter::repeat_with(|| Err(Error::Outage(Outage::PostgresTimeout { op: OP }))));
        };
        let results = self.writer.write_each(&jobs).await;
        let held = keys.into_iter().zip(&results).filter(|(_, result)| matches!(result, Err(Error::Outage(outage)) if is_held(outage)));
        self.remember(held.filter_map(|(key, _)| key));
        count_answers(&self.parts, jobs.iter().map(|(job, _)| job).zip(&results));
        tell(answers, results);
    }

    fn remember(&self, keys: impl Iterator<Item = (i32, String)>) {
        let now = Instant::now();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.extend(keys.map(|key| (key, now)));
        if held.len() > HELD_KEYS_MAX {
            held.clear();
        }
    }
}

fn key(request: &Request) -> Option<(i32, String)> {
    request.job.idempotency_key.clone().map(|key| (request.names.tenant, key))
}
