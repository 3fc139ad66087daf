//! Queues that are added while this worker runs: seen within seconds, without a restart.
//!
//! Every worker learns their names, since its duties look at the streams of all queues. One that was told no queues reads them too: it says so
//! in its row, by which dispatch decides who serves a queue, and starts a reader. It does not know who adds queues.

use std::{sync::Arc, time::Duration};

use millstream_common::{
    error::{Outage, in_full},
    tasks::Tasks,
};

use super::reader::Reader;
use crate::{queues::Queue, run::Runs, shared::Shared};

/// How often is looked: a person who has added a queue waits no longer than this, and a look is one small statement.
const EVERY: Duration = Duration::from_secs(2);
/// `/livez` fails when the loop has not turned for this long: a look and a change of the row, each with its deadline.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// Looks until the worker drains. `readers`: where the readers of new queues run.
pub(crate) async fn run(runs: Arc<Runs>, readers: Tasks, reads_all: bool) {
    let shared = &runs.shared;
    while !shared.signals.draining.is_cancelled() {
        shared.pulses.turn("added queues", SILENCE_MAX);
        if let Err(outage) = look(&runs, &readers, reads_all).await {
            tracing::debug!(error = %in_full(&outage), "could not look for added queues; the next look will");
        }
        tokio::select! { () = tokio::time::sleep(EVERY) => {}, () = shared.signals.draining.cancelled() => {} }
    }
    shared.pulses.end("added queues");
}

async fn look(runs: &Arc<Runs>, readers: &Tasks, reads_all: bool) -> Result<(), Outage> {
    let shared = &runs.shared;
    let known: Vec<_> = shared
        .catalog
        .queues()
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    if are_more(shared, &known).await? {
        shared.catalog.refresh().await?;
    }
    if !reads_all {
        return Ok(());
    }
    let mine = shared.serves.queues.ids();
    let new: Vec<_> = shared
        .catalog
        .queues()
        .into_iter()
        .filter(|(id, _)| !mine.contains(id))
        .collect();
    let new: Vec<_> = new
        .into_iter()
        .map(|(id, name)| Queue { id, name })
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    register(
        shared,
        mine.into_iter()
            .chain(new.iter().map(|queue| queue.id))
            .collect(),
    )
    .await?;
    shared.serves.queues.add(&new);
    for queue in new {
        tracing::info!(queue = %queue.name, "a queue was added; this worker reads it now");
        readers.spawn(Reader::new(runs.clone(), queue).run());
    }
    Ok(())
}

async fn are_more(shared: &Shared, known: &[i32]) -> Result<bool, Outage> {
    let query =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM millstream.queue WHERE id <> ALL($1))")
            .bind(known);
    shared.pg.main("looking for added queues").one(query).await
}

/// From here on dispatch may give this worker what is in those queues.
async fn register(shared: &Shared, queues: Vec<i32>) -> Result<(), Outage> {
    let update = sqlx::query("UPDATE millstream.worker SET queues = $2 WHERE id = $1")
        .bind(shared.worker_id)
        .bind(queues);
    let loan = shared.pg.main("registering added queues");
    loan.execute(update).await.map(drop)
}
