//! `POST /v1/jobs`.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use millstream_common::{id::JobId, persist::Enqueued, state::State as JobState};
use serde::Serialize;

use crate::{
    api::{Api, extract::ApiJson, problem::Problem},
    ops::request::JobRequest,
};

/// The answer. Part of the outside interface.
#[derive(Debug, Serialize)]
pub(super) struct Accepted {
    id: JobId,
    state: JobState,
    duplicate: bool,
}

impl From<Enqueued> for Accepted {
    fn from(job: Enqueued) -> Self {
        Self {
            id: job.id,
            state: job.state,
            duplicate: job.duplicate,
        }
    }
}

/// Accepts a job; once this has answered, the job is not lost.
pub(in crate::api) async fn one(
    State(api): State<Api>,
    headers: HeaderMap,
    ApiJson(mut request): ApiJson<JobRequest>,
) -> Result<Response, Problem> {
    request.idempotency_key = key(&headers, request.idempotency_key.take())?;
    let enqueued = api.0.producer.enqueue(request.into_job()?).await?;
    let location = format!("/v1/jobs/{}", enqueued.id);
    Ok((
        StatusCode::ACCEPTED,
        [(header::LOCATION, location)],
        Json(Accepted::from(enqueued)),
    )
        .into_response())
}

/// The key of the body, or of the header `Idempotency-Key` (IETF draft: a quoted string; bare ones are common).
fn key(headers: &HeaderMap, in_body: Option<String>) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(in_body);
    };
    let text = value.to_str().map_err(|_| {
        Problem::malformed("the header Idempotency-Key has characters beyond ASCII")
    })?;
    let key = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text);
    match in_body {
        Some(other) if other != key => Err(Problem::invalid(
            "the header Idempotency-Key and the field idempotency_key differ",
        )),
        _ => Ok(Some(key.to_owned())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_key_may_stand_in_the_header_quoted_or_bare() {
        // F3
        let headers = |value: &str| {
            HeaderMap::from_iter([("idempotency-key".parse().unwrap(), value.parse().unwrap())])
        };
        assert_eq!(
            key(&headers("\"a b\""), None).unwrap().as_deref(),
            Some("a b")
        );
        assert_eq!(
            key(&headers("ab"), Some("ab".into())).unwrap().as_deref(),
            Some("ab")
        );
        assert_eq!(
            key(&headers("ab"), Some("other".into()))
                .unwrap_err()
                .status(),
            422
        );
        assert_eq!(
            key(&HeaderMap::new(), Some("x".into())).unwrap().as_deref(),
            Some("x")
        );
    }
}
