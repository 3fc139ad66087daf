//! What a language model may answer, read strictly enough to be stored.
//!
//! Invariants: every text is bounded, trimmed and free of control characters (also of NUL, which
//! Postgres refuses), every list is bounded, every number finite and in its range. A field that is
//! missing or of the wrong type counts as not said; only an answer without its main field is a
//! failure, which is worth another try. Models are talked into things by documents: nothing read here
//! is trusted beyond its shape.

use super::error::ModelError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A name, title or keyword.
const SHORT_CHARS_MAX: usize = 200;

/// A description or summary.
const LONG_CHARS_MAX: usize = 2_000;

/// Keywords, authors, dates and the like.
const LIST_MAX: usize = 20;

/// Products of one chunk; a dense price list has about 60 lines on a page.
const PRODUCTS_MAX: usize = 200;

/// The kinds that [`prompts::classification`](super::prompts::classification) names.
pub const CATEGORIES: [&str; 10] = [
    "catalogue",
    "price_list",
    "invoice",
    "contract",
    "manual",
    "datasheet",
    "scientific",
    "letter",
    "form",
    "other",
];

/// What kind of document a text comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Classification {
    /// One of [`CATEGORIES`].
    pub category: String,
    /// From 0 to 1; 0 if the model did not say.
    pub confidence: f64,
    /// At most 20.
    pub keywords: Vec<String>,
}

/// What a text says about its document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Title, if written.
    pub title: Option<String>,
    /// ISO 639-1, lower case.
    pub language: Option<String>,
    /// At most 20.
    pub authors: Vec<String>,
    /// `YYYY`, `YYYY-MM` or `YYYY-MM-DD`, at most 20.
    pub dates: Vec<String>,
    /// At most 20.
    pub organisations: Vec<String>,
    /// One or two sentences.
    pub summary: Option<String>,
}

/// Products of a text, at most 200.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Products {
    /// In the order of the answer; those without a name are left out.
    pub products: Vec<Product>,
}

/// One product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// Never empty.
    pub name: String,
    /// Article number.
    pub sku: Option<String>,
    /// As the model words it.
    pub description: Option<String>,
    /// Zero or more, in `currency`.
    pub price: Option<f64>,
    /// ISO 4217, upper case.
    pub currency: Option<String>,
}

impl Classification {
    /// An unknown category becomes `other`; no category at all is a failure.
    pub fn from_answer(answer: &Value) -> Result<Self, ModelError> {
        let object = object(answer)?;
        let said = short(object.get("category")).ok_or_else(|| missing("category"))?;
        let category = CATEGORIES
            .iter()
            .find(|known| said.eq_ignore_ascii_case(known));
        Ok(Self {
            category: (*category.unwrap_or(&"other")).to_owned(),
            confidence: number(object.get("confidence"))
                .map_or(0.0, |number| number.clamp(0.0, 1.0)),
            keywords: list(object.get("keywords")),
        })
    }
}

impl Metadata {
    /// Whatever is missing was not said.
    pub fn from_answer(answer: &Value) -> Result<Self, ModelError> {
        let object = object(answer)?;
        let mut dates = list(object.get("dates"));
        dates.retain(|date| is_date(date));
        Ok(Self {
            title: short(object.get("title")),
            language: code(object.get("language"), 2).map(|code| code.to_ascii_lowercase()),
            authors: list(object.get("authors")),
            dates,
            organisations: list(object.get("organisations")),
            summary: clean(object.get("summary"), LONG_CHARS_MAX),
        })
    }
}

impl Products {
    /// An answer without the list is a failure; an empty list is an answer.
    pub fn from_answer(answer: &Value) -> Result<Self, ModelError> {
        let listed = object(answer)?.get("products").and_then(Value::as_array);
        let listed = listed.ok_or_else(|| missing("products"))?;
        let products = listed
            .iter()
            .filter_map(product)
            .take(PRODUCTS_MAX)
            .collect();
        Ok(Self { products })
    }
}

fn product(value: &Value) -> Option<Product> {
    let object = value.as_object()?;
    Some(Product {
        name: short(object.get("name"))?,
        sku: short(object.get("sku")),
        description: clean(object.get("description"), LONG_CHARS_MAX),
        price: number(object.get("price")).filter(|price| *price >= 0.0),
        currency: code(object.get("currency"), 3).map(|code| code.to_ascii_uppercase()),
    })
}

fn object(answer: &Value) -> Result<&Map<String, Value>, ModelError> {
    answer
        .as_object()
        .ok_or_else(|| ModelError::retry("the model's answer is not a JSON object"))
}

fn missing(field: &str) -> ModelError {
    ModelError::retry(format!("the model's answer has no `{field}`"))
}

fn short(value: Option<&Value>) -> Option<String> {
    clean(value, SHORT_CHARS_MAX)
}

/// White space of any kind becomes one blank, other control characters vanish.
fn clean(value: Option<&Value>, chars_max: usize) -> Option<String> {
    let words: Vec<&str> = value?.as_str()?.split_whitespace().collect();
    let text: String = words
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .take(chars_max)
        .collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn list(value: Option<&Value>) -> Vec<String> {
    let items = value
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    items
        .iter()
        .filter_map(|item| short(Some(item)))
        .take(LIST_MAX)
        .collect()
}

/// Models write numbers as text now and then.
fn number(value: Option<&Value>) -> Option<f64> {
    let value = value?;
    let number = value
        .as_f64()
        .or_else(|| value.as_str()?.trim().parse().ok())?;
    number.is_finite().then_some(number)
}

fn code(value: Option<&Value>, letters: usize) -> Option<String> {
    short(value)
        .filter(|text| text.len() == letters && text.bytes().all(|b| b.is_ascii_alphabetic()))
}

/// `YYYY`, `YYYY-MM` or `YYYY-MM-DD`, in shape only: documents do print the 31st of February.
fn is_date(text: &str) -> bool {
    let digits = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit())
    };
    let parts: Vec<&str> = text.split('-').collect();
    match parts.as_slice() {
        [year] => digits(year, 4),
        [year, month] => digits(year, 4) && digits(month, 2),
        [year, month, day] => digits(year, 4) && digits(month, 2) && digits(day, 2),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
