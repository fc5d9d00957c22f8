use heddle_wire::{Protocol, TcpFlags};

use super::{Class, Count48, Held, Packet, Progress, Session, SessionState, Side};
use crate::tcp::State;
use crate::tuple::{Direction, Zone};
use crate::world::{LEG, OUTSIDE, ROOMY, World, packet, segment, tuple};

/// From the first endpoint's port 5000, translated to 6000, to a peer's port 80.
fn session(world: &World, protocol: Protocol) -> Session {
    let (from, to) = ((world.inside[0], 5_000), (world.peers[0], 80));
    let original = tuple(protocol, from, to, Zone::INSIDE);
    let reply = tuple(protocol, to, (world.outside, 6_000), OUTSIDE);
    let mut session = Session::new(&original, &reply, [Side(1), LEG], Held::Source(3));
    session.begin(&packet(protocol), world.now);
    session
}

#[test]
fn both_directions_are_rewritten_from_the_same_two_tuples() {
    for world in World::both(ROOMY) {
        for protocol in [Protocol::TCP, Protocol::UDP] {
            let session = session(&world, protocol);
            let there = session.rewrite(Direction::Original);
            assert_eq!((there.source, there.source_port), (world.outside, 6_000));
            assert_eq!(
                (there.destination, there.destination_port),
                (world.peers[0], 80)
            );
            let back = session.rewrite(Direction::Reply);
            assert_eq!((back.source, back.source_port), (world.peers[0], 80));
            assert_eq!(
                (back.destination, back.destination_port),
                (world.inside[0], 5_000)
            );
            assert_eq!(session.owner(), Side(1));
            assert_eq!(session.held(), Held::Source(3));
        }
    }
}

#[test]
fn a_tuple_is_matched_in_every_part() {
    for world in World::both(ROOMY) {
        let session = session(&world, Protocol::UDP);
        for direction in Direction::BOTH {
            let right = session.tuple(direction);
            assert!(session.matches(direction, &right));
            assert!(!session.matches(direction.inverse(), &right));
            let mut wrong = [right; 6];
            wrong[0].source = world.inside[1];
            wrong[1].destination = world.inside[1];
            wrong[2].source_port ^= 1;
            wrong[3].destination_port ^= 1;
            wrong[4].protocol = Protocol::TCP;
            wrong[5].zone = Zone(7);
            assert!(!wrong.iter().any(|tuple| session.matches(direction, tuple)));
        }
    }
}

#[test]
fn an_exchange_is_open_once_it_is_answered() {
    for world in World::both(ROOMY) {
        let mut session = session(&world, Protocol::UDP);
        assert_eq!(session.class(), Class::Unreplied);
        let question = session.advance(Direction::Original, &packet(Protocol::UDP), world.now);
        assert_eq!(question, Progress::Same);
        let answer = session.advance(Direction::Reply, &packet(Protocol::UDP), world.now);
        assert_eq!(answer, Progress::Reclassified);
        assert_eq!(
            (session.state(), session.class()),
            (SessionState::Replied, Class::Open)
        );
    }
}

#[test]
fn a_connection_is_open_after_its_handshake_and_closing_after_both_fins() {
    for world in World::both(ROOMY) {
        let mut session = session(&world, Protocol::TCP);
        let ack = TcpFlags::ACK;
        let fin = TcpFlags::FIN | TcpFlags::ACK;
        let talk = [
            (
                Direction::Reply,
                TcpFlags::SYN | ack,
                70,
                1_001,
                Class::HalfOpen,
            ),
            (Direction::Original, ack, 1_001, 71, Class::Open),
            (Direction::Original, fin, 1_001, 71, Class::Open),
            (Direction::Reply, fin, 71, 1_002, Class::Closing),
        ];
        for (direction, flags, sequence, acknowledgement, class) in talk {
            let packet = Packet {
                len: 40,
                segment: Some(segment(flags, sequence, acknowledgement)),
            };
            let progress = session.advance(direction, &packet, world.now);
            assert_ne!(progress, Progress::OutOfWindow, "{flags:?}");
            assert_eq!(session.class(), class);
        }
        assert_eq!(session.state(), SessionState::Tcp(State::BothFin));
        assert_eq!(session.traffic(Direction::Reply), (2, 80));
    }
}

#[test]
fn only_what_is_in_flight_can_have_met_trouble() {
    // RFC 5927 §4.1.
    for world in World::both(ROOMY) {
        let session = session(&world, Protocol::TCP);
        // The SYN is number 1000.
        for (sequence, in_flight) in [(999, false), (1_000, true), (1_001, true), (1_002, false)] {
            assert_eq!(
                session.is_in_flight(Direction::Original, sequence),
                in_flight
            );
        }
    }
}

#[test]
fn a_count_carries() {
    for before in [0, 0xffff, 0xffff_ffff, (1 << 48) - 2] {
        let words = [before, before >> 16, before >> 32];
        let mut count = Count48(words.map(|word: u64| u16::try_from(word & 0xffff).unwrap()));
        assert_eq!(count.get(), before);
        count.increment();
        assert_eq!(count.get(), before + 1);
    }
}

#[test]
fn a_class_survives_being_filed_under() {
    let [mut world, _] = World::both(ROOMY);
    world.now = world.now + super::UDP_TIMEOUT;
    let mut session = session(&world, Protocol::UDP);
    for class in [
        Class::Closing,
        Class::Open,
        Class::HalfOpen,
        Class::Unreplied,
    ] {
        session.file_under(class);
        assert_eq!(session.filed_under(), class);
        assert_eq!(session.held(), Held::Source(3), "the other flags stay");
    }
}
