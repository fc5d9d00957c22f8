//! UDP through the translation: mappings, filtering, timers, refusals (RFC 4787).

#![expect(clippy::unwrap_used, reason = "a panic is how a case fails")]

use std::time::Duration;

use heddle_nat::{DNS_TIMEOUT, Filtering, UDP_TIMEOUT, Zone};
use heddle_switch::{Cause, NeighbourState};
use heddle_tests::lab::{
    Lab, NEXT_HOP_MAC, SIDES, Side, Told, campus, campus_online, campus_online_with, go_online,
};
use heddle_wire::builder::offload;
use heddle_wire::{EtherType, Family, Gso, Protocol, VnetHeader};

const SECOND: Duration = Duration::from_secs(1);

/// Ports that mappings hold at the leg's address.
fn ports_in_use(lab: &Lab, side: &Side) -> u32 {
    let leg = side.leg.parse().unwrap();
    lab.switch().nat().ports_in_use(Zone(1), leg, Protocol::UDP)
}

/// A host asks and a server answers: a session in use, through a new mapping of the same port.
fn exchange(lab: &mut Lab, side: &Side, host: &'static str, port: u16, server: (&str, u16)) {
    let [sent, left] = side.outward(lab, host, server.0);
    lab.send(host, &sent.udp(port, server.1, b"question"))
        .arrives("wan", &left.udp(port, server.1, b"question"))
        .opens(1)
        .mappings(1);
    let [sent, arrived] = side.inward(lab, server.0, host);
    lab.send("wan", &sent.udp(server.1, port, b"answer"))
        .arrives(host, &arrived.udp(server.1, port, b"answer"))
        .moves(1);
}

/// So much time passes that nobody remembers the next hop.
fn pass(lab: &mut Lab, span: Duration) -> heddle_tests::lab::Step<'_> {
    assert!(span > Duration::from_secs(91), "the next hop is forgotten");
    SIDES.iter().fold(lab.advance(span), |step, side| {
        step.forgets_neighbour("wan", side.next_hop)
    })
}

#[test]
fn a_question_leaves_from_the_legs_address_and_the_answer_comes_back() {
    for side in &SIDES {
        let mut lab = campus_online();
        exchange(&mut lab, side, "a", 4000, (side.server, 53));
        assert_eq!(ports_in_use(&lab, side), 1);
    }
}

#[test]
fn traffic_class_identification_and_payload_are_left_as_they_are() {
    for side in &SIDES {
        let mut lab = campus_online();
        let [sent, left] = side.outward(&lab, "a", side.server);
        let marked = |packet: &heddle_wire::builder::Packet| {
            let packet = packet.clone().traffic_class(0xb9).id(0x7777);
            packet.dont_fragment().udp(4000, 53, &[0xa5; 1400])
        };
        lab.send("a", &marked(&sent))
            .arrives("wan", &marked(&left))
            .opens(1)
            .mappings(1);
    }
}

#[test]
fn one_inside_port_is_one_outside_port_whoever_it_speaks_to() {
    for side in &SIDES {
        let mut lab = campus_online();
        for (number, (to, port)) in [
            (side.server, 53),
            (side.server, 54),
            (side.other_server, 53),
        ]
        .into_iter()
        .enumerate()
        {
            let [sent, left] = side.outward(&lab, "a", to);
            lab.send("a", &sent.udp(4000, port, b""))
                .arrives("wan", &left.udp(4000, port, b""))
                .opens(1)
                .mappings(i64::from(number == 0));
        }
    }
}

#[test]
fn a_port_that_is_taken_is_replaced_by_another_of_its_kind() {
    for side in &SIDES {
        for port in [500, 4000] {
            let mut lab = campus_online();
            exchange(&mut lab, side, "a", port, (side.server, 53));
            let [sent, _] = side.outward(&lab, "d", side.server);
            lab.send("d", &sent.udp(port, 53, b""))
                .busy("wan")
                .opens(1)
                .mappings(1);
            let other = lab.outside_port(Protocol::UDP, side.d, port);
            assert_ne!(other, port);
            // System ports stay system ports (RFC 4787 §4.2.1 REQ-3a).
            assert_eq!(other < 1024, port < 1024, "{other}");
            let [sent, arrived] = side.inward(&lab, side.server, "d");
            lab.send("wan", &sent.udp(53, other, b"to d"))
                .arrives("d", &arrived.udp(53, port, b"to d"))
                .moves(1);
        }
    }
}

