//! `GET /v1/stats`: the fleet in numbers.

use axum::{Json, extract::State};

use super::{Api, problem::Problem};
use crate::ops::stats::{self, Stats};

pub(super) async fn all(State(api): State<Api>) -> Result<Json<Stats>, Problem> {
    Ok(Json(stats::stats(api.pg()).await?))
}
