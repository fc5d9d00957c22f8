mod model;

use heddle_wire::{Protocol, TcpFlags};

use super::{Hit, Limits, Refusal};
use crate::mapping::Filtering;
use crate::session::{Class, DNS_TIMEOUT, ICMP_TIMEOUT, Packet, Progress, Side, UDP_TIMEOUT};
use crate::tcp::OPENING_TIMEOUT;
use crate::tuple::{Direction, Zone};
use crate::world::{LEG, OUTSIDE, ROOMY, World, packet, segment, tuple};

#[test]
fn a_first_packet_that_is_not_opened_leaves_nothing() {
    for world in World::both(ROOMY) {
        let before = world.nat.memory();
        let opening = world.question(Protocol::UDP, (world.inside[0], 5_000), (world.peers[0], 1));
        assert!(world.nat.lookup(&opening.tuple).is_none());
        let knock = tuple(
            Protocol::UDP,
            (world.peers[0], 1),
            (world.outside, 5_000),
            OUTSIDE,
        );
        let refused = world.nat.inbound(&knock, OUTSIDE, Filtering::Endpoint);
        assert_eq!(refused, Err(Refusal::Unsolicited));
        // The packet is dropped here, by a policy or for want of a neighbour.
        assert_eq!(
            (world.nat.session_count(), world.nat.mapping_count()),
            (0, 0)
        );
        assert_eq!(world.nat.memory(), before);
        world.end();
    }
}

#[test]
fn a_packet_that_is_dropped_between_lookup_and_commit_changes_nothing() {
    for mut world in World::both(ROOMY) {
        let (from, to) = ((world.inside[0], 5_000), (world.peers[0], 1));
        world.port_of(Protocol::UDP, from, to);
        let there = tuple(Protocol::UDP, from, to, Zone::INSIDE);
        world.pass(299);
        drop(world.nat.lookup(&there).unwrap());
        let hit = world.nat.lookup(&there).unwrap();
        assert_eq!(hit.session().traffic(Direction::Original), (1, 100));
        drop(hit);
        world.pass(2);
        assert!(world.nat.lookup(&there).is_none(), "it was not prolonged");
        world.end();
    }
}

#[test]
fn a_session_is_found_from_both_sides_and_nowhere_else() {
    for world in World::both(ROOMY) {
        let (from, to) = ((world.inside[0], 5_000), (world.peers[0], 1));
        for protocol in [Protocol::TCP, Protocol::UDP] {
            world.port_of(protocol, (world.inside[1], 5_000), to);
            let port = world.port_of(protocol, from, to);
            let there = tuple(protocol, from, to, Zone::INSIDE);
            let back = tuple(protocol, to, (world.outside, port), OUTSIDE);
            {
                let hit = world.nat.lookup(&there).unwrap();
                assert_eq!(hit.direction(), Direction::Original);
                assert_eq!((hit.ingress(), hit.egress()), (Side(1), LEG));
                assert_eq!(hit.session().tuple(Direction::Reply), back);
            }
            {
                let hit = world.nat.lookup(&back).unwrap();
                assert_eq!(hit.direction(), Direction::Reply);
                assert_eq!((hit.ingress(), hit.egress()), (LEG, Side(1)));
                let read = hit.rewrite();
                assert_eq!((read.source, read.source_port), to);
                assert_eq!((read.destination, read.destination_port), from);
            }
            for mut wrong in [there, back] {
                wrong.zone = Zone(2);
                assert!(world.nat.lookup(&wrong).is_none());
            }
            assert!(world.nat.lookup(&there.inverse(OUTSIDE)).is_none());
            assert!(world.nat.lookup(&back.inverse(OUTSIDE)).is_none());
        }
        world.end();
    }
}

#[test]
fn a_session_ends_when_it_has_been_silent_for_its_time() {
    for mut world in World::both(ROOMY) {
        let (echo, request) = world.echo;
        let kinds = [
            (Protocol::UDP, 443, UDP_TIMEOUT),
            (Protocol::UDP, 53, DNS_TIMEOUT),
            (Protocol::TCP, 80, OPENING_TIMEOUT),
            (echo, request, ICMP_TIMEOUT),
        ];
        for (protocol, port, timeout) in kinds {
            let (from, to) = ((world.inside[0], 5_000), (world.peers[0], port));
            for _ in 0..3 {
                world.port_of(protocol, from, to);
                assert!(world.nat.next_deadline().is_some());
                world.pass(timeout.as_secs() - 1);
                assert_eq!(world.nat.session_count(), 1, "{protocol:?} {port}");
            }
            world.pass(2);
            assert_eq!(world.nat.session_count(), 0, "{protocol:?} {port}");
            assert_eq!(world.nat.next_deadline(), None);
        }
        world.end();
    }
}

#[test]
fn a_session_counts_what_passes_in_each_direction() {
    for world in World::both(ROOMY) {
        let (from, to) = ((world.inside[0], 5_000), (world.peers[0], 1));
        for _ in 0..3 {
            world.port_of(Protocol::UDP, from, to);
        }
        world
            .arrive(Protocol::UDP, to, 5_000, Filtering::AddressPort)
            .unwrap();
        let mut seen = Vec::new();
        world
            .nat
            .for_each(|session| seen.push(Direction::BOTH.map(|way| session.traffic(way))));
        assert_eq!(seen, [[(3, 300), (1, 100)]]);
        world.end();
    }
}

