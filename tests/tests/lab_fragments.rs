//! Fragments through the translation and to the gateway: put together, checked, and sent on as they came.

#![expect(clippy::unwrap_used, reason = "a panic is how a case fails")]

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use heddle_switch::{Cause, NeighbourState};
use heddle_tests::lab::{
    Connection, Lab, NEXT_HOP_MAC, SIDES, Side, Step, Told, campus, campus_online,
    campus_online_with, fragments, identification,
};
use heddle_wire::builder::{Link, Packet, TcpHeader, offload};
use heddle_wire::{Family, Gso, Malformed, Protocol, TcpFlags};

/// How long fragments wait for each other.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What the sender numbers its datagram.
const ID: u32 = 0x4242;

/// Data that shows where it belongs.
fn data(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from(at / 8 % 251).unwrap())
        .collect()
}

/// The fragments of a UDP datagram.
fn udp(packet: &Packet, ports: (u16, u16), data: &[u8], room: usize) -> Vec<Vec<u8>> {
    let segment = packet.udp_segment(ports.0, ports.1, data);
    fragments(packet, Protocol::UDP, &segment, ID, room)
}

/// The fragments of an ICMP message.
fn icmp(packet: &Packet, family: Family, kind: u8, word: u32, data: &[u8]) -> Vec<Vec<u8>> {
    let protocol = match family {
        Family::V4 => Protocol::ICMP,
        Family::V6 => Protocol::ICMPV6,
    };
    let message = packet.icmp_message(kind, 0, word, data);
    fragments(packet, protocol, &message, ID, 1400)
}

/// `a` has a mapping for its port 4000 to the server's port 5300, of which one datagram has come back.
fn online(side: &Side) -> Lab {
    let mut lab = campus_online();
    let [sent, left] = side.outward(&lab, "a", side.server);
    lab.send("a", &sent.udp(4000, 5300, b"q"))
        .arrives("wan", &left.udp(4000, 5300, b"q"))
        .opens(1)
        .mappings(1);
    let [sent, arrived] = side.inward(&lab, side.server, "a");
    lab.send("wan", &sent.udp(5300, 4000, b"a"))
        .arrives("a", &arrived.udp(5300, 4000, b"a"))
        .moves(1);
    lab
}

/// Lets the time of fragments pass, in which the next hop was not heard.
fn wait(lab: &mut Lab) -> Step<'_> {
    let step = lab.advance(TIMEOUT);
    SIDES.iter().fold(step, |step, side| {
        let mac = Some(NEXT_HOP_MAC);
        step.neighbour("wan", side.next_hop, mac, NeighbourState::Stale)
    })
}

#[test]
fn a_datagram_in_fragments_opens_a_session_and_leaves_as_it_came() {
    for side in &SIDES {
        let mut lab = campus_online();
        let [sent, left] = side.outward(&lab, "a", side.server);
        let sent = udp(&sent, (4000, 5300), &data(4000), 1400);
        let left = udp(&left, (4000, 5300), &data(4000), 1400);
        lab.send("a", &sent[0]).holds(1);
        lab.send("a", &sent[1]).holds(1);
        lab.send("a", &sent[2])
            .holds(-2)
            .arrives_renumbered("wan", &left)
            .opens(1)
            .mappings(1);
    }
}

#[test]
fn the_answer_in_fragments_comes_back_through_the_session() {
    for side in &SIDES {
        let mut lab = online(side);
        let [sent, arrived] = side.inward(&lab, side.server, "a");
        let sent = udp(&sent, (5300, 4000), &data(9000), 1448);
        let arrived = udp(&arrived, (5300, 4000), &data(9000), 1448);
        lab.send_all("wan", &sent)
            .arrives_renumbered("a", &arrived)
            .moves(1);
    }
}

#[test]
fn fragments_may_come_in_any_order_and_leave_in_the_same() {
    for side in &SIDES {
        let orders = [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ];
        for order in orders {
            let mut lab = online(side);
            let [sent, left] = side.outward(&lab, "a", side.server);
            let sent = udp(&sent, (4000, 5300), &data(4000), 1400);
            let left = udp(&left, (4000, 5300), &data(4000), 1400);
            let pick = |frames: &[Vec<u8>]| order.map(|index| frames[index].clone());
            lab.send_all("a", &pick(&sent))
                .arrives_renumbered("wan", &pick(&left))
                .moves(1);
        }
    }
}

#[test]
fn a_published_port_gets_datagrams_in_fragments_and_answers_in_some() {
    for side in &SIDES {
        let mut lab = campus_online_with(|plan| {
            for side in &SIDES {
                plan.publish("wan", Protocol::UDP, (side.leg, 8053), (side.b, 53));
            }
        });
        let [sent, arrived] = side.inward(&lab, side.server, "b");
        lab.send_all("wan", &udp(&sent, (7000, 8053), &data(3000), 1400))
            .arrives_renumbered("b", &udp(&arrived, (7000, 53), &data(3000), 1400))
            .opens(1);
        let [sent, left] = side.outward(&lab, "b", side.server);
        lab.send_all("b", &udp(&sent, (53, 7000), &data(5000), 1400))
            .arrives_renumbered("wan", &udp(&left, (8053, 7000), &data(5000), 1400))
            .moves(1);
    }
}

