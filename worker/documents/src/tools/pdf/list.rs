//! Reads what `pdfimages -list` prints: one line per image that a page draws.

use std::collections::BTreeMap;

use serde::Serialize;

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It has colours of its own.
    Picture,
    /// A layer that says where something shows: the text of a scanned page, or the transparency of a picture.
    Mask,
}

impl Role {
    /// The name in rows and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Picture => "picture",
            Self::Mask => "mask",
        }
    }
}

/// One image as a page draws it. The pixels are not decoded yet, so the figures are the file's claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedImage {
    /// Page, from 1.
    pub page: u32,
    /// Place among all that the page draws, masks included, from 0. Does not depend on the range that was asked for.
    pub index: u32,
    /// `image`, `mask`, `smask` or `stencil`.
    pub kind: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Colour space: `gray`, `rgb`, `cmyk`, `lab`, `icc`, `index`, `sep` or `devn`.
    pub colour: String,
    /// Bits per component.
    pub bits: u32,
    /// How it is stored: `image` (raster), `jpeg`, `jpx`, `jbig2`, `ccitt`.
    pub encoding: String,
    /// Pixels per inch across and down, by its size on the page; 0: not known.
    pub ppi: (u32, u32),
}

impl ListedImage {
    /// Width times height.
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// Pixels per inch in the direction in which it is drawn coarser; 0: not known.
    pub fn dpi(&self) -> u32 {
        self.ppi.0.min(self.ppi.1)
    }

    /// What it covers of its page, in square inches; 0: not known.
    pub fn square_inches(&self) -> f32 {
        let inches = |pixels: u32, ppi: u32| {
            if ppi == 0 {
                0.0
            } else {
                pixels as f32 / ppi as f32
            }
        };
        inches(self.width, self.ppi.0) * inches(self.height, self.ppi.1)
    }

    /// Soft masks, masks and stencils are masks.
    pub fn role(&self) -> Role {
        if self.kind == "image" {
            Role::Picture
        } else {
            Role::Mask
        }
    }
}

/// The images of each page in the order in which they are drawn.
pub(super) fn parse(output: &str) -> BTreeMap<u32, Vec<ListedImage>> {
    let mut pages: BTreeMap<u32, Vec<ListedImage>> = BTreeMap::new();
    // The heading and the rule below it do not begin with a number, so they fall away by themselves.
    for mut image in output.lines().filter_map(parse_line) {
        let page = pages.entry(image.page).or_default();
        image.index = page.len() as u32;
        page.push(image);
    }
    pages
}

/// `page num type width height color comp bpc enc interp object ID x-ppi y-ppi size ratio`; an inline image has one
/// word in place of object and ID, so what follows them is counted from the end.
fn parse_line(line: &str) -> Option<ListedImage> {
    let mut ends = line
        .split_whitespace()
        .rev()
        .skip(2)
        .map(|field| field.parse().unwrap_or(0));
    let (y_ppi, x_ppi) = (ends.next()?, ends.next()?);
    let mut fields = line.split_whitespace();
    let page = fields.next()?.parse().ok()?;
    let _number = fields.next()?.parse::<u32>().ok()?;
    let kind = fields.next()?.to_owned();
    let width = size(fields.next()?);
    let height = size(fields.next()?);
    let colour = fields.next()?.to_owned();
    let _components = fields.next()?;
    let bits = fields.next()?.parse().unwrap_or(0);
    let encoding = fields.next()?.to_owned();
    Some(ListedImage {
        page,
        index: 0,
        kind,
        width,
        height,
        colour,
        bits,
        encoding,
        ppi: (x_ppi, y_ppi),
    })
}

/// Poppler prints the file's claim as it stands: below zero is no size, and too large for the type is the largest.
fn size(field: &str) -> u32 {
    match field.parse::<i64>() {
        Ok(size) => u32::try_from(size.max(0)).unwrap_or(u32::MAX),
        Err(_) => u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
page   num  type   width height color comp bpc  enc interp  object ID x-ppi y-ppi size ratio
--------------------------------------------------------------------------------------------
  24     0 image     180   191  rgb     3   8  jpeg   no       115  0   144   144 3901B 4.0%
  24     1 smask     180   191  gray    1   8  jpeg   no       115  0   144   144 4052B  13%
  31     2 image      16    16  gray    1   1  image  no   [inline]     300   300   31B  12%
  31     3 image   99999999999 -4  cmyk    4   8  image  no   7 0     300   300   31B  12%
";

    // P2
    #[test]
    fn images_are_numbered_within_their_page() {
        let pages = parse(LIST);
        let index = |page: u32| {
            pages[&page]
                .iter()
                .map(|image| (image.index, image.kind.as_str()))
                .collect::<Vec<_>>()
        };
        assert_eq!(index(24), [(0, "image"), (1, "smask")]);
        assert_eq!(index(31), [(0, "image"), (1, "image")]);
        assert_eq!(
            (
                pages[&24][0].width,
                pages[&24][0].height,
                pages[&31][0].bits
            ),
            (180, 191, 1)
        );
    }

    // X44
    #[test]
    fn the_resolution_comes_from_the_size_on_the_page() {
        let pages = parse(LIST);
        assert_eq!((pages[&24][0].dpi(), pages[&31][0].dpi()), (144, 300));
        assert!((pages[&24][0].square_inches() - 180.0 * 191.0 / 144.0 / 144.0).abs() < 0.01);
    }

    // P4
    #[test]
    fn impossible_sizes_are_kept_within_the_type() {
        let huge = &parse(LIST)[&31][1];
        assert_eq!((huge.width, huge.height, huge.pixels()), (u32::MAX, 0, 0));
    }
}
