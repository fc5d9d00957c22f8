//! ICMP through the translation: queries, errors and the packets they quote (RFC 5508), and what cannot
//! be translated.

#![expect(clippy::unwrap_used, reason = "a panic is how a case fails")]

use std::time::Duration;

use heddle_nat::{ICMP_TIMEOUT, Zone};
use heddle_switch::{Cause, NeighbourState};
use heddle_tests::lab::{
    Connection, Lab, NEXT_HOP_MAC, SIDES, Side, Told, campus, campus_online, campus_online_with,
};
use heddle_wire::builder::offload;
use heddle_wire::{Family, IpOptions, Malformed, Protocol, Summary, TcpFlags};

const SECOND: Duration = Duration::from_secs(1);

/// Every error that says what became of a packet.
const ERRORS: [Told; 7] = [
    Told::TimeExceeded,
    Told::NetworkUnreachable,
    Told::HostUnreachable,
    Told::Prohibited,
    Told::PortUnreachable,
    Told::ProtocolUnreachable(6),
    Told::TooBig(1280),
];

/// The word of an echo: identifier and sequence number.
fn word(id: u16, sequence: u16) -> u32 {
    u32::from(id) << 16 | u32::from(sequence)
}

/// An echo of `a` and its answer: a session in use, through a new mapping of the same identifier.
fn echo(lab: &mut Lab, side: &Side, id: u16) {
    let (request, reply) = side.echo();
    let [sent, left] = side.outward(lab, "a", side.server);
    lab.send("a", &sent.icmp(request, 0, word(id, 1), b"ping"))
        .arrives("wan", &left.icmp(request, 0, word(id, 1), b"ping"))
        .opens(1)
        .mappings(1);
    let [sent, arrived] = side.inward(lab, side.server, "a");
    lab.send("wan", &sent.icmp(reply, 0, word(id, 1), b"ping"))
        .arrives("a", &arrived.icmp(reply, 0, word(id, 1), b"ping"))
        .moves(1);
}

/// A datagram of `a` that leaves through a new mapping; as it was sent, and as it left.
fn datagram(lab: &mut Lab, side: &Side, port: u16) -> [Vec<u8>; 2] {
    let [sent, left] = side.outward(lab, "a", side.server);
    let frames = [sent.udp(port, 5000, b"data"), left.udp(port, 5000, b"data")];
    lab.send("a", &frames[0])
        .arrives("wan", &frames[1])
        .opens(1)
        .mappings(1);
    frames
}

/// An error of a router outside about what has left, and as `a` gets it, about what `a` has sent.
fn error(lab: &Lab, side: &Side, told: Told, sent: &[u8], left: &[u8]) -> [Vec<u8>; 2] {
    // The router is somewhere on the way, and keeps its own address.
    let router = side.other_server;
    let (kind, code, word) = told.message(side.family);
    let [there, here] = side.inward(lab, router, "a");
    // Hops count down on the way; nobody counts them in the quote.
    let mut quoted = sent.to_vec();
    let summary = Summary::parse(&quoted).unwrap();
    heddle_wire::decrement_hop_limit(&mut quoted, summary.ip().unwrap());
    [
        there.icmp_error(kind, code, word, left),
        here.icmp_error(kind, code, word, &quoted),
    ]
}

#[test]
fn an_echo_and_its_answer_keep_their_identifier() {
    for side in &SIDES {
        let mut lab = campus_online();
        for id in [0, 1, 0x4321, 0xffff] {
            echo(&mut lab, side, id);
        }
    }
}

#[test]
fn two_hosts_with_one_identifier_get_two() {
    for side in &SIDES {
        let (request, reply) = side.echo();
        let mut lab = campus_online();
        echo(&mut lab, side, 7);
        let [sent, _] = side.outward(&lab, "d", side.server);
        lab.send("d", &sent.icmp(request, 0, word(7, 1), b""))
            .busy("wan")
            .opens(1)
            .mappings(1);
        let protocol = match side.family {
            Family::V4 => Protocol::ICMP,
            Family::V6 => Protocol::ICMPV6,
        };
        let other = lab.outside_port(protocol, side.d, 7);
        assert_ne!(other, 7);
        let [sent, arrived] = side.inward(&lab, side.server, "d");
        lab.send("wan", &sent.icmp(reply, 0, word(other, 1), b""))
            .arrives("d", &arrived.icmp(reply, 0, word(7, 1), b""))
            .moves(1);
    }
}

