//! Failures of a model server, sorted by what the job that asked should do.

use millstream_outbound::{OutboundError, ReplyClass};
use std::time::Duration;

/// A call without a usable answer. Messages are one bounded line without keys, headers or paths.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Come back later; the attempt does not count, and the whole resource should slow down.
    #[error("the model server is over its rate limit")]
    RateLimited {
        /// How long the server asked to wait, in `(0, 1 h]`; `None` if it did not say.
        after: Option<Duration>,
    },
    /// The same texts sent to the same server will fail again.
    #[error("{message}")]
    Permanent {
        /// Why, for people.
        message: String,
    },
    /// The server cannot be reached at all; the attempt does not count.
    #[error("{message}")]
    Unavailable {
        /// Why, for people.
        message: String,
    },
    /// The same call may succeed later.
    #[error("{message}")]
    Retry {
        /// Why, for people.
        message: String,
    },
}

impl ModelError {
    pub(super) fn permanent(message: impl Into<String>) -> Self {
        Self::Permanent {
            message: message.into(),
        }
    }

    pub(super) fn retry(message: impl Into<String>) -> Self {
        Self::Retry {
            message: message.into(),
        }
    }

    /// `None` for a reply that is done. `detail` is what the server says about it, already cleaned.
    pub(super) fn from_class(class: ReplyClass, detail: Option<&str>) -> Option<Self> {
        let explained = |message: String| match detail {
            Some(detail) => format!("{message}: {detail}"),
            None => message,
        };
        match class {
            ReplyClass::Done => None,
            ReplyClass::RateLimited { after } => Some(Self::RateLimited { after }),
            ReplyClass::Permanent { message } => Some(Self::permanent(explained(message))),
            ReplyClass::Unavailable { message } => Some(Self::Unavailable {
                message: explained(message),
            }),
            ReplyClass::Retry { message } => Some(Self::retry(explained(message))),
        }
    }
}

impl From<OutboundError> for ModelError {
    fn from(error: OutboundError) -> Self {
        match error.class() {
            ReplyClass::Permanent { message } => Self::Permanent { message },
            ReplyClass::Unavailable { message } => Self::Unavailable { message },
            // The other classes do not come from an exchange that gave no reply.
            _ => Self::retry(error.to_string()),
        }
    }
}
