//! Cuts a document into pieces that fit a model (P2, E1).
//!
//! Invariants: no chunk is empty or longer than asked; the same pages give the same chunks on every machine, so that
//! a repeated attempt finds its own rows by ordinal and hash; every word is in at least one chunk.

use serde::Serialize;
use sha2::{Digest, Sha256};
use text_splitter::{ChunkConfig, TextSplitter};

use super::error::{ToolError, code};

/// Length of a chunk in characters: about 300 tokens. Embedding models of 384 dimensions read 256 to 512 tokens and
/// silently drop the rest.
pub const CHARS_MAX: usize = 1_200;

/// Characters that a chunk repeats from the one before it: one or two sentences, so that a statement on the border is
/// whole in one of them.
pub const OVERLAP_CHARS: usize = 120;

/// Chunks of one document: 5,000 well-filled pages give 15,000. Each becomes a row and four jobs, all written in the one
/// transaction that ends chunking (measured: 7 s for this many, of the 10 s that such a transaction may take).
pub const CHUNKS_MAX: usize = 20_000;

/// What stands between two pages in the joined text: a paragraph's end.
const PAGE_BREAK: &str = "\n\n";

/// The normalised text of one page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageText {
    /// Page, from 1.
    pub page: u32,
    /// Its text; may be empty.
    pub text: String,
}

/// A piece of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chunk {
    /// Place in the document, from 0, without gaps.
    pub ordinal: u32,
    /// Page on which it begins.
    pub page_first: u32,
    /// Page on which it ends.
    pub page_last: u32,
    /// Never empty, without white space at its ends.
    pub text: String,
    /// SHA-256 of the text, 64 hex digits.
    pub sha256_hex: String,
    /// How many tokens a model will count, roughly: see [`tokens_estimated`].
    pub tokens_estimated: u32,
}

/// Cuts `pages` into chunks of at most `chars_max` characters, each repeating up to `overlap` characters of the one
/// before. Cuts at paragraphs if possible, then sentences, then words.
pub fn split(
    pages: &[PageText],
    chars_max: usize,
    overlap: usize,
) -> Result<Vec<Chunk>, ToolError> {
    split_watched(pages, chars_max, overlap, |_| {})
}

/// As [`split`], showing each chunk as it is cut, for progress.
pub fn split_watched(
    pages: &[PageText],
    chars_max: usize,
    overlap: usize,
    mut watch: impl FnMut(&Chunk),
) -> Result<Vec<Chunk>, ToolError> {
    let chars_max = chars_max.max(1);
    let config = ChunkConfig::new(chars_max)
        // An overlap of half a chunk or more would make the number of chunks grow without reason.
        .with_overlap(overlap.min(chars_max / 2))
        .map_err(|source| ToolError::transient(&format!("the text could not be cut: {source}")))?;
    let (text, starts) = joined(pages);
    let splitter = TextSplitter::new(config);
    let mut chunks = Vec::new();
    for (start, piece) in splitter
        .chunk_indices(&text)
        .filter(|(_, piece)| !piece.trim().is_empty())
    {
        if chunks.len() == CHUNKS_MAX {
            let message =
                format!("the text has more than {CHUNKS_MAX} chunks of {chars_max} characters");
            return Err(ToolError::document(code::TOO_MUCH_TEXT, &message));
        }
        let pages = (
            page_at(&starts, start),
            page_at(&starts, start + piece.len() - 1),
        );
        let chunk = chunk(chunks.len() as u32, pages, piece.trim());
        watch(&chunk);
        chunks.push(chunk);
    }
    Ok(chunks)
}

/// About how many tokens a language model counts: four letters of an alphabet to a token, and at least one for each
/// word; scripts without spaces have about one for each sign. Within a fifth for English prose.
pub fn tokens_estimated(text: &str) -> u32 {
    // From here on Unicode holds the scripts of East Asia.
    let dense = text.chars().filter(|c| *c >= '\u{2e80}').count();
    let others = text.chars().count() - dense;
    let words = text
        .split_whitespace()
        .filter(|word| word.chars().any(|c| c < '\u{2e80}'))
        .count();
    (dense + words.max(others.div_ceil(4))) as u32
}

