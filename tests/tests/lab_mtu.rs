//! The router and the sizes of packets: what fits, what is refused, what is cut.

#![expect(clippy::unwrap_used, reason = "a panic is how a case fails")]

use heddle_switch::Cause;
use heddle_tests::lab::{Lab, SIDES, Side, Told, campus};
use heddle_wire::builder::{TcpHeader, offload};
use heddle_wire::{Family, Gso, Protocol};

const V4: &Side = &SIDES[0];

/// Two networks of which one has a smaller MTU.
fn narrow() -> Lab {
    Lab::new(|plan| {
        plan.network("wide")
            .subnet("10.1.0.0/24")
            .subnet("fd00:1::/64")
            .reaches("narrow");
        plan.network("narrow")
            .subnet("10.2.0.0/24")
            .subnet("fd00:2::/64");
        plan.host("a", "wide")
            .address("10.1.0.2")
            .address("fd00:1::2")
            .mtu(9000);
        plan.host("d", "narrow")
            .address("10.2.0.2")
            .address("fd00:2::2")
            .mtu(1280);
    })
}

#[test]
fn what_is_too_big_and_must_stay_whole_is_refused_with_the_mtu() {
    for side in &SIDES {
        let mut lab = narrow();
        let headers = match side.family {
            Family::V4 => 28,
            Family::V6 => 48,
        };
        let packet = lab.to_gateway("a").ip(side.a, side.d).dont_fragment();
        let fits = packet.udp(1, 2, &vec![1; 1280 - headers]);
        let there = lab
            .from_gateway("d")
            .ip(side.a, side.d)
            .dont_fragment()
            .hop_limit(63);
        lab.send("a", &fits)
            .arrives("d", &there.udp(1, 2, &vec![1; 1280 - headers]));
        let frame = packet.udp(1, 2, &vec![1; 1281 - headers]);
        let told = side.told(
            &lab.from_gateway("a"),
            side.gateway,
            side.a,
            Told::TooBig(1280),
            &frame,
        );
        lab.send("a", &frame)
            .arrives("a", &told)
            .drops("a", Cause::PacketTooBig);
    }
}

#[test]
fn a_super_frame_is_as_long_as_the_packets_it_stands_for() {
    for side in &SIDES {
        let mut lab = narrow();
        let (kind, headers) = match side.family {
            Family::V4 => (Gso::TcpV4, 40),
            Family::V6 => (Gso::TcpV6, 60),
        };
        let whole = lab.to_gateway("a").ip(side.a, side.d).dont_fragment();
        let whole = whole.tcp(&TcpHeader::default(), &[7; 30_000]);
        let mut frame = whole.clone();
        let fits = offload(&mut frame, Some((kind, 1280 - headers)));
        let mut there = lab
            .from_gateway("d")
            .ip(side.a, side.d)
            .dont_fragment()
            .hop_limit(63);
        there = there.clone();
        let mut there = there.tcp(&TcpHeader::default(), &[7; 30_000]);
        let _ = offload(&mut there, Some((kind, 1280 - headers)));
        lab.send_with("a", &fits, &frame)
            .arrives_with("d", &fits, &there);

        let mut frame = whole;
        let too_big = offload(&mut frame, Some((kind, 1281 - headers)));
        let told = side.told(
            &lab.from_gateway("a"),
            side.gateway,
            side.a,
            Told::TooBig(1280),
            &frame,
        );
        lab.send_with("a", &too_big, &frame)
            .arrives("a", &told)
            .drops("a", Cause::PacketTooBig);
    }
}

/// The fragments of a datagram's data, at `mtu`, in the words of RFC 791 §3.2.
fn fragments(
    packet: &heddle_wire::builder::Packet,
    id: u32,
    data: &[u8],
    mtu: usize,
) -> Vec<Vec<u8>> {
    let room = (mtu - 20) / 8 * 8;
    let count = data.len().div_ceil(room);
    data.chunks(room)
        .enumerate()
        .map(|(index, piece)| {
            let offset = u16::try_from(index * room).unwrap();
            let packet = packet.clone().fragment(id, offset, index + 1 < count);
            packet.frame(Protocol::UDP, piece)
        })
        .collect()
}

