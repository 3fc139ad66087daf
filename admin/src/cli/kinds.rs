//! `millstream kinds`.

use clap::{Args, Subcommand};

use super::{Context, Exit, Outcome, names, table};
use crate::ops::{
    kinds::{self, Kind},
    names::Thing,
};

#[derive(Debug, Args)]
pub(super) struct KindsArgs {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// All kinds, and how many live workers run them
    List,
    /// Make a kind known before a worker registers it
    Add {
        /// 1 to 64 of a-z 0-9 _ . -
        name: String,
        /// Counted tries of a job that does not say otherwise
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..=1000))]
        max_attempts: Option<i16>,
    },
    /// Hand out nothing of these kinds; what runs goes on
    Pause {
        /// Which kinds
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Hand out again
    Resume {
        /// Which kinds
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

pub(super) async fn run(args: KindsArgs, context: &Context) -> Outcome {
    match args.act {
        Act::List => list(context).await,
        Act::Add { name, max_attempts } => {
            let new = kinds::add(context.pg().await?, &name, max_attempts, &context.actor()).await?;
            names::tell(Thing::Kind, &name, if new { "added" } else { "exists already" }, new, context)?;
            Ok(Exit::Done)
        }
        Act::Pause { names } => names::set_paused(Thing::Kind, &names, true, context).await,
        Act::Resume { names } => names::set_paused(Thing::Kind, &names, false, context).await,
    }
}

async fn list(context: &Context) -> Outcome {
    let kinds = kinds::list(context.pg().await?).await?;
    table::list(context, &kinds, &["kind", "paused", "tries", "chunk", "workers"], cells)?;
    Ok(Exit::Done)
}

fn cells(kind: &Kind) -> Vec<String> {
    vec![
        kind.name.clone(),
        if kind.paused { "paused" } else { "-" }.into(),
        kind.max_attempts.to_string(),
        kind.chunk.to_string(),
        kind.workers.to_string(),
    ]
}
