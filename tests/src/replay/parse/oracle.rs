//! Other ways to the same answer: etherparse for the parser, a slow sum for the checksums.

use etherparse::{LaxNetSlice, LaxSlicedPacket, SlicedPacket, TransportSlice};
use heddle_wire::{
    Address, EtherType, Family, Fragment, Ip, Malformed, Network, Protocol, Summary, TcpFlags,
    Transport,
};

/// What the checksums of a datagram are worth; nothing where there is none to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Soundness {
    pub(crate) header: Option<bool>,
    pub(crate) transport: Option<bool>,
}

impl Soundness {
    pub(crate) fn of(frame: &[u8], ip: &Ip) -> Soundness {
        Soundness {
            header: header_is_right(frame, ip),
            transport: transport_is_right(frame, ip),
        }
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_right(self) -> bool {
        self.header != Some(false) && self.transport != Some(false)
    }
}

/// The sum as RFC 1071 §4.1 writes it down, reduced: zero in both of its forms is zero.
fn sum(parts: &[&[u8]]) -> u64 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u64 = words
        .map(|word| u64::from(word[0]) << 8 | u64::from(word.get(1).copied().unwrap_or(0)))
        .sum();
    sum % 0xffff
}

fn header_is_right(frame: &[u8], ip: &Ip) -> Option<bool> {
    let start = usize::from(ip.header_offset);
    let header = &frame[start..start + ip.header_len()];
    (ip.family() == Family::V4).then(|| sum(&[header]) == 0)
}

/// Whether the transport checksum is right; nothing for a part of a datagram, for what is not looked
/// into, and for UDP without a checksum.
fn transport_is_right(frame: &[u8], ip: &Ip) -> Option<bool> {
    let segment = ip.payload(frame).expect("the frame that was parsed");
    if ip.fragment != Fragment::Whole {
        return None;
    }
    let covered = match &ip.transport {
        Transport::Tcp(_) => segment,
        Transport::Udp(_) if segment[6..8] == [0, 0] => return None,
        Transport::Udp(udp) => &segment[..udp.payload_len as usize + 8],
        Transport::Icmp(_) if ip.family() == Family::V4 => return Some(sum(&[segment]) == 0),
        Transport::Icmp(_) => segment,
        Transport::Other | Transport::Absent => return None,
    };
    Some(sum(&[&pseudo_header(ip, covered.len()), covered]) == 0)
}

/// RFC 9293 §3.1, RFC 8200 §8.1; the order of its words does not change the sum.
pub(crate) fn pseudo_header(ip: &Ip, len: usize) -> Vec<u8> {
    let len = u32::try_from(len).expect("a datagram is shorter than 4 GiB");
    let mut words = Vec::new();
    for address in [ip.source, ip.destination] {
        words.extend(octets(address));
    }
    words.extend(len.to_be_bytes());
    words.extend([0, ip.protocol.0]);
    words
}

