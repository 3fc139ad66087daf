//! What the jobs of the pipeline carry: names of rows, never their content.
//!
//! Invariant: a payload stays under 200 bytes, since one document has hundreds of thousands of them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Pages and images out of the file. Carries [`OfDocument`].
pub(super) const EXTRACT: &str = "document.extract";
/// OCR and fingerprint of one image. Carries [`OfImage`].
pub(super) const IMAGE: &str = "document.image";
/// Text into chunks. Carries [`OfDocument`].
pub(super) const CHUNK: &str = "document.chunk";
/// One analysis of one chunk. Carries [`OfAnalysis`].
pub(super) const ANALYSE: &str = "document.analyse";
/// The vector of one chunk. Carries [`OfChunk`].
pub(super) const EMBED: &str = "document.embed";
/// Product lines into products. Carries [`OfDocument`].
pub(super) const PRODUCTS: &str = "document.products";

/// Images of one page are told apart by this factor in `millstream.embedding.ordinal`: page × 10,000 + position. A page
/// has at most 1,000 images and a document 5,000 pages, so the numbers are unique and fit.
const ORDINALS_PER_PAGE: i32 = 10_000;

/// The place of a page that is read as one picture: behind all that it draws.
pub(super) const PAGE_POSITION: i32 = ORDINALS_PER_PAGE - 1;

/// A job for a whole document.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct OfDocument {
    pub(super) document_id: Uuid,
}

/// A job for one image, by its place in the document.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct OfImage {
    pub(super) document_id: Uuid,
    pub(super) page: i32,
    /// [`PAGE_POSITION`]: the whole page as one picture.
    pub(super) position: i32,
    /// Pixels per inch by its size on the page; 0: not known.
    #[serde(default)]
    pub(super) dpi: u32,
    /// The page is read as one picture, so nothing in this one is read by itself.
    #[serde(default)]
    pub(super) is_read_with_page: bool,
}

impl OfImage {
    /// Whether it is the whole page as one picture.
    pub(super) fn is_page(&self) -> bool {
        self.position == PAGE_POSITION
    }

    /// Its place in the document as one number.
    pub(super) fn ordinal(&self) -> i32 {
        self.page * ORDINALS_PER_PAGE + self.position
    }
}

/// A job for one chunk.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct OfChunk {
    pub(super) document_id: Uuid,
    pub(super) ordinal: i32,
}

/// A job for one analysis of one chunk.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct OfAnalysis {
    pub(super) document_id: Uuid,
    pub(super) ordinal: i32,
    pub(super) analysis: Analysis,
}

/// What is asked about a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Analysis {
    /// What kind of text it is.
    Classification,
    /// What it says about its document.
    Metadata,
    /// What it offers.
    Products,
}

impl Analysis {
    /// All of them: each chunk gets one job for each.
    pub(super) const ALL: [Self; 3] = [Self::Classification, Self::Metadata, Self::Products];

    /// The name in rows and payloads.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Classification => "classification",
            Self::Metadata => "metadata",
            Self::Products => "products",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::super::tools::pdf;
    use super::*;

    // P2
    #[test]
    fn the_largest_document_has_a_number_for_each_of_its_images() {
        let (page, position) = (pdf::PAGES_MAX as i32, pdf::IMAGES_PER_PAGE_MAX as i32);
        let last = OfImage {
            document_id: Uuid::nil(),
            page,
            position,
            dpi: 300,
            is_read_with_page: true,
        };
        let whole = OfImage {
            position: PAGE_POSITION,
            ..last
        };
        let next = OfImage {
            page: 2,
            position: 0,
            ..last
        };
        assert!(last.ordinal() > 0 && whole.ordinal() > last.ordinal());
        assert!(next.ordinal() > OfImage { page: 1, ..whole }.ordinal());
        assert!(serde_json::to_string(&whole).unwrap().len() < 200);
    }

    // P2
    #[test]
    fn payloads_are_small_and_name_the_analysis() {
        for analysis in Analysis::ALL {
            let text = serde_json::to_string(&OfAnalysis {
                document_id: Uuid::nil(),
                ordinal: i32::MAX,
                analysis,
            })
            .unwrap();
            assert!(
                text.len() < 200 && text.contains(&format!("\"analysis\":\"{}\"", analysis.name())),
                "{text}"
            );
        }
    }
}
