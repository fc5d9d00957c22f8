//! Packets that rules are asked about.

use heddle_wire::builder::{Packet, TcpHeader};
use heddle_wire::{Family, TcpFlags};

use super::{A, B, D, SERVERS, Seed, WAN, from, link_to, own, raw, seed};
use crate::replay::frame_path::action::{Action, LinkEvent, Reply};
use crate::replay::frame_path::place;

/// Rules for what is routed, for what stays inside blue, and for both.
const ROUTED: Action = Action::Configure(9, 1);
const INSIDE: Action = Action::Configure(9, 2);
const BOTH: Action = Action::Configure(9, 3);
const NONE: Action = Action::Configure(9, 0);

pub(super) fn seeds() -> Vec<Seed> {
    let sides = [(Family::V4, 0, ""), (Family::V6, 1, "-v6")];
    let seeds = sides.map(|(family, index, suffix)| {
        let seeds = side(family, SERVERS[index]).into_iter();
        seeds.map(move |(name, actions)| (format!("{name}{suffix}"), actions))
    });
    seeds.into_iter().flatten().collect()
}

fn side(family: Family, server: &str) -> Vec<Seed> {
    let mut seeds = refused(family, server);
    seeds.extend(tracked(family, server));
    seeds.push(inside(family));
    seeds
}

/// A segment that opens a connection to a port.
fn syn(port: u16) -> TcpHeader {
    TcpHeader {
        source_port: 4000,
        destination_port: port,
        flags: TcpFlags::SYN,
        ..TcpHeader::default()
    }
}

fn answer(port: u8) -> Action {
    Action::Reply(Reply {
        port,
        ..Reply::default()
    })
}

fn refused(family: Family, server: &str) -> Vec<Seed> {
    let out = from(A, server);
    let to_d = from(A, &own(D, family).to_string());
    let rejected = vec![
        ROUTED,
        raw(A, &out.udp(4000, 9, b"q")),
        raw(A, &to_d.tcp(&syn(9), b"")),
    ];
    vec![
        seed(
            "filter-dropped",
            vec![ROUTED, raw(A, &out.udp(4000, 7, b"q"))],
        ),
        seed("filter-rejected", rejected),
    ]
}

fn tracked(family: Family, server: &str) -> Vec<Seed> {
    let out = from(A, server);
    let to_d = from(A, &own(D, family).to_string());
    let middle = TcpHeader {
        source_port: 4001,
        flags: TcpFlags::ACK,
        acknowledgement: 77,
        ..syn(80)
    };
    let within = vec![
        ROUTED,
        raw(A, &to_d.udp(4000, 53, b"q")),
        answer(D),
        raw(A, &to_d.tcp(&syn(80), b"")),
        answer(D),
        answer(A),
        raw(A, &to_d.tcp(&middle, b"data")),
        answer(D),
        NONE,
        answer(A),
        Action::Wait(5),
        BOTH,
        raw(A, &to_d.udp(4000, 53, b"q")),
        Action::Configure(5, D),
    ];
    let translated = vec![
        BOTH,
        raw(A, &out.udp(4000, 53, b"q")),
        answer(WAN),
        raw(A, &out.tcp(&syn(80), b"")),
        answer(WAN),
        answer(WAN),
        answer(A),
    ];
    vec![
        seed("filter-tracked", within),
        seed("filter-translated", translated),
    ]
}

fn inside(family: Family) -> Seed {
    let around = from(A, &own(B, family).to_string());
    let direct = direct(family);
    let actions = vec![
        INSIDE,
        raw(A, &direct.udp(4000, 53, b"q")),
        answer(B),
        raw(A, &direct.udp(4000, 7, b"q")),
        raw(A, &direct.udp(4000, 9, b"q")),
        raw(A, &direct.tcp(&syn(9), b"")),
        raw(A, &around.udp(4000, 7, b"q")),
        raw(A, &around.udp(4001, 53, b"q")),
        Action::Link(B, LinkEvent::Refuse),
        raw(A, &direct.udp(4002, 53, b"q")),
    ];
    seed("filter-inside", actions)
}

/// From a to b on their bridge.
fn direct(family: Family) -> Packet {
    let link = link_to(A, place::own_mac(usize::from(B)));
    link.ip(own(A, family), own(B, family))
}
