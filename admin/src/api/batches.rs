//! `/v1/batches`: groups of jobs (F40). The statements are those of `ops::batches`.

use axum::{
    Json,
    extract::{OriginalUri, State},
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
    api::{
        ACTOR, Api, cursor,
        extract::{ApiJson, ApiQuery, Id},
        problem::Problem,
    },
    ops::{
        batches::{self, Batch, BatchReport},
        page,
        request::no_payload,
    },
};

/// A batch to be opened.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchRequest {
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    tenant: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Retried {
    retried: u64,
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

pub(super) async fn open(
    State(api): State<Api>,
    ApiJson(asked): ApiJson<BatchRequest>,
) -> Result<Response, Problem> {
    let id = batch::open(api.pg(), &asked.into_batch()).await?;
    Ok((StatusCode::CREATED, Json(Opened { id })).into_response())
}

pub(super) async fn one_page(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Response, Problem> {
    let cursor = query.cursor.as_deref().map(cursor::read).transpose()?;
    let limit = page::limit(query.limit)?;
    let page = batches::list(api.pg(), query.tenant.as_deref(), limit, cursor).await?;
    Ok((
        cursor::link(&uri, page.next),
        Json(cursor::Page::new(page.items, page.next)),
    )
        .into_response())
}

pub(super) async fn show(State(api): State<Api>, Id(id): Id) -> Result<Json<BatchReport>, Problem> {
    Ok(Json(batches::show(api.pg(), id).await?))
}

pub(super) async fn seal(State(api): State<Api>, Id(id): Id) -> Result<Json<Batch>, Problem> {
    Ok(Json(batches::seal(api.pg(), id).await?))
}

pub(super) async fn cancel(State(api): State<Api>, Id(id): Id) -> Result<Json<Batch>, Problem> {
    Ok(Json(batches::cancel(api.pg(), id, ACTOR).await?))
}

pub(super) async fn retry(State(api): State<Api>, Id(id): Id) -> Result<Json<Retried>, Problem> {
    let retried = batches::retry_failed(api.pg(), id, ACTOR).await?;
    Ok(Json(Retried { retried }))
}
