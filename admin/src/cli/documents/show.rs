//! `millstream documents show`, and the table of what documents yielded.

use clap::Args;
use uuid::Uuid;

use super::report;
use crate::{
    cli::{CommandError, CommandResult, Exit, Invocation, table},
    ops::documents::{self, Document, Stage, Summary},
};

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Which documents
    #[arg(required = true, value_name = "ID")]
    ids: Vec<Uuid>,
    /// Where the table of pages begins; it has 500 pages at most
    #[arg(long, value_name = "PAGE", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    from_page: i32,
}

pub(super) async fn run(args: ShowArgs, context: &Invocation) -> CommandResult {
    let pg = context.pg().await?;
    for (nth, id) in args.ids.iter().enumerate() {
        let document = documents::one(pg, *id, args.from_page).await?;
        let document = &document
            .ok_or_else(|| CommandError::not_found(format!("there is no document {id}")))?;
        if nth > 0 && !context.json {
            table::line("")?;
        }
        table::one(context, document, fields)?;
        if !context.json {
            table::line(&table::render(
                &[
                    "stage", "state", "progress", "items", "done", "failed", "now at",
                ],
                document.stages.iter().map(stage),
            ))?;
            report::print(context, document)?;
        }
    }
    Ok(Exit::Done)
}

fn fields(document: &Document) -> Vec<(&'static str, String)> {
    vec![
        ("id", document.id.to_string()),
        ("name", document.name.clone()),
        ("state", document.state.clone()),
        ("progress", format!("{:.0} %", document.progress.floor())),
        ("tenant", document.tenant.clone()),
        ("size", table::bytes(document.bytes)),
        ("sha256", document.sha256.clone()),
        ("pages", table::maybe(document.pages)),
        ("title", table::maybe(document.title.as_ref())),
        ("added", table::time(document.created_at)),
        ("finished", table::maybe_time(document.finished_at)),
        ("error", table::maybe(document.error.as_ref())),
    ]
}

fn stage(stage: &Stage) -> Vec<String> {
    vec![
        stage.stage.clone(),
        stage.state.clone(),
        format!("{:.0} %", stage.progress.floor()),
        stage.total_items.to_string(),
        stage.completed_items.to_string(),
        stage.failed_items.to_string(),
        table::maybe(stage.current_item.as_ref()),
    ]
}

/// Prints what documents yielded: a table, or one JSON object per line.
pub async fn print_summaries(context: &Invocation, ids: &[Uuid]) -> Result<(), CommandError> {
    let summaries = documents::summaries(context.pg().await?, ids).await?;
    table::list(
        context,
        &summaries,
        &[
            "document", "state", "progress", "pages", "images", "chunks", "products", "notes",
            "time", "error",
        ],
        summary,
    )
}

fn summary(summary: &Summary) -> Vec<String> {
    vec![
        summary.name.clone(),
        summary.state.clone(),
        format!("{:.0} %", summary.progress.floor()),
        table::maybe(summary.pages),
        summary.images.to_string(),
        summary.chunks.to_string(),
        summary.products.to_string(),
        summary.notes.to_string(),
        table::seconds(summary.seconds),
        table::maybe(summary.error.as_ref()),
    ]
}
