//! Makes scheduled, retryable and rate-limited jobs available when their time has come (F5, F13).

use std::{sync::Arc, time::Duration};

use millstream_common::error::Outage;

use super::{Duty, Ran, Scope};
use crate::shared::Shared;

/// A job starts at most this much later than asked, plus one dispatch run.
const EVERY: Duration = Duration::from_millis(150);
/// Jobs released in one statement.
const BATCH: i32 = 2000;

pub(super) struct Due;

impl Duty for Due {
    const NAME: &'static str = "due";
    const SCOPE: Scope = Scope::Leader;

    fn every(&self, _: &Shared) -> Duration {
        EVERY
    }

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<Ran, Outage> {
        loop {
            let release = sqlx::query_scalar("SELECT millstream.release_due($1)").bind(BATCH);
            let released: i32 = shared.pg.hot("releasing due jobs").one(release).await?;
            if released < BATCH {
                return Ok(Ran::Done);
            }
        }
    }
}