#[test]
fn neighbours_send_each_other_fragments_by_the_outside_address() {
    for side in &SIDES {
        let mut lab = online(side);
        let sent = lab.to_gateway("b").ip(side.b, side.leg);
        let arrived = lab.from_gateway("a").ip(side.leg, side.a).hop_limit(63);
        lab.send_all("b", &udp(&sent, (5000, 4000), &data(3000), 1400))
            .arrives_renumbered("a", &udp(&arrived, (5000, 4000), &data(3000), 1400))
            .opens(1)
            .mappings(1);
    }
}

#[test]
fn long_pings_go_out_and_come_back() {
    for side in &SIDES {
        let mut lab = campus_online();
        let (request, reply) = side.echo();
        let word = 0x0777_0001;
        let [sent, left] = side.outward(&lab, "a", side.server);
        lab.send_all("a", &icmp(&sent, side.family, request, word, &data(8000)))
            .arrives_renumbered("wan", &icmp(&left, side.family, request, word, &data(8000)))
            .opens(1)
            .mappings(1);
        let [sent, arrived] = side.inward(&lab, side.server, "a");
        lab.send_all("wan", &icmp(&sent, side.family, reply, word, &data(8000)))
            .arrives_renumbered("a", &icmp(&arrived, side.family, reply, word, &data(8000)))
            .moves(1);
    }
}

#[test]
fn a_tcp_segment_in_fragments_is_tracked_by_all_of_its_data() {
    for side in &SIDES {
        let mut lab = campus_online();
        let mut connection = Connection::new(&lab, side, "a", [4000, 4000], (side.server, 80));
        connection.open(&mut lab);
        let [sent, left] = side.outward(&lab, "a", side.server);
        let header = TcpHeader {
            source_port: 4000,
            destination_port: 80,
            sequence: 1001,
            acknowledgement: 0xffff_fff1,
            flags: TcpFlags::PSH | TcpFlags::ACK,
            ..TcpHeader::default()
        };
        let cut = |packet: &Packet, header: &TcpHeader, len| {
            let segment = packet.tcp_segment(header, &data(len));
            fragments(packet, Protocol::TCP, &segment, ID, 1400)
        };
        lab.send_all("a", &cut(&sent, &header, 3000))
            .arrives_renumbered("wan", &cut(&left, &header, 3000))
            .moves(1);
        // What the server acknowledges is what came in all fragments; beyond that it has seen nothing.
        connection.skip_out(3001);
        let [beyond, _] = connection.segment_back(TcpFlags::ACK, b"");
        lab.send("wan", &beyond).drops("wan", Cause::OutOfWindow);
        connection.skip_out(1_u32.wrapping_neg());
        connection.back(&mut lab, TcpFlags::ACK, b"").moves(1);
    }
}

#[test]
fn what_is_refused_whole_is_counted_for_each_fragment_and_answered_once() {
    for side in &SIDES {
        let mut lab = campus_online();
        // A segment of no connection.
        let [sent, _] = side.outward(&lab, "a", side.server);
        let segment = sent.tcp_segment(&TcpHeader::default(), &data(3000));
        let frames = fragments(&sent, Protocol::TCP, &segment, ID, 1400);
        let reset = TcpHeader {
            source_port: 80,
            destination_port: 49_152,
            sequence: 1,
            acknowledgement: 0,
            flags: TcpFlags::RST,
            window: 0,
            ..TcpHeader::default()
        };
        let back = lab.from_gateway("a").ip(side.server, side.a).id(0);
        lab.send_all("a", &frames)
            .drops_many("a", Cause::NotSyn, 3)
            .arrives("a", &back.tcp(&reset, b""));
        // A datagram that nobody has asked for.
        let [sent, _] = side.inward(&lab, side.server, "a");
        lab.send_all("wan", &udp(&sent, (5300, 4000), &data(3000), 1400))
            .drops_many("wan", Cause::Unsolicited, 3);
        // A protocol without ports, in fragments that bear it.
        let [sent, _] = side.outward(&lab, "a", side.server);
        let frames = fragments(&sent, Protocol::SCTP, &data(3000), ID, 1400);
        let pointer = if side.family == Family::V4 { 0 } else { 40 };
        let told = side.told(
            &lab.from_gateway("a"),
            side.gateway,
            side.a,
            Told::ProtocolUnreachable(if side.family == Family::V4 {
                pointer
            } else {
                6
            }),
            &frames[0],
        );
        lab.send_all("a", &frames)
            .drops_many("a", Cause::ProtocolUntranslatable, 3)
            .arrives("a", &told);
        // A length that the datagram does not have once it is whole.
        let mut segment = sent.udp_segment(4000, 5300, &data(3000));
        segment[4..6].copy_from_slice(&9000_u16.to_be_bytes());
        let frames = fragments(&sent, Protocol::UDP, &segment, ID, 1400);
        lab.send_all("a", &frames)
            .drops_many("a", Malformed::UdpLength, 3);
    }
}

