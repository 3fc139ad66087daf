//! The command line: arguments in, exit code out. One file per subcommand.
//!
//! Invariants: the answer goes to stdout, everything else to stderr; an error is one line that says what to do; nothing is
//! connected, written or bound before arguments and configuration are seen to be right.

pub mod api;
mod batches;
mod bench;
mod child;
pub mod context;
mod dead;
mod dev;
mod doctor;
pub mod documents;
mod enqueue;
mod filter;
mod jobs;
mod kinds;
mod migrate;
mod names;
mod queues;
mod retention;
pub mod table;
mod tenants;
mod time;
mod worker;
mod workers;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use millstream_documents::tools::sandbox::helper;
use millstream_worker::program::signals;
use millstream_worker::program::{self, Options, WorkerArgs, usage};
pub use millstream_worker::program::{CommandError, CommandResult, Exit, exit, outage};

pub use self::{context::Invocation, dev::DevArgs};

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
    #[command(flatten)]
    options: Options,
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
    /// Open, list, show, seal and cancel batches of jobs
    Batches(batches::BatchesArgs),
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

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    // A worker calls its own program to start the tools of documents.
    if let Some(end) = helper() {
        return end;
    }
    match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(error) => usage::tell(&error, "millstream"),
    }
}

fn run(cli: Cli) -> ExitCode {
    let Cli { global, command } = cli;
    program::run(&global.options, command.is_service(), async |config| {
        let context = Invocation::new(config, global.json, global.options.quiet);
        dispatch(command, &context).await
    })
}

async fn dispatch(command: Command, context: &Invocation) -> CommandResult {
    // Boxed: the futures of the services are large, and this one would be as large as the largest.
    match command {
        Command::Dev(args) => Box::pin(dev::run(args, context)).await,
        Command::Migrate(args) => Box::pin(migrate::run(args, context)).await,
        Command::Api(args) => Box::pin(api::run(args, context)).await,
        Command::Worker(args) => Box::pin(worker::run(args, context)).await,
        Command::Enqueue(args) => Box::pin(enqueue::run(args, context)).await,
        Command::Jobs(args) => Box::pin(jobs::run(args, context)).await,
        Command::Batches(args) => Box::pin(batches::run(args, context)).await,
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
