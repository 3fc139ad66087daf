//! Tests of `request`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use super::{OutboundReply, OutboundRequest, parse_headers, parse_method};
use reqwest::Method;

// S24, F64
#[test]
fn headers_that_steer_the_connection_are_refused_by_name() {
    for name in super::RESERVED {
        let error = parse_headers([(name, "canary-value")])
            .unwrap_err()
            .to_string();
        assert!(error.contains(name) && !error.contains("canary"), "{error}");
    }
    assert!(parse_headers([("Host", "internal")]).is_err());
}

// F64, S35
#[test]
fn header_faults_name_the_header_and_never_its_value() {
    for (name, value) in [
        ("a b", "canary"),
        ("", "canary"),
        ("x-a", "canary\r\nhost: b"),
        ("x-a", "canary\0"),
    ] {
        let error = parse_headers([(name, value)]).unwrap_err().to_string();
        assert!(!error.contains("canary"), "{error}");
    }
    let many = vec![("x-a", "b"); super::HEADERS_MAX + 1];
    assert!(parse_headers(many).is_err());
    let long = "v".repeat(super::HEADERS_BYTES_MAX);
    assert!(parse_headers([("x-a", long.as_str())]).is_err());
}

// F64
#[test]
fn debug_output_shows_no_header_query_or_body() {
    let request = OutboundRequest {
        url: "https://example.com/?key=canary".to_owned(),
        method: Method::POST,
        headers: parse_headers([("authorization", "canary"), ("x-key", "canary")]).unwrap(),
        body: Some(b"canary".to_vec()),
    };
    let reply = OutboundReply {
        origin: "https://example.com".to_owned(),
        status: 200,
        body: "canary".to_owned(),
        truncated: false,
        retry_after: None,
        json: Some("canary".into()),
    };
    let shown = format!("{request:?} {:?} {reply:?}", request.headers);
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn methods_are_read_in_any_case_and_tunnels_are_refused() {
    assert_eq!(parse_method("post").unwrap(), Method::POST);
    for text in ["CONNECT", "TRACE", "", "PO ST", "GET / HTTP/1.1\r\n"] {
        assert!(parse_method(text).is_err(), "{text:?}");
    }
}

// S26
#[test]
fn a_stored_body_is_redacted_and_at_most_4_kb() {
    let reply = OutboundReply {
        origin: String::new(),
        status: 200,
        body: format!("sk-canarycanary {}", "ä".repeat(10_000)),
        truncated: false,
        retry_after: None,
        json: None,
    };
    let stored = reply.stored_body();
    assert!(stored.len() <= 4_000 && stored.starts_with("[redacted] ä"));
}
