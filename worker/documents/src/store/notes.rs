//! The report of a document (N6): remarks at their places, and where the text of each page comes from.

use sqlx::PgConnection;
use uuid::Uuid;

use super::super::tools::Note;
use super::slices;

/// Roughly what a note costs beside its message.
const NOTE_BYTES: usize = 64;

/// Writes notes; a note of the same code at the same place is replaced.
pub(in super::super) async fn notes(
    conn: &mut PgConnection,
    document_id: Uuid,
    notes: &[Note],
) -> Result<(), sqlx::Error> {
    for slice in slices(notes, |note| note.message.len() + NOTE_BYTES) {
        let number = |f: fn(&Note) -> Option<u32>| {
            slice
                .iter()
                .map(|note| f(note).map(u32::cast_signed))
                .collect::<Vec<_>>()
        };
        sqlx::query(
            // One statement may not write a row twice, so of two equal notes the last one counts.
            "INSERT INTO millstream.document_note (document_id, page, position, code, message)
             SELECT DISTINCT ON (n.page, n.position, n.code) $1, n.page, n.position, n.code, n.message
             FROM unnest($2::int[], $3::int[], $4::text[], $5::text[]) WITH ORDINALITY AS n(page, position, code, message, nth)
             ORDER BY n.page, n.position, n.code, n.nth DESC
             ON CONFLICT (document_id, COALESCE(page, 0), COALESCE(position, -1), COALESCE(chunk, -1), code)
             DO UPDATE SET message = EXCLUDED.message, at = now()",
        )
        .bind(document_id)
        .bind(number(|note| note.page))
        .bind(number(|note| note.position))
        .bind(slice.iter().map(|note| note.code).collect::<Vec<_>>())
        .bind(slice.iter().map(|note| note.message.as_str()).collect::<Vec<_>>())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// These pages had no text of their own, and OCR has read some.
pub(in super::super) async fn read_by_ocr(
    conn: &mut PgConnection,
    document_id: Uuid,
    pages: &[u32],
) -> Result<(), sqlx::Error> {
    let update = sqlx::query(
        "UPDATE millstream.page SET source = 'ocr' WHERE document_id = $1 AND page = ANY($2)",
    );
    update
        .bind(document_id)
        .bind(
            pages
                .iter()
                .map(|page| page.cast_signed())
                .collect::<Vec<_>>(),
        )
        .execute(conn)
        .await
        .map(drop)
}

/// A page whose text was in doubt, and what became of it.
#[derive(Debug)]
pub(in super::super) struct Judged {
    pub(in super::super) page: u32,
    /// Its own text, or that of OCR.
    pub(in super::super) text: String,
    pub(in super::super) is_by_ocr: bool,
}

/// The text of these pages may be rubbish: until OCR has looked at them, they yield none.
pub(in super::super) async fn doubt(
    conn: &mut PgConnection,
    document_id: Uuid,
    pages: &[u32],
) -> Result<(), sqlx::Error> {
    let update = sqlx::query(
        "UPDATE millstream.page SET source = 'none' WHERE document_id = $1 AND page = ANY($2)",
    );
    update
        .bind(document_id)
        .bind(
            pages
                .iter()
                .map(|page| page.cast_signed())
                .collect::<Vec<_>>(),
        )
        .execute(conn)
        .await
        .map(drop)
}

/// Ends the doubt: a second run finds no page in doubt and the text that the first one chose.
pub(in super::super) async fn judged(
    conn: &mut PgConnection,
    document_id: Uuid,
    judged: &[Judged],
) -> Result<(), sqlx::Error> {
    for slice in slices(judged, |page| page.text.len() + NOTE_BYTES) {
        let source = |page: &Judged| if page.is_by_ocr { "ocr" } else { "text" };
        sqlx::query(
            "UPDATE millstream.page p SET text = j.text, source = j.source
             FROM unnest($2::int[], $3::text[], $4::text[]) AS j(page, text, source) WHERE p.document_id = $1 AND p.page = j.page",
        )
        .bind(document_id)
        .bind(slice.iter().map(|page| page.page.cast_signed()).collect::<Vec<_>>())
        .bind(slice.iter().map(|page| page.text.as_str()).collect::<Vec<_>>())
        .bind(slice.iter().map(source).collect::<Vec<_>>())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}
