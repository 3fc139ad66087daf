//! `POST /v1/documents`: a multipart body whose part `file` goes to the object store as it arrives; a part `tenant` may
//! stand before it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{
        FromRequest, Multipart, Request, State,
        multipart::{Field, MultipartError},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{Stream, StreamExt};

use crate::{
    api::{
        Api,
        pace::{Pace, is_too_slow, paced},
        problem::Problem,
    },
    ops::upload::{Upload, add_stream},
};

/// A client that sends nothing for so long has gone, and one whose line is slower than 128 kbit/s keeps a place for too long.
const PACE: Pace = Pace {
    piece: Duration::from_secs(30),
    bytes_per_s: 16 * 1024,
};
/// Boundaries, headers and the other parts beside the file.
const EXTRA_BYTES_MAX: u64 = 64 * 1024;
/// Longest accepted name of a tenant, as in the database.
const TENANT_BYTES_MAX: usize = 64;

pub(in crate::api) async fn one(
    State(api): State<Api>,
    request: Request,
) -> Result<Response, Problem> {
    refuse_early(request.headers(), api.0.upload_bytes_max)?;
    let full = |_| Problem::unavailable("too many uploads are under way; come again in a moment");
    let _place = api.0.uploads.try_acquire().map_err(full)?;
    let mut form = Form::of(request).await?;
    let mut tenant = "default".to_owned();
    while let Some(part) = form.next().await? {
        match part.name() {
            Some("tenant") => tenant = short_text(part).await?,
            Some("file") => return store(&api, part, &tenant).await,
            _ => {
                return Err(Problem::invalid(
                    "only the parts \"tenant\" and \"file\" are understood",
                ));
            }
        }
    }
    Err(Problem::invalid("the part \"file\" is missing"))
}

/// The parts of a multipart body. Whatever is not the file has an end in bytes, and all of it has a pace.
struct Form {
    parts: Multipart,
    allowance: Allowance,
}

/// How many bytes may still arrive. The form's reader keeps all that it has read until it finds a boundary.
#[derive(Clone)]
struct Allowance(Arc<AtomicU64>);

impl Form {
    async fn of(request: Request) -> Result<Self, Problem> {
        let allowance = Allowance(Arc::new(AtomicU64::new(EXTRA_BYTES_MAX)));
        let metered =
            request.map(|body| Body::from_stream(metered(paced(body, PACE), allowance.clone())));
        let parts = Multipart::from_request(metered, &()).await;
        let parts = parts.map_err(|_| {
            Problem::malformed("send the file as multipart/form-data, in a part named \"file\"")
        })?;
        Ok(Self { parts, allowance })
    }

    async fn next(&mut self) -> Result<Option<Field<'_>>, Problem> {
        let part = self.parts.next_field().await.map_err(|e| damaged(&e))?;
        if part
            .as_ref()
            .is_some_and(|part| part.name() == Some("file"))
        {
            // The upload counts its bytes itself.
            self.allowance.0.store(u64::MAX, Ordering::Relaxed);
        }
        Ok(part)
    }
}

/// The pieces of a body, as far as they are allowed.
fn metered(body: Body, allowance: Allowance) -> impl Stream<Item = Result<Bytes, axum::Error>> {
    futures::stream::try_unfold(body.into_data_stream(), move |mut pieces| {
        let left = allowance.0.clone();
        async move {
            // One piece at a time: the form's reader takes whatever is ready before it looks at any of it.
            tokio::task::yield_now().await;
            let Some(piece) = pieces.next().await.transpose()? else {
                return Ok(None);
            };
            let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some(left.saturating_sub(piece.len() as u64))
            });
            if before == Ok(0) {
                Err(axum::Error::new("the form is too long before its file"))
            } else {
                Ok(Some((piece, pieces)))
            }
        }
    })
}

fn damaged(error: &MultipartError) -> Problem {
    if is_too_slow(error) {
        return Problem::too_slow();
    }
    Problem::malformed(
        "the multipart body is damaged, or has over 64 KiB before its file: is the boundary right?",
    )
}

/// What says itself that it is too large need not be sent.
fn refuse_early(headers: &HeaderMap, bytes_max: u64) -> Result<(), Problem> {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|n| n > bytes_max + EXTRA_BYTES_MAX) {
        return Err(Problem::too_large(format!(
            "the file has more than {bytes_max} bytes"
        )));
    }
    Ok(())
}

