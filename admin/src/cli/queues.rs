//! `millstream queues`.

use clap::{Args, Subcommand};

use super::{CommandResult, Exit, Invocation, names, table};
use crate::ops::{
    names::Thing,
    queues::{self, Queue},
};

#[derive(Debug, Args)]
pub(super) struct QueuesArgs {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// All queues with what is in them
    List,
    /// Make queues known
    Add {
        /// 1 to 64 of a-z 0-9 _ . -
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Start nothing more of these queues, two seconds from now at the latest; what runs goes on
    Pause {
        /// Which queues
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Hand out again
    Resume {
        /// Which queues
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

pub(super) async fn run(args: QueuesArgs, context: &Invocation) -> CommandResult {
    match args.act {
        Act::List => list(context).await,
        Act::Add { names } => names::add(Thing::Queue, &names, context).await,
        Act::Pause { names } => names::set_paused(Thing::Queue, &names, true, context).await,
        Act::Resume { names } => names::set_paused(Thing::Queue, &names, false, context).await,
    }
}

async fn list(context: &Invocation) -> CommandResult {
    let queues = queues::list(context.pg().await?).await?;
    let header = [
        "queue", "paused", "backlog", "leased", "put off", "dead", "oldest", "counted",
    ];
    table::list(context, &queues, &header, cells)?;
    Ok(Exit::Done)
}

fn cells(queue: &Queue) -> Vec<String> {
    let jobs = |states: &[&str]| match queue.counted_at {
        Some(_) => states
            .iter()
            .filter_map(|state| queue.jobs.get(*state))
            .sum::<i64>()
            .to_string(),
        None => "-".into(),
    };
    vec![
        queue.name.clone(),
        if queue.paused { "paused" } else { "-" }.into(),
        queue.backlog.to_string(),
        queue.leased.to_string(),
        jobs(&["scheduled", "retryable", "rate_limited"]),
        jobs(&["dead"]),
        table::maybe(queue.oldest_age_seconds.map(table::seconds)),
        table::maybe_time(queue.counted_at),
    ]
}
