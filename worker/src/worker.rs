//! A worker process: how it is put together, how it starts, and how it ends (F16, F17, F30).
//!
//! Start: register, beat, read. End: readers stop, waiting jobs go back, running ones may finish within the grace period and then go back at
//! no cost. Outcomes and acknowledgements are written, then the heartbeat stops, and last the consumers go unless something is pending there.

use std::{process::Command, sync::Arc, thread::JoinHandle, time::Duration};

use millstream_common::{
    catalog::Catalog,
    config::Config,
    error::{Error, Outage, Refusal},
    metrics::Metrics,
    pg::{GuardedPool, Pg, mark, require_schema, tell_missing_rights, tell_risks},
    stream::{keys::Keys, link::Redis},
    tasks::Tasks,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{Handler, Reporter, Reports},
    capacity::{Capacity, slots},
    claim::{ack, added, direct, reader::Reader},
    contact::Contact,
    duties,
    health::Health,
    heartbeat,
    job::{Ack, Counts, Ended, Held, Hold},
    lease,
    pauses::Pauses,
    pulse::Pulses,
    queues::{Queue, Queues},
    registry::{Registry, chosen},
    report,
    run::{Runs, child::Children},
    settle::{self, parcels},
    shared::{Meters, Serves, Shared, Signals, Work},
    tries::tell_differing_tries,
};

/// A worker whose handlers block all threads cannot drain. Its process ends when this is over: each of the steps above, and as much again.
const DRAIN_MAX: Duration = Duration::from_mins(2);

/// After the grace period: writing what is known, handing back, leaving. Each step has deadlines of its own.
const LEAVE_MAX: Duration = Duration::from_secs(10);

/// What a worker is made of.
pub struct Parts {
    /// Settings; `database`, `redis` and `worker` are used.
    pub config: Config,
    /// Counters, shared with whoever else runs in this process.
    pub metrics: Metrics,
    /// What it can run.
    pub handlers: Vec<Handler>,
    /// Starts this program, or one with the same handlers and settings, so that it calls [`ChildProcess`](crate::ChildProcess): jobs that
    /// were in hand when a worker died run there. None: they run here, and one that ends its worker is buried only after seven of them.
    pub isolation: Option<Command>,
}

/// A running worker.
pub struct Worker {
    shared: Arc<Shared>,
    runs: Arc<Runs>,
    /// Readers and the direct claim: end when draining begins.
    claiming: Tasks,
    /// Duties and reports: end when nothing runs any more.
    keeping: Tasks,
    /// Lessor and settle: end when their channels are empty.
    settling: Tasks,
    /// Acknowledge: ends last, since settle still sends to it.
    acknowledging: Tasks,
    heart: CancellationToken,
    heart_thread: Option<JoinHandle<()>>,
    grace: Duration,
    /// No queues were named: those that are added are read too.
    reads_all: bool,
}

/// Ends of the channels that the loops read.
struct Channels {
    outcomes: mpsc::UnboundedReceiver<Ended>,
    fresh: mpsc::UnboundedReceiver<Vec<Arc<Hold>>>,
    acks: mpsc::UnboundedReceiver<Ack>,
    reports: Reports,
}

/// The other ends.
struct Senders {
    outcomes: mpsc::UnboundedSender<Ended>,
    fresh: mpsc::UnboundedSender<Vec<Arc<Hold>>>,
    acks: mpsc::UnboundedSender<Ack>,
    reporter: Reporter,
}

impl Worker {
    /// Checks the schema, registers and starts to work. Redis may be down. Its caller waits for [`Self::told_to_drain`], drains it and ends.
    pub async fn start(parts: Parts) -> Result<Self, Error> {
        let url = parts.config.database.url.expose().to_owned();
        require_schema(&url).await?;
        tell_risks(&url).await?;
        tell_missing_rights(&url).await?;
        let grace = parts.config.worker.grace();
        let reads_all = parts.config.worker.queues.is_empty();
        let keep_days = parts.config.retention.days();
        let (runs, channels) = assemble(parts, &url).await?;
        let mut worker = Self {
            shared: runs.shared.clone(),
            runs,
            claiming: Tasks::new(),
            keeping: Tasks::new(),
            settling: Tasks::new(),
            acknowledging: Tasks::new(),
            heart: CancellationToken::new(),
            heart_thread: None,
            grace,
            reads_all,
        };
        worker.spawn_loops(channels, url, keep_days)?;
        Ok(worker)
    }

