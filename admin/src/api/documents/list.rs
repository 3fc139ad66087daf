//! `GET /v1/documents`.

use axum::{
    Json,
    extract::{OriginalUri, State},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use crate::{
    api::{Api, cursor, extract::ApiQuery, problem::Problem},
    ops::{documents, page},
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DocumentState {
    Running,
    Completed,
    Failed,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ListQuery {
    state: Option<DocumentState>,
    limit: Option<i64>,
    cursor: Option<String>,
}

pub(in crate::api) async fn one_page(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Response, Problem> {
    let cursor = query.cursor.as_deref().map(cursor::read).transpose()?;
    let state = query.state.map(|state| match state {
        DocumentState::Running => "running",
        DocumentState::Completed => "completed",
        DocumentState::Failed => "failed",
    });
    let page = documents::list(api.pg(), state, page::limit(query.limit)?, cursor).await?;
    Ok((
        cursor::link(&uri, page.next),
        Json(cursor::Page::new(page.items, page.next)),
    )
        .into_response())
}
