//! The operator's list of places that outbound requests may reach although they are not public.
//!
//! An entry is `host`, `host:port`, `ip`, `ip:port` or `cidr`. A host entry covers requests whose URL
//! names that very host, whatever it resolves to; an `ip` or `cidr` entry covers addresses, written in
//! the URL or resolved from any name. An entry with a port covers only URLs that name that host or
//! address and that port, because a resolved address carries no port of its own.
//!
//! Parsed once, at start-up; all faults are reported together. It resolves nothing.

use ipnet::IpNet;
use reqwest::Url;
use std::fmt;
use std::net::IpAddr;

/// More entries than this are a mistake in a template, not an allow-list; every request scans it.
const ENTRIES_MAX: usize = 1_000;

/// What outbound requests may reach beside public addresses. The default allows nothing more.
#[derive(Debug, Clone, Default)]
pub struct AllowList {
    hosts: Vec<HostRule>,
    ranges: Vec<IpNet>,
}

/// A host as the `url` crate writes it, without a trailing dot; any port where `port` is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HostRule {
    host: String,
    port: Option<u16>,
}

/// Every entry of an allow-list that could not be understood, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct AllowListError {
    /// One sentence per faulty entry.
    pub faults: Vec<String>,
}

impl fmt::Display for AllowListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outbound allow-list: {}", self.faults.join("; "))
    }
}

enum Entry {
    Host(HostRule),
    Range(IpNet),
}

impl AllowList {
    /// Parses entries separated by commas or white space; the empty text allows nothing.
    pub fn parse(text: &str) -> Result<Self, AllowListError> {
        Self::from_entries(text.split(|c: char| c == ',' || c.is_whitespace()))
    }

    /// Parses one entry per item; empty items are skipped.
    pub fn from_entries<I, S>(entries: I) -> Result<Self, AllowListError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let mut list = Self::default();
        let mut faults = Vec::new();
        for entry in entries {
            match entry.as_ref().trim() {
                "" => {}
                entry => match parse_entry(entry) {
                    Ok(Entry::Host(rule)) => list.hosts.push(rule),
                    Ok(Entry::Range(range)) => list.ranges.push(range),
                    Err(why) => faults.push(format!("`{}` {why}", entry.escape_debug())),
                },
            }
        }
        if list.hosts.len() + list.ranges.len() > ENTRIES_MAX {
            faults.push(format!("has more than {ENTRIES_MAX} entries"));
        }
        if faults.is_empty() {
            Ok(list)
        } else {
            Err(AllowListError { faults })
        }
    }

    /// Adds the host and port of a URL that the operator configured, such as a model server: naming it
    /// in the configuration is the permission.
    #[must_use]
    pub fn with_url(mut self, url: &Url) -> Self {
        if let (Some(host), port @ Some(_)) = (url.host_str(), url.port_or_known_default()) {
            self.hosts.push(HostRule {
                host: bare(host),
                port,
            });
        }
        self
    }

    /// Whether a URL with this host (as `Url::host_str` gives it) and port is listed by name.
    pub fn permits_host(&self, host: &str, port: u16) -> bool {
        let host = bare(host);
        self.hosts
            .iter()
            .any(|rule| rule.host == host && rule.port.is_none_or(|listed| listed == port))
    }

    /// Whether an address is listed; a mapped `::ffff:a.b.c.d` counts as the IPv4 address it reaches.
    pub fn permits_ip(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.ranges.iter().any(|range| range.contains(&ip))
    }
}

/// `example.com.` and `example.com` are one host to DNS, so they are one host here.
fn bare(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_owned()
}

fn parse_entry(entry: &str) -> Result<Entry, String> {
    if entry.contains("://") {
        return Err("is a URL; write only its `host` or `host:port`".to_owned());
    }
    if entry.contains('*') {
        return Err("has a wildcard; list each host, or a range such as `10.0.0.0/8`".to_owned());
    }
    if entry.contains('/') {
        return parse_range(entry).map(Entry::Range);
    }
    if let Ok(ip) = unbracketed(entry).parse::<IpAddr>() {
        return Ok(Entry::Range(ip.to_canonical().into()));
    }
    parse_host(entry)
}

fn parse_range(entry: &str) -> Result<IpNet, String> {
    let (base, prefix) = entry.split_once('/').unwrap_or((entry, ""));
    let base: IpAddr = base
        .parse()
        .map_err(|_| "is no address range; write it as `10.0.0.0/8` or `fd00::/8`".to_owned())?;
    let prefix_bits = prefix
        .parse()
        .map_err(|_| "has no prefix length between 0 and 32 (IPv6: 128)".to_owned())?;
    // A range with address bits after its prefix is a slip: nobody knows which of the two was meant.
    IpNet::new(base, prefix_bits)
        .ok()
        .filter(|range| range.network() == base)
        .ok_or_else(|| "has address bits after its prefix, or a prefix that is too long".to_owned())
}

fn unbracketed(entry: &str) -> &str {
    entry
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(entry)
}

/// The URL parser normalises case, IDN and odd forms of addresses exactly as it will for requests.
fn parse_host(entry: &str) -> Result<Entry, String> {
    let port = parse_port(entry)?;
    let no_host = || "is no host name; write `host`, `host:port`, an address or a range".to_owned();
    let url = Url::parse(&format!("http://{entry}/")).map_err(|_| no_host())?;
    let extra = !url.username().is_empty()
        || url.password().is_some()
        || url.path() != "/"
        || url.query().is_some()
        || url.fragment().is_some();
    match url.host_str() {
        Some(host) if !extra => Ok(host_entry(host, port)),
        _ => Err(no_host()),
    }
}

/// An address in an odd form (`0x7f000001`) without a port is a range like any other address.
fn host_entry(host: &str, port: Option<u16>) -> Entry {
    match (unbracketed(host).parse::<IpAddr>(), port) {
        (Ok(ip), None) => Entry::Range(ip.to_canonical().into()),
        _ => Entry::Host(HostRule {
            host: bare(host),
            port,
        }),
    }
}

/// Read from the text, because a parsed URL no longer tells `host` from `host:80`.
fn parse_port(entry: &str) -> Result<Option<u16>, String> {
    let after_host = entry.rfind(']').map_or(entry, |end| &entry[end..]);
    let Some((_, digits)) = after_host.rsplit_once(':') else {
        return Ok(None);
    };
    match digits.parse::<u16>() {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err("has no port between 1 and 65535 after the colon".to_owned()),
    }
}

#[cfg(test)]
mod tests;
