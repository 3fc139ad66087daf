//! A private Postgres and Redis on this machine, for `millstream dev` and for the tests: no container, no system service.
//!
//! Invariants: both servers listen on 127.0.0.1 only, on ports and with passwords of their own; everything they write is
//! below one directory, which a lock keeps to one owner at a time; they are stopped by the process id of a child of ours,
//! or of a process that is seen to work in that directory, never by name. They end with their owner: in order on
//! [`LocalServices::stop`] or drop, by the kernel's parent-death signal if the owner is killed (Linux), and otherwise
//! at the next start on the same directory.
//!
//! It does not know what the servers are used for: no schema, no key, no other part of Millstream.
//! Reading order: [`LocalServices`] here, then `postgres` and `redis`, then what they stand on; [`shared`] is for tests.

mod account;
mod leftovers;
mod lock;
mod place;
mod postgres;
mod probe;
mod process;
mod programs;
mod redis;
pub mod shared;
mod state;
mod wait;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use account::Account;
use postgres::Postgres;
pub use postgres::PostgresStop;
use process::Nursery;
use redis::Redis;
use state::State;

/// How long a second start on a directory waits for the first owner to let go of it. A keeper that was just
/// stopped needs well under this; a running `millstream dev` shall be reported at once rather than waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// What the servers promise after a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Postgres fsyncs every commit and Redis appends to its log every second: for data that somebody wants to keep.
    Full,
    /// Nothing is synced, and Redis writes no file at all: for tests, whose data dies with the run.
    None,
}

/// What to start, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// A directory for these servers alone; created when absent, its permissions are set.
    pub dir: PathBuf,
    /// Fixed for one start; a directory may be started with another one later.
    pub durability: Durability,
    /// Throw away what an earlier run left in `dir`.
    pub fresh: bool,
    /// What the servers find in their environment beside the little that they are given anyway.
    pub env: ServerEnv,
}

/// Names and values for the environment of each server, for tests that start it under a shim. Read at every start.
#[derive(Debug, Clone, Default)]
pub struct ServerEnv {
    /// Of the postmaster and all its children.
    pub postgres: Vec<(String, String)>,
    /// Of `redis-server` or `valkey-server`.
    pub redis: Vec<(String, String)>,
}

/// Servers that somebody else runs, as `DATABASE_URL` and `REDIS_URL` name them. The caller reads the environment.
#[derive(Debug, Clone, Default)]
pub struct GivenUrls {
    /// `postgres://…` or `postgresql://…`; `None` starts a private Postgres.
    pub database_url: Option<String>,
    /// `redis://…`, `rediss://…` or `unix://…`; `None` starts a private Redis.
    pub redis_url: Option<String>,
}

/// Process ids of the private servers that are running now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pids {
    /// The postmaster.
    pub postgres: Option<u32>,
    /// `redis-server` or `valkey-server`.
    pub redis: Option<u32>,
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// The database.
    Postgres,
    /// `redis-server` or `valkey-server`.
    Redis,
}

/// A Postgres and a Redis to work with; those of the two that are private stop with this value.
///
/// The methods block for as long as a server takes to stop or start (well under a second as a rule, bounded by the
/// deadlines in `postgres` and `redis`). They take `&self`, so that a test can call them from `spawn_blocking`.
#[derive(Debug)]
pub struct LocalServices {
    /// The superuser `millstream` of the private Postgres and its database `millstream`, or the given URL.
    pub database_url: String,
    /// Database 0 of the private Redis, or the given URL.
    pub redis_url: String,
    private: Private,
}

/// The part of [`LocalServices`] that is ours to stop. Fields drop in this order: the lock goes last.
#[derive(Debug)]
struct Private {
    redis: Option<Mutex<Redis>>,
    postgres: Option<Mutex<Postgres>>,
    dir: Option<PathBuf>,
    _lock: Option<File>,
}

impl LocalServices {
    /// Starts both servers and waits until they answer, on a thread where blocking is allowed.
    pub async fn start(options: Options) -> Result<Self> {
        Self::given_or_start(GivenUrls::default(), options).await
    }

