//! The read loop of one queue: free capacity first, then one stream at a time by the weighted order.
//!
//! Only when all three streams came back empty does it block, on all of them, for one entry each. After every reconnect it
//! hands back what an earlier, abandoned request was given: entries in its own pending list that no hold here knows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use millstream_common::{
    error::Outage,
    failpoint::reach,
    job::Priority,
    limits::{CHUNK_JOBS_MAX, CLAIM_JOBS_MAX, READ_BLOCK},
    reconnect::Reconnect,
    rehand::Leases,
    seldom::Seldom,
    stream::{
        GROUP,
        wire::{self, Told},
    },
};
use redis::aio::MultiplexedConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    batch::Claim,
    group,
    order::{Order, WEIGHTS_DEFAULT},
    rows::Delivery,
};
use crate::{
    hand_back::hand_back, queues::Queue, registry::SLOT_WEIGHT, run::Runs, shared::Shared,
};

/// Entries of the own pending list looked at per round after a reconnect.
const OWN_PENDING_MAX: usize = 1000;
/// `/livez` fails when the loop has not turned for this long: three blocks with their margins.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// How often a paused or cut-off reader looks again.
const IDLE_LOOK: Duration = Duration::from_millis(250);
/// Claims in flight per queue: the next batch is read while the last one is asked about.
const CLAIMS_MAX: usize = 2;

/// How often it is looked whether the streams can be used: one that takes or gives nothing says nothing.
const LOOK: Duration = Duration::from_secs(3);

/// Entries by the stream they were in.
type Found = Vec<(Arc<str>, Vec<Told>)>;

static GARBAGE_LINES: Seldom = Seldom::new();

pub(crate) struct Reader {
    shared: Arc<Shared>,
    runs: Arc<Runs>,
    queue: Queue,
    streams: [(Priority, Arc<str>); 3],
    order: Order,
    /// By priority: jobs in the largest entries of late. With the weight of a job, as last seen, it says how many entries fit into the free
    /// capacity. Large until known: an entry too few costs nothing, and one job too many waits for all that was read before it.
    entry_jobs: [usize; 3],
    job_weight: Arc<AtomicU64>,
    claims: Arc<Semaphore>,
    /// By priority: the stream has a group. A full Redis makes none.
    readable: [bool; 3],
    looked: Instant,
}

impl Reader {
    pub(crate) fn new(runs: Arc<Runs>, queue: Queue) -> Self {
        let shared = runs.shared.clone();
        let streams = Priority::ALL.map(|p| (p, shared.redis.keys().stream(&queue.name, p).into()));
        let claims = Arc::new(Semaphore::new(CLAIMS_MAX));
        let job_weight = Arc::new(AtomicU64::new(SLOT_WEIGHT));
        let (order, looked) = (Order::new(WEIGHTS_DEFAULT), Instant::now());
        Self {
            shared,
            runs,
            queue,
            streams,
            order,
            entry_jobs: [CHUNK_JOBS_MAX; 3],
            job_weight,
            claims,
            readable: [true; 3],
            looked,
        }
    }

    /// Reads until the worker drains.
    pub(crate) async fn run(mut self) {
        let name = format!("reader {}", self.queue.name);
        let draining = self.shared.signals.draining.clone();
        let mut reconnect = Reconnect::default();
        while !draining.is_cancelled() {
            self.shared.pulses.turn(&name, SILENCE_MAX);
            let session = tokio::select! {
                ended = self.session(&name, &mut reconnect) => ended,
                () = draining.cancelled() => break,
            };
            if let Err(outage) = session {
                self.recover(&outage).await;
                let delay = reconnect.next_delay();
                tokio::select! { () = tokio::time::sleep(delay) => {}, () = draining.cancelled() => break }
            }
        }
        self.shared.pulses.end(&name);
        if let Err(outage) = self.leave().await {
            tracing::debug!(error = %millstream_common::error::in_full(&outage), "the reader could not look at its last entries; takeover will");
        }
    }

    /// One connection's life: ends with an error, or when nothing may be read for now.
    async fn session(&mut self, name: &str, reconnect: &mut Reconnect) -> Result<(), Outage> {
        if self.must_rest() {
            tokio::time::sleep(IDLE_LOOK).await;
            return Ok(());
        }
        let mut conn = self.shared.redis.reader("connecting the reader").await?;
        self.hand_back_own_pending(&mut conn).await?;
        loop {
            self.shared.pulses.turn(name, SILENCE_MAX);
            if self.must_rest() {
                return Ok(());
            }
            if self.looked.elapsed() > LOOK {
                self.make_groups().await?;
            }
            let Some((permit, jobs_max)) = self.await_room().await else {
                continue;
            };
            let (read_at, deliveries) = self.read(&mut conn, jobs_max).await?;
            reconnect.reset();
            if !deliveries.is_empty() {
                reach("claim.read");
            }
            self.claim(permit, deliveries, read_at).await;
        }
    }

