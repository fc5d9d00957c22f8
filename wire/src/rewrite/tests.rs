use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

use super::{
    Rewrite, allow_fragments, clamp_mss, decrement_hop_limit, rewrite, rewrite_hop,
    set_identification,
};
use crate::builder::{self, TcpHeader};
use crate::testing::flow::{any_message, smoltcp_accepts, two_flows};
use crate::testing::{
    address, any_address, any_datagram_frame, any_family, any_mutated_frame, ip, link,
};
use crate::{
    Family, Fragment, Network, Protocol, Summary, TcpFlags, TcpOptions, Transport, VnetHeader,
    complete_checksum, ipv4_header_is_valid, transport_checksum_is_valid,
};

const V4: (&str, &str) = ("10.0.0.1", "10.0.0.2");
const V6: (&str, &str) = ("fd00::1", "fd00::2");

fn to(source: &str, source_port: u16, destination: &str, destination_port: u16) -> Rewrite {
    Rewrite {
        source: address(source),
        source_port,
        destination: address(destination),
        destination_port,
    }
}

fn outside(family: Family) -> Rewrite {
    match family {
        Family::V4 => to("192.0.2.7", 61_000, "198.51.100.9", 8443),
        Family::V6 => to("2001:db8::7", 61_000, "2001:db8:ffff::9", 8443),
    }
}

fn checksums_are_right(frame: &[u8]) -> bool {
    let ip = ip(frame);
    let header_is_right =
        ip.family() == Family::V6 || ipv4_header_is_valid(frame, ip.header_offset);
    header_is_right && transport_checksum_is_valid(frame, &ip)
}

proptest! {
    #[test]
    fn a_rewritten_packet_is_the_one_that_smoltcp_writes(
        (before, after) in two_flows(),
        message in any_message(),
        payload in vec(any::<u8>(), 0..60),
    ) {
        let mut frame = before.frame(message, &payload);
        let summary = ip(&frame);
        rewrite(&mut frame, &summary, false, &after.rewrite());
        prop_assert_eq!(&frame, &after.frame(message, &payload));
        prop_assert!(smoltcp_accepts(&frame));
        // What was looked at before an earlier rewrite still serves for the next.
        rewrite(&mut frame, &summary, false, &before.rewrite());
        prop_assert_eq!(frame, before.frame(message, &payload));
    }

    #[test]
    fn options_and_extension_headers_and_tags_do_not_matter(
        (mut frame, to) in any_datagram_frame().prop_flat_map(|frame| {
            let family = ip(&frame).family();
            (proptest::prelude::Just(frame), any_address(family), any_address(family))
        }).prop_map(|(frame, source, destination)| {
            (frame, Rewrite { source, source_port: 1, destination, destination_port: 2 })
        }),
    ) {
        let before = ip(&frame);
        let was_right = checksums_are_right(&frame);
        rewrite(&mut frame, &before, false, &to);
        let after = ip(&frame);
        prop_assert_eq!((after.source, after.destination), (to.source, to.destination));
        prop_assert_eq!(checksums_are_right(&frame), was_right);
        match after.transport {
            Transport::Tcp(tcp) => prop_assert_eq!((tcp.source_port, tcp.destination_port), (1, 2)),
            Transport::Udp(udp) => prop_assert_eq!((udp.source_port, udp.destination_port), (1, 2)),
            Transport::Icmp(icmp) if icmp.is_request(after.family()) => {
                prop_assert_eq!(icmp.id(), 1);
            }
            Transport::Icmp(icmp) if icmp.is_reply(after.family()) => {
                prop_assert_eq!(icmp.id(), 2);
            }
            other => prop_assert_eq!(other, before.transport),
        }
    }

    #[test]
    fn a_partial_checksum_is_rewritten_like_the_complete_one(
        (before, after) in two_flows(),
        message in any_message(),
        payload in vec(any::<u8>(), 0..60),
    ) {
        let frame = before.frame(message, &payload);
        let summary = ip(&frame);
        // IPv4's ICMP has no pseudo-header and is never left to others.
        if VnetHeader::partial(&summary, None).is_none() {
            return Ok(());
        }
        let mut partial = frame.clone();
        let header = builder::offload(&mut partial, None);
        let mut complete = partial.clone();
        complete_checksum(&mut complete, &header);
        prop_assert_eq!(&complete, &frame);

        rewrite(&mut partial, &summary, true, &after.rewrite());
        rewrite(&mut complete, &summary, false, &after.rewrite());
        complete_checksum(&mut partial, &header);
        prop_assert_eq!(&partial, &complete);
    }

    #[test]
    fn what_came_corrupted_leaves_corrupted(
        (before, after) in two_flows(),
        message in any_message(),
        payload in vec(any::<u8>(), 1..60),
        place: u16,
        flip in 1_u8..,
    ) {
        let mut frame = before.frame(message, &payload);
        let summary = ip(&frame);
        // In the payload, so that headers keep their shape.
        let end = frame.len();
        let place = end - 1 - usize::from(place) % payload.len();
        frame[place] ^= flip;
        prop_assert!(!smoltcp_accepts(&frame));
        rewrite(&mut frame, &summary, false, &after.rewrite());
        prop_assert!(!smoltcp_accepts(&frame));
    }

    #[test]
    fn nothing_panics_on_a_frame_that_is_not_the_one_parsed(
        frame in any_mutated_frame(),
        mut other in any_mutated_frame(),
        partial: bool,
    ) {
        if let Ok(Summary { network: Network::Ip(ip), .. }) = Summary::parse(&frame) {
            let to = outside(ip.family());
            rewrite(&mut other, &ip, partial, &to);
            decrement_hop_limit(&mut other, &ip);
            set_identification(&mut other, &ip, 7);
            rewrite_hop(&mut other, &ip, partial, &to);
            clamp_mss(&mut other, &ip, partial, 536);
        }
    }

    #[test]
    fn both_in_one_go_are_as_one_after_the_other(mut frame in any_datagram_frame(), partial: bool) {
        let ip = ip(&frame);
        let to = outside(ip.family());
        let mut other = frame.clone();
        rewrite_hop(&mut frame, &ip, partial, &to);
        rewrite(&mut other, &ip, partial, &to);
        decrement_hop_limit(&mut other, &ip);
        prop_assert_eq!(frame, other);
    }

    #[test]
    fn a_hop_less_keeps_the_header_checksum(
        hops in 2_u8..,
        protocol: u8,
        (source, destination) in any_family().prop_flat_map(|f| (any_address(f), any_address(f))),
    ) {
        let packet = link().ip(source, destination);
        let content = [0; 64];
        let mut frame = packet.clone().hop_limit(hops).frame(Protocol(protocol), &content);
        let Network::Ip(ip) = Summary::parse(&frame).unwrap().network else { return Ok(()) };
        decrement_hop_limit(&mut frame, &ip);
        let expected = packet.hop_limit(hops - 1).frame(Protocol(protocol), &content);
        prop_assert_eq!(frame, expected);
    }
}

