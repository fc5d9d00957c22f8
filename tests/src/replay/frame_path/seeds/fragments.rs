//! Datagrams in fragments: those that come together, and every way in which they do not.

use super::state::{FAMILIES, online, reply, udp};
use super::{A, B, Seed, WAN, seed};
use crate::replay::frame_path::action::{Action, Complain, Packet};

/// Shapes: the first 64 octets of a datagram; its end behind them.
const FIRST: u8 = 2;
const LAST: u8 = 3;

/// Shapes: first fragments of datagrams that are each another one; forty fragments behind each other.
const MANY: u8 = 8 + FIRST;
const TRAIN: u8 = 128 + LAST;

/// The receiver's place that is blue's gateway, and the one that is the leg.
const GATEWAY: u8 = 10;
const LEG: u8 = 15;

pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (suffix, v6) in FAMILIES {
        let named = |name: &str, actions| seed(&format!("{name}{suffix}"), actions);
        seeds.extend([
            named("fragments-out-and-back", out_and_back(v6)),
            named("fragments-reversed", reversed(v6)),
            named("fragments-wait-for-a-neighbour", waiting(v6)),
            named("fragments-to-the-gateway", echo(v6, GATEWAY)),
            named("fragments-hairpin", hairpin(v6)),
            named("fragments-of-a-port-that-goes", removed(v6)),
            named("fragments-complained-of", complained(v6)),
            named("fragment-overlap", overlap(v6)),
            named("fragment-duplicate", duplicate(v6)),
            named("fragments-too-many", too_many(v6)),
            named("fragment-quota", quota(v6)),
            named("fragment-incomplete", incomplete(v6)),
        ]);
    }
    seeds
}

fn first(packet: Packet) -> Action {
    Action::Packet(Packet {
        shape: FIRST,
        len: 7,
        ..packet
    })
}

fn last(packet: Packet) -> Action {
    Action::Packet(Packet {
        shape: LAST,
        len: 3,
        ..packet
    })
}

fn out_and_back(v6: u8) -> Vec<Action> {
    let back = Packet {
        port: WAN,
        source: 64,
        destination: v6 | LEG,
        source_port: 11,
        destination_port: 0,
        ..udp(v6)
    };
    let there = udp(v6);
    online(v6, vec![first(there), last(there), first(back), last(back)])
}

fn reversed(v6: u8) -> Vec<Action> {
    online(v6, vec![last(udp(v6)), first(udp(v6))])
}

fn waiting(v6: u8) -> Vec<Action> {
    vec![first(udp(v6)), last(udp(v6)), reply(WAN)]
}

/// An echo request of the longest kind that fits two small fragments, and one that never ends.
fn echo(v6: u8, to: u8) -> Vec<Action> {
    let request = Packet {
        protocol: 2,
        destination: v6 | to,
        ..Packet::default()
    };
    let other = Packet { port: B, ..request };
    vec![first(request), last(request), first(other), Action::Wait(3)]
}

fn hairpin(v6: u8) -> Vec<Action> {
    let inside = Packet {
        port: B,
        destination: v6 | LEG,
        destination_port: 1,
        ..udp(v6)
    };
    online(v6, vec![first(inside), last(inside)])
}

fn removed(v6: u8) -> Vec<Action> {
    online(
        v6,
        vec![
            first(udp(v6)),
            Action::Configure(5, A),
            Action::Configure(6, A),
            last(udp(v6)),
        ],
    )
}

fn complained(v6: u8) -> Vec<Action> {
    let complain = Action::Complain(Complain {
        port: WAN,
        ..Complain::default()
    });
    online(v6, vec![first(udp(v6)), last(udp(v6)), complain])
}

fn overlap(v6: u8) -> Vec<Action> {
    let longer = Packet {
        shape: FIRST,
        len: 9,
        ..udp(v6)
    };
    online(
        v6,
        vec![first(udp(v6)), Action::Packet(longer), last(udp(v6))],
    )
}

fn duplicate(v6: u8) -> Vec<Action> {
    online(v6, vec![first(udp(v6)), first(udp(v6)), last(udp(v6))])
}

fn too_many(v6: u8) -> Vec<Action> {
    let train = |number: u8| {
        Action::Packet(Packet {
            shape: TRAIN + number * 8,
            more: 39,
            ..udp(v6)
        })
    };
    (0..4).map(train).collect()
}

fn quota(v6: u8) -> Vec<Action> {
    let many = |number: u8| {
        Action::Packet(Packet {
            shape: MANY + number * 8,
            len: 1,
            more: 39,
            ..udp(v6)
        })
    };
    vec![many(0), many(1)]
}

fn incomplete(v6: u8) -> Vec<Action> {
    vec![first(udp(v6)), Action::Wait(3)]
}
