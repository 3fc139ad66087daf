//! Who keeps house: a term with a beat, in one row.
//!
//! A candidate takes over when the beat has not moved for [`TAKEOVER_AFTER`] of successful looks on its own monotonic clock. The
//! leader's own belief ends when it has not been confirmed for [`TRUST`], which is shorter: two leaders overlap rarely, and harmlessly.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use millstream_common::{error::Outage, pg::within};
use sqlx::{PgConnection, Row};

use super::{Duty, Scope};
use crate::shared::Shared;

pub(super) const NAME: &str = "lead";
/// Time between beats and between looks.
const BEAT_EVERY: Duration = Duration::from_millis(500);
/// Silence after which somebody else leads.
const TAKEOVER_AFTER: Duration = Duration::from_secs(3);
/// How long a confirmed leadership is believed.
const TRUST: Duration = Duration::from_secs(2);
/// Nobody: left by a leader that ended in order.
const VACANT: i64 = 0;

/// This process's belief about its leadership. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Leadership(Arc<Mutex<Option<(i64, Instant)>>>);

impl Leadership {
    /// Whether this process led within the last two seconds.
    pub(super) fn is_mine(&self) -> bool {
        self.term().is_some()
    }

    fn term(&self) -> Option<i64> {
        let belief = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        belief.filter(|(_, at)| at.elapsed() < TRUST).map(|(term, _)| term)
    }

    fn set(&self, term: Option<i64>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = term.map(|term| (term, Instant::now()));
    }

    /// Leaves the row vacant, so that the next one leads at once.
    pub(super) async fn resign(&self, shared: &Shared) {
        let Some(term) = self.term() else { return };
        self.set(None);
        let left = async {
            let mut lent = shared.pg.main("resigning").await?;
            let update = sqlx::query("UPDATE millstream.leader SET worker_id = $1 WHERE role = 'keeper' AND worker_id = $2 AND term = $3")
                .bind(VACANT)
                .bind(shared.worker_id)
                .bind(term);
            within("resigning", update.execute(lent.conn())).await?;
            lent.done();
            Ok::<_, Outage>(())
        };
        if left.await.is_err() {
            tracing::debug!("could not resign; another worker leads after a few seconds");
        }
    }
}

/// The duty that beats, or watches the beat.
pub(super) struct Elect {
    leadership: Leadership,
    seen: Option<(i64, i64, Instant)>,
    /// How long the leader may be silent. Longer while this process is cut off from Redis: somebody else may not be.
    patience: Duration,
    /// The breaker was open at the last look.
    redis_was_down: bool,
}

impl Elect {
    pub(super) fn new(leadership: Leadership) -> Self {
        Self { leadership, seen: None, patience: TAKEOVER_AFTER, redis_was_down: false }
    }

    async fn lead_or_watch(&mut self, conn: &mut PgConnection, me: i64, redis_down: bool) -> Result<bool, sqlx::Error> {
        self.patience = if redis_down { TAKEOVER_AFTER * 2 } else { TAKEOVER_AFTER };
        if let Some(term) = self.leadership.term()
            && beat(conn, me, term).await?
        {
            self.leadership.set(Some(term));
            return Ok(true);
        }
        self.leadership.set(None);
        let Some(taken) = self.watch(conn, me).await? else { return Ok(false) };
        self.leadership.set(Some(taken));
        tracing::info!(term = taken, "this worker keeps house now");
        Ok(true)
    }

    /// Returns the new term if this process takes over.
    async fn watch(&mut self, conn: &mut PgConnection, me: i64) -> Result<Option<i64>, sqlx::Error> {
        sqlx::query(
            "INSERT INTO millstream.leader (role, worker_id, term, beat) VALUES ('keeper', $1, 0, 0) ON CONFLICT (role) DO NOTHING",
        )
        .bind(VACANT)
        .execute(&mut *conn)
        .await?;
        let row = sqlx::query("SELECT worker_id, term, beat FROM millstream.leader WHERE role = 'keeper'").fetch_one(&mut *conn).await?;
        let (holder, term, beat): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let since = match self.seen {
            Some((t, b, since)) if (t, b) == (term, beat) => since,
            _ => Instant::now(),
        };
        self.seen = Some((term, beat, since));
        if (holder != VACANT || self.patience > TAKEOVER_AFTER) && since.elapsed() < self.patience {
            return Ok(None);
        }
        let taken = sqlx::query("UPDATE millstream.leader SET worker_id = $1, term = term + 1, beat = 0 WHERE role = 'keeper' AND term = $2 AND beat = $3 AND worker_id = $4")
            .bind(me)
            .bind(term)
            .bind(beat)
            .bind(holder)
            .execute(conn)
            .await?;
        Ok((taken.rows_affected() == 1).then_some(term + 1))
    }
}

async fn beat(conn: &mut PgConnection, me: i64, term: i64) -> Result<bool, sqlx::Error> {
    let beaten = sqlx::query("UPDATE millstream.leader SET beat = beat + 1 WHERE role = 'keeper' AND worker_id = $1 AND term = $2")
        .bind(me)
        .bind(term)
        .execute(conn)
        .await?;
    Ok(beaten.rows_affected() == 1)
}

impl Duty for Elect {
    const NAME: &'static str = NAME;
    const SCOPE: Scope = Scope::Everywhere;

    fn every(&self, _: &Shared) -> Duration {
        BEAT_EVERY
    }

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<(), Outage> {
        let op = "leading";
        let redis_down = shared.redis.is_down();
        if redis_down && !std::mem::replace(&mut self.redis_was_down, redis_down) && self.leadership.is_mine() {
            // Once per outage: half of the housekeeping needs Redis, and another worker may still reach it. If none does, one of them
            // leads in the end.
            self.leadership.resign(shared).await;
        }
        self.redis_was_down = redis_down;
        let looked = async {
            let mut lent = shared.pg.main(op).await?;
            let leads = within(op, self.lead_or_watch(lent.conn(), shared.worker_id, redis_down)).await?;
            lent.done();
            Ok(leads)
        };
        let leads = looked.await.inspect_err(|_: &Outage| {
            // A look that failed has seen nothing: the silence is counted anew.
        });
        if leads.is_err() {
            self.seen = None;
        }
        shared.metrics.gauges.leader.set(i64::from(self.leadership.is_mine()));
        if !self.leadership.is_mine() {
            shared.metrics.gauges.clear_fleet();
        }
        leads.map(drop)
    }
}
