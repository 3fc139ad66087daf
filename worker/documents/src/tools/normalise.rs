//! Makes extracted text fit for search, for models and for Postgres, without changing what it says.
//!
//! Letters are composed and ligatures resolved (NFKC), words divided at the end of a line are joined, lines of running
//! text are joined to paragraphs, and what nobody can see is dropped. Lines that are not running text (tables, lists,
//! addresses) stay lines, because later stages read products from them.
//!
//! Invariants: the result holds no NUL and no control characters but newline and tab; normalising twice is the same
//! as once; the work grows with the length of the text.

use std::collections::HashSet;

use unicode_normalization::UnicodeNormalization;

mod lines;
mod numbers;

/// `text` cleaned: paragraphs are parted by an empty line, cells of a table row by a tab.
pub fn normalise(text: &str) -> String {
    let visible = visible(text);
    let lines = visible.lines().map(collapse).collect::<Vec<_>>();
    let joined = join_divided_words(&numbers::without_those_in_words(&lines));
    lines::join_paragraphs(&joined)
}

/// Composed letters, one kind of line end, and nothing that cannot be seen.
fn visible(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    let mut visible = String::with_capacity(text.len());
    // A soft hyphen matters at the end of a line only, where it says that a word was divided.
    let text = text.replace("\u{ad}\n", "\u{2010}\n").replace('\u{ad}', "");
    for c in text.nfkc() {
        match c {
            '\n' | '\t' => visible.push(c),
            '\r' | '\u{85}' | '\u{2028}' => visible.push('\n'),
            '\u{b}' | '\u{c}' | '\u{2029}' => visible.push_str("\n\n"),
            // After NFKC the non-breaking hyphen is this one too.
            '\u{2010}' => visible.push('-'),
            _ if c.is_control() || is_invisible(c) => {}
            _ => visible.push(c),
        }
    }
    visible
}

/// Zero-width spaces, byte order marks, direction marks and non-characters. The joiners U+200C and U+200D stay: they
/// decide how Persian and Indic words are written.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{ad}' | '\u{fff9}'..='\u{fffb}' | '\u{fdd0}'..='\u{fdef}')
        || (c as u32) & 0xfffe == 0xfffe
}

/// Runs of white space become one space, or one tab if a tab is among them.
fn collapse(line: &str) -> String {
    let mut collapsed = String::with_capacity(line.len());
    let mut gap = None;
    for c in line.trim().chars() {
        if c.is_whitespace() {
            gap = Some(if c == '\t' || gap == Some('\t') {
                '\t'
            } else {
                ' '
            });
        } else {
            collapsed.extend(gap.take());
            collapsed.push(c);
        }
    }
    collapsed
}

/// Joins a word that is divided at the end of a line. The rest of the next line moves up with it.
fn join_divided_words(lines: &[String]) -> Vec<String> {
    let compounds = compounds(lines);
    let mut joined: Vec<String> = Vec::with_capacity(lines.len());
    for line in lines {
        match joined
            .last_mut()
            .and_then(|last| division(last, line, &compounds).map(|ending| (last, ending)))
        {
            Some((last, Ending::Dropped)) => {
                last.pop();
                last.push_str(line);
            }
            Some((last, Ending::Kept)) => last.push_str(line),
            Some((last, Ending::Spaced)) => {
                last.push(' ');
                last.push_str(line);
            }
            None => joined.push(line.clone()),
        }
    }
    joined
}

/// What becomes of the hyphen at the end of a line, if the next line goes on with the same word.
enum Ending {
    /// `informa-` + `tion`.
    Dropped,
    /// `well-` + `known`, if the text writes `well-known` elsewhere.
    Kept,
    /// `Ein-` + `und Ausgang`: the hyphen stands for what follows.
    Spaced,
}

/// Words after which a hyphen at a line's end is no division but a suspended compound.
const AFTER_SUSPENDED: [&str; 10] = [
    "und", "oder", "bzw.", "and", "or", "et", "ou", "y", "o", "e",
];

fn division(line: &str, next: &str, compounds: &HashSet<String>) -> Option<Ending> {
    let stem = line.strip_suffix('-')?;
    let head = stem
        .rsplit(|c: char| !c.is_alphabetic())
        .next()
        .filter(|head| !head.is_empty())?;
    let tail = next
        .split(|c: char| !c.is_alphabetic())
        .next()
        .filter(|tail| !tail.is_empty())?;
    if !tail.starts_with(char::is_lowercase) || stem.ends_with('-') {
        return None;
    }
    if AFTER_SUSPENDED.contains(&next.split(' ').next().unwrap_or(tail)) {
        return Some(Ending::Spaced);
    }
    let compound = format!("{head}-{tail}").to_lowercase();
    Some(if compounds.contains(&compound) {
        Ending::Kept
    } else {
        Ending::Dropped
    })
}

