//! What a text from outside must not bring in: secrets by their shape, control characters, and more than a bound.
//!
//! Error texts, notes and log lines of handlers, replies of servers and panics pass here once, where they enter. So what is stored,
//! logged, announced and shown is clean, whoever shows it. Recognising shapes is a second line of defence: it finds tokens that look
//! like tokens, not every secret. It does not know which text is kept where; where texts leave for a terminal is
//! [`printable`](crate::printable).

use std::{borrow::Cow, sync::LazyLock};

use regex::Regex;

/// What stands in the place of a secret.
const MARK: &str = "[redacted]";

/// So many times its bound of a text is looked at: what is redacted makes it shorter, and nobody pays for patterns over megabytes.
const LOOKED_AT: usize = 4;

/// Hardly a secret is longer, other than those that a beginning gives away.
const SECRET_BYTES: usize = 2 * 1024;

/// Shapes, and what replaces them. A first group is kept, so that a reader sees what was there.
const SHAPES: [(&str, &str); 9] = [
    // A private key in PEM, also one that was cut off.
    (
        r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
        MARK,
    ),
    // A JSON Web Token.
    (
        r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?",
        MARK,
    ),
    // Authorization schemes.
    (
        r"(?i)\b((?:bearer|basic)\s+)[a-z0-9._~+/=-]{8,}",
        "${1}[redacted]",
    ),
    // Keys with a vendor's prefix, and those of the cloud whose prefix has no separator.
    (
        r"\b(?:(?:sk|pk|rk|ms|whsec|ghp|gho|ghs|github_pat|xox[abprs]|hf|glpat)[-_][A-Za-z0-9_-]{8,}|A[KS]IA[0-9A-Z]{16})",
        MARK,
    ),
    // A quoted value may hold anything but its quote: `"password": "two words, and a comma"`.
    (
        r#"(?i)((?:passw(?:or)?d|pwd|secret|api[_-]?key|access[_-]?key|private[_-]?key|(?:access|refresh|auth|id|session)[_-]?token|authorization)\\?["']?\s*[:=]\s*\\?")[^"\\]{3,}"#,
        "${1}[redacted]",
    ),
    // `password=…`, `api_key: …` and their kin.
    (
        r#"(?i)((?:passw(?:or)?d|pwd|secret|api[_-]?key|access[_-]?key|private[_-]?key|(?:access|refresh|auth|id|session)[_-]?token|authorization)\\?["']?\s*[:=]\s*\\?["']?)[^"'\\\s,;&}\[]{3,}"#,
        "${1}[redacted]",
    ),
    // A token in the query of a URL: elsewhere the word means a piece of text.
    (r"(?i)([?&]token=)[^&\s#]{3,}", "${1}[redacted]"),
    // Name and password in the URL of a server. The password may hold what should have been encoded, so the last `@` of the word counts.
    (
        r"(?i)\b((?:postgres(?:ql)?|rediss?|mysql|amqps?|mongodb(?:\+srv)?)://)\S*@",
        "${1}[redacted]@",
    ),
    // Name and password in any other URL.
    (r"(://)[^/\s?#]+@", "${1}[redacted]@"),
];

#[expect(
    clippy::expect_used,
    reason = "the patterns are constants, and every test of this file compiles them"
)]
static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    SHAPES
        .iter()
        .map(|(shape, replacement)| {
            (
                Regex::new(shape).expect("a constant pattern compiles"),
                *replacement,
            )
        })
        .collect()
});

/// The text with everything that looks like a credential replaced by `[redacted]`.
pub fn redact(text: &str) -> String {
    let mut clean = text.to_owned();
    for (pattern, replacement) in PATTERNS.iter() {
        if let Cow::Owned(replaced) = pattern.replace_all(&clean, *replacement) {
            clean = replaced;
        }
    }
    clean
}

/// A text as it may be kept: redacted, without control characters but line ends and tabs, at most `bytes_max` bytes.
pub fn stored(text: &str, bytes_max: usize) -> String {
    let clean: String = beginning(text, bytes_max.saturating_mul(LOOKED_AT))
        .chars()
        .map(|c| {
            if c.is_control() && !matches!(c, '\n' | '\t') {
                ' '
            } else {
                c
            }
        })
        .collect();
    bounded(&redact(&clean), bytes_max)
}

/// One such line, fit for an error text: a server cannot forge log lines through it.
pub fn error_line(text: &str, bytes_max: usize) -> String {
    let line: String = stored(text, bytes_max)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    line.trim().to_owned()
}

/// At most `bytes_max` bytes of the text, cut between characters and then ended with `…`.
pub fn bounded(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..end])
}

/// The text up to a bound, without the word that the bound cuts, or the end of it: half a secret has no shape any more.
fn beginning(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let head = &text[..text.floor_char_boundary(bytes_max)];
    let word = head.rfind(char::is_whitespace).unwrap_or_default();
    &head[..word.max(head.floor_char_boundary(head.len().saturating_sub(SECRET_BYTES)))]
}

#[cfg(test)]
mod tests;
