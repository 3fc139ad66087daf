//! Tests of `allow`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use super::AllowList;
use reqwest::Url;

// F64
#[test]
fn an_empty_list_allows_nothing() {
    for text in ["", "  ", ",, ,"] {
        let list = AllowList::parse(text).unwrap();
        assert!(!list.permits_host("localhost", 80));
        assert!(!list.permits_ip("127.0.0.1".parse().unwrap()));
    }
}

// F64
#[test]
fn host_entries_cover_the_host_and_the_port_they_name() {
    let table = [
        ("localhost", "localhost", 80, true),
        ("localhost", "localhost", 9000, true),
        ("LocalHost.", "localhost", 80, true),
        ("localhost", "localhost.", 80, true),
        ("localhost:9000", "localhost", 9000, true),
        ("localhost:9000", "localhost", 9001, false),
        ("localhost:80", "localhost", 80, true),
        ("localhost:80", "localhost", 443, false),
        ("localhost", "sub.localhost", 80, false),
        ("host", "myhost", 80, false),
        ("bücher.example", "xn--bcher-kva.example", 80, true),
        ("127.0.0.1:8080", "127.0.0.1", 8080, true),
        ("127.0.0.1:8080", "127.0.0.1", 8081, false),
        ("[::1]:8080", "[::1]", 8080, true),
        ("[::1]:8080", "[::1]", 80, false),
    ];
    for (entries, host, port, permitted) in table {
        let list = AllowList::parse(entries).unwrap();
        assert_eq!(
            list.permits_host(host, port),
            permitted,
            "{entries} {host}:{port}"
        );
    }
}

// F64
#[test]
fn address_entries_cover_the_addresses_they_hold() {
    let table = [
        ("127.0.0.1", "127.0.0.1", true),
        ("127.0.0.1", "127.0.0.2", false),
        ("127.0.0.1", "::ffff:127.0.0.1", true),
        ("::ffff:127.0.0.1", "127.0.0.1", true),
        ("0x7f000001", "127.0.0.1", true),
        ("::1", "::1", true),
        ("[::1]", "::1", true),
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.1", false),
        ("fd00::/8", "fd12::1", true),
        ("0.0.0.0/0", "169.254.169.254", true),
        ("127.0.0.1:8080", "127.0.0.1", false),
        ("localhost", "127.0.0.1", false),
    ];
    for (entries, ip, permitted) in table {
        let list = AllowList::parse(entries).unwrap();
        assert_eq!(
            list.permits_ip(ip.parse().unwrap()),
            permitted,
            "{entries} {ip}"
        );
    }
}

// style 41: all faults at once
#[test]
fn every_faulty_entry_is_named_with_its_reason() {
    let table = [
        ("http://localhost:1", "is a URL"),
        ("*.internal", "wildcard"),
        ("10.0.0.1/8", "bits after its prefix"),
        ("10.0.0.0/33", "too long"),
        ("fd00::1/8", "bits after its prefix"),
        ("::/129", "too long"),
        ("10.0.0.0/x", "prefix length"),
        ("host/8", "no address range"),
        ("host:", "no port"),
        ("host:0", "no port"),
        ("host:65536", "no port"),
        ("user@host", "no host name"),
        ("ho|st", "no host name"),
        ("host?x", "no host name"),
        ("host#x", "no host name"),
    ];
    for (entry, reason) in table {
        let error = AllowList::parse(entry).unwrap_err();
        assert_eq!(error.faults.len(), 1, "{entry}");
        assert!(error.faults[0].contains(reason), "{entry}: {error}");
        assert!(error.faults[0].contains(entry), "{entry}: {error}");
    }
    let all = table.map(|(entry, _)| entry).join(",");
    assert_eq!(
        AllowList::parse(&all).unwrap_err().faults.len(),
        table.len()
    );
}

#[test]
fn a_configured_url_adds_its_own_host_and_port_only() {
    let url = Url::parse("http://tei.internal.:8080/base").unwrap();
    let list = AllowList::default().with_url(&url);
    assert!(list.permits_host("tei.internal", 8080));
    assert!(!list.permits_host("tei.internal", 6379));
}
