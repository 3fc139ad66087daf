//! `GET /v1/jobs/{id}/log`: what the job's handler has logged, newest first.

use axum::{
    Json,
    extract::{OriginalUri, State},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use uuid::Uuid;

use super::no_job;
use crate::{
    api::{
        Api, cursor,
        extract::{ApiQuery, Id},
        problem::Problem,
    },
    ops::{PAGE_ROWS, jobs, logs},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct LogQuery {
    limit: Option<u32>,
    cursor: Option<String>,
}

pub(in crate::api) async fn page(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    Id(id): Id,
    ApiQuery(query): ApiQuery<LogQuery>,
) -> Result<Response, Problem> {
    let cursor = query
        .cursor
        .as_deref()
        .map(cursor::read)
        .transpose()?
        .map(|cursor| cursor.as_u128() as i64);
    let page = logs::page(api.pg(), id, query.limit.unwrap_or(PAGE_ROWS), cursor).await?;
    if page.items.is_empty() && jobs::one(api.pg(), id).await?.is_none() {
        return Err(no_job(id));
    }
    let next = page.next.map(|next| Uuid::from_u128(next as u128));
    Ok((
        cursor::link(&uri, next),
        Json(cursor::Page::new(page.items, next)),
    )
        .into_response())
}
