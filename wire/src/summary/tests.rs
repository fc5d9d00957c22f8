use etherparse::{LaxNetSlice, LaxSlicedPacket, SlicedPacket, TransportSlice};
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert_eq, proptest};

use super::{Network, Summary};
use crate::builder::{Packet, TcpHeader};
use crate::testing::{
    DESTINATION_MAC, SOURCE_MAC, address, any_datagram_frame, any_mutated_frame, ip, link,
};
use crate::{
    Arp, EtherType, Family, Fragment, Ip, IpOptions, Malformed, Protocol, TcpFlags, Transport,
};

const V4: (&str, &str) = ("10.0.0.1", "10.0.0.2");
const V6: (&str, &str) = ("fd00::1", "fd00::2");

fn packet((source, destination): (&str, &str)) -> Packet {
    link().ip(source, destination)
}

fn malformed(frame: &[u8]) -> Malformed {
    match Summary::parse(frame).unwrap().network {
        Network::Malformed(cause) => cause,
        other => panic!("not malformed: {other:?}"),
    }
}

#[test]
fn a_summary_fits_two_cache_lines() {
    assert!(size_of::<Summary>() <= 128);
    assert_eq!(
        size_of::<Result<Summary, Malformed>>(),
        size_of::<Summary>()
    );
}

#[test]
fn a_tcp_segment_is_read_in_both_families() {
    let header = TcpHeader {
        source_port: 40_000,
        destination_port: 443,
        sequence: 0x0102_0304,
        acknowledgement: 0x0506_0708,
        flags: TcpFlags::PSH | TcpFlags::ACK,
        window: 502,
        options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
    };
    for (addresses, header_len) in [(V4, 20), (V6, 40)] {
        let packet = packet(addresses)
            .hop_limit(3)
            .traffic_class(0xb8)
            .dont_fragment();
        let mut frame = packet.tcp(&header, b"hello");
        frame.extend([0xee; 7]);
        let summary = Summary::parse(&frame).unwrap();
        assert_eq!(
            (summary.source, summary.destination),
            (SOURCE_MAC, DESTINATION_MAC)
        );
        assert_eq!(
            (summary.tags, summary.vlan, summary.vlan_id()),
            (0, 0, None)
        );
        assert_eq!(summary.network_offset, 14);
        let ip = *summary.ip().unwrap();
        assert_eq!(
            (ip.source, ip.destination),
            (address(addresses.0), address(addresses.1))
        );
        assert_eq!(
            (ip.hop_limit, ip.traffic_class, ip.protocol),
            (3, 0xb8, Protocol::TCP)
        );
        assert_eq!((ip.fragment, ip.dont_fragment), (Fragment::Whole, true));
        assert_eq!(ip.options, IpOptions::NONE);
        assert_eq!(ip.header_len(), header_len);
        assert_eq!(ip.payload_len(), 32 + 5);
        assert_eq!(ip.total_len(), header_len + 37);
        assert_eq!(ip.end as usize, frame.len() - 7);
        let Transport::Tcp(tcp) = ip.transport else {
            panic!("{ip:?}")
        };
        assert_eq!((tcp.source_port, tcp.destination_port), (40_000, 443));
        assert_eq!(
            (tcp.sequence, tcp.acknowledgement),
            (0x0102_0304, 0x0506_0708)
        );
        assert_eq!(
            (tcp.flags, tcp.window),
            (TcpFlags::PSH | TcpFlags::ACK, 502)
        );
        assert_eq!((tcp.header_len, tcp.payload_len), (32, 5));
    }
}

#[test]
fn udp_and_icmp_are_read_in_both_families() {
    for addresses in [V4, V6] {
        let Transport::Udp(udp) = ip(&packet(addresses).udp(5353, 53, b"query")).transport else {
            panic!("not UDP");
        };
        assert_eq!(
            (udp.source_port, udp.destination_port, udp.payload_len),
            (5353, 53, 5)
        );
        let Transport::Icmp(icmp) = ip(&packet(addresses).icmp(8, 1, 0x0102_0304, b"")).transport
        else {
            panic!("not ICMP");
        };
        assert_eq!(
            (icmp.kind, icmp.code, icmp.id(), icmp.sequence()),
            (8, 1, 0x0102, 0x0304)
        );
    }
}

