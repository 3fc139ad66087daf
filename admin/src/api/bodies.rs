//! The large bodies of all requests together have a limit in memory: requests beyond it wait for their turn.
//!
//! A body counts with the length that it announces, or as the largest that its address takes, from before it is read until it is
//! answered: what is made of it is of the same order. Who has room and sends slowly keeps others from it, so a large body has a pace.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    http::header,
    middleware::Next,
    response::Response,
};

use super::{
    Api,
    pace::{Pace, paced},
    problem::Problem,
};

/// What bulk requests may hold at the same time: four of the largest.
pub(super) const KIBIBYTES_MAX: usize = 64 * 1024;

/// The slowest line that is served sends half a megabit a second. Who sends nothing gives the room back after this long.
const PACE: Pace = Pace {
    piece: Duration::from_secs(5),
    bytes_per_s: 64 * 1024,
};

/// Lets a request through when there is room for its body. `bytes_max` is what its address takes.
pub(super) async fn admit(
    State((api, bytes_max)): State<(Api, usize)>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(Problem::too_large(
            "the body is larger than this request may be",
        ));
    }
    let bytes = announced.map_or(bytes_max, |bytes| bytes as usize);
    // The deadline of the request bounds the waiting. Nobody closes the semaphore.
    let _room = api
        .0
        .large_bodies
        .acquire_many(bytes.div_ceil(1024) as u32)
        .await
        .map_err(|_| Problem::internal())?;
    Ok(next.run(request.map(|body| paced(body, PACE))).await)
}
