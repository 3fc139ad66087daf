//! Text vectors that need no model, no network and no key (P3).
//!
//! They are *lexical*: texts that share words, word pairs and parts of words are near each other. They know nothing of
//! meaning: "car" and "automobile" are strangers. For semantic search configure an embedding server.
//!
//! Invariants: the same text gives the same vector on every machine and in every release (the hash is written out here
//! for that reason); a change of the recipe changes [`TEXT_MODEL`].

use std::collections::BTreeMap;

/// Name of the vectors' model.
pub const TEXT_MODEL: &str = "local-hashed-ngrams-v1";

/// Length of the vectors: that of the common small embedding models, so that either fits the same column.
pub const TEXT_DIMENSIONS: usize = 384;

/// What a whole word counts.
const WORD_WEIGHT: f32 = 1.0;

/// What a pair of neighbouring words counts: order matters a little.
const PAIR_WEIGHT: f32 = 0.5;

/// What three letters of a word count: they bring inflections and misspellings near, but a word has many of them.
const LETTERS_WEIGHT: f32 = 0.25;

/// Words this short are mostly articles and prepositions, which all texts of a language share.
const SHORT_WORD_CHARS_MAX: usize = 3;

/// What a short word counts.
const SHORT_WORD_WEIGHT: f32 = 0.2;

/// The vector of `text`: [`TEXT_DIMENSIONS`] numbers of length 1 together. All zeros only for a text without any
/// visible character, which is near to nothing.
pub fn embed(text: &str) -> Vec<f32> {
    let mut features = features(text);
    if features.is_empty() && !text.trim().is_empty() {
        // Signs only: the text as a whole is its one feature.
        features.insert(hash(&["signs", text.trim()]), WORD_WEIGHT);
    }
    let mut vector = vec![0.0_f32; TEXT_DIMENSIONS];
    for (hash, weight) in features {
        let place = (hash % TEXT_DIMENSIONS as u64) as usize;
        // The sign, from a bit that did not choose the place, lets features that collide cancel out on average.
        let sign = if hash >> 63 == 0 { 1.0 } else { -1.0 };
        // Repeating a word says less each time.
        vector[place] += sign * weight.ln_1p();
    }
    to_length_one(vector)
}

/// The cosine of the angle between two vectors of length 1: 1 for the same, about 0 for strangers.
pub fn cosine(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

/// The features of a text by hash, with their weights summed up. Sorted, so that sums are made in the same order
/// everywhere.
fn features(text: &str) -> BTreeMap<u64, f32> {
    let lower = text.to_lowercase();
    let words = lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    let mut features: BTreeMap<u64, f32> = BTreeMap::new();
    let mut add = |hash: u64, weight: f32| *features.entry(hash).or_default() += weight;
    let mut last = "";
    for word in words {
        let letters = word.chars().collect::<Vec<_>>();
        let is_short =
            letters.len() <= SHORT_WORD_CHARS_MAX && !word.contains(|c: char| c.is_numeric());
        add(
            hash(&["word", word]),
            if is_short {
                SHORT_WORD_WEIGHT
            } else {
                WORD_WEIGHT
            },
        );
        if !last.is_empty() {
            add(
                hash(&["pair", last, word]),
                if is_short {
                    SHORT_WORD_WEIGHT
                } else {
                    PAIR_WEIGHT
                },
            );
        }
        if !is_short {
            for three in letters.windows(3) {
                add(
                    hash(&["letters", &three.iter().collect::<String>()]),
                    LETTERS_WEIGHT,
                );
            }
        }
        last = word;
    }
    features
}

/// FNV-1a over the parts with a separator, and a final mix that lets every bit depend on every byte. Written out,
/// because the standard library's hasher may change between releases.
fn hash(parts: &[&str]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ hash >> 33
}

fn to_length_one(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > f32::EPSILON {
        for value in &mut vector {
            *value /= length;
        }
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    // P3
    #[test]
    fn the_same_text_has_the_same_vector_of_length_one() {
        for text in [
            "A steel bolt",
            "…!?",
            "漢字",
            "a",
            &"long text ".repeat(5_000),
        ] {
            let vector = embed(text);
            assert_eq!(vector, embed(text));
            assert_eq!(vector.len(), TEXT_DIMENSIONS);
            assert!((cosine(&vector, &vector) - 1.0).abs() < 1e-4, "{text}");
        }
        assert!(embed(" \n").iter().all(|value| value.abs() < f32::EPSILON));
    }

    // P3
    #[test]
    fn texts_that_share_words_are_nearer_than_strangers() {
        let bolt = embed("Hexagon bolt M8, stainless steel, box of one hundred pieces");
        let bolts = embed("Stainless steel bolts M8 in boxes of 100, hexagonal head");
        let law = embed("The tenant shall pay the rent on the first day of each month");
        assert!(cosine(&bolt, &bolts) > 0.3, "{}", cosine(&bolt, &bolts));
        assert!(cosine(&bolt, &law).abs() < 0.15, "{}", cosine(&bolt, &law));
    }

    // P3
    #[test]
    fn the_recipe_does_not_change_without_a_new_name() {
        assert_eq!(
            hash(&["word", "millstream"]),
            RECIPE_HASH,
            "a change here needs a new TEXT_MODEL"
        );
    }

    /// The hash of one feature, as it was when `v1` was named.
    const RECIPE_HASH: u64 = 15_023_945_950_580_865_335;
}