#[test]
fn a_timestamp_is_a_query_like_an_echo() {
    let (side, mut lab) = (&SIDES[0], campus_online());
    let [sent, left] = side.outward(&lab, "a", side.server);
    lab.send("a", &sent.icmp(13, 0, word(7, 1), &[1; 12]))
        .arrives("wan", &left.icmp(13, 0, word(7, 1), &[1; 12]))
        .opens(1)
        .mappings(1);
    let [sent, arrived] = side.inward(&lab, side.server, "a");
    lab.send("wan", &sent.icmp(14, 0, word(7, 1), &[2; 12]))
        .arrives("a", &arrived.icmp(14, 0, word(7, 1), &[2; 12]))
        .moves(1);
    // An echo reply answers no timestamp.
    lab.send("wan", &sent.icmp(0, 0, word(7, 1), b""))
        .drops("wan", Cause::Unsolicited);
}

#[test]
fn an_answer_that_nobody_asked_for_is_dropped() {
    for side in &SIDES {
        let mut lab = campus_online();
        let (_, reply) = side.echo();
        let [sent, _] = side.inward(&lab, side.server, "a");
        lab.send("wan", &sent.icmp(reply, 0, word(7, 1), b""))
            .drops("wan", Cause::Unsolicited);
        let [sent, _] = side.outward(&lab, "a", side.server);
        lab.send("a", &sent.icmp(reply, 0, word(7, 1), b""))
            .drops("a", Cause::Unsolicited);
        // Nor is anybody asked where to send it.
        let mut lab = campus();
        lab.send("a", &sent.icmp(reply, 0, word(7, 1), b""))
            .drops("a", Cause::Unsolicited);
    }
}

#[test]
fn an_echo_to_the_leg_is_answered_by_the_leg() {
    for side in &SIDES {
        let mut lab = campus_online();
        let (request, reply) = side.echo();
        let [sent, _] = side.inward(&lab, side.server, "a");
        let answer = lab.from_wan().ip(side.leg, side.server);
        lab.send("wan", &sent.icmp(request, 0, word(7, 1), b"ping"))
            .arrives("wan", &answer.icmp(reply, 0, word(7, 1), b"ping"));
    }
}

#[test]
fn a_silent_query_ends_after_a_minute() {
    for side in &SIDES {
        let mut lab = campus_online();
        echo(&mut lab, side, 7);
        let stale = |step: heddle_tests::lab::Step<'_>| {
            drop(SIDES.iter().fold(step, |step, side| {
                let known = Some(NEXT_HOP_MAC);
                step.neighbour("wan", side.next_hop, known, NeighbourState::Stale)
            }));
        };
        stale(lab.advance(ICMP_TIMEOUT - SECOND));
        lab.advance(SECOND * 2).ends(1).mappings(-1);
        let leg = side.leg.parse().unwrap();
        for protocol in [Protocol::ICMP, Protocol::ICMPV6] {
            assert_eq!(lab.switch().nat().ports_in_use(Zone(1), leg, protocol), 0);
        }
    }
}

#[test]
fn an_error_from_outside_is_about_what_the_host_has_sent() {
    for side in &SIDES {
        for told in ERRORS {
            let mut lab = campus_online();
            let [sent, left] = datagram(&mut lab, side, 4000);
            // It moves nothing: no error prolongs or ends a flow (RFC 4787 §9 REQ-12).
            let [there, here] = error(&lab, side, told, &sent, &left);
            lab.send("wan", &there).arrives("a", &here);
        }
    }
}

#[test]
fn an_error_with_an_mtu_that_no_path_has_is_refused() {
    for (side, smallest) in SIDES.iter().zip([576, 1280]) {
        let mut lab = campus_online();
        let [sent, left] = datagram(&mut lab, side, 4000);
        for mtu in [1, 68, smallest - 1] {
            let [there, _] = error(&lab, side, Told::TooBig(mtu), &sent, &left);
            lab.send("wan", &there)
                .drops("wan", Cause::PathMtuImplausible);
        }
        let [there, here] = error(&lab, side, Told::TooBig(smallest), &sent, &left);
        lab.send("wan", &there).arrives("a", &here);
    }
    // A router from before RFC 1191 does not say.
    let mut lab = campus_online();
    let side = &SIDES[0];
    let [sent, left] = datagram(&mut lab, side, 4000);
    let [there, here] = error(&lab, side, Told::TooBig(0), &sent, &left);
    lab.send("wan", &there).arrives("a", &here);
}

