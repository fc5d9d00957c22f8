//! Frames that are not what they claim to be, and headers that do not fit them.

use heddle_wire::builder::{TcpHeader, offload};
use heddle_wire::{
    Address, Arp, EtherType, Family, Gso, Malformed, Protocol, TcpFlags, VnetError, VnetHeader,
};

use super::{A, E, SERVERS, Seed, WAN, from, link, own, raw, raw_with, seed};
use crate::replay::frame_path::DropReason;

const V4: &str = SERVERS[0];
const V6: &str = SERVERS[1];

/// Octets of padding that an IPv6 destination options header of eight octets holds.
const PADDING: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];

pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = layer_two().into_iter().map(malformed).collect();
    seeds.extend(ipv4().into_iter().map(malformed));
    seeds.extend(ipv6().into_iter().map(malformed));
    seeds.extend(upper().into_iter().map(malformed));
    seeds.extend(quotes());
    seeds.extend(offloads());
    seeds.extend(super_frames());
    seeds
}

fn malformed((cause, frame): (Malformed, Vec<u8>)) -> Seed {
    let name = DropReason::Malformed(cause).name();
    // Twice: where there is no bridge, the router finds it.
    seed(&name, vec![raw(A, &frame), raw(E, &frame)])
}

/// A frame with some of its octets changed.
fn with(mut frame: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    for &(place, octet) in changes {
        frame[place] = octet;
    }
    frame
}

fn layer_two() -> Vec<(Malformed, Vec<u8>)> {
    let question = Arp {
        operation: Arp::REQUEST,
        sender_mac: crate::replay::frame_path::place::own_mac(0),
        sender: [10, 1, 0, 2].into(),
        target_mac: heddle_wire::MacAddr::ZERO,
        target: [10, 1, 0, 1].into(),
    };
    let arp = link(A).arp(&question);
    let tagged = link(A).service_tag(1).vlan(2).vlan(3);
    vec![
        (Malformed::FrameTooShort, arp[..9].to_vec()),
        (
            Malformed::TooManyTags,
            tagged.frame(EtherType::IPV4, &[0; 20]),
        ),
        (Malformed::ArpTruncated, arp[..arp.len() - 3].to_vec()),
        (Malformed::ArpFormat, with(arp, &[(15, 9)])),
    ]
}

fn ipv4() -> Vec<(Malformed, Vec<u8>)> {
    let udp = from(A, V4).udp(1, 2, b"12345678");
    vec![
        (Malformed::Ipv4Truncated, udp[..30].to_vec()),
        (Malformed::Ipv4Version, with(udp.clone(), &[(14, 0x65)])),
        (
            Malformed::Ipv4HeaderLength,
            with(udp.clone(), &[(14, 0x44)]),
        ),
        (Malformed::Ipv4TotalLength, with(udp, &[(16, 0), (17, 19)])),
        (
            Malformed::Ipv4Options,
            from(A, V4).options(&[131, 0, 0, 0]).udp(1, 2, b""),
        ),
    ]
}

fn ipv6() -> Vec<(Malformed, Vec<u8>)> {
    let udp = from(A, V6).udp(1, 2, b"12345678");
    let hop_by_hop = from(A, V6).extension(Protocol::HOP_BY_HOP, &[0, 5, 2, 0, 0, 1, 0]);
    let whole = hop_by_hop.clone().udp(1, 2, b"");
    let twice = hop_by_hop.extension(Protocol::HOP_BY_HOP, &PADDING);
    let many = (0..=heddle_wire::EXTENSION_HEADERS_MAX).fold(from(A, V6), |packet, _| {
        packet.extension(Protocol::DESTINATION_OPTIONS, &PADDING)
    });
    let units = heddle_wire::EXTENSION_HEADERS_LEN_MAX / 8 + 1;
    let mut long = vec![0; units * 8 - 1];
    long[0] = u8::try_from(units - 1).expect("it is 32");
    let long = from(A, V6).extension(Protocol::DESTINATION_OPTIONS, &long);
    let mut mapped = udp.clone();
    let inside: Address = "10.0.0.1".parse().expect("an address");
    mapped[22..38].copy_from_slice(&inside.bits().to_be_bytes());
    vec![
        (Malformed::Ipv6Truncated, udp[..40].to_vec()),
        (Malformed::Ipv6Version, with(udp.clone(), &[(14, 0x40)])),
        (Malformed::Ipv6PayloadLength, with(udp, &[(18, 0xff)])),
        (
            Malformed::Ipv6Jumbogram,
            with(whole.clone(), &[(18, 0), (19, 0)]),
        ),
        (Malformed::Ipv6MappedAddress, mapped),
        (
            Malformed::ExtensionTruncated,
            with(whole.clone(), &[(55, 2)]),
        ),
        (Malformed::ExtensionOrder, twice.udp(1, 2, b"")),
        (Malformed::ExtensionOptions, with(whole, &[(57, 5)])),
        (Malformed::ExtensionsTooMany, many.udp(1, 2, b"")),
        (Malformed::ExtensionsTooLong, long.udp(1, 2, b"")),
    ]
}

