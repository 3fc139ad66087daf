//! One test's own installation: a database with the current schema, a key prefix, a folder for objects.

use std::{
    path::Path,
    process::{Command, Stdio},
    str::FromStr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use millstream_common::{
    config::{Config, Secret},
    id::new_job_id,
    metrics::{EnqueueSource, Metrics},
    pg::{Pg, migrate_up},
    stream::{keys::Keys, link::Redis},
};
use millstream_kinds::built_in;
use millstream_local::{Durability, LocalServices, Options, ServerEnv};
use millstream_producer::{Parts as ProducerParts, Producer};
use millstream_worker::{Handler, Parts, Worker};
use redis::aio::MultiplexedConnection;
use sqlx::{ConnectOptions, Executor, PgPool, postgres::PgConnectOptions};

use crate::servers::{built, servers};

/// Serialises the making of the template between test processes.
const TEMPLATE_LOCK: i64 = 0x6d73_7465_6d70;

/// An installation that goes with the test.
pub struct Lab {
    /// Settings of every process of this installation; change them before starting any.
    pub config: Config,
    /// For the test's own questions.
    pub pool: PgPool,
    /// Only of a private lab. Before the folder: the servers stop, then their files go.
    services: Option<Arc<LocalServices>>,
    folder: tempfile::TempDir,
    /// What this database puts into its keys.
    mark: String,
    /// The database to drop in the end, if the server outlives the lab.
    database: Option<String>,
}

impl Lab {
    /// A fresh installation. The lease is 2 s, the shortest that is allowed.
    pub async fn new() -> Self {
        let servers = tokio::task::spawn_blocking(servers)
            .await
            .expect("the servers start");
        let database = format!("t_{}", new_job_id().simple());
        let url = create_database(&servers.database_url, &database).await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = config(&url, &servers.redis_url, &database, folder.path());
        let pool = connect(&url).await;
        Self {
            mark: mark(&pool).await,
            pool,
            config,
            services: None,
            folder,
            database: Some(database),
        }
    }

    /// An installation with a Postgres and a Redis of its own, for tests that stop, kill or empty a server.
    pub async fn private(durability: Durability) -> Self {
        Self::private_with(durability, ServerEnv::default()).await
    }

    /// The same, with something in the environment of the servers, such as a clock of their own.
    pub async fn private_with(durability: Durability, env: ServerEnv) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = Options {
            dir: folder.path().join("services"),
            durability,
            fresh: true,
            env,
        };
        let services = LocalServices::start(options)
            .await
            .expect("the private servers start");
        let url = services.database_url.clone();
        migrate_up(&url).await.expect("the migrations run");
        let config = config(&url, &services.redis_url, "private", folder.path());
        let pool = connect(&url).await;
        Self {
            mark: mark(&pool).await,
            pool,
            config,
            services: Some(Arc::new(services)),
            folder,
            database: None,
        }
    }

    /// Does something to the servers of a private lab, on a thread that may block.
    pub async fn harm(
        &self,
        harm: impl FnOnce(&LocalServices) -> anyhow::Result<()> + Send + 'static,
    ) {
        let services = self
            .services
            .clone()
            .expect("only a private lab's servers may be harmed");
        tokio::task::spawn_blocking(move || harm(&services))
            .await
            .expect("the harm ends")
            .expect("the harm is done");
    }

    /// The servers of a private lab.
    pub fn servers(&self) -> &LocalServices {
        self.services
            .as_ref()
            .expect("only a private lab's servers may be harmed")
    }

    /// A folder of this test's own.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Names of this installation's keys.
    pub fn keys(&self) -> Keys {
        Keys::new(self.config.redis.prefix.clone(), self.mark.clone())
    }

    /// A connection of the test's own.
    pub async fn redis(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.config.redis.url.expose()).expect("a Redis URL");
        client
            .get_multiplexed_async_connection()
            .await
            .expect("Redis answers")
    }

    /// A producer as a service would hold it.
    pub fn producer(&self) -> Producer {
        self.producer_in(&self.config)
    }

    /// The same with other settings, such as a link to a server that can be cut.
    pub fn producer_in(&self, config: &Config) -> Producer {
        let pg = Pg::new(config.database.url.expose(), 10).expect("a Postgres URL");
        Producer::new(ProducerParts {
            redis: Redis::new(config.redis.url.expose(), self.keys()).expect("a Redis URL"),
            catalog: millstream_common::catalog::Catalog::new(pg.clone()),
            metrics: Metrics::new("test").expect("metrics"),
            source: EnqueueSource::Library,
            pg,
        })
    }

    /// A worker in this process with the built-in kinds.
    pub async fn worker(&self) -> Worker {
        self.worker_with(Vec::new()).await
    }

    /// A worker in this process with the built-in kinds and these.
    pub async fn worker_with(&self, more: Vec<Handler>) -> Worker {
        self.worker_in(&self.config, more).await
    }

    /// The same with other settings, such as a link to a server that can be cut.
    pub async fn worker_in(&self, config: &Config, more: Vec<Handler>) -> Worker {
        let mut all = built_in(config).expect("built-in handlers");
        all.extend(more);
        Worker::start(Parts {
            config: config.clone(),
            metrics: Metrics::new("test").expect("metrics"),
            handlers: all,
            isolation: None,
        })
        .await
        .expect("the worker starts")
    }

    /// Jobs in a state, by the table itself.
    pub async fn count(&self, state: &str) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM millstream.job_view WHERE state = $1")
            .bind(state)
            .fetch_one(&self.pool)
            .await
            .expect("a count")
    }

    /// Waits until this many jobs are in a state.
    pub async fn await_count(&self, state: &str, jobs: i64) {
        let mut seen = -1;
        crate::eventually(&format!("{jobs} jobs {state}"), async || {
            seen = self.count(state).await;
            (seen == jobs).then_some(())
        })
        .await;
    }

    /// Entries in all work streams of a queue.
    pub async fn stream_length(&self, queue: &str) -> usize {
        let mut conn = self.redis().await;
        let mut total = 0;
        for priority in millstream_common::job::Priority::ALL {
            let length: usize = redis::cmd("XLEN")
                .arg(self.keys().stream(queue, priority))
                .query_async(&mut conn)
                .await
                .expect("XLEN");
            total += length;
        }
        total
    }

    /// Waits until the streams of a queue and the parcels are empty.
    pub async fn await_drained(&self, queue: &str) {
        crate::eventually("streams and parcels are empty", async || {
            let parcels: i64 = sqlx::query_scalar("SELECT count(*) FROM millstream.parcel")
                .fetch_one(&self.pool)
                .await
                .expect("a count");
            (parcels == 0 && self.stream_length(queue).await == 0).then_some(())
        })
        .await;
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let Some(database) = self.database.take() else {
            return;
        };
        // By a process that nobody waits for. Postgres drops no database before every connection that is being made anywhere is past its
        // password, and a worker of this test may be in the middle of that, on the very thread that would wait.
        let dropping = Command::new(built("drop_database"))
            .arg(database)
            .env("DATABASE_URL", &servers().database_url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        drop(dropping);
    }
}

