//! What the translation has only so much of: ports, sessions, an endpoint's share of them (RFC 4787
//! §4.2, RFC 6888 §3).

use std::time::Duration;

use heddle_nat::{Limits, REST};
use heddle_switch::{Cause, NeighbourState};
use heddle_tests::lab::{
    Connection, Lab, NEXT_HOP_MAC, SIDES, SYN_ACK, Side, Told, campus_online, campus_online_with,
};
use heddle_wire::{Protocol, TcpFlags};

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
fn a_returned_port_rests_before_somebody_else_gets_it() {
    for side in &SIDES {
        let mut lab = campus_online();
        exchange(&mut lab, side, "a", 4000, (side.server, 53));
        lab.end_sessions();
        let [sent, _] = side.outward(&lab, "b", side.server);
        let frame = sent.udp(4000, 53, b"");
        lab.send("b", &frame).busy("wan").opens(1).mappings(1);
        assert_ne!(lab.outside_port(Protocol::UDP, side.b, 4000), 4000);
        lab.end_sessions();
        // The one who had it may have it back at once.
        exchange(&mut lab, side, "a", 4000, (side.server, 53));
        lab.end_sessions();
        pass(&mut lab, REST);
        let question = side.question(lab.mac("wan"), side.leg, side.next_hop);
        lab.send("b", &frame)
            .holds(1)
            .neighbour("wan", side.next_hop, None, NeighbourState::Incomplete)
            .arrives("wan", &question);
        let answer = side.answer(NEXT_HOP_MAC, lab.mac("wan"), side.next_hop, side.leg);
        let [_, left] = side.outward(&lab, "b", side.server);
        let known = Some(NEXT_HOP_MAC);
        lab.send("wan", &answer)
            .holds(-1)
            .neighbour("wan", side.next_hop, known, NeighbourState::Reachable)
            .arrives("wan", &left.udp(4000, 53, b""))
            .opens(1)
            .mappings(1);
    }
}

#[test]
fn when_no_port_is_free_the_sender_is_told() {
    for side in &SIDES {
        let mut lab = campus_online();
        // All system ports, which stand in for each other only.
        let [sent, left] = side.outward(&lab, "a", side.server);
        let frames: Vec<_> = (1..1024).map(|port| sent.udp(port, 53, b"")).collect();
        let step = lab.send_all("a", &frames).opens(1023).mappings(1023);
        drop((1..1024).fold(step, |step, port| {
            step.arrives("wan", &left.udp(port, 53, b""))
        }));
        let [sent, _] = side.outward(&lab, "b", side.server);
        let frame = sent.udp(500, 53, b"");
        let told = side.told(
            &lab.from_gateway("b"),
            side.gateway,
            side.b,
            Told::Prohibited,
            &frame,
        );
        lab.send("b", &frame)
            .arrives("b", &told)
            .drops("b", Cause::PortsExhausted);
        // Whoever holds them gives up an unanswered one of its own.
        let [sent, left] = side.outward(&lab, "a", side.server);
        let other = lab.to_gateway("a").ip(side.a, side.other_server);
        lab.send("a", &sent.udp(77, 54, b""))
            .arrives("wan", &left.udp(77, 54, b""))
            .opens(1);
        let [_, left] = side.outward(&lab, "a", side.other_server);
        lab.send("a", &other.udp(77, 54, b""))
            .arrives("wan", &left.udp(77, 54, b""))
            .opens(1);
    }
}

/// A campus with room for few sessions.
fn small(sessions: u32, sessions_per_owner: u32) -> Lab {
    campus_online_with(|plan| {
        plan.sessions(Limits {
            sessions_per_owner,
            ..Limits::undivided(sessions)
        });
    })
}

#[test]
fn at_its_quota_an_endpoint_loses_its_own_oldest_unanswered_flow() {
    for side in &SIDES {
        let mut lab = small(100, 3);
        let [sent, left] = side.outward(&lab, "a", side.server);
        for port in 4000..4003 {
            lab.send("a", &sent.udp(port, 53, b""))
                .arrives("wan", &left.udp(port, 53, b""))
                .opens(1)
                .mappings(1);
        }
        exchange(&mut lab, side, "b", 5000, (side.server, 53));
        for port in 4003..4006 {
            lab.send("a", &sent.udp(port, 53, b""))
                .arrives("wan", &left.udp(port, 53, b""))
                .opens(1)
                .ends(1);
        }
        // The oldest went first: what is left are the last three.
        for port in 4003..4006 {
            assert_eq!(lab.outside_port(Protocol::UDP, side.a, port), port);
        }
    }
}

#[test]
fn at_its_quota_an_endpoint_that_connects_all_the_time_loses_what_is_over() {
    for side in &SIDES {
        let mut lab = small(100, 3);
        // Five ports in turn: each comes back when its last connection has been given up. Then two:
        // each comes back while that is still remembered.
        for number in 0..20 {
            let port = 4000 + if number < 12 { number % 5 } else { number % 2 };
            let mut connection = Connection::new(&lab, side, "a", [port; 2], (side.server, 80));
            for _ in 0..number {
                connection.restart();
            }
            let step = connection.out(&mut lab, TcpFlags::SYN, b"");
            match number {
                0..3 => drop(step.opens(1).mappings(1)),
                3..12 => drop(step.opens(1).ends(1)),
                _ => drop(step.moves(1)),
            }
            connection.back(&mut lab, SYN_ACK, b"").moves(1);
            connection
                .out(&mut lab, TcpFlags::ACK, b"question")
                .moves(1);
            connection.back(&mut lab, TcpFlags::ACK, b"answer").moves(1);
            connection.close(&mut lab);
        }
    }
}

#[test]
fn at_its_quota_an_endpoint_with_nothing_to_lose_is_refused_and_nobody_else() {
    for side in &SIDES {
        let mut lab = small(100, 2);
        for port in [4000, 4001] {
            exchange(&mut lab, side, "a", port, (side.server, 53));
        }
        let [sent, _] = side.outward(&lab, "a", side.server);
        let frame = sent.udp(4002, 53, b"");
        let told = side.told(
            &lab.from_gateway("a"),
            side.gateway,
            side.a,
            Told::Prohibited,
            &frame,
        );
        lab.send("a", &frame)
            .arrives("a", &told)
            .drops("a", Cause::EndpointQuota);
        exchange(&mut lab, side, "b", 4002, (side.server, 53));
    }
}

#[test]
fn a_full_table_takes_nothing_from_others() {
    for side in &SIDES {
        let mut lab = small(2, 2);
        for port in [4000, 4001] {
            exchange(&mut lab, side, "a", port, (side.server, 53));
        }
        let [sent, _] = side.outward(&lab, "b", side.server);
        let frame = sent.udp(4002, 53, b"");
        let told = side.told(
            &lab.from_gateway("b"),
            side.gateway,
            side.b,
            Told::Prohibited,
            &frame,
        );
        lab.send("b", &frame)
            .arrives("b", &told)
            .drops("b", Cause::SessionsExhausted);
    }
}
