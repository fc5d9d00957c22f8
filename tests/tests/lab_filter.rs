//! Filter rules: what they match, what they do, and that nothing else changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use heddle_mem::Instant;
use heddle_nat::Direction;
use heddle_nat::filter::{Rejection, State, Verdict};
use heddle_switch::{Cause, NeighbourState};
use heddle_tests::lab::{
    Connection, Lab, NEXT_HOP_MAC, Plan, RulePlan, SIDES, SYN_ACK, Side, Told, campus,
    campus_online_with, fragments, rule,
};
use heddle_wire::builder::{Link, Packet, TcpHeader};
use heddle_wire::{Family, Protocol, TcpFlags, VnetHeader};

/// The campus, online, with rules for everybody.
fn filtered(rules: &[RulePlan]) -> Lab {
    let mut lab = campus_online_with(|_| {});
    lab.reconfigure(|plan| plan.rules(rules));
    lab
}

/// The same with port 8053 of the leg published as port 53 of `a`, and 8080 as port 80.
fn published(rules: &[RulePlan]) -> Lab {
    let mut lab = campus_online_with(|plan| {
        for side in &SIDES {
            plan.publish("wan", Protocol::UDP, (side.leg, 8053), (side.a, 53));
            plan.publish("wan", Protocol::TCP, (side.leg, 8080), (side.a, 80));
        }
    });
    lab.reconfigure(|plan| plan.rules(rules));
    lab
}

/// `a` asks the server something by UDP: the rules count it, and it leaves or not.
fn ask(lab: &mut Lab, side: &Side, ports: (u16, u16), counts: &[u32], passes: bool) {
    let [sent, left] = side.outward(lab, "a", side.server);
    let step = lab
        .send("a", &sent.udp(ports.0, ports.1, b"q"))
        .counts(counts);
    if passes {
        step.arrives("wan", &left.udp(ports.0, ports.1, b"q"))
            .opens(1)
            .mappings(1);
    } else {
        step.drops("a", Cause::FilterDropped);
    }
}

/// Somebody outside asks the published port of `a`.
fn visit(lab: &mut Lab, side: &Side, from: &str, counts: &[u32], passes: bool) {
    let [sent, _] = side.inward(lab, from, "a");
    let arrived = lab.from_gateway("a").ip(from, side.a).hop_limit(63);
    let step = lab.send("wan", &sent.udp(7000, 8053, b"q")).counts(counts);
    if passes {
        step.arrives("a", &arrived.udp(7000, 53, b"q")).opens(1);
    } else {
        step.drops("wan", Cause::FilterDropped);
    }
}

#[test]
fn all_but_one_host_are_dropped_and_answers_are_let_in() {
    for side in &SIDES {
        let friend = side.server;
        // As DOCKER-USER has it: -I -i wan ! -s friend -j DROP, then -I --state established,related.
        let mut lab = published(&[
            rule(1, Verdict::Accept).states(&[State::Established, State::Related]),
            rule(2, Verdict::Drop).into("wan").not_from(&[friend]),
        ]);
        visit(&mut lab, side, friend, &[], true);
        visit(&mut lab, side, side.other_server, &[2], false);
        // What goes out is answered, whoever answers.
        ask(&mut lab, side, (4000, 7000), &[], true);
        let [_, left] = side.outward(&lab, "a", side.other_server);
        let [sent, _] = side.outward(&lab, "a", side.other_server);
        lab.send("a", &sent.udp(4000, 7000, b"q"))
            .arrives("wan", &left.udp(4000, 7000, b"q"))
            .opens(1);
        let [sent, arrived] = side.inward(&lab, side.other_server, "a");
        lab.send("wan", &sent.udp(7000, 4000, b"a"))
            .arrives("a", &arrived.udp(7000, 4000, b"a"))
            .moves(1)
            .counts(&[1]);
        // One more client, between the two.
        lab.reconfigure(|plan| {
            plan.rules(&[
                rule(1, Verdict::Accept).states(&[State::Established, State::Related]),
                rule(3, Verdict::Accept)
                    .into("wan")
                    .from(&[side.other_server]),
                rule(2, Verdict::Drop).into("wan").not_from(&[friend]),
            ]);
        });
        let [sent, _] = side.inward(&lab, side.other_server, "a");
        let arrived = lab
            .from_gateway("a")
            .ip(side.other_server, side.a)
            .hop_limit(63);
        lab.send("wan", &sent.udp(7001, 8053, b"q"))
            .arrives("a", &arrived.udp(7001, 53, b"q"))
            .opens(1)
            .counts(&[3]);
        visit(&mut lab, side, side.on_link, &[2], false);
    }
}