    /// Paused, or Postgres or Redis out of reach: nothing new may be claimed here.
    fn must_rest(&self) -> bool {
        self.shared.signals.paused.load(Relaxed)
            || !self.shared.contact.is_up()
            || self.shared.redis.is_down()
    }

    /// Leave to claim, and the jobs that fit now; `None` after a while without room.
    async fn await_room(&self) -> Option<(OwnedSemaphorePermit, usize)> {
        let permit = tokio::time::timeout(IDLE_LOOK, self.claims.clone().acquire_owned())
            .await
            .ok()?
            .ok()?;
        let jobs = self
            .shared
            .work
            .capacity
            .room(self.job_weight.load(Relaxed));
        if jobs > 0 {
            return Some((permit, jobs.min(CLAIM_JOBS_MAX)));
        }
        drop(permit);
        drop(tokio::time::timeout(IDLE_LOOK, self.shared.work.capacity.freed()).await);
        None
    }

    /// Reads from the first stream that has something; blocks on all when none has. With what it found comes the time since which the
    /// entries may have been pending: who blocks was given them before the block was over, however late he is told.
    async fn read(
        &mut self,
        conn: &mut MultiplexedConnection,
        jobs_max: usize,
    ) -> Result<(Instant, Found), Outage> {
        for priority in self.order.next() {
            if !self.readable[priority as usize] {
                continue;
            }
            let stream = self.stream(priority);
            let asked_at = Instant::now();
            let entries_max = jobs_max.div_ceil(self.entry_jobs[priority as usize]);
            let found = self
                .read_streams(conn, &[stream], entries_max, None)
                .await?;
            if !found.is_empty() {
                return Ok((asked_at, found));
            }
        }
        let all: Vec<_> = self.readable_streams().cloned().collect();
        if all.is_empty() {
            tokio::time::sleep(IDLE_LOOK).await;
            return Ok((Instant::now(), Found::new()));
        }
        let asked_at = Instant::now();
        let found = self.read_streams(conn, &all, 1, Some(READ_BLOCK)).await?;
        Ok((Instant::now().min(asked_at + READ_BLOCK), found))
    }

    fn readable_streams(&self) -> impl Iterator<Item = &Arc<str>> {
        self.streams
            .iter()
            .filter(|(priority, _)| self.readable[*priority as usize])
            .map(|(_, stream)| stream)
    }

    fn stream(&self, priority: Priority) -> Arc<str> {
        self.streams[priority as usize].1.clone()
    }

    async fn read_streams(
        &self,
        conn: &mut MultiplexedConnection,
        streams: &[Arc<str>],
        count: usize,
        block: Option<Duration>,
    ) -> Result<Found, Outage> {
        let mut command = redis::cmd("XREADGROUP");
        command
            .arg("GROUP")
            .arg(GROUP)
            .arg(self.shared.consumer())
            .arg("COUNT")
            .arg(count);
        if let Some(block) = block {
            command.arg("BLOCK").arg(block.as_millis() as u64);
        }
        command.arg("STREAMS");
        for stream in streams {
            command.arg(&**stream);
        }
        for _ in streams {
            command.arg(">");
        }
        self.query(conn, &command).await
    }

    /// The connection's own answer timeout bounds the wait: it is longer than the block.
    async fn query(
        &self,
        conn: &mut MultiplexedConnection,
        command: &redis::Cmd,
    ) -> Result<Found, Outage> {
        let answer: redis::Value =
            command
                .query_async(conn)
                .await
                .map_err(|source| Outage::Redis {
                    op: "reading",
                    source,
                })?;
        Ok(wire::streams(&answer)
            .into_iter()
            .filter(|(_, told)| !told.is_empty())
            .map(|(key, told)| (key.into(), told))
            .collect())
    }

    /// Has Postgres asked about what was read, and started what it confirms. Quick jobs are asked about while the next ones are read.
    async fn claim(&mut self, permit: OwnedSemaphorePermit, found: Found, read_at: Instant) {
        let mut batches = Vec::with_capacity(found.len());
        for (stream, told) in found {
            let deliveries = self.decoded(&stream, told);
            if let Some(largest) = deliveries
                .iter()
                .map(|delivery| delivery.hint.jobs.len())
                .max()
            {
                self.note_size(&stream, largest);
                batches.push((stream, deliveries));
            }
        }
        if batches.is_empty() {
            return;
        }
        let jobs: usize = batches
            .iter()
            .flat_map(|(_, deliveries)| deliveries)
            .map(|delivery| delivery.hint.jobs.len())
            .sum();
        let weight = self.job_weight.load(Relaxed);
        let claim = Claim {
            runs: self.runs.clone(),
            queue: self.queue.clone(),
            job_weight: self.job_weight.clone(),
            read_at,
        };
        let reserved = self.shared.work.capacity.take(jobs, weight);
        let claiming = async move {
            claim.run(batches, reserved).await;
            drop(permit);
        };
        if weight < SLOT_WEIGHT {
            self.runs.tasks.spawn(claiming);
        } else {
            // The weight of slow jobs decides the next read.
            claiming.await;
        }
    }

