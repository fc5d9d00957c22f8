use std::collections::HashSet;

use proptest::prelude::{any, prop_assert_eq, proptest};

use super::{Gso, MAX_UDP_SEGMENTS, MIN_TCP_GSO_SIZE, VNET_HEADER_LEN, VnetError, VnetHeader};
use crate::builder::{TcpHeader, offload};
use crate::testing::{ip, link};
use crate::{Arp, EtherType, Family, MacAddr, Protocol, Summary};

const V4: (&str, &str) = ("10.0.0.1", "10.0.0.2");
const V6: (&str, &str) = ("fd00::1", "fd00::2");

fn tcp(addresses: (&str, &str), len: usize) -> Vec<u8> {
    let options = vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    let header = TcpHeader {
        options,
        ..TcpHeader::default()
    };
    link()
        .ip(addresses.0, addresses.1)
        .tcp(&header, &vec![7; len])
}

fn udp(addresses: (&str, &str), len: usize) -> Vec<u8> {
    link().ip(addresses.0, addresses.1).udp(1, 2, &vec![7; len])
}

fn tcp_gso(addresses: (&str, &str)) -> Gso {
    if addresses == V4 {
        Gso::TcpV4
    } else {
        Gso::TcpV6
    }
}

fn check(header: VnetHeader, frame: &[u8]) -> Result<(), VnetError> {
    header.check(frame.len(), &Summary::parse(frame).unwrap())
}

proptest! {
    #[test]
    fn the_header_round_trips(bytes in any::<[u8; VNET_HEADER_LEN]>()) {
        prop_assert_eq!(VnetHeader::parse(&bytes).emit(), bytes);
    }
}

#[test]
fn fields_stand_where_the_kernel_puts_them() {
    let header = VnetHeader::parse(&[1, 4, 74, 0, 0xa8, 0x05, 54, 0, 16, 0]);
    let expected = VnetHeader {
        flags: 1,
        gso_type: 4,
        header_len: 74,
        gso_size: 1448,
        checksum_start: 54,
        checksum_offset: 16,
    };
    assert_eq!(header, expected);
    assert_eq!(header.gso(), Some(Gso::TcpV6));
    assert!(header.needs_checksum() && !header.data_valid());
}

#[test]
fn the_list_holds_every_error_once_in_order_and_with_its_own_sentence() {
    let mut sentences = HashSet::new();
    for (index, error) in VnetError::ALL.into_iter().enumerate() {
        assert_eq!(error.index(), index);
        assert!(sentences.insert(error.to_string()), "{error} stands twice");
    }
    assert_eq!(VnetError::GsoTrailer.index() + 1, VnetError::ALL.len());
}

#[test]
fn a_header_that_promises_nothing_fits_every_frame() {
    let arp = Arp {
        operation: 1,
        sender_mac: MacAddr::ZERO,
        sender: [10, 0, 0, 1].into(),
        target_mac: MacAddr::ZERO,
        target: [10, 0, 0, 2].into(),
    };
    let valid = VnetHeader {
        flags: 2,
        ..VnetHeader::NONE
    };
    for frame in [
        tcp(V4, 9),
        udp(V6, 9),
        link().arp(&arp),
        link().frame(EtherType(0x88cc), b""),
    ] {
        assert_eq!(check(VnetHeader::NONE, &frame), Ok(()));
        assert_eq!(check(valid, &frame), Ok(()));
    }
}

#[test]
fn a_partial_checksum_fits_its_transport_header_alone() {
    for addresses in [V4, V6] {
        let family = ip(&tcp(addresses, 0)).family();
        let echo = link().ip(addresses.0, addresses.1).icmp(128, 0, 0, b"");
        let frames = match family {
            Family::V4 => vec![tcp(addresses, 9), udp(addresses, 9)],
            Family::V6 => vec![tcp(addresses, 9), udp(addresses, 9), echo],
        };
        for mut frame in frames {
            let header = offload(&mut frame, None);
            assert_eq!(check(header, &frame), Ok(()));
            // A trailer is not the checksum's business.
            frame.extend([0; 3]);
            assert_eq!(check(header, &frame), Ok(()));
            for wrong in [
                VnetHeader {
                    checksum_start: header.checksum_start + 2,
                    ..header
                },
                VnetHeader {
                    checksum_start: 0,
                    ..header
                },
                VnetHeader {
                    checksum_start: u16::MAX,
                    ..header
                },
                VnetHeader {
                    checksum_offset: header.checksum_offset + 1,
                    ..header
                },
                VnetHeader {
                    checksum_offset: u16::MAX,
                    ..header
                },
            ] {
                assert_eq!(
                    check(wrong, &frame),
                    Err(VnetError::ChecksumPlace),
                    "{wrong:?}"
                );
            }
        }
    }
}

