//! Who keeps house: a term with a beat, in one row.
//!
//! A candidate takes over when the beat has not moved for [`LEAD_SILENCE`] of successful looks on its own monotonic clock. The
//! leader's own belief ends when it has not been confirmed for [`TRUST`], which is shorter: two leaders overlap rarely, and harmlessly.
//!
//! A leader that is cut off from Redis leaves the row vacant, at once and again every
//! [`OFFER_EVERY`]. A worker that reaches Redis takes it at its next look, others only after
//! [`LEAD_SILENCE`]. A run of a duty that is left out because Redis is away counts as `skipped`,
//! which is no success.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use millstream_common::{error::Outage, pg::Lent};
use tokio::sync::watch;

use super::{Duty, Ran, Scope};
use crate::shared::Shared;

pub(super) const NAME: &str = "lead";
/// Time between beats and between looks.
const BEAT_EVERY: Duration = Duration::from_millis(500);
/// Silence after which somebody else leads.
const LEAD_SILENCE: Duration = Duration::from_secs(3);
/// How long a confirmed leadership is believed.
const TRUST: Duration = Duration::from_secs(2);
/// How long a process that is cut off from Redis keeps the lead before it offers it again: a worker that has come meanwhile may reach
/// Redis. Each offer to nobody costs [`LEAD_SILENCE`] without housekeeping, a tenth of the time.
const OFFER_EVERY: Duration = Duration::from_secs(30);
/// Nobody: left by a leader that ended in order.
const VACANT: i64 = 0;

/// This process's belief about its leadership. Cheap to clone.
#[derive(Clone)]
pub(super) struct Leadership {
    belief: Arc<Mutex<Option<(i64, Instant)>>>,
    /// The last term that this process has won; 0: none.
    won: watch::Receiver<i64>,
    winner: watch::Sender<i64>,
}

impl Default for Leadership {
    fn default() -> Self {
        let (winner, won) = watch::channel(0);
        Self {
            belief: Arc::default(),
            won,
            winner,
        }
    }
}

impl Leadership {
    /// Whether this process led within the last two seconds.
    pub(super) fn is_mine(&self) -> bool {
        self.term().is_some()
    }

    fn term(&self) -> Option<i64> {
        let belief = *self.belief.lock().unwrap_or_else(PoisonError::into_inner);
        belief
            .filter(|(_, at)| at.elapsed() < TRUST)
            .map(|(term, _)| term)
    }

    fn set(&self, term: Option<i64>) {
        *self.belief.lock().unwrap_or_else(PoisonError::into_inner) =
            term.map(|term| (term, Instant::now()));
        if let Some(term) = term {
            self.winner
                .send_if_modified(|won| std::mem::replace(won, term) != term);
        }
    }

    /// Waits until this process has won a term of which this handle has not told yet.
    pub(super) async fn won(&mut self) {
        // The sender lives in this very handle.
        let _ = self.won.changed().await;
    }

    /// Leaves the row vacant, so that the next one leads at once.
    pub(super) async fn resign(&self, shared: &Shared) {
        let Some(term) = self.term() else { return };
        self.set(None);
        let update = sqlx::query("UPDATE millstream.leader SET worker_id = $1 WHERE role = 'keeper' AND worker_id = $2 AND term = $3")
            .bind(VACANT)
            .bind(shared.worker_id)
            .bind(term);
        if shared.pg.main("resigning").execute(update).await.is_err() {
            tracing::debug!("could not resign; another worker leads after a few seconds");
        }
    }
}

/// When a leader that is cut off from Redis steps aside: half of the housekeeping needs Redis, and another worker may reach it.
///
/// At once when Redis goes, and again every [`OFFER_EVERY`] if the lead fell back to it because nobody else took it.
#[derive(Default)]
struct Offers {
    /// While it is cut off: the last offer, or the last moment in which somebody else led.
    since: Option<Instant>,
}

impl Offers {
    fn is_due(&mut self, redis_down: bool, leads: bool, now: Instant) -> bool {
        if !redis_down {
            self.since = None;
            return false;
        }
        let due = leads
            && self
                .since
                .is_none_or(|since| now.duration_since(since) >= OFFER_EVERY);
        if due || !leads {
            self.since = Some(now);
        }
        due
    }
}

/// The duty that beats, or watches the beat.
pub(super) struct Elect {
    leadership: Leadership,
    seen: Option<(i64, i64, Instant)>,
    offers: Offers,
}

impl Elect {
    pub(super) fn new(leadership: Leadership) -> Self {
        Self {
            leadership,
            seen: None,
            offers: Offers::default(),
        }
    }

    async fn lead_or_watch(&mut self, shared: &Shared, redis_down: bool) -> Result<bool, Outage> {
        let (me, lent) = (shared.worker_id, &mut shared.pg.main("leading").await?);
        if let Some(term) = self.leadership.term()
            && beat(lent, me, term).await?
        {
            self.leadership.set(Some(term));
            return Ok(true);
        }
        self.leadership.set(None);
        let Some(taken) = self.watch(lent, me, redis_down).await? else {
            return Ok(false);
        };
        self.leadership.set(Some(taken));
        tracing::info!(term = taken, "this worker keeps house now");
        Ok(true)
    }

