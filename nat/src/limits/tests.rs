use heddle_wire::{Protocol, TcpFlags};

use super::{Holdings, KEPT_BACK, Limits};
use crate::mapping::Filtering;
use crate::session::{Packet, Side};
use crate::table::Refusal;
use crate::tuple::Zone;
use crate::world::{OUTSIDE, ROOMY, World, packet, segment, tuple};

/// The port that is published.
const PORT: u16 = 80;

fn numbers(count: u16) -> std::ops::Range<u16> {
    10_000..10_000 + count
}

#[test]
fn a_flood_of_syns_from_inside_replaces_its_own_oldest() {
    let limits = Limits {
        half_open_per_owner: 8,
        ..ROOMY
    };
    for mut world in World::both(limits) {
        let peer = (world.peers[0], PORT);
        let neighbour = (world.inside[1], 5);
        world.port_of(Protocol::TCP, neighbour, peer);
        let asked = (world.inside[0], 6);
        world.port_of(Protocol::UDP, asked, peer);
        for port in numbers(500) {
            world.port_of(Protocol::TCP, (world.inside[0], port), peer);
        }
        let held = world.nat.holdings_of(Side(1));
        assert_eq!((held.half_open, held.evicted), ([8, 0], 492));
        assert_eq!((held.sessions, held.mappings), (9, 9));
        let lives = |protocol, from| {
            let tuple = tuple(protocol, from, peer, Zone::INSIDE);
            world.nat.lookup(&tuple).is_some()
        };
        assert!(lives(Protocol::TCP, neighbour) && lives(Protocol::UDP, asked));
        let last = numbers(500).rev().take(8);
        assert!(
            last.into_iter()
                .all(|port| lives(Protocol::TCP, (world.inside[0], port)))
        );
        world.pass(301);
        world.port_of(Protocol::TCP, (world.inside[0], 9), peer);
        world.end();
    }
}

#[test]
fn a_flood_of_syns_from_outside_costs_nothing_that_was_begun_inside_or_is_in_use() {
    let limits = Limits {
        sessions_per_owner: 64,
        half_open_per_owner: 16,
        ..ROOMY
    };
    for world in World::both(limits) {
        let peer = (world.peers[1], 443);
        let own = |port| (world.inside[0], port);
        world.port_of(Protocol::TCP, own(1), peer);
        world.port_of(Protocol::UDP, own(2), peer);
        world.shake((world.peers[2], 7), PORT).unwrap();
        for number in 0..1_000 {
            let stranger = (world.stranger(number), 9);
            world.knock(Protocol::TCP, stranger, PORT).unwrap();
        }
        let held = world.nat.holdings_of(Side(1));
        assert_eq!((held.half_open, held.from_outside), ([1, 16], 17));
        assert_eq!((held.sessions, held.evicted), (19, 984));
        let lives = |protocol, from, to, zone| {
            let tuple = tuple(protocol, from, to, zone);
            world.nat.lookup(&tuple).is_some()
        };
        assert!(lives(Protocol::TCP, own(1), peer, Zone::INSIDE));
        assert!(lives(Protocol::UDP, own(2), peer, Zone::INSIDE));
        let door = (world.outside, PORT);
        assert!(lives(Protocol::TCP, (world.peers[2], 7), door, OUTSIDE));
        world.end();
    }
}

#[test]
fn a_flood_from_one_network_replaces_itself() {
    let limits = Limits {
        half_open_per_owner: 256,
        ..ROOMY
    };
    for world in World::both(limits) {
        // One that is slow to answer, in each of twenty networks.
        for number in 1..=20 {
            let honest = (world.stranger(number), 9);
            world.knock(Protocol::TCP, honest, PORT).unwrap();
        }
        for port in numbers(5_000) {
            let attacker = (world.peers[0], port);
            world.knock(Protocol::TCP, attacker, PORT).unwrap();
        }
        let waits = |number: &u32| {
            let honest = (world.stranger(*number), 9);
            let door = (world.outside, PORT);
            let tuple = tuple(Protocol::TCP, honest, door, OUTSIDE);
            world.nat.lookup(&tuple).is_some()
        };
        // One network in 64 shares the attacker's list.
        let still = (1..=20).filter(waits).count();
        assert!(still >= 18, "{still}");
        assert_eq!(world.nat.holdings_of(Side(1)).half_open, [0, 256]);
        world.end();
    }
}

#[test]
fn strangers_leave_an_endpoint_room_for_sessions_of_its_own() {
    let limits = Limits {
        sessions_per_owner: 64,
        ..ROOMY
    };
    for world in World::both(limits) {
        let taken = (0..64)
            .map(|port| world.shake((world.peers[0], 100 + port), PORT))
            .filter(Result::is_ok)
            .count();
        assert_eq!(taken, 56);
        let one_more = world.shake((world.peers[0], 99), PORT);
        assert_eq!(one_more, Err(Refusal::OwnerQuota));
        for port in numbers(8) {
            world.port_of(Protocol::UDP, (world.inside[0], port), (world.peers[0], 53));
        }
        assert_eq!(world.nat.sessions_of(Side(1)), 64);
        world.end();
    }
}

