//! Makes products out of the product lines of a whole document (P2).
//!
//! A product is named on several pages, and neighbouring chunks repeat each other's ends, so one product has many
//! lines. Lines are one product if they have the same SKU, or no SKU and the same name and price; a line without SKU
//! joins the product with that name and price.
//!
//! Invariant: the result depends on the set of lines only, not on the order in which the chunks were analysed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::analyse_local::ProductLine;

/// Mentions kept per product; a document that names a product more often says nothing new.
pub const MENTIONS_MAX: usize = 100;

/// A product line and where it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundProduct {
    /// Chunk, by its ordinal in the document.
    pub chunk_ordinal: u32,
    /// First page of the chunk.
    pub page_first: u32,
    /// Last page of the chunk.
    pub page_last: u32,
    /// What was found.
    pub line: ProductLine,
}

/// Where a product is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mention {
    /// First page of the chunk.
    pub page_first: u32,
    /// Last page of the chunk.
    pub page_last: u32,
    /// Chunk, by its ordinal in the document.
    pub chunk_ordinal: u32,
    /// The line of the document that says so.
    pub evidence_line: String,
}

/// One product of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergedProduct {
    /// What makes it this product: stable for the same document, at most one product has it.
    pub key: String,
    /// The facts; each is that of the first mention that has it.
    pub product: ProductLine,
    /// Where it is named, in the order of the document, at most [`MENTIONS_MAX`], never empty.
    pub mentions: Vec<Mention>,
}

/// The products of a document in the order in which it first names them.
pub fn merge(mut found: Vec<FoundProduct>) -> Vec<MergedProduct> {
    found.sort_by_cached_key(|one| {
        (
            one.chunk_ordinal,
            one.line.line_number,
            one.line.evidence_line.clone(),
            key_of(&one.line),
        )
    });
    let sku_of = skus_by_name(&found);
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut products: Vec<MergedProduct> = Vec::new();
    for one in found {
        let own_key = key_of(&one.line);
        let key = sku_of.get(&own_key).cloned().unwrap_or(own_key);
        if let Some(product) = places.get(&key).and_then(|place| products.get_mut(*place)) {
            add(product, one);
        } else {
            places.insert(key.clone(), products.len());
            products.push(first(key, one));
        }
    }
    products
}

/// For names with price that just one SKU has: that SKU's key.
fn skus_by_name(found: &[FoundProduct]) -> BTreeMap<String, String> {
    let mut skus: BTreeMap<String, Option<String>> = BTreeMap::new();
    for line in found
        .iter()
        .map(|one| &one.line)
        .filter(|line| line.sku.is_some())
    {
        let sku = key_of(line);
        let entry = skus
            .entry(name_key(line))
            .or_insert_with(|| Some(sku.clone()));
        if entry.as_ref() != Some(&sku) {
            *entry = None;
        }
    }
    skus.into_iter()
        .filter_map(|(name, sku)| Some((name, sku?)))
        .collect()
}

fn key_of(line: &ProductLine) -> String {
    match line
        .sku
        .as_deref()
        .map(letters)
        .filter(|sku| !sku.is_empty())
    {
        Some(sku) => format!("sku:{sku}"),
        None => name_key(line),
    }
}

fn name_key(line: &ProductLine) -> String {
    let price = line.price.as_deref().unwrap_or("-");
    let currency = line.currency.as_deref().unwrap_or("-");
    format!("name:{}|{price}|{currency}", letters(&line.name))
}

/// Letters and digits in lower case: `AB-100` and `ab 100` are the same.
fn letters(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

fn first(key: String, one: FoundProduct) -> MergedProduct {
    let mention = mention(&one);
    MergedProduct {
        key,
        product: one.line,
        mentions: vec![mention],
    }
}

fn add(product: &mut MergedProduct, one: FoundProduct) {
    let mention = mention(&one);
    let facts = &mut product.product;
    let line = one.line;
    // A price and its currency come from one line, else they could be of two offers.
    if facts.price.is_none() {
        (facts.price, facts.currency) = (line.price, line.currency);
    }
    if facts.quantity.is_none() {
        (facts.quantity, facts.unit) = (line.quantity, line.unit);
    }
    facts.sku = facts.sku.take().or(line.sku);
    facts.size = facts.size.take().or(line.size);
    if product.mentions.len() < MENTIONS_MAX && !product.mentions.contains(&mention) {
        product.mentions.push(mention);
    }
}

fn mention(one: &FoundProduct) -> Mention {
    Mention {
        page_first: one.page_first,
        page_last: one.page_last,
        chunk_ordinal: one.chunk_ordinal,
        evidence_line: one.line.evidence_line.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(
        chunk_ordinal: u32,
        name: &str,
        sku: Option<&str>,
        price: Option<&str>,
    ) -> FoundProduct {
        let line = ProductLine {
            name: name.to_owned(),
            sku: sku.map(str::to_owned),
            price: price.map(str::to_owned),
            currency: price.map(|_| "EUR".to_owned()),
            evidence_line: format!("{name} {sku:?} {price:?}"),
            ..ProductLine::default()
        };
        FoundProduct {
            chunk_ordinal,
            page_first: chunk_ordinal + 1,
            page_last: chunk_ordinal + 1,
            line,
        }
    }

    fn facts(products: &[MergedProduct]) -> Vec<(&str, Option<&str>, Option<&str>, usize)> {
        products
            .iter()
            .map(|one| {
                let product = &one.product;
                (
                    product.name.as_str(),
                    product.sku.as_deref(),
                    product.price.as_deref(),
                    one.mentions.len(),
                )
            })
            .collect()
    }

    // P2
    #[test]
    fn lines_of_one_sku_are_one_product_with_all_its_pages() {
        let merged = merge(vec![
            found(0, "Bolt", Some("AB-100"), None),
            found(4, "Bolt, steel", Some("ab 100"), Some("1.50")),
            found(4, "Nut", None, Some("0.80")),
            found(9, "NUT", None, Some("0.80")),
            found(9, "Nut", None, Some("0.90")),
        ]);
        let expected = [
            ("Bolt", Some("AB-100"), Some("1.50"), 2),
            ("Nut", None, Some("0.80"), 2),
            ("Nut", None, Some("0.90"), 1),
        ];
        assert_eq!(facts(&merged), expected);
    }

    // P2
    #[test]
    fn a_line_without_sku_joins_the_product_of_its_name_and_price() {
        let merged = merge(vec![
            found(0, "Nut", None, Some("0.80")),
            found(1, "Nut", Some("N-1"), Some("0.80")),
        ]);
        assert_eq!(facts(&merged), [("Nut", Some("N-1"), Some("0.80"), 2)]);
        let unclear = vec![
            found(0, "Nut", None, Some("0.80")),
            found(1, "Nut", Some("N-1"), Some("0.80")),
            found(2, "Nut", Some("N-2"), Some("0.80")),
        ];
        assert_eq!(merge(unclear).len(), 3);
    }

    // P2
    #[test]
    fn the_order_of_the_lines_does_not_matter() {
        let mut lines = (0..40)
            .map(|n| {
                found(
                    n % 7,
                    &format!("Part {}", n % 11),
                    (n % 3 == 0).then_some("X-1"),
                    Some("2.00"),
                )
            })
            .collect::<Vec<_>>();
        let forward = merge(lines.clone());
        lines.reverse();
        assert_eq!(merge(lines.clone()), forward);
        lines.rotate_left(13);
        assert_eq!(merge(lines), forward);
    }
}
