//! `document.products`: makes products out of the product lines of all chunks, and so ends the document (P2, stage 5).

use std::sync::Arc;

use futures::FutureExt;
use millstream_worker::{Context, Outcome, Success};
use serde_json::json;

use super::{
    Pipeline,
    failure::blocking,
    payload::OfDocument,
    progress::StageProgress,
    store::{self, ProductRow},
    tools::merge_products::{MergedProduct, merge},
};

/// Products of one document: 200 dense pages of a price list. The first ones are kept.
const PRODUCTS_MAX: usize = 20_000;
/// Digits before the point that `numeric(14, 2)` holds.
const PRICE_DIGITS_MAX: usize = 12;

pub(super) async fn run(
    pipeline: Arc<Pipeline>,
    context: Context,
    OfDocument { document_id }: OfDocument,
) -> Outcome {
    let gate = pipeline.gates.whole_text().await?;
    let found = store::found_products(context.pg(), document_id).await?;
    // The gate goes where the text is: a job that is dropped does not stop the thread that has it.
    let (products, total, _gate) = blocking(move || {
        let merged = merge(found);
        (
            merged
                .iter()
                .take(PRODUCTS_MAX)
                .map(row)
                .collect::<Vec<_>>(),
            merged.len(),
            gate,
        )
    })
    .await?;
    if total > PRODUCTS_MAX {
        context.log(format!(
            "{total} products were found; the first {PRODUCTS_MAX} are kept"
        ));
    }
    let count = products.len() as u32;
    StageProgress::new(&context)
        .tell(count, count, &format!("{count} products"))
        .await;
    let success = Success::with_result(&json!({"products": count, "found": total}))?;
    Ok(success.and_write(store::effect(move |conn| {
        async move { store::products(conn, document_id, &products).await }.boxed()
    })))
}

fn row(merged: &MergedProduct) -> ProductRow {
    let line = &merged.product;
    let price = line.price.clone().filter(|price| is_numeric(price));
    let detail = json!({
        "key": merged.key, "quantity": line.quantity, "unit": line.unit, "size": line.size,
        "price_text": line.price, "mentions": merged.mentions,
    });
    ProductRow {
        name: line.name.clone(),
        sku: line.sku.clone(),
        currency: line.currency.clone().filter(|_| price.is_some()),
        price,
        detail: detail.to_string(),
    }
}

/// Whether Postgres takes it for a `numeric(14, 2)`. What it does not take stays readable in the detail.
fn is_numeric(price: &str) -> bool {
    let (whole, fraction) = price.split_once('.').unwrap_or((price, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // One digit less than fits, because rounding the fraction may carry.
    digits(whole) && digits(fraction) && whole.len() < PRICE_DIGITS_MAX
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::super::tools::{analyse_local::ProductLine, merge_products::FoundProduct};
    use super::*;

    fn merged(price: &str) -> MergedProduct {
        let line = ProductLine {
            name: "Bolt".into(),
            price: Some(price.into()),
            currency: Some("EUR".into()),
            ..ProductLine::default()
        };
        merge(vec![FoundProduct {
            chunk_ordinal: 3,
            page_first: 1,
            page_last: 2,
            line,
        }])
        .remove(0)
    }

    // P2
    #[test]
    fn a_price_is_a_number_or_only_text() {
        let good = row(&merged("1234.50"));
        assert_eq!(
            (good.price.as_deref(), good.currency.as_deref()),
            (Some("1234.50"), Some("EUR"))
        );
        for bad in ["1234567890123", "1e9", "-1", "", ".5", "12,50", "NaN"] {
            let row = row(&merged(bad));
            assert_eq!((row.price, row.currency), (None, None), "{bad}");
            assert!(
                row.detail.contains(&format!("\"price_text\":\"{bad}\"")),
                "{}",
                row.detail
            );
        }
    }
}