/// Settings for tests: short leases, everything of this lab's own.
fn config(database_url: &str, redis_url: &str, prefix: &str, folder: &Path) -> Config {
    install_tls();
    show_logs();
    let mut config = Config::load(None).expect("the defaults are valid");
    config.database.url = Secret::new(database_url.to_owned());
    config.redis.url = Secret::new(redis_url.to_owned());
    prefix.clone_into(&mut config.redis.prefix);
    config.worker.lease_ms = 2_000;
    config.worker.grace_ms = 5_000;
    config.objects.url = format!("file://{}", folder.join("objects").display());
    config
}

async fn connect(url: &str) -> PgPool {
    PgPool::connect(url).await.expect("the database answers")
}

async fn mark(pool: &PgPool) -> String {
    sqlx::query_scalar("SELECT millstream.mark()")
        .fetch_one(pool)
        .await
        .expect("the database has a mark")
}

/// `TEST_LOG=debug` shows what the parts in this process say.
fn show_logs() {
    if let Ok(filter) = std::env::var("TEST_LOG") {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .try_init();
    }
}

fn install_tls() {
    // The worker's HTTP client wants a provider; a second call only says that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Copies the migrated template, which the first test makes.
async fn create_database(admin_url: &str, name: &str) -> String {
    static TEMPLATE: OnceLock<String> = OnceLock::new();
    let template =
        TEMPLATE.get_or_init(|| format!("millstream_template_{}", env!("MIGRATIONS_HASH")));
    let mut admin = PgConnectOptions::from_str(admin_url)
        .expect("a Postgres URL")
        .connect()
        .await
        .expect("Postgres answers");
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(TEMPLATE_LOCK)
        .execute(&mut admin)
        .await
        .expect("the template lock");
    let known: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)")
            .bind(template)
            .fetch_one(&mut admin)
            .await
            .expect("a look");
    if !known {
        let making = format!("{template}_making");
        run(
            &mut admin,
            format!("DROP DATABASE IF EXISTS {making} WITH (FORCE)"),
        )
        .await;
        run(&mut admin, format!("CREATE DATABASE {making}")).await;
        migrate_up(&with_database(admin_url, &making))
            .await
            .expect("the migrations run");
        rename_when_idle(&mut admin, &making, template).await;
    }
    run(
        &mut admin,
        format!("CREATE DATABASE {name} TEMPLATE {template}"),
    )
    .await;
    sqlx::query("SELECT pg_advisory_unlock($1)")
        .bind(TEMPLATE_LOCK)
        .execute(&mut admin)
        .await
        .expect("the template lock");
    with_database(admin_url, name)
}

/// The migration's connection may take a moment to go.
async fn rename_when_idle(admin: &mut sqlx::PgConnection, from: &str, to: &str) {
    for _ in 0..200 {
        if admin
            .execute(sqlx::AssertSqlSafe(format!(
                "ALTER DATABASE {from} RENAME TO {to}"
            )))
            .await
            .is_ok()
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the template database stayed in use");
}

async fn run(admin: &mut sqlx::PgConnection, sql: String) {
    admin
        .execute(sqlx::AssertSqlSafe(sql.clone()))
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"));
}

/// The same server, another database.
pub fn with_database(url: &str, database: &str) -> String {
    let (server, _) = url.rsplit_once('/').expect("a URL with a database");
    format!("{server}/{database}")
}
