//! Pages whose text may be rubbish: OCR of the page has the last word.

use std::collections::{BTreeMap, HashSet};

use super::{is_sure, letters};
use crate::{
    payload::PAGE_POSITION,
    store::{ImageText, Judged},
    tools::{Note, PageText, note::code},
};

/// Shorter words are in every text by chance.
const WORD_CHARS_MIN: usize = 4;

/// Words of a text that are looked for, from its beginning: each costs a pass over all that OCR has read.
const WORDS_MAX: usize = 500;

/// Share of the words of a text that OCR has read too, from which on the text is right.
const SAME_WORDS_PERCENT_MIN: usize = 30;

/// Settles the text of the doubted pages, in place, and says what became of each.
pub(super) fn judge(
    pages: &mut [PageText],
    images: &[ImageText],
    doubted: &[u32],
) -> (Vec<Judged>, Vec<Note>) {
    let drawn = images
        .iter()
        .filter(|image| image.position == PAGE_POSITION && is_sure(image));
    let drawn = drawn
        .map(|image| (image.page as u32, image.text.as_str()))
        .collect::<BTreeMap<_, _>>();
    let (mut judged, mut notes) = (Vec::new(), Vec::new());
    for page in pages.iter_mut().filter(|page| doubted.contains(&page.page)) {
        let seen = drawn
            .get(&page.page)
            .copied()
            .filter(|seen| !letters(seen).is_empty());
        let is_replaced = seen.is_some_and(|seen| !agree(&page.text, seen));
        if let Some(seen) = seen.filter(|_| is_replaced) {
            seen.clone_into(&mut page.text);
            let message =
                "the text in the file is not that which the page shows, so it was read by OCR";
            notes.push(Note::page(page.page, code::TEXT_UNREADABLE, message));
        } else if seen.is_none() {
            let message =
                "its text does not look like words, and OCR of the page could not read any";
            notes.push(Note::page(page.page, code::TEXT_DOUBTFUL, message));
        }
        judged.push(Judged {
            page: page.page,
            text: page.text.clone(),
            is_by_ocr: is_replaced,
        });
    }
    (judged, notes)
}

/// Whether two readings are of one text: OCR has read some of the words.
fn agree(own: &str, seen: &str) -> bool {
    let words = own
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.chars().count() >= WORD_CHARS_MIN)
        .map(letters);
    let mut known = HashSet::new();
    let words = words
        .filter(|word| known.insert(word.clone()))
        .take(WORDS_MAX)
        .collect::<Vec<_>>();
    let seen = letters(seen);
    let same = words
        .iter()
        .filter(|word| seen.contains(word.as_str()))
        .count();
    same > 0 && same * 100 >= words.len() * SAME_WORDS_PERCENT_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(page: i32, text: &str, confidence: f32) -> ImageText {
        ImageText {
            page,
            position: PAGE_POSITION,
            text: text.to_owned(),
            confidence: Some(confidence),
        }
    }

    // X47
    #[test]
    fn ocr_decides_whether_a_doubted_text_is_the_one_that_the_page_shows() {
        let page = |page: u32, text: &str| PageText {
            page,
            text: text.to_owned(),
        };
        let mut pages = [
            page(1, "7RWDO DPRXQW"),
            page(2, "XKCD-4711 QRST-0815"),
            page(3, "7RWDO"),
            page(4, "never doubted"),
        ];
        let images = [
            seen(1, "Total amount", 90.0),
            seen(2, "XKCD-4711\nQRST-O8I5", 90.0),
            seen(3, "~;l", 20.0),
            seen(4, "other", 90.0),
        ];
        let (judged, notes) = judge(&mut pages, &images, &[1, 2, 3]);
        assert_eq!(
            pages.each_ref().map(|page| page.text.as_str()),
            [
                "Total amount",
                "XKCD-4711 QRST-0815",
                "7RWDO",
                "never doubted"
            ]
        );
        assert_eq!(
            judged
                .iter()
                .map(|judged| (judged.page, judged.is_by_ocr))
                .collect::<Vec<_>>(),
            [(1, true), (2, false), (3, false)]
        );
        assert_eq!(
            notes
                .iter()
                .map(|note| (note.page, note.code))
                .collect::<Vec<_>>(),
            [
                (Some(1), code::TEXT_UNREADABLE),
                (Some(3), code::TEXT_DOUBTFUL)
            ]
        );
    }

    // X47
    #[test]
    fn a_text_of_many_words_is_judged_by_its_first_ones() {
        let of = |word: &str, count: usize| {
            (0..count)
                .map(|n| format!("{word}{n:04} "))
                .collect::<Vec<_>>()
                .concat()
        };
        let seen = of("alike", WORDS_MAX);
        assert!(agree(
            &(of("alike", WORDS_MAX) + &of("other", 9 * WORDS_MAX)),
            &seen
        ));
        assert!(!agree(
            &(of("other", WORDS_MAX) + &of("alike", 9 * WORDS_MAX)),
            &seen
        ));
    }
}
