//! `POST /v1/documents`: a multipart body whose part `file` goes to the object store as it arrives; a part `tenant` may
//! stand before it. Nothing stands behind it.

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
use tokio::sync::{mpsc, oneshot};

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
/// A part there would be told too late: the file is stored by then, for the default tenant.
const AFTER_THE_FILE: &str = "a part comes after the file, or the end of the form is missing: \"tenant\" goes before \"file\", which is the last";
/// Longest accepted name of a tenant, as in the database.
const TENANT_BYTES_MAX: usize = 64;

pub(in crate::api) async fn one(
    State(api): State<Api>,
    request: Request,
) -> Result<Response, Problem> {
    refuse_early(request.headers(), api.0.upload_bytes_max)?;
    let full = |_| Problem::unavailable("too many uploads are under way; come again in a moment");
    let _place = api.0.uploads.try_acquire().map_err(full)?;
    let form = Form::of(request).await?;
    let (to_store, head) = oneshot::channel();
    let (send, receive) = mpsc::channel(1);
    // One side reads the form to its end, the other one stores: the document is there only if the whole form was right.
    let storing = async {
        match head.await {
            Ok(head) => Some(store(&api, head, receive).await),
            // Refused before its file.
            Err(_) => None,
        }
    };
    let (read, stored) = tokio::join!(read(form, to_store, send), storing);
    read?;
    stored.unwrap_or_else(|| Err(missing()))
}

fn missing() -> Problem {
    Problem::invalid("the part \"file\" is missing")
}

/// What stands before the bytes of the file.
struct Head {
    name: String,
    tenant: String,
}

/// A piece of the file, or why there is no file.
type Piece = Result<Bytes, &'static str>;

/// Reads the form: what is wrong before the file is the answer, what is wrong later ends the pieces. Nobody takes pieces any more when
/// the store has failed, which is the answer then.
async fn read(
    mut form: Form,
    head: oneshot::Sender<Head>,
    pieces: mpsc::Sender<Piece>,
) -> Result<(), Problem> {
    let mut tenant = None;
    let mut part = loop {
        let part = form.next().await?.ok_or_else(missing)?;
        match part.name() {
            Some("file") => break part,
            Some("tenant") if tenant.is_none() => tenant = Some(short_text(part).await?),
            Some("tenant") => {
                return Err(Problem::invalid("the part \"tenant\" stands there twice"));
            }
            _ => {
                return Err(Problem::invalid(
                    "only the parts \"tenant\" and \"file\" are understood",
                ));
            }
        }
    };
    let name = part.file_name().unwrap_or("document.pdf").to_owned();
    let tenant = tenant.unwrap_or_else(|| "default".to_owned());
    drop(head.send(Head { name, tenant }));
    loop {
        let piece = tokio::select! {
            piece = next_piece(&mut part) => piece.transpose(),
            () = pieces.closed() => return Ok(()),
        };
        let Some(piece) = piece else { break };
        let is_last = piece.is_err();
        if pieces.send(piece).await.is_err() || is_last {
            return Ok(());
        }
    }
    // The form has no next part before this one is gone.
    drop(part);
    if !matches!(form.parts.next_field().await, Ok(None)) {
        drop(pieces.send(Err(AFTER_THE_FILE)).await);
    }
    Ok(())
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

async fn store(api: &Api, head: Head, pieces: mpsc::Receiver<Piece>) -> Result<Response, Problem> {
    let upload = Upload {
        name: &head.name,
        tenant: &head.tenant,
        bytes_max: api.0.upload_bytes_max,
    };
    let id = add_stream(
        api.pg(),
        &api.0.producer.parts().catalog,
        &api.0.objects,
        received(pieces),
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

fn received(pieces: mpsc::Receiver<Piece>) -> impl Stream<Item = Piece> {
    futures::stream::unfold(pieces, |mut pieces| async move {
        pieces.recv().await.map(|piece| (piece, pieces))
    })
}

async fn next_piece(part: &mut Field<'_>) -> Result<Option<Bytes>, &'static str> {
    part.chunk().await.map_err(|e| {
        if is_too_slow(&e) {
            "it came too slowly"
        } else {
            "the body ended early"
        }
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

    /// Bytes of the file, as far as it comes.
    async fn file(part: &mut Field<'_>) -> Result<usize, &'static str> {
        let mut bytes = 0;
        while let Some(piece) = next_piece(part).await? {
            bytes += piece.len();
        }
        Ok(bytes)
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
        let mut part = form.next().await.unwrap().unwrap();
        assert_eq!(file(&mut part).await, Err("it came too slowly"));
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
        let mut part = form.next().await.unwrap().unwrap();
        assert_eq!(file(&mut part).await, Ok("%PDF".len() + 100 * junk.len()));
    }
}
