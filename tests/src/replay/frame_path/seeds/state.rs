//! What takes several packets: sessions, their limits and their ends, and neighbours.

use heddle_wire::TcpFlags;

use super::{A, B, C, D, E, SERVERS, Seed, WAN, from, raw, seed};
use crate::replay::frame_path::action::{Action, Complain, Packet, Reply};

const SYN: u8 = TcpFlags::SYN.0;
const ACK: u8 = TcpFlags::ACK.0;
const FIN: u8 = TcpFlags::FIN.0;
const RST: u8 = TcpFlags::RST.0;

/// In both families: what is done with this added to the receiver's place.
pub(super) const FAMILIES: [(&str, u8); 2] = [("", 0), ("-v6", Packet::V6)];

pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (suffix, v6) in FAMILIES {
        let named = |name: &str, actions| seed(&format!("{name}{suffix}"), actions);
        seeds.extend([
            named(
                "neighbour-unreachable",
                neighbour(v6, vec![Action::Wait(2)]),
            ),
            named("neighbour-queue-full", queue_full(v6)),
            named("out-of-window", out_of_window(v6)),
            named("filtered", filtered(v6)),
            named("error-unmatched", complaints(v6, 9)),
            named("error-translated", complaints(v6, 0)),
            named("path-mtu-implausible", small_path(v6)),
            named("endpoint-quota", quota(v6)),
            named("sessions-exhausted", exhausted(v6)),
            named("ports-exhausted", ports(v6)),
            named("tcp-closed-by-both", closed(v6)),
            named("tcp-closed-by-server", closed_by_server(v6)),
            named("tcp-reset", reset(v6)),
            named("tcp-reopened", reopened(v6)),
            named("published", published(v6)),
            named("hairpin", hairpin(v6)),
            named("long-silence", long_silence(v6)),
            named("hidden-host", hidden_host(v6)),
        ]);
    }
    seeds.push(seed("flow-conflict", conflict(0)));
    seeds.push(seed("flow-conflict-v6", conflict(1)));
    seeds
}

pub(super) fn reply(port: u8) -> Action {
    flagged(port, 0)
}

fn flagged(port: u8, flags: u8) -> Action {
    Action::Reply(Reply {
        port,
        flags,
        ..Reply::default()
    })
}

pub(super) fn udp(v6: u8) -> Packet {
    Packet {
        protocol: 1,
        destination: v6,
        destination_port: 11,
        ..Packet::default()
    }
}

/// A packet to a server; the next hop has not answered yet.
fn neighbour(v6: u8, then: Vec<Action>) -> Vec<Action> {
    let mut actions = vec![Action::Packet(udp(v6))];
    actions.extend(then);
    actions
}

/// The same with the next hop's answer.
pub(super) fn online(v6: u8, then: Vec<Action>) -> Vec<Action> {
    let mut actions = vec![reply(WAN)];
    actions.extend(then);
    neighbour(v6, actions)
}

fn queue_full(v6: u8) -> Vec<Action> {
    neighbour(
        v6,
        vec![Action::Packet(Packet { more: 8, ..udp(v6) }), reply(WAN)],
    )
}

fn syn(v6: u8) -> Action {
    Action::Packet(Packet {
        destination: v6,
        destination_port: 1,
        flags: SYN,
        sequence: 4,
        ..Packet::default()
    })
}

/// A connection to a server: SYN, SYN ACK, ACK.
fn connected(v6: u8, then: Vec<Action>) -> Vec<Action> {
    let mut actions = vec![syn(v6), reply(WAN), reply(A)];
    actions.extend(then);
    online(v6, actions)
}

fn out_of_window(v6: u8) -> Vec<Action> {
    let far = Action::Reply(Reply {
        port: WAN,
        off: 120,
        ..Reply::default()
    });
    connected(v6, vec![far])
}

fn filtered(v6: u8) -> Vec<Action> {
    // Only addresses and ports that were spoken to are let in, and this is another port.
    let other = Action::Reply(Reply {
        port: WAN,
        other_port: 1,
        ..Reply::default()
    });
    online(
        v6,
        vec![
            Action::Configure(2, 2),
            Action::Packet(udp(v6)),
            other.clone(),
            Action::Configure(2, 1),
            Action::Packet(udp(v6)),
            other,
        ],
    )
}

fn complaints(v6: u8, broken_at: u8) -> Vec<Action> {
    // In the quote of IPv4 the protocol, in that of IPv6 an address.
    let complain = Complain {
        port: WAN,
        sender: 18,
        broken_at: broken_at * if v6 == 0 { 1 } else { 2 },
        broken_by: if broken_at == 0 { 0 } else { 0x44 },
        ..Complain::default()
    };
    let unknown = if v6 == 0 {
        from(WAN, "192.0.2.2").icmp_error(3, 3, 0, &from(B, SERVERS[0]).udp(7, 7, b"12345678"))
    } else {
        from(WAN, "2001:db8:2::2").icmp_error(1, 4, 0, &from(B, SERVERS[1]).udp(7, 7, b"12345678"))
    };
    let mut actions = vec![Action::Packet(udp(v6)), Action::Complain(complain)];
    if broken_at != 0 {
        actions.push(raw(WAN, &unknown));
    }
    online(v6, actions)
}

