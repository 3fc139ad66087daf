//! `millstream jobs cancel` and `retry`: given jobs at once, or all that the filters mean after a look at how many.

use clap::Args;
use millstream_common::id::JobId;

use crate::{
    cli::{CommandError, CommandResult, Exit, Invocation, filter::FilterArgs, table},
    ops::{
        jobs::Filter,
        moves::{Move, Moved},
    },
};

#[derive(Debug, Args)]
pub(super) struct MoveArgs {
    /// Which jobs; or use filters
    #[arg(value_name = "ID", conflicts_with_all = ["state", "queue", "kind", "tenant", "since", "yes"])]
    ids: Vec<JobId>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Do it to all that the filters mean; without it only tells how many
    #[arg(long)]
    yes: bool,
}

pub(super) async fn cancel(args: MoveArgs, context: &Invocation) -> CommandResult {
    run(Move::Cancel, args, context).await
}

pub(super) async fn retry(args: MoveArgs, context: &Invocation) -> CommandResult {
    run(Move::Retry, args, context).await
}

async fn run(action: Move, args: MoveArgs, context: &Invocation) -> CommandResult {
    let filter = args.filter.into_filter();
    if !args.ids.is_empty() {
        return each(action, &args.ids, context).await;
    }
    if filter.is_empty() {
        return Err(CommandError::usage(
            "say which jobs: ids, or one of --state --queue --kind --tenant --since",
        ));
    }
    all(action, &filter, args.yes, context).await
}

/// Moves these jobs and prints what became of each. Also `dead redrive`.
pub(in crate::cli) async fn each(
    action: Move,
    ids: &[JobId],
    context: &Invocation,
) -> CommandResult {
    let moved = action
        .each(context.pg().await?, ids, &context.actor())
        .await?;
    for one in moved.iter().filter(|one| one.done || context.json) {
        print(one, action, context)?;
    }
    moved
        .iter()
        .find(|one| !one.done)
        .map_or(Ok(Exit::Done), |one| Err(refusal(one, action)))
}

/// Moves all that the filter means, or tells how many these are. Also `dead redrive`.
pub(in crate::cli) async fn all(
    action: Move,
    filter: &Filter,
    yes: bool,
    context: &Invocation,
) -> CommandResult {
    let pg = context.pg().await?;
    if yes {
        let jobs = action.all(pg, filter, &context.actor()).await?;
        let text = format!("{} made {}", table::count(jobs, "job"), action.target());
        return told(
            context,
            &serde_json::json!({"moved": jobs, "to": action.target()}),
            &text,
        );
    }
    let (jobs, more) = action.dry_run(pg, filter).await?;
    let answer = serde_json::json!({"dry_run": true, "jobs": jobs, "at_least": more});
    let more = if more { "more than " } else { "" };
    told(
        context,
        &answer,
        &format!(
            "{more}{} would become {}; repeat with --yes to do it",
            table::count(jobs.into(), "job"),
            action.target()
        ),
    )
}

/// Prints the answer in one of its two forms.
pub(in crate::cli) fn told(
    context: &Invocation,
    answer: &serde_json::Value,
    text: &str,
) -> CommandResult {
    if context.json {
        table::json(answer)?;
    } else {
        table::line(text)?;
    }
    Ok(Exit::Done)
}

fn print(one: &Moved, action: Move, context: &Invocation) -> Result<(), CommandError> {
    if context.json {
        table::json(one)
    } else {
        table::line(&format!("{} {}", one.id, action.target()))
    }
}

fn refusal(one: &Moved, action: Move) -> CommandError {
    match (one.state, action) {
        (None, _) => CommandError::not_found(format!("there is no job {}", one.id)),
        (Some(state), Move::Cancel) => CommandError::refused(format!(
            "job {} is {state}: only jobs that have not ended can be cancelled",
            one.id
        )),
        (Some(state), Move::Retry) => CommandError::refused(format!(
            "job {} is {state}: only scheduled, retryable, rate_limited and dead jobs can be retried",
            one.id
        )),
    }
}
