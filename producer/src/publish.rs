//! Publish after COMMIT: best effort, in the background, so that no caller waits for Redis.
//!
//! A parcel is committed as `publishing` only if there seemed to be room. What the stream refuses goes back to
//! `waiting`; what is lost on the way (this process dies, Redis does not answer) stays `publishing` and reconcile finds it.
//!
//! A producer that gets no connection to Redis leaves its parcel waiting, so its job starts at once
//! from Postgres. Where Redis accepts the connection and then hangs, the parcel stays promised, and
//! its jobs wait out the grace period.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use millstream_common::{
    job::Priority, persist::Parcel, reconnect::Reconnect, stream::publish::publish, tasks::Tasks,
};
use tokio::{sync::mpsc, time::Instant};

use crate::Parts;

/// Parcels that may wait for Redis; more are left to reconcile.
const WAITING_MAX: usize = 1000;
/// Parcels taken in one go.
const BATCH_MAX: usize = 64;
/// After a refusal new parcels are left to the dispatch duty this long.
const FULL_FOR: Duration = Duration::from_millis(100);
/// When a breaker that has opened is first asked to close; from then on at growing, random intervals.
const PROBE_FIRST: Duration = Duration::from_secs(1);
/// A parcel that waited longer than this for its turn is left to reconcile, which may be about to hand its jobs out.
const STALE_AFTER: Duration = Duration::from_secs(2);

/// The publisher's front: cheap to clone.
#[derive(Clone)]
pub(crate) struct Publisher {
    parcels: mpsc::Sender<(Instant, Parcel)>,
    parts: Parts,
    started: Instant,
    /// Milliseconds after `started` until which the streams count as full.
    full_until_ms: Arc<AtomicU64>,
}

impl Publisher {
    pub(crate) fn start(parts: &Parts, tasks: &Tasks) -> Self {
        let (parcels, waiting) = mpsc::channel(WAITING_MAX);
        let publisher = Self {
            parcels,
            parts: parts.clone(),
            started: Instant::now(),
            full_until_ms: Arc::default(),
        };
        tasks.spawn(publisher.clone().run(waiting, tasks.stop_token()));
        publisher
    }

    /// Whether it makes sense to promise publishing.
    pub(crate) fn has_room(&self) -> bool {
        let now_ms = self.started.elapsed().as_millis() as u64;
        !self.parts.redis.refuses_work()
            && now_ms >= self.full_until_ms.load(Ordering::Relaxed)
            && self.parcels.capacity() > BATCH_MAX
    }

    /// Takes over committed parcels. Never waits.
    pub(crate) fn publish(&self, parcels: Vec<Parcel>) {
        for parcel in parcels {
            // A full channel: reconcile publishes them. `has_room` keeps this rare.
            drop(self.parcels.try_send((Instant::now(), parcel)));
        }
    }

    async fn run(
        self,
        mut waiting: mpsc::Receiver<(Instant, Parcel)>,
        stop: tokio_util::sync::CancellationToken,
    ) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let (mut reconnect, mut delay) = (Reconnect::default(), PROBE_FIRST);
        loop {
            tokio::select! {
                biased;
                taken = waiting.recv_many(&mut batch, BATCH_MAX) => {
                    if taken == 0 { return }
                    self.publish_batch(std::mem::take(&mut batch)).await;
                }
                () = tokio::time::sleep(delay), if self.parts.redis.refuses_work() => {
                    let queues: Vec<_> = self.parts.catalog.queues().into_iter().map(|(_, name)| name).collect();
                    if self.parts.redis.probe(&queues).await.is_ok() { reconnect.reset() }
                    delay = reconnect.next_delay();
                }
                // Last, so that what is in hand goes out before the end.
                () = stop.cancelled() => return,
            }
        }
    }

    async fn publish_batch(&self, batch: Vec<(Instant, Parcel)>) {
        let mut fresh: Vec<Parcel> = batch
            .into_iter()
            .filter(|(since, _)| since.elapsed() < STALE_AFTER)
            .map(|(_, p)| p)
            .collect();
        fresh.sort_by_key(|p| (p.queue, p.priority, p.id));
        for same in fresh.chunk_by(|a, b| (a.queue, a.priority) == (b.queue, b.priority)) {
            let Some(queue) = self.parts.catalog.queue_name(same[0].queue) else {
                continue;
            };
            self.publish_stream(&queue, same[0].priority, same).await;
        }
    }

    async fn publish_stream(&self, queue: &str, priority: Priority, parcels: &[Parcel]) {
        match publish(&self.parts.redis, queue, priority, parcels).await {
            Ok(accepted) => {
                let jobs: usize = parcels[..accepted].iter().map(|p| p.jobs.len()).sum();
                self.parts
                    .metrics
                    .queue(queue)
                    .published
                    .inc_by(jobs as u64);
                if accepted < parcels.len() {
                    let until = self.started.elapsed() + FULL_FOR;
                    self.full_until_ms
                        .store(until.as_millis() as u64, Ordering::Relaxed);
                    self.wait_again(&parcels[accepted..]).await;
                }
            }
            Err(outage) => {
                self.parts.metrics.counters.redis_failed("publish");
                tracing::debug!(error = %millstream_common::error::in_full(&outage), "publishing failed; reconcile will do it");
            }
        }
    }

    /// Refused for want of room: nothing was added, so the parcels are the dispatch duty's again.
    async fn wait_again(&self, parcels: &[Parcel]) {
        let ids: Vec<i64> = parcels.iter().map(|p| p.id).collect();
        let update = sqlx::query(
            "UPDATE millstream.parcel SET publishing_since = NULL WHERE id = ANY($1) AND publishing_since IS NOT NULL AND taken = 0",
        )
        .bind(ids);
        let loan = self.parts.pg.hot("setting parcels back to waiting");
        if loan.execute(update).await.is_err() {
            self.parts.metrics.counters.postgres_failed("wait_again");
        }
    }
}
