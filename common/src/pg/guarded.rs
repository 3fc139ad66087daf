//! One pool whose connections are lent and come back only from a use that ended well.
//!
//! The raw pool of sqlx is never handed out: it takes back whatever is dropped, also a connection inside the transaction of a
//! caller that was cut short, and lends it to the next one (see [`lent`](super::lent)).

use std::time::Duration;

use sqlx::{
    ConnectOptions, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{Lent, Loan, connect_options, trust::Trust};
use crate::{error::Outage, limits::ACQUIRE_DEADLINE};

/// Connections that idle longer are closed, so that a burst does not keep a server's memory.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);

/// A pool of connections to Postgres. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct GuardedPool {
    pool: PgPool,
    trust: Trust,
}

impl GuardedPool {
    /// A pool for the handlers of a worker, whose own statements neither wait for theirs nor they for its. Connects on first use.
    pub fn for_handlers(url: &str, connections_max: u32) -> Result<Self, Outage> {
        Ok(Self::new(
            connections_max,
            connect_options(url)?.application_name("millstream handlers"),
        ))
    }

    /// Connects on first use, so a server that is down is no error here.
    pub(super) fn new(connections_max: u32, options: PgConnectOptions) -> Self {
        let trust = Trust::default();
        let looker = trust.clone();
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(ACQUIRE_DEADLINE)
            .idle_timeout(IDLE_TIMEOUT)
            // A ping before every loan would double the round trips of the hot path; `Trust` asks only where there is reason to.
            .test_before_acquire(false)
            .before_acquire(move |conn, meta| {
                let trust = looker.clone();
                Box::pin(async move { Ok(trust.may_lend(conn, meta.idle_for).await) })
            })
            .connect_lazy_with(options);
        Self { pool, trust }
    }

    /// Borrows a connection for one statement, or, awaited, for several. `op` says in errors what it is for. Waits at most 5 s for it.
    pub fn connection(&self, op: &'static str) -> Loan<'_> {
        Loan {
            pool: self,
            op,
            repeats: false,
        }
    }

    /// The same for one statement that is sent once more over another connection if the first one turned out to be gone.
    ///
    /// Nobody knows what became of the first try, so this is for statements that may run twice: reads, and writes that an id or a
    /// guard makes harmless.
    pub fn repeat(&self, op: &'static str) -> Loan<'_> {
        Loan {
            repeats: true,
            ..self.connection(op)
        }
    }

    pub(super) async fn lend(&self, op: &'static str) -> Result<Lent, Outage> {
        match tokio::time::timeout(ACQUIRE_DEADLINE, self.pool.acquire()).await {
            Ok(Ok(connection)) => Ok(Lent::new(connection, op, self.trust.clone())),
            Ok(Err(source)) => Err(Outage::Postgres { op, source }),
            Err(_) => Err(Outage::PostgresTimeout { op }),
        }
    }

    /// A connection outside the pool, for a task that must not wait for one.
    pub(super) async fn apart(&self, op: &'static str) -> Result<PgConnection, Outage> {
        match tokio::time::timeout(ACQUIRE_DEADLINE, self.pool.connect_options().connect()).await {
            Ok(connected) => connected.map_err(|source| Outage::Postgres { op, source }),
            Err(_) => Err(Outage::PostgresTimeout { op }),
        }
    }

    /// Open and idle connections, for metrics.
    pub fn usage(&self) -> (usize, usize) {
        (self.pool.size() as usize, self.pool.num_idle())
    }

    /// Closes all connections, waiting for those on loan.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
