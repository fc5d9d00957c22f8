//! What keeps a flow alive, and what does not: what is refused, what is in doubt, what is an error
//! (RFC 4787 §4.3, RFC 5382 §5, RFC 5508 §4.3, RFC 7857 §2 and §7).

use std::time::Duration;

use heddle_nat::tcp::{CLOSING_TIMEOUT, ESTABLISHED_TIMEOUT, OPENING_TIMEOUT};
use heddle_nat::{Filtering, ICMP_TIMEOUT, UDP_TIMEOUT};
use heddle_switch::{Cause, NeighbourState};
use heddle_tests::lab::{
    Carried, Connection, FIN_ACK, Lab, NEXT_HOP_MAC, SIDES, SYN_ACK, Side, Step, Told,
    campus_online, campus_online_with,
};
use heddle_wire::builder::TcpHeader;
use heddle_wire::{Protocol, TcpFlags};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const ACK: TcpFlags = TcpFlags::ACK;
const SYN: TcpFlags = TcpFlags::SYN;
const RST: TcpFlags = TcpFlags::RST;

/// So much time passes that nobody remembers the next hop.
fn pass(lab: &mut Lab, span: Duration) -> Step<'_> {
    SIDES.iter().fold(lab.advance(span), |step, side| {
        step.forgets_neighbour("wan", side.next_hop)
    })
}

/// A host sends a packet, for which the next hop has to be asked for; it leaves when that has answered.
fn send_out_again(lab: &mut Lab, side: &Side, [sent, left]: &[Vec<u8>; 2]) {
    let question = side.question(lab.mac("wan"), side.leg, side.next_hop);
    lab.send("a", sent)
        .holds(1)
        .neighbour("wan", side.next_hop, None, NeighbourState::Incomplete)
        .arrives("wan", &question);
    let answer = side.answer(NEXT_HOP_MAC, lab.mac("wan"), side.next_hop, side.leg);
    let known = Some(NEXT_HOP_MAC);
    lab.send("wan", &answer)
        .holds(-1)
        .neighbour("wan", side.next_hop, known, NeighbourState::Reachable)
        .arrives("wan", left)
        .moves(1);
}

/// A datagram of `a` that leaves through a new mapping, and is not answered yet.
fn ask(lab: &mut Lab, side: &Side, carried: Carried) {
    let [sent, left] = side.outward(lab, "a", side.server);
    lab.send("a", &carried.first(side, &sent, 4000, 5000))
        .arrives("wan", &carried.first(side, &left, 4000, 5000))
        .opens(1)
        .mappings(1);
}

fn connected(lab: &mut Lab, side: &Side) -> Connection {
    let mut connection = Connection::new(lab, side, "a", [4000, 4000], (side.server, 80));
    connection.open(lab);
    connection
}

#[test]
fn one_unanswered_datagram_holds_its_mapping_for_five_minutes() {
    for side in &SIDES {
        let mut lab = campus_online();
        ask(&mut lab, side, Carried::Udp);
        pass(&mut lab, UDP_TIMEOUT - SECOND);
        // Whoever is answered as late as that still gets the answer.
        let [sent, arrived] = side.inward(&lab, side.server, "a");
        lab.send("wan", &Carried::Udp.answer(side, &sent, 5000, 4000))
            .arrives("a", &Carried::Udp.answer(side, &arrived, 5000, 4000))
            .moves(1);
        lab.advance(SECOND * 2).ends(1).mappings(-1);
    }
}

#[test]
fn who_is_refused_keeps_no_flow_alive() {
    for side in &SIDES {
        let mut lab = campus_online();
        ask(&mut lab, side, Carried::Udp);
        let [stranger, _] = side.inward(&lab, side.other_server, "a");
        let stranger = Carried::Udp.first(side, &stranger, 5000, 4000);
        pass(&mut lab, Duration::from_secs(200));
        for _ in 0..20 {
            lab.advance(SECOND);
            lab.send("wan", &stranger).drops("wan", Cause::Filtered);
        }
        lab.advance(UDP_TIMEOUT - Duration::from_secs(220) + SECOND)
            .ends(1)
            .mappings(-1);
        lab.send("wan", &stranger).drops("wan", Cause::Unsolicited);
    }
}