/// The words with a hyphen inside a line, in lower case: hyphens that the author wrote.
fn compounds(lines: &[String]) -> HashSet<String> {
    let words = lines
        .iter()
        .flat_map(|line| line.split(|c: char| !c.is_alphabetic() && c != '-'));
    words
        .filter(|word| word.trim_matches('-').contains('-'))
        .map(|word| word.trim_matches('-').to_lowercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // P3
    #[test]
    fn divided_words_are_joined_and_real_hyphens_kept() {
        assert_eq!(normalise("informa-\ntion"), "information");
        assert_eq!(normalise("a well-known fact"), "a well-known fact");
        assert_eq!(
            normalise("the well-known and the well-\nknown"),
            "the well-known and the well-known"
        );
        assert_eq!(normalise("infor\u{ad}ma\u{ad}\ntion"), "information");
        assert_eq!(normalise("Ein-\nund Ausgang"), "Ein- und Ausgang");
        assert_eq!(normalise("pages 3-\n4"), "pages 3-\n4");
        assert_eq!(normalise("Baden-\nBaden"), "Baden-\nBaden");
        assert_eq!(normalise("adip\u{2010}\niscing elit"), "adipiscing elit");
    }

    // P3
    #[test]
    fn ligatures_and_compositions_are_resolved() {
        assert_eq!(
            normalise("e\u{fb03}cient o\u{fb00}er, u\u{308}ber \u{1d400}"),
            "efficient offer, über A"
        );
    }

    // P4
    #[test]
    fn nothing_that_postgres_cannot_hold_is_left() {
        let text = normalise("a\0b\u{1}c\u{feff}\u{200b}\u{202e}d\x1b[0m\u{fffe}\u{c}next");
        assert_eq!(text, "abcd[0m\n\nnext");
    }

    // P3
    #[test]
    fn white_space_is_collapsed_and_cells_stay_apart() {
        assert_eq!(
            normalise("  a  \u{a0} b \t c\r\n\r\n\r\n \n d\r"),
            "a b\tc\n\nd"
        );
        assert_eq!(normalise(" \n\t\n"), "");
    }

    // P3
    #[test]
    fn the_lines_of_a_paragraph_become_one_and_table_rows_stay() {
        let prose = "This text should show what a printed text will look like at this place. If you\n\
                     read this text, you will get no information. Really? Is there no information?\n\
                     Is there a difference between this text and some nonsense like that?";
        assert_eq!(normalise(prose), prose.replace('\n', " "));
        let table =
            "Steel bolt M8 x 40 zinc plated, box of one hundred\t12.50 EUR\nNut M8\t3.10 EUR";
        assert_eq!(normalise(table), table);
        let address = "Jane Doe\n12 Long Street\nLondon";
        assert_eq!(normalise(address), address);
    }

    // X46
    #[test]
    fn lines_of_han_and_kana_join_without_a_space_and_those_of_hangul_with_one() {
        let han = "人工智能系统处理大量文档时需要准确提取\n每一页的文字内容，并且按照阅读顺序排列\n才能支持。";
        assert_eq!(normalise(han), han.replace('\n', "").replace('，', ","));
        let kana =
            "カタカナとひらがなを読みます。これは日本語\nの文章で、行の終わりに空白はありません。";
        assert_eq!(normalise(kana), kana.replace('\n', ""));
        let hangul =
            "인공지능 시스템은 많은 문서를 처리할 때 각\n페이지의 내용을 정확하게 추출해야 합니다";
        assert_eq!(normalise(hangul), hangul.replace('\n', " "));
        let thai = "ข้อความภาษาไทยไม่มีช่องว่างระหว่างคำในประโยคเดียวกัน\nและขึ้นบรรทัดใหม่ได้ทุกที่";
        assert_eq!(
            normalise(thai),
            thai.replace('\n', "").nfkc().collect::<String>()
        );
    }

    // X46
    #[test]
    fn lists_and_paragraphs_of_han_stay_apart() {
        let list = "苹果\n香蕉\n橙子";
        assert_eq!(normalise(list), list);
        let full = "人工智能系统处理大量文档时需要准确提取";
        let two = format!("{full}\n每一页。\n{full}\n才能支持。");
        assert_eq!(
            normalise(&two),
            format!("{full}每一页。\n\n{full}才能支持。")
        );
        assert_eq!(normalise(&normalise(&two)), normalise(&two));
    }

    // X46
    #[test]
    fn no_break_is_put_into_a_sentence_of_han_however_long_the_lines_are() {
        let text = "人工智能系统处理大量文档时需要准确提取每一页的文字内容并且按照阅读顺序排列才能支持后续检索".chars().collect::<Vec<_>>();
        for length in 10..=text.len() {
            let lines = text
                .chunks(length)
                .map(|line| line.iter().collect::<String>())
                .collect::<Vec<_>>();
            assert_eq!(
                normalise(&lines.join("\n")),
                text.iter().collect::<String>(),
                "{length}"
            );
        }
    }

    // P3
    #[test]
    fn normalising_twice_is_the_same_as_once() {
        let text = "A well-known ex-\nample of a very long line that ends in the mid-\ndle of a word and goes on and on\n\
                    until it ends here.\n\n\n-\n--\nx-\n\ny\u{ad}\n\u{fb01}\u{ad}-\nz";
        let once = normalise(text);
        assert_eq!(normalise(&once), once);
    }
}