#[test]
fn each_match_is_true_of_what_it_says_and_of_nothing_else() {
    for side in &SIDES {
        let count = |number| rule(number, Verdict::Count);
        let other = match side.family {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        };
        let mut lab = filtered(&[
            count(1).from(&[side.a]),
            count(2).from(&[side.b, "10.9.0.0/16", "fd09::/64"]),
            count(3).not_from(&[side.b]),
            count(4).to(&["198.51.100.0/24", "2001:db8:99::/48"]),
            count(5).to(&[side.other_server]),
            count(6).into("a"),
            count(7).into("b"),
            count(8).not_into("b"),
            count(9).into("blue"),
            count(10).into("green"),
            count(11).out_of("wan"),
            count(12).not_out_of("wan"),
            count(13).protocol(Protocol::UDP),
            count(14).protocol(Protocol::TCP),
            count(15).port(7000, 7999),
            count(16).port(7001, u16::MAX),
            count(17).source_port(0, 4000),
            count(18).source_port(4001, 4001),
            count(19).icmp(side.echo().0),
            count(20).states(&[State::New]),
            count(21).states(&[State::Established, State::Related, State::Invalid]),
            count(22).not_states(&[State::Established]),
            count(23).original(side.server, 7000),
            count(24).original(side.server, 7001),
            count(25).direction(Direction::Original),
            count(26).direction(Direction::Reply),
            count(27).family(side.family),
            count(28).family(other),
            count(29).inside(),
        ]);
        let counted = [1, 3, 4, 6, 8, 9, 11, 13, 15, 17, 20, 22, 23, 25, 27];
        ask(&mut lab, side, (4000, 7000), &counted, true);
        let [sent, arrived] = side.inward(&lab, side.server, "a");
        // The answer: what the rules see has the addresses and ports that `a` sees.
        lab.send("wan", &sent.udp(7000, 4000, b"a"))
            .arrives("a", &arrived.udp(7000, 4000, b"a"))
            .moves(1)
            .counts(&[3, 8, 12, 13, 21, 23, 26, 27]);
        let (kind, _) = side.echo();
        let [sent, left] = side.outward(&lab, "a", side.server);
        lab.send("a", &sent.icmp(kind, 0, 7 << 16 | 1, b"ping"))
            .arrives("wan", &left.icmp(kind, 0, 7 << 16 | 1, b"ping"))
            .opens(1)
            .mappings(1)
            .counts(&[1, 3, 4, 6, 8, 9, 11, 19, 20, 22, 25, 27]);
        assert_eq!(lab.plan().counted(1), (2, lab.plan().counted(6).1));
    }
}

#[test]
fn a_rule_sees_a_published_port_as_the_endpoint_does_and_knows_what_it_was() {
    for side in &SIDES {
        let count = |number| rule(number, Verdict::Count);
        let mut lab = published(&[
            count(1).to(&[side.a]).port(53, 53),
            count(2).to(&[side.leg]),
            count(3).port(8053, 8053),
            count(4).original(side.leg, 8053),
            count(5).original(side.a, 53),
            count(6).into("wan").out_of("a"),
            count(7).into("wan").out_of("blue"),
        ]);
        visit(&mut lab, side, side.server, &[1, 4, 6, 7], true);
        // The answer belongs to the same first destination.
        let answer = lab.to_gateway("a").ip(side.a, side.server);
        let left = lab.from_wan().ip(side.leg, side.server).hop_limit(63);
        lab.send("a", &answer.udp(53, 7000, b"a"))
            .arrives("wan", &left.udp(8053, 7000, b"a"))
            .moves(1)
            .counts(&[4]);
    }
}