#[test]
fn an_error_about_a_translated_port_shows_the_hosts_own() {
    for side in &SIDES {
        let mut lab = campus_online();
        let occupied = side.outward(&lab, "b", side.server);
        lab.send("b", &occupied[0].udp(4000, 5000, b"data"))
            .arrives("wan", &occupied[1].udp(4000, 5000, b"data"))
            .opens(1)
            .mappings(1);
        let [sent, left] = side.outward(&lab, "a", side.server);
        let sent = sent.udp(4000, 5000, b"data");
        lab.send("a", &sent).busy("wan").opens(1).mappings(1);
        let other = lab.outside_port(Protocol::UDP, side.a, 4000);
        let left = left.udp(other, 5000, b"data");
        let [there, here] = error(&lab, side, Told::PortUnreachable, &sent, &left);
        lab.send("wan", &there).arrives("a", &here);
    }
}

#[test]
fn an_error_about_an_echo_shows_its_identifier() {
    for side in &SIDES {
        let mut lab = campus_online();
        let (request, _) = side.echo();
        echo(&mut lab, side, 7);
        let [sent, left] = side.outward(&lab, "a", side.server);
        let [sent, left] =
            [sent, left].map(|packet| packet.icmp(request, 0, word(7, 1), b"payload"));
        let [there, here] = error(&lab, side, Told::TimeExceeded, &sent, &left);
        lab.send("wan", &there).arrives("a", &here);
    }
}

#[test]
fn an_error_about_a_segment_must_name_one_in_flight() {
    for side in &SIDES {
        let mut lab = campus_online();
        let mut connection = Connection::new(&lab, side, "a", [4000, 4000], (side.server, 80));
        connection.open(&mut lab);
        let [sent, left] = connection.segment_out(TcpFlags::ACK, b"data");
        connection.out(&mut lab, TcpFlags::ACK, b"data").moves(1);
        let [there, here] = error(&lab, side, Told::TooBig(1400), &sent, &left);
        lab.send("wan", &there).arrives("a", &here);
        // A number that a stranger has guessed.
        connection.skip_out(1 << 20);
        let [sent, left] = connection.segment_out(TcpFlags::ACK, b"data");
        let [there, _] = error(&lab, side, Told::TooBig(1400), &sent, &left);
        lab.send("wan", &there).drops("wan", Cause::ErrorUnmatched);
    }
}

#[test]
fn an_error_about_nothing_that_was_sent_is_dropped() {
    for side in &SIDES {
        let mut lab = campus_online();
        let [sent, left] = datagram(&mut lab, side, 4000);
        for told in ERRORS {
            let [out, outside] = side.outward(&lab, "a", side.server);
            // Another port, another host, and the way back instead of the way out.
            let about = [
                outside.udp(4001, 5000, b"data"),
                outside.udp(4000, 5001, b"data"),
                out.udp(4000, 5000, b"data"),
                lab.to_wan()
                    .ip(side.server, side.leg)
                    .udp(5000, 4000, b"data"),
            ];
            for left in &about {
                let [there, _] = error(&lab, side, told, &sent, left);
                lab.send("wan", &there).drops("wan", Cause::ErrorUnmatched);
            }
        }
        // And the right one in the wrong place: a neighbour cannot have met trouble with it.
        let (kind, code, word) = Told::PortUnreachable.message(side.family);
        let forged = lab
            .to_gateway("b")
            .ip(side.b, side.server)
            .icmp_error(kind, code, word, &left);
        lab.send("b", &forged).drops("b", Cause::ErrorUnmatched);
    }
}

#[test]
fn an_endpoint_ends_no_flow_of_its_neighbour() {
    for side in &SIDES {
        let mut lab = campus_online();
        datagram(&mut lab, side, 4000);
        let [there, here] = side.inward(&lab, side.server, "a");
        let answered = here.udp(5000, 4000, b"answer");
        lab.send("wan", &there.udp(5000, 4000, b"answer"))
            .arrives("a", &answered)
            .moves(1);
        // What a has got, b knows all of, and says that it had trouble with it.
        for told in ERRORS {
            let (kind, code, word) = told.message(side.family);
            let forged = lab.to_gateway("b").ip(side.b, side.server);
            lab.send("b", &forged.icmp_error(kind, code, word, &answered))
                .drops("b", Cause::ErrorUnmatched);
        }
    }
}

