//! Address families, and addresses as numbers: all arithmetic on addresses happens on `u128`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// One of the two versions of the internet protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families, in the order in which they are worked through and shown.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The bits of an address, hence the longest prefix.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The address that is this number; the counterpart of [`number`].
    pub(crate) fn address(self, number: u128) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::from_bits(
                u32::try_from(number).expect("numbers come from the inside of an IPv4 subnet"),
            )),
            Self::V6 => IpAddr::V6(Ipv6Addr::from_bits(number)),
        }
    }
}

impl From<IpAddr> for Family {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl From<IpNet> for Family {
    fn from(net: IpNet) -> Self {
        match net {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A set of families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Families {
    /// IPv4 is in the set.
    pub v4: bool,
    /// IPv6 is in the set.
    pub v6: bool,
}

impl Families {
    /// No family.
    pub const NONE: Self = Self {
        v4: false,
        v6: false,
    };
    /// IPv4 alone.
    pub const V4: Self = Self {
        v4: true,
        v6: false,
    };
    /// IPv6 alone.
    pub const V6: Self = Self {
        v4: false,
        v6: true,
    };
    /// Dual stack.
    pub const BOTH: Self = Self { v4: true, v6: true };

    /// Whether the family is in the set.
    #[must_use]
    pub const fn contains(self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// The families of the set, IPv4 first.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        Family::ALL
            .into_iter()
            .filter(move |family| self.contains(*family))
    }
}

impl FromIterator<Family> for Families {
    fn from_iter<I: IntoIterator<Item = Family>>(families: I) -> Self {
        families.into_iter().fold(Self::NONE, |set, family| Self {
            v4: set.v4 || family == Family::V4,
            v6: set.v6 || family == Family::V6,
        })
    }
}

/// The address as a number. Only numbers of one family may be compared.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The first and the last number of a network, host bits ignored.
pub(crate) fn bounds(net: &IpNet) -> (u128, u128) {
    (number(net.network()), number(net.broadcast()))
}

/// Whether two networks share an address. Prefixes are either nested or disjoint.
pub(crate) fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_and_numbers_convert_both_ways() {
        for text in [
            "0.0.0.0",
            "10.64.0.1",
            "255.255.255.255",
            "::",
            "fd00::1",
            "ff02::1",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(Family::from(address).address(number(address)), address);
        }
    }

    #[test]
    fn bounds_ignore_host_bits() {
        assert_eq!(bounds(&net("10.0.0.7/30")), (0x0a00_0004, 0x0a00_0007));
        assert_eq!(
            bounds(&net("fd00::/127")),
            (0xfd00 << 112, (0xfd00 << 112) + 1)
        );
    }

    #[test]
    fn networks_overlap_when_nested_and_never_across_families() {
        for (a, b, expected) in [
            ("10.0.0.0/8", "10.64.0.0/24", true),
            ("10.64.0.0/24", "10.64.0.0/24", true),
            ("10.64.0.0/24", "10.64.1.0/24", false),
            ("fd00::/8", "fd12::/64", true),
            ("fd00::/64", "fd00:0:0:1::/64", false),
            ("0.0.0.0/0", "::/0", false),
        ] {
            assert_eq!(overlap(&net(a), &net(b)), expected, "{a} {b}");
            assert_eq!(overlap(&net(b), &net(a)), expected, "{b} {a}");
        }
    }

    #[test]
    fn a_set_of_families_lists_ipv4_first() {
        let listed: Vec<Family> = Families::BOTH.iter().collect();
        assert_eq!(listed, [Family::V4, Family::V6]);
        assert_eq!([Family::V6].into_iter().collect::<Families>(), Families::V6);
        assert_eq!(Families::NONE.iter().count(), 0);
    }
}