    /// Half of what it was before at least: entries of many jobs may follow upon a few small ones.
    fn note_size(&mut self, stream: &str, largest: usize) {
        if let Some((priority, _)) = self.streams.iter().find(|(_, name)| **name == *stream) {
            let size = &mut self.entry_jobs[*priority as usize];
            *size = largest.max(*size / 2).max(1);
        }
    }

    /// What is no entry of ours is acknowledged and dropped.
    fn decoded(&self, stream: &Arc<str>, found: Vec<Told>) -> Vec<Delivery> {
        let mut deliveries = Vec::with_capacity(found.len());
        for Told { id, hint } in found {
            if let Some(hint) = hint {
                deliveries.push(Delivery { id, hint });
                continue;
            }
            if let Some(kept_back) = GARBAGE_LINES.may_speak() {
                tracing::warn!(
                    kept_back,
                    stream = &**stream,
                    entry = id,
                    "an entry is none of ours: it is acknowledged and dropped"
                );
            }
            drop(self.shared.work.acks.send((stream.clone(), id)));
        }
        deliveries
    }

    /// Claims that are under way have entries in the pending list of which no hold knows yet.
    async fn all_claimed(&self) {
        drop(self.claims.acquire_many(CLAIMS_MAX as u32).await);
    }

    /// After a reconnect: what the server gave to a request whose answer never came.
    async fn hand_back_own_pending(&self, conn: &mut MultiplexedConnection) -> Result<(), Outage> {
        self.all_claimed().await;
        for stream in self.readable_streams() {
            let mut command = redis::cmd("XREADGROUP");
            command
                .arg("GROUP")
                .arg(GROUP)
                .arg(self.shared.consumer())
                .arg("COUNT")
                .arg(OWN_PENDING_MAX)
                .arg("STREAMS")
                .arg(&**stream)
                .arg("0");
            for (_, entries) in self.query(conn, &command).await? {
                self.hand_back_entries(stream, entries).await?;
            }
        }
        Ok(())
    }

    async fn hand_back_entries(&self, stream: &Arc<str>, entries: Vec<Told>) -> Result<(), Outage> {
        let mut lost = Vec::new();
        let mut done = Vec::new();
        for Told { id, hint } in entries {
            let jobs = hint.map(|hint| hint.jobs).unwrap_or_default();
            if jobs
                .iter()
                .any(|(job, _)| self.shared.work.held.contains(*job))
            {
                continue;
            }
            lost.extend(jobs);
            done.push(id);
        }
        if !lost.is_empty() {
            hand_back(&self.shared.pg, &lost, Leases::Spared, None).await?;
        }
        done.into_iter()
            .for_each(|id| drop(self.shared.work.acks.send((stream.clone(), id))));
        Ok(())
    }

    /// A missing group means that the stream was lost: make it again, from the start, and have everything compared.
    async fn recover(&mut self, outage: &Outage) {
        let text = millstream_common::error::in_full(outage);
        if text.contains("WRONGTYPE") {
            self.shared.metrics.counters.redis_failed("read");
        }
        if text.contains("NOGROUP") || text.contains("UNBLOCKED") || text.contains("WRONGTYPE") {
            self.shared.signals.reconcile_now.notify_one();
            if let Err(outage) = self.make_groups().await {
                tracing::debug!(error = %millstream_common::error::in_full(&outage), "making the consumer groups failed");
            }
            return;
        }
        self.shared.redis.note(outage);
        self.shared.metrics.counters.redis_failed("read");
        tracing::debug!(queue = %self.queue.name, error = %text, "reading failed");
    }

    async fn make_groups(&mut self) -> Result<(), Outage> {
        self.looked = Instant::now();
        for (nth, (_, stream)) in self.streams.iter().enumerate() {
            let (is_there, healed) = group::make(&self.shared.redis, stream).await?;
            self.readable[nth] = is_there;
            if healed {
                self.shared.signals.reconcile_now.notify_one();
            }
        }
        Ok(())
    }

    /// At the end: an abandoned read may still have been given entries. They go back, they were never started.
    async fn leave(&self) -> Result<(), Outage> {
        if self.shared.redis.is_down() {
            return Ok(());
        }
        let mut conn = self.shared.redis.reader("leaving").await?;
        self.hand_back_own_pending(&mut conn).await
    }
}