#[test]
fn who_is_let_in_but_not_answered_keeps_no_door_open() {
    for side in &SIDES {
        // The server knocks from one port after the other, each let in, none answered.
        let mut lab = campus_online();
        ask(&mut lab, side, Carried::Udp);
        let [sent, arrived] = side.inward(&lab, side.server, "a");
        let mut waited = Duration::ZERO;
        while waited + SECOND * 100 < UDP_TIMEOUT {
            lab.pass(SECOND * 100);
            lab.accept();
            waited += SECOND * 100;
            let port = 6000 + u16::try_from(waited.as_secs()).unwrap_or(0);
            lab.send("wan", &sent.udp(port, 4000, b"knock"))
                .arrives("a", &arrived.udp(port, 4000, b"knock"))
                .opens(1);
        }
        // What `a` itself has begun is over: so is what it permits, whatever is still knocking.
        lab.pass(UDP_TIMEOUT - waited + SECOND);
        lab.accept();
        lab.send("wan", &sent.udp(7000, 4000, b"knock"))
            .drops("wan", Cause::Filtered);
    }
}

#[test]
fn an_error_of_the_inside_keeps_no_flow_alive() {
    for side in &SIDES {
        let mut lab = campus_online();
        ask(&mut lab, side, Carried::Udp);
        pass(&mut lab, Duration::from_secs(200));
        let [there, here] = side.inward(&lab, side.server, "a");
        let answered = here.udp(5000, 4000, b"late");
        lab.send("wan", &there.udp(5000, 4000, b"late"))
            .arrives("a", &answered)
            .moves(1);
        // The program is gone: `a` says so, and outside hears it (RFC 7857 §7.1).
        let (kind, code, word) = Told::PortUnreachable.message(side.family);
        let [out, left] = side.outward(&lab, "a", side.server);
        let about = there.hop_limit(63).udp(5000, 4000, b"late");
        let sent = out.icmp_error(kind, code, word, &answered);
        let left = left.icmp_error(kind, code, word, &about);
        let question = side.question(lab.mac("wan"), side.leg, side.next_hop);
        lab.send("a", &sent)
            .holds(1)
            .neighbour("wan", side.next_hop, None, NeighbourState::Incomplete)
            .arrives("wan", &question);
        let answer = side.answer(NEXT_HOP_MAC, lab.mac("wan"), side.next_hop, side.leg);
        // It moves no session.
        lab.send("wan", &answer)
            .holds(-1)
            .neighbour(
                "wan",
                side.next_hop,
                Some(NEXT_HOP_MAC),
                NeighbourState::Reachable,
            )
            .arrives("wan", &left);
        lab.pass(UDP_TIMEOUT - Duration::from_secs(200) + SECOND);
        assert_eq!(lab.switch().nat().session_count(), 0);
    }
}

#[test]
fn an_error_about_a_query_neither_prolongs_nor_ends_it() {
    for side in &SIDES {
        for told in [Told::TimeExceeded, Told::HostUnreachable, Told::Prohibited] {
            let mut lab = campus_online();
            ask(&mut lab, side, Carried::Query);
            let [sent, left] = side
                .outward(&lab, "a", side.server)
                .map(|packet| Carried::Query.first(side, &packet, 4000, 0));
            lab.pass(ICMP_TIMEOUT - SECOND * 10);
            lab.accept();
            let (kind, code, word) = told.message(side.family);
            let [there, here] = side.inward(&lab, side.other_server, "a");
            let mut about = sent.clone();
            count_hop(&mut about);
            lab.send("wan", &there.icmp_error(kind, code, word, &left))
                .arrives("a", &here.icmp_error(kind, code, word, &about));
            // Still there.
            let [there, here] = side.inward(&lab, side.server, "a");
            lab.send("wan", &Carried::Query.answer(side, &there, 0, 4000))
                .arrives("a", &Carried::Query.answer(side, &here, 0, 4000))
                .moves(1);
            // And over when it would have been without.
            lab.pass(SECOND * 11);
            assert_eq!(lab.switch().nat().session_count(), 0, "{told:?}");
        }
    }
}