#[test]
fn a_rejected_sender_is_told_as_the_rule_says() {
    for side in &SIDES {
        for (how, told) in [
            (Rejection::PortUnreachable, Told::PortUnreachable),
            (Rejection::Prohibited, Told::Prohibited),
            // There is no such answer to UDP.
            (Rejection::Reset, Told::PortUnreachable),
        ] {
            let mut lab = published(&[rule(1, Verdict::Reject(how))]);
            let [sent, _] = side.outward(&lab, "a", side.server);
            let sent = sent.udp(4000, 7000, b"q");
            let to_a = lab.from_gateway("a");
            let answer = side.told(&to_a, side.gateway, side.a, told, &sent);
            lab.send("a", &sent)
                .drops("a", Cause::FilterRejected)
                .arrives("a", &answer)
                .counts(&[1]);
            let sent = lab.to_wan().ip(side.server, side.leg).udp(7000, 8053, b"q");
            let answer = side.told(&lab.from_wan(), side.leg, side.server, told, &sent);
            lab.send("wan", &sent)
                .drops("wan", Cause::FilterRejected)
                .arrives("wan", &answer)
                .counts(&[1]);
        }
        let mut lab = published(&[rule(1, Verdict::Reject(Rejection::Reset))]);
        let syn = TcpHeader {
            source_port: 4000,
            destination_port: 80,
            sequence: 1000,
            flags: TcpFlags::SYN,
            ..TcpHeader::default()
        };
        let reset = TcpHeader {
            source_port: 80,
            destination_port: 4000,
            sequence: 0,
            acknowledgement: 1001,
            flags: TcpFlags::RST | TcpFlags::ACK,
            window: 0,
            ..TcpHeader::default()
        };
        let [sent, _] = side.outward(&lab, "a", side.server);
        // In the name of the server.
        let answer = lab.from_gateway("a").ip(side.server, side.a).id(0);
        lab.send("a", &sent.tcp(&syn, b""))
            .drops("a", Cause::FilterRejected)
            .arrives("a", &answer.dont_fragment().tcp(&reset, b""))
            .counts(&[1]);
    }
}

#[test]
fn verdicts_end_a_chain_or_go_on_as_they_say() {
    for side in &SIDES {
        let network_drops = |plan: &mut Plan| {
            plan.network_rules("blue", &[rule(10, Verdict::Drop)]);
        };
        for (verdict, more, passes) in [
            (Verdict::Accept, &[1][..], true),
            (Verdict::Drop, &[1], false),
            (Verdict::Return, &[1, 10], false),
            (Verdict::Count, &[1, 2, 10], false),
            (Verdict::Log { sample: 1 }, &[1, 2, 10], false),
        ] {
            let mut lab = filtered(&[rule(1, verdict), rule(2, Verdict::Count)]);
            lab.reconfigure(network_drops);
            ask(&mut lab, side, (4000, 7000), more, passes);
            let told = lab.plan().log().drain();
            assert_eq!(
                told.len(),
                usize::from(matches!(verdict, Verdict::Log { .. }))
            );
            assert!(told.iter().all(|told| told.rule.0 == 1));
        }
    }
}

#[test]
fn chains_are_asked_in_order_of_the_way_and_each_once() {
    for side in &SIDES {
        let mut lab = campus();
        let count = |number| [rule(number, Verdict::Count)];
        lab.reconfigure(|plan| {
            plan.rules(&count(1));
            plan.network_rules("blue", &count(2));
            plan.network_rules("green", &count(3));
            plan.network_rules("red", &count(4));
        });
        let sent = lab.to_gateway("a").ip(side.a, side.d).udp(1, 2, b"q");
        let arrived = lab.from_gateway("d").ip(side.a, side.d).hop_limit(63);
        lab.send("a", &sent)
            .arrives("d", &arrived.udp(1, 2, b"q"))
            .opens(1)
            .counts(&[1, 2, 3]);
        // What one of them ends, the next does not see.
        lab.reconfigure(|plan| {
            plan.network_rules("blue", &[rule(2, Verdict::Drop)]);
        });
        lab.send("a", &sent)
            .drops("a", Cause::FilterDropped)
            .counts(&[1, 2]);
        let sent = lab.to_gateway("d").ip(side.d, side.a).udp(2, 1, b"a");
        lab.send("d", &sent)
            .drops("d", Cause::FilterDropped)
            .counts(&[1, 2, 3]);
    }
}

#[test]
fn between_networks_answers_are_known_where_a_rule_asks() {
    for side in &SIDES {
        let mut lab = campus();
        lab.reconfigure(|plan| {
            plan.network_rules(
                "blue",
                &[
                    rule(1, Verdict::Accept).states(&[State::Established]),
                    rule(2, Verdict::Drop).into("green"),
                ],
            );
        });
        let there = lab.to_gateway("a").ip(side.a, side.d);
        let at_d = lab.from_gateway("d").ip(side.a, side.d).hop_limit(63);
        let back = lab.to_gateway("d").ip(side.d, side.a);
        let at_a = lab.from_gateway("a").ip(side.d, side.a).hop_limit(63);
        // Nobody has asked.
        lab.send("d", &back.udp(53, 4000, b"a"))
            .drops("d", Cause::FilterDropped)
            .counts(&[2]);
        lab.send("a", &there.udp(4000, 53, b"q"))
            .arrives("d", &at_d.udp(4000, 53, b"q"))
            .opens(1);
        lab.send("d", &back.udp(53, 4000, b"a"))
            .arrives("a", &at_a.udp(53, 4000, b"a"))
            .moves(1)
            .counts(&[1]);
        lab.send("d", &back.udp(53, 4001, b"a"))
            .drops("d", Cause::FilterDropped)
            .counts(&[2]);
        // Without rules nothing is tracked; what is there ends by itself.
        lab.reconfigure(|plan| {
            plan.network_rules("blue", &[]);
        });
        lab.send("d", &back.udp(53, 4001, b"a"))
            .arrives("a", &at_a.udp(53, 4001, b"a"));
        lab.advance(Duration::from_secs(301)).ends(1);
    }
}