#[test]
fn who_is_let_in_is_a_matter_of_filtering() {
    use Filtering::{Address, AddressPort, Endpoint};
    for side in &SIDES {
        for filtering in [Endpoint, Address, AddressPort] {
            let mut lab = campus_online_with(|plan| {
                plan.leg("wan")
                    .address("192.0.2.2/24")
                    .address("2001:db8:2::2/64")
                    .gateway(SIDES[0].next_hop)
                    .gateway(SIDES[1].next_hop)
                    .filtering(filtering);
            });
            exchange(&mut lab, side, "a", 4000, (side.server, 53));
            let cases = [
                (side.server, 54, filtering != AddressPort),
                (side.other_server, 53, filtering == Endpoint),
                (side.other_server, 54, filtering == Endpoint),
            ];
            for (from, port, let_in) in cases {
                let [sent, arrived] = side.inward(&lab, from, "a");
                let frame = sent.udp(port, 4000, b"hello");
                if let_in {
                    lab.send("wan", &frame)
                        .arrives("a", &arrived.udp(port, 4000, b"hello"))
                        .opens(1);
                } else {
                    lab.send("wan", &frame).drops("wan", Cause::Filtered);
                }
            }
        }
    }
}

#[test]
fn what_nobody_asked_for_is_dropped_without_an_answer() {
    for side in &SIDES {
        let mut lab = campus_online();
        let [sent, _] = side.inward(&lab, side.server, "a");
        for port in [1, 9, 53, 4000, 65_535] {
            lab.send("wan", &sent.udp(53, port, b""))
                .drops("wan", Cause::Unsolicited);
        }
    }
}

#[test]
fn the_same_port_of_another_protocol_is_another_port() {
    for side in &SIDES {
        let mut lab = campus_online();
        exchange(&mut lab, side, "a", 4000, (side.server, 53));
        let [sent, _] = side.inward(&lab, side.server, "a");
        let header = heddle_wire::builder::TcpHeader {
            source_port: 53,
            destination_port: 4000,
            flags: heddle_wire::TcpFlags::SYN,
            ..Default::default()
        };
        lab.send("wan", &sent.tcp(&header, b""))
            .drops("wan", Cause::Unsolicited);
    }
}

#[test]
fn an_answer_at_the_wrong_place_is_not_one() {
    for side in &SIDES {
        let mut lab = campus_online();
        exchange(&mut lab, side, "a", 4000, (side.server, 53));
        // From inside, with the tuple of the answer: the source is not the sender's own.
        let forged = lab
            .to_gateway("b")
            .ip(side.server, side.leg)
            .udp(53, 4000, b"");
        lab.send("b", &forged).drops("b", Cause::AddressSpoofed);
        // From outside, at an inside address.
        let forged = lab.to_wan().ip(side.server, side.a).udp(53, 4000, b"");
        lab.send("wan", &forged)
            .drops("wan", Cause::InsideFromOutside);
    }
}

#[test]
fn a_flow_belongs_to_the_port_that_began_it() {
    for side in &SIDES {
        // Nobody was given the address, so without port security both may use it.
        let mut lab = Lab::new(|plan| {
            let network = plan.network("open");
            network.subnet("10.1.0.0/24").subnet("fd00:1::/64");
            network.uplink("wan");
            for (name, like) in [("x", "a"), ("y", "b")] {
                let host = plan.host(name, "open").insecure();
                host.address(SIDES[0].host(like));
                host.address(SIDES[1].host(like));
            }
            plan.leg("wan")
                .address("192.0.2.2/24")
                .address("2001:db8:2::2/64")
                .gateway(SIDES[0].next_hop)
                .gateway(SIDES[1].next_hop);
        });
        for (host, other) in [("x", "y"), ("y", "x")] {
            let (mac, hello) = (lab.mac(host), lab.to_all(host));
            let hello = hello.frame(EtherType(0x88b5), b"");
            lab.send(host, &hello)
                .arrives(other, &hello)
                .learns("open", mac, host);
        }
        go_online(&mut lab, "x", "wan");
        let sent = |lab: &Lab, host| {
            let packet = lab.to_gateway(host).ip(side.nobody, side.server);
            packet.udp(4000, 53, b"q")
        };
        let left = lab.from_wan().ip(side.leg, side.server).hop_limit(63);
        let frame = sent(&lab, "x");
        lab.send("x", &frame)
            .arrives("wan", &left.udp(4000, 53, b"q"))
            .opens(1)
            .mappings(1);
        let frame = sent(&lab, "y");
        lab.send("y", &frame).drops("y", Cause::Unsolicited);
    }
}

