//! The two checks before a connection: what a URL says, and what its name resolves to.
//!
//! Invariants: the URL that was checked is the object that is sent, so no second parser can read it
//! otherwise; the addresses that were vetted are the ones handed to the connector, so a name that
//! answers differently a moment later (DNS rebinding) gains nothing; one bad address among many
//! refuses the name. A refusal never tells the address, lest it serve to map an internal network.
//!
//! A URL with a literal address never reaches the resolver, which is why [`check_url`] judges it.

use super::address::is_public;
use super::allow::AllowList;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Longer URLs are refused by most servers anyway; the bound keeps a hostile payload cheap to check.
const URL_BYTES_MAX: usize = 8 * 1024;

/// Why an outbound request was not sent. Trying again does not help; the job or the list must change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The text is no absolute URL, or is longer than 8 KiB.
    #[error("the URL is not valid: {0}")]
    Malformed(&'static str),
    /// Only `http` and `https` are spoken.
    #[error("the URL scheme `{0}` is not allowed; use http or https")]
    Scheme(String),
    /// A name or password before the host: a credential in a place that ends in logs, and a disguise.
    #[error("the URL carries a user name or password; send credentials in a header")]
    UserInfo,
    /// A port on which public hosts serve other protocols than HTTP.
    #[error(
        "port {port} of `{host}` is not open to outbound requests; add `{host}:{port}` to the allow-list"
    )]
    Port {
        /// Host of the URL.
        host: String,
        /// Port of the URL.
        port: u16,
    },
    /// The host is, or resolves to, an address that is not public.
    #[error("`{host}` is not a public address; add it to the allow-list if jobs may reach it")]
    Private {
        /// Host of the URL.
        host: String,
    },
}

/// A URL that passed [`check_url`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedUrl {
    /// The URL to send, without a fragment.
    pub url: Url,
    /// The operator listed the host by name, so whatever it resolves to may be reached.
    pub host_is_listed: bool,
}

/// Checks all that a URL tells without asking DNS. `ports` are those open on hosts that are not listed.
pub fn check_url(text: &str, allow: &AllowList, ports: &[u16]) -> Result<CheckedUrl, Forbidden> {
    if text.len() > URL_BYTES_MAX {
        return Err(Forbidden::Malformed("longer than 8 KiB"));
    }
    let mut url = Url::parse(text).map_err(|_| Forbidden::Malformed("no absolute http(s) URL"))?;
    check_form(&url)?;
    url.set_fragment(None);
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(Forbidden::Malformed("no host"));
    };
    let host_is_listed = allow.permits_host(host, port);
    if !host_is_listed {
        check_host(host, port, allow, ports)?;
    }
    Ok(CheckedUrl {
        url,
        host_is_listed,
    })
}

fn check_form(url: &Url) -> Result<(), Forbidden> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Forbidden::Scheme(url.scheme().chars().take(32).collect()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Forbidden::UserInfo);
    }
    Ok(())
}

/// The `url` crate has already turned decimal, octal, hexadecimal, short and full-width forms of an
/// address, with or without a trailing dot, into the plain form.
fn check_host(host: &str, port: u16, allow: &AllowList, ports: &[u16]) -> Result<(), Forbidden> {
    let literal = literal_ip(host);
    if literal.is_some_and(|ip| allow.permits_ip(ip)) {
        return Ok(());
    }
    if literal.is_some_and(|ip| !is_public(ip)) {
        return Err(Forbidden::Private {
            host: host.to_owned(),
        });
    }
    if !ports.contains(&port) {
        return Err(Forbidden::Port {
            host: host.to_owned(),
            port,
        });
    }
    Ok(())
}

fn literal_ip(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

/// Passes the addresses on only if every one of them may be reached.
pub fn vet_addresses(
    host: &str,
    addresses: Vec<SocketAddr>,
    allow: &AllowList,
) -> Result<Vec<SocketAddr>, Forbidden> {
    let may_reach =
        |address: &SocketAddr| is_public(address.ip()) || allow.permits_ip(address.ip());
    if addresses.iter().all(may_reach) {
        Ok(addresses)
    } else {
        Err(Forbidden::Private {
            host: host.to_owned(),
        })
    }
}

/// A resolver whose answers have been vetted. The connector uses exactly these addresses.
pub(super) struct VettingResolver {
    pub(super) inner: Arc<dyn Resolve>,
    pub(super) allow: Arc<AllowList>,
}

impl Resolve for VettingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let allow = Arc::clone(&self.allow);
        let resolving = self.inner.resolve(name);
        Box::pin(async move {
            let vetted = vet_addresses(&host, resolving.await?.collect(), &allow)?;
            Ok(Box::new(vetted.into_iter()) as Addrs)
        })
    }
}

/// Asks the system (hosts file and DNS), within a deadline: the system's own can be half a minute.
pub(super) struct SystemResolver {
    pub(super) deadline: Duration,
}

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let deadline = self.deadline;
        Box::pin(async move {
            // Port 0 is replaced by the connector with the port of the URL.
            let looked_up =
                timeout(deadline, tokio::net::lookup_host((name.as_str(), 0))).await??;
            let addresses: Vec<SocketAddr> = looked_up.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests;
