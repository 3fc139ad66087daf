//! `millstream worker`: a process that runs the kinds in the box.

use millstream_common::{config::Config, error::in_full, tasks::Tasks};
use millstream_documents as documents;
use millstream_kinds::built_in;
use millstream_worker::{
    Handler, Parts,
    program::{Serving, WorkerArgs},
};
use tokio_util::sync::CancellationToken;

use super::{CommandError, CommandResult, Invocation};
use crate::ops::upload::{keep_swept, open_store};

/// Runs jobs of the kinds in the box until told to stop, and keeps the object store swept meanwhile.
pub(super) async fn run(args: WorkerArgs, context: &Invocation) -> CommandResult {
    let is_child = args.child;
    let config = args.over(context.config.clone());
    let serving = Serving::open(&config, is_child).await?;
    let parts = Parts {
        handlers: all_handlers(&config)?,
        metrics: context.metrics().await?.clone(),
        config,
        isolation: None,
    };
    if is_child {
        return serving.run(parts).await;
    }
    // Before the worker registers: what can fail at a start must not end a worker that works.
    let (pg, store) = (
        context.pg().await?.clone(),
        open_store(&context.config.objects.url)?,
    );
    let (tasks, end) = (Tasks::new(), CancellationToken::new());
    tasks.spawn(keep_swept(pg, store, end.clone()));
    let outcome = serving.run(parts).await;
    end.cancel();
    outcome
}

/// Handlers of all kinds in the box.
fn all_handlers(config: &Config) -> Result<Vec<Handler>, CommandError> {
    let wrong = |e: &dyn std::error::Error| CommandError::usage(in_full(e));
    let mut all = built_in(config).map_err(|e| wrong(&e))?;
    all.extend(documents::configured(config).map_err(|e| wrong(&e))?);
    Ok(all)
}
