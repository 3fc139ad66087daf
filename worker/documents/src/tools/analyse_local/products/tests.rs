//! Offers as they stand in price lists, sheets and letters.

use super::*;

fn found(text: &str) -> Vec<String> {
    let shown = |one: &Option<String>| one.clone().unwrap_or_else(|| "-".to_owned());
    products(text)
        .iter()
        .map(|one| {
            format!(
                "{} | {} | {} {}",
                one.name,
                shown(&one.sku),
                shown(&one.price),
                shown(&one.currency)
            )
        })
        .collect()
}

// P2
#[test]
fn rows_with_name_number_and_price_are_products() {
    let text = "Hexagon bolt M8 x 40\tAB-1234\t100 pcs\t12.50 €\nNX2000 Drill hammer, 800 W ..... $1,299.00\nLack varnish 2,5 l – 14,90 EUR";
    let expected = [
        "Hexagon bolt M8 x 40 | AB-1234 | 12.50 EUR",
        "Drill hammer, 800 W | NX2000 | 1299.00 USD",
        "Lack varnish | - | 14.90 EUR",
    ];
    assert_eq!(found(text), expected);
    let first = products(text).remove(0);
    assert_eq!(
        (
            first.quantity.as_deref(),
            first.unit.as_deref(),
            first.size.as_deref()
        ),
        (Some("100"), Some("pcs"), Some("M8 x 40"))
    );
    let last = products(text).remove(2);
    assert_eq!(
        (last.quantity.as_deref(), last.unit.as_deref()),
        (Some("2.50"), Some("l"))
    );
}

// P2
#[test]
fn bare_amounts_are_prices_below_a_head_that_says_so() {
    let rows = "Steel nut\tAB-1\t0.80\nWasher\tAB-2\t1.234,50";
    assert_eq!(found(rows), Vec::<String>::new());
    let table = format!("Name\tSKU\tPrice (EUR)\n{rows}");
    assert_eq!(
        found(&table),
        ["Steel nut | AB-1 | 0.80 EUR", "Washer | AB-2 | 1234.50 EUR"]
    );
}

// P2
#[test]
fn a_sheet_of_labelled_facts_is_one_product() {
    let text = "Oak table\nSKU: TB-900\nPrice: 450,00 €\nSize: 120 x 80 x 75 cm\n\nNothing here";
    assert_eq!(found(text), ["Oak table | TB-900 | 450.00 EUR"]);
    assert_eq!(products(text)[0].size.as_deref(), Some("120 x 80 x 75 cm"));
}

// P2
#[test]
fn a_price_below_its_name_belongs_to_it() {
    assert_eq!(
        found("Garden chair “Lisa”\nonly 49 €"),
        ["Garden chair “Lisa | - | 49 EUR"].map(|one| one.replace("Lisa", "Lisa”"))
    );
}

// P2
#[test]
fn totals_sentences_and_figures_are_no_products() {
    for text in [
        "Total: 119.00 €",
        "Subtotal\t100.00 €",
        "VAT 19 %\t19.00 €",
        "The city of Bern has decided last week that it will pay more than 5 € for each of its old trees, they say.",
        "1.2 Metric spaces 17",
        "ISO-9001 certified since 2001",
        "12.50 €",
        "",
    ] {
        assert_eq!(found(text), Vec::<String>::new(), "{text}");
    }
}

// P4
#[test]
fn the_number_of_products_is_bounded() {
    let text = (0..10_000)
        .map(|n| format!("Part number {n} costs 1.00 €\n"))
        .collect::<Vec<_>>()
        .concat();
    assert_eq!(products(&text).len(), LINES_MAX);
}

// P2
#[test]
fn every_pattern_compiles() {
    let patterns = [
        &SKU_NAMED,
        &SKU_SHAPED,
        &SIZE,
        &QUANTITY,
        &PRICE_WORD,
        &BARE_AMOUNT,
        &CURRENCY,
        &LABEL,
    ];
    assert!(patterns.iter().all(|pattern| pattern.is_some()));
}
