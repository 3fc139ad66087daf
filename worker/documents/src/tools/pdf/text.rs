//! The text of a range of pages, in the order in which a person reads it.
//!
//! Poppler finds words and their places. [`super::turn`] turns them upright, [`super::line`] makes lines of them,
//! [`super::bidi`] reads what is written from right to left, and [`super::layout`] puts the lines in order. Poppler's own
//! order is not used: it puts the right column of a page before the left one if a heading stands above the left one only,
//! and reads tables by column.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::error::{ToolError, code};
use super::super::sandbox::{Limits, Sandbox, absolute};
use super::super::script::is_dense;
use super::super::tool::Tool;
use super::boxes::{self, Boxes};
use super::{bidi, complaint, fonts, layout, legible, line, turn};

/// Pages to ask for at a time: enough that the start of the program (10 ms) costs nothing, few enough that progress
/// moves and the boxes of all of them fit in memory.
pub const PAGES_PER_SLICE: u32 = 16;

/// How often a slice is halved to find the pages of complaints: two pages of sixteen, wherever they stand, take seven. Where more of
/// them are, a complaint is told of all the pages of its range.
const HALVINGS_MAX: u32 = 8;

/// What one page says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageRead {
    /// Lines end in a newline, paragraphs in two; the cells of a table row are parted by a tab. Not normalised.
    pub text: String,
    /// It may be other text than the page shows: it looks like none, or its font does not say what its glyphs mean.
    pub is_doubtful: bool,
    /// What poppler said of text that it could not read. Each once, few, bounded, for people.
    pub complaints: Vec<String>,
    /// The same of the file as a whole, said again when this page was read.
    pub file_complaints: Vec<String>,
}

/// The pages from `first` to `last` (counted from 1, both included; `last` within the document), in order. `of_file` is what poppler
/// says of the file without looking at a page ([`super::PdfInfo::complaints`]).
pub async fn page_texts(
    sandbox: &Sandbox,
    path: &Path,
    of_file: &BTreeSet<String>,
    first: u32,
    last: u32,
) -> Result<Vec<PageRead>, ToolError> {
    let mut read = Vec::new();
    let mut halvings_left = HALVINGS_MAX;
    // The ranges still to do, the next one last. A range whose output is too long is halved, and so is one with complaints:
    // poppler does not say which page they are about.
    let mut ranges = vec![(first, last)];
    while let Some((first, last)) = ranges.pop() {
        let middle = first + (last.saturating_sub(first)) / 2;
        match slice(sandbox, path, of_file, first, last).await {
            Ok(pages)
                if first == last
                    || halvings_left == 0
                    || pages.iter().all(|page| page.complaints.is_empty()) =>
            {
                read.extend(pages);
            }
            Err(error) if first == last || error.document_code() != Some(code::LIMIT_OUTPUT) => {
                return Err(error);
            }
            halved => {
                halvings_left -= u32::from(halved.is_ok());
                ranges.extend([(middle + 1, last), (first, middle)]);
            }
        }
    }
    doubt_fonts(sandbox, path, first, &mut read).await?;
    Ok(read)
}

/// Doubts the pages that have a font without letters. The pages are asked one by one only if any of them has.
async fn doubt_fonts(
    sandbox: &Sandbox,
    path: &Path,
    first: u32,
    read: &mut [PageRead],
) -> Result<(), ToolError> {
    let last = first + read.len() as u32 - 1;
    if read.iter().all(|page| page.text.is_empty())
        || !fonts::lack_letters(sandbox, path, first, last).await?
    {
        return Ok(());
    }
    for (number, page) in (first..).zip(read) {
        // What poppler has mapped to Han, it has mapped by a table of its own.
        let is_mapped = page.text.is_empty()
            || page.text.chars().filter(|c| is_dense(*c)).count() * 2 > page.text.chars().count();
        if !page.is_doubtful && !is_mapped {
            page.is_doubtful = fonts::lack_letters(sandbox, path, number, number).await?;
        }
    }
    Ok(())
}

