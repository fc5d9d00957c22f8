use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::select;

use super::{Change, Part, Whole, rewrite_part_header, write_whole_header};
use crate::builder::Packet;
use crate::testing::{any_mutated_frame, ip, link};
use crate::{
    Network, Protocol, Rewrite, Summary, decrement_hop_limit, ipv4_header_is_valid, rewrite,
};

const SIDES: [(&str, &str); 2] = [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")];

/// Options that stand in every fragment, and those behind the fragment header.
fn headers(packet: Packet, choice: usize) -> Packet {
    let is_v6 = ip(&packet.udp(1, 2, b"")).family() == crate::Family::V6;
    match (is_v6, choice) {
        (false, 1) => packet.options(&[1, 131, 7, 4, 10, 0, 0, 1]),
        (false, 2) => packet.options(&[148, 4, 0, 0]),
        (true, 1) => packet.extension(Protocol::HOP_BY_HOP, &[0, 5, 2, 0, 0, 1, 0]),
        (true, 2) => packet
            .extension(Protocol::HOP_BY_HOP, &[0, 5, 2, 0, 0, 1, 0])
            .extension(Protocol::DESTINATION_OPTIONS, &[0, 1, 4, 0, 0, 0, 0]),
        _ => packet,
    }
}

/// The fragments of a segment, cut at these units of eight.
fn cut(packet: &Packet, protocol: Protocol, segment: &[u8], id: u32, units: usize) -> Vec<Vec<u8>> {
    let count = segment.len().div_ceil(units * 8);
    let pieces = segment.chunks(units * 8).enumerate();
    pieces
        .map(|(index, piece)| {
            let offset = u16::try_from(index * units * 8).unwrap();
            let packet = packet.clone().fragment(id, offset, index + 1 < count);
            packet.frame(protocol, piece)
        })
        .collect()
}

/// The frame that fragments make, headers and data by this module alone.
fn whole(frames: &[Vec<u8>]) -> Vec<u8> {
    let first_ip = ip(&frames[0]);
    let first = Part::of(&frames[0], &first_ip).unwrap();
    let mut data = Vec::new();
    for frame in frames {
        let ip = ip(frame);
        let part = Part::of(frame, &ip).unwrap();
        assert_eq!(usize::from(part.offset), data.len());
        assert_eq!(part.id, first.id);
        assert_eq!(part.protocol, first.protocol);
        data.extend(part.data);
        assert_eq!(part.more, !std::ptr::eq(frame, frames.last().unwrap()));
    }
    let what = Whole {
        data_len: data.len(),
        hop_limit: first_ip.hop_limit,
        dont_fragment: false,
    };
    let mut header = [0xcc; 400];
    let len = write_whole_header(first.header, &what, &mut header).unwrap();
    [&frames[0][..14], &header[..len], &data].concat()
}

proptest! {
    #[test]
    fn what_was_cut_comes_together_as_it_was(
        side in select(SIDES.to_vec()),
        choice in 0_usize..3,
        data in vec(any::<u8>(), 8..3000),
        units in 1_usize..200,
        id in any::<u16>(),
    ) {
        // The first fragment holds the whole header.
        let packet = headers(link().ip(side.0, side.1).id(id).may_fragment(), choice);
        let segment = packet.udp_segment(1, 2, &data);
        let frames = cut(&packet, Protocol::UDP, &segment, id.into(), units);
        if frames.len() == 1 {
            return Ok(());
        }
        let made = whole(&frames);
        prop_assert_eq!(&made, &packet.frame(Protocol::UDP, &segment));
        let read = etherparse::SlicedPacket::from_ethernet(&made).unwrap();
        prop_assert!(matches!(read.transport, Some(etherparse::TransportSlice::Udp(_))));
    }

    #[test]
    fn fragments_follow_what_was_done_to_the_whole(
        side in select(vec![
            (SIDES[0], "192.0.2.7", "198.51.100.9"),
            (SIDES[1], "2001:db8::7", "2001:db8:ffff::9"),
        ]),
        choice in 0_usize..3,
        data in vec(any::<u8>(), 8..600),
        units in 1_usize..40,
    ) {
        let (from, source, destination) = side;
        let packet = headers(link().ip(from.0, from.1).may_fragment(), choice);
        let segment = packet.udp_segment(1, 2, &data);
        let frames = cut(&packet, Protocol::UDP, &segment, 7, units);
        if frames.len() == 1 {
            return Ok(());
        }
        let mut made = whole(&frames);
        let summary = ip(&made);
        let to = Rewrite {
            source: source.parse().unwrap(),
            source_port: 1000,
            destination: destination.parse().unwrap(),
            destination_port: 2000,
        };
        rewrite(&mut made, &summary, false, &to);
        decrement_hop_limit(&mut made, &summary);

        let packet = headers(link().ip(source, destination).hop_limit(63), choice);
        let segment = packet.udp_segment(1000, 2000, &data);
        let expected = cut(&packet, Protocol::UDP, &segment, 0xbeef, units);
        let change = Change { now: &made[14..], hops: 1, id: Some(0xbeef) };
        let mut place = summary.transport_offset as usize;
        for (frame, expected) in frames.iter().zip(&expected) {
            let ip = ip(frame);
            let part = Part::of(frame, &ip).unwrap();
            let mut header = part.header.to_vec();
            rewrite_part_header(&mut header, &change);
            let behind = place + part.data.len();
            let changed = [&frame[..14], &header, &made[place..behind]].concat();
            prop_assert_eq!(&changed, expected);
            place = behind;
        }
    }

    #[test]
    fn nothing_panics_on_any_frame(
        frame in any_mutated_frame(),
        other in any_mutated_frame(),
        len in 0_usize..400,
    ) {
        if let Ok(Summary { network: Network::Ip(ip), .. }) = Summary::parse(&frame) {
            let _ = Part::of(&other, &ip);
            if let Some(part) = Part::of(&frame, &ip) {
                let what = Whole { data_len: len * 200, hop_limit: 3, dont_fragment: true };
                let mut space = vec![0; len];
                let _ = write_whole_header(part.header, &what, &mut space);
                let mut header = part.header.to_vec();
                rewrite_part_header(&mut header, &Change { now: &other, hops: 255, id: Some(1) });
                prop_assert_eq!(header.len(), part.header.len());
            }
        }
        let mut any = frame.clone();
        rewrite_part_header(&mut any, &Change { now: &[], hops: 1, id: None });
        let _ = write_whole_header(&other, &Whole { data_len: 8, hop_limit: 1, dont_fragment: true }, &mut any);
    }
}

#[test]
fn an_extension_header_behind_the_fragment_header_is_data() {
    let packet = link().ip("fd00::1", "fd00::2");
    let segment = packet.udp_segment(1, 2, &[9; 24]);
    // As a destination options header and what follows it.
    let data = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &segment].concat();
    let first = packet
        .clone()
        .fragment(5, 0, true)
        .frame(Protocol::DESTINATION_OPTIONS, &data[..24]);
    let last = packet
        .clone()
        .fragment(5, 24, false)
        .frame(Protocol::DESTINATION_OPTIONS, &data[24..]);
    let summary = ip(&first);
    assert_eq!(summary.protocol, Protocol::UDP);
    let part = Part::of(&first, &summary).unwrap();
    assert_eq!((part.header.len(), part.data), (48, &data[..24]));
    let expected = packet
        .extension(Protocol::DESTINATION_OPTIONS, &[0, 1, 4, 0, 0, 0, 0])
        .frame(Protocol::UDP, &segment);
    assert_eq!(whole(&[first, last]), expected);
}

