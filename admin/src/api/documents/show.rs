//! `GET /v1/documents/{id}`: the document with its stages.

use axum::{Json, extract::State};

use crate::{
    api::{Api, extract::Id, problem::Problem},
    ops::documents::{self, Document},
};

pub(in crate::api) async fn one(State(api): State<Api>, Id(id): Id) -> Result<Json<Document>, Problem> {
    documents::one(api.pg(), id).await?.map(Json).ok_or_else(|| Problem::not_found(format!("there is no document {id}")))
}
