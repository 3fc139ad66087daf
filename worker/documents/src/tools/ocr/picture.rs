//! Makes a picture fit for Tesseract: grey, dark on light, letters of a size that it reads well.
//!
//! Tesseract takes the resolution for the truth and reads badly where it is wrong or low: a scan of 150 dpi without a mark
//! loses most of its figures. So small pictures are enlarged as if they had been scanned at 300 dpi, and large ones reduced.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use image::codecs::png::{CompressionType, FilterType as PngFilter, PngEncoder};
use image::imageops::{self, FilterType};
use image::{GrayImage, ImageEncoder};

use super::super::error::{ToolError, code};
use super::super::{fingerprint, pdf};
use super::Hint;

/// Tesseract refuses a longer edge than 32,767 pixels.
const EDGE_PX_MAX: u32 = 32_000;

/// A picture is enlarged this much at most: a letter of fewer pixels is not there.
const ENLARGED_MAX: f32 = 4.0;

/// Pixels of an enlarged picture: A4 at 300 dpi has 8.7 million. Larger costs Tesseract more than it gains.
const ENLARGED_PIXELS_MAX: f32 = 10_000_000.0;

/// From 200 to 450 dpi Tesseract reads equally well, so nothing is scaled for it.
const DPI_GOOD: std::ops::RangeInclusive<u32> = 200..=450;

/// A resolution outside of this is no resolution.
const DPI_BELIEVED: std::ops::RangeInclusive<u32> = 40..=2_400;

/// The longer side of A4 in inches: a picture of unknown resolution and many pixels is taken for a page.
const PAGE_INCHES: f32 = 11.7;

/// The longer side of A3 in inches: a larger picture has a wrong resolution if that is low.
const INCHES_MAX: f32 = 17.6;

/// Programs that know no resolution write 72 or 96.
const DPI_UNKNOWN_MAX: u32 = 100;

/// Tesseract's own bounds for a resolution.
const DPI_TOLD: (f32, f32) = (70.0, 2_400.0);

/// A picture whose middle grey is darker than this is light writing on a dark ground.
const DARK_GREY_MAX: u8 = 110;

/// How a picture is turned before Tesseract sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    None,
    Left,
    Half,
    Right,
}

/// A picture that Tesseract can read; its own file, if it has one, goes with this value.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) file: PathBuf,
    pub(super) dpi: u32,
    pub(super) short_edge: u32,
    is_own: bool,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if self.is_own {
            // What cannot be removed goes with the folder that the caller made for the picture.
            let _ = std::fs::remove_file(&self.file);
        }
    }
}

/// Writes what Tesseract is to read beside `path`, or takes `path` itself if it is good as it is. Blocks.
pub(super) fn prepare(path: &Path, hint: Hint, turn: Turn) -> Result<Prepared, ToolError> {
    let file =
        File::open(path).map_err(|source| ToolError::io("the image could not be read", &source))?;
    let mut grey = fingerprint::decode(file)?.into_luma8();
    let dpi = believed_dpi(hint.dpi, grey.width(), grey.height());
    let factor = factor(dpi, grey.width(), grey.height());
    let told_dpi = (dpi as f32 * factor).clamp(DPI_TOLD.0, DPI_TOLD.1) as u32;
    let is_dark = is_dark(&grey);
    if !is_dark && turn == Turn::None && (factor - 1.0).abs() < f32::EPSILON {
        return Ok(Prepared {
            file: path.to_owned(),
            dpi: told_dpi,
            short_edge: grey.width().min(grey.height()),
            is_own: false,
        });
    }
    if is_dark {
        imageops::invert(&mut grey);
    }
    let grey = turned(scaled(grey, factor), turn);
    let file = path.with_extension("prepared.png");
    write(&file, &grey)?;
    Ok(Prepared {
        file,
        dpi: told_dpi,
        short_edge: grey.width().min(grey.height()),
        is_own: true,
    })
}

/// The resolution, or the one that makes a picture of many pixels a page and a small one a part of a screen.
fn believed_dpi(dpi: u32, width: u32, height: u32) -> u32 {
    let long = width.max(height);
    let is_too_large = dpi <= DPI_UNKNOWN_MAX && long as f32 > INCHES_MAX * dpi as f32;
    if DPI_BELIEVED.contains(&dpi) && !is_too_large {
        return dpi;
    }
    ((long as f32 / PAGE_INCHES) as u32).clamp(DPI_UNKNOWN_MAX, pdf::OCR_DPI)
}

