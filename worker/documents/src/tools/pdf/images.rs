//! Takes the images of a page out of the file, as PNG files.
//!
//! The list is read first ([`list_images`], for the whole file at once) and decides what is worth and safe to decode;
//! then each page with a wanted image is extracted by itself ([`extract_images`]), so that a hostile page costs its own
//! images only. Poppler cannot pick single images of a page, therefore the limits on pixels hold for a page as a whole.
//!
//! Masks are images too: the text of a scanned page is often a mask over a picture of the paper.
//!
//! Invariant: every listed image is either among `images` or among `skipped`, exactly once.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::error::{ToolError, clean, code};
use super::super::png::{self, PngHeader};
use super::super::sandbox::{Limits, Sandbox, absolute};
use super::super::tool::Tool;
use super::complaint;
use super::list::{self, ListedImage, Role};

/// Images with a shorter edge hold nothing to see: rules, bullets, and the strips some programs cut shadows into.
pub const EDGE_PX_MIN: u32 = 8;

/// Pixels of all images of one page: a double page at 600 dpi has 70 million, twice over for layers.
pub const PIXELS_PER_PAGE_MAX: u64 = 160_000_000;

/// Listed images of one page, masks included: each is a file for a moment. Real pages have a few dozens.
pub const IMAGES_PER_PAGE_MAX: usize = 1_000;

/// Images of one document: the caller stops here, because each becomes a job. The largest known catalogue has 215.
pub const IMAGES_PER_DOCUMENT_MAX: usize = 5_000;

/// An image that is now a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExtractedImage {
    /// Page, from 1.
    pub page: u32,
    /// Place among all that the page draws, from 0: with the page it is the image's lasting name in the document.
    pub index: u32,
    /// A picture or a mask.
    pub role: Role,
    /// The PNG file, in the folder that the caller gave.
    pub file: PathBuf,
    /// Size of the file.
    pub bytes: u64,
    /// Width in pixels, by the PNG's own header.
    pub width: u32,
    /// Height in pixels, by the PNG's own header.
    pub height: u32,
    /// Colour space in the document, such as `rgb` or `cmyk`; the PNG is grey or RGB.
    pub colour: String,
    /// How the document stored it, such as `jpeg`.
    pub encoding: String,
    /// Pixels per inch by its size on the page; 0: not known.
    pub dpi: u32,
    /// How many times smaller the file is than the document's picture, in each direction; 1: it is as large.
    pub reduced: u32,
}

/// An image that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Page, from 1.
    pub page: u32,
    /// Place among all that the page draws, from 0.
    pub index: u32,
    /// For people: "smaller than 8 pixels", "the page has N megapixels, the limit is M", …
    pub reason: String,
    /// The image shows something and is missing from the result; specks are not missed.
    pub is_loss: bool,
}

/// The images of a page, in the order in which it draws them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Images {
    /// Those that are files now.
    pub images: Vec<ExtractedImage>,
    /// Those that are not.
    pub skipped: Vec<Skipped>,
}

/// What the pages from `first` to `last` (from 1, both included) draw, by the document's own word and without
/// decoding anything. In the order of the pages.
pub async fn list_images(
    sandbox: &Sandbox,
    path: &Path,
    first: u32,
    last: u32,
) -> Result<Vec<ListedImage>, ToolError> {
    let mut arguments = vec!["-list".into()];
    arguments.extend(range_arguments(first, last));
    arguments.push(absolute(path)?);
    let finished = sandbox
        .run(Tool::PdfImages, &arguments, &Limits::LIST_IMAGES)
        .await
        .map_err(|error| {
            if error.document_code() == Some(code::LIMIT_OUTPUT) {
                ToolError::document(
                    code::TOO_MANY_IMAGES,
                    "the file draws more images than can be listed",
                )
            } else {
                error
            }
        })?;
    complaint::check(&finished)?;
    Ok(list::parse(&String::from_utf8_lossy(&finished.stdout))
        .into_values()
        .flatten()
        .collect())
}

/// Writes the images of one page, listed by [`list_images`], into `out_dir`, which exists and is the caller's to remove.
pub async fn extract_images(
    sandbox: &Sandbox,
    path: &Path,
    out_dir: &Path,
    page: &[ListedImage],
) -> Result<Images, ToolError> {
    let (wanted, skipped) = sort_out(page);
    let mut result = Images {
        images: Vec::new(),
        skipped,
    };
    if wanted.is_empty() {
        return Ok(result);
    }
    for outcome in extract_page(sandbox, path, out_dir, page, &wanted).await? {
        match outcome {
            Ok(image) => result.images.push(image),
            Err(skipped) => result.skipped.push(skipped),
        }
    }
    result.skipped.sort_by_key(|skipped| skipped.index);
    Ok(result)
}

/// The images of a page that are worth a look, and the others with the reason.
fn sort_out(page: &[ListedImage]) -> (Vec<&ListedImage>, Vec<Skipped>) {
    let page_reason = page_reason(page);
    let (mut wanted, mut skipped) = (Vec::new(), Vec::new());
    for image in page {
        if image.width.min(image.height) < EDGE_PX_MIN {
            skipped.push(unmissed(
                image,
                &format!("smaller than {EDGE_PX_MIN} pixels"),
            ));
        } else if let Some(reason) = &page_reason {
            skipped.push(lost(image, reason));
        } else {
            wanted.push(image);
        }
    }
    (wanted, skipped)
}

