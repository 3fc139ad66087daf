//! The report of a document (N6): remarks at their places, and where the text of each page comes from.

use sqlx::PgConnection;
use uuid::Uuid;

use super::super::tools::Note;
use super::slices;

/// Roughly what a note costs beside its message.
const NOTE_BYTES: usize = 64;

/// Writes notes; a note of the same code at the same place is replaced.
pub(in super::super) async fn notes(conn: &mut PgConnection, document_id: Uuid, notes: &[Note]) -> Result<(), sqlx::Error> {
    for slice in slices(notes, |note| note.message.len() + NOTE_BYTES) {
        let number = |f: fn(&Note) -> Option<u32>| slice.iter().map(|note| f(note).map(u32::cast_signed)).collect::<Vec<_>>();
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
pub(in super::super) async fn read_by_ocr(conn: &mut PgConnection, document_id: Uuid, pages: &[u32]) -> Result<(), sqlx::Error> {
    let update = sqlx::query("UPDATE millstream.page SET source = 'ocr' WHERE document_id = $1 AND page = ANY($2)");
    update.bind(document_id).bind(pages.iter().map(|page| page.cast_signed()).collect::<Vec<_>>()).execute(conn).await.map(drop)
}
