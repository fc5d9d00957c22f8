//! The layer-3 address of either family in one word.
//!
//! One 128-bit type serves both families, so that a table key, a comparison and a hash are the same
//! few instructions for IPv4 and IPv6. IPv4 stands as its IPv4-mapped form `::ffff:a.b.c.d`
//! (RFC 4291 §2.5.5.2). That this cannot be confused with an IPv6 header that carries such an
//! address is the parser's promise: it refuses them ([`Malformed::Ipv6MappedAddress`]).
//!
//! [`Malformed::Ipv6MappedAddress`]: crate::Malformed::Ipv6MappedAddress

use std::fmt;
use std::net::{AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The upper 96 bits of an IPv4-mapped address, shifted down.
const MAPPED: u128 = 0xffff;

/// The same as a prefix.
const MAPPED_PREFIX: u128 = MAPPED << 32;

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4, RFC 791.
    V4,
    /// IPv6, RFC 8200.
    V6,
}

/// An IPv4 or IPv6 address: its value as a number, IPv4 as `::ffff:a.b.c.d`.
///
/// An IPv4-mapped [`Ipv6Addr`] becomes the IPv4 address it means.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct Address(u128);

impl Address {
    /// `::`, the absence of an address. (`0.0.0.0` is another value of which
    /// [`Address::is_unspecified`] is true as well.)
    pub const UNSPECIFIED: Self = Self(0);

    /// The address with this value.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The value: what [`Address::from_bits`] takes.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// The IPv4 address with this value, `0x0a00_0001` for `10.0.0.1`.
    #[must_use]
    #[inline]
    pub const fn from_ipv4_bits(bits: u32) -> Self {
        // Lossless: From is not const.
        Self(MAPPED_PREFIX | bits as u128)
    }

    /// The value of an IPv4 address.
    #[must_use]
    #[inline]
    pub const fn ipv4_bits(self) -> Option<u32> {
        if self.is_ipv4() {
            Some(self.low_bits())
        } else {
            None
        }
    }

    /// The lower 32 bits, which are the whole of an IPv4 address.
    #[inline]
    pub(crate) const fn low_bits(self) -> u32 {
        let [a, b, c, d, ..] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Which family the address belongs to.
    #[must_use]
    #[inline]
    pub const fn family(self) -> Family {
        if self.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        }
    }

    /// Whether this is an IPv4 address.
    #[must_use]
    #[inline]
    pub const fn is_ipv4(self) -> bool {
        self.0 >> 32 == MAPPED
    }

    /// The address as the standard library knows it.
    #[must_use]
    pub const fn to_ip(self) -> IpAddr {
        match self.ipv4_bits() {
            Some(bits) => IpAddr::V4(Ipv4Addr::from_bits(bits)),
            None => IpAddr::V6(Ipv6Addr::from_bits(self.0)),
        }
    }

    /// `0.0.0.0` and `::`.
    #[must_use]
    #[inline]
    pub const fn is_unspecified(self) -> bool {
        self.0 == 0 || self.0 == MAPPED_PREFIX
    }

    /// `127.0.0.0/8` and `::1`.
    #[must_use]
    #[inline]
    pub const fn is_loopback(self) -> bool {
        self.is_within_ipv4(0x7f00_0000, 8) || self.0 == 1
    }

    /// `224.0.0.0/4` and `ff00::/8`.
    #[must_use]
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.is_within_ipv4(0xe000_0000, 4) || self.0 >> 120 == 0xff
    }

    /// `255.255.255.255`. A subnet's own broadcast address takes the subnet to know.
    #[must_use]
    #[inline]
    pub const fn is_limited_broadcast(self) -> bool {
        self.0 == MAPPED_PREFIX | 0xffff_ffff
    }

    /// `169.254.0.0/16` (RFC 3927) and `fe80::/10` (RFC 4291 §2.5.6).
    #[must_use]
    #[inline]
    pub const fn is_link_local(self) -> bool {
        self.is_within_ipv4(0xa9fe_0000, 16) || self.0 >> 118 == 0xfe80 >> 6
    }

    /// `240.0.0.0/4`, the limited broadcast address included (RFC 1112 §4, RFC 1812 §5.3.7).
    #[must_use]
    #[inline]
    pub const fn is_reserved(self) -> bool {
        self.is_within_ipv4(0xf000_0000, 4)
    }

    /// `0.0.0.0/8`, "this host on this network" (RFC 1122 §3.2.1.3).
    #[must_use]
    #[inline]
    pub const fn is_this_network(self) -> bool {
        self.is_within_ipv4(0, 8)
    }

    /// Whether a router may forward to the address and from it: nothing of the above is true of it.
    #[must_use]
    #[inline(always)]
    pub const fn is_routable(self) -> bool {
        let [first, second, ..] = self.0.to_be_bytes();
        if self.is_ipv4() {
            let [a, b, _, _] = self.low_bits().to_be_bytes();
            !matches!(a, 0 | 127 | 224..) && !matches!([a, b], [169, 254])
        } else {
            // All others that begin with zeros are as good as any.
            !(first == 0xff || first == 0xfe && second >> 6 == 0b10 || self.0 <= 1)
        }
    }

    /// Whether the address lies in an IPv4 prefix: one shift and one comparison decide family and
    /// prefix together.
    #[inline]
    const fn is_within_ipv4(self, network: u32, length: u32) -> bool {
        let shift = 32 - length;
        // Lossless: From is not const.
        self.0 >> shift == (MAPPED_PREFIX | network as u128) >> shift
    }
}

