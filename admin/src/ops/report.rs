//! The report of a document (N6): what every page and picture has yielded, what was left out, and why.
//!
//! Bounded: one answer has at most [`PAGE_ROWS_MAX`] pages, pictures and notes each, and says at which page the next one begins.

use millstream_common::pg::Pg;
use millstream_documents::{OCR_CONFIDENCE_MIN, tools::note::code::PICTURE_LEFT_OUT};
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use super::{Outage, PAGE_ROWS_MAX, row, rows};

/// What a document has yielded, from one page on.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Counts of the whole document.
    pub summary: Counts,
    /// In their order.
    pub pages: Vec<PageYield>,
    /// In the order of their places; those that could not be taken out of the file are among the notes only.
    pub pictures: Vec<PictureYield>,
    /// First those on the document as a whole, then by page.
    pub notes: Vec<NoteRow>,
    /// There is more: ask for the report from this page on.
    pub next_page: Option<i32>,
}

/// The document in numbers.
#[derive(Debug, Clone, Default, Serialize, FromRow)]
pub struct Counts {
    /// Pages read so far.
    pub pages: i64,
    /// Pages with text of their own.
    pub by_text: i64,
    /// Pages whose text was read in their pictures.
    pub by_ocr: i64,
    /// Pages that have yielded no text.
    pub without_text: i64,
    /// Pictures taken out of the file.
    pub pictures: i64,
    /// Pictures that are missing, or whose text is: not taken out, failed, or too much for OCR.
    pub pictures_left_out: i64,
    /// Remarks of any kind.
    pub notes: i64,
}

/// One page.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct PageYield {
    /// From 1.
    pub page: i32,
    /// Where its text comes from: `text`, `ocr` or `none`.
    pub source: String,
    /// Letters of its text: of its own, or, if `source` is `ocr`, of what was read in its pictures.
    pub chars: i32,
    /// Pictures taken out of it.
    pub pictures: i64,
    /// Those in which OCR has found text.
    pub pictures_with_text: i64,
    /// Remarks on the page, its pictures and chunks.
    pub notes: i64,
}

/// One picture.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct PictureYield {
    /// From 1.
    pub page: i32,
    /// On its page, from 0.
    pub position: i32,
    /// `text`, `with_page` (its page was read as one picture), `none`, `left_out` (OCR gave up on it, or on its page), `failed` (it, or its page), or `pending`
    /// while it, or its page, has not been looked at.
    #[sqlx(rename = "yields")]
    #[serde(rename = "yield")]
    pub yields: String,
    /// Letters that OCR has found.
    pub chars: i32,
    /// How sure OCR is of them, from 0 to 100.
    pub confidence: Option<f32>,
}

/// One remark.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct NoteRow {
    /// None: the document as a whole.
    pub page: Option<i32>,
    /// Of the picture, if it is about one.
    pub position: Option<i32>,
    /// The chunk, if it is about one.
    pub chunk: Option<i32>,
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// The report of a document from page `from` on; empty if nothing has been read yet.
pub async fn report(pg: &Pg, document_id: Uuid, from: i32) -> Result<Report, Outage> {
    let summary = row(
        pg,
        "counting what a document has yielded",
        sqlx::query_as(COUNTS)
            .bind(document_id)
            .bind(&PICTURE_LEFT_OUT[..]),
    )
    .await?;
    let limit = i64::from(PAGE_ROWS_MAX) + 1;
    let mut report = Report {
        summary: summary.unwrap_or_default(),
        pages: rows(
            pg,
            "reading pages",
            sqlx::query_as(PAGES)
                .bind(document_id)
                .bind(from)
                .bind(limit)
                .bind(OCR_CONFIDENCE_MIN),
        )
        .await?,
        pictures: rows(
            pg,
            "reading pictures",
            sqlx::query_as(PICTURES)
                .bind(document_id)
                .bind(from)
                .bind(limit),
        )
        .await?,
        notes: rows(
            pg,
            "reading notes",
            sqlx::query_as(NOTES)
                .bind(document_id)
                .bind(from)
                .bind(limit),
        )
        .await?,
        next_page: None,
    };
    report.cut(from);
    Ok(report)
}

impl Report {
    /// Keeps the pages that are there as a whole, and says where the next report begins. A page that is too much for one answer is
    /// cut: the counts beside it say so.
    fn cut(&mut self, from: i32) {
        let max = PAGE_ROWS_MAX as usize;
        let ends = [
            self.pages.get(max).map(|page| page.page),
            self.pictures.get(max).map(|picture| picture.page),
            self.notes.get(max).map(|note| note.page.unwrap_or(from)),
        ];
        self.next_page = ends
            .into_iter()
            .flatten()
            .min()
            .map(|page| page.max(from + 1));
        let end = self.next_page.unwrap_or(i32::MAX);
        self.pages.retain(|page| page.page < end);
        self.pictures.retain(|picture| picture.page < end);
        self.notes
            .retain(|note| note.page.is_none_or(|page| page < end));
        self.pages.truncate(max);
        self.pictures.truncate(max);
        self.notes.truncate(max);
    }
}

