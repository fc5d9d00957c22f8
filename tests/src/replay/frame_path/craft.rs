//! From the choices of an action to frames, virtio-net header first.

use heddle_switch::link_local;
use heddle_wire::builder::{Link, Packet as Datagram, TcpHeader, offload};
use heddle_wire::{
    Address, Arp, EtherType, Family, Gso, Ip, MacAddr, Network, Protocol, Summary, TcpFlags,
    Transport, VNET_HEADER_LEN, VnetHeader,
};

use super::action::{Complain, Packet, Reply, Speak};
use super::place;

/// Ports that mean something to somebody.
const SERVICES: [u16; 12] = [49_152, 80, 53, 0, 67, 68, 546, 547, 81, 1000, 40_000, 9];

/// Hop limits: enough, and those at the edge.
const HOPS: [u8; 4] = [64, 1, 2, 255];

/// Upper layers; zero is TCP, then UDP and ICMP.
const PROTOCOLS: [Protocol; 8] = [
    Protocol::TCP,
    Protocol::UDP,
    Protocol::ICMP,
    Protocol(132),
    Protocol::NO_NEXT_HEADER,
    Protocol(47),
    Protocol::ICMPV6,
    Protocol(200),
];

/// What ICMP messages quote or carry besides.
const ICMP_WORD: u32 = 0x1234_0001;

/// A finished frame, or one with something left to do, as it comes in.
fn with_header(header: &VnetHeader, frame: &[u8]) -> Vec<u8> {
    [&header.emit(), frame].concat()
}

/// The frames that a [`Packet`] stands for.
pub(super) fn packets(packet: &Packet) -> Vec<Vec<u8>> {
    let port = usize::from(packet.port) % super::world::PORTS;
    let copies = u16::from(packet.more) % 40 + 1;
    (0..copies)
        .map(|copy| one_packet(packet, port, copy))
        .collect()
}

fn one_packet(packet: &Packet, port: usize, copy: u16) -> Vec<u8> {
    let family = if packet.destination & Packet::V6 == 0 {
        Family::V4
    } else {
        Family::V6
    };
    let link = tagged(
        Link::new(
            place::sender(packet.source_mac, port),
            place::receiver(packet.destination_mac, port),
        ),
        packet.tags,
    );
    let source = place::sender_place(packet.source, port, family);
    let destination = place::place(packet.destination & !Packet::V6, family);
    let datagram = shaped(
        link.ip(source, destination)
            .hop_limit(HOPS[usize::from(packet.hops) % HOPS.len()]),
        family,
        packet,
        copy,
    );
    let mut frame = upper(&datagram, family, packet, copy);
    let header = offloaded(&mut frame, family, packet.offload);
    if packet.broken_by != 0 {
        let place = usize::from(packet.broken_at) % frame.len();
        frame[place] ^= packet.broken_by;
    }
    with_header(&header, &frame)
}

fn tagged(link: Link, tags: u8) -> Link {
    match tags % 4 {
        0 => link,
        1 => link.vlan(5),
        2 => link.service_tag(6).vlan(5),
        _ => link.vlan(0),
    }
}

fn shaped(datagram: Datagram, family: Family, packet: &Packet, copy: u16) -> Datagram {
    let shape = packet.shape;
    let datagram = match shape % 8 {
        1 => datagram.dont_fragment(),
        2 => datagram.fragment(first_of(shape, copy), 0, true),
        3 => {
            let (offset, more) = later_of(packet, copy);
            datagram.fragment(0x1111, offset, more)
        }
        _ => datagram.may_fragment(),
    };
    match (shape % 8, family) {
        (4, Family::V4) => datagram.options(&[131, 7, 4, 10, 0, 0, 1, 0]),
        (4, Family::V6) => datagram.extension(Protocol::ROUTING, &[0, 0, 0, 0, 0, 0, 0]),
        (5, Family::V4) => datagram.options(&[148, 4, 0, 0]),
        (5, Family::V6) => datagram.extension(Protocol::HOP_BY_HOP, &[0, 5, 2, 0, 0, 1, 0]),
        (6, Family::V6) => {
            datagram.extension(Protocol::DESTINATION_OPTIONS, &[0, 1, 4, 0, 0, 0, 0])
        }
        (7, Family::V6) => datagram.fragment(0x1111, 0, false),
        _ => datagram,
    }
}

