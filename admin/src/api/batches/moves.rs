//! What people do with a batch: seal it, cancel it, retry its dead jobs.

use axum::{Json, extract::State};
use serde::Serialize;

use crate::{
    api::{ACTOR, Api, extract::Id, problem::Problem},
    ops::batches::{self, Batch},
};

#[derive(Debug, Serialize)]
pub(in crate::api) struct Retried {
    retried: u64,
}

pub(in crate::api) async fn seal(
    State(api): State<Api>,
    Id(id): Id,
) -> Result<Json<Batch>, Problem> {
    Ok(Json(batches::seal(api.pg(), id).await?))
}

pub(in crate::api) async fn cancel(
    State(api): State<Api>,
    Id(id): Id,
) -> Result<Json<Batch>, Problem> {
    Ok(Json(batches::cancel(api.pg(), id, ACTOR).await?))
}

pub(in crate::api) async fn retry(
    State(api): State<Api>,
    Id(id): Id,
) -> Result<Json<Retried>, Problem> {
    let retried = batches::retry_failed(api.pg(), id, ACTOR).await?;
    Ok(Json(Retried { retried }))
}
