//! Which idle connections of a pool may be lent unseen, and which must answer first.
//!
//! A server may end a session while nobody uses it: by `idle_session_timeout`, by a restart, by a firewall that sends a
//! reset. The next caller must not pay for that. So a connection that idled for long answers an empty message before it is
//! lent, and so does every connection that was idle when another one of its pool broke: whatever broke that one may have
//! broken this one too. A connection in steady use is lent unseen, which costs the hot path nothing.
//!
//! Knows nothing of statements. What breaks between the answer and the statement is repeated by `GuardedPool::repeat`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};

/// A connection that idled longer must answer. Half of the shortest `idle_session_timeout` that anybody sets, and far above
/// the pauses of a busy pool.
const UNSEEN_MAX: Duration = Duration::from_secs(1);
/// A peer that needs longer for an empty message is not there. Leaves time for a new connection within `ACQUIRE_DEADLINE`.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// What a pool and its loans know of broken connections. Cheap to clone; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Trust(Arc<Mutex<Option<Instant>>>);

impl Trust {
    /// A loan has ended badly: what idles now must answer before it is lent.
    pub(super) fn note_broken(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether an idle connection may be lent. One that may not is closed by the pool, which makes a new one.
    pub(super) async fn may_lend(&self, conn: &mut PgConnection, idle_for: Duration) -> bool {
        if !self.must_answer(idle_for) {
            return true;
        }
        match tokio::time::timeout(ANSWER_DEADLINE, conn.ping()).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::debug!(%error, "an idle connection had ended; a new one is made");
                false
            }
            Err(_) => {
                tracing::debug!("an idle connection does not answer; a new one is made");
                false
            }
        }
    }

    fn must_answer(&self, idle_for: Duration) -> bool {
        let broken_at = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle_for > UNSEEN_MAX || broken_at.is_some_and(|at| idle_for >= at.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_idled_for_long_or_when_another_broke_must_answer() {
        let trust = Trust::default();
        assert!(!trust.must_answer(Duration::ZERO) && !trust.must_answer(UNSEEN_MAX));
        assert!(trust.must_answer(UNSEEN_MAX + Duration::from_millis(1)));
        trust.note_broken();
        assert!(
            trust.must_answer(UNSEEN_MAX / 2),
            "it was idle when the other one broke"
        );
        assert!(
            !trust.clone().must_answer(Duration::ZERO),
            "it has been used since"
        );
    }
}
