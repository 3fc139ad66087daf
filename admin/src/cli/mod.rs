//! The command line: arguments in, exit code out. One file per subcommand.
//!
//! Invariants: the answer goes to stdout, everything else to stderr; an error is one line that says what to do; nothing is
//! connected, written or bound before arguments and configuration are seen to be right.

pub mod api;
mod bench;
mod child;
pub mod context;
mod dead;
mod dev;
mod doctor;
pub mod documents;
mod enqueue;
pub mod exit;
mod filter;
mod jobs;
mod kinds;
pub mod logging;
mod migrate;
mod names;
pub mod outage;
mod queues;
mod retention;
mod signals;
pub mod table;
mod tenants;
mod time;
mod usage;
mod worker;
mod workers;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use millstream_common::config::{Config, Secret};
use millstream_worker::documents::tools::sandbox::helper;

pub use self::{
    context::Context,
    dev::DevArgs,
    exit::{Exit, Failure, Outcome},
    worker::WorkerArgs,
};
use self::{logging::Volume, outage::Places};

/// How long the runtime waits for a blocked thread (a read from a terminal) when the answer is out already.
const RUNTIME_GRACE: Duration = Duration::from_millis(200);

/// Durable jobs on Postgres and Redis streams.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// Print JSON: one document, or one object per line for lists
    #[arg(long, global = true)]
    json: bool,
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
    quiet: bool,
    /// Log in detail; twice: with every statement
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything here: private Postgres and Redis, API and workers
    Dev(DevArgs),
    /// Bring the database schema up, down, or tell where it is
    Migrate(migrate::MigrateArgs),
    /// Serve the HTTP API
    Api(api::ApiArgs),
    /// Run jobs
    Worker(WorkerArgs),
    /// Enqueue one job, or many alike
    Enqueue(enqueue::EnqueueArgs),
    /// List, show, await, cancel, retry and explain jobs
    Jobs(jobs::JobsArgs),
    /// List, show, redrive and purge dead letters
    Dead(dead::DeadArgs),
    /// List, add, pause and resume queues
    Queues(queues::QueuesArgs),
    /// List, add, pause and resume kinds of jobs
    Kinds(kinds::KindsArgs),
    /// List, add, pause and resume tenants, and say how long their jobs are kept
    Tenants(tenants::TenantsArgs),
    /// List the days of jobs that are there, and when they go
    Retention,
    /// List worker processes
    Workers(workers::WorkersArgs),
    /// Add, list, show and await documents
    Documents(documents::DocumentsArgs),
    /// Check the servers, the schema, the streams and the tools, and say what to do
    Doctor(doctor::DoctorArgs),
    /// Measure enqueue and drain on this machine
    Bench(bench::BenchArgs),
}

impl Command {
    /// The process stays and its log is its voice.
    fn is_service(&self) -> bool {
        matches!(self, Self::Dev(_) | Self::Api(_) | Self::Worker(_))
    }
}

/// A worker of somebody's own, as [`worker_main`] runs it.
#[derive(Debug, Parser)]
#[command(version)]
struct OwnWorker {
    #[command(flatten)]
    global: Global,
    #[command(flatten)]
    args: WorkerArgs,
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    // A worker calls its own program to start the tools of documents.
    if let Some(end) = helper() {
        return end;
    }
    match Cli::try_parse() {
        Ok(cli) => {
            let service = cli.command.is_service();
            run(&cli.global, service, async |context| {
                dispatch(cli.command, context).await
            })
        }
        Err(error) => usage::tell(&error),
    }
}

/// The whole of a worker program with handlers of its own: options, settings, log, probes and signals are those of
/// `millstream worker`, and the kinds in the box run as well. `main` installs a TLS provider and calls this; what else it does first
/// must need neither arguments nor environment, or the tools of documents are started without their confinement.
pub fn worker_main(handlers: Vec<millstream_worker::Handler>) -> ExitCode {
    if let Some(end) = helper() {
        return end;
    }
    match OwnWorker::try_parse() {
        Ok(own) => run(&own.global, true, async |context| {
            worker::run_with(own.args, handlers, context).await
        }),
        Err(error) => usage::tell(&error),
    }
}

/// Settings, log and runtime around a command; its end as an exit code and a line.
fn run(global: &Global, service: bool, command: impl AsyncFnOnce(&Context) -> Outcome) -> ExitCode {
    millstream_common::failpoint::arm();
    let config = match configure(global) {
        Ok(config) => config,
        Err(failure) => return tell(&failure, &Places::default()),
    };
    let places = Places::of(&config);
    match start(global, service, config, command) {
        Ok(exit) => exit.into(),
        Err(failure) => tell(&failure, &places),
    }
}

fn configure(global: &Global) -> Result<Config, Failure> {
    let mut config = Config::load(global.config.as_deref()).map_err(Failure::usage)?;
    if let Some(url) = &global.database_url {
        config.database.url = Secret::new(url);
    }
    if let Some(url) = &global.redis_url {
        config.redis.url = Secret::new(url);
    }
    Ok(config)
}

fn start(
    global: &Global,
    service: bool,
    config: Config,
    command: impl AsyncFnOnce(&Context) -> Outcome,
) -> Outcome {
    logging::init(
        &config,
        Volume {
            service,
            quiet: global.quiet,
            verbose: global.verbose,
        },
    )?;
    let context = Context::new(config, global.json, global.quiet);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(command(&context));
    runtime.shutdown_timeout(RUNTIME_GRACE);
    outcome
}

async fn dispatch(command: Command, context: &Context) -> Outcome {
    // Boxed: the futures of the services are large, and this one would be as large as the largest.
    match command {
        Command::Dev(args) => Box::pin(dev::run(args, context)).await,
        Command::Migrate(args) => Box::pin(migrate::run(args, context)).await,
        Command::Api(args) => Box::pin(api::run(args, context)).await,
        Command::Worker(args) => Box::pin(worker::run(args, context)).await,
        Command::Enqueue(args) => Box::pin(enqueue::run(args, context)).await,
        Command::Jobs(args) => Box::pin(jobs::run(args, context)).await,
        Command::Dead(args) => Box::pin(dead::run(args, context)).await,
        Command::Queues(args) => Box::pin(queues::run(args, context)).await,
        Command::Kinds(args) => Box::pin(kinds::run(args, context)).await,
        Command::Tenants(args) => Box::pin(tenants::run(args, context)).await,
        Command::Retention => Box::pin(retention::run(context)).await,
        Command::Workers(args) => Box::pin(workers::run(args, context)).await,
        Command::Documents(args) => Box::pin(documents::run(args, context)).await,
        Command::Doctor(args) => Box::pin(doctor::run(args, context)).await,
        Command::Bench(args) => Box::pin(bench::run(args, context)).await,
    }
}

fn tell(failure: &Failure, places: &Places) -> ExitCode {
    let (exit, line) = failure.tell(places);
    if let Some(line) = line {
        table::say(&format!("error: {line}"));
    }
    exit.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
