//! Text as a PDF page wants it: how wide Helvetica is, where a line must break, and how a string is written down.
//!
//! Only the regular face is measured; bold is a little wider, which matters to nobody who does not set it in columns.

use std::fmt::Write;

/// Advance widths of the characters from space to tilde, in thousandths of the size (Adobe's metrics of Helvetica).
const WIDTHS: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, // space to /
    556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, // 0 to ?
    1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778, // @ to O
    667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, // P to _
    333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, // ` to o
    556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584, // p to ~
];
/// Of the letters beyond ASCII that the samples use.
const OTHER_WIDTH: u16 = 556;

/// Marks where a word may be broken; it is not printed itself.
const SOFT_HYPHEN: char = '\u{ad}';

/// Width of a text in points.
pub(super) fn width(text: &str, size: f32) -> f32 {
    let thousandths: u32 = text.chars().map(|c| u32::from(advance(c))).sum();
    thousandths as f32 / 1000.0 * size
}

/// Breaks a text into lines that fit, between words and at soft hyphens.
pub(super) fn lines(text: &str, width_max: f32, size: f32) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let mut glue = if line.is_empty() { "" } else { " " };
        let mut parts = word.split(SOFT_HYPHEN).peekable();
        while let Some(part) = parts.next() {
            // Room is kept for the hyphen that the next part would need if it did not fit.
            let hyphen = if parts.peek().is_some() { "-" } else { "" };
            if width(&format!("{line}{glue}{part}{hyphen}"), size) > width_max && !line.is_empty() {
                if glue.is_empty() {
                    line.push('-');
                }
                lines.push(std::mem::take(&mut line));
                glue = "";
            }
            line.push_str(glue);
            line.push_str(part);
            glue = "";
        }
    }
    lines.push(line);
    lines
}

/// A PDF string in `WinAnsiEncoding`, which is Latin-1 with a few more signs, the euro among them.
pub(super) fn literal(text: &str) -> String {
    let mut literal = String::from("(");
    for c in text.chars() {
        match c {
            '(' | ')' | '\\' => literal.extend(['\\', c]),
            ' '..='~' => literal.push(c),
            '€' => literal.push_str("\\200"),
            '–' => literal.push_str("\\226"),
            '\u{a0}'..='\u{ff}' => put_octal(&mut literal, c),
            // The samples have no others; a text that gains one shows where.
            _ => literal.push('?'),
        }
    }
    literal.push(')');
    literal
}

fn put_octal(literal: &mut String, c: char) {
    // Writing to a string cannot fail.
    let _ = write!(literal, "\\{:03o}", u32::from(c));
}

fn advance(c: char) -> u16 {
    let index = u32::from(c).wrapping_sub(u32::from(' ')) as usize;
    WIDTHS.get(index).copied().unwrap_or(OTHER_WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_lose_no_word() {
        let text = "The miller opens the sluice and the water turns the wheel that turns the stone";
        let lines = lines(text, 90.0, 10.0);
        assert!(lines.len() > 2 && lines.iter().all(|line| width(line, 10.0) <= 90.0), "{lines:?}");
        assert_eq!(lines.join(" "), text);
    }

    #[test]
    fn a_word_breaks_with_a_hyphen_only_where_it_may_and_must() {
        assert_eq!(lines("water\u{ad}wheel", 200.0, 10.0), ["waterwheel"]);
        assert_eq!(lines("the water\u{ad}wheel", 50.0, 10.0), ["the water-", "wheel"]);
    }

    #[test]
    fn strings_are_escaped_and_encoded() {
        assert_eq!(literal("a (b) \\ é 5 €"), "(a \\(b\\) \\\\ \\351 5 \\200)");
    }
}
