//! `GET /v1/batches`: the batches of callers, the newest first, a page at a time.

use axum::{
    Json,
    extract::{OriginalUri, State},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use crate::{
    api::{Api, cursor, extract::ApiQuery, problem::Problem},
    ops::{batches, page},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ListQuery {
    tenant: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

pub(in crate::api) async fn one_page(
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