/// What a router does to a packet, as far as a quote of it shows.
fn count_hop(frame: &mut [u8]) {
    let summary = heddle_wire::Summary::parse(frame).expect("a test sends what is well-formed");
    let ip = *summary.ip().expect("a test sends IP");
    heddle_wire::decrement_hop_limit(frame, &ip);
}

#[test]
fn what_is_outside_the_window_restarts_no_timer() {
    for side in &SIDES {
        for flags in [RST, ACK] {
            let mut lab = campus_online();
            let mut connection = connected(&mut lab, side);
            pass(&mut lab, HOUR);
            connection.skip_back(1 << 30);
            let [sent, _] = connection.segment_back(flags, b"x");
            lab.send("wan", &sent).drops("wan", Cause::OutOfWindow);
            lab.advance(ESTABLISHED_TIMEOUT - HOUR - SECOND);
            lab.advance(SECOND * 2).ends(1).mappings(-1);
        }
    }
}

#[test]
fn a_reset_that_is_only_plausible_restarts_no_timer() {
    for side in &SIDES {
        let mut lab = campus_online();
        let mut connection = connected(&mut lab, side);
        pass(&mut lab, HOUR);
        // In the window, but not its edge: whoever is asked by it may answer (RFC 5961 §3.2).
        connection.skip_back(100);
        connection.back(&mut lab, RST, b"").moves(1);
        lab.advance(ESTABLISHED_TIMEOUT - HOUR - SECOND);
        lab.advance(SECOND * 2).ends(1).mappings(-1);
    }
}

#[test]
fn a_reset_of_the_inside_prolongs_nothing() {
    for side in &SIDES {
        // Not the plausible one.
        let mut lab = campus_online();
        let mut connection = connected(&mut lab, side);
        pass(&mut lab, HOUR);
        connection.skip_out(100);
        let frames = connection.segment_out(RST, b"");
        send_out_again(&mut lab, side, &frames);
        lab.pass(ESTABLISHED_TIMEOUT - HOUR + SECOND);
        assert_eq!(lab.switch().nat().session_count(), 0);
        // And the exact one leaves four minutes, whatever was left before.
        let mut lab = campus_online();
        let connection = connected(&mut lab, side);
        pass(&mut lab, HOUR);
        let frames = connection.segment_out(RST, b"");
        send_out_again(&mut lab, side, &frames);
        lab.pass(CLOSING_TIMEOUT - SECOND);
        assert_eq!(lab.switch().nat().session_count(), 1);
        lab.pass(SECOND * 2);
        assert_eq!(lab.switch().nat().session_count(), 0);
    }
}

#[test]
fn a_connection_is_kept_by_either_end() {
    for side in &SIDES {
        // RFC 5382 §5: idle is when neither speaks.
        let mut lab = campus_online();
        let mut connection = connected(&mut lab, side);
        pass(&mut lab, HOUR * 2);
        connection.back(&mut lab, ACK, b"still here").moves(1);
        lab.advance(HOUR * 2);
        let frames = connection.segment_out(ACK, b"so am I");
        send_out_again(&mut lab, side, &frames);
        lab.pass(ESTABLISHED_TIMEOUT - SECOND);
        assert_eq!(lab.switch().nat().session_count(), 1);
        lab.pass(SECOND * 2);
        assert_eq!(lab.switch().nat().session_count(), 0);
    }
}

#[test]
fn who_has_said_all_may_listen_for_hours_and_the_other_may_speak() {
    for side in &SIDES {
        // The server is done first; the host speaks on, each time after two hours.
        let mut lab = campus_online();
        let mut connection = connected(&mut lab, side);
        connection.back(&mut lab, FIN_ACK, b"").moves(1);
        pass(&mut lab, HOUR * 2);
        let frames = connection.segment_out(ACK, b"I am not done");
        send_out_again(&mut lab, side, &frames);
        lab.pass(HOUR * 2);
        lab.accept();
        assert_eq!(lab.switch().nat().session_count(), 1);
        connection.back(&mut lab, ACK, b"").moves(1);
    }
}

