//! Tests of `client`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use super::OutboundPolicy;
use crate::guard::Forbidden;
use crate::test_server::{Answer, TestServer, client, client_with};
use crate::{AllowList, OutboundError, OutboundRequest, ReplyClass, parse_headers};
use reqwest::Method;
use std::time::{Duration, Instant};

fn post(url: String) -> OutboundRequest {
    OutboundRequest {
        url,
        method: Method::POST,
        headers: parse_headers([("x-key", "canary-header")]).unwrap(),
        body: Some(b"{\"a\":1}".to_vec()),
    }
}

fn ok_head(rest: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{rest}\r\n").into_bytes()
}

// interface.md, kind `http`
#[tokio::test]
async fn a_listed_server_gets_the_request_and_its_answer_comes_back() {
    let server = TestServer::start(vec![Answer::json("201 Created", "", r#"{"b":2}"#)]).await;
    let reply = client("127.0.0.1")
        .send(post(server.url("/path?q=1")))
        .await
        .unwrap();
    assert_eq!((reply.status, reply.truncated), (201, false));
    assert_eq!(reply.json, Some(serde_json::json!({"b": 2})));
    assert_eq!(reply.class(), ReplyClass::Done);
    let request = server.requests().remove(0);
    assert!(
        request.starts_with("POST /path?q=1 HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains("x-key: canary-header\r\n") && request.ends_with("{\"a\":1}"));
    assert!(
        !request.to_ascii_lowercase().contains("accept-encoding"),
        "{request}"
    );
}

// F64, S24
#[tokio::test]
async fn a_private_address_is_refused_by_default_and_nothing_is_sent() {
    let server = TestServer::start(vec![Answer::json("200 OK", "", "{}")]).await;
    let port = server.address.port();
    let hosts = [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
    ];
    for host in hosts {
        let error = client("")
            .send(post(format!("http://{host}:{port}/")))
            .await
            .unwrap_err();
        assert!(
            matches!(error, OutboundError::Refused(Forbidden::Private { .. })),
            "{host}: {error}"
        );
        assert!(matches!(error.class(), ReplyClass::Permanent { .. }));
    }
    assert!(server.requests().is_empty());
}

// S24, S25: the name passes the URL check, and the resolver refuses what it stands for
#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_refused() {
    let server = TestServer::start(vec![Answer::json("200 OK", "", "{}")]).await;
    let port = server.address.port();
    let strict = client_with(&OutboundPolicy {
        ports: vec![port],
        ..OutboundPolicy::default()
    });
    for host in ["localhost", "LOCALHOST"] {
        let error = strict
            .send(post(format!("http://{host}:{port}/")))
            .await
            .unwrap_err();
        assert!(
            matches!(error, OutboundError::Refused(Forbidden::Private { .. })),
            "{host}: {error}"
        );
        assert!(!error.to_string().contains("127.0.0.1"), "{error}");
    }
    // Whether this form resolves at all depends on the machine; it must not get through on any.
    assert!(
        strict
            .send(post(format!("http://localhost.:{port}/")))
            .await
            .is_err()
    );
    assert!(server.requests().is_empty());
}

// F64
#[tokio::test]
async fn a_name_may_be_listed_by_name_by_port_or_by_range() {
    let server = TestServer::start(vec![Answer::json("200 OK", "", "{}")]).await;
    let port = server.address.port();
    let url = format!("http://localhost:{port}/");
    for allow in ["localhost".to_owned(), format!("localhost:{port}")] {
        assert_eq!(
            client(&allow).send(post(url.clone())).await.unwrap().status,
            200,
            "{allow}"
        );
    }
    let by_range = client_with(&OutboundPolicy {
        allow: AllowList::parse("127.0.0.0/8, ::1").unwrap(),
        ports: vec![port],
        ..OutboundPolicy::default()
    });
    assert_eq!(by_range.send(post(url.clone())).await.unwrap().status, 200);
    let other = client("localhost:1");
    assert!(matches!(
        other.send(post(url)).await,
        Err(OutboundError::Refused(_))
    ));
}

// S25
#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let target = TestServer::start(vec![Answer::json("200 OK", "", "{}")]).await;
    let location = format!("location: {}\r\n", target.url("/secret"));
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let server = TestServer::start(vec![Answer::json(status, &location, "")]).await;
        let reply = client("127.0.0.1")
            .send(post(server.url("/")))
            .await
            .unwrap();
        assert!(
            matches!(reply.class(), ReplyClass::Permanent { .. }),
            "{status}"
        );
    }
    assert!(target.requests().is_empty());
}

// S26
#[tokio::test]
async fn an_endless_body_is_cut_at_the_cap() {
    let capped = |bytes_max| {
        client_with(&OutboundPolicy {
            allow: AllowList::parse("127.0.0.1").unwrap(),
            reply_bytes_max: bytes_max,
            ..OutboundPolicy::default()
        })
    };
    let server = TestServer::start(vec![Answer::Endless(ok_head(
        "content-type: application/json\r\n",
    ))])
    .await;
    let reply = capped(10_000).send(post(server.url("/"))).await.unwrap();
    assert_eq!(
        (reply.body.len(), reply.truncated, reply.json),
        (10_000, true, None)
    );

    let exact = TestServer::start(vec![Answer::Bytes(
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc".to_vec(),
    )])
    .await;
    let reply = capped(3).send(post(exact.url("/"))).await.unwrap();
    assert_eq!((reply.body.as_str(), reply.truncated), ("abc", false));
}

// S26: also a head that never comes, and a body that stops half way
#[tokio::test]
async fn a_slow_server_hits_the_deadline() {
    let hurried = client_with(&OutboundPolicy {
        allow: AllowList::parse("127.0.0.1").unwrap(),
        deadline: Duration::from_millis(200),
        ..OutboundPolicy::default()
    });
    for sent in [
        Vec::new(),
        b"HTTP/1.1 20".to_vec(),
        [ok_head("content-length: 9\r\n"), b"abc".to_vec()].concat(),
    ] {
        let server = TestServer::start(vec![Answer::Silent(sent)]).await;
        let started = Instant::now();
        let error = hurried.send(post(server.url("/"))).await.unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(5));
        assert!(
            matches!(
                error,
                OutboundError::TimedOut {
                    deadline_ms: 200,
                    ..
                }
            ),
            "{error}"
        );
        assert!(matches!(error.class(), ReplyClass::Retry { .. }));
    }
}