#[test]
fn a_datagram_in_fragments_is_asked_about_once_and_whole() {
    for side in &SIDES {
        let mut lab = campus();
        lab.reconfigure(|plan| {
            plan.rules(&[
                rule(1, Verdict::Accept)
                    .protocol(Protocol::UDP)
                    .port(53, 53),
                rule(2, Verdict::Drop),
            ]);
        });
        let cut = |packet: &Packet, port| {
            let datagram = packet.udp_segment(4000, port, &[7; 3000]);
            fragments(packet, Protocol::UDP, &datagram, 0x4242, 1400)
        };
        let there = lab.to_gateway("a").ip(side.a, side.d);
        let at_d = lab.from_gateway("d").ip(side.a, side.d).hop_limit(63);
        let step = lab.send_all("a", &cut(&there, 53));
        let arrived = cut(&at_d, 53);
        let arrived = arrived.iter();
        arrived
            .fold(step, |step, fragment| step.arrives("d", fragment))
            .opens(1)
            .counts(&[1]);
        lab.send_all("a", &cut(&there, 54))
            .drops_many("a", Cause::FilterDropped, 3)
            .counts(&[2]);
    }
}

/// A segment between `a` and `d`, who are in two networks.
fn segment(flags: TcpFlags, ports: (u16, u16), sequence: u32, acknowledgement: u32) -> TcpHeader {
    TcpHeader {
        source_port: ports.0,
        destination_port: ports.1,
        sequence,
        acknowledgement,
        flags,
        ..TcpHeader::default()
    }
}

#[test]
fn a_connection_between_networks_is_taken_up_in_the_middle_and_followed() {
    for side in &SIDES {
        let mut lab = campus();
        lab.reconfigure(|plan| {
            plan.rules(&[
                rule(1, Verdict::Count).states(&[State::New]),
                rule(2, Verdict::Count).states(&[State::Established]),
                rule(3, Verdict::Count).states(&[State::Invalid]),
            ]);
        });
        let there = lab.to_gateway("a").ip(side.a, side.d);
        let at_d = lab.from_gateway("d").ip(side.a, side.d).hop_limit(63);
        let back = lab.to_gateway("d").ip(side.d, side.a);
        let at_a = lab.from_gateway("a").ip(side.d, side.a).hop_limit(63);
        let data = segment(TcpFlags::ACK, (4000, 80), 5000, 9000);
        lab.send("a", &there.tcp(&data, b"GET"))
            .arrives("d", &at_d.tcp(&data, b"GET"))
            .opens(1)
            .counts(&[1]);
        let answer = segment(TcpFlags::ACK, (80, 4000), 9000, 5003);
        lab.send("d", &back.tcp(&answer, b"200"))
            .arrives("a", &at_a.tcp(&answer, b"200"))
            .moves(1)
            .counts(&[2]);
        // What belongs to nothing passes if the rules let it, and begins nothing.
        let reset = segment(TcpFlags::RST, (81, 4000), 1, 0);
        lab.send("d", &back.tcp(&reset, b""))
            .arrives("a", &at_a.tcp(&reset, b""))
            .counts(&[3]);
        let (_, reply) = side.echo();
        lab.send("d", &back.icmp(reply, 0, 1, b""))
            .arrives("a", &at_a.icmp(reply, 0, 1, b""))
            .counts(&[3]);
        // A connection from its beginning, in which something is far off.
        let syn = segment(TcpFlags::SYN, (4001, 80), 100, 0);
        lab.send("a", &there.tcp(&syn, b""))
            .arrives("d", &at_d.tcp(&syn, b""))
            .opens(1)
            .counts(&[1]);
        let syn_ack = segment(SYN_ACK, (80, 4001), 700, 101);
        lab.send("d", &back.tcp(&syn_ack, b""))
            .arrives("a", &at_a.tcp(&syn_ack, b""))
            .moves(1)
            .counts(&[2]);
        let ack = segment(TcpFlags::ACK, (4001, 80), 101, 701);
        lab.send("a", &there.tcp(&ack, b""))
            .arrives("d", &at_d.tcp(&ack, b""))
            .moves(1)
            .counts(&[2]);
        let far_off = segment(TcpFlags::RST, (80, 4001), 700 + (1 << 30), 0);
        lab.send("d", &back.tcp(&far_off, b""))
            .arrives("a", &at_a.tcp(&far_off, b""))
            .busy("d")
            .moves(1)
            .counts(&[2]);
    }
}