/// The identification of a first fragment: usually the one that the later ones have, else each copy's
/// own.
fn first_of(shape: u8, copy: u16) -> u32 {
    match u32::from(shape / 8) {
        0 => 0x1111,
        run => 0x1111 + run * 64 + u32::from(copy),
    }
}

/// Where a later fragment stands, and whether others follow: usually behind 64 octets and the last one.
/// From 128 on copies stand behind each other and others follow.
fn later_of(packet: &Packet, copy: u16) -> (u16, bool) {
    let choice = u32::from(packet.shape / 8);
    if choice < 16 {
        return (u16::try_from(64 + choice * 8).expect("it is small"), false);
    }
    let place = (choice - 16) * 40 + u32::from(copy);
    let offset = 64 + place * (8 + u32::from(packet.len) * 8);
    let offset = u16::try_from(offset % 0x1_0000).expect("it has 16 bits");
    (offset & !7, true)
}

fn upper(datagram: &Datagram, family: Family, packet: &Packet, copy: u16) -> Vec<u8> {
    let service = |choice: u8| SERVICES[usize::from(choice) % SERVICES.len()];
    let source_port = match service(packet.source_port) {
        0 => 0,
        port => port.wrapping_add(copy),
    };
    let destination_port = service(packet.destination_port);
    let payload = vec![b'x'; usize::from(packet.len) * 8];
    let protocol = PROTOCOLS[usize::from(packet.protocol) % PROTOCOLS.len()];
    if protocol == Protocol::TCP {
        let flags = TcpFlags(packet.flags);
        let options = if flags.contains(TcpFlags::SYN) {
            vec![2, 4, 0x05, 0xb4, 1, 3, 3, 7]
        } else {
            Vec::new()
        };
        let header = TcpHeader {
            source_port,
            destination_port,
            sequence: u32::from(packet.sequence) << 8,
            acknowledgement: u32::from(packet.acknowledgement) << 8,
            flags,
            options,
            ..TcpHeader::default()
        };
        return datagram.tcp(&header, &payload);
    }
    if protocol == Protocol::UDP {
        return datagram.udp(source_port, destination_port, &payload);
    }
    if protocol == Protocol::ICMP {
        let echo = if family == Family::V4 { 8 } else { 128 };
        let kind = if packet.flags == 0 {
            echo
        } else {
            packet.flags
        };
        let word = ICMP_WORD.wrapping_add(u32::from(copy) << 16);
        return datagram.icmp(kind, 0, word, &payload);
    }
    datagram.frame(protocol, &payload)
}

/// Leaves something to be done, where that is possible.
fn offloaded(frame: &mut [u8], family: Family, choice: u8) -> VnetHeader {
    let summary = Summary::parse(frame);
    let ip = summary.as_ref().ok().and_then(|summary| summary.ip());
    let gso = ip.and_then(|ip| match (&ip.transport, family) {
        (Transport::Tcp(_), Family::V4) => Some((Gso::TcpV4, 536)),
        (Transport::Tcp(_), Family::V6) => Some((Gso::TcpV6, 536)),
        (Transport::Udp(_), _) => Some((Gso::Udp, 100)),
        _ => None,
    });
    let may = ip.is_some_and(|ip| VnetHeader::partial(ip, None).is_some());
    match choice % 4 {
        1 if may => offload(frame, None),
        2 if may && gso.is_some() => offload(frame, gso),
        3 => VnetHeader {
            flags: 2,
            ..VnetHeader::NONE
        },
        _ => VnetHeader::NONE,
    }
}

