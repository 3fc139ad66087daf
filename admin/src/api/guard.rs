//! No web page may use a browser on this machine to reach the API: neither by a name that it points here (DNS rebinding, S05)
//! nor by a form that it posts across (S04). There are no cookies, and no CORS header is ever sent (S06).
//!
//! A header that decides something and stands there twice is refused: a proxy in between may have looked at the other one.

use std::net::IpAddr;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, Method, header},
    middleware::Next,
    response::Response,
};

use super::{Api, problem::Problem};

/// What these say is looked at.
const ONCE: [HeaderName; 6] = [
    header::HOST,
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::ORIGIN,
    HeaderName::from_static("sec-fetch-site"),
    HeaderName::from_static("idempotency-key"),
];

pub(super) async fn check(
    State(api): State<Api>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if let Some(name) = ONCE
        .iter()
        .find(|name| request.headers().get_all(*name).iter().count() > 1)
    {
        return Err(Problem::malformed(format!(
            "the header {name} stands in the request more than once"
        )));
    }
    let host = text(request.headers(), header::HOST.as_str());
    // With a token the rebound page has nothing to show; without one, only this machine's own names are served.
    if api.0.token.is_none() && host.is_some_and(|host| !is_this_machine(host)) {
        return Err(Problem::misdirected());
    }
    let reads = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    if !reads && is_cross_site(request.headers(), host) {
        return Err(Problem::cross_site());
    }
    Ok(next.run(request).await)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or(""))
}

fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_cross_site(headers: &HeaderMap, host: Option<&str>) -> bool {
    let foreign_fetch =
        text(headers, "sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let foreign_origin = text(headers, header::ORIGIN.as_str())
        .is_some_and(|origin| origin.split_once("://").map(|(_, o)| o) != host);
    foreign_fetch || foreign_origin
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_this_machine() {
        // S05
        for own in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:1",
            "[::1]:8080",
            "127.9.9.9",
        ] {
            assert!(is_this_machine(own), "{own}");
        }
        for foreign in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil:80",
            "10.0.0.1",
            "[2001:db8::1]:80",
        ] {
            assert!(!is_this_machine(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_request_from_another_site_is_seen() {
        // S04
        let headers = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
        };
        let host = Some("127.0.0.1:8080");
        assert!(is_cross_site(
            &headers("origin", "https://evil.example"),
            host
        ));
        assert!(is_cross_site(&headers("origin", "null"), host));
        assert!(is_cross_site(
            &headers("sec-fetch-site", "cross-site"),
            host
        ));
        assert!(!is_cross_site(
            &headers("origin", "http://127.0.0.1:8080"),
            host
        ));
        assert!(!is_cross_site(&HeaderMap::new(), host));
    }
}