// S26
#[tokio::test]
async fn a_compressed_body_is_never_inflated() {
    let gzip = [&[0x1f, 0x8b, 8, 0][..], &[0; 20]].concat();
    let head = ok_head("content-encoding: gzip\r\ncontent-length: 24\r\nconnection: close\r\n");
    let server = TestServer::start(vec![Answer::Bytes([head, gzip].concat())]).await;
    let reply = client("127.0.0.1")
        .send(post(server.url("/")))
        .await
        .unwrap();
    assert!(reply.body.starts_with('\u{1f}'), "{:?}", reply.body);
    assert!(
        !reply.body.contains('\0'),
        "Postgres takes no NUL in a text"
    );
}

// S26
#[tokio::test]
async fn ten_thousand_headers_and_broken_http_are_failures_worth_a_retry() {
    let many = "x: y\r\n".repeat(10_000);
    let answers = [
        ok_head(&many),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        Vec::new(),
        [ok_head("content-length: 9\r\n"), b"abc".to_vec()].concat(),
        [
            ok_head("transfer-encoding: chunked\r\n"),
            b"zz\r\n".to_vec(),
        ]
        .concat(),
    ];
    for bytes in answers {
        let server = TestServer::start(vec![Answer::Bytes(bytes)]).await;
        let error = client("127.0.0.1")
            .send(post(server.url("/")))
            .await
            .unwrap_err();
        assert!(matches!(error, OutboundError::Broken { .. }), "{error:?}");
        assert!(matches!(error.class(), ReplyClass::Retry { .. }));
    }
}

// F64
#[tokio::test]
async fn error_texts_show_no_path_query_or_header() {
    let closed = TestServer::start(vec![Answer::json("200 OK", "", "{}")])
        .await
        .address;
    let url = format!("http://{closed}/canary-path?key=canary-query#canary-fragment");
    let error = client("127.0.0.1").send(post(url)).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(matches!(error, OutboundError::Unreachable { .. }), "{text}");
    assert!(
        text.contains(&closed.to_string()) && !text.contains("canary"),
        "{text}"
    );
}

// F24
#[tokio::test]
async fn a_rate_limit_carries_the_wait_the_server_asked_for() {
    let table = [
        ("429 Too Many Requests", "retry-after: 7\r\n", Some(7)),
        ("503 Service Unavailable", "retry-after: 9\r\n", Some(9)),
        (
            "429 Too Many Requests",
            "x-ratelimit-reset-tokens: 6m0s\r\n",
            Some(360),
        ),
        ("503 Service Unavailable", "", None),
    ];
    for (status, header, seconds) in table {
        let server = TestServer::start(vec![Answer::json(status, header, "{}")]).await;
        let reply = client("127.0.0.1")
            .send(post(server.url("/")))
            .await
            .unwrap();
        let after = seconds.map(Duration::from_secs);
        assert_eq!(reply.class(), ReplyClass::RateLimited { after });
    }
}

// F13: a name may appear later, so it is no reason to give up
#[tokio::test]
async fn a_name_that_does_not_exist_is_worth_a_retry() {
    let error = client("")
        .send(post("http://name.invalid/".to_owned()))
        .await
        .unwrap_err();
    assert!(
        matches!(error.class(), ReplyClass::Unavailable { .. }),
        "{error:?}"
    );
}