    /// Returns the new term if this process takes over.
    async fn watch(
        &mut self,
        lent: &mut Lent,
        me: i64,
        redis_down: bool,
    ) -> Result<Option<i64>, Outage> {
        let row = sqlx::query(
            "INSERT INTO millstream.leader (role, worker_id, term, beat) VALUES ('keeper', $1, 0, 0) ON CONFLICT (role) DO NOTHING",
        )
        .bind(VACANT);
        lent.execute(row).await?;
        let query = sqlx::query_as(
            "SELECT worker_id, term, beat FROM millstream.leader WHERE role = 'keeper'",
        );
        let (holder, term, beat): (i64, i64, i64) = lent.one(query).await?;
        let since = match self.seen {
            Some((t, b, since)) if (t, b) == (term, beat) => since,
            _ => Instant::now(),
        };
        self.seen = Some((term, beat, since));
        if since.elapsed() < patience(holder == VACANT, redis_down) {
            return Ok(None);
        }
        let update = sqlx::query("UPDATE millstream.leader SET worker_id = $1, term = term + 1, beat = 0 WHERE role = 'keeper' AND term = $2 AND beat = $3 AND worker_id = $4")
            .bind(me)
            .bind(term)
            .bind(beat)
            .bind(holder);
        Ok((lent.execute(update).await? == 1).then_some(term + 1))
    }
}

/// How long the leader may be silent. Longer while this process is cut off from Redis: somebody else may not be.
fn patience(vacant: bool, redis_down: bool) -> Duration {
    match (vacant, redis_down) {
        (true, false) => Duration::ZERO,
        (true, true) | (false, false) => LEAD_SILENCE,
        (false, true) => LEAD_SILENCE * 2,
    }
}

async fn beat(lent: &mut Lent, me: i64, term: i64) -> Result<bool, Outage> {
    let update = sqlx::query("UPDATE millstream.leader SET beat = beat + 1 WHERE role = 'keeper' AND worker_id = $1 AND term = $2")
        .bind(me)
        .bind(term);
    Ok(lent.execute(update).await? == 1)
}

impl Duty for Elect {
    const NAME: &'static str = NAME;
    const SCOPE: Scope = Scope::Everywhere;

    fn every(&self, _: &Shared) -> Duration {
        BEAT_EVERY
    }

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<Ran, Outage> {
        let redis_down = shared.redis.is_down();
        if self
            .offers
            .is_due(redis_down, self.leadership.is_mine(), Instant::now())
        {
            self.leadership.resign(shared).await;
        }
        let leads = self.lead_or_watch(shared, redis_down).await;
        if leads.is_err() {
            // A look that failed has seen nothing: the silence is counted anew.
            self.seen = None;
        }
        shared
            .metrics
            .gauges
            .leader
            .set(i64::from(self.leadership.is_mine()));
        if !self.leadership.is_mine() {
            shared.metrics.gauges.clear_fleet();
        }
        leads.map(|_| Ran::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // field X35
    #[tokio::test]
    async fn x35_each_term_that_is_won_is_told_once_to_every_handle() {
        let leadership = Leadership::default();
        let mut handles = [leadership.clone(), leadership.clone()];
        leadership.set(Some(7));
        for handle in &mut handles {
            handle.won().await;
        }
        leadership.set(Some(7));
        leadership.set(None);
        assert!(
            !handles[0].won.has_changed().unwrap_or(true),
            "a confirmed term is no new one"
        );
        leadership.set(Some(9));
        handles[0].won().await;
    }

    /// Looks at these seconds, always cut off from Redis; whether the lead is offered at each.
    fn offered(offers: &mut Offers, leads: bool, at_s: &[u64]) -> Vec<bool> {
        let began = Instant::now();
        at_s.iter()
            .map(|s| offers.is_due(true, leads, began + Duration::from_secs(*s)))
            .collect()
    }

    // F23
    #[test]
    fn a_leader_without_redis_offers_the_lead_at_once_and_then_again_and_again() {
        let offers = &mut Offers::default();
        assert_eq!(
            offered(offers, true, &[0, 1, 29, 30, 31, 59, 60]),
            [true, false, false, true, false, false, true]
        );
        // The next outage is another one.
        assert!(!offers.is_due(false, true, Instant::now()));
        assert_eq!(offered(offers, true, &[0]), [true]);
    }

    #[test]
    fn who_began_to_lead_without_redis_keeps_the_lead_for_a_while() {
        let offers = &mut Offers::default();
        assert_eq!(offered(offers, false, &[0]), [false]);
        assert_eq!(offered(offers, true, &[1, 25, 31]), [false, false, true]);
    }

    #[test]
    fn a_vacant_lead_is_taken_first_by_those_who_reach_redis() {
        assert_eq!(patience(true, false), Duration::ZERO);
        assert!(
            patience(true, true) >= 4 * BEAT_EVERY,
            "others look a few times meanwhile"
        );
        assert!(patience(false, true) > patience(false, false));
    }
}
