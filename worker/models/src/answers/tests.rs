//! Tests of `answers`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use super::{CATEGORIES, Classification, Metadata, Products};
use crate::ModelError;
use crate::prompts;
use serde_json::json;

// P2
#[test]
fn a_classification_is_one_of_the_categories_asked_for() {
    let read = |answer| Classification::from_answer(&answer).unwrap();
    let full =
        read(json!({"category": "Price_List", "confidence": 0.8, "keywords": ["a", " b ", 3, ""]}));
    assert_eq!(
        (full.category.as_str(), full.confidence),
        ("price_list", 0.8)
    );
    assert_eq!(full.keywords, ["a", "b"]);
    let odd = read(json!({"category": "hacked\u{0}", "confidence": "7", "keywords": "x"}));
    assert_eq!((odd.category.as_str(), odd.confidence), ("other", 1.0));
    let prompt = prompts::classification("x").system;
    assert!(
        CATEGORIES
            .iter()
            .all(|category| prompt.contains(&format!("\"{category}\"")))
    );
}

// P2
#[test]
fn metadata_keeps_what_was_said_in_the_right_shape() {
    let metadata = Metadata::from_answer(&json!({
        "title": "  A\u{0} title\nof two lines ",
        "language": "DE",
        "authors": vec!["x"; 100],
        "dates": ["2024", "2024-02", "2024-02-31", "yesterday", "24-1-1", 2024],
        "organisations": null,
        "summary": "s".repeat(5_000),
        "unknown": true,
    }))
    .unwrap();
    assert_eq!(metadata.title.as_deref(), Some("A title of two lines"));
    assert_eq!(metadata.language.as_deref(), Some("de"));
    assert_eq!(
        (metadata.authors.len(), metadata.summary.unwrap().len()),
        (20, 2_000)
    );
    assert_eq!(metadata.dates, ["2024", "2024-02", "2024-02-31"]);
    assert_eq!(
        Metadata::from_answer(&json!({})).unwrap(),
        Metadata::default()
    );
}

// P2
#[test]
fn products_without_a_name_are_left_out_and_wrong_fields_are_not_said() {
    let answer = json!({"products": [
        {"name": "Bolt", "sku": "B-1", "price": "1.50", "currency": "eur", "description": ""},
        {"name": "Nut", "sku": 7, "price": -1, "currency": "euro"},
        {"name": " "},
        "Washer",
        {"price": 1},
    ]});
    let products = Products::from_answer(&answer).unwrap().products;
    assert_eq!(products.len(), 2);
    assert_eq!(
        (products[0].price, products[0].currency.as_deref()),
        (Some(1.5), Some("EUR"))
    );
    assert_eq!(
        (&products[1].sku, products[1].price, &products[1].currency),
        (&None, None, &None)
    );
    let many = json!({"products": vec![json!({"name": "x"}); 1_000]});
    assert_eq!(Products::from_answer(&many).unwrap().products.len(), 200);
    assert!(
        Products::from_answer(&json!({"products": []}))
            .unwrap()
            .products
            .is_empty()
    );
}

// P2
#[test]
fn an_answer_without_its_main_field_is_worth_another_try() {
    let failures = [
        Classification::from_answer(&json!({"confidence": 1})).err(),
        Classification::from_answer(&json!([])).err(),
        Products::from_answer(&json!({})).err(),
        Products::from_answer(&json!({"products": "none"})).err(),
        Metadata::from_answer(&json!("x")).err(),
    ];
    for failure in failures {
        assert!(
            matches!(failure, Some(ModelError::Retry { .. })),
            "{failure:?}"
        );
    }
}
