//! The layer-2 address (IEEE 802, 48 bit).

use std::fmt;
use std::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A 48-bit MAC address, in the order in which it stands on the wire.
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
    Unaligned,
)]
#[repr(transparent)]
pub struct MacAddr(pub [u8; 6]);

/// Text that is not a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a MAC address is six two-digit hexadecimal bytes joined by ':', such as 02:42:0a:00:00:02"
)]
pub struct MacAddrError;

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`, every station.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// `00:00:00:00:00:00`, no station: what an unanswered ARP field holds.
    pub const ZERO: Self = Self([0; 6]);

    /// The address made of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// The bytes in wire order.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 6] {
        &self.0
    }

    /// The address as a number, its first byte the most significant of 48 bits: a table key.
    #[must_use]
    #[inline]
    pub const fn to_u64(self) -> u64 {
        // Two loads, one shift and one swap; from_be_bytes is a dozen vector instructions.
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0]).swap_bytes() >> 16
    }

    /// The inverse of [`MacAddr::to_u64`]; the upper 16 bits are ignored.
    #[must_use]
    #[inline]
    pub const fn from_u64(bits: u64) -> Self {
        let [_, _, a, b, c, d, e, f] = bits.to_be_bytes();
        Self([a, b, c, d, e, f])
    }

    /// Whether this is [`MacAddr::BROADCAST`].
    #[must_use]
    #[inline]
    pub const fn is_broadcast(self) -> bool {
        self.to_u64() == Self::BROADCAST.to_u64()
    }

    /// Whether the group bit is set (broadcast included): the first bit on the wire, which is the
    /// lowest of the first byte.
    #[must_use]
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 0x01 != 0
    }

    /// Whether the address names one station: neither a group nor all zero.
    #[must_use]
    #[inline]
    pub const fn is_unicast(self) -> bool {
        !self.is_multicast() && self.to_u64() != 0
    }

    /// Whether the address is one of `01:80:c2:00:00:00` to `0f`, which no bridge relays
    /// (IEEE 802.1Q §8.6.3).
    #[must_use]
    #[inline]
    pub const fn is_link_local_control(self) -> bool {
        self.to_u64() & !0x0f == 0x0180_c200_0000
    }

    /// Whether the address was chosen locally instead of being assigned by the IEEE.
    #[must_use]
    #[inline]
    pub const fn is_locally_administered(self) -> bool {
        self.0[0] & 0x02 != 0
    }
}

impl From<[u8; 6]> for MacAddr {
    fn from(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }
}

impl From<MacAddr> for [u8; 6] {
    fn from(address: MacAddr) -> Self {
        address.0
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = MacAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(':');
        let mut bytes = [0; 6];
        for byte in &mut bytes {
            let part = parts.next().ok_or(MacAddrError)?;
            // from_str_radix alone would take "+1" and "1".
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(MacAddrError);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| MacAddrError)?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(MacAddrError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MacAddr, MacAddrError};

    #[test]
    fn text_round_trips_and_sloppy_text_is_refused() {
        let address: MacAddr = "02:42:0a:00:00:FE".parse().unwrap();
        assert_eq!(address, MacAddr([0x02, 0x42, 0x0a, 0, 0, 0xfe]));
        assert_eq!(address.to_string(), "02:42:0a:00:00:fe");
        assert_eq!(format!("{address:?}"), "02:42:0a:00:00:fe");
        for text in [
            "",
            "02:42:0a:00:00",
            "02:42:0a:00:00:fe:00",
            "2:42:0a:00:00:fe",
            "+2:42:0a:00:00:fe",
            "02-42-0a-00-00-fe",
            "02:42:0a:00:00:fg",
            "02:42:0a:00:00:fe ",
        ] {
            assert_eq!(text.parse::<MacAddr>(), Err(MacAddrError), "{text:?}");
        }
    }

    #[test]
    fn the_number_keeps_the_order_of_the_bytes() {
        let address = MacAddr([1, 2, 3, 4, 5, 6]);
        assert_eq!(address.to_u64(), 0x0102_0304_0506);
        assert_eq!(MacAddr::from_u64(address.to_u64()), address);
        assert_eq!(MacAddr::from_u64(0xffff_0102_0304_0506), address);
    }

    #[test]
    fn kinds_of_addresses() {
        // address, broadcast, multicast, unicast, control, local
        let table = [
            ("ff:ff:ff:ff:ff:ff", true, true, false, false, true),
            ("00:00:00:00:00:00", false, false, false, false, false),
            ("33:33:00:00:00:01", false, true, false, false, true),
            ("01:00:5e:00:00:fb", false, true, false, false, false),
            ("01:80:c2:00:00:00", false, true, false, true, false),
            ("01:80:c2:00:00:0f", false, true, false, true, false),
            ("01:80:c2:00:00:10", false, true, false, false, false),
            ("02:42:0a:00:00:02", false, false, true, false, true),
            ("52:54:00:12:34:56", false, false, true, false, true),
            ("00:1b:21:00:00:01", false, false, true, false, false),
        ];
        for (text, broadcast, multicast, unicast, control, local) in table {
            let address: MacAddr = text.parse().unwrap();
            assert_eq!(address.is_broadcast(), broadcast, "{text}");
            assert_eq!(address.is_multicast(), multicast, "{text}");
            assert_eq!(address.is_unicast(), unicast, "{text}");
            assert_eq!(address.is_link_local_control(), control, "{text}");
            assert_eq!(address.is_locally_administered(), local, "{text}");
        }
    }
}
