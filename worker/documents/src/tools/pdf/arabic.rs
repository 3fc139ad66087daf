//! Mends Arabic ligatures that came out of a file the wrong way round.
//!
//! A ligature is one glyph with two or three letters, which the file gives in the order of reading amid glyphs that stand
//! backwards; poppler does not say which letters were one glyph. Turned with all others, they give sequences that no
//! Arabic word has. Only those are mended: within a word `لا` and `ال` are both common, and which was meant is not known.

/// What no word contains, and what was written.
const NEVER: [(&str, &str); 5] = [
    ("اهلل", "الله"),
    ("اال", "الا"),
    ("األ", "الأ"),
    ("اإل", "الإ"),
    ("اآل", "الآ"),
];

/// What no word begins with, and what was written.
const NEVER_FIRST: [(&str, &str); 2] = [("إال", "إلا"), ("أال", "ألا")];

/// What is no word, and what was written.
const NO_WORDS: [(&str, &str); 4] = [("ال", "لا"), ("وال", "ولا"), ("هلل", "لله"), ("وهلل", "ولله")];

/// The letter that all of the above have.
const LAM: char = 'ل';

pub(super) fn mend(text: &mut String) {
    if !text.contains(LAM) {
        return;
    }
    let words = text.split(' ').map(mended).collect::<Vec<_>>();
    *text = words.join(" ");
}

fn mended(word: &str) -> String {
    let bare = word.trim_matches(|c: char| !c.is_alphabetic());
    if let Some((_, right)) = NO_WORDS.iter().find(|(wrong, _)| *wrong == bare) {
        return word.replace(bare, right);
    }
    let mut word = word.to_owned();
    for (wrong, right) in NEVER {
        if word.contains(wrong) {
            word = word.replace(wrong, right);
        }
    }
    for (wrong, right) in NEVER_FIRST {
        if let Some(rest) = word.strip_prefix(wrong) {
            word = format!("{right}{rest}");
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    // X40
    #[test]
    fn ligatures_that_are_turned_are_turned_back_and_words_stay() {
        let mended = |text: &str| {
            let mut text = text.to_owned();
            mend(&mut text);
            text
        };
        assert_eq!(mended("ال إله إال اهلل،"), "لا إله إلا الله،");
        assert_eq!(
            mended("األول واإلسلام االتحاد هلل."),
            "الأول والإسلام الاتحاد لله."
        );
        let right = "السلام عليكم، قال الله إلى العالم: لا بأس (ولا سؤال) hello";
        assert_eq!(mended(right), right);
    }
}
