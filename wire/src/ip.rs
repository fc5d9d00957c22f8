//! What the summary keeps of an IP header, in one shape for both families.

use std::fmt;
use std::ops::BitOr;

use crate::transport::Transport;
use crate::{Address, Family, Malformed, Protocol};

/// The longest datagram without the jumbo option, in the sense in which the header counts: IPv4
/// counts its header, IPv6 what follows the fixed header.
const DATAGRAM_MAX: u32 = 65_535;

/// The unit of a fragment's offset (RFC 791 §3.1, RFC 8200 §4.5).
pub(crate) const FRAGMENT_UNIT: u32 = 8;

/// An IPv4 or IPv6 datagram whose headers are consistent with each other and with the frame.
///
/// All offsets count from the start of the frame and lie inside it:
/// `header_offset < transport_offset <= end <= frame.len()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Sender.
    pub source: Address,
    /// Receiver, or with an IPv6 routing header the next hop.
    pub destination: Address,
    /// The upper layer, behind IPv6 extension headers. In a later fragment that has a fragment
    /// header it is that header's next header, which may be an extension header.
    pub protocol: Protocol,
    /// Hops left ("time to live" in IPv4).
    pub hop_limit: u8,
    /// Differentiated services and congestion notification ("type of service" in IPv4).
    pub traffic_class: u8,
    /// Where the IP header starts.
    pub header_offset: u16,
    /// Where the upper layer starts.
    pub transport_offset: u32,
    /// Where the datagram ends; padding or a trailer may follow in the frame.
    pub end: u32,
    /// Which part of a datagram this is.
    pub fragment: Fragment,
    /// Whether routers must not fragment; always true for IPv6 (RFC 8200 §4.5).
    pub dont_fragment: bool,
    /// Options and extension headers that policy asks for.
    pub options: IpOptions,
    /// The upper layer's header.
    pub transport: Transport,
}

impl Ip {
    /// The family of both addresses.
    #[must_use]
    #[inline]
    pub const fn family(&self) -> Family {
        self.source.family()
    }

    /// Bytes of header: IPv4 options and IPv6 extension headers included.
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        // Lossless: From is not const.
        (self.transport_offset - self.header_offset as u32) as usize
    }

    /// Bytes behind the headers.
    #[must_use]
    #[inline]
    pub const fn payload_len(&self) -> usize {
        (self.end - self.transport_offset) as usize
    }

    /// Bytes of the datagram: what an MTU is compared with if the frame is not a super-frame.
    #[must_use]
    #[inline]
    pub const fn total_len(&self) -> usize {
        // Lossless: From is not const.
        (self.end - self.header_offset as u32) as usize
    }

    /// The bytes between the IP headers and the end of the datagram; `None` if `frame` is not the
    /// frame that was parsed.
    #[must_use]
    #[inline]
    pub fn payload<'f>(&self, frame: &'f [u8]) -> Option<&'f [u8]> {
        frame.get(self.transport_offset as usize..self.end as usize)
    }

    /// [`Ip::payload`], to be written.
    #[inline]
    pub(crate) fn payload_mut<'f>(&self, frame: &'f mut [u8]) -> Option<&'f mut [u8]> {
        frame.get_mut(self.transport_offset as usize..self.end as usize)
    }
}

/// Which part of a datagram a packet holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fragment {
    /// All of it. An IPv6 packet whose fragment header says so (an "atomic fragment", RFC 6946)
    /// counts here and shows in [`IpOptions::FRAGMENT_HEADER`].
    Whole,
    /// The beginning, with every header up to and including the transport's.
    First {
        /// What the fragments of one datagram have in common; 16 bits in IPv4.
        id: u32,
    },
    /// Something behind the beginning, without a transport header.
    Later {
        /// What the fragments of one datagram have in common; 16 bits in IPv4.
        id: u32,
        /// Bytes of the datagram's fragmentable part that come before.
        offset: u16,
        /// Whether this is the end of the datagram.
        last: bool,
    },
}

impl Fragment {
    /// Whether the packet is a part and not the whole.
    #[must_use]
    #[inline]
    pub const fn is_part(self) -> bool {
        !matches!(self, Self::Whole)
    }
}