#[test]
fn an_unused_udp_checksum_stays_unused() {
    for addresses in [V4, V6] {
        let mut frame = link().ip(addresses.0, addresses.1).udp(1, 2, b"payload");
        let summary = ip(&frame);
        let place = summary.transport_offset as usize + 6;
        frame[place..place + 2].fill(0);
        rewrite(&mut frame, &summary, false, &outside(summary.family()));
        assert_eq!(frame[place..place + 2], [0, 0]);
        // IPv4 knows datagrams without checksum, IPv6 does not.
        let is_v4 = summary.family() == Family::V4;
        assert_eq!(transport_checksum_is_valid(&frame, &ip(&frame)), is_v4);
    }
}

/// Of all the ports one makes the checksum zero, which must not be sent as zero.
#[test]
fn a_udp_checksum_that_becomes_zero_is_sent_as_all_ones() {
    for addresses in [V4, V6] {
        let mut frame = link().ip(addresses.0, addresses.1).udp(0, 2, b"payload");
        let summary = ip(&frame);
        let mut to = outside(summary.family());
        let mut seen_all_ones = 0;
        for port in 0..=u16::MAX {
            to.source_port = port;
            rewrite(&mut frame, &summary, false, &to);
            let checksum = &frame[summary.transport_offset as usize + 6..][..2];
            assert_ne!(checksum, [0, 0], "port {port}");
            seen_all_ones += usize::from(checksum == [0xff, 0xff]);
        }
        assert!((1..=2).contains(&seen_all_ones), "{seen_all_ones}");
        assert!(transport_checksum_is_valid(&frame, &ip(&frame)));
    }
}

#[test]
fn a_later_fragment_gets_addresses_only() {
    for addresses in [V4, V6] {
        let packet = link().ip(addresses.0, addresses.1).fragment(9, 64, false);
        let frame = packet.frame(Protocol::UDP, &[0xaa; 24]);
        let summary = ip(&frame);
        assert!(matches!(summary.fragment, Fragment::Later { .. }));
        let mut rewritten = frame.clone();
        let to = outside(summary.family());
        rewrite(&mut rewritten, &summary, false, &to);
        let expected = link().ip(to.source, to.destination).fragment(9, 64, false);
        assert_eq!(rewritten, expected.frame(Protocol::UDP, &[0xaa; 24]));
    }
}

#[test]
fn the_checksum_in_a_first_fragment_covers_the_datagram_that_comes_together() {
    for addresses in [V4, V6] {
        let packet = link().ip(addresses.0, addresses.1);
        let payload: Vec<u8> = (0..=255).collect();
        let segment = packet.udp_segment(1000, 2000, &payload);
        let mut first = packet
            .clone()
            .fragment(9, 0, true)
            .frame(Protocol::UDP, &segment[..64]);
        let summary = ip(&first);
        let to = outside(summary.family());
        rewrite(&mut first, &summary, false, &to);
        let expected = link().ip(to.source, to.destination);
        let segment = expected.udp_segment(to.source_port, to.destination_port, &payload);
        let expected = expected
            .fragment(9, 0, true)
            .frame(Protocol::UDP, &segment[..64]);
        assert_eq!(first, expected);
    }
}