#[test]
fn each_familys_icmp_is_just_another_protocol_over_the_other() {
    let echo = packet(V4).icmp_message(8, 0, 0, b"");
    assert_eq!(
        ip(&packet(V6).frame(Protocol::ICMP, &echo)).transport,
        Transport::Other
    );
    assert_eq!(
        ip(&packet(V4).frame(Protocol::ICMPV6, &echo)).transport,
        Transport::Other
    );
}

#[test]
fn no_next_header_means_no_transport_only_in_ipv6() {
    let none = Protocol::NO_NEXT_HEADER;
    assert_eq!(
        ip(&packet(V6).frame(none, b"rest")).transport,
        Transport::Absent
    );
    assert_eq!(
        ip(&packet(V6).frame(none, b"")).transport,
        Transport::Absent
    );
    assert_eq!(
        ip(&packet(V4).frame(none, b"rest")).transport,
        Transport::Other
    );
}

#[test]
fn the_outermost_tag_is_kept_and_the_content_found_behind_all() {
    for (link, tags, vlan) in [
        (link().vlan(0x6005), 1, 0x6005),
        (link().service_tag(0x0064), 1, 0x0064),
        (link().service_tag(0x2064).vlan(0x0005), 2, 0x2064),
        (link().vlan(0x0000), 1, 0),
    ] {
        for addresses in [V4, V6] {
            let frame = link.ip(addresses.0, addresses.1).udp(1, 2, b"x");
            let summary = Summary::parse(&frame).unwrap();
            assert_eq!((summary.tags, summary.vlan), (tags, vlan));
            assert_eq!(summary.vlan_id(), Some(vlan & 0x0fff));
            assert_eq!(summary.network_offset, 14 + 4 * u16::from(tags));
            assert_eq!(summary.ip().unwrap().header_offset, summary.network_offset);
            assert!(matches!(summary.ip().unwrap().transport, Transport::Udp(_)));
        }
    }
}

#[test]
fn layer_two_alone_decides_over_the_whole_frame() {
    let frame = packet(V4).udp(1, 2, b"");
    for len in 0..14 {
        assert_eq!(Summary::parse(&frame[..len]), Err(Malformed::FrameTooShort));
    }
    let tagged = link().vlan(1).vlan(2).frame(EtherType(0x1234), b"");
    for len in 14..22 {
        assert_eq!(
            Summary::parse(&tagged[..len]),
            Err(Malformed::FrameTooShort),
            "{len}"
        );
    }
    assert_eq!(Summary::parse(&tagged).unwrap().network, Network::Other);
    let three = link()
        .service_tag(1)
        .vlan(2)
        .vlan(3)
        .frame(EtherType::IPV4, b"");
    assert_eq!(Summary::parse(&three), Err(Malformed::TooManyTags));
}

#[test]
fn what_is_not_known_is_other_and_not_an_error() {
    for ether_type in [0x88cc, 0x8847, 0x05dc, 0x0000] {
        let summary = Summary::parse(&link().frame(EtherType(ether_type), &[0; 46])).unwrap();
        assert_eq!(summary.network, Network::Other);
        assert_eq!(summary.ether_type, EtherType(ether_type));
        assert_eq!(summary.ip(), None);
    }
}

