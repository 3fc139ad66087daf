//! `millstream jobs explain`.

use clap::Args;
use millstream_common::id::JobId;

use crate::{
    cli::{CommandError, CommandResult, Exit, Invocation, table},
    ops::explain::explain,
};

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Which job
    #[arg(value_name = "ID")]
    id: JobId,
}

pub(super) async fn run(args: ExplainArgs, context: &Invocation) -> CommandResult {
    let told = explain(context.pg().await?, args.id)
        .await?
        .ok_or_else(|| CommandError::not_found(format!("there is no job {}", args.id)))?;
    if context.json {
        table::json(&told)?;
        return Ok(Exit::Done);
    }
    table::line(&table::printable(&format!("{}: {}", told.state, told.text)))?;
    if let Some(advice) = &told.advice {
        table::line(&table::printable(advice))?;
    }
    Ok(Exit::Done)
}