#[test]
fn a_silent_flow_ends_after_five_minutes_and_gives_its_port_back() {
    for side in &SIDES {
        let mut lab = campus_online();
        exchange(&mut lab, side, "a", 4000, (side.server, 5000));
        pass(&mut lab, UDP_TIMEOUT - SECOND);
        assert_eq!(ports_in_use(&lab, side), 1);
        lab.advance(SECOND * 2).ends(1).mappings(-1);
        assert_eq!(ports_in_use(&lab, side), 0);
        let [sent, _] = side.inward(&lab, side.server, "a");
        lab.send("wan", &sent.udp(5000, 4000, b"late"))
            .drops("wan", Cause::Unsolicited);
    }
}

#[test]
fn a_question_to_a_name_server_is_forgotten_after_half_a_minute() {
    for side in &SIDES {
        let mut lab = campus_online();
        exchange(&mut lab, side, "a", 4000, (side.server, 53));
        lab.advance(DNS_TIMEOUT - SECOND);
        let step = lab.advance(SECOND * 2).ends(1).mappings(-1);
        drop(SIDES.iter().fold(step, |step, side| {
            let known = Some(NEXT_HOP_MAC);
            step.neighbour("wan", side.next_hop, known, NeighbourState::Stale)
        }));
    }
}

#[test]
fn only_the_inside_keeps_a_flow_alive() {
    for side in &SIDES {
        let mut lab = campus_online();
        exchange(&mut lab, side, "a", 4000, (side.server, 5000));
        pass(&mut lab, Duration::from_secs(200));
        // The outside knocks: it is let in, but the flow ends all the same (RFC 4787 §4.3 REQ-6).
        let [sent, arrived] = side.inward(&lab, side.server, "a");
        lab.send("wan", &sent.udp(5000, 4000, b"knock"))
            .arrives("a", &arrived.udp(5000, 4000, b"knock"))
            .moves(1);
        lab.advance(Duration::from_secs(101)).ends(1).mappings(-1);
    }
}

#[test]
fn the_inside_keeps_a_flow_alive() {
    for side in &SIDES {
        let mut lab = campus_online();
        exchange(&mut lab, side, "a", 4000, (side.server, 5000));
        pass(&mut lab, Duration::from_secs(200));
        let [sent, left] = side.outward(&lab, "a", side.server);
        let question = side.question(lab.mac("wan"), side.leg, side.next_hop);
        lab.send("a", &sent.udp(4000, 5000, b"still here"))
            .holds(1)
            .neighbour("wan", side.next_hop, None, NeighbourState::Incomplete)
            .arrives("wan", &question);
        let answer = side.answer(NEXT_HOP_MAC, lab.mac("wan"), side.next_hop, side.leg);
        let known = Some(NEXT_HOP_MAC);
        lab.send("wan", &answer)
            .holds(-1)
            .neighbour("wan", side.next_hop, known, NeighbourState::Reachable)
            .arrives("wan", &left.udp(4000, 5000, b"still here"))
            .moves(1);
        lab.advance(UDP_TIMEOUT - SECOND)
            .forgets_neighbour("wan", side.next_hop);
        lab.advance(SECOND * 2).ends(1).mappings(-1);
    }
}

