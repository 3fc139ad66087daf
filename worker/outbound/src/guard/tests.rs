//! Tests of `guard`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use super::{Forbidden, VettingResolver, check_url, vet_addresses};
use crate::AllowList;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::SocketAddr;
use std::sync::Arc;

const PORTS: [u16; 2] = [80, 443];

fn check(url: &str) -> Result<super::CheckedUrl, Forbidden> {
    check_url(url, &AllowList::default(), &PORTS)
}

// S24
#[test]
fn every_disguise_of_a_private_address_is_refused() {
    let disguised = [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://127.0.1/",
        "http://127.0.0.1./",
        "http://2130706433/",
        "http://2130706433./",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://0177.1/",
        "http://017700000001/",
        "http://%31%32%37.0.0.1/",
        "http://127%2e0%2e0%2e1/",
        "http://\u{ff11}\u{ff12}\u{ff17}.0.0.1/",
        "http://\u{2460}\u{2461}\u{2466}.0.0.1/",
        "http://127\u{3002}0\u{3002}0\u{3002}1/",
        "http:/127.0.0.1/",
        "http:127.0.0.1/",
        "http:\\\\127.0.0.1\\",
        "HTTP://127.0.0.1/",
        "  http://127.0.0.1/  ",
        "http://127.0.0.1\t/",
        "http://1\n27.0.0.1/",
        "http://0/",
        "http://0.0.0.0/",
        "http://0x0/",
        "http://10.0.0.1/",
        "http://012.0.0.1/",
        "http://172.16.0.1/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://0251.0376.0251.0376/",
        "http://100.64.0.1/",
        "http://100.100.100.200/",
        "http://168.63.129.16/",
        "http://198.18.0.1/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://[::1]/",
        "http://[::]/",
        "http://[0:0:0:0:0:0:0:1]/",
        "http://[::127.0.0.1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://[::ffff:0:127.0.0.1]/",
        "http://[64:ff9b::127.0.0.1]/",
        "http://[64:ff9b:1::1]/",
        "http://[2002:7f00:1::]/",
        "http://[2001:0:7f00:1::]/",
        "http://[2001:db8::1]/",
        "http://[fc00::1]/",
        "http://[fd00:ec2::254]/",
        "http://[fe80::1]/",
        "http://[ff02::1]/",
    ];
    for url in disguised {
        let refused = check(url);
        assert!(
            matches!(refused, Err(Forbidden::Private { .. })),
            "{url}: {refused:?}"
        );
    }
}

// S24
#[test]
fn other_schemes_user_names_and_ports_are_refused_by_name() {
    let table = [
        ("ftp://example.com/", "scheme `ftp`"),
        ("file:///etc/passwd", "scheme `file`"),
        ("gopher://example.com:70/_x", "scheme `gopher`"),
        ("ws://example.com/", "scheme `ws`"),
        ("data:text/plain,x", "scheme `data`"),
        ("javascript:alert(1)", "scheme `javascript`"),
        ("http://user@example.com/", "user name or password"),
        ("http://user:secret@example.com/", "user name or password"),
        ("http://:secret@example.com/", "user name or password"),
        ("http://example.com@127.0.0.1/", "user name or password"),
        ("http://example.com\\@127.0.0.1/", ""),
        ("http://example.com:22/", "port 22"),
        (
            "http://example.com:6379/",
            "add `example.com:6379` to the allow-list",
        ),
        ("https://example.com:0/", "port 0"),
        ("http://8.8.8.8:53/", "port 53"),
        ("", "not valid"),
        ("/path", "not valid"),
        ("example.com", "not valid"),
        ("http://", "not valid"),
        ("http://exa mple.com/", "not valid"),
        ("http://[::1/", "not valid"),
        ("http://[fe80::1%25eth0]/", "not valid"),
        ("http://256.0.0.1/", "not valid"),
        ("http://1.2.3.4.5/", "not valid"),
        ("http://example.com:99999/", "not valid"),
    ];
    for (url, told) in table {
        match check(url) {
            Err(refusal) => {
                let text = refusal.to_string();
                assert!(text.contains(told), "{url}: {text}");
                assert!(!text.contains("secret"), "{url}: {text}");
            }
            // A backslash starts the path, so this one is a plain request to example.com.
            Ok(checked) => assert_eq!((told, checked.url.host_str()), ("", Some("example.com"))),
        }
    }
    let long = format!("http://example.com/{}", "a".repeat(super::URL_BYTES_MAX));
    assert_eq!(check(&long), Err(Forbidden::Malformed("longer than 8 KiB")));
}

