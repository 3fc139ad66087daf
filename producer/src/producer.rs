//! The handle that services hold, and how it is put together.

use std::sync::Arc;

use millstream_common::{
    catalog::Catalog,
    error::{Error, Outage},
    metrics::{EnqueueSource, Metrics},
    pg::{Pg, mark, require_schema},
    stream::{keys::Keys, link::Redis},
    tasks::Tasks,
};

use crate::{coalesce::Coalescer, lend::Lender, publish::Publisher, write::Writer};

/// What a producer is made of; a process that has these already (the API, a worker) shares them.
#[derive(Clone)]
pub struct Parts {
    /// Postgres.
    pub pg: Pg,
    /// Redis.
    pub redis: Redis,
    /// Names.
    pub catalog: Catalog,
    /// Counters.
    pub metrics: Metrics,
    /// How the counters name this door.
    pub source: EnqueueSource,
}

/// Enqueues jobs. Cheap to clone; one per process suffices, since its callers share INSERTs.
#[derive(Clone)]
pub struct Producer {
    pub(crate) parts: Parts,
    pub(crate) coalescer: Coalescer,
    pub(crate) writer: Writer,
    tasks: Arc<Tasks>,
}

impl Producer {
    /// Connects with default settings (key prefix `ms`) and checks the schema. Redis may be down.
    pub async fn connect(database_url: &str, redis_url: &str) -> Result<Self, Error> {
        require_schema(database_url).await?;
        let pg = Pg::new(database_url, 10)?;
        let redis = Redis::new(redis_url, Keys::new("ms", mark(&pg).await?))?;
        let metrics =
            Metrics::new(env!("CARGO_PKG_VERSION")).map_err(|e| Outage::Schema(e.to_string()))?;
        Ok(Self::new(Parts {
            catalog: Catalog::new(pg.clone()),
            pg,
            redis,
            metrics,
            source: EnqueueSource::Library,
        }))
    }

    /// Starts the producer's background tasks on the current runtime.
    pub fn new(parts: Parts) -> Self {
        let tasks = Arc::new(Tasks::new());
        let publisher = Publisher::start(&parts, &tasks);
        let writer = Writer {
            publisher,
            lender: Lender::new(parts.pg.clone()),
        };
        let coalescer = Coalescer::start(&parts, writer.clone(), &tasks);
        Self {
            parts,
            coalescer,
            writer,
            tasks,
        }
    }

    /// Postgres, Redis, names and counters of this producer.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Publishes what is still in hand and ends the background tasks.
    pub async fn close(&self) {
        self.tasks
            .stop(millstream_common::limits::STATEMENT_DEADLINE)
            .await;
    }
}