/// The frame that a [`Speak`] stands for.
pub(super) fn speech(speak: &Speak) -> Vec<u8> {
    let port = usize::from(speak.port) % super::world::PORTS;
    let mac = place::sender(speak.mac, port);
    let link = Link::new(
        place::own_mac(port),
        place::receiver(speak.destination_mac, port),
    );
    let kind = speak.kind % 8;
    let frame = if kind < 2 {
        let ipv4 = |address: Address| match address.to_ip() {
            std::net::IpAddr::V4(address) => address,
            std::net::IpAddr::V6(_) => std::net::Ipv4Addr::UNSPECIFIED,
        };
        link.arp(&Arp {
            operation: if kind == 0 { Arp::REQUEST } else { Arp::REPLY },
            sender_mac: mac,
            sender: ipv4(place::sender_place(speak.sender, port, Family::V4)),
            target_mac: MacAddr::ZERO,
            target: ipv4(place::place(speak.target, Family::V4)),
        })
    } else {
        let target = place::place(speak.target, Family::V6);
        let sender = place::sender_place(speak.sender, port, Family::V6);
        let [type_number, option, word] = [
            [135, 1, 0],
            [136, 2, 0x6000_0000],
            [136, 2, 0x2000_0000],
            [134, 1, 0],
            [133, 1, 0],
            [137, 2, 0],
        ][usize::from(kind) - 2];
        let mut body = target.bits().to_be_bytes().to_vec();
        if kind == 6 {
            body.clear();
        }
        body.extend([u8::try_from(option).unwrap_or(1), 1]);
        body.extend(mac.0);
        let to = if speak.destination_mac % 16 == 11 {
            "ff02::1".parse().expect("an address")
        } else {
            target
        };
        let number = u8::try_from(type_number).unwrap_or(0);
        link.ip(sender, to)
            .hop_limit(255)
            .icmp(number, 0, word, &body)
    };
    with_header(&VnetHeader::NONE, &frame)
}

/// What the host at a port answers to a frame that it got, as an ordinary host would; nothing to what
/// nobody answers.
pub(super) fn reply(reply: &Reply, got: &[u8]) -> Option<Vec<u8>> {
    let port = usize::from(reply.port) % super::world::PORTS;
    let frame = got.get(VNET_HEADER_LEN..)?;
    let summary = Summary::parse(frame).ok()?;
    let own = place::own_mac(port);
    let link = Link::new(own, summary.source);
    let answer = match &summary.network {
        Network::Arp(arp) if arp.operation == Arp::REQUEST => link.arp(&Arp {
            operation: Arp::REPLY,
            sender_mac: own,
            sender: arp.target,
            target_mac: arp.sender_mac,
            target: arp.sender,
        }),
        Network::Ip(ip) => answer_to(reply, &link, own, ip, frame)?,
        _ => return None,
    };
    Some(with_header(&VnetHeader::NONE, &answer))
}

