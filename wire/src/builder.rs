//! Frames from nothing: what a gateway says of its own accord (answers to ARP and neighbour discovery,
//! ICMP errors, resets), and frames for tests, benches and fuzzing. One expression a frame, every checksum right.
//!
//! Nothing here is for the path of other people's frames: every function allocates, and those that
//! are given more than a datagram holds, or two families, panic. Whoever wants a broken frame builds a right one and
//! breaks it.
//!
//! ```
//! use heddle_wire::builder::{Link, TcpHeader};
//! use heddle_wire::{MacAddr, Summary, TcpFlags};
//!
//! let link = Link::new(MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
//! let header = TcpHeader { destination_port: 80, flags: TcpFlags::SYN, ..TcpHeader::default() };
//! let frame = link.ip("10.0.0.1", "10.0.0.2").tcp(&header, b"");
//! assert!(Summary::parse(&frame)?.ip().is_some());
//! # Ok::<(), heddle_wire::Malformed>(())
//! ```

use std::net::IpAddr;

use crate::checksum;
use crate::ipv4::{DONT_FRAGMENT, MORE_FRAGMENTS};
use crate::rewrite::field;
use crate::{
    Address, Arp, EtherType, Family, Gso, MacAddr, Protocol, Summary, TcpFlags, VnetHeader, icmp,
    ipv4, ipv6,
};

/// The longest ICMP error datagram: RFC 1812 §4.3.2.3 for IPv4, RFC 4443 §2.4 (c) for IPv6.
const ERROR_LEN_MAX: [usize; 2] = [576, 1280];

/// The two stations of a frame, and its VLAN tags.
#[derive(Clone, Debug)]
pub struct Link {
    source: MacAddr,
    destination: MacAddr,
    tags: Vec<(EtherType, u16)>,
}

/// A datagram to be: what its IP header shall say.
#[derive(Clone, Debug)]
pub struct Packet {
    link: Link,
    source: Address,
    destination: Address,
    hop_limit: u8,
    traffic_class: u8,
    id: u32,
    dont_fragment: bool,
    more_fragments: bool,
    /// In bytes.
    fragment_offset: u16,
    options: Vec<u8>,
    extensions: Vec<(Protocol, Vec<u8>)>,
}

/// What a TCP header shall say.
#[derive(Clone, Debug)]
pub struct TcpHeader {
    /// Sender's port.
    pub source_port: u16,
    /// Receiver's port.
    pub destination_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Flags.
    pub flags: TcpFlags,
    /// Window.
    pub window: u16,
    /// Options, a multiple of four bytes and at most 40.
    pub options: Vec<u8>,
}

impl Default for TcpHeader {
    fn default() -> Self {
        Self {
            source_port: 49_152,
            destination_port: 80,
            sequence: 1,
            acknowledgement: 1,
            flags: TcpFlags::ACK,
            window: 64_240,
            options: Vec::new(),
        }
    }
}

/// What can be named as an address: an [`Address`], one of the standard library's, or text.
pub trait IntoAddress {
    /// The address.
    ///
    /// # Panics
    ///
    /// On text that is not an address.
    fn into_address(self) -> Address;
}

impl IntoAddress for Address {
    fn into_address(self) -> Address {
        self
    }
}

impl IntoAddress for IpAddr {
    fn into_address(self) -> Address {
        self.into()
    }
}

impl IntoAddress for &str {
    fn into_address(self) -> Address {
        self.parse()
            .expect("a test names addresses that are addresses")
    }
}

impl Link {
    /// From one station to another, untagged.
    #[must_use]
    pub fn new(source: MacAddr, destination: MacAddr) -> Self {
        Self {
            source,
            destination,
            tags: Vec::new(),
        }
    }

    /// With one more VLAN tag, inside those that are already there.
    #[must_use]
    pub fn vlan(mut self, control: u16) -> Self {
        self.tags.push((EtherType::VLAN, control));
        self
    }

    /// With one more service tag (IEEE 802.1ad), inside those that are already there.
    #[must_use]
    pub fn service_tag(mut self, control: u16) -> Self {
        self.tags.push((EtherType::QINQ, control));
        self
    }

