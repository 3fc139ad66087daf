//! What a handler says about its run: [`Success`] or [`Failure`]. What follows from it is decided in `settle::verdict`.

use std::time::Duration;

use futures::future::BoxFuture;
use millstream_common::{
    error::{Outage, in_full},
    limits::bounded,
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

/// When Postgres was away, the job comes back after this long and no attempt is used up.
const OUTAGE_DELAY: Duration = Duration::from_secs(2);

/// Writes that belong to a success: they commit together with the settling of this attempt, or neither does (G1).
pub type Effect = Box<
    dyn for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<(), sqlx::Error>>
        + Send
        + Sync,
>;

/// The job is done.
#[derive(Default, Serialize, Deserialize)]
pub struct Success {
    /// JSON text kept with the job, at most `RESULT_BYTES_MAX`.
    pub result: Option<String>,
    /// Tokens that the run really used.
    pub tokens: Option<i32>,
    /// Writes to commit with the completion.
    #[serde(skip)]
    pub effect: Option<Effect>,
}

impl Success {
    /// Done, with nothing to say.
    pub fn new() -> Self {
        Self::default()
    }

    /// Done, with a result.
    pub fn with_result(result: &impl serde::Serialize) -> Result<Self, Failure> {
        let text = serde_json::to_string(result)
            .map_err(|e| Failure::permanent(format!("the result does not serialise: {e}")))?;
        Ok(Self {
            result: Some(text),
            ..Self::default()
        })
    }

    /// Done once `effect` has committed too.
    #[must_use]
    pub fn and_write(mut self, effect: Effect) -> Self {
        self.effect = Some(effect);
        self
    }

    /// Records the tokens used.
    #[must_use]
    pub fn and_tokens(mut self, tokens: Option<u64>) -> Self {
        self.tokens = tokens.map(|n| i32::try_from(n).unwrap_or(i32::MAX));
        self
    }
}

/// The job is not done. The class decides what happens next (F13).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// Try again after a backoff; uses up an attempt.
    #[error("{0}")]
    Retry(String),
    /// Trying again cannot help: dead at once.
    #[error("{0}")]
    Permanent(String),
    /// A rate limit refused it; uses up no attempt. `after`: what the server asked for.
    #[error("{message}")]
    RateLimited {
        /// How long the server wants to be left alone.
        after: Option<Duration>,
        /// What it said.
        message: String,
    },
    /// Something that the job needs cannot be reached at all. Uses up no attempt until nothing else has come of the job for a
    /// day: an outage of theirs must not bury our jobs.
    #[error("{0}")]
    Unavailable(String),
    /// The handler wants to be called again later; uses up no attempt.
    #[error("snoozed")]
    Snooze(Duration),
    /// The payload is not what the kind expects: dead at once.
    #[error("{0}")]
    Undecodable(String),
    /// The handler ran longer than its timeout; uses up an attempt.
    #[error("timed out after {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The handler panicked; uses up an attempt.
    #[error("panicked: {0}")]
    Panicked(String),
    /// The process that ran the job alone has died of it, again: dead at once.
    #[error("{0}")]
    Killed(String),
}

impl Failure {
    /// A failure that a retry may cure.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::Retry(message.into())
    }

    /// The same with no more than so many bytes of text.
    pub(crate) fn bounded(mut self, bytes_max: usize) -> Self {
        match &mut self {
            Self::Retry(text)
            | Self::Permanent(text)
            | Self::RateLimited { message: text, .. }
            | Self::Unavailable(text)
            | Self::Undecodable(text)
            | Self::Panicked(text)
            | Self::Killed(text) => *text = bounded(text, bytes_max),
            Self::Snooze(_) | Self::TimedOut(_) => {}
        }
        self
    }

    /// A failure that no retry cures.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::Permanent(message.into())
    }
}

/// What every handler returns.
pub type Outcome = Result<Success, Failure>;

impl From<Outage> for Failure {
    fn from(outage: Outage) -> Self {
        match &outage {
            // The statement itself was refused: that is no outage, and waiting for free would be waiting forever.
            refused if !refused.is_passing() => Self::Retry(in_full(&outage)),
            _ => {
                tracing::debug!(error = %in_full(&outage), "a job is put off: Postgres was away");
                Self::Snooze(OUTAGE_DELAY)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // F13
    #[test]
    fn postgres_being_away_costs_no_attempt() {
        let away = Outage::PostgresTimeout { op: "reading" };
        assert_eq!(Failure::from(away), Failure::Snooze(OUTAGE_DELAY));
    }
}