    /// Uses the given servers, and starts a private one for each URL that is missing.
    pub async fn given_or_start(given: GivenUrls, options: Options) -> Result<Self> {
        tokio::task::spawn_blocking(move || Self::given_or_start_blocking(given, &options))
            .await
            .context("starting the local servers was interrupted")?
    }

    /// [`LocalServices::start`] for callers without a runtime.
    pub fn start_blocking(options: &Options) -> Result<Self> {
        Self::given_or_start_blocking(GivenUrls::default(), options)
    }

    /// [`LocalServices::given_or_start`] for callers without a runtime.
    pub fn given_or_start_blocking(given: GivenUrls, options: &Options) -> Result<Self> {
        check_scheme(
            "DATABASE_URL",
            given.database_url.as_deref(),
            &["postgres", "postgresql"],
        )?;
        check_scheme(
            "REDIS_URL",
            given.redis_url.as_deref(),
            &["redis", "rediss", "unix", "redis+unix"],
        )?;
        match given {
            GivenUrls {
                database_url: Some(database_url),
                redis_url: Some(redis_url),
            } => Ok(Self {
                database_url,
                redis_url,
                private: Private::nothing(),
            }),
            given => start_missing(given, options),
        }
    }

    /// Stops what is private, in order: Postgres by a fast shutdown, so that the next start needs no recovery.
    pub async fn stop(self) -> Result<()> {
        tokio::task::spawn_blocking(move || self.stop_blocking())
            .await
            .context("stopping the local servers was interrupted")?
    }

    /// [`LocalServices::stop`] for callers without a runtime.
    pub fn stop_blocking(self) -> Result<()> {
        self.private.stop()
    }

    /// Where the private servers keep their files and logs (`postgres.log`, `redis.log`); it may differ from
    /// [`Options::dir`] when that could not be reached by the account the servers run as. `None` if none is private.
    pub fn dir(&self) -> Option<&Path> {
        self.private.dir.as_deref()
    }

    /// Process ids of the private servers that are running now.
    pub fn pids(&self) -> Pids {
        Pids {
            postgres: self
                .private
                .postgres
                .as_ref()
                .and_then(|postgres| held(postgres).pid()),
            redis: self
                .private
                .redis
                .as_ref()
                .and_then(|redis| held(redis).pid()),
        }
    }

    /// An error that names the private server which ended by itself, with the end of its log.
    pub fn check(&self) -> Result<()> {
        if let Some(postgres) = &self.private.postgres {
            held(postgres).check()?;
        }
        if let Some(redis) = &self.private.redis {
            held(redis).check()?;
        }
        Ok(())
    }

    /// A private server that has ended by itself since the last call, and how, with the end of its log. It counts as stopped from
    /// then on: start it again, or leave it.
    pub fn fallen(&self) -> Option<(Server, String)> {
        let postgres = self
            .private
            .postgres
            .as_ref()
            .and_then(|postgres| held(postgres).fallen());
        let redis = || {
            self.private
                .redis
                .as_ref()
                .and_then(|redis| held(redis).fallen())
        };
        postgres
            .map(|why| (Server::Postgres, why))
            .or_else(|| Some((Server::Redis, redis()?)))
    }

    /// Starts one of the private servers again, with what it has kept.
    pub fn start_again(&self, server: Server) -> Result<()> {
        match server {
            Server::Postgres => self.start_postgres(),
            Server::Redis => self.start_redis(),
        }
    }

    /// Stops the private Redis in order; it stays down until [`LocalServices::start_redis`].
    pub fn stop_redis(&self) -> Result<()> {
        self.redis()?.stop()
    }

    /// Kills the private Redis with SIGKILL; with [`Durability::None`] all it held is gone.
    pub fn kill9_redis(&self) -> Result<()> {
        self.redis()?.kill9()
    }

    /// Starts the private Redis again, on the same port, password and directory, and waits until it answers.
    pub fn start_redis(&self) -> Result<()> {
        self.redis()?.start()
    }

    /// Ends the private Postgres in the given way; it stays down until [`LocalServices::start_postgres`].
    pub fn stop_postgres(&self, how: PostgresStop) -> Result<()> {
        self.postgres()?.stop(how)
    }

    /// Starts the private Postgres again, on the same port and directory, and waits until it answers.
    pub fn start_postgres(&self) -> Result<()> {
        self.postgres()?.start()
    }

