use heddle_wire::{Protocol, TcpFlags};

use super::{Destination, Opening, Source};
use crate::limits::Limits;
use crate::mapping::Filtering;
use crate::published::{Publication, Published};
use crate::session::{Packet, Side};
use crate::table::Refusal;
use crate::tuple::Zone;
use crate::world::{LEG, OUTSIDE, ROOMY, World, packet, segment, tuple};

#[test]
fn only_a_syn_opens_a_connection() {
    let flags = [
        TcpFlags::ACK,
        TcpFlags::SYN | TcpFlags::ACK,
        TcpFlags::RST,
        TcpFlags::FIN | TcpFlags::ACK,
        TcpFlags(0),
    ];
    for world in World::both(ROOMY) {
        for flags in flags {
            let from = (world.inside[0], 5_000);
            let mut opening = world.question(Protocol::TCP, from, (world.peers[0], 80));
            opening.packet.segment = Some(segment(flags, 1, 1));
            let refused = world.nat.open(&opening, world.now);
            assert_eq!(refused, Err(Refusal::NotSyn), "{flags:?}");
        }
        assert_eq!(
            (world.nat.session_count(), world.nat.mapping_count()),
            (0, 0)
        );
        world.end();
    }
}

#[test]
fn a_query_has_an_identifier_of_its_own_and_an_answer_opens_nothing() {
    for world in World::both(ROOMY) {
        let (protocol, request) = world.echo;
        let [first, second] = world.inside;
        let peer = (world.peers[0], request);
        let one = world.port_of(protocol, (first, 77), peer);
        let other = world.port_of(protocol, (second, 77), peer);
        assert_eq!(one, 77);
        assert_ne!(other, 77);
        for (id, inside) in [(one, first), (other, second)] {
            let rewrite = world
                .arrive(protocol, peer, id, Filtering::AddressPort)
                .unwrap();
            assert_eq!(
                (rewrite.destination, rewrite.destination_port),
                (inside, 77)
            );
        }
        // The kind of a request is no identifier: its question would look like an answer.
        assert_ne!(world.port_of(protocol, (first, request), peer), request);
        let answer = world.leave(protocol, (first, request), (world.peers[1], 79));
        assert_eq!(answer, Err(Refusal::Unsolicited));
        assert_eq!(
            (world.nat.session_count(), world.nat.mapping_count()),
            (3, 3)
        );
        world.end();
    }
}

#[test]
fn the_slower_of_two_workers_finds_the_session_of_the_faster() {
    for world in World::both(ROOMY) {
        let (from, to) = ((world.inside[0], 5_000), (world.peers[0], 80));
        for protocol in [Protocol::TCP, Protocol::UDP] {
            let mut opening = world.question(protocol, from, to);
            let first = world.nat.open(&opening, world.now).unwrap();
            assert_eq!(world.nat.open(&opening, world.now), Ok(first));
            // Somebody else with the same tuple is somebody else.
            opening.sides[0] = Side(2);
            let stranger = world.nat.open(&opening, world.now);
            assert_eq!(stranger, Err(Refusal::Unsolicited));
        }
        assert_eq!(world.nat.session_count(), 2);
        world.end();
    }
}

#[test]
fn a_published_endpoint_speaks_from_its_published_port() {
    for mut world in World::both(ROOMY) {
        world.published = Published::new(vec![Publication {
            zone: OUTSIDE,
            protocol: Protocol::TCP,
            outside: world.outside,
            outside_port: 8_080,
            inside: world.inside[0],
            inside_port: 80,
            count: 1,
        }])
        .unwrap();
        let peer = (world.peers[0], 443);
        assert_eq!(
            world.port_of(Protocol::TCP, (world.inside[0], 80), peer),
            8_080
        );
        assert_eq!(world.nat.mapping_count(), 0);
        // Nobody else does, not even by chance (port shadowing).
        assert_ne!(
            world.port_of(Protocol::TCP, (world.inside[1], 8_080), peer),
            8_080
        );
        assert_eq!(
            world.port_of(Protocol::UDP, (world.inside[1], 8_080), peer),
            8_080
        );
        world.end();
    }
}

/// From a peer to the published port 80 of the first endpoint.
fn to_published<'a>(world: &'a World, source_port: u16, source: Source) -> Opening<'a> {
    let from = (world.peers[0], source_port);
    Opening {
        tuple: tuple(Protocol::UDP, from, (world.outside, 80), OUTSIDE),
        sides: [LEG, Side(1)],
        destination: Destination::Published(world.inside[0], 8_000),
        source,
        reply_zone: Zone::INSIDE,
        packet: packet(Protocol::UDP),
        published: &world.published,
        random: 1,
    }
}