#[test]
fn what_is_too_big_and_may_be_cut_is_cut() {
    let mut lab = narrow();
    let data: Vec<u8> = (0..4000_u32).map(|at| at.to_le_bytes()[0]).collect();
    let there = lab.from_gateway("d").ip(V4.a, V4.d).hop_limit(63);
    let packet = lab.to_gateway("a").ip(V4.a, V4.d).id(0x77).may_fragment();
    let expected = fragments(&there, 0x77, &packet.udp_segment(1, 2, &data), 1280);
    assert_eq!(expected.len(), 4);
    let frame = packet.udp(1, 2, &data);
    let arrive = |step: heddle_tests::lab::Step<'_>| {
        drop(
            expected
                .iter()
                .fold(step, |step, piece| step.arrives("d", piece)),
        );
    };
    arrive(lab.send("a", &frame));
    // The checksum is completed first: a fragment cannot leave it to others.
    let mut open = frame.clone();
    let vnet = offload(&mut open, None);
    arrive(lab.send_with("a", &vnet, &open));
}

#[test]
fn a_super_frame_whose_packets_are_too_big_is_cut_twice() {
    let mut lab = narrow();
    let data = [9; 4000];
    let mut frame = lab
        .to_gateway("a")
        .ip(V4.a, V4.d)
        .id(0x80)
        .may_fragment()
        .udp(1, 2, &data);
    let vnet = offload(&mut frame, Some((Gso::Udp, 2000)));
    let there = lab.from_gateway("d").ip(V4.a, V4.d).hop_limit(63);
    let segment = there.udp_segment(1, 2, &data[..2000]);
    let expected = [0x80, 0x81].map(|id| fragments(&there, id, &segment, 1280));
    let step = lab.send_with("a", &vnet, &frame);
    drop(
        expected
            .iter()
            .flatten()
            .fold(step, |step, piece| step.arrives("d", piece)),
    );
}

#[test]
fn fragments_that_a_full_port_loses_are_counted_each() {
    let mut lab = Lab::new(|plan| {
        plan.network("wide").subnet("10.1.0.0/24").reaches("narrow");
        plan.network("narrow").subnet("10.2.0.0/24");
        plan.host("a", "wide").address("10.1.0.2").mtu(9000);
        plan.host("d", "narrow")
            .address("10.2.0.2")
            .mtu(1280)
            .queue(1);
    });
    let frame = lab
        .to_gateway("a")
        .ip(V4.a, V4.d)
        .id(0x77)
        .may_fragment()
        .udp(1, 2, &[0; 4000]);
    let there = lab.from_gateway("d").ip(V4.a, V4.d).hop_limit(63);
    let expected = fragments(&there, 0x77, &there.udp_segment(1, 2, &[0; 4000]), 1280);
    lab.send("a", &frame)
        .arrives("d", &expected[0])
        .drops_many("a", Cause::TransmitQueueFull, 3);
}

#[test]
fn fragments_are_routed_untranslated_like_any_packet() {
    for side in &SIDES {
        let mut lab = campus();
        for (offset, more) in [(0, true), (64, true), (128, false)] {
            let packet = lab
                .to_gateway("a")
                .ip(side.a, side.d)
                .fragment(5, offset, more);
            let there = lab
                .from_gateway("d")
                .ip(side.a, side.d)
                .fragment(5, offset, more)
                .hop_limit(63);
            let content = packet.udp_segment(1, 2, &[0; 56]);
            let frame = packet.frame(Protocol::UDP, &content);
            lab.send("a", &frame)
                .arrives("d", &there.frame(Protocol::UDP, &content));
        }
    }
}
