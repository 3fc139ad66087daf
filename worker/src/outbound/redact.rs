//! What a stored text must not hold: secrets by their shape, control characters, and more than a bound.
//!
//! A reply or an error text is stored, logged and shown to people who may not see credentials, so it
//! passes here first. Recognising shapes is a second line of defence: it finds tokens that look like
//! tokens, not every secret. It does not know which text is stored where.

use regex::Regex;
use std::borrow::Cow;
use std::sync::LazyLock;

/// What stands in the place of a secret.
const MARK: &str = "[redacted]";

/// Shapes, and what replaces them. A first group is kept, so that a reader sees what was there.
const SHAPES: [(&str, &str); 6] = [
    // A private key in PEM, also one that was cut off.
    (r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)", MARK),
    // A JSON Web Token.
    (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?", MARK),
    // Authorization schemes.
    (r"(?i)\b((?:bearer|basic)\s+)[a-z0-9._~+/=-]{8,}", "${1}[redacted]"),
    // Keys with a vendor's prefix, and those of the cloud whose prefix has no separator.
    (r"\b(?:(?:sk|pk|rk|ms|whsec|ghp|gho|ghs|github_pat|xox[abprs]|hf|glpat)[-_][A-Za-z0-9_-]{8,}|A[KS]IA[0-9A-Z]{16})", MARK),
    // `password=…`, `"api_key": "…"` and their kin.
    (
        r#"(?i)((?:passw(?:or)?d|secret|api[_-]?key|access[_-]?key|(?:access|refresh|auth|id)[_-]?token|authorization)["']?\s*[:=]\s*["']?)[^"'\s,;&}\[]{3,}"#,
        "${1}[redacted]",
    ),
    // Name and password in a URL.
    (r"(://)[^/\s@?#]+@", "${1}[redacted]@"),
];

#[expect(clippy::expect_used, reason = "the patterns are constants, and every test of this file compiles them")]
static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    SHAPES.iter().map(|(shape, replacement)| (Regex::new(shape).expect("a constant pattern compiles"), *replacement)).collect()
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

/// At most `bytes_max` bytes of the text, cut between characters and then ended with `…`.
pub fn bounded(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..end])
}

/// One bounded, redacted line fit for an error text: a server cannot forge log lines through it.
pub fn error_line(text: &str, bytes_max: usize) -> String {
    let line: String = redact(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    bounded(line.trim(), bytes_max)
}

#[cfg(test)]
mod tests;
