//! `GET /v1/jobs/{id}/explain`.

use axum::{Json, extract::State};

use super::no_job;
use crate::{
    api::{Api, extract::Id, problem::Problem},
    ops::explain::{Explanation, explain},
};

pub(in crate::api) async fn one(
    State(api): State<Api>,
    Id(id): Id,
) -> Result<Json<Explanation>, Problem> {
    explain(api.pg(), id)
        .await?
        .map(Json)
        .ok_or_else(|| no_job(id))
}
