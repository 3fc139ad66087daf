//! `millstream dead`: what ended without success, and what to do with it.

use clap::{Args, Subcommand};
use millstream_common::{id::JobId, state::State};

use super::{
    CommandError, CommandResult, Exit, Invocation,
    filter::{NameArgs, PageArgs},
    jobs::{self, told},
    table,
};
use crate::ops::{
    dead::{self, DeadLetter},
    jobs::Filter,
    moves::Move,
};

#[derive(Debug, Args)]
pub(super) struct DeadArgs {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// One page of dead letters, newest job first
    List {
        #[command(flatten)]
        names: NameArgs,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Everything about dead jobs
    Show {
        /// Which jobs
        #[arg(required = true, value_name = "ID")]
        ids: Vec<JobId>,
    },
    /// Run dead jobs again, with their tries starting anew
    Redrive(ManyArgs),
    /// Delete dead jobs for good
    Purge(ManyArgs),
}

#[derive(Debug, Args)]
struct ManyArgs {
    /// Which jobs; or use --all or filters
    #[arg(value_name = "ID", conflicts_with_all = ["all", "queue", "kind", "tenant", "since"])]
    ids: Vec<JobId>,
    /// Every dead job
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    names: NameArgs,
    /// Do it; without it only tells how many (ids are redriven without it)
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(args: DeadArgs, context: &Invocation) -> CommandResult {
    match args.act {
        Act::List { names, page } => list(&names.into_filter(), &page, context).await,
        Act::Show { ids } => jobs::show_dead(ids, context).await,
        Act::Redrive(args) => redrive(args, context).await,
        Act::Purge(args) => purge(args, context).await,
    }
}

async fn list(filter: &Filter, page: &PageArgs, context: &Invocation) -> CommandResult {
    let found = dead::list(context.pg().await?, filter, page.limit, page.cursor).await?;
    table::list(
        context,
        &found.items,
        &["id", "kind", "queue", "tenant", "reason", "died", "error"],
        cells,
    )?;
    if let Some(next) = found.next {
        context.hint(&format!("more: --cursor {next}"));
    }
    Ok(Exit::Done)
}

fn cells(letter: &DeadLetter) -> Vec<String> {
    vec![
        letter.id.to_string(),
        letter.kind.clone(),
        letter.queue.clone(),
        letter.tenant.clone(),
        letter.reason.clone(),
        table::time(letter.died_at),
        letter.error.clone(),
    ]
}

impl ManyArgs {
    /// The filter, if one was given or all are meant.
    fn filter(&self) -> Result<Filter, CommandError> {
        let filter = Filter {
            states: Vec::new(),
            ..self.names.clone().into_filter()
        };
        if filter.is_empty() && !self.all {
            return Err(CommandError::usage(
                "say which dead jobs: ids, --all, or one of --queue --kind --tenant --since",
            ));
        }
        Ok(Filter {
            states: vec![State::Dead],
            ..filter
        })
    }
}

async fn redrive(args: ManyArgs, context: &Invocation) -> CommandResult {
    if args.ids.is_empty() {
        return jobs::move_all(Move::Retry, &args.filter()?, args.yes, context).await;
    }
    let letters = dead::letters(context.pg().await?, &args.ids).await?;
    // A job that is only put off is retried, not redriven.
    if let Some(id) = args
        .ids
        .iter()
        .find(|id| !letters.iter().any(|letter| letter.id == **id))
    {
        return Err(CommandError::not_found(format!(
            "job {id} is not among the dead; \"millstream dead list\" shows those that are"
        )));
    }
    jobs::move_each(Move::Retry, &args.ids, context).await
}

async fn purge(args: ManyArgs, context: &Invocation) -> CommandResult {
    let pg = context.pg().await?;
    let actor = context.actor();
    if !args.yes {
        let (jobs, more) = if args.ids.is_empty() {
            Move::Retry.dry_run(pg, &args.filter()?).await?
        } else {
            (dead::letters(pg, &args.ids).await?.len() as u32, false)
        };
        let answer = serde_json::json!({"dry_run": true, "jobs": jobs, "at_least": more});
        let more = if more { "more than " } else { "" };
        return told(
            context,
            &answer,
            &format!(
                "{more}{} would be deleted for good; repeat with --yes to do it",
                table::count(jobs.into(), "dead job")
            ),
        );
    }
    let purged = if args.ids.is_empty() {
        dead::purge_all(pg, &args.filter()?, &actor).await?
    } else {
        let purged = dead::purge(pg, &args.ids, &actor).await?;
        if let Some(id) = args.ids.iter().find(|id| !purged.contains(id)) {
            return Err(CommandError::not_found(format!(
                "job {id} is not among the dead; {} others were deleted",
                purged.len()
            )));
        }
        purged.len() as u64
    };
    told(
        context,
        &serde_json::json!({"purged": purged}),
        &format!("{} deleted", table::count(purged, "dead job")),
    )
}
