//! `GET /v1/documents/{id}`: the document with its stages and its report.

use axum::{Json, extract::State};
use serde::Deserialize;

use crate::{
    api::{
        Api,
        extract::{ApiQuery, Id},
        problem::Problem,
    },
    ops::{
        documents::{self, Document},
        page,
    },
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ShowQuery {
    /// Where the report begins.
    from_page: Option<i64>,
}

pub(in crate::api) async fn one(
    State(api): State<Api>,
    Id(id): Id,
    ApiQuery(query): ApiQuery<ShowQuery>,
) -> Result<Json<Document>, Problem> {
    let from = page::first(query.from_page)?;
    let document = documents::one(api.pg(), id, from).await?;
    document
        .map(Json)
        .ok_or_else(|| Problem::not_found(format!("there is no document {id}")))
}