const COUNTS: &str = "
  SELECT p.pages, p.by_text, p.by_ocr, p.without_text, i.pictures, n.left_out AS pictures_left_out, n.notes
  FROM (SELECT count(*) AS pages, count(*) FILTER (WHERE source = 'text') AS by_text, count(*) FILTER (WHERE source = 'ocr') AS by_ocr,
          count(*) FILTER (WHERE source = 'none') AS without_text
        FROM millstream.page WHERE document_id = $1) p,
       (SELECT count(*) AS pictures FROM millstream.image WHERE document_id = $1 AND role <> 'page') i,
       (SELECT count(*) AS notes, count(DISTINCT (page, position)) FILTER (WHERE code = ANY($2)) AS left_out
        FROM millstream.document_note WHERE document_id = $1) n";

const PAGES: &str = "
  SELECT p.page, p.source, CASE p.source WHEN 'ocr' THEN ocr.chars ELSE length(p.text) END AS chars, i.pictures, i.with_text AS pictures_with_text, n.notes
  FROM (SELECT page, source, text FROM millstream.page WHERE document_id = $1 AND page >= $2 ORDER BY page LIMIT $3) p
  CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE role <> 'page') AS pictures,
                        count(*) FILTER (WHERE ocr_text <> '' AND role <> 'page') AS with_text
                      FROM millstream.image WHERE document_id = $1 AND page = p.page) i
  CROSS JOIN LATERAL (SELECT COALESCE(sum(length(text)), 0)::int AS chars
                      FROM (SELECT DISTINCT ocr_text AS text FROM millstream.image
                            WHERE document_id = $1 AND page = p.page AND ocr_confidence >= $4) once) ocr
  CROSS JOIN LATERAL (SELECT count(*) AS notes FROM millstream.document_note WHERE document_id = $1 AND COALESCE(page, 0) = p.page) n
  ORDER BY p.page";

/// A picture that is read with its page has a text that is empty from the start: what it has yielded is what became of the page.
const PICTURES: &str = "
  SELECT i.page, i.position, COALESCE(length(i.ocr_text), 0) AS chars, i.ocr_confidence AS confidence,
    CASE WHEN i.ocr_text <> '' THEN 'text'
         WHEN i.ocr_text = '' AND p.position IS NULL THEN 'none'
         WHEN i.ocr_text = '' AND p.ocr_text IS NOT NULL THEN 'with_page'
         WHEN decides.processed_at IS NOT NULL THEN 'left_out'
         WHEN EXISTS (SELECT 1 FROM millstream.document_note n WHERE n.document_id = i.document_id AND COALESCE(n.page, 0) = i.page
                      AND COALESCE(n.position, -1) = decides.position AND n.code = 'image_failed') THEN 'failed'
         ELSE 'pending' END AS yields
  FROM millstream.image i
  LEFT JOIN millstream.image p ON p.document_id = i.document_id AND p.page = i.page AND p.role = 'page'
  CROSS JOIN LATERAL (SELECT CASE WHEN i.ocr_text = '' THEN p.processed_at ELSE i.processed_at END AS processed_at,
                        CASE WHEN i.ocr_text = '' THEN p.position ELSE i.position END AS position) decides
  WHERE i.document_id = $1 AND i.page >= $2 AND i.role <> 'page' ORDER BY i.page, i.position LIMIT $3";

/// Those on the whole document belong to the first page of the report.
const NOTES: &str = "
  SELECT page, position, chunk, code, message FROM millstream.document_note
  WHERE document_id = $1 AND (COALESCE(page, 0) >= $2 OR $2 <= 1)
  ORDER BY COALESCE(page, 0), COALESCE(position, -1), COALESCE(chunk, -1), code LIMIT $3";

#[cfg(test)]
mod tests {
    use super::*;

    fn page(page: i32) -> PageYield {
        PageYield {
            page,
            source: "text".to_owned(),
            chars: 1,
            pictures: 0,
            pictures_with_text: 0,
            notes: 0,
        }
    }

    fn note(page: Option<i32>) -> NoteRow {
        NoteRow {
            page,
            position: None,
            chunk: None,
            code: "c".to_owned(),
            message: "m".to_owned(),
        }
    }

    // N6
    #[test]
    fn a_long_report_is_cut_at_a_page_and_says_where_it_goes_on() {
        let max = PAGE_ROWS_MAX as i32;
        let mut short = Report {
            pages: (1..=max).map(page).collect(),
            notes: vec![note(None)],
            ..Report::default()
        };
        short.cut(1);
        assert_eq!(
            (short.pages.len(), short.notes.len(), short.next_page),
            (500, 1, None)
        );
        let mut long = Report {
            pages: (1..=max + 1).map(page).collect(),
            ..Report::default()
        };
        long.cut(1);
        assert_eq!((long.pages.len(), long.next_page), (500, Some(501)));
        let notes = (0..=max).map(|nth| note(Some(1 + nth / 200))).collect();
        let mut noted = Report {
            pages: (1..=9).map(page).collect(),
            notes,
            ..Report::default()
        };
        noted.cut(1);
        assert_eq!(
            (noted.pages.len(), noted.notes.len(), noted.next_page),
            (2, 400, Some(3))
        );
    }

    // N6
    #[test]
    fn one_page_that_is_too_much_does_not_stop_the_reader() {
        let mut report = Report {
            pages: vec![page(7), page(8)],
            notes: vec![note(Some(7)); 501],
            ..Report::default()
        };
        report.cut(7);
        assert_eq!(
            (report.pages.len(), report.notes.len(), report.next_page),
            (1, 500, Some(8))
        );
    }
}