#[test]
fn a_whole_datagram_is_no_part_and_no_datagram_is_longer_than_its_length_field() {
    for (source, destination) in SIDES {
        let packet = link().ip(source, destination).may_fragment();
        let frame = packet.udp(1, 2, b"");
        assert_eq!(Part::of(&frame, &ip(&frame)), None);
        let frame = packet
            .fragment(1, 0, true)
            .frame(Protocol::UDP, &[0, 1, 0, 2, 0, 8, 0, 0]);
        let summary = ip(&frame);
        let first = Part::of(&frame, &summary).unwrap();
        let longest = if summary.family() == crate::Family::V4 {
            65_515
        } else {
            65_535
        };
        for (data_len, fits) in [(longest, true), (longest + 1, false)] {
            let what = Whole {
                data_len,
                hop_limit: 1,
                dont_fragment: true,
            };
            let written = write_whole_header(first.header, &what, &mut [0; 60]);
            assert_eq!(written.is_some(), fits);
        }
    }
}

#[test]
fn the_flag_and_the_hops_of_the_whole_are_those_asked_for() {
    let packet = link().ip("10.0.0.1", "10.0.0.2").hop_limit(9);
    let frame = packet
        .clone()
        .fragment(1, 0, true)
        .frame(Protocol(47), &[0; 8]);
    let summary = ip(&frame);
    let first = Part::of(&frame, &summary).unwrap();
    let what = Whole {
        data_len: 16,
        hop_limit: 4,
        dont_fragment: true,
    };
    let mut space = [0; 20];
    assert_eq!(
        write_whole_header(first.header, &what, &mut space),
        Some(20)
    );
    let made = [&frame[..14], &space, &[0; 16]].concat();
    assert!(ipv4_header_is_valid(&made, 14));
    assert_eq!(
        made,
        packet.id(1).hop_limit(4).frame(Protocol(47), &[0; 16])
    );
}