    /// A frame with any content.
    #[must_use]
    pub fn frame(&self, ether_type: EtherType, content: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(22 + content.len());
        frame.extend(self.destination.0);
        frame.extend(self.source.0);
        for (tag, control) in &self.tags {
            frame.extend(tag.0.to_be_bytes());
            frame.extend(control.to_be_bytes());
        }
        frame.extend(ether_type.0.to_be_bytes());
        frame.extend(content);
        frame
    }

    /// An ARP message.
    #[must_use]
    pub fn arp(&self, message: &Arp) -> Vec<u8> {
        self.frame(EtherType::ARP, &message.emit())
    }

    /// A datagram between two addresses of one family.
    ///
    /// # Panics
    ///
    /// If the families differ.
    #[must_use]
    pub fn ip(&self, source: impl IntoAddress, destination: impl IntoAddress) -> Packet {
        let (source, destination) = (source.into_address(), destination.into_address());
        assert_eq!(
            source.family(),
            destination.family(),
            "one datagram has one family"
        );
        Packet {
            link: self.clone(),
            source,
            destination,
            hop_limit: 64,
            traffic_class: 0,
            id: 0x1234,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            options: Vec::new(),
            extensions: Vec::new(),
        }
    }

    /// A neighbour solicitation for `target` with this link's source as source link-layer address
    /// (RFC 4861 §4.3); without it if `source` is unspecified.
    #[must_use]
    pub fn neighbour_solicitation(
        &self,
        source: impl IntoAddress,
        destination: impl IntoAddress,
        target: impl IntoAddress,
    ) -> Vec<u8> {
        let source = source.into_address();
        let mut body = target.into_address().bits().to_be_bytes().to_vec();
        if !source.is_unspecified() {
            body.extend([1, 1]);
            body.extend(self.source.0);
        }
        self.ip(source, destination).hop_limit(255).icmp(
            icmp::v6::NEIGHBOUR_SOLICITATION,
            0,
            0,
            &body,
        )
    }

    /// A neighbour advertisement for `target` with this link's source as target link-layer address
    /// (RFC 4861 §4.4). `flags` are router, solicited and override, from the top of the word.
    #[must_use]
    pub fn neighbour_advertisement(
        &self,
        source: impl IntoAddress,
        destination: impl IntoAddress,
        target: impl IntoAddress,
        flags: u32,
    ) -> Vec<u8> {
        let mut body = target.into_address().bits().to_be_bytes().to_vec();
        body.extend([2, 1]);
        body.extend(self.source.0);
        self.ip(source, destination).hop_limit(255).icmp(
            icmp::v6::NEIGHBOUR_ADVERTISEMENT,
            0,
            flags,
            &body,
        )
    }
}

impl Packet {
    /// With this many hops left instead of 64.
    #[must_use]
    pub fn hop_limit(mut self, hops: u8) -> Self {
        self.hop_limit = hops;
        self
    }

    /// With this traffic class (type of service).
    #[must_use]
    pub fn traffic_class(mut self, class: u8) -> Self {
        self.traffic_class = class;
        self
    }

    /// With this IPv4 identification.
    #[must_use]
    pub fn id(mut self, id: u16) -> Self {
        self.id = id.into();
        self
    }

    /// With IPv4's "don't fragment", which is what a packet has if nothing else is said: hosts that
    /// find out the path's MTU send it so.
    #[must_use]
    pub fn dont_fragment(mut self) -> Self {
        self.dont_fragment = true;
        self
    }

    /// Without IPv4's "don't fragment".
    #[must_use]
    pub fn may_fragment(mut self) -> Self {
        self.dont_fragment = false;
        self
    }

    /// With IPv4 options: a multiple of four bytes, at most 40.
    #[must_use]
    pub fn options(mut self, options: &[u8]) -> Self {
        assert!(
            options.len().is_multiple_of(4) && options.len() <= 40,
            "options are whole words"
        );
        self.options = options.to_vec();
        self
    }

    /// With one more IPv6 extension header behind those that are already there. `content` is what
    /// follows its first byte, which names the next header.
    #[must_use]
    pub fn extension(mut self, kind: Protocol, content: &[u8]) -> Self {
        assert_eq!(
            self.source.family(),
            Family::V6,
            "IPv4 has no extension headers"
        );
        self.extensions.push((kind, content.to_vec()));
        self
    }

