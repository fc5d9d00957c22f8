//! Upper-layer protocols by name.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::RuleFamily;

/// An upper-layer protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolName(pub u8);

/// Why a text is no protocol.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is no protocol; use tcp, udp, icmp, icmpv6, sctp, gre, esp, ah or a number up to 255"
)]
pub struct ProtocolError(String);

/// Names and numbers (IANA, "Assigned Internet Protocol Numbers"); the first name of a number is the one
/// that is shown.
const NAMES: [(&str, u8); 13] = [
    ("tcp", 6),
    ("udp", 17),
    ("icmp", 1),
    ("icmpv6", 58),
    ("ipv6-icmp", 58),
    ("icmp6", 58),
    ("igmp", 2),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("sctp", 132),
    ("udplite", 136),
    ("dccp", 33),
];

impl ProtocolName {
    /// TCP.
    pub const TCP: ProtocolName = ProtocolName(6);

    /// The ICMP of a family.
    #[must_use]
    pub fn of(family: RuleFamily) -> ProtocolName {
        match family {
            RuleFamily::Ipv4 => ProtocolName(1),
            RuleFamily::Ipv6 => ProtocolName(58),
        }
    }

    pub(super) fn has_ports(self) -> bool {
        matches!(self.0, 6 | 17)
    }

    /// Whose ICMP it is, if it is one.
    #[must_use]
    pub fn icmp_family(self) -> Option<RuleFamily> {
        match self.0 {
            1 => Some(RuleFamily::Ipv4),
            58 => Some(RuleFamily::Ipv6),
            _ => None,
        }
    }
}

impl FromStr for ProtocolName {
    type Err = ProtocolError;

    fn from_str(text: &str) -> Result<ProtocolName, ProtocolError> {
        let folded = text.to_ascii_lowercase();
        let named = NAMES.iter().find(|(name, _)| *name == folded);
        let number = named.map(|&(_, number)| number);
        number
            .or_else(|| text.parse().ok().filter(|_| !text.starts_with('+')))
            .map(ProtocolName)
            .ok_or_else(|| ProtocolError(text.to_owned()))
    }
}

impl fmt::Display for ProtocolName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => formatter.write_str(name),
            None => write!(formatter, "{}", self.0),
        }
    }
}
