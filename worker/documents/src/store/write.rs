//! What effects write. Parallel arrays, one statement per slice.

use sqlx::PgConnection;
use uuid::Uuid;

use super::super::{
    payload::{OfAnalysis, OfImage},
    tools::{Chunk, PageText, fingerprint::Fingerprint, ocr::OcrText},
};
use super::slices;

/// Roughly what a row costs beside its text.
const ROW_BYTES: usize = 64;

/// An image that was taken out of the file and stored.
pub(in super::super) struct ImageRow {
    pub(in super::super) page: i32,
    pub(in super::super) position: i32,
    pub(in super::super) role: &'static str,
    pub(in super::super) object_key: String,
    pub(in super::super) width: i32,
    pub(in super::super) height: i32,
    /// For its job: pixels per inch, 0 if not known.
    pub(in super::super) dpi: u32,
    /// For its job: the page is read as one picture.
    pub(in super::super) is_read_with_page: bool,
}

/// What was found out about an image.
pub(in super::super) struct ImageFacts {
    /// `None`: it is no picture of the file, but a whole page.
    pub(in super::super) fingerprint: Option<Fingerprint>,
    /// `None`: OCR gave up on it.
    pub(in super::super) ocr: Option<OcrText>,
}

/// A vector of a chunk or an image.
pub(in super::super) struct Vector {
    /// `chunk` or `image`.
    pub(in super::super) source: &'static str,
    pub(in super::super) ordinal: i32,
    pub(in super::super) model: String,
    /// Of what was embedded.
    pub(in super::super) content_hash: String,
    pub(in super::super) numbers: Vec<f32>,
}

/// A product of the document.
pub(in super::super) struct ProductRow {
    pub(in super::super) name: String,
    pub(in super::super) sku: Option<String>,
    /// Decimal digits with a point, within `numeric(14, 2)`.
    pub(in super::super) price: Option<String>,
    pub(in super::super) currency: Option<String>,
    /// JSON.
    pub(in super::super) detail: String,
}

pub(in super::super) async fn document_facts(
    conn: &mut PgConnection,
    id: Uuid,
    pages: i32,
    title: Option<&str>,
) -> Result<(), sqlx::Error> {
    let update = sqlx::query("UPDATE millstream.document SET pages = $2, title = $3 WHERE id = $1");
    update
        .bind(id)
        .bind(pages)
        .bind(title)
        .execute(conn)
        .await
        .map(drop)
}

