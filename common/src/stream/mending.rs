//! Streams that could not be used any more and were made anew: what was in them is handed out again within seconds, and until then some jobs
//! stand still. For probes.
//!
//! Knows what was wrong, not who finds it.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::link::Redis;
use crate::{
    error::Outage,
    limits::{PUBLISH_GRACE, RECONCILE_SETTLE},
};

/// By then reconcile has handed out what was hidden: grace, its own pause, its period, and as much again for the new hand-outs.
const LASTS: Duration = PUBLISH_GRACE
    .saturating_add(RECONCILE_SETTLE)
    .saturating_add(Duration::from_secs(2));

/// What was wrong with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its key held something else.
    NoStream,
    /// Its last id is the highest there is: it takes nothing more.
    UsedUp,
    /// Its group was moved past everything that will ever be added.
    GroupAhead,
}

impl Fault {
    /// By its number in `heal.lua` and `publish.lua`; 0 is none.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::NoStream, Self::UsedUp, Self::GroupAhead]
            .get(usize::from(number).checked_sub(1)?)
            .copied()
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::NoStream => "its key was no stream",
            Self::UsedUp => "its last id is the highest there is, it took nothing more",
            Self::GroupAhead => "its group was moved past all that will ever be added",
        }
    }
}

/// When this process last mended a stream.
#[derive(Debug, Default)]
pub struct Mending(Mutex<Option<Instant>>);

impl Mending {
    /// A stream was made anew: say so, and count as mending for a while.
    pub fn note(&self, stream: &str, fault: Fault) {
        tracing::warn!(
            stream,
            fault = fault.in_words(),
            "a stream could not be used and is made anew: what it hid is handed out again"
        );
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether some jobs may still stand still for it.
    pub fn is_under_way(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|at| at.elapsed() < LASTS)
    }
}

impl Redis {
    /// A stream was made anew: whoever keeps house learns of it by the word that is missing, and compares all that was published.
    pub async fn tell_mended(&self, stream: &str, fault: Fault) -> Result<(), Outage> {
        self.mending().note(stream, fault);
        let delete = redis::Cmd::del(self.keys().incarnation());
        self.ask("telling that a stream was made anew", &delete)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_numbered_as_in_the_scripts() {
        assert_eq!(
            (0..5).map(Fault::from_number).collect::<Vec<_>>(),
            [
                None,
                Some(Fault::NoStream),
                Some(Fault::UsedUp),
                Some(Fault::GroupAhead),
                None
            ]
        );
    }
}
