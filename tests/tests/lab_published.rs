//! Published ports: from outside, from inside by the outside address, and from the server itself.

use std::time::Duration;

use heddle_nat::{Filtering, UDP_TIMEOUT, Zone};
use heddle_switch::Cause;
use heddle_tests::lab::{
    Connection, Lab, Plan, SIDES, SYN_ACK, Side, Step, campus_online, campus_online_with,
};
use heddle_wire::builder::TcpHeader;
use heddle_wire::{Protocol, TcpFlags};

const SECOND: Duration = Duration::from_secs(1);

/// A second address of the leg.
const OTHER_LEG: [&str; 2] = ["192.0.2.3", "2001:db8:2::3"];

/// A campus that publishes something, on a leg with two addresses of each family.
fn published(publish: impl Fn(&mut Plan, &Side, &'static str)) -> Lab {
    campus_online_with(|plan| {
        plan.leg("wan")
            .address("192.0.2.2/24")
            .address("192.0.2.3/24")
            .address("2001:db8:2::2/64")
            .address("2001:db8:2::3/64")
            .gateway(SIDES[0].next_hop)
            .gateway(SIDES[1].next_hop);
        for (side, other) in SIDES.iter().zip(OTHER_LEG) {
            publish(plan, side, other);
        }
    })
}

/// One UDP port of `a`.
fn one() -> Lab {
    published(|plan, side, _| {
        let (outside, inside) = ((side.leg, 8053), (side.a, 53));
        plan.publish("wan", Protocol::UDP, outside, inside);
    })
}

/// A question from outside to a port of an address of the leg: who must get it, and at which port.
fn ask(lab: &mut Lab, side: &Side, to: (&str, u16), expected: Option<(&'static str, u16)>) {
    let sent = lab.to_wan().ip(side.server, to.0).udp(7000, to.1, b"q");
    match expected {
        Some((host, port)) => {
            let [_, arrived] = side.inward(lab, side.server, host);
            lab.send("wan", &sent)
                .arrives(host, &arrived.udp(7000, port, b"q"))
                .opens(1);
            let answer = lab.to_gateway(host).ip(side.host(host), side.server);
            let left = lab.from_wan().ip(to.0, side.server).hop_limit(63);
            lab.send(host, &answer.udp(port, 7000, b"a"))
                .arrives("wan", &left.udp(to.1, 7000, b"a"))
                .moves(1);
        }
        None => drop(lab.send("wan", &sent).drops("wan", Cause::Unsolicited)),
    }
}

#[test]
fn a_single_port_leads_to_its_endpoint_and_no_other_does() {
    for side in &SIDES {
        let mut lab = one();
        ask(&mut lab, side, (side.leg, 8053), Some(("a", 53)));
        for port in [53, 8052, 8054] {
            ask(&mut lab, side, (side.leg, port), None);
        }
    }
}

#[test]
fn a_range_leads_port_by_port() {
    for side in &SIDES {
        let mut lab = published(|plan, side, _| {
            let (outside, inside) = ((side.leg, 8000), (side.b, 9000));
            plan.publish_range("wan", Protocol::UDP, outside, inside, 10);
        });
        for offset in [0, 1, 9] {
            let to = (side.leg, 8000 + offset);
            ask(&mut lab, side, to, Some(("b", 9000 + offset)));
        }
        for port in [7999, 8010, 9000] {
            ask(&mut lab, side, (side.leg, port), None);
        }
    }
}

#[test]
fn one_port_of_two_addresses_leads_to_two_endpoints() {
    for (side, other) in SIDES.iter().zip(OTHER_LEG) {
        let mut lab = published(|plan, side, other| {
            plan.publish("wan", Protocol::UDP, (side.leg, 8053), (side.a, 53));
            plan.publish("wan", Protocol::UDP, (other, 8053), (side.d, 53));
        });
        ask(&mut lab, side, (side.leg, 8053), Some(("a", 53)));
        ask(&mut lab, side, (other, 8053), Some(("d", 53)));
    }
}

#[test]
fn a_port_of_one_protocol_is_not_one_of_another() {
    for side in &SIDES {
        let mut lab = published(|plan, side, _| {
            plan.publish("wan", Protocol::UDP, (side.leg, 8053), (side.a, 53));
            plan.publish("wan", Protocol::TCP, (side.leg, 8053), (side.d, 80));
        });
        ask(&mut lab, side, (side.leg, 8053), Some(("a", 53)));
        let mut connection = Connection::new(&lab, side, "d", [80, 8053], (side.server, 7000));
        connection.back(&mut lab, TcpFlags::SYN, b"").opens(1);
        connection.out(&mut lab, SYN_ACK, b"").moves(1);
        connection.back(&mut lab, TcpFlags::ACK, b"GET /").moves(1);
        connection.out(&mut lab, TcpFlags::ACK, b"200").moves(1);
    }
}

#[test]
fn what_is_withdrawn_is_not_reached_any_more() {
    for side in &SIDES {
        let mut lab = one();
        lab.reconfigure(Plan::unpublish);
        ask(&mut lab, side, (side.leg, 8053), None);
    }
}

#[test]
fn a_published_port_asks_for_no_permission() {
    for side in &SIDES {
        for filtering in [
            Filtering::Endpoint,
            Filtering::Address,
            Filtering::AddressPort,
        ] {
            let mut lab = campus_online_with(|plan| {
                plan.leg("wan")
                    .address("192.0.2.2/24")
                    .address("2001:db8:2::2/64")
                    .gateway(SIDES[0].next_hop)
                    .gateway(SIDES[1].next_hop)
                    .filtering(filtering);
                for side in &SIDES {
                    plan.publish("wan", Protocol::UDP, (side.leg, 8053), (side.a, 53));
                }
            });
            ask(&mut lab, side, (side.leg, 8053), Some(("a", 53)));
        }
    }
}

#[test]
fn a_server_that_speaks_first_is_known_by_its_published_port() {
    for side in &SIDES {
        let mut lab = one();
        let [sent, left] = side.outward(&lab, "a", side.server);
        lab.send("a", &sent.udp(53, 7000, b"notify"))
            .arrives("wan", &left.udp(8053, 7000, b"notify"))
            .opens(1);
    }
}

#[test]
fn nobody_gets_a_published_port_for_an_outward_flow() {
    for side in &SIDES {
        let mut lab = one();
        let [sent, _] = side.outward(&lab, "b", side.server);
        lab.send("b", &sent.udp(8053, 7000, b""))
            .busy("wan")
            .opens(1)
            .mappings(1);
        assert_ne!(lab.outside_port(Protocol::UDP, side.b, 8053), 8053);
        // The server still gets what is for its port, from the same peer as well.
        let sent = lab.to_wan().ip(side.server, side.leg);
        let [_, arrived] = side.inward(&lab, side.server, "a");
        lab.send("wan", &sent.udp(7000, 8053, b"q"))
            .arrives("a", &arrived.udp(7000, 53, b"q"))
            .opens(1);
    }
}

#[test]
fn either_end_keeps_an_exchange_with_a_published_port_alive() {
    for side in &SIDES {
        let mut lab = one();
        ask(&mut lab, side, (side.leg, 8053), Some(("a", 53)));
        let forgotten = |step: Step<'_>| {
            drop(SIDES.iter().fold(step, |step, side| {
                step.forgets_neighbour("wan", side.next_hop)
            }));
        };
        forgotten(lab.advance(UDP_TIMEOUT - SECOND));
        let sent = lab.to_wan().ip(side.server, side.leg);
        let [_, arrived] = side.inward(&lab, side.server, "a");
        lab.send("wan", &sent.udp(7000, 8053, b"still here"))
            .arrives("a", &arrived.udp(7000, 53, b"still here"))
            .moves(1);
        lab.advance(UDP_TIMEOUT - SECOND);
        lab.advance(SECOND * 2).ends(1);
    }
}

#[test]
fn from_inside_a_published_port_is_reached_by_the_outside_address() {
    for side in &SIDES {
        // In the same network, and in one that is isolated from it: published is published.
        for (host, own) in [("b", side.b), ("e", side.e)] {
            let mut lab = one();
            let sent = lab.to_gateway(host).ip(own, side.leg);
            let arrived = lab.from_gateway("a").ip(side.leg, side.a).hop_limit(63);
            lab.send(host, &sent.udp(4000, 8053, b"q"))
                .arrives("a", &arrived.udp(4000, 53, b"q"))
                .opens(1)
                .mappings(1);
            let answer = lab.to_gateway("a").ip(side.a, side.leg);
            let arrived = lab.from_gateway(host).ip(side.leg, own).hop_limit(63);
            lab.send("a", &answer.udp(53, 4000, b"a"))
                .arrives(host, &arrived.udp(8053, 4000, b"a"))
                .moves(1);
        }
    }
}

#[test]
fn an_endpoint_reaches_its_own_published_port() {
    for side in &SIDES {
        let mut lab = one();
        let sent = lab.to_gateway("a").ip(side.a, side.leg);
        let arrived = lab.from_gateway("a").ip(side.leg, side.a).hop_limit(63);
        lab.send("a", &sent.udp(4000, 8053, b"q"))
            .arrives("a", &arrived.udp(4000, 53, b"q"))
            .opens(1)
            .mappings(1);
        lab.send("a", &sent.udp(53, 4000, b"a"))
            .arrives("a", &arrived.udp(8053, 4000, b"a"))
            .moves(1);
    }
}

#[test]
fn what_is_not_published_is_refused_by_the_leg_itself() {
    for side in &SIDES {
        let mut lab = one();
        let sent = lab.to_gateway("b").ip(side.b, side.leg);
        let header = TcpHeader {
            source_port: 4000,
            destination_port: 8053,
            sequence: 99,
            acknowledgement: 0,
            flags: TcpFlags::SYN,
            ..TcpHeader::default()
        };
        let reset = TcpHeader {
            source_port: 8053,
            destination_port: 4000,
            sequence: 0,
            acknowledgement: 100,
            flags: TcpFlags::RST.union(TcpFlags::ACK),
            window: 0,
            options: Vec::new(),
        };
        let answer = lab.from_gateway("b").ip(side.leg, side.b);
        lab.send("b", &sent.tcp(&header, b""))
            .arrives("b", &answer.id(0).dont_fragment().tcp(&reset, b""))
            .drops("b", Cause::GatewayRefused);
    }
}

#[test]
fn two_endpoints_speak_by_their_outside_addresses() {
    for side in &SIDES {
        for filtering in [
            Filtering::Endpoint,
            Filtering::Address,
            Filtering::AddressPort,
        ] {
            let mut lab = campus_online_with(|plan| {
                plan.leg("wan")
                    .address("192.0.2.2/24")
                    .address("2001:db8:2::2/64")
                    .gateway(SIDES[0].next_hop)
                    .gateway(SIDES[1].next_hop)
                    .filtering(filtering);
            });
            let [sent, left] = side.outward(&lab, "d", side.server);
            lab.send("d", &sent.udp(6000, 3478, b"who am I"))
                .arrives("wan", &left.udp(6000, 3478, b"who am I"))
                .opens(1)
                .mappings(1);
            // The source is the outside address and port (RFC 4787 §6 REQ-9 a).
            let sent = lab.to_gateway("a").ip(side.a, side.leg);
            let arrived = lab.from_gateway("d").ip(side.leg, side.d).hop_limit(63);
            lab.send("a", &sent.udp(4000, 6000, b"hello"))
                .arrives("d", &arrived.udp(4000, 6000, b"hello"))
                .opens(1)
                .mappings(1);
            let sent = lab.to_gateway("d").ip(side.d, side.leg);
            let arrived = lab.from_gateway("a").ip(side.leg, side.a).hop_limit(63);
            lab.send("d", &sent.udp(6000, 4000, b"hello"))
                .arrives("a", &arrived.udp(6000, 4000, b"hello"))
                .moves(1);
        }
    }
}

#[test]
fn an_isolated_endpoint_is_a_stranger_by_the_outside_address_too() {
    for side in &SIDES {
        let mut lab = campus_online();
        let [sent, left] = side.outward(&lab, "a", side.server);
        lab.send("a", &sent.udp(4000, 3478, b""))
            .arrives("wan", &left.udp(4000, 3478, b""))
            .opens(1)
            .mappings(1);
        let sent = lab.to_gateway("e").ip(side.e, side.leg);
        lab.send("e", &sent.udp(6000, 4000, b"knock"))
            .drops("e", Cause::Filtered);
    }
}

#[test]
fn the_sessions_of_a_published_port_hold_no_outside_port() {
    for side in &SIDES {
        let mut lab = one();
        ask(&mut lab, side, (side.leg, 8053), Some(("a", 53)));
        let leg = side.leg.parse().unwrap();
        let in_use = |lab: &Lab| lab.switch().nat().ports_in_use(Zone(1), leg, Protocol::UDP);
        assert_eq!(in_use(&lab), 0);
        assert_eq!(lab.switch().nat().mapping_count(), 0);
    }
}

#[test]
fn a_published_port_of_an_endpoint_that_is_not_there_is_nobodys() {
    for side in &SIDES {
        let mut lab = one();
        let a = lab.mac("a");
        lab.reconfigure(|plan| plan.remove("a")).forgets("blue", a);
        let frame = lab.to_wan().ip(side.server, side.leg).udp(7000, 8053, b"q");
        let told = side.told(
            &lab.from_wan(),
            side.leg,
            side.server,
            heddle_tests::lab::Told::HostUnreachable,
            &frame,
        );
        lab.send("wan", &frame)
            .arrives("wan", &told)
            .drops("wan", Cause::HostUnknown);
    }
}

#[test]
fn link_local_strangers_ping_the_leg_and_get_no_further() {
    for (side, stranger) in SIDES.iter().zip(["169.254.7.7", "fe80::7"]) {
        let mut lab = one();
        let sent = lab.to_wan().ip(stranger, side.leg);
        lab.send("wan", &sent.udp(7000, 8053, b"q"))
            .drops("wan", Cause::MartianSource);
        let (request, reply) = side.echo();
        let answer = lab.from_wan().ip(side.leg, stranger);
        lab.send("wan", &sent.icmp(request, 0, 7, b"ping"))
            .arrives("wan", &answer.icmp(reply, 0, 7, b"ping"));
    }
}

#[test]
fn the_broadcast_address_of_the_link_is_nobodys_source() {
    let (side, mut lab) = (&SIDES[0], one());
    let sent = lab.to_wan().ip("192.0.2.255", side.leg);
    for frame in [sent.udp(7000, 8053, b"q"), sent.icmp(8, 0, 7, b"ping")] {
        lab.send("wan", &frame).drops("wan", Cause::MartianSource);
    }
}

#[test]
fn nobody_outside_has_an_address_that_is_routed_inside() {
    for (side, behind) in SIDES.iter().zip(["198.18.7.7", "2001:db8:7::7"]) {
        let mut lab = published(|plan, side, _| {
            plan.publish("wan", Protocol::UDP, (side.leg, 8053), (side.a, 53));
            let route = match side.family {
                heddle_wire::Family::V4 => "198.18.0.0/16",
                heddle_wire::Family::V6 => "2001:db8:7::/48",
            };
            plan.network("blue").route(route, side.b);
        });
        let sent = lab.to_wan().ip(behind, side.leg).udp(7000, 8053, b"q");
        lab.send("wan", &sent)
            .drops("wan", Cause::InsideFromOutside);
        ask(&mut lab, side, (side.leg, 8053), Some(("a", 53)));
    }
}