#[test]
fn an_error_about_a_session_is_related_and_any_other_invalid() {
    for side in &SIDES {
        let mut lab = filtered(&[
            rule(1, Verdict::Accept).states(&[State::Related]),
            rule(2, Verdict::Drop).states(&[State::Invalid]),
            rule(3, Verdict::Drop).into("wan"),
        ]);
        ask(&mut lab, side, (4000, 7000), &[], true);
        let [sent, left] = side.outward(&lab, "a", side.server);
        let about = left.udp(4000, 7000, b"q");
        let error = side.told(
            &lab.to_wan(),
            side.next_hop,
            side.leg,
            Told::HostUnreachable,
            &about,
        );
        let to_a = lab.from_gateway("a");
        let (kind, code, word) = Told::HostUnreachable.message(side.family);
        let quoted = sent.hop_limit(63).udp(4000, 7000, b"q");
        let arrived = to_a.ip(side.next_hop, side.a).id(0).hop_limit(63);
        lab.send("wan", &error)
            .arrives("a", &arrived.icmp_error(kind, code, word, &quoted))
            .counts(&[1]);
        // From inside, about nothing.
        let stranger = lab.from_gateway("a").ip(side.server, side.a).udp(1, 2, b"");
        let error = side.told(
            &lab.to_gateway("a"),
            side.a,
            side.server,
            Told::PortUnreachable,
            &stranger,
        );
        lab.send("a", &error)
            .drops("a", Cause::FilterDropped)
            .counts(&[2]);
        // Between networks the same.
        let asked = lab.to_gateway("a").ip(side.a, side.d).udp(1, 2, b"q");
        let at_d = lab
            .from_gateway("d")
            .ip(side.a, side.d)
            .hop_limit(63)
            .udp(1, 2, b"q");
        lab.send("a", &asked).arrives("d", &at_d).opens(1);
        let error = lab.to_gateway("d").ip(side.d, side.a).id(0);
        let arrived = lab.from_gateway("a").ip(side.d, side.a).id(0).hop_limit(63);
        lab.send("d", &error.icmp_error(kind, code, word, &at_d))
            .arrives("a", &arrived.icmp_error(kind, code, word, &at_d))
            .counts(&[1]);
        lab.send("d", &error.icmp_error(kind, code, word, &stranger))
            .drops("d", Cause::FilterDropped)
            .counts(&[2]);
    }
}

#[test]
fn what_cannot_be_translated_is_invalid_and_goes_nowhere_even_if_accepted() {
    for side in &SIDES {
        let mut lab = filtered(&[rule(1, Verdict::Accept).states(&[State::Invalid])]);
        let [sent, _] = side.outward(&lab, "a", side.server);
        let (_, reply) = side.echo();
        let cases = [
            (sent.udp(0, 2, b""), Cause::PortZero),
            (
                sent.tcp(&segment(TcpFlags::ACK, (4000, 80), 1, 1), b""),
                Cause::NotSyn,
            ),
            (sent.icmp(reply, 0, 1, b""), Cause::Unsolicited),
            (
                sent.frame(Protocol::SCTP, &[0; 12]),
                Cause::ProtocolUntranslatable,
            ),
        ];
        for (frame, reason) in cases {
            // The sender may be told, as without rules.
            lab.send("a", &frame)
                .busy("a")
                .drops("a", reason)
                .counts(&[1]);
        }
        lab.reconfigure(|plan| {
            plan.rules(&[rule(2, Verdict::Drop).states(&[State::Invalid])]);
        });
        for frame in [
            sent.tcp(&segment(TcpFlags::ACK, (4000, 80), 1, 1), b""),
            sent.frame(Protocol::SCTP, &[0; 12]),
        ] {
            lab.send("a", &frame)
                .drops("a", Cause::FilterDropped)
                .counts(&[2]);
        }
    }
}