/// A page without text of its own yields none, until OCR reads one of its pictures ([`super::read_by_ocr`]).
pub(in super::super) async fn pages(
    conn: &mut PgConnection,
    document_id: Uuid,
    pages: &[PageText],
) -> Result<(), sqlx::Error> {
    for slice in slices(pages, |page| page.text.len() + ROW_BYTES) {
        sqlx::query(
            "INSERT INTO millstream.page (document_id, page, text, source)
             SELECT $1, p.page, p.text, CASE WHEN p.text = '' THEN 'none' ELSE 'text' END FROM unnest($2::int[], $3::text[]) AS p(page, text)
             ON CONFLICT (document_id, page) DO UPDATE SET text = EXCLUDED.text, source = EXCLUDED.source",
        )
        .bind(document_id)
        .bind(slice.iter().map(|page| page.page as i32).collect::<Vec<_>>())
        .bind(slice.iter().map(|page| page.text.as_str()).collect::<Vec<_>>())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

pub(in super::super) async fn images(
    conn: &mut PgConnection,
    document_id: Uuid,
    images: &[ImageRow],
) -> Result<(), sqlx::Error> {
    for slice in slices(images, |image| image.object_key.len() + ROW_BYTES) {
        sqlx::query(
            "INSERT INTO millstream.image (document_id, page, position, role, object_key, width, height)
             SELECT $1, * FROM unnest($2::int[], $3::int[], $4::text[], $5::text[], $6::int[], $7::int[])
             ON CONFLICT (document_id, page, position) DO UPDATE
             SET role = EXCLUDED.role, object_key = EXCLUDED.object_key, width = EXCLUDED.width, height = EXCLUDED.height",
        )
        .bind(document_id)
        .bind(slice.iter().map(|image| image.page).collect::<Vec<_>>())
        .bind(slice.iter().map(|image| image.position).collect::<Vec<_>>())
        .bind(slice.iter().map(|image| image.role).collect::<Vec<_>>())
        .bind(slice.iter().map(|image| image.object_key.as_str()).collect::<Vec<_>>())
        .bind(slice.iter().map(|image| image.width).collect::<Vec<_>>())
        .bind(slice.iter().map(|image| image.height).collect::<Vec<_>>())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

pub(in super::super) async fn image_facts(
    conn: &mut PgConnection,
    at: &OfImage,
    facts: &ImageFacts,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE millstream.image SET sha256 = $4, difference_hash = $5, ocr_text = $6, ocr_confidence = $7, width = COALESCE($8, width), height = COALESCE($9, height), processed_at = now()
         WHERE document_id = $1 AND page = $2 AND position = $3",
    )
    .bind(at.document_id)
    .bind(at.page)
    .bind(at.position)
    .bind(facts.fingerprint.as_ref().map(|print| print.sha256_hex.as_str()))
    // The same 64 bits; Postgres has no unsigned numbers.
    .bind(facts.fingerprint.as_ref().map(|print| print.dhash.cast_signed()))
    .bind(facts.ocr.as_ref().map(|ocr| ocr.text.as_str()))
    .bind(facts.ocr.as_ref().and_then(|ocr| ocr.mean_confidence))
    .bind(facts.fingerprint.as_ref().map(|print| print.width as i32))
    .bind(facts.fingerprint.as_ref().map(|print| print.height as i32))
    .execute(conn)
    .await
    .map(drop)
}

/// The column is `vector` or `real[]`; the array is cast by assignment where it must be.
pub(in super::super) async fn embedding(
    conn: &mut PgConnection,
    document_id: Uuid,
    vector: &Vector,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO millstream.embedding (document_id, source, ordinal, model, dimension, content_hash, vector) VALUES ($1, $2, $3, $4, $5, $6, $7::real[])
         ON CONFLICT (document_id, source, ordinal, model) DO UPDATE
         SET dimension = EXCLUDED.dimension, content_hash = EXCLUDED.content_hash, vector = EXCLUDED.vector",
    )
    .bind(document_id)
    .bind(vector.source)
    .bind(vector.ordinal)
    .bind(&vector.model)
    .bind(vector.numbers.len() as i32)
    .bind(&vector.content_hash)
    .bind(&vector.numbers)
    .execute(conn)
    .await
    .map(drop)
}

pub(in super::super) async fn chunks(
    conn: &mut PgConnection,
    document_id: Uuid,
    chunks: &[Chunk],
) -> Result<(), sqlx::Error> {
    for slice in slices(chunks, |chunk| chunk.text.len() + ROW_BYTES) {
        let column = |f: fn(&Chunk) -> u32| {
            slice
                .iter()
                .map(|chunk| f(chunk) as i32)
                .collect::<Vec<_>>()
        };
        sqlx::query(
            "INSERT INTO millstream.chunk (document_id, ordinal, page_first, page_last, text, sha256, tokens_estimated)
             SELECT $1, * FROM unnest($2::int[], $3::int[], $4::int[], $5::text[], $6::text[], $7::int[])
             ON CONFLICT (document_id, ordinal) DO UPDATE SET page_first = EXCLUDED.page_first, page_last = EXCLUDED.page_last,
               text = EXCLUDED.text, sha256 = EXCLUDED.sha256, tokens_estimated = EXCLUDED.tokens_estimated",
        )
        .bind(document_id)
        .bind(column(|chunk| chunk.ordinal))
        .bind(column(|chunk| chunk.page_first))
        .bind(column(|chunk| chunk.page_last))
        .bind(slice.iter().map(|chunk| chunk.text.as_str()).collect::<Vec<_>>())
        .bind(slice.iter().map(|chunk| chunk.sha256_hex.as_str()).collect::<Vec<_>>())
        .bind(column(|chunk| chunk.tokens_estimated))
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

pub(in super::super) async fn chunk_analysis(
    conn: &mut PgConnection,
    at: &OfAnalysis,
    model: &str,
    result: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO millstream.chunk_analysis (document_id, ordinal, analysis, model, result) VALUES ($1, $2, $3, $4, $5::jsonb)
         ON CONFLICT (document_id, ordinal, analysis) DO UPDATE SET model = EXCLUDED.model, result = EXCLUDED.result",
    )
    .bind(at.document_id)
    .bind(at.ordinal)
    .bind(at.analysis.name())
    .bind(model)
    .bind(result)
    .execute(conn)
    .await
    .map(drop)
}

/// Replaces all products of the document.
pub(in super::super) async fn products(
    conn: &mut PgConnection,
    document_id: Uuid,
    products: &[ProductRow],
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM millstream.product WHERE document_id = $1")
        .bind(document_id)
        .execute(&mut *conn)
        .await?;
    let mut ordinal = 0;
    for slice in slices(products, |product| {
        product.detail.len() + product.name.len() + ROW_BYTES
    }) {
        let text = |f: fn(&ProductRow) -> Option<&str>| {
            slice
                .iter()
                .map(f)
                .map(|text| text.map(str::to_owned))
                .collect::<Vec<_>>()
        };
        sqlx::query(
            "INSERT INTO millstream.product (document_id, ordinal, name, sku, price, currency, detail)
             SELECT $1, $2 + u.place - 1, u.name, u.sku, u.price::numeric, u.currency, u.detail::jsonb
             FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) WITH ORDINALITY AS u(name, sku, price, currency, detail, place)",
        )
        .bind(document_id)
        .bind(ordinal)
        .bind(text(|product| Some(&product.name)))
        .bind(text(|product| product.sku.as_deref()))
        .bind(text(|product| product.price.as_deref()))
        .bind(text(|product| product.currency.as_deref()))
        .bind(text(|product| Some(&product.detail)))
        .execute(&mut *conn)
        .await?;
        ordinal += slice.len() as i32;
    }
    Ok(())
}
