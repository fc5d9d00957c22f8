//! Addresses that no subnet may contain, because hosts and routers treat them in a way of their
//! own.
//!
//! Documentation (RFC 5737, RFC 3849), benchmarking (RFC 2544) and shared (RFC 6598) addresses are
//! absent on purpose: laboratories use them, and nothing on the path treats them differently.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::family::overlap;

/// What an address that no subnet may contain is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialUse {
    /// "This host on this network" (RFC 1122 §3.2.1.3): never a destination.
    ThisNetwork,
    /// Loopback: never leaves a host.
    Loopback,
    /// Link-local: valid on one link only, so a router must not pass it on.
    LinkLocal,
    /// Multicast: no endpoint's own address.
    Multicast,
    /// Reserved by the protocol.
    Reserved,
    /// Discard-only: routers drop it.
    Discard,
}

impl fmt::Display for SpecialUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ThisNetwork => "\"this network\"",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
            Self::Discard => "discard-only",
        })
    }
}

/// The entries of the special-purpose address registries (RFC 6890) that matter to a subnet.
const SPECIAL: [(IpNet, SpecialUse); 10] = [
    // RFC 1122 §3.2.1.3 (a), (b)
    (v4(0, 0, 8), SpecialUse::ThisNetwork),
    // RFC 1122 §3.2.1.3 (g)
    (v4(127, 0, 8), SpecialUse::Loopback),
    // RFC 3927 §2.1
    (v4(169, 254, 16), SpecialUse::LinkLocal),
    // RFC 1112 §4, class D
    (v4(224, 0, 4), SpecialUse::Multicast),
    // RFC 1112 §4, class E; holds the limited broadcast address too
    (v4(240, 0, 4), SpecialUse::Reserved),
    // RFC 4291 §2.5.3; before the reserved block, so that it is named as what it is
    (
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
        SpecialUse::Loopback,
    ),
    // Unspecified (RFC 4291 §2.5.2), IPv4-mapped (§2.5.5) and translated (RFC 6052 §2.1) addresses
    // all lie in the first /8, which IANA holds as reserved by the IETF
    (v6(0, 8), SpecialUse::Reserved),
    // RFC 6666
    (v6(0x100, 64), SpecialUse::Discard),
    // RFC 4291 §2.5.6
    (v6(0xfe80, 10), SpecialUse::LinkLocal),
    // RFC 4291 §2.7
    (v6(0xff00, 8), SpecialUse::Multicast),
];

const fn v4(first: u8, second: u8, prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(
        Ipv4Addr::new(first, second, 0, 0),
        prefix,
    ))
}

const fn v6(first: u16, prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0),
        prefix,
    ))
}

/// The first special block that shares an address with `net`.
pub(crate) fn special_use(net: &IpNet) -> Option<(IpNet, SpecialUse)> {
    SPECIAL.into_iter().find(|(block, _)| overlap(block, net))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_blocks_are_recognised_from_inside_and_outside() {
        for (net, expected) in [
            ("0.0.0.0/0", Some(SpecialUse::ThisNetwork)),
            ("0.1.2.0/24", Some(SpecialUse::ThisNetwork)),
            ("64.0.0.0/2", Some(SpecialUse::Loopback)),
            ("127.0.0.0/24", Some(SpecialUse::Loopback)),
            ("169.254.0.0/16", Some(SpecialUse::LinkLocal)),
            ("239.1.0.0/16", Some(SpecialUse::Multicast)),
            ("255.255.255.0/24", Some(SpecialUse::Reserved)),
            ("::1/128", Some(SpecialUse::Loopback)),
            ("::ffff:10.0.0.0/104", Some(SpecialUse::Reserved)),
            ("64:ff9b::/96", Some(SpecialUse::Reserved)),
            ("100::/80", Some(SpecialUse::Discard)),
            ("fe80::/64", Some(SpecialUse::LinkLocal)),
            ("ff05::/64", Some(SpecialUse::Multicast)),
            ("10.0.0.0/8", None),
            ("100.64.0.0/10", None),
            ("192.0.2.0/24", None),
            ("198.18.0.0/15", None),
            ("8.8.8.0/24", None),
            ("fd00::/8", None),
            ("2001:db8::/32", None),
            ("2000::/3", None),
        ] {
            let found = special_use(&net.parse().unwrap()).map(|(_, purpose)| purpose);
            assert_eq!(found, expected, "{net}");
        }
    }
}
