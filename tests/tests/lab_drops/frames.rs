//! Frames that are not what they claim to be.

use heddle_tests::lab::{SIDES, Told, campus};
use heddle_wire::builder::{TcpHeader, offload};
use heddle_wire::{EtherType, Gso, Malformed, Protocol, VnetError, VnetHeader};

use super::{Ends, V4, V6, changed, packet};

/// All that parsing finds.
pub(crate) fn malformed(ends: &mut Ends) {
    malformed_ethernet_and_ipv4(ends);
    malformed_ipv6(ends);
    malformed_transport(ends);
    malformed_quotes(ends);
}

fn malformed_ethernet_and_ipv4(ends: &mut Ends) {
    let link = campus().link("a", "b");
    let udp = || packet(V4).udp(1, 2, b"data");
    let cases = [
        (vec![2; 13], Malformed::FrameTooShort),
        (
            link.clone()
                .vlan(1)
                .vlan(2)
                .vlan(3)
                .frame(EtherType::IPV4, b""),
            Malformed::TooManyTags,
        ),
        (
            link.frame(EtherType::ARP, &[0; 27]),
            Malformed::ArpTruncated,
        ),
        (link.frame(EtherType::ARP, &[0; 28]), Malformed::ArpFormat),
        (
            link.frame(EtherType::IPV4, &[0x45; 19]),
            Malformed::Ipv4Truncated,
        ),
        (changed(udp(), 14, &[0x65]), Malformed::Ipv4Version),
        (changed(udp(), 14, &[0x44]), Malformed::Ipv4HeaderLength),
        (changed(udp(), 16, &[0, 19]), Malformed::Ipv4TotalLength),
        (
            packet(V4).options(&[7, 1, 0, 0]).udp(1, 2, b""),
            Malformed::Ipv4Options,
        ),
    ];
    for (frame, reason) in cases {
        ends.frame(campus(), "a", &frame, reason);
    }
}

fn malformed_ipv6(ends: &mut Ends) {
    const DESTINATION: Protocol = Protocol::DESTINATION_OPTIONS;
    let padding = [0, 1, 4, 0, 0, 0, 0];
    let udp = || packet(V6).udp(1, 2, b"data");
    let hops = || packet(V6).extension(Protocol::HOP_BY_HOP, &padding);
    let many = (0..9).fold(packet(V6), |it, _| it.extension(DESTINATION, &padding));
    let long = [&[40][..], &[0; 41 * 8 - 2]].concat();
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
    let cases = [
        (
            campus().link("a", "b").frame(EtherType::IPV6, &[0x60; 39]),
            Malformed::Ipv6Truncated,
        ),
        (changed(udp(), 14, &[0x45]), Malformed::Ipv6Version),
        (changed(udp(), 18, &[9, 9]), Malformed::Ipv6PayloadLength),
        (
            changed(hops().udp(1, 2, b""), 18, &[0, 0]),
            Malformed::Ipv6Jumbogram,
        ),
        (changed(udp(), 22, &mapped), Malformed::Ipv6MappedAddress),
        (
            packet(V6).frame(Protocol::HOP_BY_HOP, &[0; 4]),
            Malformed::ExtensionTruncated,
        ),
        (
            hops()
                .extension(Protocol::HOP_BY_HOP, &padding)
                .udp(1, 2, b""),
            Malformed::ExtensionOrder,
        ),
        (
            packet(V6)
                .extension(DESTINATION, &[0, 1, 20, 0, 0, 0, 0])
                .udp(1, 2, b""),
            Malformed::ExtensionOptions,
        ),
        (many.udp(1, 2, b""), Malformed::ExtensionsTooMany),
        (
            packet(V6).extension(DESTINATION, &long).udp(1, 2, b""),
            Malformed::ExtensionsTooLong,
        ),
    ];
    for (frame, reason) in cases {
        ends.frame(campus(), "a", &frame, reason);
    }
}