#[test]
fn a_routing_header_in_any_fragment_keeps_it_from_being_translated() {
    let side = &SIDES[1];
    let mut lab = campus();
    let [sent, _] = side.outward(&lab, "a", side.server);
    let segment = sent.udp_segment(4000, 5300, &data(1400 + 8));
    let first = sent
        .clone()
        .fragment(ID, 0, true)
        .frame(Protocol::UDP, &segment[..1400]);
    lab.send("a", &first).holds(1);
    let routing = [&[2, 4, 0, 0, 0, 0, 0][..], &[0; 16]].concat();
    let rest = sent
        .extension(Protocol::ROUTING, &routing)
        .fragment(ID, 1400, false)
        .frame(Protocol::UDP, &segment[1400..]);
    lab.send("a", &rest)
        .drops("a", Cause::ProtocolUntranslatable);
    lab.advance(TIMEOUT)
        .holds(-1)
        .drops("a", Cause::FragmentIncomplete);
}

#[test]
fn fragments_that_overlap_end_the_whole_datagram_and_what_is_yet_to_come() {
    for side in &SIDES {
        let mut lab = online(side);
        let [sent, _] = side.outward(&lab, "a", side.server);
        let frames = udp(&sent, (4000, 5300), &data(4000), 1400);
        // Another beginning of the ports: RFC 1858 and RFC 3128 in one.
        let evil = sent
            .clone()
            .fragment(ID, 8, true)
            .frame(Protocol::UDP, &[0xee; 1392]);
        lab.send("a", &frames[0]).holds(1);
        lab.send("a", &evil)
            .holds(-1)
            .drops_many("a", Cause::FragmentOverlap, 2);
        lab.send_all("a", &frames[1..])
            .drops_many("a", Cause::FragmentOverlap, 2);
        lab.send("a", &frames[0]).drops("a", Cause::FragmentOverlap);
        // The next datagram of the same number has to wait until nothing of this one can come.
        wait(&mut lab);
        let [_, left] = side.outward(&lab, "a", side.server);
        let left = udp(&left, (4000, 5300), &data(4000), 1400);
        lab.send_all("a", &frames)
            .arrives_renumbered("wan", &left)
            .moves(1);
    }
}

#[test]
fn a_fragment_that_comes_twice_is_dropped_alone() {
    for side in &SIDES {
        let mut lab = online(side);
        let [sent, left] = side.outward(&lab, "a", side.server);
        let frames = udp(&sent, (4000, 5300), &data(3000), 1400);
        let left = udp(&left, (4000, 5300), &data(3000), 1400);
        let twice = [&frames[0], &frames[0], &frames[1], &frames[1], &frames[2]];
        lab.send_all("a", &twice)
            .drops_many("a", Cause::FragmentDuplicate, 2)
            .arrives_renumbered("wan", &left)
            .moves(1);
        // The same place with other data is no repetition.
        let mut other = frames[0].clone();
        *other.last_mut().unwrap() ^= 1;
        lab.send("a", &frames[0]).holds(1);
        lab.send("a", &other)
            .holds(-1)
            .drops_many("a", Cause::FragmentOverlap, 2);
    }
}

#[test]
fn fragments_of_two_datagrams_and_two_hosts_do_not_mix() {
    for side in &SIDES {
        let mut lab = online(side);
        let [from_a, a_left] = side.outward(&lab, "a", side.server);
        let [from_b, b_left] = side.outward(&lab, "b", side.server);
        // The same number from both, towards the same server.
        let [a, b] = [&from_a, &from_b].map(|packet| udp(packet, (4000, 5300), &data(2000), 1400));
        lab.send("a", &a[0]).holds(1);
        lab.send("b", &b[1]).holds(1);
        lab.send("a", &a[1])
            .holds(-1)
            .arrives_renumbered("wan", &udp(&a_left, (4000, 5300), &data(2000), 1400))
            .moves(1);
        lab.send("b", &b[0])
            .holds(-1)
            .busy("wan")
            .opens(1)
            .mappings(1);
        let port = lab.outside_port(Protocol::UDP, side.b, 4000);
        assert_ne!(port, 4000);
        let mut left = udp(&b_left, (port, 5300), &data(2000), 1400);
        left.reverse();
        let sent = [b[1].clone(), b[0].clone()];
        lab.send_all("b", &sent)
            .arrives_renumbered("wan", &left)
            .moves(1);
    }
}

#[test]
fn each_datagram_that_is_or_may_be_cut_gets_a_number_of_its_own_outside() {
    let side = &SIDES[0];
    let mut lab = campus_online();
    let wan = lab.peer("wan").clone();
    let mut seen = HashSet::new();
    for round in 0..200_u16 {
        for host in ["a", "b", "c", "d", "e"] {
            let [sent, _] = side.outward(&lab, host, side.server);
            let packet = sent.id(round).may_fragment();
            let bytes = [
                &heddle_wire::VnetHeader::NONE.emit()[..],
                &packet.udp(4000, 5300, b"q"),
            ]
            .concat();
            lab.peer(host).send(&bytes).unwrap();
        }
        lab.pass(Duration::ZERO);
        while let Some(bytes) = wan.receive() {
            assert!(seen.insert(identification(&bytes[10..])));
        }
    }
    assert_eq!(seen.len(), 1000);
    // Nor are they the numbers that follow each other for somebody else.
    let mut firsts = BTreeSet::new();
    for last in 1..=20 {
        let server = format!("203.0.113.{last}");
        let frame = lab
            .to_gateway("a")
            .ip(side.a, &*server)
            .may_fragment()
            .udp(4000, 5300, b"q");
        let bytes = [&heddle_wire::VnetHeader::NONE.emit()[..], &frame].concat();
        lab.peer("a").send(&bytes).unwrap();
        lab.pass(Duration::ZERO);
        let bytes = wan.receive().unwrap();
        firsts.insert(identification(&bytes[10..]));
    }
    let spread = firsts.last().unwrap() - firsts.first().unwrap();
    assert!(firsts.len() == 20 && spread > 1000, "{firsts:?}");
}

