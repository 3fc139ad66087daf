//! The connection to Redis, with a deadline on every command and a breaker that says whether it is worth trying.
//!
//! A server that is full is half away: it adds nothing, but what waits in it can be read and acknowledged, which makes room. So
//! the breaker is open and reading goes on. A server that refuses any one command for want of a right opens the breaker at once, however many
//! others it answers. An open breaker is closed only by a probe that did all that the work does.
//!
//! Commands share a small pool of multiplexed connections. A reader that blocks has a connection of its own, because a
//! blocking read on a shared one stalls every other command, and its answer timeout must exceed the block (redis-rs has
//! 500 ms by default, after which the server still hands the entry to the abandoned request).
//!
//! A single refusal for want of a right or a command opens the breaker, however much else succeeds;
//! failures of other kinds open it when several come in a row. While Redis is full nothing is
//! published and waiting parcels are worked from Postgres, but promised parcels are left to the
//! readers, so that nothing runs twice. A stream whose group is missing cannot be given one then:
//! readers leave it out, and reconcile hands out what is in it.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool_redis::{Manager, Pool, Runtime};
use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, TlsCertificates, Value,
    aio::MultiplexedConnection,
};

use super::{keys::Keys, mending::Mending, policy::Known, refused::Refused, remedy::Remedy};
use crate::{
    breaker::{Breaker, Lines},
    config::url::{self, UrlFault},
    error::Outage,
    limits::{READ_BLOCK, REDIS_DEADLINE},
};

/// Connections for commands: they are multiplexed, so few carry much.
const COMMAND_CONNECTIONS_MAX: usize = 4;
/// A blocking read is given up when the answer is this late.
const READ_MARGIN: Duration = Duration::from_secs(3);
/// Failures in a row after which the breaker opens.
const FAILURES_TO_OPEN: u32 = 3;
/// The word for a deadline that passed.
const LATE: &str = "no answer in time";
const LINES: Lines = Lines {
    begins: "Redis is out of reach, or refuses the work: jobs are accepted and worked straight from Postgres",
    ends: "Redis is back: jobs travel over the streams again",
};

/// What the breaker does not tell: why it is open.
#[derive(Default)]
struct State {
    /// The last refusal was for want of memory, and nothing has been added since.
    full: AtomicBool,
    /// Commands in a row that the server has not answered.
    unanswered: AtomicU32,
    /// Rights that are missing.
    refused: Refused,
    /// Streams that were made anew a moment ago.
    mending: Mending,
    /// Which queue's keys the next probe uses.
    turn: AtomicU32,
}

/// Handle to Redis. Cheap to clone.
#[derive(Clone)]
pub struct Redis {
    pool: Pool,
    client: Client,
    keys: Keys,
    breaker: Arc<Breaker>,
    state: Arc<State>,
    policy: Arc<Known>,
}

