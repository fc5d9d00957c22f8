use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::{SegmentError, complete_checksum, segment};
use crate::builder::{Packet, TcpHeader, offload};
use crate::testing::flow::smoltcp_accepts;
use crate::testing::{any_tcp_header, ip, link};
use crate::{
    Fragment, Gso, Ip, Protocol, Summary, TcpFlags, Transport, VnetError, VnetHeader,
    ipv4_header_is_valid, transport_checksum_is_valid,
};

const V4: (&str, &str) = ("10.0.0.1", "10.0.0.2");
const V6: (&str, &str) = ("fd00::1", "fd00::2");

/// The packets that a super-frame becomes.
fn segments(frame: &[u8], header: &VnetHeader) -> Result<Vec<Vec<u8>>, SegmentError> {
    let mut scratch = vec![0xcc; 2048 + usize::from(header.gso_size)];
    let mut packets = Vec::new();
    let summary = Summary::parse(frame).unwrap();
    let mut emit = |packet: &[u8]| packets.push(packet.to_vec());
    let count = segment(frame, &summary, header, &mut scratch, &mut emit)?;
    assert_eq!(count, packets.len());
    Ok(packets)
}

/// The payload of a packet behind its transport header.
fn payload(frame: &[u8]) -> &[u8] {
    let ip = ip(frame);
    let header_len = match ip.transport {
        Transport::Tcp(tcp) => usize::from(tcp.header_len),
        _ => 8,
    };
    &ip.payload(frame).unwrap()[header_len..]
}

/// Which packet a super-frame travels in: plain, tagged, or with more headers.
fn any_packet() -> impl Strategy<Value = Packet> {
    prop_oneof![
        Just(link().ip(V4.0, V4.1)),
        Just(link().vlan(7).ip(V4.0, V4.1).dont_fragment()),
        Just(link().ip(V4.0, V4.1).options(&[148, 4, 0, 0]).id(0xfffe)),
        Just(link().ip(V6.0, V6.1)),
        Just(
            link()
                .service_tag(7)
                .vlan(8)
                .ip(V6.0, V6.1)
                .extension(Protocol::DESTINATION_OPTIONS, &[0, 1, 4, 0, 0, 0, 0])
        ),
    ]
}

fn check_ip(original: &Ip, frame: &[u8], index: u16) {
    let ip = ip(frame);
    assert_eq!(
        (ip.source, ip.destination),
        (original.source, original.destination)
    );
    assert_eq!(
        (ip.hop_limit, ip.traffic_class),
        (original.hop_limit, original.traffic_class)
    );
    assert_eq!(
        (ip.fragment, ip.options),
        (Fragment::Whole, original.options)
    );
    assert_eq!(ip.dont_fragment, original.dont_fragment);
    assert_eq!(ip.end as usize, frame.len());
    assert!(transport_checksum_is_valid(frame, &ip));
    if original.source.is_ipv4() {
        assert!(ipv4_header_is_valid(frame, ip.header_offset));
        let place = usize::from(ip.header_offset) + 4;
        let id = u16::from_be_bytes([frame[place], frame[place + 1]]);
        let first = if original.options.is_empty() {
            0x1234
        } else {
            0xfffe_u16
        };
        assert_eq!(id, first.wrapping_add(index));
    }
    if original.options.is_empty() && original.header_offset == 14 {
        assert!(smoltcp_accepts(frame));
    }
}

proptest! {
    #[test]
    fn the_segments_carry_the_stream_and_nothing_else(
        packet in any_packet(),
        header in any_tcp_header(),
        len in 0_usize..20_000,
        size in crate::MIN_TCP_GSO_SIZE..3000,
        seed: u8,
    ) {
        let data: Vec<u8> = (0..len).map(|i| seed.wrapping_add(u8::try_from(i % 251).unwrap())).collect();
        let mut frame = packet.tcp(&header, &data);
        let original = ip(&frame);
        let gso = if original.source.is_ipv4() { Gso::TcpV4 } else { Gso::TcpV6 };
        let vnet = offload(&mut frame, Some((gso, size)));
        let packets = segments(&frame, &vnet).unwrap();
        prop_assert_eq!(packets.len(), len.div_ceil(size.into()).max(1));
        let mut sequence = header.sequence;
        for (index, packet) in packets.iter().enumerate() {
            check_ip(&original, packet, u16::try_from(index).unwrap());
            let Transport::Tcp(tcp) = ip(packet).transport else { panic!("not TCP") };
            prop_assert_eq!(tcp.sequence, sequence);
            prop_assert_eq!(tcp.acknowledgement, header.acknowledgement);
            prop_assert_eq!((tcp.source_port, tcp.window), (header.source_port, header.window));
            let is_last = index + 1 == packets.len();
            prop_assert!(is_last || tcp.payload_len == size.into());
            let mut flags = header.flags;
            if !is_last {
                flags = flags.without(TcpFlags::FIN | TcpFlags::PSH);
            }
            if index > 0 {
                flags = flags.without(TcpFlags::CWR);
            }
            prop_assert_eq!(tcp.flags, flags);
            let options = ip(packet).transport_offset as usize + 20;
            prop_assert_eq!(&packet[options..][..header.options.len()], &header.options[..]);
            sequence = sequence.wrapping_add(tcp.payload_len);
        }
        let stream: Vec<u8> = packets.iter().flat_map(|packet| payload(packet).to_vec()).collect();
        prop_assert_eq!(stream, data);
        prop_assert_eq!(
            packets.iter().map(|packet| ip(packet).total_len()).max().unwrap(),
            vnet.largest_segment_len(&Summary::parse(&frame).unwrap())
        );
    }

    #[test]
    fn the_datagrams_carry_the_payload_and_nothing_else(
        packet in any_packet(),
        ports: [u16; 2],
        data in vec(any::<u8>(), 0..4000),
        size in 32_u16..1500,
    ) {
        let mut frame = packet.udp(ports[0], ports[1], &data);
        let original = ip(&frame);
        let vnet = offload(&mut frame, Some((Gso::Udp, size)));
        let packets = segments(&frame, &vnet).unwrap();
        for (index, packet) in packets.iter().enumerate() {
            check_ip(&original, packet, u16::try_from(index).unwrap());
            let Transport::Udp(udp) = ip(packet).transport else { panic!("not UDP") };
            prop_assert_eq!([udp.source_port, udp.destination_port], ports);
            let is_last = index + 1 == packets.len();
            prop_assert!(is_last || udp.payload_len == size.into());
            let checksum = ip(packet).transport_offset as usize + 6;
            prop_assert!(packet[checksum..checksum + 2] != [0, 0]);
        }
        let stream: Vec<u8> = packets.iter().flat_map(|packet| payload(packet).to_vec()).collect();
        prop_assert_eq!(stream, data);
    }
}

