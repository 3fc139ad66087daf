//! Whether a text looks like one: letters that make words, and not a cipher of glyph numbers.
//!
//! It only raises a doubt. Lists of codes look like ciphers too, so OCR of the page has the last word.

/// Fewer signs than this say nothing of a text.
const SIGNS_MIN: usize = 12;

/// Share of signs that no text has, from which on a text is in doubt.
const BAD_PERCENT_MAX: usize = 10;

/// Share of letters and figures, under which a text is in doubt; formulas have about half.
const LETTERS_PERCENT_MIN: usize = 40;

/// With fewer Latin letters than this their vowels are not counted.
const LATIN_LETTERS_MIN: usize = 24;

/// European languages have 30 to 50 vowels in a hundred letters; numbers of glyphs taken for letters have 5 to 17.
const VOWELS_PERCENT_MIN: usize = 18;

/// What is counted in a text.
#[derive(Default)]
struct Signs {
    all: usize,
    bad: usize,
    letters: usize,
    latin: usize,
    vowels: usize,
}

/// False if the text is more likely rubbish than words. Not normalised: control characters are a sign, too.
pub(super) fn is_legible(text: &str) -> bool {
    let mut signs = Signs::default();
    text.chars().for_each(|c| signs.count(c));
    if signs.all < SIGNS_MIN {
        return signs.bad * 2 <= signs.all;
    }
    let is_cipher = signs.latin >= LATIN_LETTERS_MIN
        && signs.latin * 100 >= signs.letters * 80
        && signs.vowels * 100 < signs.latin * VOWELS_PERCENT_MIN;
    signs.bad * 100 <= signs.all * BAD_PERCENT_MAX
        && signs.letters * 100 >= signs.all * LETTERS_PERCENT_MIN
        && !is_cipher
}

impl Signs {
    fn count(&mut self, c: char) {
        // Leaders and rules are drawn with these.
        if c.is_whitespace()
            || matches!(
                c,
                '.' | '_' | '-' | '=' | '*' | '·' | '…' | '|' | '\u{2500}'..='\u{259f}'
            )
        {
            return;
        }
        self.all += 1;
        self.bad += usize::from(is_bad(c));
        self.letters +=
            usize::from(c.is_alphanumeric() || unicode_normalization::char::is_combining_mark(c));
        self.latin += usize::from(c.is_ascii_alphabetic());
        self.vowels += usize::from(matches!(
            c.to_ascii_lowercase(),
            'a' | 'e' | 'i' | 'o' | 'u' | 'y'
        ));
    }
}

/// Private use, replacement, control: what fonts without letters give.
fn is_bad(c: char) -> bool {
    c.is_control() || matches!(c, '\u{fffd}' | '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    // X47
    #[test]
    fn words_of_many_languages_are_words() {
        for text in [
            "The quick brown fox jumps over the lazy dog, twice.",
            "Příliš žluťoučký kůň úpěl ďábelské ódy, a pak šel domů spát.",
            "Die Schifffahrtsgesellschaft schließt nächsten Dienstag.",
            "人工智能系统处理大量文档时需要准确提取每一页的文字内容",
            "الكتاب على الطاولة في الغرفة الكبيرة، قرب النافذة",
            "ข้อความภาษาไทยไม่มีช่องว่างระหว่างคำ",
            "Chapter one . . . . . . . . . . . . . . . . . . 12",
            "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
            "f(x) = sin(x) + 2x, 0 < x < 1, n = 1, 2, 3",
            "",
            "§ 1",
        ] {
            assert!(is_legible(text), "{text}");
        }
    }

    // X47
    #[test]
    fn ciphers_and_rubbish_are_not() {
        for text in [
            "7RWDODPRXQWGXHRQWKLVLQYRLFH &XVWRPHUUHIHUHQFHQXPEHU",
            "\u{e001}\u{e002}\u{e003} \u{e004}\u{e005}\u{e001}\u{e002}\u{e003}\u{e004}\u{e005} abc",
            "\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8}\u{e}\u{f}\u{10}\u{11}\u{12}",
            "!\"#$%&'()+,/:;<>?@[]^`{}~!\"#$%&'()+,/ ab",
            "\u{fffd}\u{fffd}\u{fffd}",
        ] {
            assert!(!is_legible(text), "{text}");
        }
    }
}
