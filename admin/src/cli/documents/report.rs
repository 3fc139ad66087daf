//! The report of a document as text: a line that sums it up, a table of pages, and the notes.

use std::collections::BTreeMap;

use crate::{
    cli::{CommandError, Invocation, table},
    ops::{
        documents::Document,
        report::{Counts, NoteRow, PageYield, Report},
    },
};

pub(super) fn print(context: &Invocation, document: &Document) -> Result<(), CommandError> {
    let Some(report) = &document.report else {
        return Ok(());
    };
    table::line(&format!("\n{}", summary(&report.summary)))?;
    if !report.pages.is_empty() {
        let low = lowest_confidences(report);
        table::line(&table::render(
            &[
                "page",
                "text from",
                "letters",
                "pictures",
                "with text",
                "least sure",
                "notes",
            ],
            report
                .pages
                .iter()
                .map(|page| cells(page, low.get(&page.page).copied())),
        ))?;
    }
    report
        .notes
        .iter()
        .try_for_each(|note| table::line(&table::printable(&line(note))))?;
    if let Some(next) = report.next_page {
        context.hint(&format!("more: --from-page {next}"));
    }
    Ok(())
}

/// `3 pages: 1 by text, 1 by OCR, 1 without text; 0 pictures left out`.
fn summary(counts: &Counts) -> String {
    format!(
        "{}: {} by text, {} by OCR, {} without text; {} left out",
        table::count(counts.pages.unsigned_abs(), "page"),
        counts.by_text,
        counts.by_ocr,
        counts.without_text,
        table::count(counts.pictures_left_out.unsigned_abs(), "picture"),
    )
}

/// Of the pictures with text, by page.
fn lowest_confidences(report: &Report) -> BTreeMap<i32, f32> {
    let mut low: BTreeMap<i32, f32> = BTreeMap::new();
    for (page, confidence) in report
        .pictures
        .iter()
        .filter_map(|picture| Some((picture.page, picture.confidence?)))
    {
        let lowest = low.entry(page).or_insert(confidence);
        *lowest = lowest.min(confidence);
    }
    low
}

fn cells(page: &PageYield, low: Option<f32>) -> Vec<String> {
    vec![
        page.page.to_string(),
        page.source.clone(),
        page.chars.to_string(),
        page.pictures.to_string(),
        page.pictures_with_text.to_string(),
        table::maybe(low.map(|confidence| format!("{confidence:.0}"))),
        page.notes.to_string(),
    ]
}

/// `note: page 3, picture 1: image_left_out: …`.
fn line(note: &NoteRow) -> String {
    let part = |name: &str, number: Option<i32>| number.map(|number| format!("{name} {number}"));
    let place: Vec<String> = [
        part("page", note.page),
        part("picture", note.position),
        part("chunk", note.chunk),
    ]
    .into_iter()
    .flatten()
    .collect();
    let place = if place.is_empty() {
        "document".to_owned()
    } else {
        place.join(", ")
    };
    format!("note: {place}: {}: {}", note.code, note.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    // N6
    #[test]
    fn a_note_says_its_place_and_the_summary_what_is_missing() {
        let note = NoteRow {
            page: Some(3),
            position: Some(1),
            chunk: None,
            code: "image_left_out".into(),
            message: "too large".into(),
        };
        assert_eq!(
            line(&note),
            "note: page 3, picture 1: image_left_out: too large"
        );
        let whole = NoteRow {
            page: None,
            position: None,
            chunk: None,
            code: "xfa".into(),
            message: "a form".into(),
        };
        assert_eq!(line(&whole), "note: document: xfa: a form");
        let counts = Counts {
            pages: 3,
            by_text: 1,
            by_ocr: 1,
            without_text: 1,
            pictures: 2,
            pictures_left_out: 1,
            notes: 2,
        };
        assert_eq!(
            summary(&counts),
            "3 pages: 1 by text, 1 by OCR, 1 without text; 1 picture left out"
        );
    }
}
