//! `millstream kinds`.

use clap::{Args, Subcommand};

use super::{CommandResult, Exit, Invocation, names, table};
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
        /// Counted tries of a job that does not say otherwise, whatever handlers say; without it, what the handler says
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..=1000))]
        max_attempts: Option<i16>,
    },
    /// Change what jobs of a kind get that are enqueued from now on
    Set {
        /// Which kind
        name: String,
        /// Counted tries of a job that does not say otherwise; "handler": what the handlers say
        #[arg(long, value_name = "N|handler", value_parser = tries)]
        max_attempts: Tries,
    },
    /// Start nothing more of these kinds, two seconds from now at the latest; what runs goes on
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

/// A number, or what the handlers say.
#[derive(Debug, Clone, Copy)]
struct Tries(Option<i16>);

fn tries(text: &str) -> Result<Tries, String> {
    if text == "handler" {
        return Ok(Tries(None));
    }
    let number = text.parse().ok().filter(|n| (1..=1000).contains(n));
    number
        .map(|n| Tries(Some(n)))
        .ok_or_else(|| "use a number from 1 to 1000, or handler".to_owned())
}

pub(super) async fn run(args: KindsArgs, context: &Invocation) -> CommandResult {
    match args.act {
        Act::List => list(context).await,
        Act::Add { name, max_attempts } => {
            let new =
                kinds::add(context.pg().await?, &name, max_attempts, &context.actor()).await?;
            names::tell(
                Thing::Kind,
                &name,
                if new { "added" } else { "exists already" },
                new,
                context,
            )?;
            Ok(Exit::Done)
        }
        Act::Set {
            name,
            max_attempts: Tries(max),
        } => {
            let tries = kinds::set_tries(context.pg().await?, &name, max, &context.actor()).await?;
            names::tell(
                Thing::Kind,
                &name,
                &format!("jobs enqueued from now on get {tries} tries"),
                true,
                context,
            )?;
            Ok(Exit::Done)
        }
        Act::Pause { names } => names::set_paused(Thing::Kind, &names, true, context).await,
        Act::Resume { names } => names::set_paused(Thing::Kind, &names, false, context).await,
    }
}

async fn list(context: &Invocation) -> CommandResult {
    let kinds = kinds::list(context.pg().await?).await?;
    table::list(
        context,
        &kinds,
        &["kind", "paused", "tries", "chunk", "workers"],
        cells,
    )?;
    Ok(Exit::Done)
}

fn cells(kind: &Kind) -> Vec<String> {
    vec![
        kind.name.clone(),
        if kind.paused { "paused" } else { "-" }.into(),
        tries_cell(kind),
        kind.chunk.to_string(),
        kind.workers.to_string(),
    ]
}

/// The number, who says so, and whether live workers say otherwise.
fn tries_cell(kind: &Kind) -> String {
    let set = if kind.max_attempts_fixed {
        " (set)"
    } else {
        ""
    };
    if kind.handlers_say.is_empty() {
        return format!("{}{set}", kind.max_attempts);
    }
    let others: Vec<String> = kind.handlers_say.iter().map(ToString::to_string).collect();
    format!(
        "{}{set}, workers say {}",
        kind.max_attempts,
        others.join(", ")
    )
}
