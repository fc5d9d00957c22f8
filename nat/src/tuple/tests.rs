use heddle_mem::KeyedHash;
use heddle_wire::Protocol;

use super::{Direction, QUERIES, QUERY_KINDS, Tuple, Zone};
use crate::world::{OUTSIDE, ROOMY, World, tuple};

#[test]
fn the_inverse_of_the_inverse_is_the_tuple() {
    for world in World::both(ROOMY) {
        let (from, to) = ((world.inside[0], 1), (world.peers[0], 2));
        let there = tuple(Protocol::UDP, from, to, Zone::INSIDE);
        let back = tuple(Protocol::UDP, to, from, OUTSIDE);
        assert_eq!(there.inverse(OUTSIDE), back);
        assert_eq!(back.inverse(Zone::INSIDE), there);
    }
    for direction in Direction::BOTH {
        assert_eq!(Direction::BOTH[direction.index()], direction);
        assert_eq!(direction.inverse().inverse(), direction);
        assert_ne!(direction.inverse(), direction);
    }
}

#[test]
fn every_part_of_a_tuple_is_part_of_its_hash() {
    let hash = KeyedHash::new([7; 64]);
    for world in World::both(ROOMY) {
        let (from, to) = ((world.inside[0], 1), (world.peers[0], 2));
        let one = tuple(Protocol::UDP, from, to, Zone::INSIDE);
        let others = [
            Tuple {
                source: world.inside[1],
                ..one
            },
            Tuple {
                destination: world.peers[1],
                ..one
            },
            Tuple {
                source_port: 2,
                ..one
            },
            Tuple {
                destination_port: 1,
                ..one
            },
            Tuple {
                protocol: Protocol::TCP,
                ..one
            },
            Tuple {
                zone: OUTSIDE,
                ..one
            },
            one.inverse(Zone::INSIDE),
        ];
        for other in others {
            assert_ne!(other.hash(&hash), one.hash(&hash), "{other:?}");
        }
    }
}

#[test]
fn only_a_question_begins_a_query() {
    for world in World::both(ROOMY) {
        let (protocol, request) = world.echo;
        let (from, to) = ((world.inside[0], 77), (world.peers[0], request));
        let question = tuple(protocol, from, to, Zone::INSIDE);
        assert!(question.can_begin());
        assert!(!question.inverse(OUTSIDE).can_begin());
        for protocol in [Protocol::TCP, Protocol::UDP] {
            assert!(tuple(protocol, from, to, OUTSIDE).can_begin());
        }
    }
}

#[test]
fn no_identifier_outside_looks_like_a_question() {
    for (_, request, _) in QUERIES {
        assert!(QUERY_KINDS.contains(&u16::from(request)));
    }
    assert_eq!(QUERY_KINDS.len(), QUERIES.len());
}

#[test]
fn tuples_that_collide_under_another_secret_do_not_under_ours() {
    let (known, ours) = (KeyedHash::new([1; 64]), KeyedHash::new([2; 64]));
    for world in World::both(ROOMY) {
        // Whoever knows the code and a secret, but not ours, picks what falls into one bucket of 1,024.
        let every = (0..1_u32 << 18).map(|number| {
            let [_, _, high, low] = number.to_be_bytes();
            let from = (world.inside[0], u16::from_be_bytes([high, low]));
            let port = 1 + u16::try_from(number >> 16).unwrap();
            tuple(Protocol::UDP, from, (world.peers[0], port), Zone::INSIDE)
        });
        let crafted: Vec<Tuple> = every
            .filter(|tuple| tuple.hash(&known) % 1_024 == 0)
            .collect();
        assert!((150..400).contains(&crafted.len()), "{}", crafted.len());
        let mut buckets = [0; 64];
        for tuple in &crafted {
            buckets[usize::try_from(tuple.hash(&ours) % 64).unwrap()] += 1;
        }
        // Four in each on average; twenty in one are beyond chance.
        assert!(buckets.iter().all(|&count| count < 20), "{buckets:?}");
    }
}
