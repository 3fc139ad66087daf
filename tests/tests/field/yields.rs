//! What a page yields: its own text, that of OCR, or none, and that the report says so (X42, X47).

use std::path::PathBuf;

use millstream_tests::{Lab, Process};
use uuid::Uuid;

use super::report::{add, document, ended};

/// A document that a worker has taken through all stages.
async fn completed(lab: &Lab, name: &str, bytes: &[u8]) -> Uuid {
    let id = add(lab, name, bytes).await;
    assert_eq!(ended(lab, id).await, ("completed".into(), None), "{name}");
    id
}

fn data(name: &str) -> Vec<u8> {
    std::fs::read(
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("data/pdf")
            .join(name),
    )
    .unwrap()
}

/// Sources of the pages, and codes of the notes.
async fn yielded(lab: &Lab, id: Uuid) -> (Vec<String>, Vec<String>) {
    let sources = sqlx::query_scalar(
        "SELECT source FROM millstream.page WHERE document_id = $1 ORDER BY page",
    )
    .bind(id);
    let codes = sqlx::query_scalar(
        "SELECT code FROM millstream.document_note WHERE document_id = $1 ORDER BY page, code",
    )
    .bind(id);
    (
        sources.fetch_all(&lab.pool).await.unwrap(),
        codes.fetch_all(&lab.pool).await.unwrap(),
    )
}

/// All that can be searched.
async fn text(lab: &Lab, id: Uuid) -> String {
    let chunks: Vec<String> = sqlx::query_scalar(
        "SELECT text FROM millstream.chunk WHERE document_id = $1 ORDER BY ordinal",
    )
    .bind(id)
    .fetch_all(&lab.pool)
    .await
    .unwrap();
    chunks.join("\n")
}

async fn note(lab: &Lab, id: Uuid) -> String {
    sqlx::query_scalar("SELECT message FROM millstream.document_note WHERE document_id = $1")
        .bind(id)
        .fetch_one(&lab.pool)
        .await
        .unwrap()
}

// X47
#[tokio::test]
async fn x47_a_page_whose_text_is_rubbish_is_read_by_ocr() {
    let lab = Lab::new().await;
    let _worker = Process::start(&lab, &["worker"]);
    let id = completed(&lab, "nounicode.pdf", &data("nounicode.pdf")).await;
    assert_eq!(
        yielded(&lab, id).await,
        (vec!["ocr".into()], vec!["text_unreadable".into()])
    );
    let text = text(&lab, id).await;
    // The glyphs of the second line overlap, so OCR takes an m for an n.
    assert!(
        text.contains("Total amount due on this invoice") && text.contains("reference"),
        "{text}"
    );
    assert!(!text.contains("7RWDO"), "{text}");
}

// X47
#[tokio::test]
async fn x47_text_that_is_drawn_as_lines_and_areas_is_read_by_ocr() {
    let lab = Lab::new().await;
    let _worker = Process::start(&lab, &["worker"]);
    let id = completed(&lab, "outlines.pdf", &data("outlines.pdf")).await;
    let (sources, codes) = yielded(&lab, id).await;
    assert_eq!(
        (sources, codes.is_empty()),
        (vec!["ocr".to_owned()], true),
        "{codes:?}"
    );
    let text = text(&lab, id).await;
    // OCR takes the round letters, drawn as squares, for others now and then.
    assert!(text.contains("TELL THE H"), "{text}");
}

// X47
#[tokio::test]
async fn x47_a_page_that_shows_something_without_text_is_told_from_one_that_is_blank() {
    let lab = Lab::new().await;
    let _worker = Process::start(&lab, &["worker"]);
    let figure = "0.5 g 100 100 300 300 re f 0 g 4 w 60 60 m 500 700 l S";
    let id = completed(
        &lab,
        "figures.pdf",
        &document(
            &[
                figure,
                "",
                "BT /F 12 Tf 50 700 Td (A line of text that is long enough) Tj ET",
            ],
            &[],
        ),
    )
    .await;
    let (sources, codes) = yielded(&lab, id).await;
    assert_eq!(sources, ["none", "none", "text"]);
    assert!(codes == ["no_text"] || codes == ["ocr_unsure"], "{codes:?}");
}

// X47
#[tokio::test]
async fn x47_a_form_whose_content_is_not_in_its_pages_is_named() {
    let lab = Lab::new().await;
    let _worker = Process::start(&lab, &["worker"]);
    let id = completed(&lab, "xfa.pdf", &data("xfa.pdf")).await;
    assert_eq!(
        yielded(&lab, id).await,
        (vec!["text".into()], vec!["xfa_form".into()])
    );
    assert!(
        note(&lab, id)
            .await
            .contains("its pages hold only the request to wait")
    );
}

// X42
#[tokio::test]
async fn x42_text_that_poppler_cannot_read_is_in_the_report() {
    let lab = Lab::new().await;
    let _worker = Process::start(&lab, &["worker"]);
    let id = completed(&lab, "nowhere1.pdf", &data("nowhere1.pdf")).await;
    assert_eq!(
        yielded(&lab, id).await,
        (vec!["text".into()], vec!["text_lost".into()])
    );
    assert!(
        note(&lab, id)
            .await
            .contains("Unknown character collection 'Adobe-Nowhere1'")
    );
}
