//! What every command has at hand: the settings, how to print, and connections that are made on first use.
//!
//! The schema is checked once, before the first statement: a program in front of the wrong tables must not guess.

use millstream_common::{
    catalog::Catalog,
    config::Config,
    metrics::{EnqueueSource, Metrics},
    pg::{Pg, mark, require_schema},
    stream::{keys::Keys, link::Redis},
};
use millstream_producer::{Parts, Producer};
use millstream_worker::program::{Places, database_url, redis_url};
use tokio::sync::OnceCell;

use super::{exit::CommandError, table};

/// Stands in keys for the mark of a database that cannot be asked. No database has it.
const MARK_UNKNOWN: &str = "unknown";

/// What commands share.
pub struct Invocation {
    /// All settings: defaults, file, environment, then the global options.
    pub config: Config,
    /// Print JSON: one document, or one object per line for lists.
    pub json: bool,
    /// Print only what was asked for, no progress and no hints.
    pub quiet: bool,
    pg: OnceCell<Pg>,
    redis: OnceCell<Redis>,
    catalog: OnceCell<Catalog>,
    metrics: OnceCell<Metrics>,
}

impl Invocation {
    /// Connects to nothing yet.
    pub fn new(config: Config, json: bool, quiet: bool) -> Self {
        Self {
            config,
            json,
            quiet,
            pg: OnceCell::new(),
            redis: OnceCell::new(),
            catalog: OnceCell::new(),
            metrics: OnceCell::new(),
        }
    }

    /// The URL of Postgres, seen to be one.
    pub fn database_url(&self) -> Result<&str, CommandError> {
        database_url(&self.config)
    }

    /// The URL of Redis, seen to be one.
    pub fn redis_url(&self) -> Result<&str, CommandError> {
        redis_url(&self.config)
    }

    /// Where the servers are, without credentials.
    pub fn places(&self) -> Places {
        Places::of(&self.config)
    }

    /// Postgres with the right schema.
    pub async fn pg(&self) -> Result<&Pg, CommandError> {
        self.pg
            .get_or_try_init(async || {
                let url = self.database_url()?;
                require_schema(url).await?;
                Ok(Pg::new(url, self.config.database.connections_max)?)
            })
            .await
    }

    /// Redis; connects on first use, so a server that is down is no error here. Its keys are those of the database.
    pub async fn redis(&self) -> Result<&Redis, CommandError> {
        let open = async || self.redis_with(mark(self.pg().await?).await?);
        self.redis.get_or_try_init(open).await
    }

    /// The same with the keys of a database that cannot be asked.
    pub fn redis_alone(&self) -> Result<Redis, CommandError> {
        self.redis_with(MARK_UNKNOWN.to_owned())
    }

    fn redis_with(&self, mark: String) -> Result<Redis, CommandError> {
        Ok(Redis::new(
            self.redis_url()?,
            Keys::new(self.config.redis.prefix.as_str(), mark),
        )?)
    }

    /// Names and numbers, read once before the first use: whoever asks first, asks alone.
    pub async fn catalog(&self) -> Result<&Catalog, CommandError> {
        let pg = self.pg().await?.clone();
        let read = async || {
            let catalog = Catalog::new(pg);
            catalog.refresh().await?;
            Ok(catalog)
        };
        self.catalog.get_or_try_init(read).await
    }

    /// The metrics of this process.
    pub async fn metrics(&self) -> Result<&Metrics, CommandError> {
        let make = async || {
            Metrics::new(env!("CARGO_PKG_VERSION"))
                .map_err(|e| CommandError::failed(millstream_common::error::in_full(&e)))
        };
        self.metrics.get_or_try_init(make).await
    }

    /// A producer with its background tasks; close it when done.
    pub async fn producer(&self, source: EnqueueSource) -> Result<Producer, CommandError> {
        let parts = Parts {
            pg: self.pg().await?.clone(),
            redis: self.redis().await?.clone(),
            catalog: self.catalog().await?.clone(),
            metrics: self.metrics().await?.clone(),
            source,
        };
        Ok(Producer::new(parts))
    }

    /// Who is doing this, for the audit log.
    pub fn actor(&self) -> String {
        format!("cli:{}", user())
    }

    /// Whether progress may be drawn.
    pub fn draws(&self) -> bool {
        use std::io::IsTerminal;
        !self.quiet && !self.json && std::io::stderr().is_terminal()
    }

    /// What did not go as asked, although the command goes on.
    pub fn warn(&self, text: &str) {
        eprintln!("{}", super::table::printable(text));
    }

    /// A hint for people that is no part of the answer.
    pub fn hint(&self, text: &str) {
        if !self.quiet {
            table::say(text);
        }
    }
}

/// The name of the user who runs this, by the account database; the number where there is no name.
fn user() -> String {
    let uid = rustix::process::getuid().as_raw().to_string();
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = accounts
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    named
        .filter(|parts| parts.get(2) == Some(&uid.as_str()))
        .find_map(|parts| parts.first().map(|&name| name.to_owned()))
        .unwrap_or(uid)
}