#[test]
fn arp_round_trips_and_its_format_is_checked() {
    let message = Arp {
        operation: Arp::REQUEST,
        sender_mac: SOURCE_MAC,
        sender: [10, 0, 0, 1].into(),
        target_mac: crate::MacAddr::ZERO,
        target: [10, 0, 0, 2].into(),
    };
    let frame = link().arp(&message);
    assert_eq!(
        Summary::parse(&frame).unwrap().network,
        Network::Arp(message)
    );
    assert_eq!(
        malformed(&frame[..frame.len() - 1]),
        Malformed::ArpTruncated
    );
    for place in 14..20 {
        let mut frame = frame.clone();
        frame[place] ^= 1;
        assert_eq!(malformed(&frame), Malformed::ArpFormat, "byte {place}");
    }
}

/// Bytes to write into a frame, by place, and what the frame is then.
type Breakage<'a> = (&'a [(usize, u8)], Malformed);

fn assert_broken(frame: &[u8], breakages: &[Breakage<'_>]) {
    assert!(ip(frame).payload(frame).is_some());
    for (changes, expected) in breakages {
        let mut frame = frame.to_vec();
        for (place, byte) in *changes {
            frame[*place] = *byte;
        }
        assert_eq!(malformed(&frame), *expected, "{changes:?}");
    }
}

#[test]
fn every_broken_ipv4_header_has_its_own_cause() {
    // Version and length at 14, total length at 16, options from 34.
    let udp = packet(V4).udp(1, 2, b"12345678");
    for len in 14..14 + 20 {
        assert_eq!(malformed(&udp[..len]), Malformed::Ipv4Truncated);
    }
    let table: [Breakage<'_>; 5] = [
        (&[(14, 0x65)], Malformed::Ipv4Version),
        (&[(14, 0x44)], Malformed::Ipv4HeaderLength),
        (&[(16, 0), (17, 19)], Malformed::Ipv4TotalLength),
        (&[(16, 0), (17, 37)], Malformed::Ipv4TotalLength),
        (&[(16, 0), (17, 0)], Malformed::Ipv4TotalLength),
    ];
    assert_broken(&udp, &table);
    let empty = packet(V4).frame(Protocol::GRE, b"");
    assert_broken(&empty, &[(&[(14, 0x46)], Malformed::Ipv4Truncated)]);
    let table: [Breakage<'_>; 4] = [
        (&[(35, 0)], Malformed::Ipv4Options),
        (&[(35, 1)], Malformed::Ipv4Options),
        (&[(35, 5)], Malformed::Ipv4Options),
        (
            &[(34, 1), (35, 1), (36, 1), (37, 148)],
            Malformed::Ipv4Options,
        ),
    ];
    assert_broken(&packet(V4).options(&[148, 4, 0, 0]).udp(1, 2, b""), &table);
}

#[test]
fn every_broken_ipv6_header_has_its_own_cause() {
    // Version at 14, payload length at 18.
    let udp = packet(V6).udp(1, 2, b"12345678");
    for len in 14..14 + 40 {
        assert_eq!(malformed(&udp[..len]), Malformed::Ipv6Truncated);
    }
    let table: [Breakage<'_>; 2] = [
        (&[(14, 0x45)], Malformed::Ipv6Version),
        (&[(18, 0), (19, 17)], Malformed::Ipv6PayloadLength),
    ];
    assert_broken(&udp, &table);
    for place in [22, 38] {
        let mut frame = udp.clone();
        frame[place..place + 16].copy_from_slice(&address("10.0.0.1").bits().to_be_bytes());
        assert_eq!(malformed(&frame), Malformed::Ipv6MappedAddress);
    }
}

#[test]
fn every_broken_extension_header_has_its_own_cause() {
    // The header's length at 55, an option at 56 with its length at 57, padding from 60.
    let hop_by_hop = packet(V6).extension(Protocol::HOP_BY_HOP, &[0, 5, 2, 0, 0, 1, 0]);
    let table: [Breakage<'_>; 6] = [
        (&[(18, 0), (19, 0)], Malformed::Ipv6Jumbogram),
        (&[(56, 0xc2)], Malformed::Ipv6Jumbogram),
        (&[(57, 5)], Malformed::ExtensionOptions),
        (&[(57, 3), (61, 1)], Malformed::ExtensionOptions),
        (&[(55, 2)], Malformed::ExtensionTruncated),
        (&[(18, 0), (19, 7)], Malformed::ExtensionTruncated),
    ];
    assert_broken(&hop_by_hop.udp(1, 2, b""), &table);
    let twice = hop_by_hop.extension(Protocol::HOP_BY_HOP, &[0, 1, 4, 0, 0, 0, 0]);
    assert_eq!(malformed(&twice.udp(1, 2, b"")), Malformed::ExtensionOrder);
    let twice = packet(V6).fragment(1, 0, false).fragment(2, 0, false);
    assert_eq!(malformed(&twice.udp(1, 2, b"")), Malformed::ExtensionOrder);
    let mut authentication = vec![4, 0, 0];
    authentication.extend([7; 20]);
    let frame = packet(V6)
        .extension(Protocol::AUTHENTICATION, &authentication)
        .udp(1, 2, b"");
    assert_broken(&frame, &[(&[(55, 0)], Malformed::ExtensionTruncated)]);
}

#[test]
fn every_broken_transport_header_has_its_own_cause() {
    // The place of the transport header, and of the length in the IP header with what it counts
    // besides the transport.
    for (addresses, start, length, counted) in [(V4, 34, 17, 20), (V6, 54, 19, 0)] {
        let table: [Breakage<'_>; 4] = [
            (&[(length, counted + 7)], Malformed::TransportTruncated),
            (&[(start + 4, 0), (start + 5, 7)], Malformed::UdpLength),
            (&[(start + 4, 0), (start + 5, 0)], Malformed::UdpLength),
            (&[(start + 4, 0), (start + 5, 17)], Malformed::UdpLength),
        ];
        assert_broken(&packet(addresses).udp(1, 2, b"12345678"), &table);
        let table: [Breakage<'_>; 3] = [
            (&[(length, counted + 19)], Malformed::TransportTruncated),
            (&[(start + 12, 0x40)], Malformed::TcpHeaderLength),
            (&[(start + 12, 0x70)], Malformed::TcpHeaderLength),
        ];
        assert_broken(
            &packet(addresses).tcp(&TcpHeader::default(), b"1234"),
            &table,
        );
        let table: [Breakage<'_>; 1] = [(&[(length, counted + 7)], Malformed::TransportTruncated)];
        assert_broken(&packet(addresses).icmp(128, 0, 0, b""), &table);
    }
}

#[test]
fn extension_headers_are_limited_in_number_and_in_length() {
    let nth = |count: usize| {
        (0..count).fold(packet(V6), |packet, _| {
            packet.extension(Protocol::DESTINATION_OPTIONS, &[0, 1, 4, 0, 0, 0, 0])
        })
    };
    let frame = nth(crate::EXTENSION_HEADERS_MAX).udp(1, 2, b"");
    assert!(matches!(ip(&frame).transport, Transport::Udp(_)));
    let frame = nth(crate::EXTENSION_HEADERS_MAX + 1).udp(1, 2, b"");
    assert_eq!(malformed(&frame), Malformed::ExtensionsTooMany);

    // Zeros are padding of one byte each.
    let padding = |units: usize| {
        let mut content = vec![0; units * 8 - 1];
        content[0] = u8::try_from(units - 1).unwrap();
        content
    };
    let units = crate::EXTENSION_HEADERS_LEN_MAX / 8;
    let options = Protocol::DESTINATION_OPTIONS;
    let longest = packet(V6).extension(options, &padding(units));
    assert!(matches!(
        ip(&longest.udp(1, 2, b"")).transport,
        Transport::Udp(_)
    ));
    let one = packet(V6).extension(options, &padding(units + 1));
    let two = packet(V6)
        .extension(options, &padding(1))
        .extension(options, &padding(units));
    for packet in [one, two] {
        assert_eq!(
            malformed(&packet.udp(1, 2, b"")),
            Malformed::ExtensionsTooLong
        );
    }
}

#[test]
fn options_and_extension_headers_are_noted() {
    let routing = |kind: u8| {
        let mut content = vec![2, kind, 1];
        content.extend([0; 20]);
        content
    };
    let mut authentication = vec![4, 0, 0];
    authentication.extend([7; 20]);
    let table = [
        (packet(V4).options(&[148, 4, 0, 0]), IpOptions::IPV4),
        (
            packet(V4).options(&[131, 4, 4, 0]),
            IpOptions::IPV4 | IpOptions::SOURCE_ROUTE,
        ),
        (
            packet(V4).options(&[1, 137, 3, 4]),
            IpOptions::IPV4 | IpOptions::SOURCE_ROUTE,
        ),
        // What stands behind the end of the list is padding.
        (packet(V4).options(&[0, 137, 3, 4]), IpOptions::IPV4),
        (
            packet(V6).extension(Protocol::HOP_BY_HOP, &[0, 5, 2, 0, 0, 1, 0]),
            IpOptions::HOP_BY_HOP,
        ),
        (
            packet(V6).extension(Protocol::ROUTING, &routing(0)),
            IpOptions::ROUTING_TYPE_0,
        ),
        (
            packet(V6).extension(Protocol::ROUTING, &routing(2)),
            IpOptions::ROUTING,
        ),
        (
            packet(V6).extension(Protocol::DESTINATION_OPTIONS, &[0, 1, 4, 0, 0, 0, 0]),
            IpOptions::DESTINATION,
        ),
        (
            packet(V6).extension(Protocol::AUTHENTICATION, &authentication),
            IpOptions::AUTHENTICATION,
        ),
        (packet(V6).fragment(7, 0, false), IpOptions::FRAGMENT_HEADER),
    ];
    for (packet, expected) in table {
        let frame = packet.udp(1, 2, b"x");
        let ip = ip(&frame);
        assert_eq!(ip.options, expected);
        assert_eq!(ip.fragment, Fragment::Whole);
        assert!(matches!(ip.transport, Transport::Udp(_)), "{ip:?}");
        assert_eq!(&frame[ip.transport_offset as usize..][8..], b"x");
    }
}

#[test]
fn fragments_are_told_apart() {
    for (addresses, id) in [(V4, 0xabcd), (V6, 0x1234_abcd)] {
        let segment = packet(addresses).udp_segment(7, 9, &[1; 100]);
        let first = packet(addresses).fragment(id, 0, true);
        let first = ip(&first.frame(Protocol::UDP, &segment[..64]));
        assert_eq!(first.fragment, Fragment::First { id });
        let Transport::Udp(udp) = first.transport else {
            panic!("{first:?}")
        };
        assert_eq!((udp.source_port, udp.payload_len), (7, 56));

        let middle = packet(addresses)
            .fragment(id, 64, true)
            .frame(Protocol::UDP, &segment[64..88]);
        let expected = Fragment::Later {
            id,
            offset: 64,
            last: false,
        };
        assert_eq!(
            (ip(&middle).fragment, ip(&middle).transport),
            (expected, Transport::Absent)
        );

        let last = packet(addresses)
            .fragment(id, 88, false)
            .frame(Protocol::UDP, &segment[88..]);
        let expected = Fragment::Later {
            id,
            offset: 88,
            last: true,
        };
        assert_eq!(
            (ip(&last).fragment, ip(&last).protocol),
            (expected, Protocol::UDP)
        );
        assert_eq!(ip(&last).payload_len(), 20);
    }
}

#[test]
fn fragments_that_no_sender_makes_are_refused() {
    for (addresses, header_len) in [(V4, 20), (V6, 0)] {
        let fragment = |offset, more, protocol, len| {
            packet(addresses)
                .fragment(1, offset, more)
                .frame(protocol, &vec![0x50; len])
        };
        let check = |name, frame: Vec<u8>, expected| {
            assert_eq!(malformed(&frame), expected, "{name} {addresses:?}");
        };
        let udp = Protocol::UDP;
        check(
            "empty last",
            fragment(64, false, udp, 0),
            Malformed::FragmentLength,
        );
        check(
            "empty first",
            fragment(0, true, Protocol::GRE, 0),
            Malformed::FragmentLength,
        );
        check(
            "odd middle",
            fragment(64, true, udp, 12),
            Malformed::FragmentLength,
        );
        // The last byte of the longest datagram, and one more.
        let (offset, room) = (65_464, 71 - header_len);
        let longest = ip(&fragment(offset, false, udp, room));
        assert!(matches!(
            longest.fragment,
            Fragment::Later { last: true, .. }
        ));
        check(
            "too long",
            fragment(offset, false, udp, room + 1),
            Malformed::FragmentTooLong,
        );
        check(
            "ping of death",
            fragment(65_528, false, udp, 1480),
            Malformed::FragmentTooLong,
        );
        let tcp = Protocol::TCP;
        check(
            "inside header",
            fragment(8, true, tcp, 64),
            Malformed::FragmentInsideHeader,
        );
        check(
            "inside header",
            fragment(16, false, tcp, 64),
            Malformed::FragmentInsideHeader,
        );
        assert!(ip(&fragment(24, false, tcp, 64)).fragment.is_part());
        assert!(ip(&fragment(8, false, udp, 64)).fragment.is_part());
        check(
            "tiny first",
            fragment(0, true, tcp, 16),
            Malformed::FirstFragmentIncomplete,
        );
        // The data offset of these bytes is five words: a header of 20 bytes.
        assert!(ip(&fragment(0, true, tcp, 24)).fragment.is_part());
        let options = vec![0xf0; 24];
        let frame = packet(addresses).fragment(1, 0, true).frame(tcp, &options);
        check(
            "first without all options",
            frame,
            Malformed::FirstFragmentIncomplete,
        );
        let frame = packet(addresses)
            .fragment(1, 0, true)
            .frame(tcp, &[0x40; 24]);
        check("impossible offset", frame, Malformed::TcpHeaderLength);
    }
}

#[test]
fn headers_before_a_fragment_header_count_in_the_longest_datagram() {
    let fragment = |len: usize| {
        packet(V6)
            .extension(Protocol::HOP_BY_HOP, &[0, 5, 2, 0, 0, 1, 0])
            .fragment(1, 65_464, false)
            .frame(Protocol::UDP, &vec![0; len])
    };
    assert!(ip(&fragment(71 - 8)).fragment.is_part());
    assert_eq!(malformed(&fragment(72 - 8)), Malformed::FragmentTooLong);
}

#[test]
fn a_first_fragment_holds_the_whole_chain() {
    // A destination options header of 16 bytes of which the fragment holds eight.
    let frame = packet(V6)
        .fragment(1, 0, true)
        .frame(Protocol::DESTINATION_OPTIONS, &[17, 1, 1, 4, 0, 0, 0, 0]);
    assert_eq!(malformed(&frame), Malformed::FirstFragmentIncomplete);
    // Of a later fragment's next header nothing is expected.
    let frame = packet(V6)
        .fragment(1, 64, true)
        .frame(Protocol::DESTINATION_OPTIONS, &[17; 8]);
    assert_eq!(ip(&frame).protocol, Protocol::DESTINATION_OPTIONS);
    assert_eq!(ip(&frame).transport, Transport::Absent);
}

/// Whether etherparse may accept what this parser refuses, or sees more in a packet than it does.
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
            SlicedPacket::from_ethernet(frame).unwrap().is_ip_payload_fragmented()
                || has_no_payload_length(frame)
        }
        Malformed::ExtensionTruncated => has_no_payload_length(frame),
        _ => false,
    }
}