#[test]
fn a_corrupt_error_is_not_translated() {
    for side in &SIDES {
        let mut lab = campus_online();
        let [sent, left] = datagram(&mut lab, side, 4000);
        let [mut there, _] = error(&lab, side, Told::PortUnreachable, &sent, &left);
        *there.last_mut().unwrap() ^= 1;
        lab.send("wan", &there).drops("wan", Cause::MessageChecksum);
        if side.family == Family::V4 {
            // The quoted header has a checksum of its own (RFC 5508 §4.1 REQ-3 b).
            let mut left = left.clone();
            left[14 + 11] ^= 1;
            let [there, _] = error(&lab, side, Told::PortUnreachable, &sent, &left);
            lab.send("wan", &there)
                .drops("wan", Malformed::EmbeddedChecksum);
        }
    }
}

#[test]
fn errors_that_say_nothing_of_a_packets_fate_are_not_translated() {
    for side in &SIDES {
        let mut lab = campus_online();
        let [_, left] = datagram(&mut lab, side, 4000);
        // Source quench and redirect; an ICMPv6 error that nobody knows yet has no known quote.
        let (kinds, cause): (&[u8], heddle_switch::DropReason) = match side.family {
            Family::V4 => (&[4, 5], Cause::ProtocolUntranslatable.into()),
            Family::V6 => (&[100, 127], Malformed::EmbeddedAbsent.into()),
        };
        for &kind in kinds {
            let [there, _] = side.inward(&lab, side.other_server, "a");
            lab.send("wan", &there.icmp_error(kind, 0, 0, &left))
                .drops("wan", cause);
        }
    }
}

#[test]
fn an_error_of_the_host_itself_shows_its_outside_address() {
    for side in &SIDES {
        for told in ERRORS {
            let mut lab = campus_online();
            echo(&mut lab, side, 7);
            let [sent, left] = datagram(&mut lab, side, 4000);
            drop((sent, left));
            // The answer reaches a port that has been closed meanwhile.
            let [there, here] = side.inward(&lab, side.server, "a");
            let answered = here.udp(5000, 4000, b"answer");
            lab.send("wan", &there.udp(5000, 4000, b"answer"))
                .arrives("a", &answered)
                .moves(1);
            let (kind, code, word) = told.message(side.family);
            let [out, left] = side.outward(&lab, "a", side.server);
            let about = lab
                .to_wan()
                .ip(side.server, side.leg)
                .hop_limit(63)
                .udp(5000, 4000, b"answer");
            lab.send("a", &out.icmp_error(kind, code, word, &answered))
                .arrives("wan", &left.icmp_error(kind, code, word, &about));
        }
    }
}

#[test]
fn an_error_with_a_partial_checksum_is_completed() {
    // Of ICMP over IPv4 no sender leaves the checksum to others.
    let (side, mut lab) = (&SIDES[1], campus_online());
    let [sent, left] = datagram(&mut lab, side, 4000);
    let [mut there, here] = error(&lab, side, Told::PortUnreachable, &sent, &left);
    let vnet = offload(&mut there, None);
    lab.send_with("wan", &vnet, &there).arrives("a", &here);
}

#[test]
fn hops_are_counted_in_both_directions_and_the_sender_is_told() {
    for side in &SIDES {
        for hops in [0, 1] {
            let mut lab = campus_online();
            datagram(&mut lab, side, 4000);
            let [out, _] = side.outward(&lab, "a", side.server);
            let frame = out.hop_limit(hops).udp(4000, 5000, b"trace");
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
            // Outside learns nothing of the inside: the quote is what it sent.
            let [back, _] = side.inward(&lab, side.server, "a");
            let frame = back.hop_limit(hops).udp(5000, 4000, b"trace");
            let told = side.told(
                &lab.from_wan(),
                side.leg,
                side.server,
                Told::TimeExceeded,
                &frame,
            );
            lab.send("wan", &frame)
                .arrives("wan", &told)
                .drops("wan", Cause::HopLimitExceeded);
            // An error is not answered by one, whoever sent it.
            let [out, outside] = side.outward(&lab, "a", side.server);
            let [sent, left] = [out, outside].map(|packet| packet.udp(4000, 5000, b"data"));
            drop(sent);
            let (kind, code, word) = Told::PortUnreachable.message(side.family);
            let frame = lab
                .to_wan()
                .ip(side.other_server, side.leg)
                .hop_limit(hops)
                .icmp_error(kind, code, word, &left);
            lab.send("wan", &frame)
                .drops("wan", Cause::HopLimitExceeded);
        }
    }
}