impl From<Ipv4Addr> for Address {
    #[inline]
    fn from(address: Ipv4Addr) -> Self {
        Self::from_ipv4_bits(address.to_bits())
    }
}

impl From<Ipv6Addr> for Address {
    #[inline]
    fn from(address: Ipv6Addr) -> Self {
        Self(address.to_bits())
    }
}

impl From<IpAddr> for Address {
    #[inline]
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        address.to_ip()
    }
}

impl FromStr for Address {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<IpAddr>().map(Self::from)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_ip(), f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::{any, proptest};

    use super::{Address, Family};

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address_it_means() {
        assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
        assert_eq!(address("10.0.0.1").family(), Family::V4);
        assert_eq!(address("10.0.0.1").bits(), 0xffff_0a00_0001);
        assert_eq!(address("10.0.0.1").ipv4_bits(), Some(0x0a00_0001));
        assert_eq!(address("::10.0.0.1").family(), Family::V6);
        assert_eq!(address("::10.0.0.1").ipv4_bits(), None);
        assert_eq!(
            format!("{} {:?}", address("10.0.0.1"), address("fe80::1")),
            "10.0.0.1 fe80::1"
        );
    }

    /// Each predicate by the first and last member and the neighbours on both sides.
    #[test]
    fn predicates_end_where_their_prefix_ends() {
        type Predicate = fn(Address) -> bool;
        let table: [(&str, Predicate, &[&str], &[&str]); 7] = [
            (
                "unspecified",
                Address::is_unspecified,
                &["0.0.0.0", "::"],
                &["0.0.0.1", "::1", "255.255.255.255"],
            ),
            (
                "loopback",
                Address::is_loopback,
                &["127.0.0.0", "127.255.255.255", "::1"],
                &["126.255.255.255", "128.0.0.0", "::", "::2", "::127.0.0.1"],
            ),
            (
                "multicast",
                Address::is_multicast,
                &[
                    "224.0.0.0",
                    "239.255.255.255",
                    "ff00::",
                    "ff02::1",
                    "ffff:ffff::",
                ],
                &["223.255.255.255", "240.0.0.0", "feff::", "::224.0.0.1"],
            ),
            (
                "limited broadcast",
                Address::is_limited_broadcast,
                &["255.255.255.255"],
                &["255.255.255.254", "::255.255.255.255"],
            ),
            (
                "link-local",
                Address::is_link_local,
                &["169.254.0.0", "169.254.255.255", "fe80::", "febf:ffff::"],
                &["169.253.255.255", "169.255.0.0", "fe7f:ffff::", "fec0::"],
            ),
            (
                "reserved",
                Address::is_reserved,
                &["240.0.0.0", "255.255.255.255"],
                &["239.255.255.255", "::240.0.0.0", "f000::"],
            ),
            (
                "this network",
                Address::is_this_network,
                &["0.0.0.0", "0.255.255.255"],
                &["1.0.0.0", "::", "::1"],
            ),
        ];
        for (name, predicate, inside, outside) in table {
            for text in inside {
                assert!(predicate(address(text)), "{text} is {name}");
            }
            for text in outside {
                assert!(!predicate(address(text)), "{text} is not {name}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_standard_library_agrees(ip: IpAddr, bits: u32) {
            let canonical = ip.to_canonical();
            let address = Address::from(ip);
            assert_eq!(address.to_ip(), canonical);
            assert_eq!(Address::from_bits(address.bits()), address);
            assert_eq!(address.is_ipv4(), canonical.is_ipv4());
            assert_eq!(address.is_loopback(), canonical.is_loopback());
            assert_eq!(address.is_multicast(), canonical.is_multicast());
            assert_eq!(address.is_unspecified(), canonical.is_unspecified());
            assert_eq!(Address::from_ipv4_bits(bits).ipv4_bits(), Some(bits));
        }

        #[test]
        fn routable_is_what_is_nothing_special(bits: u128, ipv4: u32, shift in 0_u32..128) {
            for address in [
                Address::from_bits(bits),
                Address::from_bits(bits >> shift),
                Address::from_ipv4_bits(ipv4),
                Address::from_ipv4_bits(0xa9fe_0000 | ipv4 >> 16),
                Address::from_bits(0xfe80_u128 << 112 | bits >> 9),
            ] {
                let special = address.is_unspecified()
                    || address.is_loopback()
                    || address.is_multicast()
                    || address.is_limited_broadcast()
                    || address.is_link_local()
                    || address.is_reserved()
                    || address.is_this_network();
                assert_eq!(address.is_routable(), !special, "{address}");
            }
        }

        #[test]
        fn text_round_trips(bits in any::<u128>()) {
            let address = Address::from_bits(bits);
            assert_eq!(address.to_string().parse(), Ok(address));
        }
    }
}