async fn slice(
    sandbox: &Sandbox,
    path: &Path,
    of_file: &BTreeSet<String>,
    first: u32,
    last: u32,
) -> Result<Vec<PageRead>, ToolError> {
    let [first_page, last_page] = [first, last].map(|page| page.to_string().into());
    let arguments = [
        "-bbox-layout".into(),
        "-enc".into(),
        "UTF-8".into(),
        "-f".into(),
        first_page,
        "-l".into(),
        last_page,
        absolute(path)?,
        "-".into(),
    ];
    let finished = sandbox
        .run(Tool::PdfToText, &arguments, &Limits::TEXT)
        .await?;
    complaint::check(&finished)?;
    let wanted = (last + 1).saturating_sub(first) as usize;
    let stderr = finished.stderr;
    let texts = tokio::task::spawn_blocking(move || read_pages(&finished.stdout)).await;
    let texts = texts
        .map_err(|_| ToolError::transient("the worker stopped while it put a page in order"))?;
    if texts.len() != wanted {
        return Err(complaint::damaged(&stderr));
    }
    let (of_file, of_pages): (Vec<_>, Vec<_>) =
        complaint::of_lost_text(&stderr).partition(|line| of_file.contains(*line));
    let [file_complaints, complaints] =
        [of_file, of_pages].map(|lines| complaint::told(lines.into_iter()));
    let read = |text: String| PageRead {
        is_doubtful: !legible::is_legible(&text),
        text,
        complaints: complaints.clone(),
        file_complaints: file_complaints.clone(),
    };
    Ok(texts.into_iter().map(read).collect())
}

fn read_pages(stdout: &[u8]) -> Vec<String> {
    boxes::parse(&String::from_utf8_lossy(stdout))
        .into_iter()
        .map(read_page)
        .collect()
}

