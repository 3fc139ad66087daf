//! Where text leaves for a terminal: characters that move its cursor, colour it, or turn the order of what is read become visible.
//!
//! Whatever comes from outside (names, errors, payloads) passes here on its way out, also what is stored as it was given. It does not
//! know secrets: those are kept out where text enters ([`redact`](crate::redact)).

use std::fmt::Write;

/// Whether a terminal acts on the character, or shows nothing where it stands: control characters, the marks that turn the direction of
/// text, separators of lines, and the invisible tags.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text on one line: line ends and tabs are spaces, other hidden characters stand as `\u{202e}`.
pub fn printable(text: &str) -> String {
    shown(text, |_| false)
}

/// The same with its line ends.
pub fn printable_lines(text: &str) -> String {
    shown(text, |c| c == '\n')
}

/// JSON in which hidden characters stand as `\u202e`, which means the same. Line ends between its parts become spaces.
pub fn printable_json(json: &str) -> String {
    escaped(json, |out, c| match c {
        '\n' | '\r' | '\t' => out.push(' '),
        c => c
            .encode_utf16(&mut [0; 2])
            .iter()
            .for_each(|unit| _ = write!(out, "\\u{unit:04x}")),
    })
}

fn shown(text: &str, kept: fn(char) -> bool) -> String {
    escaped(text, |out, c| match c {
        c if kept(c) => out.push(c),
        '\n' | '\r' | '\t' => out.push(' '),
        c => _ = write!(out, "\\u{{{:x}}}", u32::from(c)),
    })
}

fn escaped(text: &str, escape: impl Fn(&mut String, char)) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            escape(&mut out, c);
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    // X72
    #[test]
    fn hidden_characters_are_shown_and_all_others_left() {
        let table = [
            ("a\u{202e}b", "a\\u{202e}b"),
            ("\u{1b}[2Jx\ny", "\\u{1b}[2Jx y"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\u{2066}b\u{2069}", "a\\u{2066}b\\u{2069}"),
            ("a\u{e0041}", "a\\u{e0041}"),
            (
                "שלום عربي 漢字 é — 👩\u{200d}👧",
                "שלום عربي 漢字 é — 👩\u{200d}👧",
            ),
        ];
        for (text, told) in table {
            assert_eq!(printable(text), told);
            assert_eq!(printable(told), told, "what is shown stays as it is");
        }
        assert_eq!(printable_lines("a\u{202e}\nb"), "a\\u{202e}\nb");
    }

    // X72
    #[test]
    fn json_means_the_same_when_it_is_shown() {
        let all: String = (0..=0x000e_00ff_u32)
            .filter_map(char::from_u32)
            .filter(|c| is_hidden(*c))
            .collect();
        let json = format!(
            "{{\"a\":\n {}}}",
            serde_json::to_string(&all).unwrap_or_default()
        );
        let told = printable_json(&json);
        assert!(!told.chars().any(is_hidden), "{told}");
        let read: serde_json::Value = serde_json::from_str(&told).unwrap_or_default();
        assert_eq!(read["a"].as_str(), Some(all.as_str()));
    }
}