fn octets(address: Address) -> Vec<u8> {
    match address.to_ip() {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// What the field of a partial checksum must hold.
pub(crate) fn partial_sum(ip: &Ip, len: usize) -> u16 {
    let sum = sum(&[&pseudo_header(ip, len)]);
    u16::try_from(sum).expect("a remainder of 65535")
}

/// Whether etherparse may accept what our parser refuses, or sees more in a packet than it does.
fn is_stricter_than_etherparse(cause: Malformed, frame: &[u8]) -> bool {
    match cause {
        Malformed::Ipv6MappedAddress
        | Malformed::Ipv6Jumbogram
        | Malformed::Ipv4Options
        | Malformed::ExtensionOptions
        | Malformed::ExtensionOrder
        | Malformed::ExtensionsTooMany
        | Malformed::ExtensionsTooLong
        | Malformed::FragmentLength
        | Malformed::FragmentTooLong
        | Malformed::FragmentInsideHeader
        | Malformed::FirstFragmentIncomplete
        // An ARP message of other address sizes may be shorter, and is an ARP message.
        | Malformed::ArpTruncated
        | Malformed::ArpFormat
        // Zero is taken for "up to the end".
        | Malformed::UdpLength => true,
        // Inside fragments etherparse does not look for a transport header.
        Malformed::TransportTruncated | Malformed::TcpHeaderLength => {
            SlicedPacket::from_ethernet(frame)
                .is_ok_and(|packet| packet.is_ip_payload_fragmented())
                || has_no_payload_length(frame)
        }
        Malformed::ExtensionTruncated => has_no_payload_length(frame),
        _ => false,
    }
}

/// An IPv6 payload length of zero, which etherparse takes for "up to the end".
fn has_no_payload_length(frame: &[u8]) -> bool {
    let summary = Summary::parse(frame).expect("layer two is well-formed");
    let header = &frame[usize::from(summary.network_offset)..];
    summary.ether_type == EtherType::IPV6 && header.get(4..6) == Some(&[0, 0])
}

/// Asserts that etherparse sees in a frame what our parser sees.
pub(super) fn agree_with_etherparse(frame: &[u8]) {
    let theirs = LaxSlicedPacket::from_ethernet(frame);
    let summary = match Summary::parse(frame) {
        Ok(summary) => summary,
        Err(Malformed::TooManyTags) => {
            // The third one need not be whole.
            let theirs = theirs.expect("etherparse reads two tags");
            assert!(theirs.link_exts.len() > 2 || theirs.stop_err.is_some());
            return;
        }
        Err(cause) => {
            let refused = theirs.is_err() || theirs.is_ok_and(|theirs| theirs.stop_err.is_some());
            assert!(refused, "{cause:?}");
            return;
        }
    };
    let theirs = theirs.expect("etherparse reads what we read");
    match summary.network {
        Network::Ip(ip) => agree_on_datagram(frame, &ip, &theirs),
        Network::Malformed(cause) => {
            let is_refused = SlicedPacket::from_ethernet(frame).is_err();
            assert!(
                is_refused || is_stricter_than_etherparse(cause, frame),
                "{cause:?}"
            );
        }
        Network::Arp(arp) => {
            let Some(LaxNetSlice::Arp(theirs)) = theirs.net else {
                panic!("{theirs:?}")
            };
            assert_eq!(arp.operation, theirs.operation().0);
            assert_eq!(arp.sender_mac.0, theirs.sender_hw_addr());
            assert_eq!(arp.sender.octets(), theirs.sender_protocol_addr());
            assert_eq!(arp.target_mac.0, theirs.target_hw_addr());
            assert_eq!(arp.target.octets(), theirs.target_protocol_addr());
        }
        Network::Other => {}
    }
}

fn agree_on_datagram(frame: &[u8], ip: &Ip, theirs: &LaxSlicedPacket<'_>) {
    let (is_plain, payload) = match theirs.net.as_ref().expect("etherparse sees IP") {
        LaxNetSlice::Ipv4(slice) => {
            let header = slice.header();
            assert_eq!(ip.source.to_ip(), header.source_addr());
            assert_eq!(ip.destination.to_ip(), header.destination_addr());
            assert_eq!(ip.hop_limit, header.ttl());
            let class = header.dcp().value() << 2 | header.ecn().value();
            assert_eq!(ip.traffic_class, class);
            assert_eq!(ip.dont_fragment, header.dont_fragment());
            assert_eq!(ip.protocol.0, header.protocol().0);
            assert_eq!(ip.header_len(), header.slice().len());
            (slice.extensions().is_empty(), slice.payload().clone())
        }
        LaxNetSlice::Ipv6(slice) => {
            let header = slice.header();
            assert_eq!(ip.source.to_ip(), header.source_addr());
            assert_eq!(ip.destination.to_ip(), header.destination_addr());
            assert_eq!(ip.hop_limit, header.hop_limit());
            assert_eq!(ip.traffic_class, header.traffic_class());
            (true, slice.payload().clone())
        }
        other @ LaxNetSlice::Arp(_) => panic!("{other:?}"),
    };
    assert_eq!(ip.fragment.is_part(), payload.fragmented);
    // etherparse walks on through what only looks like extension headers: an IPv4 datagram's
    // authentication header, and the data of a later fragment.
    let is_plain = is_plain && !matches!(ip.fragment, Fragment::Later { .. });
    if is_plain && !has_no_payload_length(frame) {
        assert_eq!(ip.protocol.0, payload.ip_number.0);
        assert_eq!(
            ip.payload(frame).expect("the frame parsed"),
            payload.payload
        );
        agree_on_transport(ip, theirs.transport.as_ref());
    }
}

fn agree_on_transport(ip: &Ip, theirs: Option<&TransportSlice<'_>>) {
    match (ip.transport, theirs) {
        (Transport::Tcp(tcp), Some(TransportSlice::Tcp(theirs))) => {
            assert_eq!(tcp.source_port, theirs.source_port());
            assert_eq!(tcp.destination_port, theirs.destination_port());
            assert_eq!(tcp.sequence, theirs.sequence_number());
            assert_eq!(tcp.acknowledgement, theirs.acknowledgment_number());
            assert_eq!(tcp.flags.contains(TcpFlags::SYN), theirs.syn());
            assert_eq!(tcp.flags.contains(TcpFlags::FIN), theirs.fin());
            assert_eq!(tcp.flags.contains(TcpFlags::RST), theirs.rst());
            assert_eq!(tcp.window, theirs.window_size());
            assert_eq!(usize::from(tcp.header_len), theirs.header_slice().len());
            assert_eq!(tcp.payload_len as usize, theirs.payload().len());
        }
        (Transport::Udp(udp), Some(TransportSlice::Udp(theirs))) => {
            assert_eq!(udp.source_port, theirs.source_port());
            assert_eq!(udp.destination_port, theirs.destination_port());
            assert_eq!(udp.payload_len as usize, theirs.payload().len());
        }
        (Transport::Icmp(icmp), Some(TransportSlice::Icmpv4(theirs))) => {
            assert_eq!(ip.protocol, Protocol::ICMP);
            assert_eq!((icmp.kind, icmp.code), (theirs.type_u8(), theirs.code_u8()));
            assert_eq!(icmp.word.to_be_bytes(), theirs.bytes5to8());
        }
        (Transport::Icmp(icmp), Some(TransportSlice::Icmpv6(theirs))) => {
            assert_eq!(ip.protocol, Protocol::ICMPV6);
            assert_eq!((icmp.kind, icmp.code), (theirs.type_u8(), theirs.code_u8()));
            assert_eq!(icmp.word.to_be_bytes(), theirs.bytes5to8());
        }
        // etherparse wants ICMP timestamps to have exactly 20 bytes.
        (Transport::Icmp(icmp), None) if matches!(icmp.kind, 13 | 14) => {}
        // etherparse looks into each family's ICMP over the other as well.
        (Transport::Other, Some(TransportSlice::Icmpv4(_))) if ip.family() == Family::V6 => {}
        (Transport::Other, Some(TransportSlice::Icmpv6(_))) if ip.family() == Family::V4 => {}
        (Transport::Other | Transport::Absent, None | Some(TransportSlice::Igmp(_))) => {}
        (Transport::Tcp(_) | Transport::Udp(_) | Transport::Icmp(_), None)
            if ip.fragment.is_part() => {}
        (ours, theirs) => panic!("{ours:?} {theirs:?}"),
    }
}