#[test]
fn a_first_packet_that_ends_before_it_leaves_leaves_nothing_behind() {
    for side in &SIDES {
        // Nobody knows the next hop, and nobody answers.
        let mut lab = campus();
        let [sent, _] = side.outward(&lab, "a", side.server);
        let question = side.question(lab.mac("wan"), side.leg, side.next_hop);
        let frame = sent.udp(4000, 53, b"");
        lab.send("a", &frame)
            .holds(1)
            .neighbour("wan", side.next_hop, None, NeighbourState::Incomplete)
            .arrives("wan", &question);
        let told = side.told(
            &lab.from_gateway("a"),
            side.gateway,
            side.a,
            Told::HostUnreachable,
            &frame,
        );
        lab.advance(Duration::from_secs(4))
            .holds(-1)
            .forgets_neighbour("wan", side.next_hop)
            .arrives("wan", &question)
            .arrives("wan", &question)
            .arrives("a", &told)
            .drops("a", Cause::NeighbourUnreachable);
        // Its hops are used up, or its port is none.
        let mut lab = campus_online();
        let frame = sent.clone().hop_limit(1).udp(4000, 53, b"");
        let told = side.told(
            &lab.from_gateway("a"),
            side.gateway,
            side.a,
            Told::TimeExceeded,
            &frame,
        );
        lab.send("a", &frame)
            .arrives("a", &told)
            .drops("a", Cause::HopLimitExceeded);
        for (from, to) in [(0, 53), (4000, 0)] {
            lab.send("a", &sent.udp(from, to, b""))
                .drops("a", Cause::PortZero);
        }
        // The leg takes no more.
        let mut lab = narrow(1500, 1);
        let [sent, left] = side.outward(&lab, "a", side.server);
        lab.send_all("a", &[sent.udp(4000, 53, b""), sent.udp(4001, 53, b"")])
            .arrives("wan", &left.udp(4000, 53, b""))
            .opens(1)
            .mappings(1)
            .drops("a", Cause::TransmitQueueFull);
        assert_eq!(ports_in_use(&lab, side), 1);
    }
}

/// A campus whose leg has this MTU and whose link holds so many frames; `a` has an MTU of 9000.
fn narrow(mtu: u16, queue: usize) -> Lab {
    campus_online_with(|plan| {
        plan.leg("wan")
            .address("192.0.2.2/24")
            .address("2001:db8:2::2/64")
            .gateway(SIDES[0].next_hop)
            .gateway(SIDES[1].next_hop)
            .mtu(mtu)
            .queue(queue);
        plan.host("a", "blue")
            .address(SIDES[0].a)
            .address(SIDES[1].a)
            .mtu(9000);
    })
}

#[test]
fn what_is_too_big_for_the_way_out_is_refused_with_the_mtu() {
    for side in &SIDES {
        let mut lab = narrow(1400, 100);
        let [sent, left] = side.outward(&lab, "a", side.server);
        let headers = match side.family {
            Family::V4 => 28,
            Family::V6 => 48,
        };
        let fits = vec![7; 1400 - headers];
        let [sent, left] = [sent, left].map(heddle_wire::builder::Packet::dont_fragment);
        lab.send("a", &sent.udp(4000, 53, &fits))
            .arrives("wan", &left.udp(4000, 53, &fits))
            .opens(1)
            .mappings(1);
        let frame = sent.udp(4000, 53, &vec![7; 1401 - headers]);
        let told = side.told(
            &lab.from_gateway("a"),
            side.gateway,
            side.a,
            Told::TooBig(1400),
            &frame,
        );
        lab.send("a", &frame)
            .arrives("a", &told)
            .drops("a", Cause::PacketTooBig);
    }
}

#[test]
fn what_may_be_cut_is_translated_and_cut() {
    let (side, mut lab) = (&SIDES[0], narrow(1400, 100));
    let [sent, left] = side.outward(&lab, "a", side.server);
    let data = vec![3; 3000];
    let segment = left.udp_segment(4000, 53, &data);
    let pieces: Vec<_> = segment
        .chunks(1376)
        .enumerate()
        .map(|(index, piece)| {
            let offset = u16::try_from(index * 1376).unwrap();
            let more = usize::from(offset) + piece.len() < segment.len();
            left.clone()
                .fragment(0x1234, offset, more)
                .frame(Protocol::UDP, piece)
        })
        .collect();
    lab.send("a", &sent.may_fragment().udp(4000, 53, &data))
        .opens(1)
        .mappings(1)
        .arrives_renumbered("wan", &pieces);
}