#[test]
fn what_strangers_ask_costs_nothing_that_was_asked_inside() {
    let limits = Limits {
        sessions_per_owner: 16,
        ..ROOMY
    };
    for world in World::both(limits) {
        let peer = (world.peers[1], 53);
        for port in numbers(4) {
            world.port_of(Protocol::UDP, (world.inside[0], port), peer);
        }
        for number in 0..200 {
            let stranger = (world.stranger(number), 9);
            world.knock(Protocol::UDP, stranger, PORT).unwrap();
        }
        let lives = |port| {
            let tuple = tuple(Protocol::UDP, (world.inside[0], port), peer, Zone::INSIDE);
            world.nat.lookup(&tuple).is_some()
        };
        assert!(numbers(4).all(lives));
        // But the inside may have the room of strangers.
        for port in numbers(16) {
            world.port_of(Protocol::UDP, (world.inside[0], port), peer);
        }
        assert!(numbers(16).all(lives));
        assert_eq!(world.nat.holdings_of(Side(1)).from_outside, 0);
        world.end();
    }
}

#[test]
fn the_last_of_the_table_is_for_those_who_have_little() {
    let limits = Limits {
        sessions: 64,
        guaranteed_per_owner: 4,
        ..ROOMY
    };
    for world in World::both(limits) {
        let peer = (world.peers[0], PORT);
        let open = |host: usize, port| {
            let from = (world.inside[host], port);
            world.leave(Protocol::UDP, from, peer)?;
            world.arrive(Protocol::UDP, peer, port, Filtering::AddressPort)
        };
        let taken = numbers(64)
            .map(|port| open(0, port))
            .filter(Result::is_ok)
            .count();
        assert_eq!(taken, 56);
        let kept_back: Vec<_> = (0..6).map(|port| open(1, port + 1)).collect();
        // Four are guaranteed; after that it has as little a right to the rest as the other.
        let got = kept_back.iter().filter(|result| result.is_ok()).count();
        assert_eq!(got, 4);
        assert_eq!(kept_back[5], Err(Refusal::SessionsExhausted));
        world.end();
    }
}

#[test]
fn a_tuple_that_is_used_again_counts_as_half_open() {
    let limits = Limits {
        half_open_per_owner: 4,
        ..ROOMY
    };
    for world in World::both(limits) {
        let peer = (world.peers[0], PORT);
        let reset = |from| {
            let segment = Some(segment(TcpFlags::RST | TcpFlags::ACK, 0, 1_001));
            let packet = Packet {
                segment,
                ..packet(Protocol::TCP)
            };
            let answer = tuple(Protocol::TCP, peer, from, OUTSIDE);
            let hit = world.nat.lookup(&answer).unwrap();
            world.nat.commit(hit, &packet, world.now).unwrap();
        };
        for port in numbers(12) {
            world.port_of(Protocol::TCP, (world.inside[0], port), peer);
            reset((world.outside, port));
        }
        let before = Holdings {
            sessions: 12,
            mappings: 12,
            ..Holdings::default()
        };
        assert_eq!(world.nat.holdings_of(Side(1)), before);
        for port in numbers(12) {
            world.port_of(Protocol::TCP, (world.inside[0], port), peer);
        }
        let after = world.nat.holdings_of(Side(1));
        assert_eq!((after.half_open, after.evicted), ([4, 0], 8));
        world.end();
    }
}

#[test]
fn what_is_full_takes_no_more_memory_than_was_said() {
    let limits = Limits {
        guaranteed_per_owner: 1,
        ..ROOMY
    };
    for world in World::both(limits) {
        let empty = world.nat.memory();
        for port in numbers(10_000) {
            let from = (world.inside[usize::from(port % 2)], port);
            let _ = world.leave(Protocol::UDP, from, (world.peers[0], PORT));
            let stranger = (world.stranger(u32::from(port)), 9);
            let _ = world.knock(Protocol::TCP, stranger, PORT);
        }
        let limit = limits.sessions - limits.sessions / KEPT_BACK;
        assert_eq!(world.nat.session_count(), limit);
        let (memory, bound) = (world.nat.memory(), world.nat.memory_bound(10));
        assert!(memory <= bound, "{memory} > {bound}");
        // It is a bound that means something.
        assert!(bound < 3 * (memory - empty) + (6 << 20), "{bound} {memory}");
        world.end();
    }
}

#[test]
fn who_is_gone_is_forgotten_and_who_is_not_is_not() {
    let limits = Limits {
        half_open_per_owner: 1,
        ..ROOMY
    };
    for world in World::both(limits) {
        for port in numbers(3) {
            let from = (world.inside[0], port);
            world.port_of(Protocol::TCP, from, (world.peers[0], PORT));
        }
        world.nat.forget_owner(Side(1));
        assert_eq!(world.nat.holdings_of(Side(1)).evicted, 2);
        world.nat.flush(world.now, |_| true);
        world.nat.forget_owner(Side(1));
        assert_eq!(world.nat.holdings_of(Side(1)), Holdings::default());
    }
}
