//! Creates the daily partitions of the job table ahead of time.

use std::{sync::Arc, time::Duration};

use millstream_common::error::Outage;

use super::{Duty, Ran, Scope};
use crate::shared::Shared;

/// Ids further ahead than this go to the default partition, which loses nothing.
const DAYS_AHEAD: i32 = 7;

pub(super) struct Partitions;

impl Duty for Partitions {
    const NAME: &'static str = "partitions";
    const SCOPE: Scope = Scope::Leader;

    fn every(&self, _: &Shared) -> Duration {
        Duration::from_mins(4)
    }

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<Ran, Outage> {
        let make = sqlx::query_scalar("SELECT millstream.ensure_partitions($1)").bind(DAYS_AHEAD);
        let made: i32 = shared.pg.main("creating partitions").one(make).await?;
        if made > 0 {
            tracing::info!(made, "partitions of the job table were created");
        }
        Ok(Ran::Done)
    }
}
