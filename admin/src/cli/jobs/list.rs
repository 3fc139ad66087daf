//! `millstream jobs list`.

use clap::Args;

use crate::{
    cli::{
        CommandResult, Exit, Invocation,
        filter::{FilterArgs, PageArgs},
        table,
    },
    ops::jobs::{self, Job},
};

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    page: PageArgs,
}

pub(super) async fn run(args: ListArgs, context: &Invocation) -> CommandResult {
    let page = jobs::list(
        context.pg().await?,
        &args.filter.into_filter(),
        args.page.limit,
        args.page.cursor,
    )
    .await?;
    table::list(
        context,
        &page.items,
        &[
            "id", "state", "kind", "queue", "priority", "try", "enqueued", "due", "worker", "error",
        ],
        cells,
    )?;
    if let Some(next) = page.next {
        context.hint(&format!("more: --cursor {next}"));
    }
    Ok(Exit::Done)
}

fn cells(job: &Job) -> Vec<String> {
    vec![
        job.id.to_string(),
        job.state.clone(),
        job.kind.clone(),
        job.queue.clone(),
        job.priority.clone(),
        format!("{}/{}", job.attempt, job.max_attempts),
        table::time(job.enqueued_at),
        table::maybe_time(job.run_at),
        table::maybe(job.worker.as_ref()),
        table::maybe(job.error.as_ref()),
    ]
}