    fn spawn_loops(
        &mut self,
        channels: Channels,
        database_url: String,
        keep_days: Option<u32>,
    ) -> Result<(), Error> {
        let shared = &self.shared;
        let thread = heartbeat::start(shared.clone(), database_url, self.heart.clone());
        self.heart_thread =
            Some(thread.map_err(|e| {
                Refusal::State(format!("the heartbeat thread could not start: {e}"))
            })?);
        let stop = self.settling.stop_token();
        self.settling
            .spawn(settle::run(shared.clone(), channels.outcomes, stop.clone()));
        self.settling
            .spawn(lease::run(shared.clone(), channels.fresh, stop));
        // Ends after the settler, with its last counts.
        self.acknowledging.spawn(parcels::run(
            shared.clone(),
            self.acknowledging.stop_token(),
        ));
        self.acknowledging.spawn(ack::acknowledge(
            shared.redis.clone(),
            channels.acks,
            self.acknowledging.stop_token(),
        ));
        self.keeping.spawn(report::run(
            shared.clone(),
            channels.reports,
            self.keeping.stop_token(),
        ));
        duties::start(shared, keep_days, &self.keeping);
        self.claiming.spawn(direct::run(self.runs.clone()));
        for queue in shared.serves.queues.all().iter() {
            self.claiming
                .spawn(Reader::new(self.runs.clone(), queue.clone()).run());
        }
        self.claiming.spawn(added::run(
            self.runs.clone(),
            self.claiming.clone(),
            self.reads_all,
        ));
        Ok(())
    }

    /// For probes and scrapes.
    pub fn health(&self) -> Health {
        Health::of(&self.runs)
    }

    /// Number of this worker, new at every start.
    pub fn id(&self) -> i64 {
        self.shared.worker_id
    }

    /// Fires when this worker begins to drain, also when its heart has read in its own row that it should.
    pub async fn told_to_drain(&self) {
        self.shared.signals.draining.cancelled().await;
    }

    /// How long [`Worker::drain`] may take. It takes longer only if handlers block all threads, and then only the end of the process ends it.
    pub fn drain_max(&self) -> Duration {
        self.grace + DRAIN_MAX
    }

    /// Ends in order. `hurry` cuts the grace period short (a second signal).
    pub async fn drain(mut self, hurry: CancellationToken) {
        tracing::info!(
            running = self.shared.work.capacity.jobs(),
            grace_ms = self.grace.as_millis() as u64,
            "draining: nothing new is claimed"
        );
        self.shared.signals.draining.cancel();
        self.mark("draining").await;
        let _ = self.claiming.stop(LEAVE_MAX).await;
        let finished = tokio::select! {
            ended = self.runs.tasks.stop(self.grace) => ended,
            () = hurry.cancelled() => false,
        };
        if !finished {
            self.shared.signals.aborting.cancel();
            let _ = self.runs.tasks.stop(LEAVE_MAX).await;
        }
        self.leave().await;
    }

    async fn leave(&mut self) {
        let _ = self.keeping.stop(LEAVE_MAX).await;
        let _ = self.settling.stop(LEAVE_MAX).await;
        let _ = self.acknowledging.stop(LEAVE_MAX).await;
        self.runs.children.dismiss();
        // Until here the heart has beaten: nobody took the last jobs for a dead worker's.
        self.heart.cancel();
        if !self.shared.redis.is_down()
            && let Err(outage) = duties::consumers::drop_own(&self.shared).await
        {
            tracing::debug!(error = %millstream_common::error::in_full(&outage), "own consumers were not removed; a duty does it");
        }
        // A handler that blocks its thread ends with the process, as in a crash: who finds the lease counts it as one.
        if self.shared.work.held.stuck().is_empty() {
            self.mark("stopped").await;
        }
        if let Some(thread) = self.heart_thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        tracing::info!(worker = self.shared.worker_id, "stopped");
    }

    async fn mark(&self, state: &'static str) {
        let update =
            sqlx::query("UPDATE millstream.worker SET state = $2, ended_at = CASE WHEN $2 = 'stopped' THEN now() END WHERE id = $1")
                .bind(self.shared.worker_id)
                .bind(state);
        let loan = self.shared.pg.main("changing the worker's state");
        if let Err(outage) = loan.execute(update).await {
            tracing::debug!(error = %millstream_common::error::in_full(&outage), "the worker's state was not written");
        }
    }
}

