//! The places of one port. When all are taken, a client that waits gives way to a newcomer: first of those that have never asked for
//! anything, then of those that were answered, the one that has waited for longest.
//!
//! So a crowd of silent clients cannot keep a probe or a scrape out, nor push out a client that keeps its connection. If every place is being served, newcomers wait in the
//! system's queue: then the process is busy, and more of them would not help.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Limits, standing::Standing};

/// A place that is being served now may be waiting a moment later; nobody tells.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// See the module.
pub(super) struct Places {
    limits: Limits,
    taken: Mutex<Taken>,
    freed: Notify,
    /// A line about it was said, and the port has not been half empty since.
    told: AtomicBool,
}

#[derive(Default)]
struct Taken {
    next: u64,
    clients: HashMap<u64, Client>,
}

#[derive(Clone)]
struct Client {
    standing: Arc<Standing>,
    give_way: CancellationToken,
}

/// One client's place; free again when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    client: Client,
}

impl Places {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            taken: Mutex::default(),
            freed: Notify::new(),
            told: AtomicBool::new(false),
        }
    }

    /// Waits until there is a place, and makes one if anybody is only waiting.
    pub(super) async fn room(&self) {
        loop {
            let most = self.limits.connections_now();
            if self.taken().clients.len() < most {
                return;
            }
            if self.is_news() {
                tracing::warn!(
                    connections = most,
                    "all connections of a port are taken: clients that ask for nothing are closed"
                );
            }
            self.make_room();
            // Whoever gives way takes a moment to go.
            let _ = tokio::time::timeout(LOOK_AGAIN, self.freed.notified()).await;
        }
    }

    /// The place of a client that has just been accepted.
    pub(super) fn take(self: Arc<Self>) -> Place {
        let client = Client {
            standing: Arc::new(Standing::new(Instant::now())),
            give_way: CancellationToken::new(),
        };
        let number = {
            let mut taken = self.taken();
            taken.next += 1;
            let number = taken.next;
            taken.clients.insert(number, client.clone());
            number
        };
        Place {
            places: self,
            number,
            client,
        }
    }

    /// The system had no descriptor for a client. Those of waiting ones are the best to be had.
    pub(super) fn shortage(&self, error: &io::Error) {
        if self.is_news() {
            tracing::warn!(%error, "a client could not be let in: the limit on open files of this process is too low");
        }
        self.make_room();
    }

    fn make_room(&self) {
        let taken = self.taken();
        let waiting = taken
            .clients
            .values()
            .filter(|client| !client.give_way.is_cancelled());
        let first = waiting
            .filter_map(|client| Some((client.standing.waiting()?, client)))
            .min_by_key(|(waiting, _)| *waiting);
        if let Some((_, client)) = first {
            client.give_way.cancel();
        }
    }

    /// One line for one crowd, however large.
    fn is_news(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }

    fn free(&self, number: u64) {
        let left = {
            let mut taken = self.taken();
            taken.clients.remove(&number);
            taken.clients.len()
        };
        if left < self.limits.connections_now() / 2 {
            self.told.store(false, Ordering::Relaxed);
        }
        self.freed.notify_one();
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    pub(super) fn standing(&self) -> &Arc<Standing> {
        &self.client.standing
    }

    /// Fires when somebody else needs the place.
    pub(super) fn give_way(&self) -> &CancellationToken {
        &self.client.give_way
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.free(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_never_asked_gives_way_first_and_who_is_served_never_does() {
        // X24
        let places = Arc::new(Places::new(Limits {
            connections: 4,
            share: 1,
            drain: Duration::ZERO,
        }));
        let taken: Vec<Place> = (0..4).map(|_| places.clone().take()).collect();
        taken[0].standing().begin(Instant::now());
        taken[1].standing().begin(Instant::now());
        taken[1].standing().end(Instant::now());
        let given_way = || {
            taken
                .iter()
                .map(|place| place.give_way().is_cancelled())
                .collect::<Vec<_>>()
        };
        places.make_room();
        assert_eq!(
            given_way(),
            [false, false, true, false],
            "it has been silent for longest"
        );
        places.make_room();
        assert_eq!(given_way(), [false, false, true, true]);
        places.make_room();
        assert_eq!(
            given_way(),
            [false, true, true, true],
            "then who was answered"
        );
        places.make_room();
        assert_eq!(
            given_way(),
            [false, true, true, true],
            "never who is served"
        );
        let mut room = Box::pin(places.room());
        assert!(futures::poll!(&mut room).is_pending());
        drop(taken);
        room.await;
    }
}