/// How much larger Tesseract gets the picture.
fn factor(dpi: u32, width: u32, height: u32) -> f32 {
    let pixels = width as f32 * height as f32;
    let wanted = if DPI_GOOD.contains(&dpi) {
        1.0
    } else {
        pdf::OCR_DPI as f32 / dpi as f32
    };
    let enlarged_max = (ENLARGED_PIXELS_MAX / pixels)
        .sqrt()
        .clamp(1.0, ENLARGED_MAX);
    wanted
        .min(enlarged_max)
        .min(EDGE_PX_MAX as f32 / width.max(height) as f32)
}

fn scaled(grey: GrayImage, factor: f32) -> GrayImage {
    let edge = |pixels: u32| ((pixels as f32 * factor).round() as u32).max(1);
    let (width, height) = (edge(grey.width()), edge(grey.height()));
    if (width, height) == grey.dimensions() {
        return grey;
    }
    if factor > 1.0 {
        imageops::resize(&grey, width, height, FilterType::Triangle)
    } else {
        imageops::thumbnail(&grey, width, height)
    }
}

fn turned(grey: GrayImage, turn: Turn) -> GrayImage {
    match turn {
        Turn::None => grey,
        Turn::Left => imageops::rotate270(&grey),
        Turn::Half => imageops::rotate180(&grey),
        Turn::Right => imageops::rotate90(&grey),
    }
}

/// By the grey in the middle of all: writing covers far less than half of its ground.
fn is_dark(grey: &GrayImage) -> bool {
    let mut counts = [0_usize; 256];
    for pixel in grey.pixels() {
        counts[usize::from(pixel[0])] += 1;
    }
    let dark = counts[..=usize::from(DARK_GREY_MAX)].iter().sum::<usize>();
    dark * 2 > grey.pixels().len()
}

fn write(file: &Path, grey: &GrayImage) -> Result<(), ToolError> {
    let failed = |source: &(dyn std::error::Error + 'static)| {
        ToolError::caused("a picture could not be written", source)
    };
    let out = BufWriter::new(File::create(file).map_err(|source| failed(&source))?);
    let encoder = PngEncoder::new_with_quality(out, CompressionType::Fast, PngFilter::NoFilter);
    let written = encoder.write_image(
        grey.as_raw(),
        grey.width(),
        grey.height(),
        image::ExtendedColorType::L8,
    );
    written.map_err(|source| match source {
        image::ImageError::Limits(_) => ToolError::document(
            code::IMAGE_TOO_LARGE,
            "the image is too large to be written",
        ),
        other => failed(&other),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    // X44
    #[test]
    fn a_resolution_is_believed_only_if_it_makes_a_sheet() {
        assert_eq!(believed_dpi(150, 1_240, 1_754), 150);
        assert_eq!(believed_dpi(72, 1_240, 1_754), 149);
        assert_eq!(believed_dpi(0, 2_480, 3_508), 299);
        assert_eq!(believed_dpi(0, 400, 300), 100);
        assert_eq!(believed_dpi(72, 400, 300), 72);
        assert_eq!(believed_dpi(7_200, 40_000, 20), 300);
    }

    // X43, X44
    #[test]
    fn pictures_are_scaled_to_what_tesseract_reads_and_takes() {
        let close = |one: f32, other: f32| (one - other).abs() < 0.01;
        assert!(close(factor(300, 2_480, 3_508), 1.0) && close(factor(150, 1_240, 1_754), 2.0));
        assert!(close(factor(72, 200, 100), 4.0) && close(factor(600, 4_960, 7_016), 0.5));
        assert!(
            close(factor(100, 4_000, 5_000), 1.0),
            "a large picture is not made larger"
        );
        for (width, height) in [(40_000, 20), (1, 4_000_000), (32_767, 32_767)] {
            assert!(
                width.max(height) as f32 * factor(300, width, height) <= EDGE_PX_MAX as f32 + 1.0
            );
        }
    }

    // X44
    #[test]
    fn light_on_dark_becomes_dark_on_light_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let mut picture = GrayImage::from_pixel(300, 200, image::Luma([20]));
        picture.put_pixel(0, 0, image::Luma([250]));
        picture.save(&path).unwrap();
        let hint = Hint {
            dpi: 300,
            is_page: false,
        };
        let prepared = prepare(&path, hint, Turn::Half).unwrap();
        let seen = image::open(&prepared.file).unwrap().into_luma8();
        assert_eq!(
            (
                seen.get_pixel(299, 199)[0],
                seen.get_pixel(0, 0)[0],
                prepared.dpi
            ),
            (5, 235, 300)
        );
        drop(prepared);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    // X44
    #[test]
    fn a_good_picture_is_read_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        GrayImage::from_pixel(300, 200, image::Luma([250]))
            .save(&path)
            .unwrap();
        assert_eq!(
            prepare(
                &path,
                Hint {
                    dpi: 300,
                    is_page: false
                },
                Turn::None
            )
            .unwrap()
            .file,
            path
        );
    }
}