#[test]
fn answers_that_would_have_the_tuple_of_another_session_are_refused() {
    for world in World::both(ROOMY) {
        let opening = to_published(&world, 999, Source::AsIs);
        world.nat.open(&opening, world.now).unwrap();
        // The same peer at a second published port of the same endpoint.
        let second = Opening {
            tuple: tuple(
                Protocol::UDP,
                (world.peers[0], 999),
                (world.outside, 81),
                OUTSIDE,
            ),
            ..to_published(&world, 999, Source::AsIs)
        };
        let before = world.nat.memory();
        assert_eq!(world.nat.open(&second, world.now), Err(Refusal::Conflict));
        assert_eq!((world.nat.session_count(), world.nat.memory()), (1, before));
        world.end();
    }
}

#[test]
fn a_port_of_a_session_that_is_not_made_is_free_at_once() {
    for world in World::both(ROOMY) {
        let [first, second] = world.inside;
        let peer = (world.peers[0], 80);
        // For a mapping that is not there: everything is taken back.
        let mut opening = world.question(Protocol::UDP, (first, 5_000), (world.outside, 6_000));
        (opening.destination, opening.sides[1]) = (Destination::Mapped(OUTSIDE), Side(2));
        let refused = world.nat.open(&opening, world.now);
        assert_eq!(refused, Err(Refusal::Unsolicited));
        assert_eq!(
            (world.nat.session_count(), world.nat.mapping_count()),
            (0, 0)
        );
        assert_eq!(
            world
                .nat
                .ports_in_use(OUTSIDE, world.outside, Protocol::UDP),
            0
        );
        assert_eq!(
            world.port_of(Protocol::UDP, (second, 5_000), peer),
            5_000,
            "it did not rest"
        );
        world.end();
    }
}

#[test]
fn who_has_a_full_share_is_refused_and_nothing_is_left_of_the_try() {
    let limits = Limits {
        sessions_per_owner: 0,
        ..ROOMY
    };
    for world in World::both(limits) {
        let before = world.nat.memory();
        let refused = world.leave(Protocol::UDP, (world.inside[0], 1), (world.peers[0], 1));
        assert_eq!(refused, Err(Refusal::OwnerQuota));
        let opening = to_published(&world, 1, Source::AsIs);
        let refused = world.nat.open(&opening, world.now);
        assert_eq!(refused, Err(Refusal::OwnerQuota), "the inside is charged");
        assert_eq!(world.nat.memory(), before);
        world.end();
    }
}

#[test]
fn two_insides_may_meet_at_an_address_outside() {
    // Hairpinning (RFC 4787 §6 REQ-9): each sees the other one's outside address and port.
    for world in World::both(ROOMY) {
        let [first, second] = world.inside;
        for protocol in [Protocol::TCP, Protocol::UDP] {
            let there = world.port_of(protocol, (second, 6_000), (world.peers[0], 1));
            let target = (world.outside, there);
            let mut opening = world.question(protocol, (first, 5_000), target);
            opening.destination = Destination::Mapped(OUTSIDE);
            (opening.sides[1], opening.reply_zone) = (Side(2), Zone::INSIDE);
            let seen = world.nat.open(&opening, world.now).unwrap();
            assert_eq!((seen.source, seen.source_port), (world.outside, 5_000));
            assert_eq!((seen.destination, seen.destination_port), (second, 6_000));

            let back = tuple(
                protocol,
                (second, 6_000),
                (world.outside, 5_000),
                Zone::INSIDE,
            );
            let hit = world.nat.lookup(&back).unwrap();
            assert_eq!((hit.ingress(), hit.egress()), (Side(2), Side(1)));
            let answer = Packet {
                segment: packet(protocol)
                    .segment
                    .map(|_| segment(TcpFlags::SYN | TcpFlags::ACK, 7, 1_001)),
                ..packet(protocol)
            };
            let seen = world.nat.commit(hit, &answer, world.now).unwrap();
            assert_eq!((seen.source, seen.source_port), target);
            assert_eq!((seen.destination, seen.destination_port), (first, 5_000));
        }
        assert_eq!(
            (world.nat.session_count(), world.nat.mapping_count()),
            (4, 4)
        );
        world.end();
    }
}