#[test]
fn what_must_not_be_cut_keeps_its_number_and_its_flag() {
    let side = &SIDES[0];
    let mut lab = online(side);
    let [sent, left] = side.outward(&lab, "a", side.server);
    for id in [0, 7, 7, 0xffff] {
        let frame = sent.clone().id(id).udp(4000, 5300, b"q");
        lab.send("a", &frame)
            .arrives("wan", &left.clone().id(id).udp(4000, 5300, b"q"))
            .moves(1);
    }
    // In fragments that must not be cut further the flag stays as well; the number does not.
    let cut = |packet: &Packet| -> Vec<Vec<u8>> {
        let segment = packet.udp_segment(4000, 5300, &data(2000));
        [(0, true), (1400, false)]
            .into_iter()
            .map(|(offset, more)| {
                let end = (offset + 1400).min(segment.len());
                let packet = packet
                    .clone()
                    .fragment(ID, u16::try_from(offset).unwrap(), more);
                packet
                    .dont_fragment()
                    .frame(Protocol::UDP, &segment[offset..end])
            })
            .collect()
    };
    lab.send_all("a", &cut(&sent))
        .arrives_renumbered("wan", &cut(&left))
        .moves(1);
}

#[test]
fn a_super_frame_that_may_be_cut_takes_a_number_for_each_of_its_packets() {
    let side = &SIDES[0];
    let mut lab = campus_online();
    let wan = lab.peer("wan").clone();
    let [sent, _] = side.outward(&lab, "a", side.server);
    let mut ids = Vec::new();
    for len in [10, 10_000, 10, 10] {
        let mut frame = sent.clone().may_fragment().udp(4000, 5300, &data(len));
        let gso = (len > 1000).then_some((Gso::Udp, 1000));
        let header = offload(&mut frame, gso);
        let bytes = [&header.emit()[..], &frame].concat();
        lab.peer("a").send(&bytes).unwrap();
        lab.pass(Duration::ZERO);
        ids.push(identification(&wan.receive().unwrap()[10..]));
    }
    let steps: Vec<u32> = ids
        .windows(2)
        .map(|pair| pair[1].wrapping_sub(pair[0]) & 0xffff)
        .collect();
    assert_eq!(steps, [1, 10, 1]);
}

#[test]
fn what_comes_in_and_may_be_cut_gets_a_number_of_its_own_as_well() {
    let side = &SIDES[0];
    let mut lab = online(side);
    let [sent, arrived] = side.inward(&lab, side.server, "a");
    let [sent, arrived] = [sent, arrived].map(Packet::may_fragment);
    lab.send("wan", &sent.udp(5300, 4000, b"a"))
        .arrives_renumbered("a", &[arrived.udp(5300, 4000, b"a")])
        .moves(1);
    // An error about what went out, too.
    let [asked, left] = side.outward(&lab, "a", side.server);
    let (kind, code, word) = Told::PortUnreachable.message(side.family);
    let told = |packet: &Packet, about: &Packet| {
        packet.icmp_error(kind, code, word, &about.udp(4000, 5300, b"q"))
    };
    let expected = told(&arrived, &asked.hop_limit(63));
    lab.send("wan", &told(&sent, &left))
        .arrives_renumbered("a", &[expected]);
}

#[test]
fn an_error_in_fragments_is_translated_wherever_its_quote_is_cut() {
    for side in &SIDES {
        let mut lab = online(side);
        let [asked, left] = side.outward(&lab, "a", side.server);
        let (kind, code, word) = Told::PortUnreachable.message(side.family);
        let cut = |packet: &Packet, about: &Packet| {
            let quote = &about.udp(4000, 5300, &data(300))[14..];
            let message = packet.icmp_message(kind, code, word, quote);
            let protocol = match side.family {
                Family::V4 => Protocol::ICMP,
                Family::V6 => Protocol::ICMPV6,
            };
            fragments(packet, protocol, &message, ID, 16)
        };
        let [sent, arrived] = side.inward(&lab, side.server, "a");
        lab.send_all("wan", &cut(&sent, &left))
            .arrives_renumbered("a", &cut(&arrived, &asked.hop_limit(63)));
        // A broken one is not, in whatever fragment it is broken.
        let mut broken = cut(&sent, &left);
        *broken[9].last_mut().unwrap() ^= 1;
        let count = u64::try_from(broken.len()).unwrap();
        lab.send_all("wan", &broken)
            .drops_many("wan", Cause::MessageChecksum, count);
    }
}

