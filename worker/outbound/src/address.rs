//! Which IP addresses are public, as a pure function over tables.
//!
//! Invariant: what is not known to be a public unicast address is refused. For IPv6 that is the
//! space outside `2000::/3`; for IPv4 it is the special-purpose registry of IANA.
//! It does not know the allow-list, names or URLs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address range: all addresses that share the first `prefix_bits` bits with `base`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    prefix_bits: u8,
}

impl Cidr {
    /// A range, or `None` when the prefix is longer than the address or `base` has bits after it.
    pub fn new(base: IpAddr, prefix_bits: u8) -> Option<Self> {
        let range = Self { base, prefix_bits };
        let fits = prefix_bits <= width_bits(base);
        (fits && range.first() == base).then_some(range)
    }

    /// The range that holds only `ip`.
    pub fn single(ip: IpAddr) -> Self {
        Self {
            base: ip,
            prefix_bits: width_bits(ip),
        }
    }

    /// Whether `ip` lies in the range; an IPv4 range never holds an IPv6 address, nor the reverse.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.base, ip) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => {
                let mask = mask_v4(self.prefix_bits);
                base.to_bits() & mask == ip.to_bits() & mask
            }
            (IpAddr::V6(base), IpAddr::V6(ip)) => {
                let mask = mask_v6(self.prefix_bits);
                base.to_bits() & mask == ip.to_bits() & mask
            }
            _ => false,
        }
    }

    fn first(&self) -> IpAddr {
        match self.base {
            IpAddr::V4(base) => {
                Ipv4Addr::from_bits(base.to_bits() & mask_v4(self.prefix_bits)).into()
            }
            IpAddr::V6(base) => {
                Ipv6Addr::from_bits(base.to_bits() & mask_v6(self.prefix_bits)).into()
            }
        }
    }

    const fn v4(base: [u8; 4], prefix_bits: u8) -> Self {
        let [a, b, c, d] = base;
        Self {
            base: IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            prefix_bits,
        }
    }

    /// `head` is the first three groups; no range in the table below needs more.
    const fn v6(head: [u16; 3], prefix_bits: u8) -> Self {
        let [a, b, c] = head;
        Self {
            base: IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)),
            prefix_bits,
        }
    }
}

/// IPv4 ranges that no job may reach: the IANA special-purpose registry and one cloud address.
const REFUSED_V4: [Cidr; 16] = [
    Cidr::v4([0, 0, 0, 0], 8), // "this network"; Linux connects 0.0.0.0 to itself
    Cidr::v4([10, 0, 0, 0], 8), // private
    Cidr::v4([100, 64, 0, 0], 10), // carrier-grade NAT, with the metadata address of one cloud
    Cidr::v4([127, 0, 0, 0], 8), // loopback
    Cidr::v4([168, 63, 129, 16], 32), // host agent of Azure: looks public, answers with secrets
    Cidr::v4([169, 254, 0, 0], 16), // link-local, with the metadata address of most clouds
    Cidr::v4([172, 16, 0, 0], 12), // private
    Cidr::v4([192, 0, 0, 0], 24), // protocol assignments, with one more metadata address
    Cidr::v4([192, 0, 2, 0], 24), // documentation
    Cidr::v4([192, 88, 99, 0], 24), // 6to4 relays, withdrawn
    Cidr::v4([192, 168, 0, 0], 16), // private
    Cidr::v4([198, 18, 0, 0], 15), // benchmarks
    Cidr::v4([198, 51, 100, 0], 24), // documentation
    Cidr::v4([203, 0, 113, 0], 24), // documentation
    Cidr::v4([224, 0, 0, 0], 4), // multicast
    Cidr::v4([240, 0, 0, 0], 4), // reserved, and broadcast
];

/// The only IPv6 space from which public unicast addresses are given out. Loopback, mapped IPv4
/// (`::ffff:0:0/96`), NAT64 (`64:ff9b::/96`), unique local, link-local, site-local and multicast
/// addresses all lie outside of it.
const GLOBAL_UNICAST_V6: Cidr = Cidr::v6([0x2000, 0, 0], 3);

/// What is not public inside of [`GLOBAL_UNICAST_V6`].
const REFUSED_V6: [Cidr; 4] = [
    Cidr::v6([0x2001, 0, 0], 23), // protocol assignments: Teredo, benchmarks, ORCHID
    Cidr::v6([0x2001, 0x0db8, 0], 32), // documentation
    Cidr::v6([0x2002, 0, 0], 16), // 6to4: wraps any IPv4 address, private ones too
    Cidr::v6([0x3fff, 0, 0], 20), // documentation
];

/// Whether `ip` is a public unicast address, so that a job of any tenant may reach it.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => !REFUSED_V4.iter().any(|range| range.contains(ip)),
        IpAddr::V6(_) => {
            GLOBAL_UNICAST_V6.contains(ip) && !REFUSED_V6.iter().any(|range| range.contains(ip))
        }
    }
}

const fn width_bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// A shift by the whole width is an overflow, hence the `unwrap_or` for the prefix of length 0.
fn mask_v4(prefix_bits: u8) -> u32 {
    u32::MAX
        .checked_shl(32_u32.saturating_sub(prefix_bits.into()))
        .unwrap_or(0)
}

fn mask_v6(prefix_bits: u8) -> u128 {
    u128::MAX
        .checked_shl(128_u32.saturating_sub(prefix_bits.into()))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
