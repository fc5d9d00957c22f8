//! Upper-layer protocol numbers (IANA "Assigned Internet Protocol Numbers", one list for both
//! families).

use std::fmt;

/// What an IP datagram carries, behind IPv6 extension headers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// IPv6 hop-by-hop options, RFC 8200 §4.3; in IPv4 an unassigned number.
    pub const HOP_BY_HOP: Self = Self(0);
    /// ICMP for IPv4, RFC 792.
    pub const ICMP: Self = Self(1);
    /// Group management, RFC 3376.
    pub const IGMP: Self = Self(2);
    /// TCP, RFC 9293.
    pub const TCP: Self = Self(6);
    /// UDP, RFC 768.
    pub const UDP: Self = Self(17);
    /// IPv6 routing header, RFC 8200 §4.4.
    pub const ROUTING: Self = Self(43);
    /// IPv6 fragment header, RFC 8200 §4.5.
    pub const FRAGMENT: Self = Self(44);
    /// Generic routing encapsulation, RFC 2784.
    pub const GRE: Self = Self(47);
    /// Encapsulating security payload, RFC 4303.
    pub const ESP: Self = Self(50);
    /// Authentication header, RFC 4302.
    pub const AUTHENTICATION: Self = Self(51);
    /// ICMP for IPv6, RFC 4443.
    pub const ICMPV6: Self = Self(58);
    /// Nothing follows, RFC 8200 §4.7.
    pub const NO_NEXT_HEADER: Self = Self(59);
    /// IPv6 destination options, RFC 8200 §4.6.
    pub const DESTINATION_OPTIONS: Self = Self(60);
    /// SCTP, RFC 9260.
    pub const SCTP: Self = Self(132);
    /// UDP-Lite, RFC 3828.
    pub const UDP_LITE: Self = Self(136);
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::HOP_BY_HOP => "hop-by-hop",
            Self::ICMP => "icmp",
            Self::IGMP => "igmp",
            Self::TCP => "tcp",
            Self::UDP => "udp",
            Self::ROUTING => "routing",
            Self::FRAGMENT => "fragment",
            Self::GRE => "gre",
            Self::ESP => "esp",
            Self::AUTHENTICATION => "ah",
            Self::ICMPV6 => "icmpv6",
            Self::NO_NEXT_HEADER => "none",
            Self::DESTINATION_OPTIONS => "destination-options",
            Self::SCTP => "sctp",
            Self::UDP_LITE => "udplite",
            Self(other) => return write!(f, "{other}"),
        };
        f.write_str(name)
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