#[test]
fn the_largest_segment_of_a_connection_is_lowered_in_fragments_too() {
    for side in &SIDES {
        let mut lab = narrow();
        let [sent, left] = side.outward(&lab, "a", side.server);
        let headers = match side.family {
            Family::V4 => 40,
            Family::V6 => 60,
        };
        let cut = |packet: &Packet, largest: u16| {
            let [high, low] = largest.to_be_bytes();
            let header = TcpHeader {
                source_port: 4000,
                flags: TcpFlags::SYN,
                acknowledgement: 0,
                options: vec![2, 4, high, low],
                ..TcpHeader::default()
            };
            let segment = packet.tcp_segment(&header, &data(40));
            fragments(packet, Protocol::TCP, &segment, ID, 24)
        };
        lab.send_all("a", &cut(&sent, 1460))
            .arrives_renumbered("wan", &cut(&left, 1280 - headers))
            .opens(1)
            .mappings(1);
    }
}

#[test]
fn an_atomic_fragment_needs_no_others() {
    let side = &SIDES[1];
    let mut lab = online(side);
    let [sent, left] = side.outward(&lab, "a", side.server);
    // Others of that number do not matter to it (RFC 6946 §4).
    let part = udp(&sent, (4000, 5300), &data(2000), 1400);
    lab.send("a", &part[0]).holds(1);
    let frame = sent.fragment(ID, 0, false).udp(4000, 5300, b"q");
    lab.send("a", &frame)
        .arrives("wan", &left.fragment(ID, 0, false).udp(4000, 5300, b"q"))
        .moves(1);
}

/// A host on a wide link, and a way out that is narrow.
fn narrow() -> Lab {
    let mut lab = Lab::new(|plan| {
        plan.network("blue")
            .subnet("10.1.0.0/24")
            .subnet("fd00:1::/64")
            .uplink("wan");
        plan.host("a", "blue")
            .address(SIDES[0].a)
            .address(SIDES[1].a);
        plan.leg("wan")
            .address("192.0.2.2/24")
            .address("2001:db8:2::2/64")
            .gateway(SIDES[0].next_hop)
            .gateway(SIDES[1].next_hop)
            .mtu(1280);
    });
    heddle_tests::lab::go_online(&mut lab, "a", "wan");
    lab
}

#[test]
fn fragments_too_long_for_the_way_out_are_cut_further_in_ipv4() {
    let side = &SIDES[0];
    let mut lab = narrow();
    let [sent, left] = side.outward(&lab, "a", side.server);
    let sent = udp(&sent, (4000, 5300), &data(4000), 1480);
    let segment = left.udp_segment(4000, 5300, &data(4000));
    let pieces = [
        (0, 1256),
        (1256, 224),
        (1480, 1256),
        (2736, 224),
        (2960, 1048),
    ];
    let expected: Vec<Vec<u8>> = pieces
        .into_iter()
        .map(|(offset, len)| {
            let at = usize::from(offset);
            let end = at + len;
            let packet = left.clone().fragment(ID, offset, end < segment.len());
            packet.frame(Protocol::UDP, &segment[at..end])
        })
        .collect();
    lab.send_all("a", &sent)
        .arrives_renumbered("wan", &expected)
        .opens(1)
        .mappings(1);
}

#[test]
fn fragments_that_must_not_be_cut_further_are_refused_with_the_mtu_and_quoted_as_they_were() {
    for side in &SIDES {
        let mut lab = narrow();
        let [sent, _] = side.outward(&lab, "a", side.server);
        let segment = sent.udp_segment(4000, 5300, &data(2000));
        let frames: Vec<Vec<u8>> = [(0, true), (1400, false)]
            .into_iter()
            .map(|(offset, more)| {
                let end = (offset + 1400).min(segment.len());
                let offset16 = u16::try_from(offset).unwrap();
                let packet = sent.clone().fragment(ID, offset16, more).dont_fragment();
                packet.frame(Protocol::UDP, &segment[offset..end])
            })
            .collect();
        let told = Told::TooBig(1280);
        let link = lab.from_gateway("a");
        let told = side.told(&link, side.gateway, side.a, told, &frames[0]);
        // The first one comes last, and is quoted all the same.
        let sent = [frames[1].clone(), frames[0].clone()];
        lab.send_all("a", &sent)
            .drops_many("a", Cause::PacketTooBig, 2)
            .arrives("a", &told);
    }
}

#[test]
fn a_fragment_on_its_last_hop_ends_its_datagram() {
    for side in &SIDES {
        let mut lab = online(side);
        let [sent, _] = side.outward(&lab, "a", side.server);
        let mut frames = udp(&sent, (4000, 5300), &data(2000), 1400);
        let tired = udp(&sent.hop_limit(1), (4000, 5300), &data(2000), 1400);
        let link = lab.from_gateway("a");
        let told = |frame| side.told(&link, side.gateway, side.a, Told::TimeExceeded, frame);
        let told = told(&tired[0]);
        lab.send("a", &tired[0])
            .drops("a", Cause::HopLimitExceeded)
            .arrives("a", &told);
        // From outside it may be for us, so it is seen only when all are there.
        let [sent, _] = side.inward(&lab, side.server, "a");
        frames.clear();
        frames.push(udp(&sent, (5300, 4000), &data(2000), 1400)[0].clone());
        frames.push(udp(&sent.clone().hop_limit(1), (5300, 4000), &data(2000), 1400)[1].clone());
        let link = Link::new(lab.mac("wan"), NEXT_HOP_MAC);
        let told = side.told(&link, side.leg, side.server, Told::TimeExceeded, &frames[0]);
        lab.send_all("wan", &frames)
            .drops_many("wan", Cause::HopLimitExceeded, 2)
            .arrives("wan", &told);
    }
}

