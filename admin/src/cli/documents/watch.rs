//! `millstream documents wait`: live progress until every document is done.

use std::time::Duration;

use clap::Args;
use tokio::time::Instant;
use uuid::Uuid;

use super::{bars::View, print_summaries};
use crate::{
    cli::{CommandError, CommandResult, Exit, Invocation, table},
    ops::documents::{self, Document},
};

/// Quick enough that progress looks live, slow enough that a hundred watchers are no load.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A restart of Postgres is sat out.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// Which documents
    #[arg(required = true, value_name = "ID")]
    ids: Vec<Uuid>,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    timeout: u64,
}

pub(super) async fn run(args: WaitArgs, context: &Invocation) -> CommandResult {
    let found = documents::show(context.pg().await?, &args.ids).await?;
    if let Some(id) = args
        .ids
        .iter()
        .find(|id| !found.iter().any(|d| d.id == **id))
    {
        return Err(CommandError::not_found(format!(
            "there is no document {id}"
        )));
    }
    let all_well = watch(context, &args.ids, Duration::from_secs(args.timeout)).await?;
    print_summaries(context, &args.ids).await?;
    Ok(if all_well { Exit::Done } else { Exit::Failed })
}

/// Shows progress on stderr until all of these documents are done, or fails after `limit`. Returns whether all have
/// completed. Documents that do not exist count as done.
pub async fn watch(
    context: &Invocation,
    ids: &[Uuid],
    limit: Duration,
) -> Result<bool, CommandError> {
    let pg = context.pg().await?;
    let deadline = Instant::now() + limit;
    let mut view = View::new(context);
    let mut answered = Instant::now();
    let mut open: Vec<Uuid> = ids.to_vec();
    let mut all_well = true;
    loop {
        match documents::show(pg, &open).await {
            Ok(documents) => {
                answered = Instant::now();
                view.update(&documents);
                all_well &= !documents.iter().any(|d| d.state == "failed");
                open = documents
                    .iter()
                    .filter(|d| !d.is_final())
                    .map(|d| d.id)
                    .collect();
            }
            Err(outage) if answered.elapsed() >= PATIENCE => return Err(outage.into()),
            Err(outage) => tracing::warn!("{}", millstream_common::error::in_full(&outage)),
        }
        if open.is_empty() {
            return Ok(all_well);
        }
        if Instant::now() >= deadline {
            return Err(late(open.len(), limit));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn late(open: usize, limit: Duration) -> CommandError {
    CommandError::failed(format!(
        "not done after {} s: {}; \"millstream documents show ID\" says where they are",
        limit.as_secs(),
        table::count(open as u64, "document")
    ))
}

/// One line on where a document is.
pub(super) fn line(document: &Document) -> String {
    let stage = document.current_stage().map_or_else(String::new, |s| {
        let items = if s.total_items > 0 {
            format!(" {}/{}", s.completed_items + s.failed_items, s.total_items)
        } else {
            String::new()
        };
        format!("{}{items}", s.stage)
    });
    match (document.state.as_str(), &document.error) {
        ("completed", _) => "completed".into(),
        ("failed", Some(error)) => format!("failed: {error}"),
        ("failed", None) => format!("failed in {stage}"),
        _ => stage,
    }
}
