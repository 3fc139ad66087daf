//! `document.image`: reads the text in one image and takes its fingerprint (P2, P3, stage 2).
//!
//! An image that cannot be decoded fails its own job only; the stage bears a share of those. OCR that gives up is no failure
//! of the image: what takes a minute of CPU to read holds no text worth it, and the fingerprint still counts. A scanned page
//! is an image too: all of it, drawn for OCR, beside the pictures that it is made of.

use std::{path::PathBuf, sync::Arc};

use futures::FutureExt;
use millstream_common::limits::{LOG_LINE_BYTES_MAX, bounded};
use millstream_worker::{Context, Failure, Outcome, Success};
use serde_json::json;

use super::{
    Pipeline,
    failure::{blocking, gone},
    payload::OfImage,
    store::{self, ImageFacts, Vector},
    tools::{
        Note, ToolError,
        fingerprint::{Fingerprint, IMAGE_MODEL, fingerprint},
        normalise::normalise,
        note,
        ocr::{self, Hint, OcrText},
        png,
    },
};

pub(super) async fn run(pipeline: Arc<Pipeline>, context: Context, at: OfImage) -> Outcome {
    let _gate = pipeline.gates.image().await?;
    pipeline
        .announcer
        .begin(&context, || {
            format!("page {}, image {}", at.page, at.position)
        })
        .await;
    let key = store::image_key(context.pg(), &at)
        .await?
        .ok_or_else(|| gone("the image"))?;
    let workspace = pipeline.home.workspace()?;
    let file = workspace
        .fetch(&pipeline.objects, &key, "image.png")
        .await?;
    // Of a page that was drawn for OCR nobody looks for the like.
    let fingerprint = if at.is_page() {
        None
    } else {
        Some(decode(&pipeline, file.clone()).await?)
    };
    if at.is_read_with_page {
        return finish(
            at,
            ImageFacts {
                fingerprint,
                ocr: Some(OcrText::default()),
            },
            Vec::new(),
        );
    }
    let hint = Hint {
        dpi: at.dpi,
        is_page: at.is_page(),
    };
    let memory = Arc::new(pipeline.gates.decoding(&png::check(&file).await?).await?);
    let (ocr, notes) = match ocr::read(
        &pipeline.sandbox(&workspace),
        &file,
        hint,
        &pipeline.config.ocr_languages,
        &memory,
    )
    .await
    {
        Ok(found) => {
            let found = blocking(move || OcrText {
                text: normalise(&found.text),
                ..found
            })
            .await?;
            let notes = without_text(&at, &found).into_iter().collect();
            (Some(found), notes)
        }
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

/// Whatever OCR does not take is no failure of the image, and must not cost the document its other text: the report says
/// that this one was not read.
fn gave_up(context: &Context, at: &OfImage, error: ToolError) -> Result<Note, Failure> {
    if error.document_code().is_none() {
        return Err(error.into());
    }
    context.log(bounded(
        &format!("the image's text was not read: {error}"),
        LOG_LINE_BYTES_MAX,
    ));
    if at.is_page() {
        return Ok(Note::page(
            at.page as u32,
            note::code::OCR_GAVE_UP,
            &error.to_string(),
        ));
    }
    Ok(Note::refused(
        at.page as u32,
        at.position as u32,
        note::code::OCR_GAVE_UP,
        &error,
    ))
}

/// A page that was drawn shows something, so it is told if that is no text.
fn without_text(at: &OfImage, found: &OcrText) -> Option<Note> {
    let is_without = at.is_page() && !found.text.contains(char::is_alphanumeric);
    is_without.then(|| {
        Note::page(
            at.page as u32,
            note::code::NO_TEXT,
            "it shows something, but OCR has found no text in it",
        )
    })
}

fn finish(at: OfImage, facts: ImageFacts, notes: Vec<Note>) -> Outcome {
    let letters = facts.ocr.as_ref().map(|ocr| ocr.text.chars().count());
    let sha256 = facts
        .fingerprint
        .as_ref()
        .map(|print| print.sha256_hex.as_str());
    let success = Success::with_result(&json!({"text_chars": letters, "sha256": sha256}))?;
    let vector = facts.fingerprint.as_ref().map(|print| Vector {
        source: "image",
        ordinal: at.ordinal(),
        model: IMAGE_MODEL.to_owned(),
        content_hash: print.sha256_hex.clone(),
        numbers: print.vector.clone(),
    });
    Ok(success.and_write(store::effect(move |conn| {
        async move {
            store::image_facts(conn, &at, &facts).await?;
            store::notes(conn, at.document_id, &notes).await?;
            match &vector {
                Some(vector) => store::embedding(conn, at.document_id, vector).await,
                None => Ok(()),
            }
        }
        .boxed()
    })))
}
