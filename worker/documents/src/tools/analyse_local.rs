//! Analysis of a piece of text by rules: what kind of text it is, its facts, and the products it offers (P2, P3).
//!
//! It is honest about what it is: rules see forms (an amount beside a currency, a word list, the shape of a line), not
//! meaning. It knows English and German best, some French and Spanish, and needs no model, no network and no key.
//!
//! Invariants: deterministic; the work grows with the length of the text; every list is bounded; what is unsure is
//! left out and not guessed. The input is normalised text (see [`super::normalise`]).

mod classify;
mod dates;
mod metadata;
mod money;
mod products;
mod words;

pub use classify::{Classification, Label, classify};
pub use metadata::{ENTRIES_MAX, KEYWORDS_MAX, Metadata, metadata};
pub use money::Price;
pub use products::{LINES_MAX, ProductLine, products};

/// Name of the rules, stored with every result.
pub const RULES_MODEL: &str = "local-rules-v1";

/// Longest text that is analysed in bytes: chunks are a hundredth of it. What is beyond is not looked at.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;

/// The part of `text` that is looked at.
fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// A pattern that was written by us. A pattern that does not compile would find nothing; the tests show that all do.
fn pattern(expression: &str) -> Option<regex::Regex> {
    regex::Regex::new(expression).ok()
}