#[test]
fn super_frames_and_partial_checksums_pass_the_translation_as_they_came() {
    for side in &SIDES {
        let mut lab = campus_online();
        let [sent, left] = side.outward(&lab, "a", side.server);
        for (number, (len, gso)) in [(100, None), (30_000, Some((Gso::Udp, 1200)))]
            .into_iter()
            .enumerate()
        {
            let mut frame = sent.udp(4000, 53, &vec![9; len]);
            let vnet = offload(&mut frame, gso);
            let mut there = left.udp(4000, 53, &vec![9; len]);
            assert_eq!(offload(&mut there, gso), vnet);
            let step = lab
                .send_with("a", &vnet, &frame)
                .arrives_with("wan", &vnet, &there);
            if number == 0 {
                step.opens(1).mappings(1);
            } else {
                step.moves(1);
            }
        }
        let [sent, arrived] = side.inward(&lab, side.server, "a");
        let mut frame = sent.udp(53, 4000, &[8; 20_000]);
        let vnet = offload(&mut frame, Some((Gso::Udp, 1000)));
        let mut there = arrived.udp(53, 4000, &[8; 20_000]);
        assert_eq!(offload(&mut there, Some((Gso::Udp, 1000))), vnet);
        lab.send_with("wan", &vnet, &frame)
            .arrives_with("a", &vnet, &there)
            .moves(1);
    }
}

#[test]
fn a_corrupt_checksum_stays_corrupt_and_none_stays_none() {
    for side in &SIDES {
        let mut lab = campus_online();
        let [sent, left] = side.outward(&lab, "a", side.server);
        let broken = |packet: &heddle_wire::builder::Packet| {
            let mut frame = packet.udp(4000, 53, b"payload");
            *frame.last_mut().unwrap() ^= 0x40;
            frame
        };
        lab.send("a", &broken(&sent))
            .arrives("wan", &broken(&left))
            .opens(1)
            .mappings(1);
        if side.family == Family::V4 {
            let none = |packet: &heddle_wire::builder::Packet| {
                let mut segment = packet.udp_segment(4000, 53, b"payload");
                segment[6..8].fill(0);
                packet.frame(Protocol::UDP, &segment)
            };
            lab.send("a", &none(&sent))
                .arrives("wan", &none(&left))
                .moves(1);
        }
        let valid = VnetHeader {
            flags: 2,
            ..VnetHeader::NONE
        };
        lab.send_with("a", &valid, &broken(&sent))
            .arrives_with("wan", &valid, &broken(&left))
            .moves(1);
    }
}

#[test]
fn a_leg_without_an_address_of_the_family_leads_nowhere() {
    for (side, other) in [(&SIDES[0], "2001:db8:2::2/64"), (&SIDES[1], "192.0.2.2/24")] {
        let mut lab = Lab::new(|plan| {
            plan.network("blue")
                .subnet("10.1.0.0/24")
                .subnet("fd00:1::/64")
                .uplink("wan");
            plan.host("a", "blue")
                .address(SIDES[0].a)
                .address(SIDES[1].a);
            plan.leg("wan").address(other);
        });
        let frame = lab
            .to_gateway("a")
            .ip(side.a, side.server)
            .udp(4000, 53, b"");
        let told = side.told(
            &lab.from_gateway("a"),
            side.gateway,
            side.a,
            Told::NetworkUnreachable,
            &frame,
        );
        lab.send("a", &frame)
            .arrives("a", &told)
            .drops("a", Cause::NoOutsideAddress);
    }
}

#[test]
fn nothing_leaves_to_the_broadcast_address_of_the_legs_link() {
    let (side, mut lab) = (&SIDES[0], campus_online());
    let frame = lab.to_gateway("a").ip(side.a, "192.0.2.255");
    lab.send("a", &frame.udp(4000, 53, b""))
        .drops("a", Cause::BroadcastNotRouted);
}