    /// Ends the private Postgres in the given way and starts it again.
    pub fn restart_postgres(&self, how: PostgresStop) -> Result<()> {
        let mut postgres = self.postgres()?;
        postgres.stop(how)?;
        postgres.start()
    }

    fn redis(&self) -> Result<MutexGuard<'_, Redis>> {
        let redis =
            self.private.redis.as_ref().context(
                "REDIS_URL is not a private Redis: it cannot be stopped or started here",
            )?;
        Ok(held(redis))
    }

    fn postgres(&self) -> Result<MutexGuard<'_, Postgres>> {
        let postgres = self.private.postgres.as_ref().context(
            "DATABASE_URL is not a private Postgres: it cannot be stopped or started here",
        )?;
        Ok(held(postgres))
    }
}

impl Private {
    fn nothing() -> Self {
        Self {
            redis: None,
            postgres: None,
            dir: None,
            _lock: None,
        }
    }

    /// Stops both, even if the first one fails to.
    fn stop(&self) -> Result<()> {
        let redis = self
            .redis
            .as_ref()
            .map_or(Ok(()), |redis| held(redis).stop());
        let postgres = self
            .postgres
            .as_ref()
            .map_or(Ok(()), |postgres| held(postgres).stop(PostgresStop::Fast));
        redis.and(postgres)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!("could not stop the local servers: {error:#}");
        }
    }
}

/// Everything that can be checked before a file is touched comes first: programs, then the account, then the place.
fn start_missing(given: GivenUrls, options: &Options) -> Result<LocalServices> {
    let account = Account::for_servers()?;
    let dir = place::prepare(&options.dir, &account)?;
    let lock = lock::exclusive(&dir.join("lock"), LOCK_PATIENCE)?.with_context(|| {
        format!(
            "another process runs its servers in {}; stop it, or choose another directory",
            dir.display()
        )
    })?;
    leftovers::clear(&dir)?;
    if options.fresh {
        place::empty(&dir)?;
    }
    let mut state = State::load_or_new(&dir)?;
    let nursery = Nursery::open()?;
    let mut private = Private {
        redis: None,
        postgres: None,
        dir: Some(dir.clone()),
        _lock: Some(lock),
    };

    let database_url = if let Some(url) = given.database_url {
        url
    } else {
        let mut postgres = Postgres::prepare(
            &dir,
            account.with(&options.env.postgres),
            nursery.clone(),
            options.durability,
            &state,
        )?;
        state.postgres_port =
            state::start_on_a_free_port(state.postgres_port, |port| postgres.start_on(port))?;
        let url = postgres.url();
        private.postgres = Some(Mutex::new(postgres));
        url
    };
    let redis_url = if let Some(url) = given.redis_url {
        url
    } else {
        let mut redis = Redis::prepare(
            &dir,
            account.with(&options.env.redis),
            nursery,
            options.durability,
            &state,
        )?;
        state.redis_port =
            state::start_on_a_free_port(state.redis_port, |port| redis.start_on(port))?;
        let url = redis.url();
        private.redis = Some(Mutex::new(redis));
        url
    };
    state.save(&dir)?;
    Ok(LocalServices {
        database_url,
        redis_url,
        private,
    })
}

fn check_scheme(name: &str, url: Option<&str>, allowed: &[&str]) -> Result<()> {
    let Some(url) = url else { return Ok(()) };
    // Only the scheme is quoted back: the rest of the URL holds a password.
    let Some((scheme, _)) = url.split_once("://") else {
        bail!(
            "{name} is not a URL; it should begin with {}://",
            allowed[0]
        );
    };
    ensure!(
        allowed.contains(&scheme),
        "{name} begins with {scheme}://; it should begin with {}://",
        allowed[0]
    );
    Ok(())
}

/// A panic of another holder leaves a server that is either running or not, which is what the value says.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps one earlier log, so that what a crash left is still there after the restart, and logs do not grow for ever.
fn turn_log(log: &Path) -> Result<()> {
    if log.exists() {
        fs::rename(log, log.with_extension("log.old"))
            .with_context(|| format!("cannot rename {}", log.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
