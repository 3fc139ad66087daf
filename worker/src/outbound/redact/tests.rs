//! Tests of `redact`.

use super::{bounded, error_line, redact};

// F64, S26
#[test]
fn secrets_are_recognised_by_their_shape() {
    let table = [
        ("key sk-proj-abcdefgh12345678 is wrong", "key [redacted] is wrong"),
        ("Authorization: Bearer abcdef.ghijkl", "Authorization: [redacted] [redacted]"),
        ("sent bearer abcdefghijkl", "sent bearer [redacted]"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc end", "jwt [redacted] end"),
        ("AKIAIOSFODNN7EXAMPLE", "[redacted]"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "[redacted]"),
        (r#"{"password":"hunter22","n":1}"#, r#"{"password":"[redacted]","n":1}"#),
        ("?api_key=12345&x=1", "?api_key=[redacted]&x=1"),
        ("postgres://user:pass@db/x", "postgres://[redacted]@db/x"),
        ("a -----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY----- b", "a [redacted] b"),
        ("-----BEGIN PRIVATE KEY-----\nMII", "[redacted]"),
    ];
    for (text, clean) in table {
        assert_eq!(redact(text), clean);
        assert_eq!(redact(clean), clean, "redacting twice changes nothing");
    }
}

#[test]
fn ordinary_text_is_left_alone() {
    for text in [
        "",
        "the token limit is 8192 tokens",
        "https://example.com/a@b?c=d",
        "ask-me-anything-now, basic idea",
        r#"{"usage":{"total_tokens":12}}"#,
    ] {
        assert_eq!(redact(text), text);
    }
}

// S26
#[test]
fn texts_are_cut_between_characters_within_their_bound() {
    assert_eq!(bounded("abc", 3), "abc");
    assert_eq!(bounded("abcdef", 5), "ab…");
    for bytes_max in 3..12 {
        let cut = bounded("äöüäöüäöü", bytes_max);
        assert!(cut.len() <= bytes_max && cut.ends_with('…'), "{bytes_max}: {cut}");
    }
}

// S35
#[test]
fn an_error_line_is_one_line() {
    assert_eq!(error_line(" a\r\nb\u{1b}[31mc\0 sk-abcdefgh12 ", 100), "a  b [31mc  [redacted]");
}
