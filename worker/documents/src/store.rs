//! The rows of a document: what handlers read before they work, and what their effects write.
//!
//! Reads take the pool and have a deadline; writes take the connection of the transaction that settles the job. Every
//! write replaces what a former run of the same job wrote, and goes out in slices, so that no single statement grows with
//! the document.

mod notes;
mod read;
mod write;

use futures::future::BoxFuture;
use sqlx::PgConnection;

pub(super) use self::{
    notes::{Judged, doubt, judged, notes, read_by_ocr},
    read::{
        ImageText, chunk, doubted, found_products, image_key, image_texts, original, page_texts,
    },
    write::{
        ImageFacts, ImageRow, ProductRow, Vector, chunk_analysis, chunks, document_facts,
        embedding, image_facts, images, pages, products,
    },
};
use millstream_worker::Effect;

/// Rows in one statement, less if they are long: [`SLICE_BYTES_MAX`].
const SLICE_ROWS_MAX: usize = 500;
/// Text in one statement: what a server takes without a pause, and far below the limit of a message.
const SLICE_BYTES_MAX: usize = 1024 * 1024;

/// An effect from a function of the connection.
pub(super) fn effect<F>(write: F) -> Effect
where
    F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<(), sqlx::Error>>
        + Send
        + Sync
        + 'static,
{
    Box::new(write)
}

/// Parts of `rows` that one statement can carry; `bytes` tells the length of a row.
fn slices<T>(mut rows: &[T], bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let mut total = 0;
        let fitting = rows.iter().take(SLICE_ROWS_MAX).take_while(|row| {
            let before = total;
            total += bytes(row);
            before == 0 || total <= SLICE_BYTES_MAX
        });
        let (slice, rest) = rows.split_at(fitting.count());
        rows = rest;
        (!slice.is_empty()).then_some(slice)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // P4
    #[test]
    fn slices_are_bounded_in_rows_and_bytes_and_lose_nothing() {
        let lengths = |rows: &[usize]| {
            slices(rows, |row| *row)
                .map(<[usize]>::len)
                .collect::<Vec<_>>()
        };
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&[1; 1_201]), [500, 500, 201]);
        assert_eq!(lengths(&[SLICE_BYTES_MAX / 2; 5]), [2, 2, 1]);
        assert_eq!(
            lengths(&[1, 9 * SLICE_BYTES_MAX, 9 * SLICE_BYTES_MAX, 1]),
            [1, 1, 1, 1]
        );
        assert_eq!(lengths(&[0; 600]), [500, 100]);
    }
}
