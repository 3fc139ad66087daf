//! Queues, workers and the numbers at a glance.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};

use super::{Api, extract::ApiQuery, problem::Problem};
use crate::ops::{queues, stats, workers};

/// All of something that is few.
#[derive(Debug, Serialize)]
pub(super) struct Items<T> {
    items: Vec<T>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkersQuery {
    /// Also those that stopped or were lost.
    #[serde(default)]
    all: bool,
}

pub(super) async fn queues(State(api): State<Api>) -> Result<Json<Items<queues::Queue>>, Problem> {
    Ok(Json(Items {
        items: queues::list(api.pg()).await?,
    }))
}

pub(super) async fn workers(
    State(api): State<Api>,
    ApiQuery(query): ApiQuery<WorkersQuery>,
) -> Result<Json<Items<workers::Worker>>, Problem> {
    Ok(Json(Items {
        items: workers::list(api.pg(), query.all).await?,
    }))
}

pub(super) async fn stats(State(api): State<Api>) -> Result<Json<stats::Stats>, Problem> {
    Ok(Json(stats::stats(api.pg()).await?))
}