impl Redis {
    /// Prepares the pool; connects on first use, so a server that is down is no error here.
    pub fn new(address: &str, keys: Keys) -> Result<Self, Outage> {
        let op = "reading the Redis URL";
        let unclear = |fault: UrlFault| Outage::Redis {
            op,
            source: (redis::ErrorKind::InvalidClientConfig, fault.0).into(),
        };
        url::check(address).map_err(unclear)?;
        let client = client(address).map_err(|source| Outage::Redis { op, source })?;
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(REDIS_DEADLINE))
            .set_connection_timeout(Some(REDIS_DEADLINE));
        let manager = Manager::new_with_config(client.get_connection_info().clone(), config)
            .map_err(|source| Outage::Redis { op, source })?;
        let pool = Pool::builder(manager)
            .max_size(COMMAND_CONNECTIONS_MAX)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(REDIS_DEADLINE))
            .create_timeout(Some(REDIS_DEADLINE))
            .recycle_timeout(Some(REDIS_DEADLINE))
            .build()
            .map_err(|_| Outage::RedisTimeout { op })?;
        let breaker = Arc::new(Breaker::new(FAILURES_TO_OPEN, LINES));
        Ok(Self {
            pool,
            client,
            keys,
            breaker,
            state: Arc::default(),
            policy: Arc::default(),
        })
    }

    /// Names of keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// A connection for commands that do not block.
    pub async fn connection(&self, op: &'static str) -> Result<deadpool_redis::Connection, Outage> {
        match self.pool.get().await {
            Ok(conn) => Ok(conn),
            Err(deadpool_redis::PoolError::Backend(source)) => {
                if !self.note_refusal(&source) {
                    // Whatever it is, without a connection nothing can be done.
                    self.note_failure("no connection");
                }
                Err(Outage::Redis { op, source })
            }
            Err(_) => {
                self.note_failure(LATE);
                Err(Outage::RedisTimeout { op })
            }
        }
    }

    /// Awaits one command at most `REDIS_DEADLINE` long and tells the breaker how it went.
    pub async fn within<T>(
        &self,
        op: &'static str,
        command: impl Future<Output = redis::RedisResult<T>>,
    ) -> Result<T, Outage> {
        let value = self.unpraised(op, command).await?;
        self.note_answer();
        Ok(value)
    }

    /// Sends one command over a connection of the pool and reads its answer.
    pub async fn ask<T: FromRedisValue>(
        &self,
        op: &'static str,
        command: &Cmd,
    ) -> Result<T, Outage> {
        let mut conn = self.connection(op).await?;
        self.within(op, command.query_async(&mut conn)).await
    }

    /// The same about a stream or a group. `None`: it is not there, or is something else.
    pub async fn ask_about(
        &self,
        op: &'static str,
        command: &Cmd,
    ) -> Result<Option<Value>, Outage> {
        match self.ask(op, command).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Outage::Redis { source, .. }) if !is_outage(&source) => Ok(None),
            Err(outage) => Err(outage),
        }
    }

    /// The same for commands whose answer may be that something else was refused: success is not taken for a sign of health.
    pub(super) async fn unpraised<T>(
        &self,
        op: &'static str,
        command: impl Future<Output = redis::RedisResult<T>>,
    ) -> Result<T, Outage> {
        match tokio::time::timeout(REDIS_DEADLINE, command).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => {
                self.note_refusal(&source);
                Err(Outage::Redis { op, source })
            }
            Err(_) => {
                self.note_failure(LATE);
                Err(Outage::RedisTimeout { op })
            }
        }
    }

    /// A command that needs memory has succeeded: the server is not full. Whether it does all that the work needs, only a probe can say.
    pub(super) fn note_added(&self) {
        if !self.breaker.is_open() {
            self.breaker.note_success();
            self.state.full.store(false, Ordering::Relaxed);
        }
    }

    /// A probe has done all that the work does. Work that was refused all the same a moment ago is believed more.
    pub(super) fn note_worked(&self) {
        self.state.unanswered.store(0, Ordering::Relaxed);
        if self.state.refused.may_close(Instant::now()) {
            self.breaker.note_success();
            self.state.full.store(false, Ordering::Relaxed);
        }
    }

    /// A probe knows exactly what is missing.
    pub(super) fn note_lacking(&self, error: &redis::RedisError, what: String) {
        self.state.refused.know(what);
        self.note_refusal(error);
    }

    /// A command has succeeded. It shows that the server lives, not that it takes work.
    fn note_answer(&self) {
        self.state.unanswered.store(0, Ordering::Relaxed);
        if !self.breaker.is_open() && !self.state.full.load(Ordering::Relaxed) {
            self.breaker.note_success();
        }
    }

    /// A connection of its own for blocking reads of `READ_BLOCK`.
    pub async fn reader(&self, op: &'static str) -> Result<MultiplexedConnection, Outage> {
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(READ_BLOCK + READ_MARGIN))
            .set_connection_timeout(Some(REDIS_DEADLINE));
        let connect = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        self.within(op, connect).await
    }

    /// The place where the eviction policy is remembered.
    pub(super) fn known_policy(&self) -> &Known {
        &self.policy
    }

    /// Whether adding is expected to fail: nothing is published, and work goes on from Postgres.
    pub fn refuses_work(&self) -> bool {
        self.breaker.is_open()
    }

    /// Whether every command is expected to fail. A server that refuses work only because it is full is not down.
    pub fn is_down(&self) -> bool {
        let reads = self.state.full.load(Ordering::Relaxed)
            && self.state.unanswered.load(Ordering::Relaxed) < FAILURES_TO_OPEN;
        self.breaker.is_open() && !reads
    }

    /// Since when and why, how often and how long.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// The right, or the command, for want of which this server is not worked with; none otherwise.
    pub fn lacks(&self) -> Option<String> {
        if self.breaker.is_open() {
            self.state.refused.what()
        } else {
            None
        }
    }

    /// Streams that this process has made anew.
    pub fn mending(&self) -> &Mending {
        &self.state.mending
    }

    /// The next number of a sequence that has no end.
    pub(super) fn turn(&self) -> usize {
        self.state.turn.fetch_add(1, Ordering::Relaxed) as usize
    }

    /// Tells the breaker of a command that was not awaited by [`Redis::within`].
    pub fn note(&self, outage: &Outage) {
        match outage {
            Outage::Redis { source, .. } => _ = self.note_refusal(source),
            Outage::RedisTimeout { .. } => self.note_failure(LATE),
            Outage::Postgres { .. } | Outage::PostgresTimeout { .. } | Outage::Schema(_) => {}
        }
    }

    /// Tells the breaker of an error, if that means that no work can be done here now. Returns whether it does.
    fn note_refusal(&self, error: &redis::RedisError) -> bool {
        let (remedy, word) = Remedy::of(error);
        if !remedy.is_outage() {
            return false;
        }
        if remedy == Remedy::Reconnect {
            // Idle connections lead to the server that has just said so; new ones may find another behind the name.
            self.pool.retain(|_, _| false);
        }
        match remedy {
            Remedy::Drain => {
                self.state.full.store(true, Ordering::Relaxed);
                self.state.unanswered.store(0, Ordering::Relaxed);
            }
            Remedy::Reconnect => _ = self.state.unanswered.fetch_add(1, Ordering::Relaxed),
            // Nor does it give what it has.
            _ => self.state.full.store(false, Ordering::Relaxed),
        }
        if remedy != Remedy::Operator {
            self.breaker.note_failure(word);
            return true;
        }
        let has_opened = self.breaker.note_refusal(word);
        if Refused::is_meant(word) {
            self.state.refused.note(has_opened, Instant::now(), error);
        }
        if has_opened {
            let lacks = self.state.refused.what();
            tracing::error!(
                why = word,
                lacks,
                "Redis refuses this program: check user, password and rights in REDIS_URL"
            );
        }
        true
    }

    /// Tells the breaker that there was no answer.
    fn note_failure(&self, why: &'static str) {
        self.state.unanswered.fetch_add(1, Ordering::Relaxed);
        self.breaker.note_failure(why);
    }
}

/// The parameter of a URL that names a file with the certificates of the authorities to trust, as Postgres calls it.
pub const CA_PARAMETER: &str = "sslrootcert";

/// A client that trusts the authorities which the URL names, or those of the system.
fn client(url: &str) -> redis::RedisResult<Client> {
    let ca = redis::parse_redis_url(url).and_then(|url| {
        url.query_pairs()
            .find(|(name, _)| name == CA_PARAMETER)
            .map(|(_, path)| path.into_owned())
    });
    match ca {
        None => Client::open(url),
        Some(path) => Client::build_with_tls(
            url,
            TlsCertificates {
                client_tls: None,
                root_cert: Some(std::fs::read(path)?),
            },
        ),
    }
}

/// Errors that mean "no work can be done here now", as opposed to a wrong command.
pub fn is_outage(error: &redis::RedisError) -> bool {
    Remedy::of(error).0.is_outage()
}
