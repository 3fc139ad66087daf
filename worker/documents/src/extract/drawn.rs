//! Pages that are drawn and read as one picture: scans, pages whose text is lines and areas, and pages whose text may be
//! rubbish. What OCR makes of them is judged when the document is cut into chunks.
//!
//! Invariant: whatever a file holds, drawing ends within the [`Allowance`]. What is beyond it is remarked on.

use std::{path::PathBuf, time::Duration};

use tokio::time::Instant;

use millstream_worker::Failure;
use uuid::Uuid;

use super::{Source, Taken};
use crate::{
    payload::PAGE_POSITION,
    store::ImageRow,
    tools::{
        Note, ToolError, note,
        pdf::{self, Drawing, ListedImage},
        png::{self, PngHeader},
    },
};

/// Pages of a document that are drawn though they are no scans, counted whether or not anything comes of it: each is half a second
/// here and seconds of OCR. A book set in outlines has some hundreds.
const DRAWN_MAX: usize = 1_000;
/// All drawing of a document, its scans included: 1,200 pages on a machine under load. Less than half of the job's time, so that a file
/// that is slow to draw still gives its text and pictures.
const DRAWING_TIME_MAX: Duration = Duration::from_mins(20);

/// What may still be spent on drawing the pages of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance {
    /// Pages that are no scans.
    pages: usize,
    time: Duration,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            pages: DRAWN_MAX,
            time: DRAWING_TIME_MAX,
        }
    }
}

/// Why a page is drawn, and how.
struct Plan {
    drawing: Drawing,
    /// Its text is in its pictures, so they need not be read by themselves.
    is_scan: bool,
}

impl Taken {
    /// Draws the page if OCR has to look at it. True if it is a scan, whose pictures are read with it.
    pub(super) async fn add_drawing(
        &mut self,
        source: &Source,
        page: u32,
        images: &[ListedImage],
    ) -> Result<bool, Failure> {
        let began = Instant::now();
        let drawn = self.draw(source, page, images).await;
        self.allowance.time = self.allowance.time.saturating_sub(began.elapsed());
        let (drawn, plan) = match drawn {
            Ok(Some(drawn)) => drawn,
            Ok(None) => return Ok(false),
            Err(error @ ToolError::Document { .. }) => {
                let message =
                    format!("OCR has not seen it as a whole, because it cannot be drawn: {error}");
                self.notes
                    .add(Note::page(page, note::code::PAGE_NOT_DRAWN, &message));
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        let dpi = plan.drawing.dpi;
        if (1..pdf::DPI_SURE_MIN).contains(&dpi) {
            let message = format!(
                "its text is read with low confidence: the page was scanned at {dpi} dpi, and small print needs 150"
            );
            self.notes
                .add(Note::page(page, note::code::OCR_LOW_RESOLUTION, &message));
        }
        let row = row(source.document_id, page, &png::check(&drawn).await?);
        self.store(source, row, &drawn).await?;
        Ok(plan.is_scan)
    }

    /// The page as a picture for OCR; `None`: it has its text, shows nothing, or is beyond the allowance.
    async fn draw(
        &mut self,
        source: &Source,
        page: u32,
        images: &[ListedImage],
    ) -> Result<Option<(PathBuf, Plan)>, ToolError> {
        let text = self
            .pages
            .iter()
            .rev()
            .find(|taken| taken.page == page)
            .map_or("", |taken| taken.text.as_str());
        let is_wanted = self.doubtful.contains(&page) || pdf::may_be_drawn(text, images);
        if !is_wanted && !pdf::may_be_scan(text, images) {
            return Ok(None);
        }
        if self.allowance.time.is_zero() {
            let minutes = DRAWING_TIME_MAX.as_secs() / 60;
            self.not_drawn(
                page,
                &format!("drawing the pages before it has taken {minutes} minutes"),
            );
            return Ok(None);
        }
        let sizes = pdf::page_sizes(&source.sandbox, &source.file, page, page).await?;
        let Some(plan) = sizes
            .get(&page)
            .and_then(|size| plan(text, images, *size, is_wanted))
        else {
            return Ok(None);
        };
        if !plan.is_scan {
            if self.allowance.pages == 0 {
                self.not_drawn(page, &format!("it is beyond the first {DRAWN_MAX} pages that are drawn though they are no scans"));
                return Ok(None);
            }
            self.allowance.pages -= 1;
        }
        let drawn = pdf::render_page(
            &source.sandbox,
            &source.file,
            page,
            plan.drawing.long_px,
            &source.images_dir,
        )
        .await?;
        if !plan.is_scan && pdf::is_blank(&drawn).await? {
            drop(tokio::fs::remove_file(&drawn).await);
            return Ok(None);
        }
        Ok(Some((drawn, plan)))
    }

    fn not_drawn(&mut self, page: u32, reason: &str) {
        self.notes.add(Note::page(
            page,
            note::code::PAGE_NOT_DRAWN,
            &format!("OCR has not seen it as a whole: {reason}"),
        ));
    }
}

fn plan(text: &str, images: &[ListedImage], size: pdf::PageSize, is_wanted: bool) -> Option<Plan> {
    let scan = pdf::drawing(text, images, size).map(|drawing| Plan {
        drawing,
        is_scan: true,
    });
    scan.or_else(|| {
        is_wanted.then(|| Plan {
            drawing: pdf::whole_page(size),
            is_scan: false,
        })
    })
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::tools::{PageText, pdf::samples};
    use millstream_outbound::objects::Objects;

    /// Draws the pages of a document of blank pages, one after another; what is left and the pages that were not drawn.
    async fn spent(pages: u32, allowance: Allowance) -> (Allowance, Vec<u32>) {
        let scratch = samples::Scratch::new();
        let images_dir = scratch.path().join("images");
        std::fs::create_dir(&images_dir).unwrap();
        let source = Source {
            document_id: Uuid::nil(),
            sandbox: scratch.sandbox.clone(),
            file: scratch.file("file.pdf", &samples::empty_pages(pages)),
            objects: Objects::open(&format!("file://{}/objects", scratch.path().display()))
                .unwrap(),
            images_dir,
        };
        let mut taken = Taken {
            allowance,
            ..Taken::default()
        };
        for page in 1..=pages {
            taken.pages.push(PageText {
                page,
                text: String::new(),
            });
            assert_eq!(taken.add_drawing(&source, page, &[]).await, Ok(false));
        }
        let notes = std::mem::take(&mut taken.notes).finish();
        assert!(
            notes
                .iter()
                .all(|note| note.code == note::code::PAGE_NOT_DRAWN)
        );
        (
            taken.allowance,
            notes.iter().filter_map(|note| note.page).collect(),
        )
    }

    // X47
    #[tokio::test]
    async fn a_page_of_which_nothing_comes_is_counted_and_its_time_too() {
        let (left, not_drawn) = spent(
            3,
            Allowance {
                pages: 2,
                ..Allowance::default()
            },
        )
        .await;
        assert_eq!((left.pages, not_drawn), (0, vec![3]));
        assert!(left.time < DRAWING_TIME_MAX);
    }

    // X47
    #[tokio::test]
    async fn pages_beyond_the_time_are_not_drawn_and_said() {
        let nothing = Allowance {
            time: Duration::ZERO,
            ..Allowance::default()
        };
        assert_eq!(spent(2, nothing).await, (nothing, vec![1, 2]));
        let a_moment = Allowance {
            time: Duration::from_nanos(1),
            ..Allowance::default()
        };
        let (left, not_drawn) = spent(2, a_moment).await;
        assert_eq!((left.time, not_drawn), (Duration::ZERO, vec![2]));
    }
}