#[test]
fn a_segment_outside_the_window_is_refused_and_not_counted() {
    for world in World::both(ROOMY) {
        let (from, to) = ((world.inside[0], 5_000), (world.peers[0], 80));
        world.port_of(Protocol::TCP, from, to);
        let mut forged = packet(Protocol::TCP);
        forged.segment = Some(segment(heddle_wire::TcpFlags::RST, 0, 0));
        let back = tuple(Protocol::TCP, to, (world.outside, 5_000), OUTSIDE);
        let hit = world.nat.lookup(&back).unwrap();
        let refused = world.nat.commit(hit, &forged, world.now);
        assert_eq!(refused, Err(Refusal::OutOfWindow));
        let hit = world.nat.lookup(&back).unwrap();
        assert_eq!(hit.session().traffic(Direction::Reply), (0, 0));
        drop(hit);
        world.end();
    }
}

#[test]
fn a_flush_ends_what_it_is_asked_to_and_gives_the_ports_back() {
    for world in World::both(ROOMY) {
        let [first, second] = world.inside;
        // More than one chunk, through a few mappings each.
        for inside in [first, second] {
            for port in 0..100 {
                world.port_of(
                    Protocol::UDP,
                    (inside, 5_000 + port % 7),
                    (world.peers[0], port),
                );
            }
        }
        assert_eq!(
            (world.nat.session_count(), world.nat.mapping_count()),
            (200, 14)
        );
        let flushed = world
            .nat
            .flush(world.now, |session| session.owner() == Side(1));
        assert_eq!(flushed, 100);
        assert_eq!(
            (world.nat.session_count(), world.nat.mapping_count()),
            (100, 7)
        );
        assert_eq!(
            (
                world.nat.sessions_of(Side(1)),
                world.nat.sessions_of(Side(2))
            ),
            (0, 100)
        );
        assert_eq!(
            world
                .nat
                .ports_in_use(OUTSIDE, world.outside, Protocol::UDP),
            7
        );
        assert_eq!(world.nat.flush(world.now, |_| false), 0);
        assert_eq!(world.nat.flush(world.now, |_| true), 100);
        assert_eq!(world.nat.mapping_count(), 0);
        world.end();
    }
}

#[test]
fn a_connection_that_is_just_open_is_not_given_up_as_half_open() {
    let limits = Limits {
        sessions_per_owner: 1,
        ..ROOMY
    };
    for world in World::both(limits) {
        let (from, to) = ((world.inside[0], 5_000), (world.peers[0], 80));
        let port = world.port_of(Protocol::TCP, from, to);
        let there = tuple(Protocol::TCP, from, to, Zone::INSIDE);
        let back = tuple(Protocol::TCP, to, (world.outside, port), OUTSIDE);
        let carries = |flags, sequence, acknowledgement| Packet {
            len: 40,
            segment: Some(segment(flags, sequence, acknowledgement)),
        };
        let hit = world.nat.lookup(&back).unwrap();
        let answer = carries(TcpFlags::SYN | TcpFlags::ACK, 7_000, 1_001);
        world.nat.commit(hit, &answer, world.now).unwrap();
        let standing = || {
            let hit = world.nat.lookup(&there).unwrap();
            (hit.session().filed_under(), hit.session().class())
        };
        assert_eq!(standing(), (Class::HalfOpen, Class::HalfOpen));

        // One worker has taken the last segment of the handshake and waits for the mutex; another one,
        // which has it, looks for a session to give up.
        let Hit { mut session, .. } = world.nat.lookup(&there).unwrap();
        let last = carries(TcpFlags::ACK, 1_001, 7_001);
        let progress = session.advance(Direction::Original, &last, world.now);
        assert_eq!(progress, Progress::Reclassified);
        drop(session);
        assert_eq!(standing(), (Class::HalfOpen, Class::Open));
        let refused = world.leave(Protocol::UDP, (world.inside[0], 5_001), to);
        assert_eq!(refused, Err(Refusal::OwnerQuota));
        assert_eq!(standing(), (Class::Open, Class::Open));
        world.end();
    }
}

#[test]
fn a_budget_bounds_how_many_sessions_end_at_once() {
    for mut world in World::both(ROOMY) {
        for port in 1..=10 {
            world.port_of(
                Protocol::UDP,
                (world.inside[0], 5_000),
                (world.peers[0], 100 + port),
            );
        }
        world.now = world.now + UDP_TIMEOUT + UDP_TIMEOUT;
        let mut calls = 1;
        while world.nat.expire(world.now, 3) {
            calls += 1;
        }
        assert!(calls >= 4, "{calls} calls of 3 for 10 sessions");
        assert_eq!(world.nat.session_count(), 0);
        world.end();
    }
}

#[test]
fn memory_that_sessions_have_used_is_used_again() {
    for mut world in World::both(ROOMY) {
        let mut round = |peer_port| {
            for port in 0..1_000 {
                let from = (world.inside[0], 5_000 + port);
                world.port_of(Protocol::UDP, from, (world.peers[0], peer_port));
            }
            world.pass(301);
            assert_eq!(world.nat.session_count(), 0);
            world.nat.memory()
        };
        let first = round(1);
        for peer_port in 2..6 {
            assert_eq!(round(peer_port), first);
        }
        world.end();
    }
}
