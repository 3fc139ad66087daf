//! Pages that are drawn and read as one picture: scans, pages whose text is lines and areas, and pages whose text may be
//! rubbish. What OCR makes of them is judged when the document is cut into chunks.

use std::path::PathBuf;

use uuid::Uuid;

use super::{Source, Taken};
use crate::{
    documents::{
        payload::PAGE_POSITION,
        store::ImageRow,
        tools::{
            Note, ToolError, note,
            pdf::{self, Drawing, ListedImage},
            png::{self, PngHeader},
        },
    },
    outcome::Failure,
};

/// Pages of a document that are drawn though they are no scans: each is half a second here and seconds of OCR. A book set in
/// outlines has some hundreds.
const DRAWN_MAX: usize = 1_000;

/// Why a page is drawn, and how.
struct Plan {
    drawing: Drawing,
    /// Its text is in its pictures, so they need not be read by themselves.
    is_scan: bool,
}

impl Taken {
    /// Draws the page if OCR has to look at it. True if it is a scan, whose pictures are read with it.
    pub(super) async fn add_drawing(&mut self, source: &Source, page: u32, images: &[ListedImage]) -> Result<bool, Failure> {
        let (drawn, plan) = match self.draw(source, page, images).await {
            Ok(Some(drawn)) => drawn,
            Ok(None) => return Ok(false),
            Err(error @ ToolError::Document { .. }) => {
                let message = format!("OCR has not seen it as a whole, because it cannot be drawn: {error}");
                self.notes.add(Note::page(page, note::code::PAGE_NOT_DRAWN, &message));
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        let dpi = plan.drawing.dpi;
        if (1..pdf::DPI_SURE_MIN).contains(&dpi) {
            let message = format!("its text is read with low confidence: the page was scanned at {dpi} dpi, and small print needs 150");
            self.notes.add(Note::page(page, note::code::OCR_LOW_RESOLUTION, &message));
        }
        let row = row(source.document_id, page, &png::check(&drawn).await?);
        self.store(source, row, &drawn).await?;
        Ok(plan.is_scan)
    }

    /// The page as a picture for OCR; `None`: it has its text, or shows nothing.
    async fn draw(&mut self, source: &Source, page: u32, images: &[ListedImage]) -> Result<Option<(PathBuf, Plan)>, ToolError> {
        let Some(plan) = self.plan(source, page, images).await? else { return Ok(None) };
        if !plan.is_scan && self.drawn == DRAWN_MAX {
            let message = format!("OCR has not seen it: it is beyond the first {DRAWN_MAX} pages that are drawn though they are no scans");
            self.notes.add(Note::page(page, note::code::PAGE_NOT_DRAWN, &message));
            return Ok(None);
        }
        let drawn = pdf::render_page(&source.sandbox, &source.file, page, plan.drawing.long_px, &source.images_dir).await?;
        if !plan.is_scan && pdf::is_blank(&drawn).await? {
            drop(tokio::fs::remove_file(&drawn).await);
            return Ok(None);
        }
        self.drawn += usize::from(!plan.is_scan);
        Ok(Some((drawn, plan)))
    }

    async fn plan(&self, source: &Source, page: u32, images: &[ListedImage]) -> Result<Option<Plan>, ToolError> {
        let text = self.pages.iter().rev().find(|taken| taken.page == page).map_or("", |taken| taken.text.as_str());
        let is_wanted = self.doubtful.contains(&page) || pdf::may_be_drawn(text, images);
        if !is_wanted && !pdf::may_be_scan(text, images) {
            return Ok(None);
        }
        let sizes = pdf::page_sizes(&source.sandbox, &source.file, page, page).await?;
        let Some(size) = sizes.get(&page).copied() else { return Ok(None) };
        let scan = pdf::drawing(text, images, size).map(|drawing| Plan { drawing, is_scan: true });
        Ok(scan.or_else(|| is_wanted.then(|| Plan { drawing: pdf::whole_page(size), is_scan: false })))
    }
}

fn row(document_id: Uuid, page: u32, header: &PngHeader) -> ImageRow {
    ImageRow {
        page: page as i32,
        position: PAGE_POSITION,
        role: "page",
        object_key: format!("documents/{document_id}/images/{page}.png"),
        width: header.width as i32,
        height: header.height as i32,
        dpi: pdf::OCR_DPI,
        is_read_with_page: false,
    }
}
