use heddle_wire::Protocol;

use super::Filtering;
use crate::limits::Limits;
use crate::session::Side;
use crate::table::Refusal;
use crate::world::{LEG, OUTSIDE, ROOMY, World};

const BOTH: [Protocol; 2] = [Protocol::TCP, Protocol::UDP];

/// System ports, which stand in for each other only (1 to 1023).
const SYSTEM_PORTS: u16 = 1_023;

#[test]
fn a_mapping_does_not_depend_on_whom_the_endpoint_speaks_to() {
    // RFC 4787 §4.1 REQ-1.
    for world in World::both(ROOMY) {
        let [first, second] = world.inside;
        for protocol in BOTH {
            // Another endpoint has the same port number, so this one gets another.
            world.port_of(protocol, (second, 5_000), (world.peers[0], 1));
            let port = world.port_of(protocol, (first, 5_000), (world.peers[0], 1));
            assert_ne!(port, 5_000);
            for peer in world.peers {
                for peer_port in [1, 443, 50_000] {
                    let again = world.port_of(protocol, (first, 5_000), (peer, peer_port));
                    assert_eq!(again, port);
                }
            }
            // But it does on the endpoint's port.
            assert_ne!(
                world.port_of(protocol, (first, 5_001), (world.peers[0], 1)),
                port
            );
        }
        assert_eq!(world.nat.mapping_count(), 6);
        world.end();
    }
}

#[test]
fn a_port_keeps_its_number_if_that_is_free() {
    for world in World::both(ROOMY) {
        let [first, second] = world.inside;
        for protocol in BOTH {
            assert_eq!(
                world.port_of(protocol, (first, 5_000), (world.peers[0], 1)),
                5_000
            );
            assert_ne!(
                world.port_of(protocol, (second, 5_000), (world.peers[0], 1)),
                5_000
            );
            assert_eq!(world.nat.ports_in_use(OUTSIDE, world.outside, protocol), 2);
        }
        world.end();
    }
}

#[test]
fn whom_a_mapping_lets_in_is_a_matter_of_filtering() {
    use Filtering::{Address, AddressPort, Endpoint};
    for world in World::both(ROOMY) {
        let [asked, other, _] = world.peers;
        for protocol in BOTH {
            let port = world.port_of(protocol, (world.inside[0], 5_000), (asked, 53));
            let mut sources = 10_000;
            let mut from = |peer, filtering| {
                sources += 1;
                world
                    .arrive(protocol, (peer, sources), port, filtering)
                    .map(drop)
            };
            assert_eq!(from(asked, AddressPort), Err(Refusal::Filtered));
            assert_eq!(from(other, AddressPort), Err(Refusal::Filtered));
            assert_eq!(from(asked, Address), Ok(()));
            assert_eq!(from(other, Address), Err(Refusal::Filtered));
            assert_eq!(from(asked, Endpoint), Ok(()));
            assert_eq!(from(other, Endpoint), Ok(()));
            // A port that nobody has.
            let stranger = world.arrive(protocol, (asked, 53), port + 1, Endpoint);
            assert_eq!(stranger, Err(Refusal::Unsolicited));
        }
        world.end();
    }
}

#[test]
fn only_an_answer_makes_an_outsider_somebody_that_was_spoken_to() {
    for world in World::both(ROOMY) {
        let [asked, other, _] = world.peers;
        let endpoint = (world.inside[0], 5_000);
        let port = world.port_of(Protocol::UDP, endpoint, (asked, 53));
        let knock = |source, filtering| {
            let result = world.arrive(Protocol::UDP, (other, source), port, filtering);
            result.map(|rewrite| (rewrite.destination, rewrite.destination_port))
        };
        assert_eq!(knock(1, Filtering::Endpoint), Ok(endpoint));
        assert_eq!(knock(2, Filtering::Address), Err(Refusal::Filtered));
        assert_eq!(world.port_of(Protocol::UDP, endpoint, (other, 1)), port);
        assert_eq!(knock(2, Filtering::Address), Ok(endpoint));
        world.end();
    }
}

