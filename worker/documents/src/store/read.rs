//! What handlers read.

use millstream_common::{error::Outage, pg::GuardedPool};
use serde::Deserialize;
use sqlx::FromRow;
use uuid::Uuid;

use super::super::{
    payload::{OfChunk, OfImage},
    tools::{PageText, analyse_local::ProductLine, merge_products::FoundProduct},
};

/// The uploaded file.
#[derive(Debug, FromRow)]
pub(in super::super) struct Original {
    pub(in super::super) object_key: String,
}

/// What OCR has read in one image; `text` is never empty.
#[derive(Debug, FromRow)]
pub(in super::super) struct ImageText {
    pub(in super::super) page: i32,
    pub(in super::super) position: i32,
    pub(in super::super) text: String,
    /// From 0 to 100.
    pub(in super::super) confidence: Option<f32>,
}

/// One chunk.
#[derive(Debug, FromRow)]
pub(in super::super) struct ChunkText {
    pub(in super::super) text: String,
    pub(in super::super) sha256: String,
}

/// The file of a document; `None`: it was deleted.
pub(in super::super) async fn original(
    pg: &GuardedPool,
    document_id: Uuid,
) -> Result<Option<Original>, Outage> {
    let query = sqlx::query_as("SELECT object_key FROM millstream.document WHERE id = $1");
    let loan = pg.connection("reading a document");
    loan.optional(query.bind(document_id)).await
}

/// Where an image is in the object store; `None`: it was deleted.
pub(in super::super) async fn image_key(
    pg: &GuardedPool,
    at: &OfImage,
) -> Result<Option<String>, Outage> {
    let query = sqlx::query_scalar(
        "SELECT object_key FROM millstream.image WHERE document_id = $1 AND page = $2 AND position = $3",
    )
    .bind(at.document_id)
    .bind(at.page)
    .bind(at.position);
    pg.connection("reading an image's key")
        .optional(query)
        .await
}

/// All pages in order.
pub(in super::super) async fn page_texts(
    pg: &GuardedPool,
    document_id: Uuid,
) -> Result<Vec<PageText>, Outage> {
    let query = sqlx::query_as(
        "SELECT page, text FROM millstream.page WHERE document_id = $1 ORDER BY page",
    );
    let rows: Vec<(i32, String)> = pg
        .connection("reading pages")
        .all(query.bind(document_id))
        .await?;
    Ok(rows
        .into_iter()
        .map(|(page, text)| PageText {
            page: page as u32,
            text,
        })
        .collect())
}

/// The pages whose text may be rubbish ([`super::doubt`]), in order.
pub(in super::super) async fn doubted(
    pg: &GuardedPool,
    document_id: Uuid,
) -> Result<Vec<u32>, Outage> {
    let query = sqlx::query_scalar(
        "SELECT page FROM millstream.page WHERE document_id = $1 AND source = 'none' AND text <> '' ORDER BY page",
    );
    let loan = pg.connection("reading the pages in doubt");
    let pages: Vec<i32> = loan.all(query.bind(document_id)).await?;
    Ok(pages.into_iter().map(|page| page as u32).collect())
}

/// All images with text, in the order of their places.
pub(in super::super) async fn image_texts(
    pg: &GuardedPool,
    document_id: Uuid,
) -> Result<Vec<ImageText>, Outage> {
    let query = sqlx::query_as(
        "SELECT page, position, ocr_text AS text, ocr_confidence AS confidence FROM millstream.image
         WHERE document_id = $1 AND ocr_text <> '' ORDER BY page, position",
    );
    let loan = pg.connection("reading the text of images");
    loan.all(query.bind(document_id)).await
}

/// One chunk; `None`: it was deleted.
pub(in super::super) async fn chunk(
    pg: &GuardedPool,
    at: &OfChunk,
) -> Result<Option<ChunkText>, Outage> {
    let query = sqlx::query_as(
        "SELECT text, sha256 FROM millstream.chunk WHERE document_id = $1 AND ordinal = $2",
    );
    let query = query.bind(at.document_id).bind(at.ordinal);
    pg.connection("reading a chunk").optional(query).await
}

/// The form in which product analyses are stored, whoever made them.
#[derive(Deserialize)]
struct Lines {
    products: Vec<ProductLine>,
}

/// All product lines of the document with their places. An analysis of another form (of another release) is passed over.
pub(in super::super) async fn found_products(
    pg: &GuardedPool,
    document_id: Uuid,
) -> Result<Vec<FoundProduct>, Outage> {
    let query = sqlx::query_as(
        "SELECT a.ordinal, c.page_first, c.page_last, a.result::text FROM millstream.chunk_analysis a
         JOIN millstream.chunk c ON c.document_id = a.document_id AND c.ordinal = a.ordinal
         WHERE a.document_id = $1 AND a.analysis = 'products' AND a.result -> 'products' <> '[]' ORDER BY a.ordinal",
    );
    let loan = pg.connection("reading product lines");
    let rows: Vec<(i32, i32, i32, String)> = loan.all(query.bind(document_id)).await?;
    let found = rows.into_iter().flat_map(|(ordinal, first, last, result)| {
        let lines = serde_json::from_str::<Lines>(&result)
            .map_or_else(|_| Vec::new(), |lines| lines.products);
        lines.into_iter().map(move |line| FoundProduct {
            chunk_ordinal: ordinal as u32,
            page_first: first as u32,
            page_last: last as u32,
            line,
        })
    });
    Ok(found.collect())
}
