//! What can be known about a PNG file without decoding it.
//!
//! Tesseract takes a file that is no image for a list of file names to read, so every file is looked at here before
//! it is given to a tool.

mod reduce;

use std::path::Path;

use tokio::io::AsyncReadExt;

pub use self::reduce::reduce;
use super::error::{ToolError, code};

/// Largest image in pixels: A4 at 600 dpi has 35 million. Decoded as RGB it fills 120 MB, which a worker of 500 MB can
/// hold while it does other work; a larger one could take two of them down at once.
pub const PIXELS_MAX: u64 = 40_000_000;

const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// Signature, length and name of the first chunk, width, height, bits per part, kind of colour.
const HEADER_BYTES: usize = 26;

/// Size of an image by its own header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PngHeader {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Size of the file.
    pub bytes: u64,
    /// Of a decoded pixel, from 1 to 8.
    pub bytes_per_pixel: u8,
}

impl PngHeader {
    /// Width times height.
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// Memory that the decoded image fills.
    pub fn decoded_bytes(&self) -> u64 {
        self.pixels()
            .saturating_mul(u64::from(self.bytes_per_pixel))
    }
}

/// The header of the PNG at `path`, within [`PIXELS_MAX`].
pub async fn check(path: &Path) -> Result<PngHeader, ToolError> {
    let header = read_header(path).await?;
    if header.pixels() > PIXELS_MAX {
        return Err(too_large(header.width, header.height));
    }
    Ok(header)
}

/// The header of the PNG at `path`, whatever its size.
pub async fn read_header(path: &Path) -> Result<PngHeader, ToolError> {
    let unreadable = |source| ToolError::io("the image could not be opened", &source);
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let bytes = file.metadata().await.map_err(unreadable)?.len();
    let mut start = Vec::with_capacity(HEADER_BYTES);
    file.take(HEADER_BYTES as u64)
        .read_to_end(&mut start)
        .await
        .map_err(unreadable)?;
    let unreadable =
        || ToolError::document(code::IMAGE_UNREADABLE, "the image is not a PNG, or cut off");
    let (width, height, bytes_per_pixel) = parse(&start).ok_or_else(unreadable)?;
    Ok(PngHeader {
        width,
        height,
        bytes,
        bytes_per_pixel,
    })
}

/// The error of an image above [`PIXELS_MAX`].
pub(super) fn too_large(width: u32, height: u32) -> ToolError {
    let limit = PIXELS_MAX / 1_000_000;
    let message =
        format!("the image has {width} × {height} pixels, the limit is {limit} megapixels");
    ToolError::document(code::IMAGE_TOO_LARGE, &message)
}

fn parse(start: &[u8]) -> Option<(u32, u32, u8)> {
    let after = start.strip_prefix(&SIGNATURE)?;
    let size = |at: usize| {
        after
            .get(at..at + 4)?
            .try_into()
            .ok()
            .map(u32::from_be_bytes)
    };
    let is_header = after.get(4..8)? == b"IHDR";
    let (width, height, bits, colour) = (size(8)?, size(12)?, *after.get(16)?, *after.get(17)?);
    let parts = match colour {
        0 => 1,
        4 => 2,
        // RGB, and a palette of it, which may have transparent entries.
        2 => 3,
        _ => 4,
    };
    let bytes = if bits > 8 { 2 * parts } else { parts };
    (is_header && width > 0 && height > 0).then_some((width, height, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    // P4
    #[test]
    fn only_a_png_with_a_size_has_a_header() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\0\0\0\0\x02\x10\x02";
        assert_eq!(parse(png), Some((256, 2, 6)));
        for bad in [
            &b""[..],
            b"/etc/passwd\n",
            &png[..20],
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\0\0\0\0\x02\x08\x02",
        ] {
            assert_eq!(parse(bad), None);
        }
    }
}
