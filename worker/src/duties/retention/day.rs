//! One day: sealed, looked through for what must stay, dropped.

use std::time::Instant;

use chrono::NaiveDate;
use millstream_common::{error::Outage, id::JobId};
use sqlx::Row;

use super::rules::{Expired, Rules};
use crate::shared::Shared;

/// More than this is not moved while everybody waits: the day stays, and what has expired of it is deleted.
pub(super) const STAY_MAX: usize = 5_000;
/// Jobs looked at in one statement.
const SLICE: i64 = 100_000;

/// What became of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retired {
    NotYet,
    TooMuchStays,
    /// The rules have changed meanwhile.
    Otherwise,
    Dropped {
        moved: i64,
    },
}

/// A day that is sealed, as far as it has been looked through.
pub(super) struct Looking {
    day: NaiveDate,
    /// By which rules.
    print: String,
    after: JobId,
    /// Jobs that must stay.
    stay: Vec<JobId>,
}

impl Looking {
    pub(super) async fn begin(
        shared: &Shared,
        day: NaiveDate,
        rules: &Rules,
    ) -> Result<Self, Outage> {
        let seal = sqlx::query("SELECT millstream.seal_day($1)").bind(day);
        shared.pg.hot("sealing a day of jobs").execute(seal).await?;
        Ok(Self {
            day,
            print: rules.print().to_owned(),
            after: JobId::nil(),
            stay: Vec::new(),
        })
    }

    pub(super) fn is_of(&self, day: NaiveDate, rules: &Rules) -> bool {
        self.day == day && self.print == rules.print()
    }

    /// Until the day is dropped, or it is clear that it stays, or `end`.
    pub(super) async fn go_on(
        &mut self,
        shared: &Shared,
        expired: &Expired,
        end: Instant,
    ) -> Result<Retired, Outage> {
        while self.look(shared, expired).await? {
            if self.stay.len() > STAY_MAX {
                unseal(shared, self.day).await?;
                return Ok(Retired::TooMuchStays);
            }
            if Instant::now() > end {
                return Ok(Retired::NotYet);
            }
        }
        let query = sqlx::query_scalar("SELECT millstream.drop_day($1, $2, $3)")
            .bind(self.day)
            .bind(&self.stay)
            .bind(&self.print);
        let moved: Option<i64> = shared.pg.hot("dropping a day of jobs").one(query).await?;
        Ok(moved.map_or(Retired::Otherwise, |moved| Retired::Dropped { moved }))
    }

    /// Looks at the next slice; false if there is none. Finished jobs never come to life again and no job comes in any more, so what is
    /// found here is all that must stay.
    async fn look(&mut self, shared: &Shared, expired: &Expired) -> Result<bool, Outage> {
        let query = sqlx::query(
            "WITH slice AS (SELECT id, state, tenant_id FROM millstream.job
               WHERE id > $1 AND id >= millstream.uuid_at($2::date::timestamp AT TIME ZONE 'UTC')
                 AND id < millstream.uuid_at(($2::date + 1)::timestamp AT TIME ZONE 'UTC') ORDER BY id LIMIT $3)
             SELECT (SELECT id FROM slice ORDER BY id DESC LIMIT 1) AS last,
               ARRAY(SELECT id FROM slice
                 WHERE NOT (state IN (2, 7) AND ($4 AND tenant_id <> ALL($5) OR tenant_id = ANY($6))) LIMIT $7) AS stay",
        )
        .bind(self.after)
        .bind(self.day)
        .bind(SLICE)
        .bind(expired.by_default)
        .bind(&expired.longer)
        .bind(&expired.own)
        .bind(STAY_MAX as i64 + 1);
        let row = shared
            .pg
            .hot("looking through a day of jobs")
            .one(query)
            .await?;
        let Some(last) = row.get::<Option<JobId>, _>("last") else {
            return Ok(false);
        };
        self.after = last;
        self.stay.extend(row.get::<Vec<JobId>, _>("stay"));
        Ok(true)
    }
}

/// It stays: jobs with ids of that day are taken again.
async fn unseal(shared: &Shared, day: NaiveDate) -> Result<(), Outage> {
    let mut lent = shared.pg.hot("unsealing a day of jobs").await?;
    let unseal = sqlx::query("SELECT millstream.unseal_day($1)").bind(day);
    lent.execute(unseal).await?;
    // What ends in it later is swept then.
    let forget = sqlx::query("DELETE FROM millstream.swept WHERE day = $1").bind(day);
    lent.execute(forget).await?;
    Ok(())
}
