//! `GET /v1/queues`: all queues, what waits in them, and whether they are paused.

use axum::{Json, extract::State};

use super::{Api, cursor::Items, problem::Problem};
use crate::ops::queues::{self, Queue};

pub(super) async fn all(State(api): State<Api>) -> Result<Json<Items<Queue>>, Problem> {
    Ok(Json(Items::of(queues::list(api.pg()).await?)))
}