#[test]
fn a_permission_lasts_as_long_as_the_last_session_that_gives_it() {
    for mut world in World::both(ROOMY) {
        let endpoint = (world.inside[0], 5_000);
        let [peer, keeper, _] = world.peers;
        // More sessions than a mapping remembers itself, to one address.
        for peer_port in 1..=20 {
            world.port_of(Protocol::UDP, endpoint, (peer, peer_port));
        }
        for _ in 0..4 {
            world.pass(200);
            world.port_of(Protocol::UDP, endpoint, (keeper, 1));
            world.port_of(Protocol::UDP, endpoint, (peer, 7));
        }
        assert_eq!(world.nat.session_count(), 2, "of 21");
        let arrive = |world: &World| {
            world
                .arrive(Protocol::UDP, (peer, 999), 5_000, Filtering::Address)
                .map(drop)
        };
        assert_eq!(arrive(&world), Ok(()));
        for _ in 0..4 {
            world.pass(200);
            world.port_of(Protocol::UDP, endpoint, (keeper, 1));
        }
        assert_eq!(arrive(&world), Err(Refusal::Filtered));
        world.end();
    }
}

#[test]
fn what_comes_from_outside_does_not_keep_a_mapping() {
    // RFC 4787 §4.3 REQ-6.
    for mut world in World::both(ROOMY) {
        let peer = (world.peers[0], 1);
        let port = world.port_of(Protocol::UDP, (world.inside[0], 5_000), peer);
        world.pass(299);
        world
            .arrive(Protocol::UDP, peer, port, Filtering::AddressPort)
            .unwrap();
        world.pass(2);
        assert_eq!(world.nat.mapping_count(), 0);
        world.end();
    }
}

#[test]
fn a_port_rests_for_two_minutes_except_for_who_had_it() {
    // RFC 6888 §3 REQ-8.
    for mut world in World::both(ROOMY) {
        let [first, second] = world.inside;
        let peer = (world.peers[0], 1);
        for protocol in BOTH {
            world.port_of(protocol, (first, 5_000), peer);
        }
        world.pass(301);
        assert_eq!(world.nat.mapping_count(), 0);
        for protocol in BOTH {
            assert_ne!(world.port_of(protocol, (second, 5_000), peer), 5_000);
            assert_eq!(world.port_of(protocol, (first, 5_000), peer), 5_000);
        }
        world.pass(301);
        world.pass(121);
        for protocol in BOTH {
            assert_eq!(world.port_of(protocol, (second, 5_000), peer), 5_000);
        }
        world.end();
    }
}

#[test]
fn an_owner_reclaims_its_own_oldest_session_and_nobody_elses() {
    for world in World::both(ROOMY) {
        let [first, second] = world.inside;
        let peer = (world.peers[0], 1);
        for port in 1..=SYSTEM_PORTS {
            world.port_of(Protocol::UDP, (first, port), peer);
        }
        let in_use = || {
            world
                .nat
                .ports_in_use(OUTSIDE, world.outside, Protocol::UDP)
        };
        assert_eq!(in_use(), u32::from(SYSTEM_PORTS));
        // The other owner has nothing to give up.
        let refused = world.leave(Protocol::UDP, (second, 7), peer);
        assert_eq!(refused, Err(Refusal::PortsExhausted));
        assert_eq!((world.nat.sessions_of(Side(2)), in_use()), (0, 1_023));
        // Ports 1 and 2 are in use, the others unanswered: the oldest of those goes.
        for answered in [1, 2] {
            world
                .arrive(Protocol::UDP, peer, answered, Filtering::AddressPort)
                .unwrap();
        }
        // The same port at a second address of the same owner.
        let mut opening = world.question(Protocol::UDP, (second, 7), peer);
        opening.sides = [Side(1), LEG];
        let rewrite = world.nat.open(&opening, world.now).unwrap();
        assert_eq!(rewrite.source_port, 3);
        assert_eq!((world.nat.sessions_of(Side(1)), in_use()), (1_023, 1_023));
        // User ports are another matter.
        world.port_of(Protocol::UDP, (second, 7_000), peer);
        world.end();
    }
}

#[test]
fn a_table_that_has_no_room_for_a_mapping_gives_the_port_back() {
    let limits = Limits {
        sessions_per_owner: 3,
        ..Limits::undivided(3)
    };
    for mut world in World::both(limits) {
        let [first, second] = world.inside;
        for port in 1..=3 {
            world.port_of(Protocol::UDP, (first, 5_000 + port), (world.peers[0], 1));
        }
        let refused = world.leave(Protocol::UDP, (second, 6_000), (world.peers[0], 1));
        assert_eq!(refused, Err(Refusal::SessionsExhausted));
        assert_eq!(world.nat.mapping_count(), 3);
        assert_eq!(
            world
                .nat
                .ports_in_use(OUTSIDE, world.outside, Protocol::UDP),
            3
        );
        world.pass(301);
        assert_eq!(
            world.port_of(Protocol::UDP, (second, 6_000), (world.peers[0], 1)),
            6_000
        );
        world.end();
    }
}
