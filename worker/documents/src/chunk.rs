//! `document.chunk`: cuts the text of a document, OCR included, into pieces (P2, stage 3).
//!
//! The items of the stage are pages: their number is known before the first cut.

mod doubt;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use futures::FutureExt;
use millstream_common::config::Documents;
use millstream_worker::{Context, Failure, Outcome, Success};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::{
    Pipeline,
    failure::blocking,
    fanout::{self, StageJob},
    payload::{self, Analysis, OfAnalysis, OfChunk, OfDocument},
    progress::StageProgress,
    store::{self, ImageText, Judged},
    tools::{Chunk, Note, Notes, PageText, ToolError, chunk::split_watched, note::code},
};

/// OCR of a picture without text finds letters in its texture, with a mean confidence below this; of print, above.
pub const OCR_CONFIDENCE_MIN: f32 = 50.0;
/// How often the cut is looked at while it goes on.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(200);

/// Jobs of one chunk: each analysis and the vector.
const JOBS_PER_CHUNK: usize = Analysis::ALL.len() + 1;

pub(super) async fn run(
    pipeline: Arc<Pipeline>,
    context: Context,
    OfDocument { document_id }: OfDocument,
) -> Outcome {
    let gate = pipeline.gates.whole_text().await?;
    let parts = Parts {
        pages: store::page_texts(context.pg(), document_id).await?,
        images: store::image_texts(context.pg(), document_id).await?,
        doubted: store::doubted(context.pg(), document_id).await?,
    };
    let (
        Cut {
            chunks,
            judged,
            by_ocr,
            notes,
        },
        _gate,
    ) = cut(&context, parts, gate, &pipeline.config).await?;
    let success = Success::with_result(&json!({"chunks": chunks.len()}))?;
    Ok(success.and_write(store::effect(move |conn| {
        async move {
            store::chunks(conn, document_id, &chunks).await?;
            store::judged(conn, document_id, &judged).await?;
            store::read_by_ocr(conn, document_id, &by_ocr).await?;
            store::notes(conn, document_id, &notes).await?;
            let jobs = (0..chunks.len() * JOBS_PER_CHUNK).map(|n| job(document_id, n));
            fanout::open(conn, document_id, fanout::ANALYSIS, jobs).await
        }
        .boxed()
    })))
}

/// Job number `n` of the document: those of one chunk are neighbours.
fn job(document_id: Uuid, n: usize) -> StageJob {
    let ordinal = (n / JOBS_PER_CHUNK) as i32;
    match Analysis::ALL.get(n % JOBS_PER_CHUNK) {
        Some(analysis) => StageJob::new(
            payload::ANALYSE,
            &OfAnalysis {
                document_id,
                ordinal,
                analysis: *analysis,
            },
        )
        .of_work(analysis.name()),
        None => StageJob::new(
            payload::EMBED,
            &OfChunk {
                document_id,
                ordinal,
            },
        ),
    }
}

/// What the earlier stages have found.
struct Parts {
    pages: Vec<PageText>,
    images: Vec<ImageText>,
    /// Pages whose text may be rubbish.
    doubted: Vec<u32>,
}

/// What becomes of it.
struct Cut {
    chunks: Vec<Chunk>,
    judged: Vec<Judged>,
    by_ocr: Vec<u32>,
    notes: Vec<Note>,
}

/// All that takes time with the text of a document. `watch` sees each chunk. Blocks.
fn cut_up(
    parts: Parts,
    chars_max: usize,
    overlap: usize,
    watch: impl FnMut(&Chunk),
) -> Result<Cut, ToolError> {
    let Parts {
        mut pages,
        images,
        doubted,
    } = parts;
    let (judged, doubts) = doubt::judge(&mut pages, &images, &doubted);
    let (by_ocr, mut notes) = report(&pages, &images);
    notes.extend(doubts);
    let chunks = split_watched(&with_ocr(pages, &images), chars_max, overlap, watch)?;
    Ok(Cut {
        chunks,
        judged,
        by_ocr,
        notes,
    })
}

/// The gate goes where the text is: a job that is dropped does not stop the thread that has it.
async fn cut(
    context: &Context,
    parts: Parts,
    gate: OwnedSemaphorePermit,
    config: &Documents,
) -> Result<(Cut, OwnedSemaphorePermit), Failure> {
    let total = parts.pages.len() as u32;
    let (chars_max, overlap) = (config.chunk_chars_max, config.chunk_overlap_chars);
    let (cut_to, seen) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (page_cell, chunk_cell) = (cut_to.clone(), seen.clone());
    let work = blocking(move || {
        let cut = cut_up(parts, chars_max, overlap, |chunk| {
            page_cell.store(chunk.page_last, Ordering::Relaxed);
            chunk_cell.store(chunk.ordinal + 1, Ordering::Relaxed);
        });
        cut.map(|cut| (cut, gate))
    });
    tokio::pin!(work);
    let mut progress = StageProgress::new(context);
    let mut look = tokio::time::interval(LOOK_EVERY);
    let (cut, gate) = loop {
        tokio::select! {
            biased;
            cut = &mut work => break cut??,
            _ = look.tick() => {
                // The page of the last chunk may still be on the table.
                let done = cut_to.load(Ordering::Relaxed).saturating_sub(1).min(total);
                progress.tell(done, total, &format!("chunk {}", seen.load(Ordering::Relaxed))).await;
            }
        }
    };
    progress
        .tell(total, total, &format!("chunk {}", cut.chunks.len()))
        .await;
    Ok((cut, gate))
}

