//! `POST /v1/documents`: a multipart body whose part `file` goes to the object store as it arrives; a part `tenant` may
//! stand before it.

use std::time::Duration;

use axum::{
    Json,
    body::Bytes,
    extract::{
        Multipart, State,
        multipart::{Field, MultipartRejection},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::Stream;

use crate::{
    api::{Api, problem::Problem},
    ops::upload::{Upload, add_stream},
};

/// A client that sends nothing for this long has gone.
const PIECE_DEADLINE: Duration = Duration::from_secs(30);
/// Boundaries, headers and the other parts beside the file.
const EXTRA_BYTES_MAX: u64 = 64 * 1024;
/// Longest accepted name of a tenant, as in the database.
const TENANT_BYTES_MAX: usize = 64;

pub(in crate::api) async fn one(
    State(api): State<Api>,
    headers: HeaderMap,
    multipart: Result<Multipart, MultipartRejection>,
) -> Result<Response, Problem> {
    let mut multipart = multipart.map_err(|_| Problem::malformed("send the file as multipart/form-data, in a part named \"file\""))?;
    refuse_early(&headers, api.0.upload_bytes_max)?;
    let mut tenant = "default".to_owned();
    while let Some(part) = next(&mut multipart).await? {
        match part.name() {
            Some("tenant") => tenant = short_text(part).await?,
            Some("file") => return store(&api, part, &tenant).await,
            _ => return Err(Problem::invalid("only the parts \"tenant\" and \"file\" are understood")),
        }
    }
    Err(Problem::invalid("the part \"file\" is missing"))
}

/// What says itself that it is too large need not be sent.
fn refuse_early(headers: &HeaderMap, bytes_max: u64) -> Result<(), Problem> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|n| n > bytes_max + EXTRA_BYTES_MAX) {
        return Err(Problem::too_large(format!("the file has more than {bytes_max} bytes")));
    }
    Ok(())
}

async fn next(multipart: &mut Multipart) -> Result<Option<Field<'_>>, Problem> {
    let part = tokio::time::timeout(PIECE_DEADLINE, multipart.next_field()).await.map_err(|_| Problem::too_slow())?;
    part.map_err(|_| Problem::malformed("the multipart body is damaged"))
}

async fn short_text(mut part: Field<'_>) -> Result<String, Problem> {
    let mut text = Vec::new();
    while let Some(piece) = part.chunk().await.map_err(|_| Problem::malformed("the multipart body is damaged"))? {
        text.extend_from_slice(&piece);
        if text.len() > TENANT_BYTES_MAX {
            return Err(Problem::invalid("the part \"tenant\" is too long"));
        }
    }
    String::from_utf8(text).map_err(|_| Problem::invalid("the part \"tenant\" is no text"))
}

async fn store(api: &Api, part: Field<'_>, tenant: &str) -> Result<Response, Problem> {
    let name = part.file_name().unwrap_or("document.pdf").to_owned();
    let upload = Upload { name: &name, tenant, bytes_max: api.0.upload_bytes_max };
    let id = add_stream(api.pg(), &api.0.producer.parts().catalog, &api.0.objects, pieces(part), &upload).await?;
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, format!("/v1/documents/{id}"))], Json(serde_json::json!({"id": id}))).into_response())
}

/// The bytes of the part as they arrive, each piece within its deadline.
fn pieces(part: Field<'_>) -> impl Stream<Item = Result<Bytes, String>> {
    futures::stream::try_unfold(part, |mut part| async move {
        match tokio::time::timeout(PIECE_DEADLINE, part.chunk()).await {
            Ok(Ok(piece)) => Ok(piece.map(|piece| (piece, part))),
            Ok(Err(_)) => Err("the body ended early".to_owned()),
            Err(_) => Err("nothing came for too long".to_owned()),
        }
    })
}
