//! Errors as the outside sees them: RFC 9457 `application/problem+json`, with a machine word in `code`.
//!
//! What went wrong inside is logged here with the request's id, and not told.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use millstream_common::{
    error::{Error, Outage, Refusal, in_full},
    persist::is_held,
    seldom::Seldom,
};
use serde::Serialize;

use super::request_id;
use crate::ops::upload::UploadError;

/// When to come again after an outage, in seconds.
const RETRY_AFTER_S: u64 = 2;

static LINES: Seldom = Seldom::new();

/// An answer that is an error.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry: bool,
}

/// The body.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    r#type: String,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    trace_id: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            retry: false,
        }
    }

    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "send the token of this API as \"Authorization: Bearer TOKEN\"",
        )
    }

    pub(super) fn misdirected() -> Self {
        Self::new(
            StatusCode::MISDIRECTED_REQUEST,
            "wrong_host",
            "this API serves requests to its own machine only, by the name localhost",
        )
    }

    pub(super) fn cross_site() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "cross_site",
            "changes are not accepted from the pages of other sites",
        )
    }

    pub(super) fn too_slow() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "too_slow",
            "the body of the request came too slowly",
        )
        .retrying()
    }

    /// This server's own deadline: the request may have been carried out, so this is no error of the client's.
    pub(super) fn late() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "too_slow",
            "the servers behind this one took too long; nothing is known about the outcome, repeat the request with the same id or key",
        )
        .retrying()
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).retrying()
    }

    pub(super) fn database_away() -> Self {
        Self::unavailable(
            "the database is out of reach; repeat the request with the same id or idempotency key, which is safe",
        )
    }

    pub(super) fn database_read_only() -> Self {
        Self::unavailable(
            "the database takes no writes; repeat the request with the same id or idempotency key, which is safe",
        )
    }

    /// Nobody is away: an open transaction of somebody else has what is needed, and may keep it.
    fn held() -> Self {
        Self::unavailable(
            "another open transaction holds what this request needs, such as its idempotency key; repeat it in a moment, which is safe with \
             the same id or key",
        )
    }

    pub(super) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "something went wrong here; the log has it under this trace_id",
        )
    }

    /// The status, for answers that carry many.
    pub(super) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    fn retrying(mut self) -> Self {
        self.retry = true;
        self
    }

    /// The body, to stand alone or inside another answer.
    pub(super) fn document(self) -> Document {
        Document {
            r#type: format!("urn:millstream:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: self.detail,
            trace_id: request_id::current(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, retry) = (self.status, self.retry);
        let mut response = (status, Json(self.document())).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::Invalid(_) => Self::invalid(detail),
            Refusal::TooLarge { .. } => Self::too_large(detail),
            Refusal::Unknown { what, .. } => {
                let code = match what {
                    "queue" => "unknown_queue",
                    "kind" => "unknown_kind",
                    _ => "unknown_tenant",
                };
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
            }
            Refusal::Conflict(_) => Self::new(StatusCode::CONFLICT, "conflict", detail),
            Refusal::NotFound(_) => Self::not_found(detail),
            Refusal::State(_) => Self::new(StatusCode::CONFLICT, "state", detail),
        }
    }
}

impl From<Outage> for Problem {
    fn from(outage: Outage) -> Self {
        let (request_id, error) = (request_id::current(), in_full(&outage));
        if is_our_fault(&outage) {
            // The answer sends people to this very line.
            tracing::warn!(%request_id, %error, "a request failed on a server behind this one");
            return Self::internal();
        }
        if is_held(&outage) {
            tracing::debug!(%request_id, %error, "a request waited in vain for somebody else's transaction");
            return Self::held();
        }
        if let Some(kept_back) = LINES.may_speak() {
            tracing::warn!(%request_id, %error, kept_back, "a server behind this one is out of reach");
        }
        Self::database_away()
    }
}

/// The database is there and does not like what it was asked: repeating will not help.
fn is_our_fault(outage: &Outage) -> bool {
    match outage {
        Outage::Postgres {
            source: sqlx::Error::Database(_),
            ..
        } => !outage.is_passing(),
        Outage::Postgres { source, .. } => {
            matches!(
                source,
                sqlx::Error::Decode(_)
                    | sqlx::Error::ColumnDecode { .. }
                    | sqlx::Error::ColumnNotFound(_)
            )
        }
        _ => false,
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refusal) => refusal.into(),
            Error::Outage(outage) => outage.into(),
        }
    }
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::TooLarge(max) => {
                Self::too_large(format!("the file has more than {max} bytes"))
            }
            UploadError::Source(text) => Self::malformed(format!("the upload broke off: {text}")),
            UploadError::Config(text) | UploadError::Store(text) => {
                tracing::warn!(request_id = %request_id::current(), error = %text, "the object store did not take an upload");
                Self::unavailable("the object store does not take files now")
            }
            UploadError::GivenUp => Self::too_slow(),
            UploadError::Door(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_nothing_of_the_inside() {
        // S19
        let source = sqlx::Error::Io(std::io::Error::other(
            "connect to postgres://u:canary@10.0.0.1/x",
        ));
        let problem = Problem::from(Outage::Postgres {
            op: "reading jobs",
            source,
        });
        assert_eq!(problem.status(), 503);
        assert!(!problem.detail.contains("canary") && !problem.detail.contains("10.0.0.1"));
    }

    #[test]
    fn refusals_have_their_statuses() {
        let unknown = Refusal::Unknown {
            what: "kind",
            name: "x".into(),
            hint: "",
        };
        assert_eq!(
            (
                Problem::from(unknown).status(),
                Problem::from(Refusal::Conflict(String::new())).status()
            ),
            (422, 409)
        );
        let large = Refusal::TooLarge {
            what: "payload".into(),
            bytes: 1,
        };
        assert_eq!(
            (
                Problem::from(large).status(),
                Problem::from(Refusal::NotFound(String::new())).status()
            ),
            (413, 404)
        );
    }
}