#[test]
fn after_a_reset_the_same_ports_open_again_at_once() {
    for side in &SIDES {
        for from_inside in [true, false] {
            let mut lab = campus_online();
            let mut connection = connected(&mut lab, side);
            if from_inside {
                connection.out(&mut lab, RST, b"").moves(1);
            } else {
                connection.back(&mut lab, RST, b"").moves(1);
            }
            connection.restart();
            connection.out(&mut lab, SYN, b"").moves(1);
            connection.back(&mut lab, SYN_ACK, b"").moves(1);
            connection.out(&mut lab, ACK, b"again").moves(1);
            pass(&mut lab, ESTABLISHED_TIMEOUT - SECOND);
            assert_eq!(lab.switch().nat().session_count(), 1);
        }
    }
}

#[test]
fn opening_and_closing_have_timers_of_their_own() {
    // RFC 7857 §2.1. Both may be no shorter than four minutes by default (RFC 5382 §5).
    assert!(OPENING_TIMEOUT >= Duration::from_secs(240));
    assert!(CLOSING_TIMEOUT >= Duration::from_secs(240));
    for side in &SIDES {
        // Opening is what is not acknowledged by whoever began, answered or not.
        let mut lab = campus_online();
        let mut connection = Connection::new(&lab, side, "a", [4000, 4000], (side.server, 80));
        connection.out(&mut lab, SYN, b"").opens(1).mappings(1);
        pass(&mut lab, OPENING_TIMEOUT - SECOND);
        connection.back(&mut lab, SYN_ACK, b"").moves(1);
        lab.advance(OPENING_TIMEOUT - SECOND);
        lab.advance(SECOND * 2).ends(1).mappings(-1);
        // Closing is what both have closed.
        let mut lab = campus_online();
        let mut connection = connected(&mut lab, side);
        pass(&mut lab, HOUR);
        connection.back(&mut lab, FIN_ACK, b"").moves(1);
        let frames = connection.segment_out(FIN_ACK, b"");
        send_out_again(&mut lab, side, &frames);
        lab.pass(CLOSING_TIMEOUT - SECOND);
        assert_eq!(lab.switch().nat().session_count(), 1);
        lab.pass(SECOND * 2);
        assert_eq!(lab.switch().nat().session_count(), 0);
    }
}

#[test]
fn a_syn_that_nobody_asked_for_is_met_with_silence() {
    for side in &SIDES {
        for (filtering, cause) in [
            (Filtering::Address, Cause::Unsolicited),
            (Filtering::AddressPort, Cause::Filtered),
        ] {
            let mut lab = campus_online_with(|plan| {
                plan.leg("wan")
                    .address("192.0.2.2/24")
                    .address("2001:db8:2::2/64")
                    .gateway(SIDES[0].next_hop)
                    .gateway(SIDES[1].next_hop)
                    .filtering(filtering);
            });
            if filtering == Filtering::AddressPort {
                // There is a mapping, but not for this peer.
                let other = (side.other_server, 80);
                let mut other = Connection::new(&lab, side, "a", [4000, 4000], other);
                other.open(&mut lab);
            }
            let mut connection = Connection::new(&lab, side, "a", [4000, 4000], (side.server, 80));
            let [knock, arrived] = connection.segment_back(SYN, b"");
            for _ in 0..3 {
                lab.send("wan", &knock).drops("wan", cause);
                // Nothing is sent, now or after six seconds (RFC 5382 §4.3 REQ-4).
                lab.advance(SECOND * 7);
            }
            // If the host wants the same connection, it gets it: both have opened it.
            let new = i64::from(filtering == Filtering::Address);
            connection.out(&mut lab, SYN, b"").opens(1).mappings(new);
            lab.send("wan", &knock).arrives("a", &arrived).moves(1);
            connection.skip_back(1);
            connection.out(&mut lab, ACK, b"").moves(1);
            connection.back(&mut lab, ACK, b"hello").moves(1);
        }
    }
}