#[test]
fn an_answer_that_is_too_big_for_its_host_is_refused_with_the_mtu() {
    for side in &SIDES {
        let mut lab = campus_online_with(|plan| {
            plan.host("a", "blue")
                .address(SIDES[0].a)
                .address(SIDES[1].a)
                .mtu(1280);
        });
        datagram(&mut lab, side, 4000);
        let [back, _] = side.inward(&lab, side.server, "a");
        let frame = back.dont_fragment().udp(5000, 4000, &[7; 1300]);
        let told = side.told(
            &lab.from_wan(),
            side.leg,
            side.server,
            Told::TooBig(1280),
            &frame,
        );
        lab.send("wan", &frame)
            .arrives("wan", &told)
            .drops("wan", Cause::PacketTooBig);
    }
}

#[test]
fn a_protocol_without_ports_is_refused_and_counted() {
    for side in &SIDES {
        for protocol in [Protocol::SCTP, Protocol::GRE, Protocol(99), Protocol(0xfd)] {
            let mut lab = campus_online();
            let [out, _] = side.outward(&lab, "a", side.server);
            let frame = out.frame(protocol, &[1; 40]);
            let told = side.told(
                &lab.from_gateway("a"),
                side.gateway,
                side.a,
                Told::ProtocolUnreachable(6),
                &frame,
            );
            lab.send("a", &frame)
                .arrives("a", &told)
                .drops("a", Cause::ProtocolUntranslatable);
            let [back, _] = side.inward(&lab, side.server, "a");
            let frame = back.frame(protocol, &[1; 40]);
            let told = side.told(
                &lab.from_wan(),
                side.leg,
                side.server,
                Told::ProtocolUnreachable(6),
                &frame,
            );
            lab.send("wan", &frame)
                .arrives("wan", &told)
                .drops("wan", Cause::ProtocolUntranslatable);
        }
    }
}

#[test]
fn what_proves_its_addresses_or_has_more_of_them_is_not_translated() {
    let (side, mut lab) = (&SIDES[1], campus_online());
    let authentication = [4, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8]
        .into_iter()
        .chain([9; 4])
        .collect::<Vec<u8>>();
    let routing = [2, 4, 0, 0, 0, 0, 0].into_iter().chain([0x20; 16]);
    let routing = routing.collect::<Vec<u8>>();
    for (kind, content, option) in [
        (
            Protocol::AUTHENTICATION,
            &authentication,
            IpOptions::AUTHENTICATION,
        ),
        (Protocol::ROUTING, &routing, IpOptions::ROUTING),
    ] {
        let [out, _] = side.outward(&lab, "a", side.server);
        let frame = out.extension(kind, content).udp(4000, 5000, b"");
        let summary = Summary::parse(&frame).unwrap();
        assert!(summary.ip().unwrap().options.contains(option));
        let told = side.told(
            &lab.from_gateway("a"),
            side.gateway,
            side.a,
            Told::Prohibited,
            &frame,
        );
        lab.send("a", &frame)
            .arrives("a", &told)
            .drops("a", Cause::ProtocolUntranslatable);
    }
}

#[test]
fn an_error_between_two_hosts_that_speak_by_their_outside_addresses_arrives() {
    for side in &SIDES {
        let mut lab = campus_online();
        let [sent, left] = side.outward(&lab, "d", side.server);
        lab.send("d", &sent.udp(6000, 5000, b"data"))
            .arrives("wan", &left.udp(6000, 5000, b"data"))
            .opens(1)
            .mappings(1);
        let sent = lab.to_gateway("a").ip(side.a, side.leg);
        let sent = sent.udp(4000, 6000, b"hello");
        let arrived = lab.from_gateway("d").ip(side.leg, side.d).hop_limit(63);
        let arrived = arrived.udp(4000, 6000, b"hello");
        lab.send("a", &sent)
            .arrives("d", &arrived)
            .opens(1)
            .mappings(1);
        // RFC 5508 §5 REQ-7: each knows the other by the leg's address, in the quote as well.
        for told in ERRORS {
            let (kind, code, word) = told.message(side.family);
            let refused = lab.to_gateway("d").ip(side.d, side.leg);
            let there = lab.from_gateway("a").ip(side.leg, side.a).hop_limit(63);
            let mut about = sent.clone();
            let summary = Summary::parse(&about).unwrap();
            heddle_wire::decrement_hop_limit(&mut about, summary.ip().unwrap());
            lab.send("d", &refused.icmp_error(kind, code, word, &arrived))
                .arrives("a", &there.icmp_error(kind, code, word, &about));
        }
    }
}
