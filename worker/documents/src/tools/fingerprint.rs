//! What makes an image recognisable: its exact hash, a hash of how it looks, and a vector of colours and layout.
//!
//! The vector is honest but simple: it holds where the image is light and dark, and which colours it has. Pictures
//! that look alike are near each other; pictures that mean the same but look different are not. It needs no model,
//! no network and no key.
//!
//! Everything here is plain and heavy on the CPU: call it through `spawn_blocking`. An image is decoded whole, so the
//! caller should bound how many it does at once.

use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::Path;

use image::codecs::png::PngDecoder;
use image::imageops::{FilterType, resize};
use image::{DynamicImage, ImageDecoder, RgbImage};
use millstream_common::shortage::shortage;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::error::{ToolError, code};
use super::png;

/// Name of the vectors' model.
pub const IMAGE_MODEL: &str = "local-colour-layout-v1";

/// Length of the vectors: 64 places and 64 colours.
pub const IMAGE_DIMENSIONS: usize = GRID_EDGE * GRID_EDGE + COLOURS;

/// The layout is a grid of 8 × 8 greys: enough to tell a page from a portrait, too coarse to see noise.
const GRID_EDGE: usize = 8;

/// Each of red, green and blue in four steps.
const COLOURS: usize = 64;

/// Everything is computed from a thumbnail of this edge, so that the work after decoding is the same for all images.
const THUMBNAIL_EDGE: u32 = 64;

/// Pixels are at most 8 bytes (RGBA of 16 bits), plus the decoder's own rows.
const DECODER_BYTES_MAX: u64 = 4 * png::PIXELS_MAX + 64 * 1024 * 1024;

/// The fingerprint of one image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fingerprint {
    /// SHA-256 of the file's bytes, 64 hex digits: equal files.
    pub sha256_hex: String,
    /// Difference hash: images that look alike differ in few of the 64 bits.
    pub dhash: u64,
    /// [`IMAGE_DIMENSIONS`] numbers of length 1 together, of the model [`IMAGE_MODEL`].
    pub vector: Vec<f32>,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// The fingerprint of the PNG at `path`. Blocks.
pub fn fingerprint(path: &Path) -> Result<Fingerprint, ToolError> {
    let unreadable = |source| ToolError::io("the image could not be read", &source);
    let mut file = File::open(path).map_err(unreadable)?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    let picture = decode(file)?;
    let thumbnail = thumbnail(&picture);
    Ok(Fingerprint {
        sha256_hex: hex::encode(hash.finalize()),
        dhash: dhash(&thumbnail),
        vector: vector(&thumbnail),
        width: picture.width(),
        height: picture.height(),
    })
}

/// How many of the 64 bits differ: 0 for the same look, up to about 10 for variants of one picture.
pub fn dhash_distance(one: u64, other: u64) -> u32 {
    (one ^ other).count_ones()
}

/// The pixels of a PNG, within the limits. Blocks.
pub(super) fn decode(file: File) -> Result<DynamicImage, ToolError> {
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(DECODER_BYTES_MAX);
    let decoder = PngDecoder::with_limits(BufReader::new(file), limits)
        .map_err(|source| undecodable(&source))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > png::PIXELS_MAX {
        return Err(png::too_large(width, height));
    }
    DynamicImage::from_decoder(decoder).map_err(|source| undecodable(&source))
}

fn undecodable(source: &image::ImageError) -> ToolError {
    match source {
        image::ImageError::Limits(_) => {
            let limit = DECODER_BYTES_MAX / (1024 * 1024);
            ToolError::document(
                code::IMAGE_TOO_LARGE,
                &format!("the image needs more than {limit} MiB to decode"),
            )
        }
        other if shortage(other).is_some() => {
            ToolError::caused("the image could not be read", other)
        }
        other => ToolError::document(
            code::IMAGE_UNREADABLE,
            &format!("the image cannot be decoded: {other}"),
        ),
    }
}

/// Small images are enlarged smoothly; large ones are averaged, which looks at every pixel once.
fn thumbnail(picture: &DynamicImage) -> RgbImage {
    let is_small = picture.width() < THUMBNAIL_EDGE || picture.height() < THUMBNAIL_EDGE;
    if is_small {
        picture
            .resize_exact(THUMBNAIL_EDGE, THUMBNAIL_EDGE, FilterType::Triangle)
            .into_rgb8()
    } else {
        picture
            .thumbnail_exact(THUMBNAIL_EDGE, THUMBNAIL_EDGE)
            .into_rgb8()
    }
}

/// Whether it grows darker from left to right, in 8 × 8 places.
fn dhash(thumbnail: &RgbImage) -> u64 {
    let grey = DynamicImage::ImageRgb8(thumbnail.clone()).into_luma8();
    let grid = resize(&grey, 9, 8, FilterType::Triangle);
    let bits = (0..8).flat_map(|y| (0..8).map(move |x| (x, y)));
    bits.fold(0, |hash, (x, y)| {
        hash << 1 | u64::from(grid.get_pixel(x, y)[0] > grid.get_pixel(x + 1, y)[0])
    })
}

