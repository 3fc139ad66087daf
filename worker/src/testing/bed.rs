//! An installation of the test's own.

use std::time::Duration;

use millstream_common::{
    catalog::Catalog,
    config::{Config, Secret},
    id::JobId,
    metrics::Metrics,
    pg::Pg,
};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::database;
use crate::{Handler, Parts, Worker};

/// A test that waits longer has found something.
const DRAIN_MAX: Duration = Duration::from_mins(1);
/// How often a drain looks.
const LOOK: Duration = Duration::from_millis(20);
/// The shortest lease that is allowed, so that a test of a crash does not wait.
const LEASE_MS: u64 = 2_000;
/// Connections for the test's own questions.
const CONNECTIONS_MAX: u32 = 4;

/// See the module. The database goes with [`TestBed::close`]; one that was left is removed by a later test.
pub struct TestBed {
    /// Settings of the workers; change them before starting any.
    pub config: Config,
    /// For the test's own statements.
    pub pool: PgPool,
    handlers: Vec<Handler>,
    server_url: String,
    database: String,
}

/// How many jobs stand where after a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Done.
    pub completed: i64,
    /// Out of attempts, or failed for good.
    pub dead: i64,
    /// Scheduled, to be retried, or held back by a rate limit.
    pub later: i64,
    /// Cancelled.
    pub cancelled: i64,
}

impl TestBed {
    /// A fresh database on the server of `DATABASE_URL`, whose login may create databases, and the Redis of `REDIS_URL`, with the
    /// kinds of these handlers made known. Tests may run in parallel, and share the two servers.
    pub async fn new(handlers: Vec<Handler>) -> Self {
        let mut config = Config::load(None).expect("the settings are right");
        for (url, name) in [
            (&config.database.url, "DATABASE_URL"),
            (&config.redis.url, "REDIS_URL"),
        ] {
            assert!(!url.is_empty(), "set {name} to a server for tests");
        }
        let server_url = config.database.url.expose().to_owned();
        let (database, url) = database::create(&server_url).await;
        config.database.url = Secret::new(&url);
        config.worker.lease_ms = LEASE_MS;
        let pool = sqlx::postgres::PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .connect_lazy(&url)
            .expect("a Postgres URL");
        register(&url, &handlers).await;
        Self {
            config,
            pool,
            handlers,
            server_url,
            database,
        }
    }

    /// For a `Producer`, and for whatever else the test starts.
    pub fn database_url(&self) -> &str {
        self.config.database.url.expose()
    }

    /// The same of Redis.
    pub fn redis_url(&self) -> &str {
        self.config.redis.url.expose()
    }

    /// Enqueues one job.
    pub async fn enqueue(&self, kind: &str, payload: &impl Serialize) -> JobId {
        sqlx::query_scalar("SELECT millstream.enqueue($1, $2)")
            .bind(kind)
            .bind(sqlx::types::Json(payload))
            .fetch_one(&self.pool)
            .await
            .expect("the job is enqueued")
    }

    /// Payloads of the jobs of a kind that wait to be run, now or later, in the order in which they were enqueued.
    pub async fn enqueued(&self, kind: &str) -> Vec<Value> {
        let sql = "SELECT payload::text FROM millstream.job_view WHERE kind = $1
             AND state IN ('available', 'scheduled', 'retryable', 'rate_limited', 'waiting') ORDER BY id";
        let payloads: Vec<String> = sqlx::query_scalar(sql)
            .bind(kind)
            .fetch_all(&self.pool)
            .await
            .expect("the jobs are listed");
        let read = |text: &String| serde_json::from_str(text).expect("a payload is JSON");
        payloads.iter().map(read).collect()
    }

    /// Fails unless a job of that kind waits whose payload has at least these fields.
    pub async fn assert_enqueued(&self, kind: &str, fields: &Value) {
        let enqueued = self.enqueued(kind).await;
        assert!(
            enqueued.iter().any(|payload| contains(payload, fields)),
            "no job of kind \"{kind}\" with {fields} is enqueued; there are {enqueued:?}"
        );
    }

    /// A worker for the handlers of this bed. End it with [`Worker::drain`].
    pub async fn worker(&self) -> Worker {
        Worker::start(Parts {
            config: self.config.clone(),
            metrics: Metrics::new(env!("CARGO_PKG_VERSION")).expect("the metrics are made"),
            handlers: self.handlers.clone(),
            isolation: None,
        })
        .await
        .expect("the worker starts")
    }

    /// Works until no job of these handlers is due, also of those that the jobs enqueue; then says where all of them stand.
    pub async fn drain(&self) -> Drained {
        let worker = self.worker().await;
        let idle = tokio::time::timeout(DRAIN_MAX, async {
            while self.due().await > 0 {
                tokio::time::sleep(LOOK).await;
            }
        });
        let idle = idle.await;
        worker.drain(CancellationToken::new()).await;
        assert!(idle.is_ok(), "jobs are still due after {DRAIN_MAX:?}");
        self.stand().await
    }

    /// Moves every scheduled, retryable and rate-limited job this much closer, as if that time had passed. Nothing else is moved: clocks
    /// in handlers, leases and timeouts go on as they are.
    pub async fn travel(&self, by: Duration) {
        sqlx::query(
            "UPDATE millstream.job SET ready_at = ready_at - make_interval(secs => $1)
             WHERE state IN (3, 4, 5)",
        )
        .bind(by.as_secs_f64())
        .execute(&self.pool)
        .await
        .expect("the jobs are moved");
    }

    /// Removes the database.
    pub async fn close(self) {
        self.pool.close().await;
        database::remove(&self.server_url, &self.database).await;
    }

    fn kinds(&self) -> Vec<String> {
        self.handlers.iter().map(|h| h.kind.clone()).collect()
    }

    async fn due(&self) -> i64 {
        sqlx::query_scalar(
            "SELECT count(*) FROM millstream.job_view WHERE kind = ANY($1) AND
               (state IN ('available', 'running')
                OR state IN ('scheduled', 'retryable', 'rate_limited') AND run_at <= now())",
        )
        .bind(self.kinds())
        .fetch_one(&self.pool)
        .await
        .expect("the jobs are counted")
    }

    async fn stand(&self) -> Drained {
        let sql = "SELECT count(*) FILTER (WHERE state = 'completed'),
               count(*) FILTER (WHERE state = 'dead'),
               count(*) FILTER (WHERE state IN ('scheduled', 'retryable', 'rate_limited')),
               count(*) FILTER (WHERE state = 'cancelled')
             FROM millstream.job_view WHERE kind = ANY($1)";
        let (completed, dead, later, cancelled) = sqlx::query_as(sql)
            .bind(self.kinds())
            .fetch_one(&self.pool)
            .await
            .expect("the jobs are counted");
        Drained {
            completed,
            dead,
            later,
            cancelled,
        }
    }
}

async fn register(url: &str, handlers: &[Handler]) {
    let pg = Pg::new(url, CONNECTIONS_MAX).expect("a Postgres URL");
    let kinds: Vec<(&str, i16)> = handlers
        .iter()
        .map(|h| (h.kind.as_str(), h.retry.max_attempts))
        .collect();
    let registered = Catalog::new(pg).register_kinds(&kinds).await;
    registered.expect("the kinds are made known");
}

/// Whether `whole` has every field of `part`, at any depth.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(name, part)| whole.get(name).is_some_and(|whole| contains(whole, part))),
        _ => whole == part,
    }
}