/// Why nothing at all is taken out of a page.
fn page_reason(page: &[ListedImage]) -> Option<String> {
    let million = 1_000_000;
    let pixels = page
        .iter()
        .map(ListedImage::pixels)
        .fold(0, u64::saturating_add);
    if page.len() > IMAGES_PER_PAGE_MAX {
        return Some(format!(
            "the page draws {} images, the limit is {IMAGES_PER_PAGE_MAX}",
            page.len()
        ));
    }
    if let Some(huge) = page
        .iter()
        .find(|image| image.pixels() > PIXELS_PER_PAGE_MAX)
    {
        let (width, height, limit) = (huge.width, huge.height, PIXELS_PER_PAGE_MAX / million);
        return Some(format!(
            "an image of the page has {width} × {height} pixels, the limit is {limit} megapixels"
        ));
    }
    (pixels > PIXELS_PER_PAGE_MAX).then(|| {
        let limit = PIXELS_PER_PAGE_MAX / million;
        format!(
            "the page has {} megapixels, the limit is {limit}",
            pixels / million
        )
    })
}

/// Extracts one page. A failure that is the page's own fault costs the images that were not written by then.
async fn extract_page(
    sandbox: &Sandbox,
    path: &Path,
    out_dir: &Path,
    page: &[ListedImage],
    wanted: &[&ListedImage],
) -> Result<Vec<Result<ExtractedImage, Skipped>>, ToolError> {
    let number = page.first().map_or(0, |image| image.page);
    let prefix = format!("page-{number}");
    let mut arguments = vec!["-png".into(), "-p".into()];
    arguments.extend(range_arguments(number, number));
    arguments.extend([absolute(path)?, absolute(&out_dir.join(&prefix))?]);
    let run = sandbox
        .run(Tool::PdfImages, &arguments, &Limits::EXTRACT_IMAGES)
        .await;
    let complaint = match run.and_then(|finished| complaint::check(&finished)) {
        Ok(()) => "poppler could not decode it".to_owned(),
        Err(error @ ToolError::Document { .. }) => error.to_string(),
        Err(error) => return Err(error),
    };
    let mut outcomes = Vec::new();
    for image in page {
        let file = out_dir.join(format!("{prefix}-{number:03}-{:03}.png", image.index));
        if wanted.contains(&image) {
            let taken = take_file(image, file).await?;
            outcomes
                .push(taken.map_err(|reason| lost(image, &reason.unwrap_or(complaint.clone()))));
        } else {
            remove(&file).await;
        }
    }
    Ok(outcomes)
}

/// The image if poppler wrote it whole; else the reason, or `None` if the file is missing or cut off.
async fn take_file(
    image: &ListedImage,
    file: PathBuf,
) -> Result<Result<ExtractedImage, Option<String>>, ToolError> {
    let header = match png::read_header(&file).await {
        Ok(header) => header,
        Err(short @ ToolError::Shortage { .. }) => return Err(short),
        Err(_) => {
            remove(&file).await;
            return Ok(Err(None));
        }
    };
    if header.pixels() > PIXELS_PER_PAGE_MAX {
        remove(&file).await;
        return Ok(Err(Some("it is larger than the document says".to_owned())));
    }
    let (reduced, header) = match reduced(&file, header).await {
        Ok(reduced) => reduced,
        Err(error @ ToolError::Document { .. }) => return Ok(Err(Some(error.to_string()))),
        Err(error) => return Err(error),
    };
    Ok(Ok(ExtractedImage {
        page: image.page,
        index: image.index,
        role: image.role(),
        file,
        bytes: header.bytes,
        width: header.width,
        height: header.height,
        colour: image.colour.clone(),
        encoding: image.encoding.clone(),
        dpi: image.dpi() / reduced,
        reduced,
    }))
}

/// A picture that is too large for the work to come is scaled down; how much, and what it is then.
async fn reduced(file: &Path, header: PngHeader) -> Result<(u32, PngHeader), ToolError> {
    if header.pixels() <= png::PIXELS_MAX {
        return Ok((1, header));
    }
    let path = file.to_owned();
    let reduced = tokio::task::spawn_blocking(move || png::reduce(&path, &header)).await;
    let reduced = reduced
        .map_err(|_| ToolError::transient("the worker stopped while it scaled a picture down"))??;
    Ok((reduced, png::check(file).await?))
}

/// A file that is not wanted; if it cannot be removed it goes with the caller's folder.
async fn remove(file: &Path) {
    let _ = tokio::fs::remove_file(file).await;
}

fn range_arguments(first: u32, last: u32) -> [OsString; 4] {
    [
        "-f".into(),
        first.to_string().into(),
        "-l".into(),
        last.to_string().into(),
    ]
}

fn unmissed(image: &ListedImage, reason: &str) -> Skipped {
    Skipped {
        page: image.page,
        index: image.index,
        reason: reason.to_owned(),
        is_loss: false,
    }
}

fn lost(image: &ListedImage, reason: &str) -> Skipped {
    Skipped {
        page: image.page,
        index: image.index,
        reason: clean(reason),
        is_loss: true,
    }
}

#[cfg(test)]
mod tests;
