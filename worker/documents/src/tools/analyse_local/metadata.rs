//! Facts that a text states in a recognisable form.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::money::{self, Price};
use super::{bounded, dates, pattern, words};

/// Most entries of each list: a chunk has a handful, a page of a price list two hundred.
pub const ENTRIES_MAX: usize = 200;

/// Most keywords.
pub const KEYWORDS_MAX: usize = 10;

/// Shorter words carry little.
const KEYWORD_CHARS_MIN: usize = 4;

/// Longer "words" are data.
const KEYWORD_CHARS_MAX: usize = 40;

/// The facts of a text. All lists are free of repetitions and bounded by [`ENTRIES_MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// ISO 639-3 code (`eng`, `deu`), if it is sure.
    pub language: Option<String>,
    /// ISO 8601 dates, sorted.
    pub dates: Vec<String>,
    /// Prices, in the order of the text.
    pub prices: Vec<Price>,
    /// E-mail addresses in lower case, sorted.
    pub emails: Vec<String>,
    /// Web addresses, sorted.
    pub urls: Vec<String>,
    /// The words that stand out, the most frequent first.
    pub keywords: Vec<String>,
}

static EMAIL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(r"(?i)\b[a-z0-9._%+-]{1,64}@[a-z0-9](?:[a-z0-9.-]{0,190}[a-z0-9])?\.[a-z]{2,24}\b")
});

static URL: LazyLock<Option<Regex>> =
    LazyLock::new(|| pattern(r#"(?i)\b(?:https?://|www\.)[^\s<>"'“”«»]{3,1000}"#));

/// The facts of `text`.
pub fn metadata(text: &str) -> Metadata {
    let text = bounded(text);
    Metadata {
        language: language(text),
        dates: dates::find(text).into_iter().take(ENTRIES_MAX).collect(),
        prices: prices(text),
        emails: matches(&EMAIL, text, str::to_lowercase),
        urls: matches(&URL, text, trim_url),
        keywords: keywords(text),
    }
}

/// The language, if the detector calls itself sure; a few words or a table of figures have none.
pub(super) fn language(text: &str) -> Option<String> {
    whatlang::detect(text)
        .filter(whatlang::Info::is_reliable)
        .map(|info| info.lang().code().to_owned())
}

fn prices(text: &str) -> Vec<Price> {
    let mut seen = BTreeSet::new();
    let found = money::find(text).into_iter().map(|found| found.price);
    found
        .filter(|price| seen.insert(price.clone()))
        .take(ENTRIES_MAX)
        .collect()
}

fn matches(pattern: &LazyLock<Option<Regex>>, text: &str, tidy: fn(&str) -> String) -> Vec<String> {
    let Some(pattern) = pattern.as_ref() else {
        return Vec::new();
    };
    let found = pattern
        .find_iter(text)
        .map(|found| tidy(found.as_str()))
        .collect::<BTreeSet<_>>();
    found.into_iter().take(ENTRIES_MAX).collect()
}

/// Without the signs of the sentence around it; a closing bracket stays if it was opened in the address.
fn trim_url(url: &str) -> String {
    let mut url = url.trim_end_matches(['.', ',', ';', ':', '!', '?']);
    while url.ends_with(')') && url.matches(')').count() > url.matches('(').count() {
        url = url[..url.len() - 1].trim_end_matches(['.', ',', ';', ':', '!', '?']);
    }
    url.to_owned()
}

/// The most frequent words that are no stop words; of equally frequent ones the longer, then the first by letters.
fn keywords(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for word in lower.split(|c: char| !c.is_alphabetic()) {
        let is_keyword = (KEYWORD_CHARS_MIN..=KEYWORD_CHARS_MAX).contains(&word.chars().count());
        if is_keyword && !words::STOP_WORDS.contains(&word) {
            *counts.entry(word).or_default() += 1;
        }
    }
    let mut words = counts.into_iter().collect::<Vec<_>>();
    words.sort_by(|one, other| {
        other
            .1
            .cmp(&one.1)
            .then(other.0.len().cmp(&one.0.len()))
            .then(one.0.cmp(other.0))
    });
    words
        .into_iter()
        .take(KEYWORDS_MAX)
        .map(|(word, _)| word.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Please write to Jane.Doe@Example.com or sales@example.co.uk before January 3, 2024. \
        The bolts cost 12.50 € for a box of bolts (see https://example.com/bolts_(steel)). Bolts of steel last.";

    // P2
    #[test]
    fn the_facts_of_a_text_are_found() {
        let found = metadata(TEXT);
        assert_eq!(found.language.as_deref(), Some("eng"));
        assert_eq!(found.dates, ["2024-01-03"]);
        assert_eq!(
            found.prices,
            [Price {
                amount: "12.50".to_owned(),
                currency: "EUR".to_owned()
            }]
        );
        assert_eq!(
            found.emails,
            ["jane.doe@example.com", "sales@example.co.uk"]
        );
        assert_eq!(found.urls, ["https://example.com/bolts_(steel)"]);
        assert_eq!(found.keywords.first().map(String::as_str), Some("bolts"));
    }

    // P4
    #[test]
    fn lists_are_bounded_and_rubbish_has_no_facts() {
        let many = (0..5_000)
            .map(|n| format!("{n}.00 € a{n}@b.cc "))
            .collect::<Vec<_>>()
            .concat();
        let found = metadata(&many);
        assert_eq!(
            (found.prices.len(), found.emails.len()),
            (ENTRIES_MAX, ENTRIES_MAX)
        );
        assert_eq!(metadata("@ @@ a@b :// www. ."), Metadata::default());
    }

    // P2
    #[test]
    fn german_is_recognised() {
        let text = "Die Menge der offenen Mengen heißt Topologie, und das Paar ist ein topologischer Raum über dieser Menge.";
        assert_eq!(metadata(text).language.as_deref(), Some("deu"));
    }
}
