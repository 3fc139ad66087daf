//! How long jobs are kept: by the configuration, or by their tenant's own rule. Counted from the end of the day on which they were enqueued.

use chrono::{DateTime, Days, NaiveDate, Utc};
use millstream_common::error::Outage;

use crate::shared::Shared;

/// All rules, as of now by the clock of Postgres.
pub(super) struct Rules {
    today: NaiveDate,
    read_at: DateTime<Utc>,
    /// All of the tenants' rules, for a comparison: whoever is told that his jobs are kept must not lose them to an older rule.
    print: String,
    /// None: for ever.
    keep_days: Option<u32>,
    /// Tenants with a rule of their own.
    own: Vec<(i32, u32)>,
}

/// Whose finished jobs of one day have had their time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expired {
    /// Everybody's who has no rule of his own.
    pub(super) by_default: bool,
    /// But not these.
    pub(super) longer: Vec<i32>,
    /// And these.
    pub(super) own: Vec<i32>,
}

impl Rules {
    pub(super) async fn read(shared: &Shared, keep_days: Option<u32>) -> Result<Self, Outage> {
        // One statement: the print is that of these very rules.
        let query = sqlx::query_as::<_, (NaiveDate, DateTime<Utc>, String, Vec<i32>, Vec<i32>)>(
            "SELECT (now() AT TIME ZONE 'UTC')::date, now(), millstream.rules(),
               ARRAY(SELECT id FROM millstream.tenant WHERE keep_days IS NOT NULL ORDER BY id),
               ARRAY(SELECT keep_days FROM millstream.tenant WHERE keep_days IS NOT NULL ORDER BY id)",
        );
        let loan = shared.pg.hot("reading the rules of retention");
        let (today, read_at, print, tenants, days) = loan.one(query).await?;
        let own = tenants
            .into_iter()
            .zip(days.into_iter().map(i32::unsigned_abs))
            .collect();
        Ok(Self {
            today,
            read_at,
            print,
            keep_days,
            own,
        })
    }

    /// The days that are over for everybody without a rule of his own, oldest first.
    pub(super) async fn over(&self, shared: &Shared) -> Result<Vec<NaiveDate>, Outage> {
        let Some(last) = self.keep_days.and_then(|days| self.last_over(days)) else {
            return Ok(Vec::new());
        };
        days_until(shared, last).await
    }

    /// The days on which the rule of `keep_days` is over.
    pub(super) fn last_over(&self, keep_days: u32) -> Option<NaiveDate> {
        self.today
            .checked_sub_days(Days::new(u64::from(keep_days) + 1))
    }

    /// The rules in use that are not the default, shortest first, and the default if there is one.
    pub(super) fn lengths(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self
            .own
            .iter()
            .map(|(_, days)| *days)
            .chain(self.keep_days)
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    pub(super) fn read_at(&self) -> DateTime<Utc> {
        self.read_at
    }

    pub(super) fn print(&self) -> &str {
        &self.print
    }

    /// For ever: none.
    pub(super) fn keep_days(&self) -> Option<u32> {
        self.keep_days
    }

    pub(super) fn on(&self, day: NaiveDate) -> Expired {
        let is_over = |days: u32| self.last_over(days).is_some_and(|last| day <= last);
        let (own, longer) = self
            .own
            .iter()
            .partition::<Vec<_>, _>(|(_, days)| is_over(*days));
        let ids =
            |tenants: Vec<(i32, u32)>| tenants.into_iter().map(|(tenant, _)| tenant).collect();
        Expired {
            by_default: self.keep_days.is_some_and(is_over),
            longer: ids(longer),
            own: ids(own),
        }
    }
}

/// Days with a partition of their own, up to that one, oldest first.
pub(super) async fn days_until(shared: &Shared, last: NaiveDate) -> Result<Vec<NaiveDate>, Outage> {
    let query =
        sqlx::query_scalar("SELECT day FROM millstream.days() WHERE day <= $1 ORDER BY day")
            .bind(last);
    shared.pg.hot("listing the days of jobs").all(query).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(keep_days: Option<u32>) -> Rules {
        let today = NaiveDate::default() + Days::new(100);
        Rules {
            today,
            read_at: DateTime::default(),
            print: String::new(),
            keep_days,
            own: vec![(1, 7), (2, 90)],
        }
    }

    fn day(ago: u64) -> NaiveDate {
        NaiveDate::default() + Days::new(100) - Days::new(ago)
    }

    #[test]
    fn a_day_counts_from_its_end_and_each_tenant_by_its_own_rule() {
        let expired = |by_default, longer: &[i32], own: &[i32]| Expired {
            by_default,
            longer: longer.into(),
            own: own.into(),
        };
        assert_eq!(rules(Some(30)).on(day(31)), expired(true, &[2], &[1]));
        assert_eq!(rules(Some(30)).on(day(30)), expired(false, &[2], &[1]));
        assert_eq!(rules(None).on(day(99)), expired(false, &[], &[1, 2]));
        assert_eq!(rules(None).on(day(7)), expired(false, &[1, 2], &[]));
        assert_eq!(rules(Some(30)).lengths(), [7, 30, 90]);
    }
}
