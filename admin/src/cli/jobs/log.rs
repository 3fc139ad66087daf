//! `millstream jobs log`.

use clap::Args;
use millstream_common::id::JobId;

use crate::{
    cli::{CommandError, CommandResult, Exit, Invocation, table},
    ops::{
        PAGE_ROWS, PAGE_ROWS_MAX, jobs,
        logs::{self, LogLine},
    },
};

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// Which job
    #[arg(value_name = "ID")]
    id: JobId,
    /// Lines on a page, 500 at most
    #[arg(long, default_value_t = PAGE_ROWS, value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE_ROWS_MAX)))]
    limit: u32,
    /// The lines before this one, as the page after them says
    #[arg(long, value_name = "LINE")]
    cursor: Option<i64>,
}

pub(super) async fn run(args: LogArgs, context: &Invocation) -> CommandResult {
    let pg = context.pg().await?;
    let mut page = logs::page(pg, args.id, args.limit, args.cursor).await?;
    if page.items.is_empty() && jobs::one(pg, args.id).await?.is_none() {
        return Err(CommandError::not_found(format!(
            "there is no job {}",
            args.id
        )));
    }
    // On a screen the newest line stands last.
    page.items.reverse();
    if let Some(next) = page.next {
        context.hint(&older(args.id, next));
    }
    for line in &page.items {
        if context.json {
            table::json(line)?;
        } else {
            table::line(&told(line))?;
        }
    }
    Ok(Exit::Done)
}

/// Where the lines are that are not shown.
pub(super) fn older(id: JobId, next: i64) -> String {
    format!("older lines: millstream jobs log {id} --cursor {next}")
}

/// One line with its time and its try.
pub(super) fn told(line: &LogLine) -> String {
    let attempt = table::maybe(line.attempt.map(|attempt| format!("try {attempt}")));
    table::printable(&format!(
        "{} {attempt}  {}",
        line.at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        line.line
    ))
}
