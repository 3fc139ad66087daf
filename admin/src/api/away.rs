//! What needs Postgres is refused at once while Postgres is known to be away: a caller with a deadline of its own can go
//! elsewhere, and a queue of waiting requests does not meet the server in the moment that it is back.
//!
//! Requests in progress when it goes are left alone: a restart takes a second or two, and an enqueue survives it.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};

use super::{Api, problem::Problem, watch::TAKES_NO_WRITES};

pub(super) async fn check(
    State(api): State<Api>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if api.0.watch.postgres.is_open() {
        let why = api.0.watch.postgres.state().why;
        return Err(if why == Some(TAKES_NO_WRITES) {
            Problem::database_read_only()
        } else {
            Problem::database_away()
        });
    }
    Ok(next.run(request).await)
}
