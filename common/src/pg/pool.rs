//! Two pools: a small one whose sessions are tuned for the hot statements, and one for everything else.
//!
//! The hot sessions forbid plans that are right for an empty table and ruinous for a full one (hash join and sequential scan
//! on a never analysed `job`), reuse one generic plan, and never start the JIT compiler, which the penalties would provoke.

use std::str::FromStr;

use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};

use super::{GuardedPool, Loan};
use crate::{config, error::Outage, limits::STATEMENT_DEADLINE, seldom::Seldom};

/// Hot statements in flight per process: claims, two batches of outcomes, leases, and the duties that look at jobs.
const HOT_CONNECTIONS_MAX: u32 = 12;
/// The server gives up a statement shortly after the client has.
pub const STATEMENT_TIMEOUT_MS: u128 = STATEMENT_DEADLINE.as_millis() + 2_000;
/// Waiting for a lock held by a migration or a person.
pub const LOCK_TIMEOUT_MS: u64 = 3_000;

/// Handles to Postgres. Cheap to clone.
#[derive(Clone)]
pub struct Pg {
    hot: GuardedPool,
    main: GuardedPool,
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
        Ok(Self {
            hot: GuardedPool::new(HOT_CONNECTIONS_MAX, hot),
            main: GuardedPool::new(connections_max, options),
        })
    }

    /// Borrows a connection for a statement of the hot path.
    pub fn hot(&self, op: &'static str) -> Loan<'_> {
        self.hot.connection(op)
    }

    /// Borrows a connection for anything else.
    pub fn main(&self, op: &'static str) -> Loan<'_> {
        self.main.connection(op)
    }

    /// [`GuardedPool::repeat`] over the pool for everything that is not hot.
    pub fn repeat(&self, op: &'static str) -> Loan<'_> {
        self.main.repeat(op)
    }

    /// A connection outside the pools, for a task that must not wait for one.
    pub async fn connect(&self, op: &'static str) -> Result<PgConnection, Outage> {
        self.main.apart(op).await
    }

    /// Name, open and idle connections of each pool, for metrics.
    pub fn usage(&self) -> [(&'static str, usize, usize); 2] {
        [("hot", &self.hot), ("main", &self.main)].map(|(name, pool)| {
            let (open, idle) = pool.usage();
            (name, open, idle)
        })
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
    let failed = |source| Outage::Postgres {
        op: "reading the database URL",
        source,
    };
    config::url::check(url).map_err(|fault| failed(sqlx::Error::Configuration(fault.into())))?;
    let (url, _) = config::url::without_unknown(url, is_known);
    let options = PgConnectOptions::from_str(&url).map_err(failed)?;
    // An IPv6 address stands in brackets in a URL alone.
    let literal = options
        .get_host()
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .map(str::to_owned);
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
        tracing::warn!(
            parameters = ignored.join(" "),
            "DATABASE_URL has parameters that are not known here; they are ignored"
        );
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
