//! What a reply means for the job that asked for it.
//!
//! Pure. 2xx is done; 429 and 503 are rate limits; other 4xx are permanent, except 408 and 425, which
//! say "again"; 3xx is permanent, because redirects are off and the same request would be redirected
//! again; the rest is retried. It does not know attempts, delays or states.

use super::request::OutboundReply;
use super::retry_after::is_quota_exhausted;
use reqwest::StatusCode;
use std::time::Duration;

/// What to do after a request. Messages are one bounded line without headers, paths or bodies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyClass {
    /// The server accepted it.
    Done,
    /// Come back later; this attempt does not count.
    RateLimited {
        /// How long the server asked to wait, in `(0, 1 h]`; `None` if it did not say.
        after: Option<Duration>,
    },
    /// The same request will fail again.
    Permanent {
        /// Why, for people.
        message: String,
    },
    /// The server cannot be reached at all; this attempt does not count.
    Unavailable {
        /// Why, for people.
        message: String,
    },
    /// The same request may succeed later.
    Retry {
        /// Why, for people.
        message: String,
    },
}

/// Sorts a reply by its status, and a 429 by its body.
pub fn classify(reply: &OutboundReply) -> ReplyClass {
    let message = format!("{} answered {}", reply.origin, status_text(reply.status));
    match reply.status {
        200..=299 => ReplyClass::Done,
        429 if is_quota_exhausted(reply.json.as_ref()) => ReplyClass::Permanent {
            message: format!("{message}: insufficient_quota, the account's quota is used up"),
        },
        429 | 503 => ReplyClass::RateLimited {
            after: reply.retry_after,
        },
        300..=399 => ReplyClass::Permanent {
            message: format!("{message}; redirects are not followed"),
        },
        408 | 425 => ReplyClass::Retry { message },
        400..=499 => ReplyClass::Permanent { message },
        _ => ReplyClass::Retry { message },
    }
}

/// The standard phrase, never the server's own.
fn status_text(status: u16) -> String {
    let phrase = StatusCode::from_u16(status)
        .ok()
        .and_then(|code| code.canonical_reason());
    match phrase {
        Some(phrase) => format!("{status} {phrase}"),
        None => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{ReplyClass, classify};
    use crate::OutboundReply;
    use serde_json::json;
    use std::time::Duration;

    fn reply(status: u16) -> OutboundReply {
        OutboundReply {
            origin: "https://api.example".to_owned(),
            status,
            body: "internal detail".to_owned(),
            truncated: false,
            retry_after: Some(Duration::from_secs(7)),
            json: None,
        }
    }

    // interface.md, kind `http`; F24
    #[test]
    fn every_status_has_one_meaning() {
        for status in 100..=999 {
            let class = classify(&reply(status));
            let expected = match status {
                200..=299 => matches!(class, ReplyClass::Done),
                429 | 503 => {
                    class
                        == ReplyClass::RateLimited {
                            after: Some(Duration::from_secs(7)),
                        }
                }
                300..=399 | 400..=407 | 409..=424 | 426..=428 | 430..=499 => {
                    matches!(class, ReplyClass::Permanent { .. })
                }
                _ => matches!(class, ReplyClass::Retry { .. }),
            };
            assert!(expected, "{status}: {class:?}");
        }
    }

    // S26: no body in a text that tenants see
    #[test]
    fn messages_name_the_server_and_the_status_and_not_the_body() {
        let ReplyClass::Permanent { message } = classify(&reply(404)) else {
            panic!("404 is permanent");
        };
        assert_eq!(message, "https://api.example answered 404 Not Found");
        let ReplyClass::Permanent { message } = classify(&reply(302)) else {
            panic!("302 is permanent");
        };
        assert_eq!(
            message,
            "https://api.example answered 302 Found; redirects are not followed"
        );
    }

    // F24
    #[test]
    fn an_account_without_money_is_not_waited_for() {
        let mut broke = reply(429);
        broke.json = Some(json!({"error": {"code": "insufficient_quota"}}));
        assert!(matches!(classify(&broke), ReplyClass::Permanent { .. }));
    }
}