/// An IPv6 payload length of zero, which etherparse takes for "up to the end".
fn has_no_payload_length(frame: &[u8]) -> bool {
    let summary = Summary::parse(frame).unwrap();
    let header = &frame[usize::from(summary.network_offset)..];
    summary.ether_type == EtherType::IPV6 && header[4..6] == [0, 0]
}

fn agree_with_etherparse(frame: &[u8]) {
    let theirs = LaxSlicedPacket::from_ethernet(frame);
    let summary = match Summary::parse(frame) {
        Ok(summary) => summary,
        Err(Malformed::TooManyTags) => {
            assert!(theirs.unwrap().link_exts.len() > 2);
            return;
        }
        Err(_) => {
            assert!(theirs.is_err() || theirs.unwrap().stop_err.is_some());
            return;
        }
    };
    let theirs = theirs.unwrap();
    match summary.network {
        Network::Ip(ip) => {
            let (header, payload) = match theirs.net.as_ref().expect("etherparse sees IP") {
                LaxNetSlice::Ipv4(slice) => {
                    let header = slice.header();
                    assert_eq!(ip.source.to_ip(), header.source_addr());
                    assert_eq!(ip.destination.to_ip(), header.destination_addr());
                    assert_eq!(ip.hop_limit, header.ttl());
                    assert_eq!(
                        ip.traffic_class,
                        header.dcp().value() << 2 | header.ecn().value()
                    );
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
            // etherparse walks on through what only looks like extension headers: an IPv4
            // datagram's authentication header, and the data of a later fragment.
            let is_plain = header && !matches!(ip.fragment, Fragment::Later { .. });
            if is_plain && !has_no_payload_length(frame) {
                assert_eq!(ip.protocol.0, payload.ip_number.0);
                assert_eq!(ip.payload(frame).unwrap(), payload.payload);
                agree_on_transport(&ip, theirs.transport.as_ref());
            }
        }
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
            assert_eq!(arp.sender.octets(), theirs.sender_protocol_addr());
            assert_eq!(arp.target_mac.0, theirs.target_hw_addr());
        }
        Network::Other => {}
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
            assert_eq!(tcp.flags.contains(TcpFlags::CWR), theirs.cwr());
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
            assert_eq!(ip.family(), Family::V4);
            assert_eq!((icmp.kind, icmp.code), (theirs.type_u8(), theirs.code_u8()));
            assert_eq!(icmp.word.to_be_bytes(), theirs.bytes5to8());
        }
        (Transport::Icmp(icmp), Some(TransportSlice::Icmpv6(theirs))) => {
            assert_eq!(ip.family(), Family::V6);
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

proptest! {
    #[test]
    fn well_formed_frames_are_read_as_etherparse_reads_them(frame in any_datagram_frame()) {
        let summary = Summary::parse(&frame).unwrap();
        assert!(summary.ip().is_some(), "{summary:?}");
        agree_with_etherparse(&frame);
    }

    #[test]
    fn mutated_frames_are_read_as_etherparse_reads_them(frame in any_mutated_frame()) {
        agree_with_etherparse(&frame);
    }

    #[test]
    fn the_usual_way_and_the_thorough_way_agree(frame in any_mutated_frame()) {
        prop_assert_eq!(Summary::parse(&frame), Summary::parse_any(&frame));
    }

    #[test]
    fn arbitrary_bytes_are_parsed_without_panic(
        mut bytes in vec(any::<u8>(), 0..200),
        ether_type in proptest::sample::select(vec![0x0800_u16, 0x86dd, 0x0806, 0x8100, 0x88a8]),
        first in proptest::sample::select(vec![0x45_u8, 0x46, 0x4f, 0x60, 0x6f]),
    ) {
        if bytes.len() > 14 {
            bytes[12..14].copy_from_slice(&ether_type.to_be_bytes());
            bytes[14] = first;
        }
        if let Ok(Summary { network: Network::Ip(ip), .. }) = Summary::parse(&bytes) {
            assert!(u32::from(ip.header_offset) < ip.transport_offset);
            assert!(ip.transport_offset <= ip.end);
            assert!(ip.end as usize <= bytes.len());
        }
    }
}
