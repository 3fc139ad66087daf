//! `document.image`: reads the text in one image and takes its fingerprint (P2, P3, stage 2).
//!
//! An image that cannot be decoded fails its own job only; the stage bears a share of those. OCR that reaches a limit is
//! no failure of the image: what takes a minute of CPU to read holds no text worth it, and the fingerprint still counts.

use std::{path::PathBuf, sync::Arc};

use futures::FutureExt;
use millstream_common::limits::{LOG_LINE_BYTES_MAX, bounded};
use serde_json::json;

use super::{
    Pipeline,
    failure::{blocking, gone},
    payload::OfImage,
    store::{self, ImageFacts, Vector},
    tools::{
        Note, ToolError,
        error::code,
        fingerprint::{Fingerprint, IMAGE_MODEL, fingerprint},
        normalise::normalise,
        note,
        ocr::{self, Hint, OcrText},
        png,
    },
};
use crate::{Context, Outcome, Success, outcome::Failure};

/// The limits after which OCR gives up on an image.
const OCR_LIMITS: [&str; 4] = [code::LIMIT_CPU, code::LIMIT_TIME, code::LIMIT_MEMORY, code::LIMIT_OUTPUT];

pub(super) async fn run(pipeline: Arc<Pipeline>, context: Context, at: OfImage) -> Outcome {
    let _gate = pipeline.gates.image().await?;
    pipeline.announcer.begin(&context, || format!("page {}, image {}", at.page, at.position)).await;
    let key = store::image_key(context.pg(), &at).await?.ok_or_else(|| gone("the image"))?;
    let workspace = pipeline.home.workspace()?;
    let file = workspace.fetch(&pipeline.objects, &key, "image.png").await?;
    let fingerprint = decode(&pipeline, file.clone()).await?;
    let read = ocr::read(&pipeline.sandbox(&workspace), &file, Hint { dpi: 0, is_page: false }, &pipeline.config.ocr_languages).await;
    let (ocr, notes) = match read {
        Ok(found) => (Some(blocking(move || OcrText { text: normalise(&found.text), ..found }).await?), Vec::new()),
        Err(error) => (None, vec![gave_up(&context, &at, error)?]),
    };
    finish(at, ImageFacts { fingerprint, ocr }, notes)
}

/// First, because what cannot be decoded needs no OCR.
async fn decode(pipeline: &Pipeline, file: PathBuf) -> Result<Fingerprint, Failure> {
    let header = png::check(&file).await?;
    let memory = pipeline.gates.decoding(&header).await?;
    let decoded = blocking(move || {
        let fingerprint = fingerprint(&file);
        // Held by the thread that has the pixels: a job that is dropped does not stop it.
        drop(memory);
        fingerprint
    });
    Ok(decoded.await??)
}

/// A limit is no failure of the image: the document's report says that its text was not read.
fn gave_up(context: &Context, at: &OfImage, error: ToolError) -> Result<Note, Failure> {
    if !error.document_code().is_some_and(|code| OCR_LIMITS.contains(&code)) {
        return Err(error.into());
    }
    context.log(bounded(&format!("the image's text was not read: {error}"), LOG_LINE_BYTES_MAX));
    Ok(Note::refused(at.page as u32, at.position as u32, note::code::OCR_GAVE_UP, &error))
}

fn finish(at: OfImage, facts: ImageFacts, notes: Vec<Note>) -> Outcome {
    let letters = facts.ocr.as_ref().map(|ocr| ocr.text.chars().count());
    let success = Success::with_result(&json!({"text_chars": letters, "sha256": facts.fingerprint.sha256_hex}))?;
    let vector = Vector {
        source: "image",
        ordinal: at.ordinal(),
        model: IMAGE_MODEL.to_owned(),
        content_hash: facts.fingerprint.sha256_hex.clone(),
        numbers: facts.fingerprint.vector.clone(),
    };
    Ok(success.and_write(store::effect(move |conn| {
        async move {
            store::image_facts(conn, &at, &facts).await?;
            store::notes(conn, at.document_id, &notes).await?;
            store::embedding(conn, at.document_id, &vector).await
        }
        .boxed()
    })))
}
