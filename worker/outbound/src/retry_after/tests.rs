//! Tests of `retry_after`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use super::{is_quota_exhausted, retry_after};
use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use std::time::Duration;

/// The instant of the example date in RFC 9110, less 30 seconds.
fn now() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("1994-11-06T08:49:07Z")
        .unwrap()
        .to_utc()
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
        })
        .collect()
}

type Pairs = &'static [(&'static str, &'static str)];

fn wait_ms(status: u16, pairs: &[(&str, &str)]) -> Option<u128> {
    retry_after(status, &headers(pairs), None, now()).map(|wait| wait.as_millis())
}

// F24
#[test]
fn retry_after_is_read_in_every_form_seen_in_the_wild() {
    let table: [(&str, Option<u128>); 24] = [
        ("1", Some(1_000)),
        (" 120 ", Some(120_000)),
        ("1.5", Some(1_500)),
        ("0.25", Some(250)),
        (".5", Some(500)),
        ("3600", Some(3_600_000)),
        ("3601", Some(3_600_000)),
        ("99999999999999999999999999", Some(3_600_000)),
        ("0", None),
        ("0.0", None),
        ("-1", None),
        ("", None),
        (".", None),
        ("inf", None),
        ("nan", None),
        ("1e3", None),
        ("soon", None),
        ("\u{e9}", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30_000)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", Some(30_000)),
        ("Sun Nov  6 08:49:37 1994", Some(30_000)),
        ("Mon, 07 Nov 1994 08:49:37 GMT", Some(3_600_000)),
        ("Sun, 06 Nov 1994 08:49:07 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
    ];
    for (value, expected) in table {
        for status in [429, 503] {
            assert_eq!(
                wait_ms(status, &[("retry-after", value)]),
                expected,
                "{value:?}"
            );
        }
    }
}

// F24
#[test]
fn provider_headers_are_read_on_429() {
    let table: [(Pairs, Option<u128>); 18] = [
        (&[("retry-after-ms", "1250")], Some(1_250)),
        (
            &[("retry-after-ms", "0"), ("retry-after", "2")],
            Some(2_000),
        ),
        (&[("retry-after-ms", "10"), ("retry-after", "1")], Some(10)),
        (&[("x-ratelimit-reset-requests", "12ms")], Some(12)),
        (&[("x-ratelimit-reset-requests", "1s")], Some(1_000)),
        (&[("x-ratelimit-reset-tokens", "6m0s")], Some(360_000)),
        (&[("x-ratelimit-reset-tokens", "1h2m3.5s")], Some(3_600_000)),
        (&[("x-ratelimit-reset-tokens", "59")], Some(59_000)),
        (&[("x-ratelimit-reset-tokens", "-1")], None),
        (&[("x-ratelimit-reset-tokens", "0s")], None),
        (&[("x-ratelimit-reset-tokens", "6 minutes")], None),
        (
            &[
                ("x-ratelimit-reset-requests", "1s"),
                ("x-ratelimit-reset-tokens", "9s"),
            ],
            Some(9_000),
        ),
        (
            &[
                ("x-ratelimit-reset-requests", "1s"),
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-tokens", "9s"),
                ("x-ratelimit-remaining-tokens", "500"),
            ],
            Some(1_000),
        ),
        (
            &[
                ("x-ratelimit-limit-requests", "-1"),
                ("x-ratelimit-reset-requests", "50"),
                ("x-ratelimit-limit-tokens", "1000"),
                ("x-ratelimit-reset-tokens", "20"),
            ],
            Some(20_000),
        ),
        (
            &[("anthropic-ratelimit-requests-reset", "1994-11-06T08:49:37Z")],
            Some(30_000),
        ),
        (
            &[
                ("anthropic-ratelimit-requests-reset", "1994-11-06T08:50:07Z"),
                (
                    "anthropic-ratelimit-input-tokens-reset",
                    "1994-11-06T09:49:17+01:00",
                ),
                ("anthropic-ratelimit-input-tokens-remaining", "0"),
            ],
            Some(10_000),
        ),
        (
            &[("anthropic-ratelimit-tokens-reset", "1994-11-06T08:00:00Z")],
            None,
        ),
        (
            &[("retry-after", "3"), ("x-ratelimit-reset-tokens", "50s")],
            Some(3_000),
        ),
    ];
    for (pairs, expected) in table {
        assert_eq!(wait_ms(429, pairs), expected, "{pairs:?}");
    }
}

// F24
#[test]
fn quota_headers_mean_nothing_on_503_and_no_header_does_on_other_answers() {
    assert_eq!(wait_ms(503, &[("x-ratelimit-reset-tokens", "50s")]), None);
    for status in [200, 302, 400, 408, 500, 529] {
        assert_eq!(wait_ms(status, &[("retry-after", "5")]), None, "{status}");
    }
}

fn gemini(delay: &str) -> Value {
    json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
    ]}})
}

// F24
#[test]
fn the_retry_info_of_a_gemini_body_is_read() {
    let wait = |body: &Value| retry_after(429, &HeaderMap::new(), Some(body), now());
    assert_eq!(wait(&gemini("34s")), Some(Duration::from_secs(34)));
    assert_eq!(
        wait(&gemini("34.074824224s")),
        Some(Duration::from_nanos(34_074_824_224))
    );
    assert_eq!(wait(&json!([gemini("2s")])), Some(Duration::from_secs(2)));
    assert_eq!(wait(&gemini("0s")), None);
    assert_eq!(wait(&gemini("-3s")), None);
    for body in [
        json!(null),
        json!([]),
        json!("x"),
        json!({"error": "x"}),
        json!({"error": {"details": 3}}),
    ] {
        assert_eq!(wait(&body), None, "{body}");
    }
}

// F24: `insufficient_quota` is permanent
#[test]
fn an_account_without_money_is_told_from_a_rate_limit() {
    let body = |field: &str, value: &str| json!({"error": {field: value, "message": "m"}});
    assert!(is_quota_exhausted(Some(&body(
        "code",
        "insufficient_quota"
    ))));
    assert!(is_quota_exhausted(Some(&body(
        "type",
        "insufficient_quota"
    ))));
    assert!(!is_quota_exhausted(Some(&body(
        "code",
        "rate_limit_exceeded"
    ))));
    assert!(!is_quota_exhausted(Some(&body(
        "message",
        "insufficient_quota"
    ))));
    assert!(!is_quota_exhausted(None));
}
