//! What the tests share: arbitrary frames, and slow or foreign ways to the same answer.

pub(crate) mod flow;

use proptest::collection::vec;
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof};
use proptest::sample::select;

use crate::builder::{Link, Packet, TcpHeader};
use crate::{Address, Family, MacAddr, Protocol, Summary, TcpFlags};

pub(crate) const SOURCE_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(crate) const DESTINATION_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

/// The sum as RFC 1071 §4.1 writes it down: one 16-bit word after the other.
pub(crate) fn slow_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u64;
    for word in bytes.chunks(2) {
        let low = word.get(1).copied().unwrap_or(0);
        sum += u64::from(u16::from_be_bytes([word[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

pub(crate) fn link() -> Link {
    Link::new(SOURCE_MAC, DESTINATION_MAC)
}

pub(crate) fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// The summary's datagram of a frame that has one.
pub(crate) fn ip(frame: &[u8]) -> crate::Ip {
    *Summary::parse(frame).unwrap().ip().expect("a datagram")
}

/// An address that may stand in a header of the family.
pub(crate) fn any_address(family: Family) -> BoxedStrategy<Address> {
    match family {
        Family::V4 => any::<u32>().prop_map(Address::from_ipv4_bits).boxed(),
        Family::V6 => any::<u128>()
            .prop_map(Address::from_bits)
            .prop_filter("a mapped address is IPv4", |address| !address.is_ipv4())
            .boxed(),
    }
}

pub(crate) fn any_family() -> BoxedStrategy<Family> {
    select(vec![Family::V4, Family::V6]).boxed()
}

pub(crate) fn any_tcp_header() -> BoxedStrategy<TcpHeader> {
    let options = prop_oneof![
        Just(vec![]),
        Just(vec![2, 4, 5, 0xb4]),
        Just(vec![1, 2, 4, 5, 0xb4, 3, 3, 7]),
        Just(vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]),
        vec(any::<u8>(), 40),
    ];
    (any::<[u16; 3]>(), any::<[u32; 2]>(), any::<u8>(), options)
        .prop_map(|(shorts, words, flags, options)| TcpHeader {
            source_port: shorts[0],
            destination_port: shorts[1],
            window: shorts[2],
            sequence: words[0],
            acknowledgement: words[1],
            flags: TcpFlags(flags),
            options,
        })
        .boxed()
}

/// What an arbitrary datagram carries.
#[derive(Clone, Debug)]
pub(crate) enum Upper {
    Tcp(TcpHeader, Vec<u8>),
    Udp(u16, u16, Vec<u8>),
    Icmp(u8, u8, u32, Vec<u8>),
    Other(u8, Vec<u8>),
}

impl Upper {
    fn segment(&self, packet: &Packet, family: Family) -> (Protocol, Vec<u8>) {
        match self {
            Self::Tcp(header, payload) => (Protocol::TCP, packet.tcp_segment(header, payload)),
            Self::Udp(source, destination, payload) => (
                Protocol::UDP,
                packet.udp_segment(*source, *destination, payload),
            ),
            Self::Icmp(kind, code, word, payload) => {
                let protocol = match family {
                    Family::V4 => Protocol::ICMP,
                    Family::V6 => Protocol::ICMPV6,
                };
                (protocol, packet.icmp_message(*kind, *code, *word, payload))
            }
            Self::Other(protocol, payload) => (Protocol(*protocol), payload.clone()),
        }
    }
}

pub(crate) fn any_upper() -> BoxedStrategy<Upper> {
    let payload = || vec(any::<u8>(), 0..80);
    prop_oneof![
        (any_tcp_header(), payload()).prop_map(|(header, data)| Upper::Tcp(header, data)),
        (any::<[u16; 2]>(), payload())
            .prop_map(|(ports, data)| Upper::Udp(ports[0], ports[1], data)),
        (any::<u8>(), any::<u8>(), any::<u32>(), payload())
            .prop_map(|(kind, code, word, data)| Upper::Icmp(kind, code, word, data)),
        // GRE, ESP, SCTP, UDP-Lite and a number of nobody.
        (select(vec![47, 50, 132, 136, 200]), payload())
            .prop_map(|(protocol, data)| Upper::Other(protocol, data)),
    ]
    .boxed()
}

/// Which part of a datagram an arbitrary frame carries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Whole,
    First(u32),
    Later(u32, u16, bool),
}

/// An arbitrary well-formed frame with a datagram: tags, options, extension headers, fragments,
/// padding.
pub(crate) fn any_datagram_frame() -> BoxedStrategy<Vec<u8>> {
    let part = prop_oneof![
        4 => Just(Part::Whole),
        1 => any::<u16>().prop_map(|id| Part::First(id.into())),
        1 => (any::<u16>(), 3_u16..8_000, any::<bool>())
            .prop_map(|(id, units, last)| Part::Later(id.into(), units * 8, last)),
    ];
    let padding = vec(any::<u8>(), 0..12);
    (
        any_family().prop_flat_map(any_packet),
        part,
        any_upper(),
        padding,
    )
        .prop_map(|((packet, family), part, upper, padding)| {
            let (protocol, mut content) = upper.segment(&packet, family);
            let packet = match part {
                Part::Whole => packet,
                Part::First(id) => packet.fragment(id, 0, true),
                Part::Later(id, offset, last) => packet.fragment(id, offset, !last),
            };
            if !matches!(part, Part::Whole) {
                content.resize(content.len().max(1).next_multiple_of(8), 0);
            }
            let mut frame = packet.frame(protocol, &content);
            frame.extend(padding);
            frame
        })
        .boxed()
}

/// Tags and an IP header of the family.
fn any_packet(family: Family) -> BoxedStrategy<(Packet, Family)> {
    let tags = vec((any::<bool>(), any::<u16>()), 0..=2);
    let addresses = (any_address(family), any_address(family));
    let header = (any::<u8>(), any::<u8>(), any::<u16>(), any::<bool>());
    (tags, addresses, header, any_options(family))
        .prop_map(move |(tags, (source, destination), header, options)| {
            let mut link = link();
            for (is_service, control) in tags {
                link = if is_service {
                    link.service_tag(control)
                } else {
                    link.vlan(control)
                };
            }
            let (hops, class, id, dont_fragment) = header;
            let mut packet = link.ip(source, destination).hop_limit(hops);
            packet = packet.traffic_class(class).id(id);
            if !dont_fragment {
                packet = packet.may_fragment();
            }
            for (kind, content) in options {
                packet = match kind {
                    None => packet.options(&content),
                    Some(kind) => packet.extension(kind, &content),
                };
            }
            (packet, family)
        })
        .boxed()
}

/// IPv4 options, or IPv6 extension headers by kind.
fn any_options(family: Family) -> BoxedStrategy<Vec<(Option<Protocol>, Vec<u8>)>> {
    match family {
        Family::V4 => select(vec![
            vec![],
            vec![],
            vec![(None, vec![148, 4, 0, 0])],
            vec![(None, vec![1, 131, 7, 4, 10, 0, 0, 1])],
            vec![(None, vec![7, 7, 4, 0, 0, 0, 0, 0])],
        ])
        .boxed(),
        Family::V6 => {
            let hop_by_hop = vec![0, 5, 2, 0, 0, 1, 0];
            let destination = vec![0, 1, 4, 0, 0, 0, 0];
            let mut routing = vec![2, 2, 0];
            routing.extend([0; 20]);
            let mut authentication = vec![4, 0, 0];
            authentication.extend([7; 20]);
            select(vec![
                vec![],
                vec![],
                vec![(Some(Protocol::HOP_BY_HOP), hop_by_hop.clone())],
                vec![(Some(Protocol::DESTINATION_OPTIONS), destination.clone())],
                vec![(Some(Protocol::AUTHENTICATION), authentication)],
                vec![
                    (Some(Protocol::HOP_BY_HOP), hop_by_hop),
                    (Some(Protocol::DESTINATION_OPTIONS), destination.clone()),
                    (Some(Protocol::ROUTING), routing),
                    (Some(Protocol::DESTINATION_OPTIONS), destination),
                ],
            ])
            .boxed()
        }
    }
}

/// A frame in which a few bytes were changed and the end was perhaps cut off.
pub(crate) fn any_mutated_frame() -> BoxedStrategy<Vec<u8>> {
    let changes = vec((any::<u16>(), any::<u8>()), 1..5);
    (any_datagram_frame(), changes, 0_usize..200)
        .prop_map(|(mut frame, changes, cut)| {
            for (place, byte) in changes {
                // Headers are where changes matter.
                let place = usize::from(place) % frame.len().min(100);
                frame[place] = byte;
            }
            if cut < frame.len() && cut % 4 == 0 {
                frame.truncate(frame.len() - cut);
            }
            frame
        })
        .boxed()
}
