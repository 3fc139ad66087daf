//! How one connection stands: what its client is to do next, and until when.
//!
//! Pure but for a lock. Times come from the caller.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// From the first byte of a request's head (or from the begin of a connection) to the last one. A head is one packet.
const HEAD: Duration = Duration::from_secs(10);
/// A client that has been answered may ask again this long: longer than the 60 s of the usual proxies and balancers, so that they
/// close first and no request meets the end of its connection.
const IDLE: Duration = Duration::from_secs(75);
/// An answer of which the client takes no byte for so long is taken back.
const STALLED: Duration = Duration::from_secs(30);
/// What is left of an answer may be written so long after the order to stop, or after the request's end.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(super) struct Standing(Mutex<Now>);

#[derive(Debug, Clone, Copy)]
struct Now {
    phase: Phase,
    since: Instant,
    /// Since when bytes wait that the client does not take.
    stalled_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No byte yet, or part of a head.
    Head,
    /// Answered; nothing asked since.
    Idle,
    /// A request is being worked on, within deadlines of its own.
    Busy,
}

impl Standing {
    /// A connection that has just been accepted.
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Now {
            phase: Phase::Head,
            since: now,
            stalled_since: None,
        }))
    }

    /// A whole head has arrived.
    pub(super) fn begin(&self, now: Instant) {
        self.turn(Phase::Busy, now);
    }

    /// The answer is known; it is being written.
    pub(super) fn end(&self, now: Instant) {
        self.turn(Phase::Idle, now);
    }

    /// Bytes have arrived. After an answer they are the begin of the next head.
    pub(super) fn heard(&self, now: Instant) {
        if self.now().phase == Phase::Idle {
            self.turn(Phase::Head, now);
        }
    }

    /// Bytes were taken, or (`false`) the client's side has no room for them.
    pub(super) fn written(&self, taken: bool, now: Instant) {
        let mut state = self.now();
        if taken {
            state.stalled_since = None;
            if state.phase == Phase::Idle {
                state.since = now;
            }
        } else {
            state.stalled_since.get_or_insert(now);
        }
    }

    /// When the connection is to be closed, if nothing changes before. `closing`: since when the server stops, and how long requests
    /// may then go on.
    pub(super) fn deadline(&self, closing: Option<(Instant, Duration)>) -> Option<Instant> {
        let state = *self.now();
        let stalled = state.stalled_since.map(|at| at + STALLED);
        let own = match (state.phase, closing) {
            (Phase::Busy, None) => None,
            (Phase::Busy, Some((began, drain))) => Some(began + drain),
            (_, Some((began, _))) => Some(began.max(state.since) + FAREWELL),
            (Phase::Head, None) => Some(state.since + HEAD),
            (Phase::Idle, None) => Some(state.since + IDLE),
        };
        own.into_iter().chain(stalled).min()
    }

    /// Whether the client was answered before, and since when it has asked for nothing; `None`: it is being served. The least of these
    /// gives way first.
    pub(super) fn waiting(&self) -> Option<(bool, Instant)> {
        let state = *self.now();
        (state.phase != Phase::Busy).then_some((state.phase == Phase::Idle, state.since))
    }

    fn turn(&self, phase: Phase, now: Instant) {
        let mut state = self.now();
        (state.phase, state.since) = (phase, now);
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_silent_client_and_half_a_head_have_ten_seconds() {
        // X24
        let t = Instant::now();
        let standing = Standing::new(t);
        standing.heard(t + 9 * S);
        assert_eq!(
            standing.deadline(None),
            Some(t + HEAD),
            "bytes of a head do not prolong it"
        );
        standing.begin(t + 9 * S);
        assert_eq!(
            standing.deadline(None),
            None,
            "a request has deadlines of its own"
        );
        standing.end(t + 20 * S);
        assert_eq!(standing.deadline(None), Some(t + 20 * S + IDLE));
        standing.heard(t + 30 * S);
        assert_eq!(
            standing.deadline(None),
            Some(t + 30 * S + HEAD),
            "half of the next head"
        );
    }

    #[test]
    fn an_answer_that_is_not_taken_ends_the_connection_and_any_taken_byte_gives_time_anew() {
        // X23
        let t = Instant::now();
        let standing = Standing::new(t);
        standing.begin(t);
        standing.written(false, t + S);
        standing.written(false, t + 20 * S);
        assert_eq!(
            standing.deadline(None),
            Some(t + S + STALLED),
            "also while the next request waits"
        );
        standing.written(true, t + 25 * S);
        assert_eq!(standing.deadline(None), None);
    }

    #[test]
    fn at_the_end_only_requests_in_progress_get_their_time() {
        // X23
        let (t, drain) = (Instant::now(), 20 * S);
        let standing = Standing::new(t);
        assert_eq!(
            standing.deadline(Some((t + S, drain))),
            Some(t + S + FAREWELL)
        );
        standing.begin(t + S);
        assert_eq!(standing.deadline(Some((t + S, drain))), Some(t + S + drain));
        standing.end(t + 5 * S);
        assert_eq!(
            standing.deadline(Some((t + S, drain))),
            Some(t + 5 * S + FAREWELL),
            "its answer is still written"
        );
    }
}