#[test]
fn a_partial_checksum_needs_a_transport_header() {
    let header = VnetHeader {
        flags: 1,
        checksum_start: 34,
        checksum_offset: 2,
        ..VnetHeader::NONE
    };
    let packet = link().ip(V4.0, V4.1);
    let first = packet.clone().fragment(1, 0, true);
    for frame in [
        packet.icmp(8, 0, 0, b""),
        packet.frame(Protocol::SCTP, &[0; 20]),
        first.frame(Protocol::UDP, &packet.udp_segment(1, 2, &[0; 8])),
        packet
            .clone()
            .fragment(1, 64, false)
            .frame(Protocol::UDP, &[0; 16]),
        link().frame(EtherType(0x88cc), &[0; 60]),
        link().frame(EtherType::IPV4, &[0; 60]),
    ] {
        assert_eq!(check(header, &frame), Err(VnetError::ChecksumAbsent));
    }
}

#[test]
fn unknown_flags_and_types_are_refused() {
    let mut frame = tcp(V4, 2000);
    let header = offload(&mut frame, Some((Gso::TcpV4, 1448)));
    assert_eq!(check(header, &frame), Ok(()));
    for flag in [4, 8, 0x80] {
        let header = VnetHeader {
            flags: header.flags | flag,
            ..header
        };
        assert_eq!(check(header, &frame), Err(VnetError::UnknownFlags));
    }
    // UFO, the tunnel bits, the ECN bit alone, and nothing known.
    for gso_type in [3, 0x21, 0x41, 0x80, 0x83, 2, 7] {
        let header = VnetHeader { gso_type, ..header };
        assert_eq!(
            check(header, &frame),
            Err(VnetError::UnknownGso),
            "{gso_type}"
        );
    }
    let ecn = VnetHeader {
        gso_type: header.gso_type | 0x80,
        ..header
    };
    assert_eq!(check(ecn, &frame), Ok(()));
    assert_eq!(ecn.gso(), Some(Gso::TcpV4));
    let mut frame = udp(V4, 2000);
    let header = offload(&mut frame, Some((Gso::Udp, 1472)));
    let ecn = VnetHeader {
        gso_type: header.gso_type | 0x80,
        ..header
    };
    assert_eq!(check(ecn, &frame), Err(VnetError::UnknownGso));
}

#[test]
fn a_super_frame_is_of_the_protocol_and_family_that_its_type_says() {
    for addresses in [V4, V6] {
        for (mut frame, right) in [
            (tcp(addresses, 2000), tcp_gso(addresses)),
            (udp(addresses, 2000), Gso::Udp),
        ] {
            for gso in [Gso::TcpV4, Gso::TcpV6, Gso::Udp] {
                let header = offload(&mut frame, Some((gso, 1000)));
                let expected = if gso == right {
                    Ok(())
                } else {
                    Err(VnetError::GsoProtocol)
                };
                assert_eq!(check(header, &frame), expected, "{gso:?} {right:?}");
                let complete = VnetHeader { flags: 0, ..header };
                let expected = expected.and(Err(VnetError::GsoWithoutChecksum));
                assert_eq!(check(complete, &frame), expected);
            }
        }
    }
    let header = VnetHeader {
        gso_type: 1,
        gso_size: 1000,
        ..VnetHeader::NONE
    };
    assert_eq!(
        check(header, &link().frame(EtherType(0x88cc), &[0; 60])),
        Err(VnetError::GsoProtocol)
    );
}