#[test]
fn a_segment_outside_its_window_is_invalid() {
    for side in &SIDES {
        let mut lab = filtered(&[
            rule(1, Verdict::Drop).states(&[State::Invalid]),
            rule(2, Verdict::Count).states(&[State::Established]),
        ]);
        let mut connection = Connection::new(&lab, side, "a", [4000, 4000], (side.server, 80));
        connection
            .out(&mut lab, TcpFlags::SYN, b"")
            .opens(1)
            .mappings(1);
        connection
            .back(&mut lab, SYN_ACK, b"")
            .moves(1)
            .counts(&[2]);
        connection
            .out(&mut lab, TcpFlags::ACK, b"")
            .moves(1)
            .counts(&[2]);
        connection.skip_back(1 << 30);
        let [frame, _] = connection.segment_back(TcpFlags::ACK, b"");
        lab.send("wan", &frame)
            .drops("wan", Cause::FilterDropped)
            .counts(&[1]);
    }
}

#[test]
fn established_sessions_are_subject_to_new_rules_at_once_and_back_again() {
    for side in &SIDES {
        let mut lab = filtered(&[rule(1, Verdict::Count)]);
        let mut connection = Connection::new(&lab, side, "a", [4000, 4000], (side.server, 80));
        connection
            .out(&mut lab, TcpFlags::SYN, b"")
            .opens(1)
            .mappings(1)
            .counts(&[1]);
        connection
            .back(&mut lab, SYN_ACK, b"")
            .moves(1)
            .counts(&[1]);
        connection
            .out(&mut lab, TcpFlags::ACK, b"")
            .moves(1)
            .counts(&[1]);
        // The rule that stays has counted three, and goes on.
        lab.reconfigure(|plan| {
            plan.rules(&[
                rule(1, Verdict::Count),
                rule(2, Verdict::Drop).to(&[side.server]),
            ]);
        });
        let [frame, _] = connection.segment_out(TcpFlags::ACK, b"data");
        lab.send("a", &frame)
            .drops("a", Cause::FilterDropped)
            .counts(&[1, 2]);
        assert_eq!(lab.plan().counted(1).0, 4);
        lab.reconfigure(|plan| plan.rules(&[rule(1, Verdict::Count)]));
        connection
            .out(&mut lab, TcpFlags::ACK, b"data")
            .moves(1)
            .counts(&[1]);
    }
}

#[test]
fn no_more_packets_match_than_the_limit_says() {
    for side in &SIDES {
        let mut lab = filtered(&[
            rule(1, Verdict::Accept).limited(Duration::from_millis(100), 3),
            rule(2, Verdict::Drop),
        ]);
        let mut port = 4000;
        let mut burst = |lab: &mut Lab, allowed: usize| {
            for number in 0..allowed + 2 {
                port += 1;
                let passes = number < allowed;
                let counts: &[u32] = if passes { &[1] } else { &[2] };
                ask(lab, side, (port, 7000), counts, passes);
            }
        };
        burst(&mut lab, 3);
        lab.pass(Duration::from_millis(200));
        burst(&mut lab, 2);
        // The bucket holds no more than the burst; and a rule that stays keeps its tokens.
        lab.pass(Duration::from_secs(2));
        burst(&mut lab, 3);
        lab.reconfigure(|plan| {
            plan.rules(&[
                rule(1, Verdict::Accept).limited(Duration::from_millis(100), 3),
                rule(2, Verdict::Drop),
                rule(3, Verdict::Count),
            ]);
        });
        burst(&mut lab, 0);
    }
}

#[test]
fn a_packet_that_waits_for_its_next_hop_is_counted_when_it_goes() {
    for side in &SIDES {
        let mut lab = campus();
        lab.reconfigure(|plan| {
            plan.rules(&[
                rule(1, Verdict::Drop).port(7001, 7001),
                rule(2, Verdict::Accept).limited(Duration::from_secs(60), 1),
                rule(3, Verdict::Drop),
            ]);
        });
        let [sent, left] = side.outward(&lab, "a", side.server);
        // What ends anyway asks for nobody.
        lab.send("a", &sent.udp(4000, 7001, b"q"))
            .drops("a", Cause::FilterDropped)
            .counts(&[1]);
        let question = side.question(lab.mac("wan"), side.leg, side.next_hop);
        lab.send("a", &sent.udp(4000, 7000, b"q"))
            .holds(1)
            .neighbour("wan", side.next_hop, None, NeighbourState::Incomplete)
            .arrives("wan", &question);
        let answer = side.answer(NEXT_HOP_MAC, lab.mac("wan"), side.next_hop, side.leg);
        lab.send("wan", &answer)
            .holds(-1)
            .neighbour(
                "wan",
                side.next_hop,
                Some(NEXT_HOP_MAC),
                NeighbourState::Reachable,
            )
            .arrives("wan", &left.udp(4000, 7000, b"q"))
            .opens(1)
            .mappings(1)
            .counts(&[2]);
        ask(&mut lab, side, (4001, 7000), &[3], false);
    }
}

