//! `GET /v1/batches/{id}`: one batch, its work, and what has failed in it.

use axum::{Json, extract::State};

use crate::{
    api::{Api, extract::Id, problem::Problem},
    ops::batches::{self, BatchReport},
};

pub(in crate::api) async fn one(
    State(api): State<Api>,
    Id(id): Id,
) -> Result<Json<BatchReport>, Problem> {
    Ok(Json(batches::show(api.pg(), id).await?))
}