fn malformed_transport(ends: &mut Ends) {
    for side in &SIDES {
        let part = |offset, more, protocol, len| {
            let packet = packet(side).fragment(1, offset, more);
            packet.frame(protocol, &vec![0; len])
        };
        let header = packet(side).frame(Protocol::UDP, b"").len();
        let tcp = packet(side).tcp(&TcpHeader::default(), b"");
        let cases = [
            (part(64, true, Protocol::UDP, 7), Malformed::FragmentLength),
            (
                part(65_528, false, Protocol::UDP, 100),
                Malformed::FragmentTooLong,
            ),
            (
                part(8, true, Protocol::TCP, 16),
                Malformed::FragmentInsideHeader,
            ),
            (
                part(0, true, Protocol::TCP, 8),
                Malformed::FirstFragmentIncomplete,
            ),
            (
                packet(side).frame(Protocol::UDP, &[0; 4]),
                Malformed::TransportTruncated,
            ),
            (
                changed(tcp, header + 12, &[0x40]),
                Malformed::TcpHeaderLength,
            ),
            (
                changed(packet(side).udp(1, 2, b""), header + 4, &[0, 4]),
                Malformed::UdpLength,
            ),
        ];
        for (frame, reason) in cases {
            ends.frame(campus(), "a", &frame, reason);
        }
    }
}

/// Errors from outside about something that is no datagram.
fn malformed_quotes(ends: &mut Ends) {
    for side in &SIDES {
        let lab = campus();
        let left = lab.from_wan().ip(side.leg, side.server).udp(1, 2, b"");
        let quote = &left[14..];
        let (kind, code, word) = Told::PortUnreachable.message(side.family);
        let error = |quote: &[u8]| {
            let packet = lab.to_wan().ip(side.server, side.leg);
            packet.icmp(kind, code, word, quote)
        };
        let no_version = changed(quote.to_vec(), 0, &[0x95]);
        ends.frame(
            campus(),
            "wan",
            &error(&quote[..4]),
            Malformed::EmbeddedTruncated,
        );
        ends.frame(
            campus(),
            "wan",
            &error(&no_version),
            Malformed::EmbeddedHeader,
        );
    }
    let lab = campus();
    let left = lab.from_wan().ip(V4.leg, V4.server).udp(1, 2, b"");
    let quote = changed(left[14..].to_vec(), 8, &[1]);
    let error = lab.to_wan().ip(V4.server, V4.leg).icmp(3, 3, 0, &quote);
    ends.frame(campus(), "wan", &error, Malformed::EmbeddedChecksum);
    // A kind below 128 is an error, but of this one nobody knows what it quotes.
    let error = lab.to_wan().ip(V6.server, V6.leg).icmp(100, 0, 0, b"");
    ends.frame(campus(), "wan", &error, Malformed::EmbeddedAbsent);
}

pub(crate) fn offloads(ends: &mut Ends) {
    for (side, gso, other) in [(V4, Gso::TcpV4, Gso::TcpV6), (V6, Gso::TcpV6, Gso::TcpV4)] {
        let mut tcp = packet(side).tcp(&TcpHeader::default(), &[7; 3000]);
        let good = offload(&mut tcp, Some((gso, 1000)));
        let wrong = VnetHeader {
            gso_type: offload(&mut tcp.clone(), Some((other, 1000))).gso_type,
            ..good
        };
        let mut udp = packet(side).udp(1, 2, &[7; 3000]);
        let udp_gso = offload(&mut udp, Some((Gso::Udp, 1)));
        let part = packet(side).fragment(1, 64, false);
        let part = part.frame(Protocol::TCP, &[0; 64]);
        let with = |change: fn(&mut VnetHeader)| {
            let mut header = good;
            change(&mut header);
            header
        };
        let cases = [
            (with(|it| it.flags = 0x80), &tcp, VnetError::UnknownFlags),
            (with(|it| it.gso_type = 3), &tcp, VnetError::UnknownGso),
            (good, &part, VnetError::ChecksumAbsent),
            (
                with(|it| it.checksum_offset = 4),
                &tcp,
                VnetError::ChecksumPlace,
            ),
            (with(|it| it.flags = 0), &tcp, VnetError::GsoWithoutChecksum),
            (wrong, &tcp, VnetError::GsoProtocol),
            (with(|it| it.flags = 0), &part, VnetError::GsoFragment),
            (with(|it| it.gso_size = 100), &tcp, VnetError::GsoSize),
            (udp_gso, &udp, VnetError::TooManySegments),
        ];
        for (header, frame, reason) in cases {
            ends.frame_with(campus(), "a", &header, frame, reason);
        }
        let trailer = [&tcp[..], &[0; 4]].concat();
        ends.frame_with(campus(), "a", &good, &trailer, VnetError::GsoTrailer);
    }
}
