//! `millstream workers`.

use clap::{Args, Subcommand};

use super::{CommandResult, Exit, Invocation, table};
use crate::ops::workers::{self, Worker};

#[derive(Debug, Args)]
pub(super) struct WorkersArgs {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Live worker processes, newest first
    List {
        /// Also those that stopped or were lost
        #[arg(long)]
        all: bool,
    },
}

pub(super) async fn run(args: WorkersArgs, context: &Invocation) -> CommandResult {
    let Act::List { all } = args.act;
    let workers = workers::list(context.pg().await?, all).await?;
    let header = [
        "id", "name", "state", "host", "pid", "busy", "finished", "memory", "queues", "started",
        "beat",
    ];
    table::list(context, &workers, &header, cells)?;
    Ok(Exit::Done)
}

fn cells(worker: &Worker) -> Vec<String> {
    vec![
        worker.id.to_string(),
        worker.name.clone(),
        worker.state.clone(),
        worker.host.clone(),
        worker.pid.to_string(),
        format!("{}/{}", worker.busy, worker.slots),
        worker.finished.to_string(),
        table::bytes(worker.memory_bytes),
        worker.queues.join(","),
        table::time(worker.started_at),
        table::maybe_time(worker.beat_at),
    ]
}
