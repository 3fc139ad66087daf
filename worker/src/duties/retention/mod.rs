//! Retention: finished jobs leave when their time is over, a day at a time, by dropping the day's partition (F63, B2).
//!
//! What must stay is moved to the default partition first: jobs that are not finished, dead ones, and those of tenants with a longer rule.
//! A tenant with a shorter rule has its jobs deleted one by one, in small steps. A run does a bounded amount of work and the next one goes
//! on. Nothing of the hot path waits for more than the two short locks of `millstream.seal_day` and `millstream.drop_day`; if somebody
//! holds the table for long, the day is dropped later.

mod day;
mod rules;
mod sweep;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::NaiveDate;
use millstream_common::error::Outage;

use self::{day::Retired, rules::Rules};
use super::{Duty, Ran, Scope};
use crate::shared::Shared;

/// Days end once a day, and rules are changed by people.
const EVERY: Duration = Duration::from_mins(10);
/// While there is more to do.
const EVERY_BUSY: Duration = Duration::from_secs(5);
/// Work of one run: half of what a duty may take.
const RUN_MAX: Duration = Duration::from_secs(30);
/// A day that could not be dropped, because too much of it must stay, is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_hours(24);

pub(super) struct Retention {
    /// The day that is being looked through, across runs.
    looking: Option<day::Looking>,
    /// When too much of a day had to stay.
    kept: HashMap<NaiveDate, Instant>,
    is_busy: bool,
}

impl Default for Retention {
    /// A new leader looks soon.
    fn default() -> Self {
        Self { looking: None, kept: HashMap::new(), is_busy: true }
    }
}

impl Duty for Retention {
    const NAME: &'static str = "retention";
    const SCOPE: Scope = Scope::Leader;

    fn every(&self, _: &Shared) -> Duration {
        if self.is_busy { EVERY_BUSY } else { EVERY }
    }

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<Ran, Outage> {
        // What fails because somebody holds a lock is not tried again at once.
        self.is_busy = false;
        let end = Instant::now() + RUN_MAX;
        let rules = Rules::read(shared).await?;
        for day in rules.over(shared).await? {
            let is_new = self.kept.get(&day).is_none_or(|since| since.elapsed() > LOOK_AGAIN);
            if is_new && !self.retire(shared, &rules, day, end).await? {
                self.is_busy = true;
                return Ok(Ran::Done);
            }
        }
        self.is_busy = !sweep::days(shared, &rules, end).await? || !sweep::default_partition(shared, &rules, end).await?;
        Ok(Ran::Done)
    }
}

impl Retention {
    /// Drops a day, or leaves it for tomorrow. False: the time is up.
    async fn retire(&mut self, shared: &Shared, rules: &Rules, day: NaiveDate, end: Instant) -> Result<bool, Outage> {
        let looking = self.looking.take().filter(|looking| looking.day() == day);
        let mut looking = match looking {
            Some(looking) => looking,
            None => day::Looking::begin(shared, day).await?,
        };
        let retired = looking.go_on(shared, &rules.on(day), end).await?;
        match retired {
            Retired::NotYet => self.looking = Some(looking),
            Retired::TooMuchStays => {
                self.kept.insert(day, Instant::now());
            }
            Retired::Dropped { moved } => {
                self.kept.remove(&day);
                tracing::info!(%day, moved, "a day of finished jobs was dropped; those that must stay were moved out");
            }
        }
        Ok(retired != Retired::NotYet)
    }
}