// S24
#[test]
fn public_urls_pass_in_the_form_that_is_sent() {
    let table = [
        ("http://example.com", "http://example.com/"),
        (
            "HTTPS://Example.COM/a?b=c#frag",
            "https://example.com/a?b=c",
        ),
        ("https://example.com.:443/", "https://example.com./"),
        (
            "http://b\u{fc}cher.example/",
            "http://xn--bcher-kva.example/",
        ),
        ("http://8.8.8.8/", "http://8.8.8.8/"),
        (
            "http://[2606:4700:4700::1111]/",
            "http://[2606:4700:4700::1111]/",
        ),
    ];
    for (url, sent) in table {
        let checked = check(url).unwrap();
        assert_eq!(checked.url.as_str(), sent);
        assert!(!checked.host_is_listed);
    }
}

// F64
#[test]
fn the_allow_list_opens_what_it_names_and_nothing_beside_it() {
    let allow = AllowList::parse("localhost, 127.0.0.1:8080, 10.0.0.0/8, ::1").unwrap();
    let table = [
        ("http://localhost/", Some(true)),
        ("http://localhost.:9000/", Some(true)),
        ("http://127.0.0.1:8080/", Some(true)),
        ("http://0x7f.1:8080/", Some(true)),
        ("http://127.0.0.1/", None),
        ("http://127.0.0.1:8081/", None),
        ("http://127.0.0.2:8080/", None),
        ("http://10.9.8.7:5000/", Some(false)),
        ("http://[::ffff:10.9.8.7]/", Some(false)),
        ("http://[::1]:1/", Some(false)),
        ("http://192.168.0.1/", None),
        ("http://user@localhost/", None),
        ("ftp://localhost/", None),
    ];
    for (url, listed) in table {
        let checked = check_url(url, &allow, &PORTS)
            .ok()
            .map(|c| c.host_is_listed);
        assert_eq!(checked, listed, "{url}");
    }
}

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts
        .iter()
        .map(|t| SocketAddr::new(t.parse().unwrap(), 0))
        .collect()
}

// S24: all A and AAAA records are checked
#[test]
fn one_private_address_among_public_ones_refuses_the_name() {
    let allow = AllowList::parse("10.0.0.0/8").unwrap();
    let table: [(&[&str], bool); 7] = [
        (&["8.8.8.8", "2606:4700:4700::1111"], true),
        (&["8.8.8.8", "127.0.0.1"], false),
        (&["127.0.0.1", "8.8.8.8"], false),
        (&["8.8.8.8", "::1"], false),
        (&["8.8.8.8", "::ffff:192.168.0.1"], false),
        (&["8.8.8.8", "10.0.0.1"], true),
        (&["169.254.169.254"], false),
    ];
    for (texts, passes) in table {
        let vetted = vet_addresses("name.example", addresses(texts), &allow);
        assert_eq!(vetted.is_ok(), passes, "{texts:?}");
        if let Err(refusal) = vetted {
            let text = refusal.to_string();
            assert!(
                text.contains("name.example") && !text.contains("169.254"),
                "{text}"
            );
        }
    }
}

/// Answers every name with the same addresses.
struct Fixed(Vec<SocketAddr>);

impl Resolve for Fixed {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses = self.0.clone();
        Box::pin(async move { Ok(Box::new(addresses.into_iter()) as Addrs) })
    }
}

// S25
#[tokio::test]
async fn the_resolver_hands_on_exactly_the_addresses_it_vetted() {
    let resolver = |texts: &[&str]| VettingResolver {
        inner: Arc::new(Fixed(addresses(texts))),
        allow: Arc::new(AllowList::default()),
    };
    let name = || "name.example".parse::<Name>().unwrap();
    let public = resolver(&["8.8.8.8", "1.1.1.1"])
        .resolve(name())
        .await
        .unwrap();
    assert_eq!(
        public.collect::<Vec<_>>(),
        addresses(&["8.8.8.8", "1.1.1.1"])
    );

    let refused = resolver(&["8.8.8.8", "127.0.0.1"])
        .resolve(name())
        .await
        .err()
        .unwrap();
    assert!(refused.downcast_ref::<Forbidden>().is_some());
}