#[test]
fn the_gateway_answers_long_pings_in_fragments_of_its_own() {
    for side in &SIDES {
        let mut lab = campus();
        let (request, reply) = side.echo();
        let word = 0x0777_0001;
        let sent = lab.to_gateway("a").ip(side.a, side.gateway).hop_limit(9);
        let sent = icmp(&sent, side.family, request, word, &data(8000));
        let answer = lab.from_gateway("a").ip(side.gateway, side.a);
        let message = answer.icmp_message(reply, 0, word, &data(8000));
        let (protocol, room) = match side.family {
            Family::V4 => (Protocol::ICMP, 1480),
            Family::V6 => (Protocol::ICMPV6, 1448),
        };
        let expected = fragments(&answer, protocol, &message, ID, room);
        lab.send_all("a", &sent).arrives_renumbered("a", &expected);
        // A damaged one is not answered.
        let mut broken = sent;
        *broken[3].last_mut().unwrap() ^= 1;
        let count = u64::try_from(broken.len()).unwrap();
        lab.send_all("a", &broken)
            .drops_many("a", Cause::MessageChecksum, count);
    }
}

#[test]
fn the_longest_ping_is_answered() {
    for side in &SIDES {
        let mut lab = campus();
        let (request, reply) = side.echo();
        let len = match side.family {
            Family::V4 => 65_535 - 20 - 8,
            Family::V6 => 65_535 - 8,
        };
        let sent = lab.to_gateway("a").ip(side.a, side.gateway);
        let sent = icmp(&sent, side.family, request, 7, &data(len));
        let answer = lab.from_gateway("a").ip(side.gateway, side.a);
        let message = answer.icmp_message(reply, 0, 7, &data(len));
        let (protocol, room) = match side.family {
            Family::V4 => (Protocol::ICMP, 1480),
            Family::V6 => (Protocol::ICMPV6, 1448),
        };
        let expected = fragments(&answer, protocol, &message, ID, room);
        lab.send_all("a", &sent).arrives_renumbered("a", &expected);
    }
}

#[test]
fn the_leg_answers_long_pings_too() {
    for side in &SIDES {
        let mut lab = campus();
        let (request, reply) = side.echo();
        let sent = lab.to_wan().ip(side.next_hop, side.leg);
        let sent = icmp(&sent, side.family, request, 7, &data(3000));
        let answer = Link::new(lab.mac("wan"), NEXT_HOP_MAC).ip(side.leg, side.next_hop);
        let message = answer.icmp_message(reply, 0, 7, &data(3000));
        let (protocol, room) = match side.family {
            Family::V4 => (Protocol::ICMP, 1480),
            Family::V6 => (Protocol::ICMPV6, 1448),
        };
        let expected = fragments(&answer, protocol, &message, ID, room);
        lab.send_all("wan", &sent)
            .arrives_renumbered("wan", &expected);
    }
}

#[test]
fn what_else_the_gateway_gets_in_fragments_is_refused_once() {
    for side in &SIDES {
        let mut lab = campus();
        let sent = lab.to_gateway("a").ip(side.a, side.gateway);
        let frames = udp(&sent, (1, 2), &data(3000), 1400);
        let link = lab.from_gateway("a");
        let told = side.told(
            &link,
            side.gateway,
            side.a,
            Told::PortUnreachable,
            &frames[0],
        );
        lab.send_all("a", &frames)
            .drops_many("a", Cause::GatewayRefused, 3)
            .arrives("a", &told);
    }
}

#[test]
fn discovery_in_fragments_is_never_put_together() {
    let side = &SIDES[1];
    let mut lab = Lab::new(|plan| {
        plan.network("n").subnet("fd00:1::/64");
        plan.host("a", "n").address(side.a).insecure();
    });
    // RFC 6980: also from those who may say what they like.
    let gateway: heddle_wire::Address = side.gateway.parse().unwrap();
    let mut body = gateway.bits().to_be_bytes().to_vec();
    body.extend([1, 1]);
    body.extend(lab.mac("a").0);
    body.extend([14, 1, 0, 0, 0, 0, 0, 0]);
    let packet = lab.to_gateway("a").ip(side.a, side.gateway).hop_limit(255);
    let message = packet.icmp_message(135, 0, 0, &body);
    let frames = fragments(&packet, Protocol::ICMPV6, &message, ID, 24);
    lab.send("a", &frames[0])
        .drops("a", Cause::GatewayIgnored)
        .learns("n", lab_mac(), "a");
    lab.send_all("a", &frames[1..]).holds(1);
    lab.advance(TIMEOUT)
        .holds(-1)
        .drops("a", Cause::FragmentIncomplete);
}

