use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::select;

use super::{FragmentError, fragment_ipv4};
use crate::builder::Packet;
use crate::testing::{ip, link};
use crate::{
    Fragment, IpOptions, Protocol, Summary, ipv4_header_is_valid, transport_checksum_is_valid,
};

fn packet() -> Packet {
    link().ip("10.0.0.1", "10.0.0.2").may_fragment()
}

/// The fragments of a frame's datagram.
fn fragments(frame: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>, FragmentError> {
    let mut scratch = vec![0xcc; 22 + mtu];
    let mut frames = Vec::new();
    let summary = Summary::parse(frame).unwrap();
    let mut emit = |fragment: &[u8]| frames.push(fragment.to_vec());
    let count = fragment_ipv4(frame, &summary, mtu, &mut scratch, &mut emit)?;
    assert_eq!(count, frames.len());
    Ok(frames)
}

/// Puts fragments together as RFC 791 §3.2 describes it. The header is the first fragment's.
fn reassemble(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut data = Vec::new();
    for frame in frames {
        let ip = ip(frame);
        let (offset, is_last) = match ip.fragment {
            Fragment::Whole => panic!("not a fragment"),
            Fragment::First { .. } => (0, false),
            Fragment::Later { offset, last, .. } => (offset.into(), last),
        };
        let end = offset + ip.payload_len();
        assert_eq!(data.len(), offset, "a hole or an overlap");
        data.resize(end, 0);
        data[offset..].copy_from_slice(ip.payload(frame).unwrap());
        assert_eq!(is_last, std::ptr::eq(frame, frames.last().unwrap()));
    }
    let first = ip(&frames[0]);
    let mut frame = frames[0][..first.transport_offset as usize].to_vec();
    let header = usize::from(first.header_offset);
    let total_len = u16::try_from(frame.len() - header + data.len()).unwrap();
    frame[header + 2..header + 4].copy_from_slice(&total_len.to_be_bytes());
    frame[header + 6] &= !0x20;
    frame[header + 10..header + 12].fill(0);
    let checksum = !crate::testing::slow_sum(&frame[header..]);
    frame[header + 10..header + 12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(data);
    frame
}

/// What etherparse makes of fragments, from the last one to the first: the data of the datagram.
fn reassembled_by_etherparse(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut pool = etherparse::defrag::IpDefragPool::<(), ()>::new();
    let mut whole = None;
    for frame in frames.iter().rev() {
        assert!(whole.is_none(), "whole before all were there");
        let sliced = etherparse::SlicedPacket::from_ethernet(frame).unwrap();
        whole = pool.process_sliced_packet(&sliced, (), ()).unwrap();
    }
    whole.expect("all were there").payload
}

proptest! {
    #[test]
    fn fragments_come_together_byte_for_byte(
        data in vec(any::<u8>(), 0..6000),
        mtu in 68_usize..2000,
        options in select(vec![
            vec![],
            vec![1, 131, 7, 4, 10, 0, 0, 1],
            vec![7, 7, 4, 0, 0, 0, 0, 0],
            vec![130, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ]),
        trailer in vec(any::<u8>(), 0..9),
    ) {
        let packet = packet().options(&options).id(0xbeef);
        let mut frame = packet.udp(1000, 2000, &data);
        let end = frame.len();
        frame.extend(&trailer);
        let frames = fragments(&frame, mtu).unwrap();
        if ip(&frame).total_len() <= mtu {
            prop_assert_eq!(frames, vec![frame[..end].to_vec()]);
            return Ok(());
        }
        for (index, fragment) in frames.iter().enumerate() {
            let ip = ip(fragment);
            prop_assert!(ip.total_len() <= mtu);
            prop_assert!(ipv4_header_is_valid(fragment, ip.header_offset));
            prop_assert_eq!(ip.end as usize, fragment.len());
            assert!(matches!(
                ip.fragment,
                Fragment::First { id: 0xbeef } | Fragment::Later { id: 0xbeef, .. }
            ));
            // Nothing smaller than needed: one more unit would not have fitted.
            let is_last = index + 1 == frames.len();
            prop_assert!(is_last || ip.total_len() + 8 > mtu);
        }
        let whole = reassemble(&frames);
        prop_assert_eq!(&whole, &frame[..end]);
        prop_assert!(transport_checksum_is_valid(&whole, &ip(&whole)));
        let payload = reassembled_by_etherparse(&frames);
        prop_assert_eq!(Some(&payload[..]), ip(&whole).payload(&whole));
    }

    #[test]
    fn a_fragment_is_cut_further_and_still_comes_together(
        data in vec(any::<u8>(), 2000..4000),
        mtu in 68_usize..500,
    ) {
        let frame = packet().udp(1, 2, &data);
        let coarse = fragments(&frame, 1500).unwrap();
        let fine: Vec<_> =
            coarse.iter().flat_map(|fragment| fragments(fragment, mtu).unwrap()).collect();
        let payload = reassembled_by_etherparse(&fine);
        prop_assert_eq!(Some(&payload[..]), ip(&frame).payload(&frame));
        prop_assert_eq!(reassemble(&fine), frame);
    }
}

#[test]
fn only_options_with_the_copied_bit_go_into_every_fragment() {
    // No operation, a loose source route (copied), a record route (not copied), end.
    let options = [1, 131, 7, 4, 10, 0, 0, 1, 7, 7, 4, 0, 0, 0, 0, 0];
    let frame = packet().options(&options).udp(1, 2, &[0; 300]);
    let frames = fragments(&frame, 200).unwrap();
    assert_eq!(frames.len(), 2);
    assert_eq!(&frames[0][34..50], options);
    assert_eq!(ip(&frames[1]).header_len(), 28);
    assert_eq!(frames[1][34..42], [131, 7, 4, 10, 0, 0, 1, 0]);
    assert!(ip(&frames[1]).options.contains(IpOptions::SOURCE_ROUTE));
}

#[test]
fn only_the_last_fragment_may_end_inside_a_unit() {
    // Room for 87 bytes: 80 in all but the last.
    for (len, expected) in [
        (80 + 87, 2),
        (80 + 88, 3),
        (80 + 80 + 1, 2),
        (88, 2),
        (87, 1),
    ] {
        let frame = packet().frame(Protocol::GRE, &vec![1; len]);
        assert_eq!(fragments(&frame, 107).unwrap().len(), expected, "{len}");
    }
}

#[test]
fn tags_stay_on_every_fragment() {
    let frame = link()
        .service_tag(5)
        .vlan(6)
        .ip("10.0.0.1", "10.0.0.2")
        .may_fragment()
        .udp(1, 2, &[0; 200]);
    for fragment in fragments(&frame, 100).unwrap() {
        assert_eq!(fragment[..22], frame[..22]);
    }
}

#[test]
fn the_smallest_mtu_of_an_internet_module_is_enough() {
    // RFC 791 §3.2: a header of 60 bytes and eight bytes of data.
    let frame = packet().options(&[1; 40]).udp(1, 2, &[0; 24]);
    assert_eq!(fragments(&frame, 68).unwrap().len(), 2);
    assert_eq!(
        fragments(&frame, 67),
        Err(FragmentError::MtuTooSmall { mtu: 67 })
    );
    assert_eq!(
        fragments(&frame, 0),
        Err(FragmentError::MtuTooSmall { mtu: 0 })
    );
}

#[test]
fn what_must_not_be_fragmented_is_not() {
    let frame = packet().dont_fragment().udp(1, 2, &[0; 1000]);
    assert_eq!(fragments(&frame, 500), Err(FragmentError::DontFragment));
    assert_eq!(fragments(&frame, 1028).unwrap(), vec![frame]);
    let frame = link().ip("fd00::1", "fd00::2").udp(1, 2, &[0; 1000]);
    assert_eq!(fragments(&frame, 500), Err(FragmentError::NotIpv4));
    let frame = link().frame(crate::EtherType(0x88cc), &[0; 1000]);
    assert_eq!(fragments(&frame, 500), Err(FragmentError::NotIpv4));
}

#[test]
fn a_short_scratch_buffer_is_refused_before_the_first_fragment() {
    let frame = packet().frame(Protocol::UDP, &[0, 1, 0, 2, 3, 0xe8, 0, 0].repeat(125));
    let summary = Summary::parse(&frame).unwrap();
    let mut scratch = [0; 14 + 499];
    let result = fragment_ipv4(&frame, &summary, 500, &mut scratch, &mut |_| {
        panic!("emitted")
    });
    assert_eq!(result, Err(FragmentError::Scratch { needed: 514 }));
    let mut scratch = [0; 14 + 500];
    assert_eq!(
        fragment_ipv4(&frame, &summary, 500, &mut scratch, &mut |_| {}),
        Ok(3)
    );
}

mod v6 {
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use proptest::sample::select;

    use super::super::{FragmentError, fragment_ipv6};
    use crate::builder::Packet;
    use crate::testing::{ip, link};
    use crate::{Part, Protocol, Summary, Whole, write_whole_header};

    fn packet() -> Packet {
        link().ip("fd00::1", "fd00::2")
    }

    fn fragments(frame: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>, FragmentError> {
        let mut scratch = vec![0xcc; 22 + mtu];
        let mut frames = Vec::new();
        let summary = Summary::parse(frame).unwrap();
        let mut emit = |fragment: &[u8]| frames.push(fragment.to_vec());
        let count = fragment_ipv6(frame, &summary, mtu, 0xdead_beef, &mut scratch, &mut emit)?;
        assert_eq!(count, frames.len());
        Ok(frames)
    }

    proptest! {
        #[test]
        fn fragments_come_together_byte_for_byte(
            data in vec(any::<u8>(), 0..6000),
            mtu in 80_usize..2000,
            before in select(vec![None, Some(Protocol::HOP_BY_HOP), Some(Protocol::ROUTING)]),
            options: bool,
            trailer in vec(any::<u8>(), 0..9),
        ) {
            let mut packet = packet();
            let padding = [0, 1, 4, 0, 0, 0, 0];
            if let Some(kind) = before {
                packet = packet.extension(kind, &padding);
            }
            if options {
                packet = packet.extension(Protocol::DESTINATION_OPTIONS, &padding);
            }
            let mut frame = packet.udp(1000, 2000, &data);
            let end = frame.len();
            frame.extend(trailer);
            let frames = fragments(&frame, mtu).unwrap();
            if ip(&frame).total_len() <= mtu {
                prop_assert_eq!(frames, vec![frame[..end].to_vec()]);
                return Ok(());
            }
            let mut together = Vec::new();
            for (index, fragment) in frames.iter().enumerate() {
                let ip = ip(fragment);
                let part = Part::of(fragment, &ip).unwrap();
                prop_assert!(ip.total_len() <= mtu);
                prop_assert_eq!(usize::from(part.offset), together.len());
                prop_assert_eq!(part.id, 0xdead_beef);
                prop_assert_eq!(part.more, index + 1 < frames.len());
                prop_assert!(!part.more || ip.total_len() + 8 > mtu);
                // What routers look at stands in every fragment, the rest only once.
                prop_assert_eq!(part.header.len(), 48 + if before.is_some() { 8 } else { 0 });
                together.extend(part.data);
            }
            // It takes extension headers in the first fragment for no part of the data.
            if !options {
                prop_assert_eq!(&super::reassembled_by_etherparse(&frames), &together);
            }
            let first = ip(&frames[0]);
            let part = Part::of(&frames[0], &first).unwrap();
            let whole = Whole { data_len: together.len(), hop_limit: 64, dont_fragment: false };
            let mut header = [0; 400];
            let len = write_whole_header(part.header, &whole, &mut header).unwrap();
            let made = [&frames[0][..14], &header[..len], &together].concat();
            prop_assert_eq!(&made, &frame[..end]);
        }
    }

    #[test]
    fn only_whole_ipv6_is_cut_and_only_where_there_is_room() {
        let part = packet()
            .fragment(1, 0, true)
            .frame(Protocol(47), &[0; 1000]);
        assert_eq!(fragments(&part, 500), Err(FragmentError::NotIpv6));
        let frame = link().ip("10.0.0.1", "10.0.0.2").udp(1, 2, &[0; 1000]);
        assert_eq!(fragments(&frame, 500), Err(FragmentError::NotIpv6));
        let frame = packet().udp(1, 2, &[0; 1000]);
        assert_eq!(fragments(&frame, 56).unwrap().len(), 126);
        assert_eq!(
            fragments(&frame, 55),
            Err(FragmentError::MtuTooSmall { mtu: 55 })
        );
        let summary = Summary::parse(&frame).unwrap();
        let mut panics = |_: &[u8]| panic!("emitted");
        assert_eq!(
            fragment_ipv6(&frame, &summary, 500, 1, &mut [0; 513], &mut panics),
            Err(FragmentError::Scratch { needed: 514 })
        );
    }
}