#[test]
fn inside_one_network_only_rules_that_say_so_are_asked() {
    for side in &SIDES {
        let mut lab = campus();
        lab.reconfigure(|plan| {
            plan.rules(&[rule(1, Verdict::Drop)]);
        });
        let there = lab.link("a", "b").ip(side.a, side.b);
        let back = lab.link("b", "a").ip(side.b, side.a);
        lab.send("a", &there.udp(1, 2, b"q"))
            .arrives("b", &there.udp(1, 2, b"q"));
        lab.reconfigure(|plan| {
            plan.network_rules(
                "blue",
                &[
                    rule(2, Verdict::Accept)
                        .inside()
                        .states(&[State::Established]),
                    rule(3, Verdict::Drop).inside().into("b"),
                ],
            );
        });
        lab.send("b", &back.udp(2, 1, b"a"))
            .drops("b", Cause::FilterDropped)
            .counts(&[3]);
        lab.send("a", &there.udp(1, 2, b"q"))
            .arrives("b", &there.udp(1, 2, b"q"))
            .opens(1);
        lab.send("b", &back.udp(2, 1, b"a"))
            .arrives("a", &back.udp(2, 1, b"a"))
            .moves(1)
            .counts(&[2]);
        // By way of the gateway it is the same network.
        let around = lab.to_gateway("b").ip(side.b, side.c).udp(5, 6, b"q");
        lab.send("b", &around)
            .drops("b", Cause::FilterDropped)
            .counts(&[3]);
        // The link itself stays alive.
        let question = side.question(lab.mac("b"), side.b, side.a);
        let hears: &[&str] = &["a", "c"];
        let step = lab.send("b", &question);
        hears.iter().fold(step, |step, name| {
            let name = if *name == "a" { "a" } else { "c" };
            step.arrives(name, &question)
        });
        // To everybody: each copy is asked about.
        let many = match side.family {
            Family::V4 => lab.to_all("b").ip(side.b, "255.255.255.255").udp(5, 6, b""),
            Family::V6 => {
                let group = heddle_wire::MacAddr::new([0x33, 0x33, 0, 0, 0, 1]);
                let link = Link::new(lab.mac("b"), group);
                link.ip(side.b, "ff02::1").udp(5, 6, b"")
            }
        };
        lab.send("b", &many)
            .drops_many("b", Cause::FilterDropped, 2)
            .counts(&[3, 3]);
        // Another network is not concerned.
        let red = lab.to_all("e").ip(side.e, side.e).udp(1, 2, b"");
        lab.send("e", &red).drops("e", Cause::NobodyElse);
    }
}

#[test]
fn a_rejected_neighbour_is_told_by_the_gateway() {
    for side in &SIDES {
        let mut lab = campus();
        lab.reconfigure(|plan| {
            let reject = Verdict::Reject(Rejection::PortUnreachable);
            plan.rules(&[rule(1, reject).inside()]);
        });
        let sent = lab.link("a", "b").ip(side.a, side.b).udp(1, 2, b"q");
        let to_a = lab.from_gateway("a");
        let answer = side.told(&to_a, side.gateway, side.a, Told::PortUnreachable, &sent);
        lab.send("a", &sent)
            .drops("a", Cause::FilterRejected)
            .arrives("a", &answer)
            .counts(&[1]);
    }
}

#[test]
fn the_way_round_by_an_outside_address_is_seen_by_rules_for_either() {
    for side in &SIDES {
        let mut lab = published(&[
            rule(1, Verdict::Count).original(side.leg, 8053),
            rule(2, Verdict::Drop).inside().into("b").out_of("a"),
        ]);
        let sent = lab
            .to_gateway("b")
            .ip(side.b, side.leg)
            .udp(4000, 8053, b"q");
        lab.send("b", &sent)
            .drops("b", Cause::FilterDropped)
            .counts(&[1, 2]);
        let sent = lab
            .to_gateway("c")
            .ip(side.c, side.leg)
            .udp(4000, 8053, b"q");
        let arrived = lab.from_gateway("a").ip(side.leg, side.a).hop_limit(63);
        lab.send("c", &sent)
            .arrives("a", &arrived.udp(4000, 53, b"q"))
            .opens(1)
            .mappings(1)
            .counts(&[1]);
    }
}