    /// As a fragment: `offset` in bytes, a multiple of eight. For IPv6 this adds the fragment
    /// header behind the extension headers that are already there. It may be fragmented further if
    /// nothing else is said afterwards.
    #[must_use]
    pub fn fragment(mut self, id: u32, offset: u16, more: bool) -> Self {
        assert!(
            offset.is_multiple_of(8),
            "fragments start at multiples of eight bytes"
        );
        self.id = id;
        self.dont_fragment = false;
        self.fragment_offset = offset;
        self.more_fragments = more;
        if self.source.family() == Family::V6 {
            let mut content = vec![0];
            content.extend((offset | u16::from(more)).to_be_bytes());
            content.extend(id.to_be_bytes());
            self.extensions.push((Protocol::FRAGMENT, content));
        }
        self
    }

    /// A TCP segment.
    #[must_use]
    pub fn tcp(&self, header: &TcpHeader, payload: &[u8]) -> Vec<u8> {
        self.frame(Protocol::TCP, &self.tcp_segment(header, payload))
    }

    /// A UDP datagram.
    #[must_use]
    pub fn udp(&self, source_port: u16, destination_port: u16, payload: &[u8]) -> Vec<u8> {
        self.frame(
            Protocol::UDP,
            &self.udp_segment(source_port, destination_port, payload),
        )
    }

    /// An ICMP or ICMPv6 message, by the addresses' family; `word` is bytes 4 to 8.
    #[must_use]
    pub fn icmp(&self, kind: u8, code: u8, word: u32, payload: &[u8]) -> Vec<u8> {
        let protocol = match self.source.family() {
            Family::V4 => Protocol::ICMP,
            Family::V6 => Protocol::ICMPV6,
        };
        self.frame(protocol, &self.icmp_message(kind, code, word, payload))
    }

    /// An ICMP error that quotes as much of the datagram in `frame` as such an error may.
    ///
    /// # Panics
    ///
    /// If `frame` carries no datagram.
    #[must_use]
    pub fn icmp_error(&self, kind: u8, code: u8, word: u32, frame: &[u8]) -> Vec<u8> {
        let summary = Summary::parse(frame).expect("an error quotes a frame");
        let ip = summary.ip().expect("an error quotes a datagram");
        let datagram = &frame[usize::from(ip.header_offset)..ip.end as usize];
        let (family, header_len) = match self.source.family() {
            Family::V4 => (0, ipv4::HEADER_LEN),
            Family::V6 => (1, ipv6::HEADER_LEN),
        };
        let room = ERROR_LEN_MAX[family] - header_len - icmp::HEADER_LEN;
        self.icmp(kind, code, word, &datagram[..datagram.len().min(room)])
    }

    /// A datagram with any content. A fragment's content is a part of what one of the
    /// `..._segment` functions makes.
    #[must_use]
    pub fn frame(&self, protocol: Protocol, content: &[u8]) -> Vec<u8> {
        match self.source.family() {
            Family::V4 => self
                .link
                .frame(EtherType::IPV4, &self.ipv4(protocol, content)),
            Family::V6 => self
                .link
                .frame(EtherType::IPV6, &self.ipv6(protocol, content)),
        }
    }

    /// A whole TCP segment, without IP header.
    #[must_use]
    pub fn tcp_segment(&self, header: &TcpHeader, payload: &[u8]) -> Vec<u8> {
        let options = &header.options;
        assert!(
            options.len().is_multiple_of(4) && options.len() <= 40,
            "options are whole words"
        );
        let words = u8::try_from(5 + options.len() / 4).expect("at most fifteen words");
        let mut segment = Vec::new();
        segment.extend(header.source_port.to_be_bytes());
        segment.extend(header.destination_port.to_be_bytes());
        segment.extend(header.sequence.to_be_bytes());
        segment.extend(header.acknowledgement.to_be_bytes());
        segment.extend([words << 4, header.flags.0]);
        segment.extend(header.window.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend(options);
        segment.extend(payload);
        let checksum = self.checksum(Protocol::TCP, &segment);
        segment[16..18].copy_from_slice(&checksum.to_be_bytes());
        segment
    }

    /// A whole UDP datagram, without IP header.
    #[must_use]
    pub fn udp_segment(&self, source_port: u16, destination_port: u16, payload: &[u8]) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(source_port.to_be_bytes());
        segment.extend(destination_port.to_be_bytes());
        segment.extend(len_u16(8 + payload.len()).to_be_bytes());
        segment.extend([0; 2]);
        segment.extend(payload);
        let checksum = match self.checksum(Protocol::UDP, &segment) {
            0 => 0xffff,
            checksum => checksum,
        };
        segment[6..8].copy_from_slice(&checksum.to_be_bytes());
        segment
    }