/// A path that is said to carry less than any does.
fn small_path(v6: u8) -> Vec<Action> {
    let error = if v6 == 0 {
        from(WAN, "192.0.2.2").icmp_error(3, 4, 100, &from(B, SERVERS[0]).udp(7, 7, b"12345678"))
    } else {
        from(WAN, "2001:db8:2::2").icmp_error(
            2,
            0,
            100,
            &from(B, SERVERS[1]).udp(7, 7, b"12345678"),
        )
    };
    online(v6, vec![raw(WAN, &error)])
}

fn all_answered() -> Action {
    Action::Reply(Reply {
        port: WAN,
        all: 1,
        ..Reply::default()
    })
}

/// More flows than one endpoint may have, all of them answered.
fn quota(v6: u8) -> Vec<Action> {
    let many = Packet {
        more: 15,
        source_port: 9,
        ..udp(v6)
    };
    online(
        v6,
        vec![
            Action::Wait(7),
            Action::Packet(Packet { ..udp(v6) }),
            reply(WAN),
            Action::Packet(many),
            all_answered(),
            Action::Packet(Packet {
                source_port: 10,
                ..many
            }),
        ],
    )
}

/// Two endpoints fill the table, a third finds no room.
fn exhausted(v6: u8) -> Vec<Action> {
    let many = Packet {
        more: 14,
        source_port: 9,
        ..udp(v6)
    };
    let mut actions = Vec::new();
    for port in [A, D] {
        actions.push(Action::Packet(Packet { port, ..many }));
        actions.push(all_answered());
    }
    actions.push(Action::Packet(Packet { port: E, ..many }));
    online(v6, actions)
}

/// Every UDP port is published: none is left for a mapping.
fn ports(v6: u8) -> Vec<Action> {
    online(
        v6,
        vec![
            Action::Configure(0, 2),
            Action::Packet(Packet {
                source_port: 9,
                ..udp(v6)
            }),
        ],
    )
}

fn closed(v6: u8) -> Vec<Action> {
    connected(
        v6,
        vec![
            flagged(WAN, ACK),
            flagged(A, FIN | ACK),
            flagged(WAN, ACK),
            flagged(WAN, FIN | ACK),
            flagged(A, ACK),
            Action::Wait(6),
        ],
    )
}

fn closed_by_server(v6: u8) -> Vec<Action> {
    connected(
        v6,
        vec![
            flagged(WAN, FIN | ACK),
            flagged(A, ACK),
            flagged(A, FIN | ACK),
            flagged(WAN, ACK),
            // The port of the other side is used again.
            flagged(WAN, SYN),
            flagged(A, SYN | ACK),
            flagged(WAN, ACK),
        ],
    )
}

fn reset(v6: u8) -> Vec<Action> {
    connected(v6, vec![flagged(WAN, RST | ACK), Action::Wait(6)])
}

fn reopened(v6: u8) -> Vec<Action> {
    connected(
        v6,
        vec![
            flagged(WAN, ACK),
            flagged(A, RST | ACK),
            syn(v6),
            flagged(WAN, SYN | ACK),
            flagged(A, ACK),
        ],
    )
}

/// From outside to a published port.
fn published(v6: u8) -> Vec<Action> {
    let outside = Packet {
        port: WAN,
        destination: 15 | v6,
        destination_port: 1,
        flags: SYN,
        ..Packet::default()
    };
    vec![
        Action::Packet(outside),
        reply(B),
        reply(WAN),
        flagged(WAN, ACK),
        reply(B),
        Action::Configure(0, 0),
        flagged(WAN, ACK),
    ]
}

/// From inside to the leg's own address.
fn hairpin(v6: u8) -> Vec<Action> {
    let inside = Packet {
        destination: 15 | v6,
        destination_port: 1,
        flags: SYN,
        ..Packet::default()
    };
    vec![
        Action::Packet(inside),
        reply(B),
        reply(A),
        Action::Complain(Complain {
            port: B,
            code: 3,
            ..Complain::default()
        }),
        Action::Packet(Packet {
            destination_port: 9,
            ..inside
        }),
    ]
}

fn long_silence(v6: u8) -> Vec<Action> {
    connected(
        v6,
        vec![
            Action::Wait(9),
            flagged(A, ACK),
            reply(WAN),
            Action::Wait(3),
        ],
    )
}

/// A host behind an endpoint without port security.
fn hidden_host(v6: u8) -> Vec<Action> {
    let to_hidden = Packet {
        port: D,
        destination: 8 | v6,
        protocol: 1,
        ..Packet::default()
    };
    vec![
        Action::Packet(to_hidden),
        reply(C),
        Action::Packet(to_hidden),
        Action::Configure(6, C),
        Action::Packet(to_hidden),
        Action::Wait(2),
    ]
}

/// One inside port is published twice; a client may speak to it through one of them.
fn conflict(family: usize) -> Vec<Action> {
    let leg = ["192.0.2.2", "2001:db8:2::2"][family];
    let to = |port| raw(WAN, &from(WAN, leg).udp(5000, port, b"query"));
    vec![to(80), to(81), reply(B)]
}