/// The pages whose only text is that of their pictures, and the pictures whose text is not used.
fn report(pages: &[PageText], images: &[ImageText]) -> (Vec<u32>, Vec<Note>) {
    let (sure, unsure): (Vec<_>, Vec<_>) = images.iter().partition(|image| is_sure(image));
    let read: BTreeSet<u32> = sure
        .iter()
        .filter(|image| !letters(&image.text).is_empty())
        .map(|image| image.page as u32)
        .collect();
    let by_ocr = pages
        .iter()
        .filter(|page| page.text.is_empty() && read.contains(&page.page))
        .map(|page| page.page)
        .collect();
    let mut notes = Notes::default();
    notes.extend(unsure.into_iter().map(|image| {
        let confidence = image.confidence.unwrap_or_default();
        let read = format!("with a confidence of {confidence:.0} of 100");
        match image.position {
            payload::PAGE_POSITION => Note::page(
                image.page as u32,
                code::OCR_UNSURE,
                &format!("what OCR read on the drawn page is not used: it was read {read}"),
            ),
            position => Note::picture(
                image.page as u32,
                position as u32,
                code::OCR_UNSURE,
                &format!("its text is not used: it was read {read}"),
            ),
        }
    }));
    (by_ocr, notes.finish())
}

fn is_sure(image: &ImageText) -> bool {
    image
        .confidence
        .is_some_and(|confidence| confidence >= OCR_CONFIDENCE_MIN)
}

/// The text of images goes to the end of their page, unless the page or an image before it says the same: scanned pages
/// often carry their text as a hidden layer, or once as a picture and once as its mask.
fn with_ocr(mut pages: Vec<PageText>, images: &[ImageText]) -> Vec<PageText> {
    for image in images.iter().filter(|image| is_sure(image)) {
        let Ok(at) = pages.binary_search_by_key(&(image.page as u32), |page| page.page) else {
            continue;
        };
        let (text, added) = (&mut pages[at].text, letters(&image.text));
        let own = letters(text);
        if added.is_empty() || own.contains(&added) {
            continue;
        }
        // A page that was read as one picture has its own few words in it: a stamp, a number.
        if added.contains(&own) {
            text.clear();
        }
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(&image.text);
    }
    pages
}

/// What two readings of the same text have in common: neither spaces, line ends nor case.
fn letters(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(page: u32, text: &str) -> PageText {
        PageText {
            page,
            text: text.to_owned(),
        }
    }

    fn image(page: i32, text: &str, confidence: f32) -> ImageText {
        ImageText {
            page,
            position: 0,
            text: text.to_owned(),
            confidence: Some(confidence),
        }
    }

    // N6
    #[test]
    fn a_page_is_read_by_ocr_if_only_its_pictures_have_text_and_unsure_readings_are_named() {
        let pages = [page(1, "one"), page(2, ""), page(3, ""), page(4, "")];
        let images = [
            image(1, "Price", 90.0),
            image(2, "scan", 80.0),
            image(3, "l;~", 12.4),
            image(4, "--", 95.0),
        ];
        let (by_ocr, notes) = report(&pages, &images);
        assert_eq!(by_ocr, [2]);
        let unsure = Note::picture(
            3,
            0,
            code::OCR_UNSURE,
            "its text is not used: it was read with a confidence of 12 of 100",
        );
        assert_eq!(notes, [unsure]);
    }

    // P2
    #[test]
    fn the_text_of_images_follows_that_of_their_page() {
        let pages = with_ocr(
            vec![page(1, "one"), page(2, "")],
            &[
                image(1, "Price 12 EUR", 90.0),
                image(2, "scan", 80.0),
                image(9, "x", 99.0),
            ],
        );
        assert_eq!(pages, [page(1, "one\n\nPrice 12 EUR"), page(2, "scan")]);
    }

    // P2
    #[test]
    fn unsure_readings_and_repetitions_are_left_out() {
        let images = [
            image(1, "~~ ;", 12.0),
            image(1, "Hello\nWorld", 95.0),
            image(1, "HELLO WORLD", 95.0),
            image(1, "--", 95.0),
        ];
        assert_eq!(
            with_ocr(vec![page(1, "say hello world!")], &images),
            [page(1, "say hello world!")]
        );
        assert_eq!(
            with_ocr(vec![page(1, "")], &images),
            [page(1, "Hello\nWorld")]
        );
    }

    // P2
    #[test]
    fn each_chunk_has_each_analysis_and_a_vector() {
        let distinct = (0..3 * JOBS_PER_CHUNK)
            .map(|n| job(Uuid::nil(), n))
            .map(|job| job.described())
            .collect::<std::collections::BTreeSet<_>>();
        assert_eq!(distinct.len(), 12);
        assert_eq!(
            distinct
                .iter()
                .filter(|text| text.starts_with(payload::EMBED))
                .count(),
            3
        );
    }
}
