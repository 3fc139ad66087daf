//! Waiting in a case: for a number that a statement says, with a bound. It does not know what the number means.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

use crate::chaos::fleet::Fleet;

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Waits until a statement says the number; if it does not in time, that is a complaint. An error if Postgres does not say.
pub(super) async fn until(
    fleet: &Fleet,
    what: &str,
    sql: &str,
    wanted: i64,
    within: Duration,
) -> Result<()> {
    let began = Instant::now();
    loop {
        match fleet.number(sql).await {
            Ok(number) if number == wanted => return Ok(()),
            Ok(number) if began.elapsed() > within => {
                fleet.complain(format!(
                    "{what}: {number} instead of {wanted} within {} s",
                    within.as_secs()
                ));
                return Ok(());
            }
            Err(e) if began.elapsed() > within => return Err(e),
            _ => sleep(LOOK_EVERY).await,
        }
    }
}
