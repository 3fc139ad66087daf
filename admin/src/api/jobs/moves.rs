//! `POST /v1/jobs/{id}/cancel` and `/retry`: both answer with the job as it is now.

use axum::{Json, extract::State};
use millstream_common::{error::Refusal, id::JobId};

use super::no_job;
use crate::{
    api::{ACTOR, Api, extract::Id, problem::Problem},
    ops::{
        jobs::{self, Job},
        moves::Move,
    },
};

pub(in crate::api) async fn cancel(
    State(api): State<Api>,
    Id(id): Id,
) -> Result<Json<Job>, Problem> {
    moved(&api, Move::Cancel, id).await
}

pub(in crate::api) async fn retry(
    State(api): State<Api>,
    Id(id): Id,
) -> Result<Json<Job>, Problem> {
    moved(&api, Move::Retry, id).await
}

async fn moved(api: &Api, action: Move, id: JobId) -> Result<Json<Job>, Problem> {
    let done = action
        .each(api.pg(), &[id], ACTOR)
        .await?
        .iter()
        .any(|one| one.done);
    let job = jobs::one(api.pg(), id).await?.ok_or_else(|| no_job(id))?;
    if done || job.state == action.target().name() {
        return Ok(Json(job));
    }
    Err(Refusal::State(format!(
        "job {id} is {}, from which it cannot become {}",
        job.state,
        action.target()
    ))
    .into())
}