#[test]
fn an_icmp_error_or_an_unknown_protocol_gets_addresses_only() {
    for (addresses, error) in [(V4, 3), (V6, 1)] {
        let packet = link().ip(addresses.0, addresses.1);
        let family = address(addresses.0).family();
        let to = outside(family);
        let expected = link().ip(to.source, to.destination);
        for (mut frame, expected) in [
            (
                packet.icmp(error, 0, 0x0102_0304, b"quote"),
                expected.icmp(error, 0, 0x0102_0304, b"quote"),
            ),
            (
                packet.frame(Protocol::SCTP, &[5; 20]),
                expected.frame(Protocol::SCTP, &[5; 20]),
            ),
            (
                packet.frame(Protocol::GRE, &[5; 20]),
                expected.frame(Protocol::GRE, &[5; 20]),
            ),
        ] {
            let summary = ip(&frame);
            rewrite(&mut frame, &summary, false, &to);
            assert_eq!(frame, expected);
        }
    }
}

/// A SYN with these options, clamped to 1200: whether that changed something, and the frame.
fn clamped(addresses: (&str, &str), options: &[u8], partial: bool) -> (bool, Vec<u8>) {
    let header = TcpHeader {
        flags: TcpFlags::SYN,
        options: options.to_vec(),
        ..TcpHeader::default()
    };
    let mut frame = link().ip(addresses.0, addresses.1).tcp(&header, b"");
    let summary = ip(&frame);
    if partial {
        let header = builder::offload(&mut frame, None);
        let changed = clamp_mss(&mut frame, &summary, true, 1200);
        complete_checksum(&mut frame, &header);
        (changed, frame)
    } else {
        (clamp_mss(&mut frame, &summary, false, 1200), frame)
    }
}

#[test]
fn only_a_larger_segment_size_is_lowered_wherever_it_stands() {
    let table: [(&[u8], Option<&[u8]>); 12] = [
        (&[2, 4, 5, 0xb4], Some(&[2, 4, 4, 0xb0])),
        (
            &[1, 2, 4, 5, 0xb4, 3, 3, 7],
            Some(&[1, 2, 4, 4, 0xb0, 3, 3, 7]),
        ),
        (
            &[4, 2, 2, 4, 0xff, 0xff, 1, 1],
            Some(&[4, 2, 2, 4, 4, 0xb0, 1, 1]),
        ),
        (
            &[3, 3, 7, 2, 4, 5, 0xb4, 0],
            Some(&[3, 3, 7, 2, 4, 4, 0xb0, 0]),
        ),
        (&[2, 4, 4, 0xb1], Some(&[2, 4, 4, 0xb0])),
        (&[2, 4, 4, 0xb0], None),
        (&[2, 4, 2, 0x18], None),
        (&[], None),
        // Behind the end, of another length, and behind an option without end.
        (&[0, 2, 4, 5, 0xb4, 0, 0, 0], None),
        (&[2, 3, 5, 0], None),
        (&[8, 0, 2, 4, 5, 0xb4, 1, 1], None),
        (&[8, 40, 2, 4, 5, 0xb4, 1, 1], None),
    ];
    for addresses in [V4, V6] {
        for partial in [false, true] {
            for (options, expected) in table {
                let (changed, frame) = clamped(addresses, options, partial);
                assert_eq!(changed, expected.is_some(), "{options:?}");
                let header = TcpHeader {
                    flags: TcpFlags::SYN,
                    options: expected.unwrap_or(options).to_vec(),
                    ..TcpHeader::default()
                };
                let expected = link().ip(addresses.0, addresses.1).tcp(&header, b"");
                assert_eq!(frame, expected, "{options:?} partial {partial}");
            }
        }
    }
}

#[test]
fn only_a_syn_is_clamped() {
    let header = TcpHeader {
        options: vec![2, 4, 5, 0xb4],
        ..TcpHeader::default()
    };
    let mut frame = link().ip(V4.0, V4.1).tcp(&header, b"");
    let before = frame.clone();
    let summary = ip(&frame);
    assert!(!clamp_mss(&mut frame, &summary, false, 536));
    assert_eq!(frame, before);
    assert_eq!(TcpOptions::new(&frame[54..]).count(), 1);
}

#[test]
fn another_identification_is_the_one_that_the_packet_was_made_with() {
    for id in [0, 1, 0x1234, 0xffff] {
        let packet = link().ip(V4.0, V4.1).may_fragment();
        let mut frame = packet.udp(1, 2, b"data");
        let summary = ip(&frame);
        set_identification(&mut frame, &summary, id);
        assert_eq!(frame, packet.clone().id(id).udp(1, 2, b"data"));
        let mut frame = packet.clone().dont_fragment().udp(1, 2, b"data");
        allow_fragments(&mut frame, &summary, id);
        assert_eq!(frame, packet.id(id).udp(1, 2, b"data"));
    }
    let mut frame = link().ip(V6.0, V6.1).udp(1, 2, b"data");
    let (before, summary) = (frame.clone(), ip(&frame));
    set_identification(&mut frame, &summary, 7);
    allow_fragments(&mut frame, &summary, 7);
    assert_eq!(frame, before);
}
