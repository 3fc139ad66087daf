//! Waiting for jobs to become final, by asking Postgres by primary key at growing intervals.
//!
//! Redis is not asked: it may be away, and its word would have to be checked anyway.

use std::{collections::HashMap, time::Duration};

use millstream_common::{id::JobId, pg::Pg, state::State};
use tokio::time::Instant;

use super::{Outage, moves::states};

/// A quick job is seen done this soon.
pub const INTERVAL_MIN: Duration = Duration::from_millis(20);
/// A slow one costs two look-ups a second.
pub const INTERVAL_MAX: Duration = Duration::from_millis(500);
/// Jobs asked about at a time; the others wait for their turn, since jobs end roughly in order.
const STEP_JOBS: usize = 500;

/// Growing pauses.
#[derive(Debug)]
pub struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(INTERVAL_MIN)
    }
}

impl Pauses {
    /// Sleeps and makes the next pause half as long again.
    pub async fn sleep_until(&mut self, deadline: Instant) {
        tokio::time::sleep_until(deadline.min(Instant::now() + self.0)).await;
        self.0 = (self.0 * 3 / 2).min(INTERVAL_MAX);
    }

    /// Something moved: look more often again.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// Where jobs stood when the waiting ended.
#[derive(Debug, Default)]
pub struct Waited {
    /// Jobs that became final.
    pub done: HashMap<JobId, State>,
    /// Jobs that did not before the deadline.
    pub open: Vec<JobId>,
    /// Ids without a job.
    pub missing: Vec<JobId>,
}

/// Waits until every job is final or the deadline has come. `told` hears of progress: how many are final so far.
/// An outage of Postgres shorter than `patience` is sat out.
pub async fn until_final(
    pg: &Pg,
    ids: &[JobId],
    deadline: Instant,
    patience: Duration,
    mut told: impl FnMut(usize),
) -> Result<Waited, Outage> {
    let mut waited = Waited::default();
    for step in ids.chunks(STEP_JOBS) {
        wait_for_step(pg, step, deadline, patience, &mut waited, &mut told).await?;
    }
    Ok(waited)
}

async fn wait_for_step(
    pg: &Pg,
    step: &[JobId],
    deadline: Instant,
    patience: Duration,
    waited: &mut Waited,
    told: &mut impl FnMut(usize),
) -> Result<(), Outage> {
    let mut open = step.to_vec();
    let mut pauses = Pauses::default();
    let mut silent_since = None;
    while !open.is_empty() {
        match states(pg, &open).await {
            Ok(found) => {
                silent_since = None;
                let before = waited.done.len();
                sort(&mut open, &found, waited);
                if waited.done.len() > before {
                    told(waited.done.len());
                    pauses.reset();
                }
            }
            Err(outage) if silent_since.get_or_insert_with(Instant::now).elapsed() >= patience => {
                return Err(outage);
            }
            Err(_) => {}
        }
        if open.is_empty() || Instant::now() >= deadline {
            break;
        }
        pauses.sleep_until(deadline).await;
    }
    waited.open.append(&mut open);
    Ok(())
}

/// Leaves in `open` what is neither final nor missing.
fn sort(open: &mut Vec<JobId>, found: &HashMap<JobId, State>, waited: &mut Waited) {
    open.retain(|id| match found.get(id) {
        Some(state) if state.is_final() => {
            waited.done.insert(*id, *state);
            false
        }
        Some(_) => true,
        None => {
            waited.missing.push(*id);
            false
        }
    });
}
