//! Creates the daily partitions of the job table ahead of time.

use std::{sync::Arc, time::Duration};

use millstream_common::{error::Outage, pg::within};

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
        let op = "creating partitions";
        let mut lent = shared.pg.main(op).await?;
        let made: i32 = within(
            op,
            sqlx::query_scalar("SELECT millstream.ensure_partitions($1)")
                .bind(DAYS_AHEAD)
                .fetch_one(lent.conn()),
        )
        .await?;
        lent.done();
        if made > 0 {
            tracing::info!(made, "partitions of the job table were created");
        }
        Ok(Ran::Done)
    }
}