async fn assemble(parts: Parts, database_url: &str) -> Result<(Arc<Runs>, Channels), Error> {
    let Parts {
        config,
        metrics,
        handlers,
        isolation,
    } = parts;
    let pg = Pg::new(database_url, config.database.connections_max)?;
    let catalog = Catalog::new(pg.clone());
    let handlers = registered(&catalog, chosen(handlers, &config.worker.kinds)?).await?;
    let queues = queues(&catalog, &config.worker.queues).await?;
    let registry = Registry::new(
        handlers
            .into_iter()
            .filter_map(|h| Some((catalog.kind_id(&h.kind)?, h))),
    );
    let slots = slots(config.worker.concurrency);
    let worker_id = register(&pg, &config, &queues, &registry, slots).await?;
    let (senders, channels) = channels();
    let children = Children::new(isolation, &config.worker, worker_id);
    let shared = Shared {
        redis: redis(&pg, &config).await?,
        pg,
        catalog,
        meters: Meters::new(metrics.clone()),
        metrics,
        worker_id,
        lease: config.worker.lease(),
        pulses: Pulses::default(),
        contact: Contact::new(),
        signals: Signals::new(),
        serves: Serves {
            registry,
            queues: Queues::new(queues),
        },
        work: work(slots, senders.fresh, senders.acks),
    };
    let runs = Runs {
        shared: Arc::new(shared),
        tasks: Tasks::new(),
        children,
        handlers_pg: GuardedPool::for_handlers(database_url, config.database.connections_max)?,
        reporter: senders.reporter,
        outcomes: senders.outcomes,
    };
    Ok((Arc::new(runs), channels))
}

fn work(
    slots: usize,
    fresh: mpsc::UnboundedSender<Vec<Arc<Hold>>>,
    acks: mpsc::UnboundedSender<Ack>,
) -> Work {
    Work {
        capacity: Capacity::new(slots),
        held: Arc::new(Held::default()),
        pauses: Pauses::new(),
        fresh,
        acks,
        parcels: Counts::default(),
        finished: 0.into(),
    }
}

async fn redis(pg: &Pg, config: &Config) -> Result<Redis, Error> {
    let keys = Keys::new(config.redis.prefix.clone(), mark(pg).await?);
    Ok(Redis::new(config.redis.url.expose(), keys)?)
}

fn channels() -> (Senders, Channels) {
    let (outcomes, outcomes_out) = mpsc::unbounded_channel();
    let (fresh, fresh_out) = mpsc::unbounded_channel();
    let (acks, acks_out) = mpsc::unbounded_channel();
    let (reporter, reports) = Reporter::new();
    (
        Senders {
            outcomes,
            fresh,
            acks,
            reporter,
        },
        Channels {
            outcomes: outcomes_out,
            fresh: fresh_out,
            acks: acks_out,
            reports,
        },
    )
}

/// The same handlers, with their kinds made known.
async fn registered(catalog: &Catalog, handlers: Vec<Handler>) -> Result<Vec<Handler>, Error> {
    let kinds: Vec<(&str, i16)> = handlers
        .iter()
        .map(|h| (h.kind.as_str(), h.retry.max_attempts))
        .collect();
    catalog.register_kinds(&kinds).await?;
    Ok(handlers)
}

async fn queues(catalog: &Catalog, names: &[String]) -> Result<Vec<Queue>, Error> {
    if names.is_empty() {
        return Ok(catalog
            .queues()
            .into_iter()
            .map(|(id, name)| Queue { id, name })
            .collect());
    }
    let mut queues = Vec::with_capacity(names.len());
    for name in names {
        queues.push(Queue {
            id: catalog.queue(name).await?,
            name: name.as_str().into(),
        });
    }
    Ok(queues)
}

async fn register(
    pg: &Pg,
    config: &Config,
    queues: &[Queue],
    registry: &Registry,
    slots: usize,
) -> Result<i64, Outage> {
    let host = millstream_common::host::name();
    let pid = std::process::id() as i32;
    let name = if config.worker.name.is_empty() {
        format!("{host}-{pid}")
    } else {
        config.worker.name.clone()
    };
    let insert = sqlx::query_scalar(
        "WITH w AS (INSERT INTO millstream.worker (name, host, pid, version, queues, kinds, slots, state, listen, lease_ms, max_attempts)
           VALUES ($1, $2, $3, $4, $5, $6, $7, 'active', $8, $9, $10) RETURNING id)
         INSERT INTO millstream.worker_beat (worker_id) SELECT id FROM w RETURNING worker_id",
    )
    .bind(name)
    .bind(host)
    .bind(pid)
    .bind(env!("CARGO_PKG_VERSION"))
    .bind(queues.iter().map(|q| q.id).collect::<Vec<_>>())
    .bind(registry.kind_ids())
    .bind(slots as i32)
    .bind(Some(&config.worker.listen).filter(|l| !l.is_empty()))
    .bind(config.worker.lease_ms as i64)
    .bind(registry.tries());
    let id = pg.main("registering the worker").one(insert).await?;
    tell_differing_tries(pg, id).await?;
    Ok(id)
}
