//! Why bytes are not the packet that they claim to be.

/// One distinguishable way in which a frame is malformed.
///
/// A frame that is malformed below its IP layer cannot be bridged either and is refused by
/// [`Summary::parse`](crate::Summary::parse); one that is malformed above still has MAC addresses
/// and shows up as [`Network::Malformed`](crate::Network::Malformed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum Malformed {
    /// The frame ends inside its Ethernet header or a VLAN tag.
    #[error("the frame ends inside its Ethernet header or a VLAN tag")]
    FrameTooShort,
    /// More VLAN tags than [`ethernet::TAGS_MAX`](crate::ethernet::TAGS_MAX).
    #[error("the frame has more than two VLAN tags")]
    TooManyTags,
    /// The ARP message ends early.
    #[error("the ARP message ends early")]
    ArpTruncated,
    /// The ARP message is not about IPv4 over Ethernet.
    #[error("the ARP message is not about IPv4 addresses over Ethernet")]
    ArpFormat,
    /// The frame ends inside the IPv4 header (RFC 1812 §5.2.2 (1)).
    #[error("the frame ends inside the IPv4 header")]
    Ipv4Truncated,
    /// The EtherType says IPv4, the header does not (RFC 1812 §5.2.2 (3)).
    #[error("the IPv4 header's version is not 4")]
    Ipv4Version,
    /// The IPv4 header claims less than 20 bytes for itself (RFC 1812 §5.2.2 (4)).
    #[error("the IPv4 header length is below 20 bytes")]
    Ipv4HeaderLength,
    /// The IPv4 total length does not cover the header, or goes beyond the frame (RFC 1812
    /// §5.2.2 (5)).
    #[error("the IPv4 total length is shorter than the header or longer than the frame")]
    Ipv4TotalLength,
    /// An IPv4 option's length is below two or reaches beyond the header.
    #[error("an IPv4 option has an impossible length")]
    Ipv4Options,
    /// The frame ends inside the fixed IPv6 header.
    #[error("the frame ends inside the IPv6 header")]
    Ipv6Truncated,
    /// The EtherType says IPv6, the header does not.
    #[error("the IPv6 header's version is not 6")]
    Ipv6Version,
    /// The IPv6 payload length goes beyond the frame.
    #[error("the IPv6 payload length is longer than the frame")]
    Ipv6PayloadLength,
    /// A jumbogram (RFC 2675): a payload length of zero, or a jumbo payload option.
    #[error("IPv6 jumbograms are not carried")]
    Ipv6Jumbogram,
    /// An IPv4-mapped address in an IPv6 header: it means an IPv4 node, so it never belongs on the
    /// wire (RFC 4291 §2.5.5.2).
    #[error("the IPv6 header holds an IPv4-mapped address")]
    Ipv6MappedAddress,
    /// An IPv6 extension header is shorter than its kind or reaches beyond the datagram.
    #[error("an IPv6 extension header is too short or reaches beyond the datagram")]
    ExtensionTruncated,
    /// A hop-by-hop header that is not the first, or a second fragment header (RFC 8200 §4.1).
    #[error("the IPv6 extension headers stand in an impossible order")]
    ExtensionOrder,
    /// An IPv6 option reaches beyond its extension header.
    #[error("an IPv6 option reaches beyond its extension header")]
    ExtensionOptions,
    /// More extension headers than [`EXTENSION_HEADERS_MAX`](crate::EXTENSION_HEADERS_MAX).
    #[error("the datagram has too many IPv6 extension headers")]
    ExtensionsTooMany,
    /// More bytes of extension headers than
    /// [`EXTENSION_HEADERS_LEN_MAX`](crate::EXTENSION_HEADERS_LEN_MAX).
    #[error("the IPv6 extension headers of the datagram are too long")]
    ExtensionsTooLong,
    /// A fragment without data, or one before the last whose data is not a multiple of eight bytes
    /// (RFC 791 §3.2, RFC 8200 §4.5).
    #[error("the fragment's length is zero or not a multiple of eight")]
    FragmentLength,
    /// A fragment whose datagram would be longer than 65,535 bytes.
    #[error("the fragment ends beyond the longest datagram")]
    FragmentTooLong,
    /// A later fragment that begins inside the TCP header and so could rewrite it on re-assembly
    /// (RFC 1858 §4, RFC 3128).
    #[error("the fragment begins inside the TCP header")]
    FragmentInsideHeader,
    /// A first fragment that does not hold every header (RFC 1858 §3, RFC 7112 §5, RFC 8200 §4.5).
    #[error("the first fragment does not hold the whole transport header")]
    FirstFragmentIncomplete,
    /// The datagram ends inside its transport header.
    #[error("the datagram ends inside its transport header")]
    TransportTruncated,
    /// The TCP data offset is below 20 bytes or beyond the segment.
    #[error("the TCP header length is below 20 bytes or beyond the segment")]
    TcpHeaderLength,
    /// The UDP length is below 8 bytes or beyond the datagram.
    #[error("the UDP length is below 8 bytes or beyond the datagram")]
    UdpLength,
    /// The message is not an ICMP error of a kind that quotes a datagram.
    #[error("the message is not an ICMP error that quotes a datagram")]
    EmbeddedAbsent,
    /// The quoted datagram ends before the first eight bytes of its transport header.
    #[error("the datagram quoted by the ICMP error ends too early")]
    EmbeddedTruncated,
    /// The quoted datagram's header is not a valid one of the same family.
    #[error("the datagram quoted by the ICMP error has an invalid header")]
    EmbeddedHeader,
    /// The quoted IPv4 header's checksum is wrong (RFC 5508 §4.1 REQ-3).
    #[error("the datagram quoted by the ICMP error has a wrong header checksum")]
    EmbeddedChecksum,
}

impl Malformed {
    /// All of them, in the order of [`Malformed::index`].
    pub const ALL: [Self; 30] = [
        Self::FrameTooShort,
        Self::TooManyTags,
        Self::ArpTruncated,
        Self::ArpFormat,
        Self::Ipv4Truncated,
        Self::Ipv4Version,
        Self::Ipv4HeaderLength,
        Self::Ipv4TotalLength,
        Self::Ipv4Options,
        Self::Ipv6Truncated,
        Self::Ipv6Version,
        Self::Ipv6PayloadLength,
        Self::Ipv6Jumbogram,
        Self::Ipv6MappedAddress,
        Self::ExtensionTruncated,
        Self::ExtensionOrder,
        Self::ExtensionOptions,
        Self::ExtensionsTooMany,
        Self::ExtensionsTooLong,
        Self::FragmentLength,
        Self::FragmentTooLong,
        Self::FragmentInsideHeader,
        Self::FirstFragmentIncomplete,
        Self::TransportTruncated,
        Self::TcpHeaderLength,
        Self::UdpLength,
        Self::EmbeddedAbsent,
        Self::EmbeddedTruncated,
        Self::EmbeddedHeader,
        Self::EmbeddedChecksum,
    ];

    /// The place in [`Malformed::ALL`]: an index for counters.
    #[must_use]
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Malformed;

    #[test]
    fn the_list_holds_every_cause_once_in_order_and_with_its_own_sentence() {
        let mut sentences = HashSet::new();
        for (index, cause) in Malformed::ALL.into_iter().enumerate() {
            assert_eq!(cause.index(), index);
            assert!(sentences.insert(cause.to_string()), "{cause} stands twice");
        }
        // A variant added behind the last one and forgotten in the list shows here.
        assert_eq!(
            Malformed::EmbeddedChecksum.index() + 1,
            Malformed::ALL.len()
        );
    }
}
