//! Pages as pictures: how large they are, and how a page is drawn for OCR.
//!
//! Poppler draws a page as a reader sees it: turned by the page's own `/Rotate`, its strips joined, its masks and inverted
//! pictures resolved. So a page that is drawn is the best picture of a scan, whatever the scan is made of.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use image::DynamicImage;
use image::codecs::png::PngDecoder;

use super::super::error::{ToolError, code};
use super::super::sandbox::{Limits, Sandbox, absolute};
use super::super::tool::Tool;
use super::complaint;

/// Width and height of a page in inches, as the file says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PageSize {
    /// Of the shorter and the longer side.
    pub inches: (f32, f32),
}

impl PageSize {
    /// The longer side in inches.
    pub fn long(&self) -> f32 {
        self.inches.1
    }

    /// In square inches.
    pub fn area(&self) -> f32 {
        self.inches.0 * self.inches.1
    }
}

/// PDF counts in points.
const POINTS_PER_INCH: f32 = 72.0;

/// The sizes of the pages from `first` to `last`, by page number. A page without a size is left out.
pub async fn page_sizes(
    sandbox: &Sandbox,
    path: &Path,
    first: u32,
    last: u32,
) -> Result<BTreeMap<u32, PageSize>, ToolError> {
    let arguments = [
        "-f".into(),
        first.to_string().into(),
        "-l".into(),
        last.to_string().into(),
        absolute(path)?,
    ];
    let finished = sandbox
        .run(Tool::PdfInfo, &arguments, &Limits::INSPECT)
        .await?;
    complaint::check(&finished)?;
    // The author's words come first: a title that looks like a size is overwritten by the true one.
    Ok(String::from_utf8_lossy(&finished.stdout)
        .lines()
        .filter_map(parse_line)
        .collect())
}

/// `Page    1 size: 595.28 x 841.89 pts (A4)`
fn parse_line(line: &str) -> Option<(u32, PageSize)> {
    let (page, size) = line.strip_prefix("Page ")?.split_once(" size:")?;
    let mut fields = size.split_whitespace();
    let mut inches = || {
        fields
            .next()
            .and_then(|field| field.parse::<f32>().ok())
            .map(|points| points / POINTS_PER_INCH)
    };
    let (width, _, height) = (inches()?, inches(), inches()?);
    (width > 0.0 && height > 0.0).then_some((
        page.trim().parse().ok()?,
        PageSize {
            inches: (width.min(height), width.max(height)),
        },
    ))
}

/// Draws one page in grey, its longer side `long_px` pixels, into `out_dir`, which exists and is the caller's to remove.
pub async fn render_page(
    sandbox: &Sandbox,
    path: &Path,
    page: u32,
    long_px: u32,
    out_dir: &Path,
) -> Result<PathBuf, ToolError> {
    let prefix = out_dir.join(format!("drawn-{page}"));
    let number = || page.to_string().into();
    let mut arguments = ["-gray", "-png", "-singlefile", "-cropbox", "-scale-to"]
        .map(Into::into)
        .to_vec();
    arguments.extend([
        long_px.to_string().into(),
        "-f".into(),
        number(),
        "-l".into(),
        number(),
        absolute(path)?,
        absolute(&prefix)?,
    ]);
    let finished = sandbox
        .run(Tool::PdfToPpm, &arguments, &Limits::RENDER)
        .await?;
    complaint::check(&finished)?;
    let file = prefix.with_extension("png");
    if tokio::fs::try_exists(&file).await.unwrap_or(false) {
        return Ok(file);
    }
    Err(ToolError::document(
        code::DAMAGED,
        "the page could not be drawn",
    ))
}

/// Whether a drawn page shows nothing: all of it has one shade.
pub async fn is_blank(drawn: &Path) -> Result<bool, ToolError> {
    let drawn = drawn.to_owned();
    let blank = tokio::task::spawn_blocking(move || has_one_shade(&drawn)).await;
    blank.map_err(|_| ToolError::transient("the worker stopped while it looked at a page"))?
}

/// Takes a byte per pixel, and no more than a drawn page has.
fn has_one_shade(drawn: &Path) -> Result<bool, ToolError> {
    let file = std::fs::File::open(drawn)
        .map_err(|source| ToolError::io("the drawn page could not be opened", &source))?;
    let unreadable =
        |source| ToolError::transient(&format!("the drawn page could not be read: {source}"));
    let decoder = PngDecoder::new(BufReader::new(file)).map_err(unreadable)?;
    let shades = DynamicImage::from_decoder(decoder)
        .map_err(unreadable)?
        .into_luma8()
        .into_raw();
    Ok(shades.iter().all(|shade| Some(shade) == shades.first()))
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

    // X44
    #[tokio::test]
    async fn a_page_has_a_size_and_is_drawn_as_large_as_asked_for() {
        let scratch = Scratch::new();
        let file = scratch.file("file.pdf", &samples::text_pages(&[&["one"], &["two"]]));
        let sizes = page_sizes(&scratch.sandbox, &file, 1, 2).await.unwrap();
        assert_eq!(sizes.keys().copied().collect::<Vec<_>>(), [1, 2]);
        assert!((sizes[&2].long() - 800.0 / 72.0).abs() < 0.01);
        let drawn = render_page(&scratch.sandbox, &file, 2, 400, scratch.path())
            .await
            .unwrap();
        let header = super::super::super::png::read_header(&drawn).await.unwrap();
        assert_eq!((header.width, header.height), (300, 400));
    }

    // X47
    #[tokio::test]
    async fn a_page_that_shows_nothing_is_told_from_one_that_shows_a_hair() {
        let scratch = Scratch::new();
        let file = scratch.file(
            "file.pdf",
            &samples::drawn_pages(&[String::new(), "300 400 200 1 re f".to_owned()]),
        );
        for (page, is_empty) in [(1, true), (2, false)] {
            let drawn = render_page(&scratch.sandbox, &file, page, 800, scratch.path())
                .await
                .unwrap();
            assert_eq!(is_blank(&drawn).await, Ok(is_empty), "page {page}");
        }
    }

    // P4
    #[test]
    fn only_a_line_with_both_sides_is_a_size() {
        assert!(parse_line("Page    3 size: 612 x 792 pts (letter)").is_some());
        for bad in [
            "Page    3 rot:  0",
            "Page size: 1 x 2 pts",
            "Page x size: 1 x 2",
            "Page 3 size: 0 x 5 pts",
            "Page 3 size: 5",
            "",
        ] {
            assert_eq!(parse_line(bad), None, "{bad}");
        }
    }
}
