//! Tests of `redact`.

use super::{MARK, bounded, error_line, redact, stored};

// F64, S26
#[test]
fn secrets_are_recognised_by_their_shape() {
    let table = [
        (
            "key sk-proj-abcdefgh12345678 is wrong",
            "key [redacted] is wrong",
        ),
        (
            "Authorization: Bearer abcdef.ghijkl",
            "Authorization: [redacted] [redacted]",
        ),
        ("sent bearer abcdefghijkl", "sent bearer [redacted]"),
        (
            "jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc end",
            "jwt [redacted] end",
        ),
        ("AKIAIOSFODNN7EXAMPLE", "[redacted]"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "[redacted]"),
        (
            r#"{"password":"hunter22","n":1}"#,
            r#"{"password":"[redacted]","n":1}"#,
        ),
        ("?api_key=12345&x=1", "?api_key=[redacted]&x=1"),
        (
            r#"{"password": "two words, and more"}"#,
            r#"{"password": "[redacted]"}"#,
        ),
        (
            r#"{\"secret\":\"hunter22\"}"#,
            r#"{\"secret\":\"[redacted]\"}"#,
        ),
        ("GET /x?token=abcdef&n=1", "GET /x?token=[redacted]&n=1"),
        ("postgres://user:pass@db/x", "postgres://[redacted]@db/x"),
        (
            "at postgres://user:p@s/s#w?rd@db/x now",
            "at postgres://[redacted]@db/x now",
        ),
        ("https://user:p@ss@host/x", "https://[redacted]@host/x"),
        (
            "a -----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY----- b",
            "a [redacted] b",
        ),
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
        assert!(
            cut.len() <= bytes_max && cut.ends_with('…'),
            "{bytes_max}: {cut}"
        );
    }
}

// S35
#[test]
fn an_error_line_is_one_line() {
    assert_eq!(
        error_line(" a\r\nb\u{1b}[31mc\0 sk-abcdefgh12 ", 100),
        "a  b [31mc  [redacted]"
    );
}

// X67: wherever in a text of any length it stands, whole or cut by the bound
#[test]
fn x67_no_secret_survives_its_storage() {
    let secrets = [
        "sk-CANARYcanary1234",
        "password=CANARYcanary",
        "Bearer CANARYcanary1234",
        "postgres://u:CANARY@canary@db/x",
        "eyJCANARYcanary.CANARYcanary.CANARY",
        "-----BEGIN PRIVATE KEY-----\nCANARY\n-----END PRIVATE KEY-----",
    ];
    let fillers = [
        "",
        "a",
        "ü ",
        "\u{1b}[31m",
        "\0",
        "x\n",
        "word ",
        "\u{9b}2J",
    ];
    let mut dice = 67_u32;
    for round in 0..2_000_u32 {
        let mut text = String::new();
        let secret = secrets[round as usize % secrets.len()];
        for nth in 0..round % 40 {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.push_str(fillers[(dice >> 16) as usize % fillers.len()]);
            if nth == round % 17 {
                text = format!("{text} {secret} ");
            }
        }
        text = format!("{text} {secret}");
        let bytes_max = 8 + (dice >> 8) as usize % 200;
        let kept = stored(&text, bytes_max);
        assert!(kept.len() <= bytes_max, "{kept}");
        assert!(
            !kept.contains("CANARY"),
            "{text:?} at {bytes_max}: {kept:?}"
        );
        assert!(
            !kept
                .chars()
                .any(|c| c.is_control() && !matches!(c, '\n' | '\t')),
            "{kept:?}"
        );
        assert_eq!(
            stored(&kept, bytes_max),
            kept,
            "storing twice changes nothing"
        );
    }
    assert!(stored(&format!("{} sk-CANARYcanary1234", "x".repeat(5)), 4_096).ends_with(MARK));
}
