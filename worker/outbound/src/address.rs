//! Which IP addresses are public, as a pure function over tables.
//!
//! Invariant: what is not known to be a public unicast address is refused. For IPv6 that is the
//! space outside `2000::/3`; for IPv4 it is the special-purpose registry of IANA.
//! It does not know the allow-list, names or URLs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

const fn v4([a, b, c, d]: [u8; 4], prefix_bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix_bits)
}

/// The first two groups; no range in the table below needs more.
const fn v6([a, b]: [u16; 2], prefix_bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix_bits)
}

/// IPv4 ranges that no job may reach: the IANA special-purpose registry and one cloud address.
const REFUSED_V4: [Ipv4Net; 16] = [
    v4([0, 0, 0, 0], 8),        // "this network"; Linux connects 0.0.0.0 to itself
    v4([10, 0, 0, 0], 8),       // private
    v4([100, 64, 0, 0], 10),    // carrier-grade NAT, with the metadata address of one cloud
    v4([127, 0, 0, 0], 8),      // loopback
    v4([168, 63, 129, 16], 32), // host agent of Azure: looks public, answers with secrets
    v4([169, 254, 0, 0], 16),   // link-local, with the metadata address of most clouds
    v4([172, 16, 0, 0], 12),    // private
    v4([192, 0, 0, 0], 24),     // protocol assignments, with one more metadata address
    v4([192, 0, 2, 0], 24),     // documentation
    v4([192, 88, 99, 0], 24),   // 6to4 relays, withdrawn
    v4([192, 168, 0, 0], 16),   // private
    v4([198, 18, 0, 0], 15),    // benchmarks
    v4([198, 51, 100, 0], 24),  // documentation
    v4([203, 0, 113, 0], 24),   // documentation
    v4([224, 0, 0, 0], 4),      // multicast
    v4([240, 0, 0, 0], 4),      // reserved, and broadcast
];

/// The only IPv6 space from which public unicast addresses are given out. Loopback, mapped IPv4
/// (`::ffff:0:0/96`), NAT64 (`64:ff9b::/96`), unique local, link-local, site-local and multicast
/// addresses all lie outside of it.
const GLOBAL_UNICAST_V6: Ipv6Net = v6([0x2000, 0], 3);

/// What is not public inside of [`GLOBAL_UNICAST_V6`].
const REFUSED_V6: [Ipv6Net; 4] = [
    v6([0x2001, 0], 23),      // protocol assignments: Teredo, benchmarks, ORCHID
    v6([0x2001, 0x0db8], 32), // documentation
    v6([0x2002, 0], 16),      // 6to4: wraps any IPv4 address, private ones too
    v6([0x3fff, 0], 20),      // documentation
];

/// Whether `ip` is a public unicast address, so that a job of any tenant may reach it.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !REFUSED_V4.iter().any(|range| range.contains(&ip)),
        IpAddr::V6(ip) => {
            GLOBAL_UNICAST_V6.contains(&ip) && !REFUSED_V6.iter().any(|range| range.contains(&ip))
        }
    }
}

#[cfg(test)]
mod tests;