/// The MAC address of the first host of a lab.
fn lab_mac() -> heddle_wire::MacAddr {
    heddle_wire::MacAddr::new([0x02, 0xaa, 0, 0, 0, 0])
}

#[test]
fn an_incomplete_datagram_is_given_up_and_whoever_spoke_to_us_is_told() {
    for side in &SIDES {
        let mut lab = campus();
        // On the way out we are not whom it was for.
        let [sent, _] = side.outward(&lab, "a", side.server);
        let frames = udp(&sent, (4000, 5300), &data(3000), 1400);
        lab.send_all("a", &frames[..2]).holds(2);
        lab.advance(TIMEOUT - Duration::from_millis(1));
        lab.advance(Duration::from_millis(1)).holds(-2).drops_many(
            "a",
            Cause::FragmentIncomplete,
            2,
        );
        // To the gateway, with and without the first.
        let sent = lab.to_gateway("a").ip(side.a, side.gateway);
        let frames = udp(&sent, (1, 2), &data(3000), 1400);
        let told = Told::ReassemblyTimeExceeded;
        let told = side.told(
            &lab.from_gateway("a"),
            side.gateway,
            side.a,
            told,
            &frames[0],
        );
        lab.send("a", &frames[1]).holds(1);
        lab.advance(TIMEOUT)
            .holds(-1)
            .drops("a", Cause::FragmentIncomplete);
        lab.send_all("a", &[&frames[2], &frames[0]]).holds(2);
        lab.advance(TIMEOUT)
            .holds(-2)
            .drops_many("a", Cause::FragmentIncomplete, 2)
            .arrives("a", &told);
    }
}

#[test]
fn whoever_spoke_to_the_leg_is_told_as_well() {
    for side in &SIDES {
        let mut lab = campus();
        let sent = lab.to_wan().ip(side.next_hop, side.leg);
        let frames = udp(&sent, (1, 2), &data(3000), 1400);
        let link = Link::new(lab.mac("wan"), NEXT_HOP_MAC);
        let told = Told::ReassemblyTimeExceeded;
        let told = side.told(&link, side.leg, side.next_hop, told, &frames[0]);
        lab.send("wan", &frames[0]).holds(1);
        lab.advance(TIMEOUT)
            .holds(-1)
            .drops("wan", Cause::FragmentIncomplete)
            .arrives("wan", &told);
    }
}

/// Thousands of datagrams of which only one fragment ever comes, and a neighbour who goes on as if
/// nothing were (CVE-2018-5391, RFC 4787 §11 REQ-14 a).
#[test]
fn five_thousand_incomplete_trains_harm_nobody_else_and_are_over_by_themselves() {
    for side in &SIDES {
        let mut lab = online(side);
        let [out, _] = side.outward(&lab, "b", side.server);
        let segment = out.udp_segment(1, 2, &data(1400));
        let trains: Vec<Vec<u8>> = (0..5000)
            .map(|id| {
                let packet = out.clone().fragment(id, 1400, true);
                packet.frame(Protocol::UDP, &segment[..1400])
            })
            .collect();
        let [sent, left] = side.outward(&lab, "a", side.server);
        let [sent, left] = [sent, left].map(|packet| udp(&packet, (4000, 5300), &data(3000), 1400));
        // The neighbour is in the middle of a datagram.
        lab.send_all("a", &sent[..2]).holds(2);
        for (round, burst) in trains.chunks(1000).enumerate() {
            let kept = if round == 0 { 64 } else { 0 };
            let evicted = 1000 - u64::try_from(kept).unwrap();
            lab.send_all("b", burst)
                .holds(kept)
                .drops_many("b", Cause::FragmentQuota, evicted);
        }
        assert!(lab.switch().held_frames() == 66);
        lab.send("a", &sent[2])
            .holds(-2)
            .arrives_renumbered("wan", &left)
            .moves(1);
        // A whole one of the offender's own still passes.
        let [whole, passed] = side.outward(&lab, "b", side.server);
        lab.send_all("b", &udp(&whole, (5000, 5300), &data(2000), 1400))
            .drops("b", Cause::FragmentQuota)
            .holds(-1)
            .arrives_renumbered("wan", &udp(&passed, (5000, 5300), &data(2000), 1400))
            .opens(1)
            .mappings(1);
        wait(&mut lab)
            .holds(-63)
            .drops_many("b", Cause::FragmentIncomplete, 63);
        assert_eq!(lab.switch().held_frames(), 0);
    }
}

#[test]
fn fragments_of_a_port_that_is_removed_are_forgotten() {
    for side in &SIDES {
        let mut lab = online(side);
        let [sent, _] = side.outward(&lab, "b", side.server);
        let frames = udp(&sent, (4000, 5300), &data(3000), 1400);
        lab.send_all("b", &frames[..2]).holds(2);
        let mac = lab.mac("b");
        lab.reconfigure(|plan| plan.remove("b"))
            .holds(-2)
            .forgets("blue", mac);
        wait(&mut lab);
    }
}

