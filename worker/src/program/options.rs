//! The options of a worker program. What is not said comes from the configuration.

use std::path::PathBuf;

use clap::Args;
use millstream_common::config::{Config, Secret};

use super::{exit::CommandError, logging::Volume};

/// Where the settings and the servers are, and how much to log. `millstream` has these for each of its commands.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Configuration file; the environment overrides it
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Postgres; better given as `DATABASE_URL`, since other users can see arguments
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// Redis; better given as `REDIS_URL`
    #[arg(long, global = true, value_name = "URL")]
    redis_url: Option<String>,
    /// No progress, no hints, only errors in the log
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Log in detail; twice: with every statement
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

impl Options {
    /// All settings: defaults, file, environment, then these options.
    pub fn settings(&self) -> Result<Config, CommandError> {
        let mut config = Config::load(self.config.as_deref()).map_err(CommandError::usage)?;
        if let Some(url) = &self.database_url {
            config.database.url = Secret::new(url);
        }
        if let Some(url) = &self.redis_url {
            config.redis.url = Secret::new(url);
        }
        Ok(config)
    }

    /// How much to log. `stays`: the process is a service.
    pub(super) fn volume(&self, stays: bool) -> Volume {
        Volume {
            service: stays,
            quiet: self.quiet,
            verbose: self.verbose,
        }
    }
}

/// Which jobs, how many at a time, and where to be watched.
#[derive(Debug, Clone, Args)]
pub struct WorkerArgs {
    /// Queues to read, comma separated; all if absent
    #[arg(long, value_delimiter = ',')]
    pub queues: Vec<String>,
    /// Kinds to run, comma separated; all that this program knows if absent
    #[arg(long, value_delimiter = ',')]
    pub kinds: Vec<String>,
    /// Jobs at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: Option<u32>,
    /// Serve /metrics, /livez and /readyz here
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Shown in lists
    #[arg(long)]
    pub name: Option<String>,
    /// Be the child of a worker: run the jobs that it hands over
    #[arg(long, hide = true)]
    pub child: bool,
}

impl WorkerArgs {
    /// The settings with these on top.
    #[must_use]
    pub fn over(self, mut config: Config) -> Config {
        let worker = &mut config.worker;
        if !self.queues.is_empty() {
            worker.queues = self.queues;
        }
        if !self.kinds.is_empty() {
            worker.kinds = self.kinds;
        }
        worker.concurrency = self.concurrency.map_or(worker.concurrency, |n| n as usize);
        worker.listen = self.listen.unwrap_or(std::mem::take(&mut worker.listen));
        worker.name = self.name.unwrap_or(std::mem::take(&mut worker.name));
        config
    }
}