fn upper() -> Vec<(Malformed, Vec<u8>)> {
    let tcp = from(A, V4).tcp(&TcpHeader::default(), b"1234");
    let udp = from(A, V4).udp(1, 2, b"1234");
    vec![
        (
            Malformed::FragmentLength,
            from(A, V4)
                .fragment(1, 64, true)
                .frame(Protocol::UDP, b"12345"),
        ),
        (
            Malformed::FragmentTooLong,
            from(A, V6)
                .fragment(1, 0xfff8, false)
                .frame(Protocol::UDP, &[0; 16]),
        ),
        (
            Malformed::FragmentInsideHeader,
            from(A, V4)
                .fragment(1, 8, false)
                .frame(Protocol::TCP, &[0; 16]),
        ),
        (
            Malformed::FirstFragmentIncomplete,
            from(A, V6)
                .fragment(1, 0, true)
                .frame(Protocol::TCP, &[0; 8]),
        ),
        (
            Malformed::TransportTruncated,
            from(A, V6).frame(Protocol::UDP, &[0; 4]),
        ),
        (Malformed::TcpHeaderLength, with(tcp, &[(46, 0x40)])),
        (Malformed::UdpLength, with(udp, &[(38, 0), (39, 3)])),
    ]
}

/// ICMP errors from outside whose quotes are broken.
fn quotes() -> Vec<Seed> {
    let about = from(A, V4).udp(1, 2, b"12345678");
    let quote = &about[14..];
    let table = [
        (Malformed::EmbeddedTruncated, quote[..24].to_vec()),
        (
            Malformed::EmbeddedHeader,
            with(quote.to_vec(), &[(0, 0x65)]),
        ),
        (
            Malformed::EmbeddedChecksum,
            with(quote.to_vec(), &[(10, 0), (11, 0)]),
        ),
    ];
    let mut seeds: Vec<Seed> = table
        .into_iter()
        .map(|(cause, quote)| {
            let error = from(WAN, "192.0.2.2").icmp(3, 3, 0, &quote);
            seed(&DropReason::Malformed(cause).name(), vec![raw(WAN, &error)])
        })
        .collect();
    // An error of a kind yet unknown, of which nobody knows where it quotes.
    let error = from(WAN, "2001:db8:2::2").icmp(100, 0, 0, quote);
    let name = DropReason::Malformed(Malformed::EmbeddedAbsent).name();
    seeds.push(seed(&name, vec![raw(WAN, &error)]));
    seeds
}

fn offloads() -> Vec<Seed> {
    let mut partial = from(A, V4).udp(1, 2, &[7; 400]);
    let udp = offload(&mut partial, Some((Gso::Udp, 100)));
    let mut segments = from(A, V4).tcp(&TcpHeader::default(), &[7; 1200]);
    let tcp = offload(&mut segments, Some((Gso::TcpV4, 536)));
    let other = link(A).frame(EtherType(0x1234), &[0; 46]);
    let mut trailer = segments.clone();
    trailer.extend([0; 4]);
    let part = link(A)
        .ip(own(A, Family::V4), V4)
        .fragment(1, 64, true)
        .frame(Protocol::TCP, &[0; 64]);
    let open = VnetHeader { flags: 0, ..tcp };
    let table = [
        (
            VnetError::UnknownFlags,
            VnetHeader { flags: 0x40, ..udp },
            &partial,
        ),
        (
            VnetError::UnknownGso,
            VnetHeader { gso_type: 3, ..udp },
            &partial,
        ),
        (
            VnetError::ChecksumAbsent,
            VnetHeader {
                checksum_start: 4000,
                gso_type: 0,
                ..udp
            },
            &other,
        ),
        (
            VnetError::ChecksumPlace,
            VnetHeader {
                checksum_start: 4000,
                gso_type: 0,
                ..udp
            },
            &partial,
        ),
        (VnetError::GsoWithoutChecksum, open, &segments),
        (
            VnetError::GsoProtocol,
            VnetHeader { gso_type: 1, ..udp },
            &partial,
        ),
        (VnetError::GsoFragment, open, &part),
        (
            VnetError::GsoSize,
            VnetHeader {
                gso_size: 100,
                ..tcp
            },
            &segments,
        ),
        (
            VnetError::TooManySegments,
            VnetHeader { gso_size: 2, ..udp },
            &partial,
        ),
        (VnetError::GsoTrailer, tcp, &trailer),
    ];
    table
        .into_iter()
        .map(|(error, header, frame)| {
            let name = DropReason::Offload(error).name();
            seed(&name, vec![raw_with(A, &header, frame)])
        })
        .collect()
}

/// Super-frames as they should be, and a partial checksum.
fn super_frames() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (server, gso, name) in [(V4, Gso::TcpV4, "v4"), (V6, Gso::TcpV6, "v6")] {
        let header = TcpHeader {
            flags: TcpFlags::PSH | TcpFlags::ACK,
            ..TcpHeader::default()
        };
        let mut tcp = from(A, server).tcp(&header, &[7; 1200]);
        let cut = offload(&mut tcp, Some((gso, 536)));
        let mut udp = from(A, server).udp(1, 2, &[7; 250]);
        let datagrams = offload(&mut udp, Some((Gso::Udp, 100)));
        let mut open = from(A, server).udp(1, 2, b"x");
        let partial = offload(&mut open, None);
        for (kind, header, frame) in [
            ("segments", cut, tcp),
            ("datagrams", datagrams, udp),
            ("partial", partial, open),
        ] {
            let name = format!("{kind}-{name}");
            seeds.push(seed(&name, vec![raw_with(A, &header, &frame)]));
        }
    }
    seeds
}
