//! Why an outbound request has no reply, sorted by what the caller can do about it.
//!
//! Invariant: no text here holds a path, a query, a header value or a body; a path can be a credential
//! too (chat webhooks), so only scheme, host and port are named.

use millstream_common::redact::error_line;

use super::classify::ReplyClass;
use super::guard::Forbidden;
use std::error::Error;
use std::time::Duration;

/// Room for the reason of a library below us; longer ones are nested wrappers saying the same.
const CAUSE_BYTES_MAX: usize = 200;

/// A request without a reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// Refused before anything was sent: give up, or change the request or the allow-list.
    #[error("outbound request refused: {0}")]
    Refused(Forbidden),
    /// The caller's method or headers cannot be sent: give up, or change the request.
    #[error("outbound request not valid: {0}")]
    Invalid(String),
    /// No connection: try again later.
    #[error("{origin} could not be reached: {cause}")]
    Unreachable {
        /// Scheme, host and port of the request.
        origin: String,
        /// Innermost reason, bounded.
        cause: String,
    },
    /// The connection broke or the answer was no HTTP: try again later.
    #[error("{origin} gave no complete answer: {cause}")]
    Broken {
        /// Scheme, host and port of the request.
        origin: String,
        /// Innermost reason, bounded.
        cause: String,
    },
    /// Not answered to the end within the total deadline: try again later.
    #[error("{origin} gave no complete answer within {deadline_ms} ms")]
    TimedOut {
        /// Scheme, host and port of the request.
        origin: String,
        /// The deadline of the policy.
        deadline_ms: u128,
    },
    /// The client itself could not be built: the machine lacks root certificates, for example.
    #[error(
        "the outbound HTTP client could not be set up: {0}; are root certificates (package `ca-certificates`) installed?"
    )]
    Setup(String),
}

impl OutboundError {
    /// What to do with the job whose request failed so.
    pub fn class(&self) -> ReplyClass {
        let message = self.to_string();
        match self {
            Self::Refused(_) | Self::Invalid(_) => ReplyClass::Permanent { message },
            Self::Unreachable { .. } => ReplyClass::Unavailable { message },
            Self::Broken { .. } | Self::TimedOut { .. } | Self::Setup(_) => {
                ReplyClass::Retry { message }
            }
        }
    }

    pub(super) fn setup(error: &reqwest::Error) -> Self {
        Self::Setup(innermost(error))
    }

    pub(super) fn timed_out(origin: &str, deadline: Duration) -> Self {
        Self::TimedOut {
            origin: origin.to_owned(),
            deadline_ms: deadline.as_millis(),
        }
    }

    /// A failure between the first packet and the last byte. A refusal by our own resolver arrives
    /// here too, wrapped by the connector, and keeps its meaning.
    pub(super) fn in_flight(origin: &str, error: &reqwest::Error) -> Self {
        if let Some(refusal) = chain(error).find_map(|cause| cause.downcast_ref::<Forbidden>()) {
            return Self::Refused(refusal.clone());
        }
        let (origin, cause) = (origin.to_owned(), innermost(error));
        if error.is_connect() {
            Self::Unreachable { origin, cause }
        } else {
            Self::Broken { origin, cause }
        }
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

/// The outer errors print the URL with its query; the innermost one is the system's or TLS's reason.
fn innermost(error: &reqwest::Error) -> String {
    match chain(error).skip(1).last() {
        Some(cause) => error_line(&cause.to_string(), CAUSE_BYTES_MAX),
        None => "the request could not be built".to_owned(),
    }
}
