//! `millstream jobs wait`.

use std::time::Duration;

use clap::Args;
use millstream_common::{id::JobId, state::State};
use tokio::time::Instant;

use super::print_outcome;
use crate::{
    cli::{CommandError, CommandResult, Exit, Invocation},
    ops::{jobs, wait},
};

/// A restart of Postgres is sat out.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// Which jobs
    #[arg(required = true, value_name = "ID")]
    ids: Vec<JobId>,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    timeout: u64,
}

pub(super) async fn run(args: WaitArgs, context: &Invocation) -> CommandResult {
    let pg = context.pg().await?;
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let waited = wait::until_final(pg, &args.ids, deadline, PATIENCE, |_| {}).await?;
    for job in jobs::show(pg, &args.ids).await?.iter().rev() {
        print_outcome(job, context)?;
    }
    if let Some(id) = waited.missing.first() {
        return Err(CommandError::not_found(format!("there is no job {id}")));
    }
    if let Some(id) = waited.open.first() {
        let text = format!(
            "{} of {} jobs have not ended after {} s; \"millstream jobs explain {id}\" says why",
            waited.open.len(),
            args.ids.len(),
            args.timeout
        );
        return Err(CommandError::failed(text));
    }
    let completed = waited.done.values().all(|state| *state == State::Completed);
    Ok(if completed { Exit::Done } else { Exit::Failed })
}
