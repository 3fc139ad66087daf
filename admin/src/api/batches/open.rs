//! `POST /v1/batches`: opens a batch.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use millstream_common::{
    batch::{self, NewBatch, Next},
    id::BatchId,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    api::{Api, extract::ApiJson, problem::Problem},
    ops::request::no_payload,
};

/// A batch to be opened.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct BatchRequest {
    id: Option<BatchId>,
    name: Option<String>,
    tenant: Option<String>,
    #[serde(default)]
    failure_share_max: f32,
    next: Option<NextRequest>,
}

/// The job that follows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NextRequest {
    kind: String,
    queue: Option<String>,
    #[serde(default = "no_payload")]
    payload: Box<RawValue>,
    #[serde(default)]
    only_if_completed: bool,
}

#[derive(Debug, Serialize)]
struct Opened {
    id: BatchId,
}

impl BatchRequest {
    fn into_batch(self) -> NewBatch {
        let new = NewBatch::default();
        NewBatch {
            id: self.id.unwrap_or(new.id),
            name: self.name,
            tenant: self.tenant.unwrap_or(new.tenant),
            failure_share_max: self.failure_share_max,
            next: self.next.map(|next| Next {
                queue: next.queue.unwrap_or_else(|| "default".into()),
                payload: next.payload.get().to_owned(),
                only_if_completed: next.only_if_completed,
                ..Next::new(next.kind)
            }),
        }
    }
}

pub(in crate::api) async fn one(
    State(api): State<Api>,
    ApiJson(asked): ApiJson<BatchRequest>,
) -> Result<Response, Problem> {
    let id = batch::open(api.pg(), &asked.into_batch()).await?;
    Ok((StatusCode::CREATED, Json(Opened { id })).into_response())
}