fn chunk(ordinal: u32, (page_first, page_last): (u32, u32), text: &str) -> Chunk {
    Chunk {
        ordinal,
        page_first,
        page_last,
        text: text.to_owned(),
        sha256_hex: hex::encode(Sha256::digest(text)),
        tokens_estimated: tokens_estimated(text),
    }
}

/// The text of all pages, and where in it each page begins.
fn joined(pages: &[PageText]) -> (String, Vec<(usize, u32)>) {
    let mut text = String::new();
    let mut starts = Vec::new();
    for page in pages.iter().filter(|page| !page.text.trim().is_empty()) {
        if !text.is_empty() {
            text.push_str(PAGE_BREAK);
        }
        starts.push((text.len(), page.page));
        text.push_str(page.text.trim());
    }
    (text, starts)
}

/// The page that holds the byte `at`.
fn page_at(starts: &[(usize, u32)], at: usize) -> u32 {
    let after = starts.partition_point(|(start, _)| *start <= at);
    starts
        .get(after.saturating_sub(1))
        .map_or(0, |(_, page)| *page)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::*;

    fn page(page: u32, text: &str) -> PageText {
        PageText {
            page,
            text: text.to_owned(),
        }
    }

    fn sentences(from: usize, count: usize) -> String {
        (from..from + count)
            .map(|n| format!("Sentence number {n} says something of its own. "))
            .collect::<Vec<_>>()
            .concat()
    }

    // P2
    #[test]
    fn chunks_fit_know_their_pages_and_lose_no_word() {
        let pages = [
            page(1, &sentences(0, 60)),
            page(2, " \n"),
            page(3, &sentences(60, 60)),
        ];
        let chunks = split(&pages, 400, 60).unwrap();
        assert!(
            chunks
                .iter()
                .all(|chunk| !chunk.text.is_empty() && chunk.text.chars().count() <= 400)
        );
        assert_eq!(
            chunks.iter().map(|chunk| chunk.ordinal).collect::<Vec<_>>(),
            (0..chunks.len() as u32).collect::<Vec<_>>()
        );
        assert_eq!((chunks[0].page_first, chunks[0].page_last), (1, 1));
        assert_eq!(
            chunks
                .last()
                .map(|chunk| (chunk.page_first, chunk.page_last)),
            Some((3, 3))
        );
        assert!(chunks.is_sorted_by_key(|chunk| chunk.page_first));
        for n in 0..120 {
            assert!(
                chunks
                    .iter()
                    .any(|chunk| chunk.text.contains(&format!("number {n} says"))),
                "{n}"
            );
        }
    }

    // P2
    #[test]
    fn a_chunk_over_a_page_break_names_both_pages() {
        let chunks = split(&[page(4, "one"), page(5, "two")], CHARS_MAX, OVERLAP_CHARS).unwrap();
        assert_eq!(chunks.len(), 1);
        assert_eq!(
            (
                chunks[0].page_first,
                chunks[0].page_last,
                chunks[0].text.as_str()
            ),
            (4, 5, "one\n\ntwo")
        );
    }

    // P2
    #[test]
    fn the_same_pages_give_the_same_chunks() {
        let pages = [page(1, &sentences(0, 200))];
        assert_eq!(
            split(&pages, CHARS_MAX, OVERLAP_CHARS),
            split(&pages, CHARS_MAX, OVERLAP_CHARS)
        );
    }

    // P4
    #[test]
    fn no_text_gives_no_chunk_and_odd_limits_give_no_panic() {
        assert_eq!(split(&[], CHARS_MAX, OVERLAP_CHARS), Ok(Vec::new()));
        assert_eq!(
            split(&[page(1, " \n\t ")], CHARS_MAX, OVERLAP_CHARS),
            Ok(Vec::new())
        );
        let chunks = split(&[page(1, "añb 漢字 👩‍👩‍👧‍👦")], 0, 9).unwrap();
        assert!(!chunks.is_empty());
    }

    // E1
    #[test]
    fn tokens_are_estimated_by_letters_words_and_signs() {
        assert_eq!(tokens_estimated(""), 0);
        assert_eq!(tokens_estimated("a b c d"), 4);
        assert_eq!(tokens_estimated("internationalisation"), 5);
        assert_eq!(tokens_estimated("漢字漢字"), 4);
    }
}