/// Layout and colours, each of length 1, joined and brought to length 1 again.
fn vector(thumbnail: &RgbImage) -> Vec<f32> {
    let mut layout = layout(thumbnail);
    let mut colours = colours(thumbnail);
    to_length_one(&mut layout);
    to_length_one(&mut colours);
    layout.append(&mut colours);
    to_length_one(&mut layout);
    layout
}

/// Greys around their mean: two photographs of different exposure have the same layout.
fn layout(thumbnail: &RgbImage) -> Vec<f32> {
    let grey = DynamicImage::ImageRgb8(thumbnail.clone()).into_luma8();
    let edge = GRID_EDGE as u32;
    let grid = resize(&grey, edge, edge, FilterType::Triangle);
    let values = grid
        .pixels()
        .map(|pixel| f32::from(pixel[0]))
        .collect::<Vec<_>>();
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    values.iter().map(|value| value - mean).collect()
}

/// Square roots of the shares: a colour of a few pixels still counts beside a large background.
fn colours(thumbnail: &RgbImage) -> Vec<f32> {
    let mut counts = vec![0.0_f32; COLOURS];
    for pixel in thumbnail.pixels() {
        let [red, green, blue] = pixel.0.map(|part| usize::from(part >> 6));
        counts[red * 16 + green * 4 + blue] += 1.0;
    }
    counts.into_iter().map(f32::sqrt).collect()
}

/// A vector of zeros stays as it is.
fn to_length_one(vector: &mut [f32]) {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > f32::EPSILON {
        for value in vector {
            *value /= length;
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::*;

    fn of(picture: &DynamicImage) -> Fingerprint {
        let file = tempfile::NamedTempFile::new().unwrap();
        picture
            .save_with_format(file.path(), image::ImageFormat::Png)
            .unwrap();
        fingerprint(file.path()).unwrap()
    }

    fn picture(width: u32, height: u32, colour: fn(f32, f32) -> [u8; 3]) -> DynamicImage {
        let part = |place: u32, of: u32| place as f32 / of as f32;
        RgbImage::from_fn(width, height, |x, y| {
            image::Rgb(colour(part(x, width), part(y, height)))
        })
        .into()
    }

    fn sunset(x: f32, y: f32) -> [u8; 3] {
        [(255.0 * (1.0 - y)) as u8, (120.0 * x) as u8, 40]
    }

    fn forest(x: f32, y: f32) -> [u8; 3] {
        [20, (255.0 * y * (1.0 - x)) as u8, 30]
    }

    fn cosine(one: &Fingerprint, other: &Fingerprint) -> f32 {
        one.vector
            .iter()
            .zip(&other.vector)
            .map(|(a, b)| a * b)
            .sum()
    }

    // P3
    #[test]
    fn the_same_picture_in_another_size_is_near_and_another_picture_is_far() {
        let (large, small) = (of(&picture(400, 300, sunset)), of(&picture(90, 80, sunset)));
        let other = of(&picture(400, 300, forest));
        assert!(cosine(&large, &small) > 0.98 && cosine(&large, &other) < 0.7);
        assert!(
            dhash_distance(large.dhash, small.dhash) < dhash_distance(large.dhash, other.dhash)
        );
        assert_ne!(large.sha256_hex, small.sha256_hex);
        assert_eq!(large, of(&picture(400, 300, sunset)));
    }

    // P3
    #[test]
    fn vectors_have_their_dimension_and_length_one_even_of_a_blank_image() {
        for image in [
            picture(8, 8, |_, _| [255; 3]),
            picture(1, 1, |_, _| [0; 3]),
            picture(300, 9, sunset),
        ] {
            let vector = of(&image).vector;
            let length = vector.iter().map(|value| value * value).sum::<f32>();
            assert!(vector.len() == IMAGE_DIMENSIONS && (length - 1.0).abs() < 1e-4);
        }
        let grey: DynamicImage = image::GrayImage::from_pixel(10, 10, image::Luma([9])).into();
        assert_eq!(of(&grey).width, 10);
    }

    // P4
    #[test]
    fn a_damaged_or_huge_png_is_an_error_of_the_image() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture(64, 64, sunset)
            .write_to(&mut bytes, image::ImageFormat::Png)
            .unwrap();
        let whole = bytes.into_inner();
        for bad in [&b""[..], b"no image", &whole[..whole.len() / 2]] {
            std::fs::write(file.path(), bad).unwrap();
            assert_eq!(
                fingerprint(file.path()).unwrap_err().document_code(),
                Some(code::IMAGE_UNREADABLE)
            );
        }
        std::fs::write(file.path(), huge_header(&whole)).unwrap();
        assert!(
            fingerprint(file.path())
                .unwrap_err()
                .document_code()
                .is_some()
        );
    }

    /// The image claims 2^31 - 1 pixels of width and height.
    fn huge_header(whole: &[u8]) -> Vec<u8> {
        let mut bytes = whole.to_vec();
        bytes[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        bytes
    }
}
