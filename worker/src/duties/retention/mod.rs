//! Retention: finished jobs leave when their time is over, a day at a time, by dropping the day's partition (F63, B2).
//!
//! What must stay is moved to the default partition first: jobs that are not finished, dead ones, and those of tenants with a longer rule.
//! A tenant with a shorter rule has its jobs deleted one by one, in small steps. A run does a bounded amount of work and the next one goes
//! on. Nothing of the hot path waits for more than the two short locks of `millstream.seal_day` and `millstream.drop_day`; if somebody
//! holds the table for long, the day is dropped later.
//!
//! A day is *sealed* first, by a trigger that refuses new jobs, so that it can be looked through
//! without a lock. Then one transaction detaches it, inserts what must stay into the default
//! partition, and drops it. That transaction waits at most 0.2 s for its locks, and does nothing if
//! a rule has changed meanwhile. A day of which too much must stay is swept by deletes instead.

mod day;
mod forget;
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
/// After something was in the way.
const EVERY_AFTER_A_FAILURE: Duration = Duration::from_mins(1);
/// Work of one run: half of what a duty may take.
const RUN_MAX: Duration = Duration::from_secs(30);
/// A day that could not be dropped, because too much of it must stay, is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_hours(24);

pub(super) struct Retention {
    keep_days: Option<u32>,
    /// The day that is being looked through, across runs.
    looking: Option<day::Looking>,
    /// When too much of a day had to stay.
    kept: HashMap<NaiveDate, Instant>,
    next: Duration,
}

impl Retention {
    /// `keep_days`: how long finished jobs are kept; none: for ever. A new leader looks soon.
    pub(super) fn new(keep_days: Option<u32>) -> Self {
        Self {
            keep_days,
            looking: None,
            kept: HashMap::new(),
            next: EVERY_BUSY,
        }
    }
}

impl Duty for Retention {
    const NAME: &'static str = "retention";
    const SCOPE: Scope = Scope::Leader;

    fn every(&self, _: &Shared) -> Duration {
        self.next
    }

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<Ran, Outage> {
        self.next = EVERY_AFTER_A_FAILURE;
        let end = Instant::now() + RUN_MAX;
        let rules = Rules::read(shared, self.keep_days).await?;
        // A day that somebody holds is no reason to leave the others alone.
        let dropped = self.drop_days(shared, &rules, end).await;
        let forgotten = forget::dropped_days(shared, end).await?;
        let swept = sweep::days(shared, &rules, end).await?
            && sweep::default_partition(shared, &rules, end).await?
            && sweep::batches(shared, &rules, end).await?;
        self.next = if dropped? && forgotten && swept {
            EVERY
        } else {
            EVERY_BUSY
        };
        Ok(Ran::Done)
    }
}

impl Retention {
    /// All days that are over. False: the time is up.
    async fn drop_days(
        &mut self,
        shared: &Shared,
        rules: &Rules,
        end: Instant,
    ) -> Result<bool, Outage> {
        for day in rules.over(shared).await? {
            let is_new = self
                .kept
                .get(&day)
                .is_none_or(|since| since.elapsed() > LOOK_AGAIN);
            if is_new && !self.retire(shared, rules, day, end).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Drops a day, or leaves it for tomorrow. False: the time is up.
    async fn retire(
        &mut self,
        shared: &Shared,
        rules: &Rules,
        day: NaiveDate,
        end: Instant,
    ) -> Result<bool, Outage> {
        let looking = match self
            .looking
            .take()
            .filter(|looking| looking.is_of(day, rules))
        {
            Some(looking) => looking,
            None => day::Looking::begin(shared, day, rules).await?,
        };
        // Kept until it is known what has become of the day: after a failure it is not looked through again.
        let looking = self.looking.insert(looking);
        let retired = looking.go_on(shared, &rules.on(day), end).await?;
        if retired != Retired::NotYet {
            self.looking = None;
        }
        match retired {
            Retired::NotYet | Retired::Otherwise => {}
            Retired::TooMuchStays => {
                self.kept.insert(day, Instant::now());
            }
            Retired::Dropped { moved } => {
                self.kept.remove(&day);
                tracing::info!(%day, moved, "a day of finished jobs was dropped; those that must stay were moved out");
            }
        }
        Ok(!matches!(retired, Retired::NotYet | Retired::Otherwise))
    }
}
