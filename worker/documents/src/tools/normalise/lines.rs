//! Decides which line ends belong to the page and not to the text, and whether a space stands in their place.

use super::super::script::{is_dense, is_unspaced, is_wide};

/// Shorter lines end where their author ended them: headings, addresses, list items. In columns, of which a letter of
/// Han, Kana or Hangul takes two.
const PROSE_COLUMNS_MIN: usize = 40;

/// Running text is letters and spaces; rows of tables have figures and signs.
const PROSE_LETTERS_PERCENT_MIN: usize = 85;

/// Shorter lines of Han or Kana are items of a list: even the columns of a newspaper have ten letters.
const DENSE_COLUMNS_MIN: usize = 20;

/// A line of Han or Kana goes on if it is nearly as long as the longest of its paragraph; what is shorter is its last one.
const DENSE_FULL_PERCENT_MIN: usize = 80;

/// How two lines are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joint {
    /// One text that parts its words.
    Space,
    /// One text that does not.
    Nothing,
    /// Two lines.
    Line,
    /// Two paragraphs.
    Paragraph,
}

/// Joins the lines of running text; paragraphs are parted by one empty line.
pub(super) fn join_paragraphs(lines: &[String]) -> String {
    let mut text = String::new();
    for paragraph in lines.split(String::is_empty) {
        let longest = paragraph
            .iter()
            .map(|line| columns(line))
            .max()
            .unwrap_or(0);
        let mut before = Joint::Paragraph;
        let mut last: Option<&str> = None;
        for line in paragraph.iter().map(String::as_str) {
            let joint = last.map_or(Joint::Paragraph, |last| joint(last, line, longest, before));
            if !text.is_empty() {
                text.push_str(match joint {
                    Joint::Space => " ",
                    Joint::Nothing => "",
                    Joint::Line => "\n",
                    Joint::Paragraph => "\n\n",
                });
            }
            text.push_str(line);
            (before, last) = (joint, Some(line));
        }
    }
    text
}

fn joint(line: &str, next: &str, longest: usize, before: Joint) -> Joint {
    if are_dense(line, next) {
        if goes_on_densely(line, next, longest) {
            return Joint::Nothing;
        }
        // The end of a joined paragraph: told apart from the next one, which a second look would else join too.
        return if before == Joint::Nothing {
            Joint::Paragraph
        } else {
            Joint::Line
        };
    }
    match goes_on(line, next) {
        true if line.ends_with(is_unspaced) && next.starts_with(is_unspaced) => Joint::Nothing,
        true => Joint::Space,
        false => Joint::Line,
    }
}

/// Whether the text of `line` goes on in `next`: after a full line of running text comes more running text, the rest
/// of a sentence in lower case, or the rest of an unfinished one.
fn goes_on(line: &str, next: &str) -> bool {
    is_prose(line) && !next.contains('\t') && !is_item(next) && {
        is_prose(next)
            || next.starts_with(char::is_lowercase)
            || (!ends_a_sentence(line) && is_lettered(next))
    }
}

/// Both sides of the line end are Han, Kana or their punctuation, which is composed to that of Latin.
fn are_dense(line: &str, next: &str) -> bool {
    let is_sign =
        |c: char| c.is_ascii_punctuation() || matches!(c, '“' | '”' | '‘' | '’' | '…' | '—');
    line.trim_end_matches(is_sign).ends_with(is_dense)
        && next.trim_start_matches(is_sign).starts_with(is_dense)
}

fn goes_on_densely(line: &str, next: &str, longest: usize) -> bool {
    let columns = columns(line);
    columns >= DENSE_COLUMNS_MIN
        && columns * 100 >= longest * DENSE_FULL_PERCENT_MIN
        && !line.contains('\t')
        && !next.contains('\t')
        && !is_item(next)
}

fn columns(line: &str) -> usize {
    line.chars().map(|c| if is_wide(c) { 2 } else { 1 }).sum()
}

fn is_prose(line: &str) -> bool {
    columns(line) >= PROSE_COLUMNS_MIN && !line.contains('\t') && is_lettered(line)
}

fn is_lettered(line: &str) -> bool {
    let all = line.chars().count();
    let letters = line
        .chars()
        .filter(|c| c.is_alphabetic() || *c == ' ' || is_unspaced(*c))
        .count();
    letters * 100 >= all * PROSE_LETTERS_PERCENT_MIN
}

fn ends_a_sentence(line: &str) -> bool {
    line.trim_end_matches(['"', '”', '»', '’', ')'])
        .ends_with(['.', '!', '?', ':', ';', '؟', '۔'])
}

/// Begins with a bullet or a number: `• x`, `- x`, `3. x`, `b) x`.
fn is_item(line: &str) -> bool {
    let first = line.split(' ').next().unwrap_or(line);
    let is_numbered = first.len() <= 4 && first.ends_with(['.', ')']) && first != line;
    matches!(first, "•" | "-" | "–" | "*" | "·" | "▪" | "◦" | "‣")
        || (is_numbered && first.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '('))
}
