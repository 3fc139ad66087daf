//! `millstream documents list`.

use clap::Args;
use uuid::Uuid;

use crate::{
    cli::{CommandResult, Exit, Invocation, table},
    ops::{
        PAGE_ROWS, PAGE_ROWS_MAX,
        documents::{self, Document},
    },
};

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// In this state
    #[arg(long, value_parser = ["running", "completed", "failed"])]
    state: Option<String>,
    /// Rows on a page, 500 at most
    #[arg(long, default_value_t = PAGE_ROWS, value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE_ROWS_MAX)))]
    limit: u32,
    /// The page after this id, which is the last one of the page before
    #[arg(long, value_name = "ID")]
    cursor: Option<Uuid>,
}

pub(super) async fn run(args: ListArgs, context: &Invocation) -> CommandResult {
    let page = documents::list(
        context.pg().await?,
        args.state.as_deref(),
        args.limit,
        args.cursor,
    )
    .await?;
    table::list(
        context,
        &page.items,
        &[
            "id", "name", "state", "progress", "stage", "items", "pages", "size", "added", "error",
        ],
        cells,
    )?;
    if let Some(next) = page.next {
        context.hint(&format!("more: --cursor {next}"));
    }
    Ok(Exit::Done)
}

fn cells(document: &Document) -> Vec<String> {
    let stage = document.current_stage();
    vec![
        document.id.to_string(),
        document.name.clone(),
        document.state.clone(),
        format!("{:.0} %", document.progress.floor()),
        table::maybe(stage.map(|s| s.stage.as_str())),
        table::maybe(
            stage.map(|s| format!("{}/{}", s.completed_items + s.failed_items, s.total_items)),
        ),
        table::maybe(document.pages),
        table::bytes(document.bytes),
        table::time(document.created_at),
        table::maybe(document.error.as_ref()),
    ]
}
