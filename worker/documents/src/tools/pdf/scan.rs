//! Which pages are scans, and how large a scan is drawn so that its letters have the size that OCR reads best.
//!
//! A resolution is believed only if it makes the page a sheet that a scanner takes: many programs write scans without
//! one, and then a page of A4 claims to be half a metre wide at 72 dpi, or a stamp at 1,200.

use super::list::ListedImage;
use super::render::PageSize;

/// OCR reads letters best at this resolution, so every page is drawn as if it had been scanned so.
pub const OCR_DPI: u32 = 300;

/// Below this resolution small print is read with errors that OCR itself does not notice.
pub const DPI_SURE_MIN: u32 = 140;

/// A page with more letters of its own is no scan, whatever pictures it has: fewer may be a heading, a number stamped on it.
const LETTERS_BESIDE_SCAN_MAX: usize = 300;

/// A page with fewer letters of its own has no text to speak of: a page number, a heading.
const LETTERS_FEW: usize = 20;

/// Share of the page that pictures cover together, for a scan. Of other pages each picture is read by itself.
const SCAN_SHARE_MIN: f32 = 0.4;

/// The longer side of A4, in inches: what a page of unknown size is taken for.
const SHEET_LONG_INCHES: f32 = 11.7;

/// A coarse scan of a larger sheet than A4 with a margin, in inches, is a scan that does not know its resolution.
const SHEET_LONG_INCHES_MAX: f32 = 12.5;

/// Programs that know no resolution write 72 or 96.
const DPI_UNKNOWN_MAX: u32 = 100;

/// Longest side that is drawn, in pixels: A3 at 300 dpi has 5,000. With it a square page has 39 million pixels.
const LONG_PX_MAX: f32 = 6_250.0;

/// How a scan is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawing {
    /// Its longer side in pixels.
    pub long_px: u32,
    /// The resolution at which it was scanned, as far as can be known.
    pub dpi: u32,
}

/// How to draw the page for OCR; `None`: its text is that of the file.
pub fn drawing(text: &str, images: &[ListedImage], size: PageSize) -> Option<Drawing> {
    let letters = text
        .chars()
        .filter(|c| c.is_alphanumeric())
        .take(LETTERS_BESIDE_SCAN_MAX)
        .count();
    let share = images
        .iter()
        .filter(|image| image.kind != "smask")
        .map(ListedImage::square_inches)
        .sum::<f32>()
        / size.area();
    (share >= SCAN_SHARE_MIN && letters < LETTERS_BESIDE_SCAN_MAX).then(|| scale(images, size))
}

/// How to draw a page whose text is drawn as lines and areas, or whose text cannot be trusted.
pub fn whole_page(size: PageSize) -> Drawing {
    Drawing {
        dpi: 0,
        ..scale(&[], size)
    }
}

/// Whether what the page says may stand in what it draws: it has no letters, or hardly any and no pictures either.
pub fn may_be_drawn(text: &str, images: &[ListedImage]) -> bool {
    let letters = text
        .chars()
        .filter(|c| c.is_alphanumeric())
        .take(LETTERS_FEW)
        .count();
    letters == 0 || (letters < LETTERS_FEW && images.is_empty())
}

/// Whether a page can be a scan at all, before its size is known.
pub fn may_be_scan(text: &str, images: &[ListedImage]) -> bool {
    !images.is_empty()
        && text
            .chars()
            .filter(|c| c.is_alphanumeric())
            .take(LETTERS_BESIDE_SCAN_MAX)
            .count()
            < LETTERS_BESIDE_SCAN_MAX
}

