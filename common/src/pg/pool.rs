//! Two pools: a small one whose sessions are tuned for the hot statements, and one for everything else.
//!
//! The hot sessions forbid plans that are right for an empty table and ruinous for a full one (hash join and sequential scan
//! on a never analysed `job`), reuse one generic plan, and never start the JIT compiler, which the penalties would provoke.

use std::{str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::Lent;
use crate::{
    config,
    error::Outage,
    limits::{ACQUIRE_DEADLINE, STATEMENT_DEADLINE},
    seldom::Seldom,
};

/// Hot statements in flight per process: claims, two batches of outcomes, leases, and the duties that look at jobs.
const HOT_CONNECTIONS_MAX: u32 = 12;
/// The server gives up a statement shortly after the client has.
pub const STATEMENT_TIMEOUT_MS: u128 = STATEMENT_DEADLINE.as_millis() + 2_000;
/// Waiting for a lock held by a migration or a person.
pub const LOCK_TIMEOUT_MS: u64 = 3_000;
/// Connections that idle longer are closed, so that a burst does not keep a server's memory.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);

/// Handles to Postgres. Cheap to clone.
#[derive(Clone)]
pub struct Pg {
    hot: PgPool,
    main: PgPool,
}

impl Pg {
    /// Prepares both pools; connects on first use, so a server that is down is no error here.
    pub fn new(url: &str, connections_max: u32) -> Result<Self, Outage> {
        let options = connect_options(url)?;
        let hot = options.clone().options([
            ("jit", "off"),
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
        ]);
        Ok(Self { hot: pool(HOT_CONNECTIONS_MAX, hot), main: pool(connections_max, options) })
    }

    /// Borrows a connection for one statement of the hot path.
    pub async fn hot(&self, op: &'static str) -> Result<Lent, Outage> {
        borrow(&self.hot, op).await
    }

    /// Borrows a connection for anything else.
    pub async fn main(&self, op: &'static str) -> Result<Lent, Outage> {
        borrow(&self.main, op).await
    }

    /// A connection outside the pools, for a task that must not wait for one.
    pub async fn connect(&self, op: &'static str) -> Result<PgConnection, Outage> {
        match tokio::time::timeout(ACQUIRE_DEADLINE, self.main.connect_options().connect()).await {
            Ok(connected) => connected.map_err(|source| Outage::Postgres { op, source }),
            Err(_) => Err(Outage::PostgresTimeout { op }),
        }
    }

    /// The pool for reads that need no guard (lists, pages) and for the caller's own queries.
    pub fn main_pool(&self) -> &PgPool {
        &self.main
    }

    /// Name, open and idle connections of each pool, for metrics.
    pub fn usage(&self) -> [(&'static str, usize, usize); 2] {
        [("hot", self.hot.size() as usize, self.hot.num_idle()), ("main", self.main.size() as usize, self.main.num_idle())]
    }

    /// Closes all connections, waiting for those on loan.
    pub async fn close(&self) {
        self.hot.close().await;
        self.main.close().await;
    }
}

/// Parameters of a URL that the driver knows. It prints the values of others.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

static IGNORED_LINES: Seldom = Seldom::new();

/// The address, the login and the database of a URL. No error holds a piece of the URL that could be its password.
pub fn address(url: &str) -> Result<PgConnectOptions, Outage> {
    let failed = |source| Outage::Postgres { op: "reading the database URL", source };
    config::url::check(url).map_err(|fault| failed(sqlx::Error::Configuration(fault.into())))?;
    let (url, _) = config::url::without_unknown(url, is_known);
    let options = PgConnectOptions::from_str(&url).map_err(failed)?;
    // An IPv6 address stands in brackets in a URL alone.
    let literal = options.get_host().strip_prefix('[').and_then(|host| host.strip_suffix(']')).map(str::to_owned);
    Ok(match literal {
        Some(host) => options.host(&host),
        None => options,
    })
}

/// Options for one connection from a URL, with the settings every session of ours has.
pub fn connect_options(url: &str) -> Result<PgConnectOptions, Outage> {
    let options = address(url)?;
    let (_, ignored) = config::url::without_unknown(url, is_known);
    if !ignored.is_empty() && IGNORED_LINES.may_speak().is_some() {
        tracing::warn!(parameters = ignored.join(" "), "DATABASE_URL has parameters that are not known here; they are ignored");
    }
    Ok(options
        .application_name("millstream")
        .options([
            ("statement_timeout", STATEMENT_TIMEOUT_MS.to_string()),
            ("lock_timeout", LOCK_TIMEOUT_MS.to_string()),
            ("client_min_messages", "warning".to_owned()),
            // Every statement is guarded for this level. A database whose default is a higher one would refuse some of them, again and again.
            ("default_transaction_isolation", "read committed".to_owned()),
        ])
        .log_slow_statements(tracing::log::LevelFilter::Debug, STATEMENT_DEADLINE))
}

fn is_known(parameter: &str) -> bool {
    PARAMETERS.contains(&parameter) || parameter.starts_with("options[")
}

fn pool(connections_max: u32, options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(ACQUIRE_DEADLINE)
        .idle_timeout(IDLE_TIMEOUT)
        // A ping before each loan would double the round trips; a dead connection fails its statement and is closed.
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

async fn borrow(pool: &PgPool, op: &'static str) -> Result<Lent, Outage> {
    match tokio::time::timeout(ACQUIRE_DEADLINE, pool.acquire()).await {
        Ok(Ok(connection)) => Ok(Lent::new(connection)),
        Ok(Err(source)) => Err(Outage::Postgres { op, source }),
        Err(_) => Err(Outage::PostgresTimeout { op }),
    }
}