#[test]
fn the_longest_super_frame_is_cut() {
    for (addresses, gso, header_len) in [(V4, Gso::TcpV4, 40), (V6, Gso::TcpV6, 20)] {
        let data = vec![0xa5; 65_535 - header_len];
        let header = TcpHeader {
            sequence: u32::MAX - 1000,
            ..TcpHeader::default()
        };
        let mut frame = link().ip(addresses.0, addresses.1).tcp(&header, &data);
        let vnet = offload(&mut frame, Some((gso, 1448)));
        let packets = segments(&frame, &vnet).unwrap();
        assert_eq!(packets.len(), 46);
        assert!(packets.iter().all(|packet| smoltcp_accepts(packet)));
        assert_eq!(
            packets
                .iter()
                .map(|packet| payload(packet).len())
                .sum::<usize>(),
            data.len()
        );
    }
}

/// Of all the words one makes the checksum zero. UDP must not send that, TCP must.
#[test]
fn a_checksum_of_zero_is_all_ones_in_udp_and_zero_in_tcp() {
    for (addresses, tcp_gso) in [(V4, Gso::TcpV4), (V6, Gso::TcpV6)] {
        let packet = link().ip(addresses.0, addresses.1);
        let (mut all_ones, mut zeros) = (0, 0);
        for word in 0..=u16::MAX {
            let udp = packet.udp(1, 2, &word.to_be_bytes());
            let place = ip(&udp).transport_offset as usize + 6;
            all_ones += usize::from(udp[place..place + 2] == [0xff, 0xff]);
            let tcp = packet.tcp(
                &TcpHeader {
                    window: word,
                    ..TcpHeader::default()
                },
                b"",
            );
            let place = ip(&tcp).transport_offset as usize + 16;
            zeros += usize::from(tcp[place..place + 2] == [0, 0]);
            for (complete, gso) in [(udp, Gso::Udp), (tcp, tcp_gso)] {
                let mut frame = complete.clone();
                let header = offload(&mut frame, Some((gso, 1448)));
                assert_eq!(segments(&frame, &header).unwrap(), [&complete[..]]);
                complete_checksum(&mut frame, &header);
                assert_eq!(frame, complete);
            }
        }
        assert!((1..=2).contains(&all_ones), "{all_ones}");
        assert!((1..=2).contains(&zeros), "{zeros}");
    }
}

#[test]
fn a_checksum_outside_the_frame_is_not_completed() {
    let frame = link().ip(V4.0, V4.1).tcp(&TcpHeader::default(), b"x");
    let right = offload(&mut frame.clone(), None);
    for header in [
        VnetHeader::NONE,
        VnetHeader {
            checksum_start: u16::MAX,
            ..right
        },
        VnetHeader {
            checksum_offset: u16::MAX,
            ..right
        },
        VnetHeader {
            checksum_offset: 20,
            ..right
        },
    ] {
        let mut changed = frame.clone();
        complete_checksum(&mut changed, &header);
        assert_eq!(changed, frame, "{header:?}");
    }
}

#[test]
fn what_is_not_to_be_cut_is_refused_before_the_first_packet() {
    let mut frame = link().ip(V4.0, V4.1).tcp(&TcpHeader::default(), &[0; 3000]);
    let plain = offload(&mut frame, None);
    assert_eq!(segments(&frame, &plain), Err(SegmentError::NotGso));
    assert_eq!(
        segments(&frame, &VnetHeader::NONE),
        Err(SegmentError::NotGso)
    );
    let header = offload(&mut frame, Some((Gso::TcpV4, 100)));
    assert_eq!(
        segments(&frame, &header),
        Err(SegmentError::Header(VnetError::GsoSize))
    );
    let header = offload(&mut frame, Some((Gso::TcpV6, 1448)));
    assert_eq!(
        segments(&frame, &header),
        Err(SegmentError::Header(VnetError::GsoProtocol))
    );

    let header = offload(&mut frame, Some((Gso::TcpV4, 1448)));
    let summary = Summary::parse(&frame).unwrap();
    let mut scratch = [0; 14 + 40 + 1447];
    let result = segment(&frame, &summary, &header, &mut scratch, &mut |_| {
        panic!("emitted")
    });
    assert_eq!(
        result,
        Err(SegmentError::Scratch {
            needed: 14 + 40 + 1448
        })
    );
    let mut scratch = [0; 14 + 40 + 1448];
    assert_eq!(
        segment(&frame, &summary, &header, &mut scratch, &mut |_| {}),
        Ok(3)
    );
}
