//! ICMP types by name and number.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::RuleFamily;

/// An ICMP type, of either family until the rule says of which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpKind {
    /// Type, and code if only one is meant.
    Number(u8, Option<u8>),
    /// A name of the table.
    Named(&'static str),
}

/// Why a text is no ICMP type.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no ICMP type; use a name like echo-request, a number, or TYPE/CODE")]
pub struct IcmpKindError(String);

type Number = Option<(u8, Option<u8>)>;

/// Names as iptables and ip6tables have them, and what they are in IPv4 (RFC 792, RFC 1812 §5.2.7.1) and
/// IPv6 (RFC 4443, RFC 4861).
const NAMES: [(&str, Number, Number); 30] = [
    ("echo-request", Some((8, None)), Some((128, None))),
    ("ping", Some((8, None)), Some((128, None))),
    ("echo-reply", Some((0, None)), Some((129, None))),
    ("pong", Some((0, None)), Some((129, None))),
    ("destination-unreachable", Some((3, None)), Some((1, None))),
    ("network-unreachable", Some((3, Some(0))), None),
    ("host-unreachable", Some((3, Some(1))), None),
    ("protocol-unreachable", Some((3, Some(2))), None),
    ("port-unreachable", Some((3, Some(3))), Some((1, Some(4)))),
    ("fragmentation-needed", Some((3, Some(4))), None),
    ("network-prohibited", Some((3, Some(9))), None),
    ("host-prohibited", Some((3, Some(10))), None),
    (
        "communication-prohibited",
        Some((3, Some(13))),
        Some((1, Some(1))),
    ),
    ("no-route", None, Some((1, Some(0)))),
    ("beyond-scope", None, Some((1, Some(2)))),
    ("address-unreachable", None, Some((1, Some(3)))),
    ("failed-policy", None, Some((1, Some(5)))),
    ("reject-route", None, Some((1, Some(6)))),
    ("packet-too-big", None, Some((2, None))),
    ("redirect", Some((5, None)), Some((137, None))),
    ("time-exceeded", Some((11, None)), Some((3, None))),
    ("ttl-exceeded", Some((11, None)), Some((3, None))),
    (
        "ttl-zero-during-transit",
        Some((11, Some(0))),
        Some((3, Some(0))),
    ),
    ("parameter-problem", Some((12, None)), Some((4, None))),
    ("timestamp-request", Some((13, None)), None),
    ("timestamp-reply", Some((14, None)), None),
    ("router-solicitation", Some((10, None)), Some((133, None))),
    ("router-advertisement", Some((9, None)), Some((134, None))),
    ("neighbour-solicitation", None, Some((135, None))),
    ("neighbour-advertisement", None, Some((136, None))),
];

impl IcmpKind {
    /// Type, and code if only one is meant; `None` if the family has no such type.
    #[must_use]
    pub fn number(self, family: RuleFamily) -> Number {
        match self {
            IcmpKind::Number(kind, code) => Some((kind, code)),
            IcmpKind::Named(name) => {
                let (_, v4, v6) = NAMES.iter().find(|(known, _, _)| *known == name)?;
                match family {
                    RuleFamily::Ipv4 => *v4,
                    RuleFamily::Ipv6 => *v6,
                }
            }
        }
    }
}

impl FromStr for IcmpKind {
    type Err = IcmpKindError;

    fn from_str(text: &str) -> Result<IcmpKind, IcmpKindError> {
        let folded = text.to_ascii_lowercase();
        if let Some((name, _, _)) = NAMES.iter().find(|(name, _, _)| *name == folded) {
            return Ok(IcmpKind::Named(name));
        }
        let (kind, code) = match text.split_once('/') {
            None => (text, None),
            Some((kind, code)) => (kind, Some(code)),
        };
        let number = |text: &str| {
            let is_number = text.bytes().all(|digit| digit.is_ascii_digit());
            text.parse::<u8>().ok().filter(|_| is_number)
        };
        let bad = || IcmpKindError(text.to_owned());
        let kind = number(kind).ok_or_else(bad)?;
        let code = code.map(|code| number(code).ok_or_else(bad)).transpose()?;
        Ok(IcmpKind::Number(kind, code))
    }
}

impl fmt::Display for IcmpKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IcmpKind::Number(kind, None) => write!(formatter, "{kind}"),
            IcmpKind::Number(kind, Some(code)) => write!(formatter, "{kind}/{code}"),
            IcmpKind::Named(name) => formatter.write_str(name),
        }
    }
}