#[test]
fn a_datagram_in_fragments_waits_for_its_next_hop_like_any_other() {
    for side in &SIDES {
        let mut lab = campus();
        let [sent, left] = side.outward(&lab, "a", side.server);
        let sent = udp(&sent, (4000, 5300), &data(3000), 1400);
        let left = udp(&left, (4000, 5300), &data(3000), 1400);
        let question = side.question(lab.mac("wan"), side.leg, side.next_hop);
        lab.send_all("a", &sent)
            .holds(3)
            .arrives("wan", &question)
            .neighbour("wan", side.next_hop, None, NeighbourState::Incomplete);
        let answer = side.answer(NEXT_HOP_MAC, lab.mac("wan"), side.next_hop, side.leg);
        lab.send("wan", &answer)
            .holds(-3)
            .neighbour(
                "wan",
                side.next_hop,
                Some(NEXT_HOP_MAC),
                NeighbourState::Reachable,
            )
            .arrives_renumbered("wan", &left)
            .opens(1)
            .mappings(1);
    }
}

#[test]
fn a_datagram_in_fragments_whose_next_hop_does_not_answer_is_counted_and_answered_once() {
    for side in &SIDES {
        let mut lab = campus();
        let [sent, _] = side.outward(&lab, "a", side.server);
        let sent = udp(&sent, (4000, 5300), &data(3000), 1400);
        // In another order: the one that is quoted is the first all the same.
        let sent = [sent[1].clone(), sent[0].clone(), sent[2].clone()];
        lab.send_all("a", &sent).holds(3).busy("wan").neighbour(
            "wan",
            side.next_hop,
            None,
            NeighbourState::Incomplete,
        );
        let link = lab.from_gateway("a");
        let told = side.told(&link, side.gateway, side.a, Told::HostUnreachable, &sent[1]);
        lab.advance(Duration::from_secs(4))
            .busy("wan")
            .holds(-3)
            .forgets_neighbour("wan", side.next_hop)
            .drops_many("a", Cause::NeighbourUnreachable, 3)
            .arrives("a", &told);
    }
}

#[test]
fn two_workers_put_the_fragments_of_one_datagram_together() {
    for side in &SIDES {
        let mut lab = campus_online_with(|plan| plan.workers(2));
        let [sent, left] = side.outward(&lab, "a", side.server);
        let sent = udp(&sent, (4000, 5300), &data(5000), 1400);
        let left = udp(&left, (4000, 5300), &data(5000), 1400);
        for (number, frame) in sent[..3].iter().enumerate() {
            lab.work_with(number % 2);
            lab.send("a", frame).holds(1);
        }
        lab.work_with(1);
        lab.send("a", &sent[3])
            .holds(-3)
            .arrives_renumbered("wan", &left)
            .opens(1)
            .mappings(1);
    }
}

#[test]
fn a_port_that_takes_only_some_of_the_fragments_loses_the_others_one_by_one() {
    for side in &SIDES {
        let mut lab = campus_online_with(|plan| {
            plan.leg("wan")
                .address("192.0.2.2/24")
                .address("2001:db8:2::2/64")
                .gateway(SIDES[0].next_hop)
                .gateway(SIDES[1].next_hop)
                .queue(2);
        });
        let [sent, left] = side.outward(&lab, "a", side.server);
        let left = udp(&left, (4000, 5300), &data(5000), 1400);
        let sent = udp(&sent, (4000, 5300), &data(5000), 1400);
        let step: Step<'_> = lab.send_all("a", &sent);
        step.arrives_renumbered("wan", &left[..2])
            .drops_many("a", Cause::TransmitQueueFull, 2)
            .opens(1)
            .mappings(1);
        // One that is lost altogether was not sent, and opens nothing.
        lab.peer("wan").refuse(true);
        let [sent, _] = side.outward(&lab, "b", side.server);
        lab.send_all("b", &udp(&sent, (4000, 5300), &data(5000), 1400))
            .drops_many("b", Cause::TransmitFailed, 4);
    }
}

#[test]
fn members_of_one_network_send_each_other_fragments_as_they_like() {
    for side in &SIDES {
        let mut lab = campus();
        let packet = lab.link("a", "b").ip(side.a, side.b);
        let frames = udp(&packet, (1, 2), &data(3000), 1400);
        // Half a datagram, an overlap, a thousand of them: none of the bridge's business.
        let evil = packet
            .fragment(ID, 8, false)
            .frame(Protocol::UDP, &[0xee; 100]);
        lab.send("a", &frames[1]).arrives("b", &frames[1]);
        lab.send("a", &evil).arrives("b", &evil);
        lab.send("a", &frames[0]).arrives("b", &frames[0]);
    }
}

#[test]
fn a_fragment_of_a_fragment_is_refused() {
    let side = &SIDES[1];
    let mut lab = campus_online();
    // A fragment header that says more follows, a UDP header, some data.
    let inner = [
        &[17, 0, 0, 1, 0, 0, 0, 9][..],
        &[0x0f, 0xa0, 0, 53, 0, 16, 0, 0],
        &[0xa5; 8],
    ]
    .concat();
    let packet = lab.to_gateway("a").ip(side.a, side.server);
    let first = packet
        .fragment(7, 0, true)
        .frame(Protocol::FRAGMENT, &inner[..16]);
    lab.send("a", &first).drops("a", Malformed::ExtensionOrder);
}