    /// A whole ICMP or ICMPv6 message, without IP header.
    #[must_use]
    pub fn icmp_message(&self, kind: u8, code: u8, word: u32, payload: &[u8]) -> Vec<u8> {
        let mut message = vec![kind, code, 0, 0];
        message.extend(word.to_be_bytes());
        message.extend(payload);
        let checksum = match self.source.family() {
            Family::V4 => !checksum::sum(&message),
            Family::V6 => self.checksum(Protocol::ICMPV6, &message),
        };
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        message
    }

    fn checksum(&self, protocol: Protocol, segment: &[u8]) -> u16 {
        let len = u32::try_from(segment.len()).expect("segments are shorter than 4 GiB");
        let mut sum = checksum::pseudo_header(self.source, self.destination, protocol, len);
        sum.add(segment);
        sum.finish()
    }

    fn ipv4(&self, protocol: Protocol, content: &[u8]) -> Vec<u8> {
        let header_len = ipv4::HEADER_LEN + self.options.len();
        let words = u8::try_from(header_len / 4).expect("at most fifteen words");
        let mut flags = self.fragment_offset / 8;
        flags |= if self.dont_fragment { DONT_FRAGMENT } else { 0 };
        flags |= if self.more_fragments {
            MORE_FRAGMENTS
        } else {
            0
        };
        let mut packet = vec![0x40 | words, self.traffic_class];
        packet.extend(len_u16(header_len + content.len()).to_be_bytes());
        packet.extend(
            u16::try_from(self.id)
                .expect("IPv4 has 16 bits")
                .to_be_bytes(),
        );
        packet.extend(flags.to_be_bytes());
        packet.extend([self.hop_limit, protocol.0, 0, 0]);
        packet.extend(self.source.low_bits().to_be_bytes());
        packet.extend(self.destination.low_bits().to_be_bytes());
        packet.extend(&self.options);
        let checksum = !checksum::sum(&packet);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet.extend(content);
        packet
    }

    fn ipv6(&self, protocol: Protocol, content: &[u8]) -> Vec<u8> {
        let mut kinds = self
            .extensions
            .iter()
            .map(|(kind, _)| *kind)
            .chain([protocol]);
        let first = kinds.next().unwrap_or(protocol);
        let mut payload = Vec::new();
        for ((_, extension), next) in self.extensions.iter().zip(kinds) {
            payload.push(next.0);
            payload.extend(extension);
        }
        payload.extend(content);
        let mut packet = vec![
            0x60 | (self.traffic_class >> 4),
            self.traffic_class << 4,
            0,
            0,
        ];
        packet.extend(len_u16(payload.len()).to_be_bytes());
        packet.extend([first.0, self.hop_limit]);
        packet.extend(self.source.bits().to_be_bytes());
        packet.extend(self.destination.bits().to_be_bytes());
        packet.extend(payload);
        packet
    }
}

/// Makes the complete checksum of `frame` a partial one, as a sender with offloads leaves it, and
/// returns the virtio-net header that says so; with `gso`, that also makes it a super-frame.
///
/// # Panics
///
/// If the frame's transport header has no checksum that can be partial.
#[must_use]
pub fn offload(frame: &mut [u8], gso: Option<(Gso, u16)>) -> VnetHeader {
    let summary = Summary::parse(frame).expect("an offloaded frame is a frame");
    let ip = summary.ip().expect("an offloaded frame carries a datagram");
    let header = VnetHeader::partial(ip, gso).expect("the datagram has a checksum");
    let len = u32::try_from(ip.payload_len()).expect("a datagram is shorter than 4 GiB");
    let sum = checksum::pseudo_header(ip.source, ip.destination, ip.protocol, len).sum();
    let place = usize::from(header.checksum_start) + usize::from(header.checksum_offset);
    *field(frame, place).expect("the checksum lies inside the frame") = sum.to_be_bytes();
    header
}

fn len_u16(len: usize) -> u16 {
    u16::try_from(len).expect("a datagram is at most 65,535 bytes")
}
