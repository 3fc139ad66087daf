//! Reads what is paused, for the jobs that this process has in hand and has not started (X71).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_common::{closed::Closed, error::Outage};

use super::{Duty, Ran, Scope};
use crate::shared::Shared;

/// Often enough that a look may come late, or fail once, before what is known is too old to start anything.
const EVERY: Duration = Duration::from_millis(500);

pub(super) struct Pauses;

impl Duty for Pauses {
    const NAME: &'static str = "pauses";
    const SCOPE: Scope = Scope::Everywhere;

    fn every(&self, _: &Shared) -> Duration {
        EVERY
    }

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<Ran, Outage> {
        match look(shared).await {
            Ok((asked_at, closed)) => shared.work.pauses.note(asked_at, closed),
            Err(outage) => {
                // What keeps everything from starting is told already.
                if shared.contact.is_up() {
                    shared.work.pauses.note_failure(outage.word());
                }
                return Err(outage);
            }
        }
        Ok(Ran::Done)
    }
}

async fn look(shared: &Shared) -> Result<(Instant, Closed), Outage> {
    let mut lent = shared.pg.hot("looking for what is paused").await?;
    let asked_at = Instant::now();
    let closed = lent.one(Closed::read()).await?;
    Ok((asked_at, closed))
}
