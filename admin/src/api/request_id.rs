//! Every request has an id: the caller's `X-Request-Id` if it is decent, else a new one. It is in the answer, in problems and in
//! the log, and links them.

use axum::{extract::Request, http::HeaderValue, middleware::Next, response::Response};
use millstream_common::id::new_job_id;
use std::time::Instant;

const HEADER: &str = "x-request-id";
/// Longest accepted id of a caller.
const CHARS_MAX: usize = 64;

tokio::task_local! {
    static ID: String;
}

/// The id of the request that is being answered; empty outside of one.
pub(super) fn current() -> String {
    ID.try_with(Clone::clone).unwrap_or_default()
}

pub(super) async fn assign(request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(HEADER)
        .and_then(|value| value.to_str().ok())
        .filter(|id| is_decent(id));
    let id = given.map_or_else(|| new_job_id().to_string(), str::to_owned);
    let (method, path, started) = (
        request.method().clone(),
        request.uri().path().to_owned(),
        Instant::now(),
    );
    let mut response = ID.scope(id.clone(), next.run(request)).await;
    tracing::debug!(request_id = %id, %method, %path, status = response.status().as_u16(), ms = started.elapsed().as_millis() as u64, "request");
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HEADER, value);
    }
    response
}

fn is_decent(id: &str) -> bool {
    (1..=CHARS_MAX).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::is_decent;

    #[test]
    fn a_callers_id_cannot_write_into_the_log() {
        // S35
        assert!(is_decent("0198-abc_D.1"));
        assert!(
            !is_decent("")
                && !is_decent("a b")
                && !is_decent("a\u{1b}[31m")
                && !is_decent(&"x".repeat(65))
        );
    }
}
