//! Every request ends: late answers help nobody, and slow bodies must not hold connections (S11).

use std::time::Duration;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};

use super::problem::Problem;

/// For requests whose work is one or two statements.
pub(super) const ORDINARY: Duration = Duration::from_secs(20);
/// For those that wait for a job, which themselves end after 60 s.
pub(super) const WAITING: Duration = Duration::from_secs(75);
/// For uploads; each piece of the body has a deadline of its own.
pub(super) const UPLOAD: Duration = Duration::from_hours(1);

pub(super) async fn check(
    State(limit): State<Duration>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    tokio::time::timeout(limit, next.run(request))
        .await
        .map_err(|_| Problem::late())
}
