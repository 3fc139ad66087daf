//! `GET /v1/workers`: the workers that live, and, if asked for, those that have ended.

use axum::{Json, extract::State};
use serde::Deserialize;

use super::{Api, cursor::Items, extract::ApiQuery, problem::Problem};
use crate::ops::workers::{self, Worker};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkersQuery {
    /// Also those that stopped or were lost.
    #[serde(default)]
    all: bool,
}

pub(super) async fn all(
    State(api): State<Api>,
    ApiQuery(query): ApiQuery<WorkersQuery>,
) -> Result<Json<Items<Worker>>, Problem> {
    Ok(Json(Items::of(workers::list(api.pg(), query.all).await?)))
}
