//! `GET /v1/jobs`: filters and a cursor.

use axum::{
    Json,
    extract::{OriginalUri, State},
    response::{IntoResponse, Response},
};
use millstream_common::state::State as JobState;
use serde::Deserialize;

use crate::{
    api::{Api, cursor, extract::ApiQuery, problem::Problem},
    ops::{
        jobs::{self, Filter},
        page, times,
    },
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ListQuery {
    state: Option<String>,
    queue: Option<String>,
    kind: Option<String>,
    tenant: Option<String>,
    since: Option<String>,
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
    let page = jobs::list(api.pg(), &query.into_filter()?, limit, cursor).await?;
    Ok((
        cursor::link(&uri, page.next),
        Json(cursor::Page::new(page.items, page.next)),
    )
        .into_response())
}

impl ListQuery {
    fn into_filter(self) -> Result<Filter, Problem> {
        let states = self
            .state
            .iter()
            .flat_map(|text| text.split(','))
            .map(|name| name.trim().parse::<JobState>());
        let states = states.collect::<Result<_, _>>().map_err(Problem::invalid)?;
        let since = self
            .since
            .as_deref()
            .map(times::parse)
            .transpose()
            .map_err(|why| Problem::malformed(format!("since: {why}")))?;
        Ok(Filter {
            states,
            queue: self.queue,
            kind: self.kind,
            tenant: self.tenant,
            since,
        })
    }
}
