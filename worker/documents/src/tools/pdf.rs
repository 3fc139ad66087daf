//! What poppler can tell about a PDF: its facts, its text in reading order, its images (P2, P4).
//!
//! Each function starts programs in the [`super::Sandbox`] and can be called for a range of pages, so that the caller
//! reports progress page by page and repeats only what was lost. Call [`inspect`] first: it gives the clear reasons
//! why a file cannot be read at all.

mod complaint;
mod info;

mod text;

mod fonts;
mod legible;

mod boxes;
mod turn;

mod arabic;
mod bidi;
mod line;

mod layout;

mod images;
mod list;

mod render;
mod scan;

#[cfg(test)]
pub(crate) mod samples;

pub use images::{
    EDGE_PX_MIN, ExtractedImage, IMAGES_PER_DOCUMENT_MAX, IMAGES_PER_PAGE_MAX, Images,
    PIXELS_PER_PAGE_MAX, Skipped, extract_images, list_images,
};
pub use info::{FILE_BYTES_MAX, PAGES_MAX, PdfInfo, inspect};
pub use list::{ListedImage, Role};
pub use render::{PageSize, is_blank, page_sizes, render_page};
pub use scan::{DPI_SURE_MIN, Drawing, OCR_DPI, drawing, may_be_drawn, may_be_scan, whole_page};
pub use text::{PAGES_PER_SLICE, PageRead, page_texts};