/// The text of one page; what runs another way than most of it comes last.
fn read_page(page: Vec<Boxes>) -> String {
    let texts = turn::upright(page).into_iter().map(|boxes| {
        let mut lines = line::lines(boxes);
        if bidi::read(&mut lines) {
            lines
                .iter_mut()
                .for_each(|line| line.rect = line.rect.mirrored());
        }
        layout::reading_order(lines)
    });
    texts.collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::super::samples::{self, Scratch};
    use super::*;

    async fn texts(bytes: &[u8], first: u32, last: u32) -> Vec<String> {
        let scratch = Scratch::new();
        let pages = page_texts(
            &scratch.sandbox,
            &scratch.file("file.pdf", bytes),
            &BTreeSet::new(),
            first,
            last,
        )
        .await
        .unwrap();
        assert!(
            pages
                .iter()
                .all(|page| !page.is_doubtful && page.complaints.is_empty()),
            "{pages:?}"
        );
        pages.into_iter().map(|page| page.text).collect()
    }

    // X42
    #[tokio::test]
    async fn what_poppler_cannot_read_is_told_of_the_page_that_it_is_on() {
        let scratch = Scratch::new();
        let page = |text: &str| format!("BT /F 10 Tf 60 700 Td ({text} is read) Tj ET ");
        let file = samples::drawn_pages(&[
            page("one"),
            page("two") + "BT /Unknown 10 Tf (lost) Tj ET",
            page("three"),
        ]);
        let pages = page_texts(
            &scratch.sandbox,
            &scratch.file("file.pdf", &file),
            &BTreeSet::new(),
            1,
            3,
        )
        .await
        .unwrap();
        assert_eq!(
            pages
                .iter()
                .map(|page| page.text.as_str())
                .collect::<Vec<_>>(),
            ["one is read", "two is read", "three is read"]
        );
        assert_eq!(
            pages
                .iter()
                .map(|page| page.complaints.is_empty())
                .collect::<Vec<_>>(),
            [true, false, true]
        );
        assert!(
            pages[1].complaints[0].contains("Unknown font tag 'Unknown'"),
            "{pages:?}"
        );
    }

    /// A sandbox whose `pdftotext` leaves a folder in `runs` for each run, and the runs so far.
    fn counting(scratch: &Scratch) -> (Sandbox, impl Fn() -> usize) {
        let path = samples::search_path();
        let (programs, runs) = (scratch.path().join("bin"), scratch.path().join("runs"));
        for folder in [&programs, &runs] {
            std::fs::create_dir(folder).unwrap();
        }
        let real = Tool::PdfToText.find_in(&path).unwrap();
        let script = format!(
            "#!/bin/sh\nmktemp -d {}/XXXXXXXX >/dev/null\nexec {} \"$@\"\n",
            runs.display(),
            real.display()
        );
        std::fs::write(programs.join("pdftotext"), script).unwrap();
        std::fs::set_permissions(
            programs.join("pdftotext"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let sandbox = Sandbox::new(
            std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&path)))
                .unwrap(),
            scratch.path(),
        );
        (sandbox, move || std::fs::read_dir(&runs).unwrap().count())
    }

    // X42
    #[tokio::test]
    async fn what_poppler_says_of_the_file_as_a_whole_is_looked_for_on_no_page() {
        let scratch = Scratch::new();
        let (sandbox, runs) = counting(&scratch);
        let page = |n: u32| format!("BT /F 10 Tf 60 700 Td (page {n} is read) Tj ET ");
        let whole = samples::drawn_pages(&(0..16).map(page).collect::<Vec<_>>());
        // As long as it was, so that every object stays at its place.
        let at = whole
            .windows(31)
            .position(|piece| piece == b"<</Type /Catalog /Pages 2 0 R>>")
            .unwrap();
        let broken = [
            &whole[..at],
            b"<</Type/Catalog/Pages 2 0 R 5>>",
            &whole[at + 31..],
        ]
        .concat();
        let file = scratch.file("file.pdf", &broken);
        let info = super::super::inspect(&scratch.sandbox, &file)
            .await
            .unwrap();
        let pages = page_texts(&sandbox, &file, &info.complaints, 1, 16)
            .await
            .unwrap();
        assert_eq!(runs(), 1);
        assert!(
            pages.len() == 16
                && pages
                    .iter()
                    .all(|page| page.complaints.is_empty() && page.text.ends_with("is read")),
            "{pages:?}"
        );
        assert!(
            pages[0].file_complaints[0].contains("Dictionary key"),
            "{pages:?}"
        );
    }

    // X42
    #[tokio::test]
    async fn complaints_of_every_page_cost_a_bounded_number_of_runs_and_none_is_lost() {
        let scratch = Scratch::new();
        let (sandbox, runs) = counting(&scratch);
        let page = |n: u32| {
            format!(
                "BT /F 10 Tf 60 700 Td (page {n} is read) Tj ET BT /Unknown{n} 10 Tf (lost) Tj ET"
            )
        };
        let file = scratch.file(
            "file.pdf",
            &samples::drawn_pages(&(0..16).map(page).collect::<Vec<_>>()),
        );
        let pages = page_texts(&sandbox, &file, &BTreeSet::new(), 1, 16)
            .await
            .unwrap();
        assert_eq!(runs(), 1 + 2 * HALVINGS_MAX as usize);
        assert!(
            pages.len() == 16
                && pages
                    .iter()
                    .all(|page| !page.complaints.is_empty() && page.text.ends_with("is read")),
            "{pages:?}"
        );
    }

    // P2
    #[tokio::test]
    async fn each_page_of_the_range_has_its_text() {
        let file = samples::text_pages(&[&["one"], &["two", "lines & <marks>"], &[], &["four"]]);
        assert_eq!(
            texts(&file, 2, 4).await,
            ["two\nlines & <marks>", "", "four"]
        );
    }

    // P2
    #[tokio::test]
    async fn columns_are_read_one_after_the_other() {
        let column = |x: u32, y: u32, words: &str| {
            let lines = (0..12)
                .map(|n| format!("({words} number {n} of this column) Tj T* "))
                .collect::<Vec<_>>()
                .concat();
            format!("BT /F 10 Tf 12 TL {x} {y} Td {lines} ET ")
        };
        // The right column is drawn first and begins higher, as in a page whose left column has a heading.
        let heading = "BT /F 14 Tf 60 760 Td (A title across both columns of the page, wider than one) Tj ET ";
        let page = format!(
            "{}{heading}{}",
            column(320, 730, "right line"),
            column(60, 720, "left line")
        );
        let text = texts(&samples::drawn_pages(&[page]), 1, 1).await.remove(0);
        let places = [
            "A title",
            "left line number 0",
            "left line number 11",
            "right line number 0",
            "right line number 11",
        ];
        let places = places.map(|words| text.find(words).expect(words));
        assert!(places.is_sorted(), "{text}");
    }

    // P2
    #[tokio::test]
    async fn a_table_is_read_by_rows() {
        let rows = [
            ("Bolt M8", "AB-100", "12.50"),
            ("Nut M8", "AB-200", "3.10"),
            ("Washer", "AB-300", "0.45"),
        ];
        let cell = |x: u32, y: usize, text: &str| format!("BT /F 10 Tf {x} {y} Td ({text}) Tj ET ");
        let column =
            |x: u32, pick: fn(&(&'static str, &'static str, &'static str)) -> &'static str| {
                rows.iter()
                    .enumerate()
                    .map(|(n, row)| cell(x, 700 - 14 * n, pick(row)))
                    .collect::<String>()
            };
        let page = format!(
            "{}{}{}",
            column(60, |r| r.0),
            column(200, |r| r.1),
            column(320, |r| r.2)
        );
        let text = texts(&samples::drawn_pages(&[page]), 1, 1).await.remove(0);
        assert_eq!(
            text,
            "Bolt M8\tAB-100\t12.50\nNut M8\tAB-200\t3.10\nWasher\tAB-300\t0.45"
        );
    }

    // P4
    #[tokio::test]
    async fn pages_that_poppler_cannot_give_are_an_error_and_not_empty() {
        let scratch = Scratch::new();
        let file = scratch.file("file.pdf", &samples::looped_page_tree());
        let error = page_texts(&scratch.sandbox, &file, &BTreeSet::new(), 1, 4)
            .await
            .expect_err("there is no page");
        assert!(error.document_code().is_some(), "{error}");
    }
}