#[test]
fn nobody_accepts_or_refuses_for_an_endpoint() {
    for side in &SIDES {
        let mut lab = campus_online_with(|plan| {
            for side in &SIDES {
                plan.publish("wan", Protocol::TCP, (side.leg, 8080), (side.a, 80));
            }
        });
        let ports = [80, 8080];
        let mut connection = Connection::new(&lab, side, "a", ports, (side.server, 7000));
        // It gets the SYN, and outside hears nothing until it says something.
        connection.back(&mut lab, SYN, b"").opens(1);
        lab.advance(SECOND * 10);
        connection.out(&mut lab, SYN_ACK, b"").moves(1);
        // A refusal is one, and says which SYN it refuses (RFC 9293 §3.5.2).
        let refused = Connection::new(&lab, side, "a", ports, (side.server, 7001));
        let [sent, arrived] = refused.segment_back(SYN, b"");
        lab.send("wan", &sent).arrives("a", &arrived).opens(1);
        let reset = |port| TcpHeader {
            source_port: port,
            destination_port: 7001,
            sequence: 0,
            acknowledgement: 0xffff_fff1,
            flags: RST.union(ACK),
            window: 0,
            options: Vec::new(),
        };
        let [out, left] = side.outward(&lab, "a", side.server);
        lab.send("a", &out.tcp(&reset(80), b""))
            .arrives("wan", &left.tcp(&reset(8080), b""))
            .moves(1);
    }
}

/// The two ends of a handshake, each with these options.
fn handshake(lab: &mut Lab, side: &Side, options: [&[u8]; 2]) {
    let [out, left] = side.outward(lab, "a", side.server);
    let [sent, arrived] = side.inward(lab, side.server, "a");
    let header = |ports: [u16; 2], numbers: [u32; 2], flags, options: &[u8]| TcpHeader {
        source_port: ports[0],
        destination_port: ports[1],
        sequence: numbers[0],
        acknowledgement: numbers[1],
        flags,
        window: 1000,
        options: options.to_vec(),
    };
    let syn = header([4000, 80], [0xdead_beef, 0], SYN, options[0]);
    lab.send("a", &out.tcp(&syn, b""))
        .arrives("wan", &left.tcp(&syn, b""))
        .opens(1)
        .mappings(1);
    let answer = header([80, 4000], [7, 0xdead_bef0], SYN_ACK, options[1]);
    lab.send("wan", &sent.tcp(&answer, b""))
        .arrives("a", &arrived.tcp(&answer, b""))
        .moves(1);
    let ack = header([4000, 80], [0xdead_bef0, 8], ACK, &[]);
    lab.send("a", &out.tcp(&ack, b""))
        .arrives("wan", &left.tcp(&ack, b""))
        .moves(1);
}

/// Largest segment, selective acknowledgements, time stamps, one octet of padding; and window scaling.
const OPTIONS: [u8; 20] = [
    2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 1, 1, 0,
];
const SCALE_BY_128: [u8; 4] = [3, 3, 7, 1];

#[test]
fn sequence_numbers_and_options_are_the_hosts_own() {
    for side in &SIDES {
        let mut lab = campus_online();
        handshake(&mut lab, side, [&OPTIONS, &OPTIONS]);
        let mut lab = campus_online();
        handshake(&mut lab, side, [&SCALE_BY_128, &OPTIONS]);
        let mut lab = campus_online();
        handshake(&mut lab, side, [&[], &[]]);
    }
}

#[test]
fn a_window_is_as_wide_as_both_ends_have_agreed() {
    for side in &SIDES {
        // The host has announced 1000, and both offer to count in units of 128: or only one does.
        for (options, wide) in [
            ([&SCALE_BY_128[..], &SCALE_BY_128[..]], true),
            ([&SCALE_BY_128[..], &[]], false),
        ] {
            let mut lab = campus_online();
            handshake(&mut lab, side, options);
            let [sent, arrived] = side.inward(&lab, side.server, "a");
            let data = TcpHeader {
                source_port: 80,
                destination_port: 4000,
                sequence: 8 + 100_000,
                acknowledgement: 0xdead_bef0,
                window: 1000,
                ..TcpHeader::default()
            };
            let frame = sent.tcp(&data, b"far ahead");
            if wide {
                lab.send("wan", &frame)
                    .arrives("a", &arrived.tcp(&data, b"far ahead"))
                    .moves(1);
            } else {
                lab.send("wan", &frame).drops("wan", Cause::OutOfWindow);
            }
        }
    }
}
