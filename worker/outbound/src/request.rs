//! What is sent and what came back, in plain data.
//!
//! Invariants: `Debug` of either never shows header values, a query or a body; header values are
//! checked before they are sent; a reply's body is capped and holds no NUL, which Postgres refuses.
//! It knows nothing of connections.

use millstream_common::redact::{error_line, stored};

use super::classify::{ReplyClass, classify};
use super::error::OutboundError;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;
use std::time::Duration;

/// More header lines than this are an attack on the server, not a request.
const HEADERS_MAX: usize = 64;

/// Names and values together; most servers refuse more than 8 to 16 KiB.
const HEADERS_BYTES_MAX: usize = 16 * 1024;

/// What a job may keep of a reply (S26).
const STORED_BODY_BYTES_MAX: usize = 4_000;

/// A header name in an error text; real ones are shorter.
const NAME_SHOWN_BYTES_MAX: usize = 64;

/// Headers that belong to the connection or choose the server: a job that sets them could smuggle a
/// second request or reach another host behind the same address.
const RESERVED: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A request to send. The URL is checked by the client.
#[derive(Clone)]
pub struct OutboundRequest {
    /// Absolute `http` or `https` URL without user name and password.
    pub url: String,
    /// Method, for example from [`parse_method`].
    pub method: Method,
    /// Headers, for example from [`parse_headers`].
    pub headers: HeaderMap,
    /// Body bytes; the caller sets `content-type`.
    pub body: Option<Vec<u8>>,
}

impl fmt::Debug for OutboundRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundRequest")
            .field("method", &self.method)
            .field("headers", &self.headers.len())
            .field("body_bytes", &self.body.as_ref().map(Vec::len))
            .finish_non_exhaustive()
    }
}

/// An answer, whatever its status.
#[derive(Clone, PartialEq)]
pub struct OutboundReply {
    /// Scheme, host and port that answered.
    pub origin: String,
    /// HTTP status, 100 to 999.
    pub status: u16,
    /// The body as text, up to the cap of the policy; bytes that are no UTF-8 are replaced.
    pub body: String,
    /// The server sent more than the cap; the rest was not read.
    pub truncated: bool,
    /// How long to stay away, on 429 and 503, in `(0, 1 h]`.
    pub retry_after: Option<Duration>,
    /// The body as JSON, if it is whole, and declared as JSON by the server.
    pub json: Option<serde_json::Value>,
}

impl OutboundReply {
    /// What the reply means for the job.
    pub fn class(&self) -> ReplyClass {
        classify(self)
    }

    /// What may be stored of the body and shown to the job's tenant: redacted, at most 4 kB.
    pub fn stored_body(&self) -> String {
        stored(&self.body, STORED_BODY_BYTES_MAX)
    }
}

impl fmt::Debug for OutboundReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundReply")
            .field("origin", &self.origin)
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .field("truncated", &self.truncated)
            .field("retry_after", &self.retry_after)
            .finish_non_exhaustive()
    }
}

/// A method by name, in any case: `GET HEAD POST PUT PATCH DELETE OPTIONS`.
pub fn parse_method(text: &str) -> Result<Method, OutboundError> {
    match text.to_ascii_uppercase().as_str() {
        "GET" => Ok(Method::GET),
        "HEAD" => Ok(Method::HEAD),
        "POST" => Ok(Method::POST),
        "PUT" => Ok(Method::PUT),
        "PATCH" => Ok(Method::PATCH),
        "DELETE" => Ok(Method::DELETE),
        "OPTIONS" => Ok(Method::OPTIONS),
        _ => Err(OutboundError::Invalid(format!(
            "method `{}` is not one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
            error_line(text, NAME_SHOWN_BYTES_MAX)
        ))),
    }
}

/// Headers of a job's payload. Errors name the header, never its value.
pub fn parse_headers<'a, I>(pairs: I) -> Result<HeaderMap, OutboundError>
where
    I: IntoIterator<Item = (&'a str, &'a str)>,
{
    let mut headers = HeaderMap::new();
    let mut total_bytes = 0;
    for (name, value) in pairs {
        total_bytes += name.len() + value.len();
        if headers.len() >= HEADERS_MAX || total_bytes > HEADERS_BYTES_MAX {
            return Err(OutboundError::Invalid(format!(
                "more than {HEADERS_MAX} headers or {HEADERS_BYTES_MAX} bytes of them"
            )));
        }
        let (name, value) = parse_header(name, value)?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn parse_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), OutboundError> {
    let fault = |why: &str| {
        let shown = error_line(name, NAME_SHOWN_BYTES_MAX);
        OutboundError::Invalid(format!("header `{shown}` {why}"))
    };
    let parsed: HeaderName = name.parse().map_err(|_| fault("has no valid name"))?;
    if RESERVED.contains(&parsed.as_str()) {
        return Err(fault("is set by the connection and cannot be chosen"));
    }
    let mut value =
        HeaderValue::from_str(value).map_err(|_| fault("has a value with control characters"))?;
    // Any header of a payload may be a credential; this keeps it out of every `Debug` below us.
    value.set_sensitive(true);
    Ok((parsed, value))
}

#[cfg(test)]
mod tests;
