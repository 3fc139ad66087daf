//! Decides which line ends belong to the page and not to the text.

/// Shorter lines end where their author ended them: headings, addresses, list items.
const PROSE_CHARS_MIN: usize = 40;

/// Running text is letters and spaces; rows of tables have figures and signs.
const PROSE_LETTERS_PERCENT_MIN: usize = 85;

/// Joins the lines of running text with a space; paragraphs are parted by one empty line.
pub(super) fn join_paragraphs(lines: &[String]) -> String {
    let mut text = String::new();
    let mut last: Option<&str> = None;
    for line in lines.iter().map(String::as_str) {
        if line.is_empty() {
            last = None;
            continue;
        }
        let separator = match last {
            None => "\n\n",
            Some(last) if goes_on(last, line) => " ",
            Some(_) => "\n",
        };
        if !text.is_empty() {
            text.push_str(separator);
        }
        text.push_str(line);
        last = Some(line);
    }
    text
}

/// Whether the text of `line` goes on in `next`: after a full line of running text comes more running text, the rest
/// of a sentence in lower case, or the rest of an unfinished one.
fn goes_on(line: &str, next: &str) -> bool {
    is_prose(line) && !next.contains('\t') && !is_item(next) && {
        is_prose(next) || next.starts_with(char::is_lowercase) || (!ends_a_sentence(line) && is_lettered(next))
    }
}

fn is_prose(line: &str) -> bool {
    line.chars().count() >= PROSE_CHARS_MIN && !line.contains('\t') && is_lettered(line)
}

fn is_lettered(line: &str) -> bool {
    let all = line.chars().count();
    let letters = line.chars().filter(|c| c.is_alphabetic() || *c == ' ').count();
    letters * 100 >= all * PROSE_LETTERS_PERCENT_MIN
}

fn ends_a_sentence(line: &str) -> bool {
    line.trim_end_matches(['"', '”', '»', '’', ')']).ends_with(['.', '!', '?', ':', ';'])
}

/// Begins with a bullet or a number: `• x`, `- x`, `3. x`, `b) x`.
fn is_item(line: &str) -> bool {
    let first = line.split(' ').next().unwrap_or(line);
    let is_numbered = first.len() <= 4 && first.ends_with(['.', ')']) && first != line;
    matches!(first, "•" | "-" | "–" | "*" | "·" | "▪" | "◦" | "‣")
        || (is_numbered && first.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '('))
}
