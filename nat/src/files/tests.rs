use heddle_wire::{Protocol, TcpFlags};

use super::Entry;
use crate::limits::Limits;
use crate::mapping::Filtering;
use crate::session::{Packet, Side};
use crate::table::Refusal;
use crate::tuple::{Direction, Zone};
use crate::world::{OUTSIDE, ROOMY, World, packet, segment, tuple};

#[test]
fn an_entry_survives_being_a_number() {
    for slot in [0, 1, 77, (1 << 30) - 1] {
        for direction in Direction::BOTH {
            let entry = Entry { slot, direction };
            assert_eq!(Entry::unpack(entry.pack()), entry);
        }
    }
}

#[test]
fn the_closing_are_given_up_before_the_unreplied_and_those_in_use_never() {
    let limits = Limits {
        sessions_per_owner: 4,
        ..ROOMY
    };
    for world in World::both(limits) {
        let peer = (world.peers[0], 80);
        let from = |port| (world.inside[0], port);
        let udp_lives = |port| {
            let tuple = tuple(Protocol::UDP, from(port), peer, Zone::INSIDE);
            world.nat.lookup(&tuple).is_some()
        };
        let connection = tuple(Protocol::TCP, from(4), peer, Zone::INSIDE);
        // In use, unreplied, unreplied, refused: in this order of age.
        for port in 1..=3 {
            world.port_of(Protocol::UDP, from(port), peer);
        }
        world
            .arrive(Protocol::UDP, peer, 1, Filtering::AddressPort)
            .unwrap();
        world.port_of(Protocol::TCP, from(4), peer);
        let refusal = Packet {
            segment: Some(segment(TcpFlags::RST | TcpFlags::ACK, 0, 1_001)),
            ..packet(Protocol::TCP)
        };
        let answer = tuple(Protocol::TCP, peer, (world.outside, 4), OUTSIDE);
        let hit = world.nat.lookup(&answer).unwrap();
        world.nat.commit(hit, &refusal, world.now).unwrap();

        world.port_of(Protocol::UDP, from(5), peer);
        assert!(world.nat.lookup(&connection).is_none());
        assert!([1, 2, 3, 5].into_iter().all(udp_lives));
        world.port_of(Protocol::UDP, from(6), peer);
        assert!(!udp_lives(2) && [1, 3, 5, 6].into_iter().all(udp_lives));
        for port in [3, 5, 6] {
            world
                .arrive(Protocol::UDP, peer, port, Filtering::AddressPort)
                .unwrap();
        }
        let refused = world.leave(Protocol::UDP, from(7), peer);
        assert_eq!(refused, Err(Refusal::OwnerQuota));
        assert_eq!(world.nat.sessions_of(Side(1)), 4);
        // That is nobody else's concern.
        world.port_of(Protocol::UDP, (world.inside[1], 7), peer);
        assert_eq!(world.nat.sessions_of(Side(2)), 1);
        world.end();
    }
}
