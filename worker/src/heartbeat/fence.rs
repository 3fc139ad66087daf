//! The fence: what a worker gives up when its heart does not get through, in time and whatever its heart is waiting for.
//!
//! Others count from the moment at which a beat was committed, so this counts from the moment at which it was sent. It does not
//! wait for a beat to fail: one that hangs has failed as far as everybody else can tell, long before its own deadline.
//!
//! It falls in three steps. After a few missed beats nothing new is claimed. After 0.7 of a lease
//! all runs are stopped, before anybody may take this worker for dead. A run that Postgres has not
//! leased within `UNLEASED_MAX` of being read is stopped by itself, because its entry soon looks
//! abandoned. While Postgres refuses everybody, runs go on as long as [`contact`](crate::contact)
//! lets them.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use millstream_common::limits::UNLEASED_MAX;

use super::{beat_interval, death_silence};
use crate::shared::Shared;

/// Looks per lease: the fence falls this much too late at most, which is half of what lies between it and the death.
const LOOKS_PER_LEASE: u32 = 20;
/// However long the lease: a run without one is found soon after `UNLEASED_MAX`.
const LOOK_MAX: Duration = Duration::from_millis(500);
/// Without this many beats nothing new is claimed: what was read could not be taken in hand anyway, and is better left to others.
const BEATS_MISSED_MAX: u32 = 3;
/// With a short lease a slow commit is no outage.
const CLAIM_SILENCE_MIN: Duration = Duration::from_secs(1);

/// How long a worker that cannot beat goes on with what it has leased: it stops before anybody may take it for dead.
fn self_fence(lease: Duration) -> Duration {
    death_silence(lease) * 7 / 8
}

pub(super) struct Fence {
    shared: Arc<Shared>,
}

impl Fence {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Keeps the fence while something is awaited.
    pub(super) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut look = tokio::time::interval((self.shared.lease / LOOKS_PER_LEASE).min(LOOK_MAX));
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = look.tick() => self.keep(),
            }
        }
    }

    fn keep(&self) {
        let (lease, silence) = (self.shared.lease, self.shared.contact.silence());
        if silence > (beat_interval(lease) * BEATS_MISSED_MAX).max(CLAIM_SILENCE_MIN) {
            self.shared.contact.is_missed();
        }
        if self.shared.contact.is_down_for_all(lease) {
            // Nobody sees anything. When it is back the others want a whole lease of good looks, and this worker beats long before.
            return;
        }
        // Dead in the eyes of the others: they hand out what it has leased, and what is pending with it. And of a run without a lease
        // they only see its entry, however well this heart beats.
        let fenced = silence > self_fence(lease);
        if fenced {
            self.shared.contact.fall();
        }
        let back_at = self.shared.contact.back_at();
        for hold in self.shared.work.held.all() {
            if fenced && hold.is_unsettled() {
                hold.lose();
            } else if hold.entry.is_some() && hold.read_at.max(back_at).elapsed() > UNLEASED_MAX {
                hold.lose_unleased();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fence_falls_before_anybody_takes_the_worker_for_dead() {
        for lease in [Duration::from_secs(2), Duration::from_secs(30)] {
            assert!(self_fence(lease) + lease / LOOKS_PER_LEASE < death_silence(lease));
        }
    }
}
