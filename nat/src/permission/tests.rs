use heddle_mem::{KeyedHash, Slab};
use heddle_wire::{Address, Protocol};

use super::Permissions;
use crate::mapping::Found;
use crate::session::{Held, Session, Side};
use crate::tuple::Zone;
use crate::world::{LEG, OUTSIDE, ROOMY, World, tuple};

/// Sessions of one mapping, and the permissions they give.
struct Book {
    hash: KeyedHash,
    sessions: Slab<Session>,
    permissions: Permissions,
    mapping: Found,
}

impl Book {
    fn new(world: &World, limit: u32) -> Book {
        Book {
            hash: KeyedHash::new([3; 64]),
            sessions: Slab::new(100),
            permissions: Permissions::new(limit),
            mapping: Found {
                id: 5,
                protocol: Protocol::UDP,
                zone: OUTSIDE,
                inside: world.inside[0],
                inside_port: 5_000,
                outside: world.outside,
                outside_port: 6_000,
                owner: Side(1),
            },
        }
    }

    fn grant(&mut self, peer: Address, port: u16) -> u32 {
        let Found {
            inside,
            inside_port,
            outside,
            outside_port,
            ..
        } = self.mapping;
        let endpoint = (inside, inside_port);
        let original = tuple(Protocol::UDP, endpoint, (peer, port), Zone::INSIDE);
        let reply = tuple(
            Protocol::UDP,
            (peer, port),
            (outside, outside_port),
            OUTSIDE,
        );
        let slot = self.sessions.allocate().unwrap();
        let session = Session::new(&original, &reply, [Side(1), LEG], Held::Source(5));
        *self.sessions.lock(slot) = session;
        self.permissions
            .grant(&self.hash, &self.sessions, &self.mapping, peer, slot);
        slot
    }

    fn revoke(&mut self, peer: Address, slot: u32) {
        self.permissions
            .revoke(&self.hash, &self.sessions, &self.mapping, peer, slot);
        self.sessions.free(slot);
    }

    fn contains(&self, peer: Address) -> bool {
        self.permissions
            .contains(&self.hash, &self.sessions, &self.mapping, peer)
    }
}

#[test]
fn a_permission_counts_the_sessions_that_give_it() {
    // Without room for shared records every session stands in the index itself.
    for (limit, entries) in [(10, 1), (0, 4)] {
        for world in World::both(ROOMY) {
            let [peer, other, _] = world.peers;
            for turn in 0..4 {
                let mut book = Book::new(&world, limit);
                let mut slots: Vec<u32> = (1..=4).map(|port| book.grant(peer, port)).collect();
                assert!(book.contains(peer) && !book.contains(other));
                assert_eq!(book.permissions.index.len(), entries);
                slots.rotate_left(turn);
                for slot in slots {
                    assert!(book.contains(peer));
                    book.revoke(peer, slot);
                }
                assert!(!book.contains(peer));
                assert_eq!(book.permissions.index.len(), 0);
                assert_eq!(book.permissions.shared.len(), 0);
            }
        }
    }
}

#[test]
fn a_permission_of_one_mapping_is_none_of_another() {
    for world in World::both(ROOMY) {
        let mut book = Book::new(&world, 10);
        for port in 1..=2 {
            book.grant(world.peers[0], port);
            let other = Found {
                id: 6,
                inside_port: 5_001,
                outside_port: 6_001,
                ..book.mapping
            };
            let mine = std::mem::replace(&mut book.mapping, other);
            assert!(!book.contains(world.peers[0]));
            book.mapping = mine;
            assert!(book.contains(world.peers[0]));
        }
    }
}
