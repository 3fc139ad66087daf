//! What kind of text a piece is, by its words and the shape of its lines.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::metadata::language;
use super::{bounded, money, words};

/// Kinds of text that the rules can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// Many offers with prices.
    PriceList,
    /// The description of one or a few products.
    ProductSheet,
    /// A bill.
    Invoice,
    /// Contracts, terms and laws.
    Contract,
    /// Papers and textbooks.
    Scientific,
    /// A letter.
    Letter,
    /// A table of contents or an index.
    Contents,
    /// A table of anything else.
    Table,
    /// Running text of no other kind.
    Prose,
    /// Too little text to say.
    Unknown,
}

/// The kind of a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Classification {
    /// The kind.
    pub label: Label,
    /// From 0 to 1: how far the kind stands above the next one. It ranks; it is no probability.
    pub confidence: f32,
    /// ISO 639-3 code of the language, if it is sure.
    pub language: Option<String>,
}

/// With fewer words nothing can be said.
const WORDS_MIN: usize = 5;

/// The score of prose when nothing else speaks: a kind needs more than this.
const PROSE_SCORE: f32 = 1.0;

/// What is counted in a text.
struct Signs {
    words: f32,
    lines: f32,
    prices: f32,
    /// Lines with cells.
    rows: f32,
    /// Lines that end in a page number after words.
    entries: f32,
    vocabulary: HashSet<String>,
}

/// The kind of `text`.
pub fn classify(text: &str) -> Classification {
    let text = bounded(text);
    let language = language(text);
    let signs = Signs::of(text);
    if (signs.words as usize) < WORDS_MIN {
        return Classification {
            label: Label::Unknown,
            confidence: 0.0,
            language,
        };
    }
    let mut scores = signs.scores();
    // Stable: of equal scores the one listed first wins.
    scores.sort_by(|one, other| other.1.total_cmp(&one.1));
    let [(label, best), (_, second), ..] = scores;
    let confidence = if best > 0.0 {
        (best / (best + second)).clamp(0.0, 1.0)
    } else {
        0.0
    };
    Classification {
        label,
        confidence,
        language,
    }
}

impl Signs {
    fn of(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let mut signs = Self {
            words: text.split_whitespace().count() as f32,
            lines: 0.0,
            prices: money::find(text).len() as f32,
            rows: 0.0,
            entries: 0.0,
            vocabulary: vocabulary(text),
        };
        for line in lines {
            signs.lines += 1.0;
            signs.rows += f32::from(u8::from(line.contains('\t')));
            signs.entries += f32::from(u8::from(is_entry(line)));
        }
        signs
    }

    /// How many different words of a list the text has; repeating one word is no evidence.
    fn hits(&self, list: &[&str]) -> f32 {
        list.iter()
            .filter(|word| self.vocabulary.contains(**word))
            .count() as f32
    }

    fn scores(&self) -> [(Label, f32); 9] {
        let prices_per_line = (self.prices / self.lines.max(1.0)).min(1.0);
        let rows_share = self.rows / self.lines.max(1.0);
        let entries_share = if self.lines < 4.0 {
            0.0
        } else {
            self.entries / self.lines
        };
        let invoice = self.hits(words::INVOICE);
        let price_list = self.hits(words::PRICE_LIST) * 0.4
            + prices_per_line * 4.0
            + (self.prices - 1.0).clamp(0.0, 8.0) * 0.3;
        [
            (
                Label::PriceList,
                if self.prices >= 2.0 {
                    price_list
                } else {
                    price_list * 0.3
                },
            ),
            (
                Label::Invoice,
                if invoice >= 3.0 {
                    invoice * 0.9 + self.prices.min(2.0) * 0.5
                } else {
                    invoice * 0.2
                },
            ),
            (
                Label::ProductSheet,
                self.hits(words::PRODUCT) * 0.5 + self.prices.min(1.0) * 0.8,
            ),
            (Label::Contract, self.hits(words::CONTRACT) * 0.6),
            (Label::Scientific, self.hits(words::SCIENTIFIC) * 0.5),
            (Label::Letter, self.hits(words::LETTER) * 0.7),
            (
                Label::Contents,
                self.hits(words::CONTENTS) * 0.8 + entries_share * 4.0,
            ),
            (Label::Table, rows_share * 2.5),
            (Label::Prose, PROSE_SCORE),
        ]
    }
}

fn vocabulary(text: &str) -> HashSet<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// `1.2 Metric spaces . . . . 17`: words, then a number of up to four digits that is no price.
fn is_entry(line: &str) -> bool {
    let is_page = |word: &str| {
        word.len() <= 4 && !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
    };
    let mut words = line
        .split(|c: char| c.is_whitespace() || c == '.')
        .filter(|word| !word.is_empty());
    words.next_back().is_some_and(is_page)
        && words.any(|word| word.chars().filter(|c| c.is_alphabetic()).count() > 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    // P2
    #[test]
    fn each_kind_is_told_by_its_words_and_lines() {
        let cases = [
            (
                Label::PriceList,
                "Item\tSKU\tPrice\nBolt M8\tAB-1\t1.50 €\nNut M8\tAB-2\t0.80 €\nWasher\tAB-3\t0.10 €",
            ),
            (
                Label::Invoice,
                "Invoice no. 77. Subtotal 100.00 €, VAT 19 %, total 119.00 €. Payment due in 14 days, IBAN DE00.",
            ),
            (
                Label::Contract,
                "This agreement is made between the parties. Each party shall bear its liability. Termination by breach of a clause.",
            ),
            (
                Label::Scientific,
                "Theorem 3. Let X be a set. Proof: by Lemma 2 and the definition above. Corollary 4 follows.",
            ),
            (
                Label::Letter,
                "Dear Madam, enclosed you find the papers we spoke about. With kind regards, yours sincerely, J. Doe",
            ),
            (
                Label::Contents,
                "Contents\nIntroduction 1\nMetric spaces 7\nTopology 12\nSurfaces 30\nKnots 41",
            ),
            (
                Label::Prose,
                "Hello, here is some text without a meaning. It shows what a printed text will look like at this place.",
            ),
            (
                Label::Table,
                "Austria\t8.9\tVienna\nBelgium\t11.5\tBrussels\nDenmark\t5.8\tCopenhagen",
            ),
            (
                Label::ProductSheet,
                "Model X200. Technical specifications: dimensions 20 x 30 cm, weight 2 kg, material steel, colour red. 99 €",
            ),
            (Label::Unknown, "7"),
        ];
        for (label, text) in cases {
            let found = classify(text);
            assert_eq!(found.label, label, "{text}: {found:?}");
            assert!((0.0..=1.0).contains(&found.confidence));
        }
    }
}