#[test]
fn rules_open_nothing_that_is_closed_without_them() {
    for side in &SIDES {
        let mut lab = published(&[rule(1, Verdict::Accept), rule(2, Verdict::Accept).inside()]);
        let to_e = lab.to_gateway("a").ip(side.a, side.e).udp(1, 2, b"");
        lab.send("a", &to_e)
            .busy("a")
            .drops("a", Cause::NetworkIsolated);
        let spoofed = lab.link("a", "b").ip(side.c, side.b).udp(1, 2, b"");
        lab.send("a", &spoofed).drops("a", Cause::AddressSpoofed);
        let unasked = lab.to_wan().ip(side.server, side.leg).udp(1, 2, b"");
        lab.send("wan", &unasked).drops("wan", Cause::Unsolicited);
    }
}

#[test]
fn a_flood_in_the_log_is_counted_and_not_told() {
    let side = &SIDES[0];
    let mut lab = filtered(&[rule(1, Verdict::Log { sample: 1 }), rule(2, Verdict::Drop)]);
    let [sent, _] = side.outward(&lab, "a", side.server);
    let frames = vec![sent.udp(4000, 7000, b"q"); 1000];
    let step = lab
        .send_all("a", &frames)
        .drops_many("a", Cause::FilterDropped, 1000);
    (0..1000).fold(step, |step, _| step.counts(&[1, 2]));
    let told = lab.plan().log().drain();
    assert!((1..1000).contains(&told.len()), "{}", told.len());
    let lost = usize::try_from(lab.plan().log().lost()).unwrap();
    assert_eq!(told.len() + lost, 1000);
    let question = told[0].question;
    assert_eq!(question.source, side.a.parse().unwrap());
    assert_eq!(question.state, State::New);
}

/// How long a test with threads waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// The time of labs that were taken apart.
const NOW: Instant = Instant::from_micros(7_200_000_000);

/// Does nothing until something is so.
#[expect(
    clippy::disallowed_methods,
    reason = "threads take real time, and a test that hangs says nothing"
)]
fn until(mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not so after {PATIENCE:?}");
        thread::yield_now();
    }
}

#[test]
fn rules_are_replaced_between_two_frames_while_two_workers_carry_them() {
    const FRAMES: u64 = 2000;
    for side in &SIDES {
        let mut lab = campus_online_with(|plan| {
            plan.workers(2);
            for (name, network, reader) in [("a", "blue", 0), ("d", "green", 1)] {
                let host = plan.host(name, network);
                for side in &SIDES {
                    host.address(side.host(name));
                }
                host.read_by(reader);
            }
        });
        // Whichever is in force, one of two frames is dropped.
        let rules = |port| {
            [
                rule(9, Verdict::Count),
                rule(u32::from(port), Verdict::Drop).port(port, port),
            ]
        };
        lab.reconfigure(|plan| plan.rules(&rules(1)));
        let frames = [("a", "d", side.a, side.d), ("d", "a", side.d, side.a)].map(|it| {
            let (from, _, source, destination) = it;
            let packet = lab.to_gateway(from).ip(source, destination);
            let frames = [1, 2].map(|port| packet.udp(7, port, b"q"));
            (
                from,
                frames.map(|frame| [&VnetHeader::NONE.emit(), &frame[..]].concat()),
            )
        });
        let (switch, workers, mut plan) = lab.into_parts();
        let stop = AtomicBool::new(false);
        let before = plan.counted(9).0;
        thread::scope(|scope| {
            for mut worker in workers {
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        worker.turn(NOW);
                        thread::yield_now();
                    }
                });
            }
            for (from, frames) in &frames {
                let peer = plan.peer(from).clone();
                scope.spawn(move || {
                    for frame in (0..FRAMES)
                        .zip(frames.iter().cycle())
                        .map(|(_, frame)| frame)
                    {
                        until(|| peer.send(frame).is_ok());
                    }
                });
            }
            let mut port = 1;
            until(|| {
                port = 3 - port;
                plan.rules(&rules(port));
                switch
                    .publish(plan.config(), NOW)
                    .expect("nothing is in the way");
                let taken = |name| plan.port(name).statistics().received_frames >= FRAMES;
                taken("a") && taken("d")
            });
            stop.store(true, Ordering::Relaxed);
        });
        let statistics = ["a", "d"].map(|name| plan.port(name).statistics());
        let mut dropped = 0;
        for (own, other) in [(0, 1), (1, 0)] {
            let [(reason, drops)] = statistics[own].drops[..] else {
                panic!("dropped for several reasons: {:?}", statistics[own].drops);
            };
            assert_eq!(reason, Cause::FilterDropped.into());
            assert_eq!(drops + statistics[other].sent_frames, FRAMES);
            dropped += drops;
        }
        assert!((1..2 * FRAMES).contains(&dropped), "{dropped}");
        assert_eq!(plan.counted(9).0 - before, 2 * FRAMES);
    }
}