async fn short_text(mut part: Field<'_>) -> Result<String, Problem> {
    let mut text = Vec::new();
    while let Some(piece) = part.chunk().await.map_err(|e| damaged(&e))? {
        text.extend_from_slice(&piece);
        if text.len() > TENANT_BYTES_MAX {
            return Err(Problem::invalid("the part \"tenant\" is too long"));
        }
    }
    String::from_utf8(text).map_err(|_| Problem::invalid("the part \"tenant\" is no text"))
}

async fn store(api: &Api, part: Field<'_>, tenant: &str) -> Result<Response, Problem> {
    let name = part.file_name().unwrap_or("document.pdf").to_owned();
    let upload = Upload {
        name: &name,
        tenant,
        bytes_max: api.0.upload_bytes_max,
    };
    let id = add_stream(
        api.pg(),
        &api.0.producer.parts().catalog,
        &api.0.objects,
        pieces(part),
        &upload,
    )
    .await?;
    Ok((
        StatusCode::ACCEPTED,
        [(header::LOCATION, format!("/v1/documents/{id}"))],
        Json(serde_json::json!({"id": id})),
    )
        .into_response())
}

/// The bytes of the part as they arrive. They end with the first error: the part itself would repeat it for ever.
fn pieces(part: Field<'_>) -> impl Stream<Item = Result<Bytes, &'static str>> {
    futures::stream::try_unfold(part, |mut part| async move {
        let piece = part.chunk().await.map_err(|e| {
            if is_too_slow(&e) {
                "it came too slowly"
            } else {
                "the body ended early"
            }
        })?;
        Ok(piece.map(|piece| (piece, part)))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// A form of these pieces, which then says nothing more.
    fn stalled(pieces: &[&str]) -> Request {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Ok::<_, std::io::Error>(Bytes::from((*piece).to_owned())))
            .collect();
        let body =
            Body::from_stream(futures::stream::iter(pieces).chain(futures::stream::pending()));
        Request::post("/")
            .header("content-type", "multipart/form-data; boundary=b")
            .body(body)
            .unwrap()
    }

    const TENANT: &str = "--b\r\nContent-Disposition: form-data; name=\"tenant\"\r\n\r\n";
    const FILE: &str =
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.pdf\"\r\n\r\n%PDF";

    #[tokio::test(start_paused = true)]
    async fn a_form_that_stalls_anywhere_is_given_up() {
        // X66
        for pieces in [&[][..], &["--"], &["--b\r\nContent-Dis"]] {
            let problem = Form::of(stalled(pieces))
                .await
                .unwrap()
                .next()
                .await
                .unwrap_err();
            assert_eq!(problem.status(), 408, "{pieces:?}");
        }
        let mut form = Form::of(stalled(&[TENANT, "acme"])).await.unwrap();
        let part = form.next().await.unwrap().unwrap();
        assert_eq!(short_text(part).await.unwrap_err().status(), 408);
        let mut form = Form::of(stalled(&[FILE])).await.unwrap();
        let part = form.next().await.unwrap().unwrap();
        let read: Vec<_> = pieces(part).collect().await;
        assert_eq!(read.last().unwrap(), &Err("it came too slowly"));
    }

    #[tokio::test]
    async fn what_is_no_part_ends_after_64_kib_and_a_file_does_not() {
        // X66
        let junk = "x".repeat(16 * 1024);
        let mut form = Form::of(stalled(&[junk.as_str(); 100])).await.unwrap();
        assert_eq!(form.next().await.unwrap_err().status(), 400);
        let pieces_of_file: Vec<&str> = std::iter::once(FILE)
            .chain(std::iter::repeat_n(junk.as_str(), 100))
            .chain(["\r\n--b--"])
            .collect();
        let mut form = Form::of(stalled(&pieces_of_file)).await.unwrap();
        let part = form.next().await.unwrap().unwrap();
        let read: Vec<Bytes> = pieces(part).map(Result::unwrap).collect().await;
        assert_eq!(
            read.iter().map(Bytes::len).sum::<usize>(),
            "%PDF".len() + 100 * junk.len()
        );
    }
}