fn answer_to(reply: &Reply, link: &Link, own: MacAddr, ip: &Ip, frame: &[u8]) -> Option<Vec<u8>> {
    let back = link.ip(ip.destination, ip.source);
    let payload = vec![b'y'; usize::from(reply.len) * 8];
    let spoken_to = |port: u16| {
        if reply.other_port == 0 {
            port
        } else {
            port.wrapping_add(u16::from(reply.other_port))
        }
    };
    Some(match &ip.transport {
        Transport::Tcp(tcp) => {
            let control = [TcpFlags::SYN, TcpFlags::FIN];
            let control = control.iter().filter(|&&flag| tcp.flags.contains(flag));
            let taken = tcp.payload_len + u32::try_from(control.count()).unwrap_or(0);
            let expected =
                if tcp.flags.contains(TcpFlags::SYN) && !tcp.flags.contains(TcpFlags::ACK) {
                    TcpFlags::SYN | TcpFlags::ACK
                } else {
                    TcpFlags::ACK
                };
            let flags = if reply.flags == 0 {
                expected
            } else {
                TcpFlags(reply.flags)
            };
            let off = i32::from(i8::from_ne_bytes([reply.off])) << 12;
            let header = TcpHeader {
                source_port: spoken_to(tcp.destination_port),
                destination_port: tcp.source_port,
                sequence: tcp.acknowledgement.wrapping_add_signed(off),
                acknowledgement: tcp.sequence.wrapping_add(taken),
                flags,
                ..TcpHeader::default()
            };
            back.tcp(&header, &payload)
        }
        Transport::Udp(udp) => back.udp(spoken_to(udp.destination_port), udp.source_port, &payload),
        Transport::Icmp(icmp) if icmp.is_request(ip.family()) => {
            let kind = if ip.family() == Family::V4 { 0 } else { 129 };
            back.icmp(kind, 0, icmp.word, &payload)
        }
        Transport::Icmp(icmp) if icmp.kind == 135 && ip.family() == Family::V6 => {
            let target: [u8; 16] = ip.payload(frame)?.get(8..24)?.try_into().ok()?;
            let target = Address::from_bits(u128::from_be_bytes(target));
            let to = if ip.source.is_unspecified() {
                link_local(own)
            } else {
                ip.source
            };
            link.neighbour_advertisement(target, to, target, 0x6000_0000)
        }
        _ => return None,
    })
}

/// An ICMP error about a frame that a port got.
pub(super) fn complaint(complain: &Complain, got: &[u8]) -> Option<Vec<u8>> {
    let port = usize::from(complain.port) % super::world::PORTS;
    let frame = got.get(VNET_HEADER_LEN..)?;
    let summary = Summary::parse(frame).ok()?;
    let ip = *summary.ip()?;
    let mut about = frame.to_vec();
    if complain.broken_by != 0 {
        let start = usize::from(ip.header_offset);
        let place = start + usize::from(complain.broken_at) % (about.len() - start);
        about[place] ^= complain.broken_by;
    }
    // Broken so that it is no frame any more: nothing to complain of.
    Summary::parse(&about).ok()?.ip()?;
    let link = Link::new(place::own_mac(port), summary.source);
    let sender = if complain.sender == 0 {
        ip.destination
    } else {
        place::place(complain.sender, ip.family())
    };
    let kind = if complain.kind == 0 {
        if ip.family() == Family::V4 { 3 } else { 1 }
    } else {
        complain.kind
    };
    let error = link
        .ip(sender, ip.source)
        .icmp_error(kind, complain.code, 0, &about);
    Some(with_header(&VnetHeader::NONE, &error))
}

/// Whether a frame is ARP or neighbour discovery, which the gateway may swallow.
pub(super) fn is_resolution(bytes: &[u8]) -> bool {
    let Some(summary) = bytes
        .get(VNET_HEADER_LEN..)
        .and_then(|frame| Summary::parse(frame).ok())
    else {
        return false;
    };
    match &summary.network {
        Network::Arp(_) => true,
        Network::Ip(ip) => matches!(
            &ip.transport,
            Transport::Icmp(icmp) if ip.family() == Family::V6 && matches!(icmp.kind, 135 | 136)
        ),
        _ => summary.ether_type == EtherType::ARP,
    }
}

/// Whether a frame is a fragment for one of the switch's own addresses, whose answer is in as many
/// fragments as that needs.
pub(super) fn is_fragment_for_us(bytes: &[u8]) -> bool {
    let frame = bytes.get(VNET_HEADER_LEN..).unwrap_or_default();
    let Ok(summary) = Summary::parse(frame) else {
        return false;
    };
    summary
        .ip()
        .is_some_and(|ip| ip.fragment.is_part() && place::is_ours(ip.destination))
}