/// A fragment's place as its header gives it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FragmentField {
    pub(crate) id: u32,
    /// In bytes.
    pub(crate) offset: u16,
    pub(crate) more: bool,
}

impl FragmentField {
    pub(crate) const fn is_whole(self) -> bool {
        self.offset == 0 && !self.more
    }

    pub(crate) const fn is_first(self) -> bool {
        self.offset == 0 && self.more
    }

    /// Checks that a fragment of `data_len` bytes is one that a sender could have made and that
    /// re-assembly can take. `header_len` is what the re-assembled header counts besides.
    pub(crate) fn check(
        self,
        header_len: u32,
        data_len: u32,
        protocol: Protocol,
    ) -> Result<Fragment, Malformed> {
        let Self { id, offset, more } = self;
        if self.is_whole() {
            return Ok(Fragment::Whole);
        }
        if data_len == 0 || (more && !data_len.is_multiple_of(FRAGMENT_UNIT)) {
            return Err(Malformed::FragmentLength);
        }
        if header_len + u32::from(offset) + data_len > DATAGRAM_MAX {
            return Err(Malformed::FragmentTooLong);
        }
        if offset == 0 {
            return Ok(Fragment::First { id });
        }
        // The first fragment always holds the whole TCP header, so this one overlaps it.
        if protocol == Protocol::TCP && usize::from(offset) < crate::tcp::HEADER_LEN {
            return Err(Malformed::FragmentInsideHeader);
        }
        Ok(Fragment::Later {
            id,
            offset,
            last: !more,
        })
    }
}

/// A set of IPv4 options and IPv6 extension headers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct IpOptions(pub u8);

impl IpOptions {
    /// No options, no extension headers.
    pub const NONE: Self = Self(0);
    /// The IPv4 header is longer than 20 bytes.
    pub const IPV4: Self = Self(0x01);
    /// An IPv4 loose or strict source route (RFC 791 §3.1, RFC 7126 §4.3).
    pub const SOURCE_ROUTE: Self = Self(0x02);
    /// An IPv6 hop-by-hop options header.
    pub const HOP_BY_HOP: Self = Self(0x04);
    /// An IPv6 routing header of type 0, which must not be processed (RFC 5095 §3).
    pub const ROUTING_TYPE_0: Self = Self(0x08);
    /// An IPv6 routing header of another type.
    pub const ROUTING: Self = Self(0x10);
    /// An IPv6 destination options header.
    pub const DESTINATION: Self = Self(0x20);
    /// An IPv6 fragment header, also if the packet is whole (RFC 6946, RFC 6980 §5).
    pub const FRAGMENT_HEADER: Self = Self(0x40);
    /// An IPv6 authentication header: the addresses cannot be rewritten without breaking it.
    pub const AUTHENTICATION: Self = Self(0x80);

    /// Whether nothing is in the set.
    #[must_use]
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `options` are in the set.
    #[must_use]
    #[inline]
    pub const fn contains(self, options: Self) -> bool {
        self.0 & options.0 == options.0
    }

    /// Whether any of `options` is in the set.
    #[must_use]
    #[inline]
    pub const fn intersects(self, options: Self) -> bool {
        self.0 & options.0 != 0
    }
}

impl BitOr for IpOptions {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for IpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(IpOptions, &str); 8] = [
            (IpOptions::IPV4, "ipv4"),
            (IpOptions::SOURCE_ROUTE, "source-route"),
            (IpOptions::HOP_BY_HOP, "hop-by-hop"),
            (IpOptions::ROUTING_TYPE_0, "routing-type-0"),
            (IpOptions::ROUTING, "routing"),
            (IpOptions::DESTINATION, "destination"),
            (IpOptions::FRAGMENT_HEADER, "fragment-header"),
            (IpOptions::AUTHENTICATION, "authentication"),
        ];
        let names = NAMES
            .iter()
            .filter(|(option, _)| self.contains(*option))
            .map(|(_, name)| name);
        f.debug_set().entries(names).finish()
    }
}
