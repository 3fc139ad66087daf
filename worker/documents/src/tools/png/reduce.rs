//! Makes a PNG smaller that nobody here could hold in memory: row by row, each block of pixels becomes their mean.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use png::{BitDepth, ColorType, Compression, Decoder, Encoder, Transformations};

use super::super::error::{ToolError, code};
use super::{PIXELS_MAX, PngHeader};

/// Rewrites the PNG at `path` with at most [`PIXELS_MAX`] pixels; how many times smaller each edge is, 1 if it was small
/// enough. Blocks.
pub fn reduce(path: &Path, header: &PngHeader) -> Result<u32, ToolError> {
    let factor = factor(header);
    if factor > 1 {
        let target = path.with_extension("reduced.png");
        write_reduced(path, &target, factor as usize)?;
        std::fs::rename(&target, path)
            .map_err(|source| ToolError::io("a picture could not be written", &source))?;
    }
    Ok(factor)
}

/// The smallest whole number that brings the pixels below the limit.
fn factor(header: &PngHeader) -> u32 {
    let edge = (header.pixels() as f64 / PIXELS_MAX as f64).sqrt().ceil() as u32;
    edge.clamp(1, header.width.min(header.height).max(1))
}

fn write_reduced(from: &Path, to: &Path, factor: usize) -> Result<(), ToolError> {
    let io = |source| ToolError::io("a picture could not be read", &source);
    let mut decoder = Decoder::new(BufReader::new(File::open(from).map_err(io)?));
    // Palettes and bits become bytes, sixteen bits become eight.
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut rows = decoder.read_info().map_err(|error| unreadable(&error))?;
    let (colour, _) = rows.output_color_type();
    let parts = colour.samples();
    let (width, height) = (
        rows.info().width as usize / factor,
        rows.info().height as usize / factor,
    );
    let mut encoder = Encoder::new(
        BufWriter::new(File::create(to).map_err(io)?),
        width as u32,
        height as u32,
    );
    encoder.set_color(if colour == ColorType::Indexed {
        ColorType::Rgb
    } else {
        colour
    });
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    let mut writer = encoder.write_header().map_err(|error| unwritable(&error))?;
    let mut out = writer.stream_writer().map_err(|error| unwritable(&error))?;
    let mut sums = vec![0_u32; width * parts];
    for _ in 0..height {
        sums.fill(0);
        for _ in 0..factor {
            let row = rows.next_row().map_err(|error| unreadable(&error))?;
            add(
                &mut sums,
                row.map(|row| row.data().to_vec())
                    .unwrap_or_default()
                    .as_slice(),
                parts,
                factor,
            );
        }
        let means = sums
            .iter()
            .map(|sum| (sum / (factor * factor) as u32) as u8)
            .collect::<Vec<_>>();
        out.write_all(&means)
            .map_err(|source| ToolError::io("a picture could not be written", &source))?;
    }
    out.finish().map_err(|error| unwritable(&error))
}

/// Adds a row of pixels, `factor` neighbours to each place.
fn add(sums: &mut [u32], row: &[u8], parts: usize, factor: usize) {
    for (sum, block) in sums.chunks_exact_mut(parts).zip(row.chunks(parts * factor)) {
        for pixel in block.chunks_exact(parts) {
            for (sum, part) in sum.iter_mut().zip(pixel) {
                *sum += u32::from(*part);
            }
        }
    }
}

fn unreadable(error: &png::DecodingError) -> ToolError {
    ToolError::document(
        code::IMAGE_UNREADABLE,
        &format!("the image cannot be decoded: {error}"),
    )
}

fn unwritable(error: &png::EncodingError) -> ToolError {
    ToolError::transient(&format!("a picture could not be written: {error}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn header(width: u32, height: u32) -> PngHeader {
        PngHeader {
            width,
            height,
            bytes: 1,
            bytes_per_pixel: 1,
        }
    }

    // X52
    #[test]
    fn a_picture_is_reduced_until_it_is_within_the_limit() {
        assert_eq!(factor(&header(8_000, 5_000)), 1);
        assert_eq!(factor(&header(8_000, 5_001)), 2);
        assert_eq!(factor(&header(16_000, 10_000)), 2);
        for (width, height) in [(13_000, 12_000), (160_000, 1_000), (u32::MAX, 1)] {
            let factor = factor(&header(width, height));
            let fits = u64::from(width / factor) * u64::from(height / factor) <= PIXELS_MAX;
            assert!(fits || factor == width.min(height), "{width} × {height}");
        }
    }

    // X52
    #[test]
    fn each_block_of_pixels_becomes_its_mean() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a.png"), folder.path().join("b.png"));
        for (picture, expected) in [
            (
                image::DynamicImage::from(image::GrayImage::from_fn(5, 4, |x, y| {
                    image::Luma([(10 * x + y) as u8])
                })),
                [5, 25, 7, 27].to_vec(),
            ),
            (
                image::RgbImage::from_fn(4, 2, |x, _| image::Rgb([200, x as u8, 0])).into(),
                vec![200, 0, 0, 200, 2, 0],
            ),
        ] {
            picture.save(&from).unwrap();
            write_reduced(&from, &to, 2).unwrap();
            assert_eq!(image::open(&to).unwrap().as_bytes(), expected);
        }
    }

    // P4
    #[test]
    fn a_picture_that_is_cut_off_is_an_error_of_the_picture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        image::GrayImage::from_pixel(300, 300, image::Luma([9]))
            .save(&path)
            .unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(
            write_reduced(&path, &folder.path().join("b.png"), 2)
                .unwrap_err()
                .document_code()
                .is_some()
        );
    }
}
