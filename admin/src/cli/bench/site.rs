//! Where a bench runs: the servers, given or private, with the schema, and settings of its own.

use std::path::PathBuf;

use millstream_common::{config::Secret, pg::migrate_up};
use millstream_local::{Durability, GivenUrls, LocalServices, Options, Pids, ServerEnv};
use tempfile::TempDir;

use super::{
    super::{CommandError, Invocation},
    leftovers, raw,
};

/// Servers that are ready.
pub(super) struct Site {
    context: Invocation,
    services: LocalServices,
    folder: TempDir,
}

impl Site {
    /// Starts what is not given.
    pub(super) async fn open(context: &Invocation) -> Result<Self, CommandError> {
        let folder = tempfile::tempdir()?;
        let given = |url: &Secret| (!url.is_empty()).then(|| url.expose().to_owned());
        let urls = GivenUrls {
            database_url: given(&context.config.database.url),
            redis_url: given(&context.config.redis.url),
        };
        let options = Options {
            dir: folder.path().join("services"),
            durability: Durability::Full,
            fresh: true,
            env: ServerEnv::default(),
        };
        let services = LocalServices::given_or_start(urls, options)
            .await
            .map_err(|e| CommandError::failed(format!("{e:#}")))?;
        let mut config = context.config.clone();
        config.database.url = Secret::new(&services.database_url);
        config.redis.url = Secret::new(&services.redis_url);
        config.redis.prefix = format!("bench-{}", std::process::id());
        // A worker has duties beyond its own jobs: those of a bench remove nobody's.
        config.retention.keep_days = 0;
        migrate_up(config.database.url.expose()).await?;
        let site = Self {
            context: Invocation::new(config, context.json, context.quiet),
            services,
            folder,
        };
        leftovers::workers(&site).await?;
        if site.number("SELECT count(*) FROM millstream.worker WHERE state IN ('active', 'paused', 'draining')").await? > 0 {
            return Err(CommandError::failed(
                "workers are at work on these servers: a bench would measure them too, and disturb them; stop them first",
            ));
        }
        // Only the figure `statements` needs it, and says so.
        site.try_to("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            .await;
        site.execute("INSERT INTO millstream.queue (name) VALUES ('bench') ON CONFLICT DO NOTHING")
            .await?;
        leftovers::all(&site).await?;
        raw::prepare(&site).await?;
        Ok(site)
    }

    /// Connections to these servers.
    pub(super) fn context(&self) -> &Invocation {
        &self.context
    }

    /// Where the workers' log goes: they log as in production, which is part of what they cost.
    pub(super) fn workers_log(&self) -> PathBuf {
        self.folder.path().join("workers.log")
    }

    /// Of the servers that are private.
    pub(super) fn pids(&self) -> Pids {
        self.services.pids()
    }

    /// One number.
    pub(super) async fn number(&self, sql: &'static str) -> Result<i64, CommandError> {
        let query = sqlx::query_scalar(sql);
        let pg = self.context.pg().await?;
        Ok(pg.main("looking at the bench").one(query).await?)
    }

    /// A statement without an answer.
    pub(super) async fn execute(&self, sql: &'static str) -> Result<(), CommandError> {
        let pg = self.context.pg().await?;
        pg.main("preparing the bench")
            .execute(sqlx::query(sql))
            .await?;
        Ok(())
    }

    /// Bytes that Redis uses for data; none if it does not say.
    pub(super) async fn redis_bytes(&self) -> Result<Option<f64>, CommandError> {
        let redis = self.context.redis().await?;
        let command = redis::cmd("INFO").arg("memory").to_owned();
        let info: String = redis.ask("asking Redis for its memory", &command).await?;
        Ok(info
            .lines()
            .find_map(|line| line.strip_prefix("used_memory_dataset:"))
            .and_then(|bytes| bytes.trim().parse().ok()))
    }

    /// Writes what is dirty, so that no figure pays for the one before, and each pays for whole pages in the WAL. Best effort: it takes rights.
    pub(super) async fn checkpoint(&self) {
        self.try_to("CHECKPOINT").await;
    }

    /// Best effort.
    pub(super) async fn try_to(&self, sql: &'static str) {
        if let Err(failure) = self.execute(sql).await {
            tracing::debug!(error = ?failure, sql, "not done");
        }
    }

    /// Takes Redis away; only a private one.
    pub(super) fn stop_redis(&self) -> Result<(), CommandError> {
        self.services.stop_redis().map_err(|e| {
            CommandError::failed(format!("{e:#}: figures without Redis need a private one"))
        })
    }

    pub(super) fn start_redis(&self) -> Result<(), CommandError> {
        self.services
            .start_redis()
            .map_err(|e| CommandError::failed(format!("{e:#}")))
    }

    /// Removes what is in nobody's way any more, and stops what is private, whatever else fails.
    pub(super) async fn close(self) -> Result<(), CommandError> {
        let removed = leftovers::all(&self).await;
        let stopped = self
            .services
            .stop()
            .await
            .map_err(|e| CommandError::failed(format!("{e:#}")));
        removed.and(stopped)
    }
}
