//! Requests into values, with faults told in the one form of errors.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{StatusCode, header, request::Parts},
};
use millstream_common::{json, limits::bounded};
use serde::{Deserialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{pace::is_too_slow, problem::Problem};

/// A JSON body.
pub(super) struct ApiJson<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for ApiJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        ApiBytes::from_request(request, state)
            .await
            .and_then(|body| parse(&body.0))
            .map(Self)
    }
}

/// The bytes of a JSON body.
pub(super) struct ApiBytes(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for ApiBytes {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("");
        // What a form of another site can send without asking is not JSON; what says it is JSON had to be asked for.
        if !kind
            .split(';')
            .next()
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
        {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_json",
                "send the body with \"Content-Type: application/json\"",
            ));
        }
        match Bytes::from_request(request, state).await {
            Ok(bytes) => Ok(Self(bytes)),
            Err(e) if e.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Problem::too_large(
                "the body is larger than this request may be",
            )),
            Err(e) if is_too_slow(&e) => Err(Problem::too_slow()),
            Err(_) => Err(Problem::malformed("the body broke off")),
        }
    }
}

/// JSON text into a value: what is no JSON is malformed, what is JSON and not what was asked for is invalid, and its field is named.
pub(super) fn parse<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Result<T, Problem> {
    json::decode(text).map_err(|misfit| {
        let detail = bounded(&misfit.text, 300);
        if misfit.is_json {
            Problem::invalid(detail)
        } else {
            Problem::malformed(format!("the body is no JSON: {detail}"))
        }
    })
}

/// The parameters of the address; unknown ones are refused by the types they go into.
pub(super) struct ApiQuery<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let wrong = |e: axum::extract::rejection::QueryRejection| {
            Problem::malformed(bounded(&e.body_text(), 300))
        };
        Query::from_request_parts(parts, state)
            .await
            .map(|Query(value)| Self(value))
            .map_err(wrong)
    }
}

/// The id in the path.
pub(super) struct Id(pub(super) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state)
            .await
            .map(|Path(text)| text)
            .unwrap_or_default();
        text.parse()
            .map(Self)
            .map_err(|_| Problem::malformed("the id in the path is no UUID"))
    }
}