#[test]
fn a_fragment_is_no_super_frame() {
    for addresses in [V4, V6] {
        let packet = link().ip(addresses.0, addresses.1);
        let segment = packet.tcp_segment(&TcpHeader::default(), &[0; 996]);
        let frame = packet.fragment(1, 0, true).frame(Protocol::TCP, &segment);
        let mut whole = tcp(addresses, 2000);
        let header = offload(&mut whole, Some((tcp_gso(addresses), 1448)));
        assert_eq!(check(header, &frame), Err(VnetError::ChecksumAbsent));
        let header = VnetHeader { flags: 0, ..header };
        assert_eq!(check(header, &frame), Err(VnetError::GsoFragment));
    }
}

#[test]
fn segments_are_neither_too_small_nor_too_many() {
    for addresses in [V4, V6] {
        let mut frame = tcp(addresses, 2000);
        let mut sized = |size| {
            let header = offload(&mut frame, Some((tcp_gso(addresses), size)));
            check(header, &frame)
        };
        assert_eq!(sized(MIN_TCP_GSO_SIZE), Ok(()));
        assert_eq!(sized(MIN_TCP_GSO_SIZE - 1), Err(VnetError::GsoSize));
        assert_eq!(sized(0), Err(VnetError::GsoSize));
        assert_eq!(sized(u16::MAX), Ok(()));

        let most = usize::try_from(MAX_UDP_SEGMENTS).unwrap();
        for (len, size, expected) in [
            (most, 1, Ok(())),
            (most + 1, 1, Err(VnetError::TooManySegments)),
            (most * 400, 400, Ok(())),
            (most * 400 + 1, 400, Err(VnetError::TooManySegments)),
            (100, 0, Err(VnetError::GsoSize)),
            (0, 1, Ok(())),
        ] {
            let mut frame = udp(addresses, len);
            let header = offload(&mut frame, Some((Gso::Udp, size)));
            assert_eq!(check(header, &frame), expected, "{len} by {size}");
        }
    }
}

#[test]
fn a_super_frame_ends_with_its_payload() {
    for addresses in [V4, V6] {
        for (mut frame, gso) in [
            (tcp(addresses, 2000), tcp_gso(addresses)),
            (udp(addresses, 2000), Gso::Udp),
        ] {
            let header = offload(&mut frame, Some((gso, 1000)));
            frame.push(0);
            assert_eq!(check(header, &frame), Err(VnetError::GsoTrailer));
        }
        // Bytes behind the UDP length, inside the datagram.
        let mut frame = udp(addresses, 2000);
        let header = offload(&mut frame, Some((Gso::Udp, 1000)));
        let place = ip(&frame).transport_offset as usize + 4;
        frame[place..place + 2].copy_from_slice(&2000_u16.to_be_bytes());
        assert_eq!(check(header, &frame), Err(VnetError::GsoTrailer));
    }
}

#[test]
fn the_longest_segment_is_what_an_mtu_is_compared_with() {
    for (addresses, header_len) in [(V4, 20), (V6, 40)] {
        let mut frame = tcp(addresses, 60_000);
        let header = offload(&mut frame, Some((tcp_gso(addresses), 1448)));
        let summary = Summary::parse(&frame).unwrap();
        assert_eq!(header.largest_segment_len(&summary), header_len + 32 + 1448);
        assert_eq!(
            VnetHeader::NONE.largest_segment_len(&summary),
            header_len + 32 + 60_000
        );

        let mut frame = udp(addresses, 60_000);
        let header = offload(&mut frame, Some((Gso::Udp, 1472)));
        let summary = Summary::parse(&frame).unwrap();
        assert_eq!(header.largest_segment_len(&summary), header_len + 8 + 1472);

        // A super-frame that is shorter than one full segment.
        let mut frame = tcp(addresses, 100);
        let header = offload(&mut frame, Some((tcp_gso(addresses), 1448)));
        frame.extend([0; 20]);
        let summary = Summary::parse(&frame).unwrap();
        assert_eq!(header.largest_segment_len(&summary), header_len + 32 + 100);
    }
    let summary = Summary::parse(&link().frame(EtherType(0x88cc), &[0; 60])).unwrap();
    assert_eq!(VnetHeader::NONE.largest_segment_len(&summary), 0);
}