/// The scale by the picture that covers most of the page.
fn scale(images: &[ListedImage], size: PageSize) -> Drawing {
    let largest = images
        .iter()
        .max_by(|one, other| one.square_inches().total_cmp(&other.square_inches()));
    let written_dpi = largest.map_or(0, ListedImage::dpi);
    let scanned_px = written_dpi as f32 * size.long();
    let is_unmarked = size.long() > SHEET_LONG_INCHES_MAX && written_dpi <= DPI_UNKNOWN_MAX;
    let inches = if is_unmarked {
        SHEET_LONG_INCHES
    } else {
        size.long()
    };
    let wanted_px = OCR_DPI as f32 * inches;
    // A small page that holds many pixels is a sheet, too: no more of them are lost than OCR has use for.
    let sheet_px = scanned_px.min(OCR_DPI as f32 * SHEET_LONG_INCHES);
    let long_px = wanted_px.max(sheet_px).clamp(1.0, LONG_PX_MAX);
    let dpi = if is_unmarked {
        (scanned_px / inches).round() as u32
    } else {
        written_dpi
    };
    Drawing {
        long_px: long_px.round() as u32,
        dpi,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A4: PageSize = PageSize {
        inches: (8.27, 11.69),
    };

    /// Strips that cover the whole page.
    fn strips(count: u32, dpi: u32, size: PageSize) -> Vec<ListedImage> {
        let pixels = |inches: f32| (inches * dpi as f32) as u32;
        let image = |index| ListedImage {
            page: 1,
            index,
            kind: "image".to_owned(),
            width: pixels(size.inches.0),
            height: pixels(size.inches.1) / count,
            colour: "gray".to_owned(),
            bits: 8,
            encoding: "jpeg".to_owned(),
            ppi: (dpi, dpi),
        };
        (0..count).map(image).collect()
    }

    // X44
    #[test]
    fn a_scan_is_drawn_at_the_resolution_of_ocr_whatever_it_says_of_its_own() {
        for (dpi, long_px) in [(100, 3_507), (150, 3_507), (300, 3_507), (600, 3_510)] {
            assert_eq!(
                drawing("", &strips(7, dpi, A4), A4),
                Some(Drawing { long_px, dpi })
            );
        }
        // 150 dpi, written as 72: the page claims to be twice as large.
        let unmarked = PageSize {
            inches: (1_240.0 / 72.0, 1_754.0 / 72.0),
        };
        let drawn = drawing("", &strips(1, 72, unmarked), unmarked)
            .map(|drawing| (drawing.long_px, drawing.dpi));
        assert_eq!(drawn, Some((3_510, 150)));
        // And a whole sheet on a page as small as a card.
        let card = PageSize { inches: (2.0, 3.0) };
        assert_eq!(
            drawing("", &strips(1, 1_200, card), card).map(|drawing| drawing.long_px),
            Some(3_510)
        );
        let mural = PageSize {
            inches: (100.0, 100.0),
        };
        assert_eq!(
            drawing("", &strips(1, 300, mural), mural).map(|drawing| drawing.long_px),
            Some(6_250)
        );
    }

    // X47
    #[test]
    fn a_page_that_hardly_says_anything_may_draw_what_it_says() {
        let strip = strips(1, 300, PageSize { inches: (0.5, 0.5) });
        assert!(may_be_drawn("", &[]) && may_be_drawn("– 7 –", &[]) && may_be_drawn("", &strip));
        assert!(
            !may_be_drawn("Chapter 7", &strip)
                && !may_be_drawn("A line of text that is long enough", &[])
        );
        assert_eq!(
            whole_page(A4),
            Drawing {
                long_px: 3_507,
                dpi: 0
            }
        );
    }

    // X44
    #[test]
    fn a_page_with_text_or_without_pictures_is_no_scan() {
        let text = "word ".repeat(100);
        assert_eq!(drawing(&text, &strips(1, 300, A4), A4), None);
        assert_eq!(drawing("", &[], A4), None);
        assert!(
            drawing(
                "Bates 000123, received 2 May 2024, page 1",
                &strips(3, 300, A4),
                A4
            )
            .is_some()
        );
        let logo = PageSize { inches: (0.5, 0.5) };
        assert_eq!(drawing("", &strips(1, 300, logo), A4), None);
        assert!(!may_be_scan(&text, &strips(1, 300, A4)) && may_be_scan("7", &strips(1, 300, A4)));
    }
}
