use heddle_wire::Protocol;

use super::{Publication, PublishError, Published};
use crate::tuple::Zone;
use crate::world::{OUTSIDE, ROOMY, World};

/// TCP ports 8000 to 8009 outside, 80 to 89 inside.
fn ten(world: &World) -> Publication {
    Publication {
        zone: OUTSIDE,
        protocol: Protocol::TCP,
        outside: world.outside,
        outside_port: 8_000,
        inside: world.inside[0],
        inside_port: 80,
        count: 10,
    }
}

#[test]
fn a_range_is_translated_port_by_port_in_both_directions() {
    for world in World::both(ROOMY) {
        let published = Published::new(vec![ten(&world)]).unwrap();
        let (inside, outside) = (world.inside[0], world.outside);
        let tcp = Protocol::TCP;
        for port in 0..10 {
            let (there, here) = (8_000 + port, 80 + port);
            assert_eq!(
                published.inside_of(OUTSIDE, tcp, outside, there),
                Some((inside, here))
            );
            assert_eq!(
                published.outside_of(OUTSIDE, tcp, inside, here),
                Some((outside, there))
            );
        }
        for port in [7_999, 8_010, 80] {
            assert!(!published.covers(OUTSIDE, tcp, outside, port));
        }
        for port in [79, 90, 8_000] {
            assert_eq!(published.outside_of(OUTSIDE, tcp, inside, port), None);
        }
        assert!(!published.covers(OUTSIDE, Protocol::UDP, outside, 8_000));
        assert!(!published.covers(Zone(2), tcp, outside, 8_000));
        assert!(!published.covers(OUTSIDE, tcp, world.peers[0], 8_000));
        assert_eq!(
            published.outside_of(OUTSIDE, tcp, world.inside[1], 80),
            None
        );
    }
}

#[test]
fn an_outside_port_belongs_to_one_publication() {
    for world in World::both(ROOMY) {
        let first = ten(&world);
        for outside_port in [7_991, 8_000, 8_009] {
            let second = Publication {
                inside: world.inside[1],
                outside_port,
                ..first
            };
            let refused = Published::new(vec![first, second]);
            assert!(
                matches!(refused, Err(PublishError::Overlap(..))),
                "{refused:?}"
            );
        }
        for neighbour in [7_990, 8_010] {
            let second = Publication {
                outside_port: neighbour,
                ..first
            };
            assert!(Published::new(vec![first, second]).is_ok());
        }
    }
}

#[test]
fn an_inside_port_that_is_published_twice_speaks_from_the_lowest() {
    for world in World::both(ROOMY) {
        let first = ten(&world);
        let second = Publication {
            outside_port: 443,
            inside_port: 85,
            count: 1,
            ..first
        };
        let published = Published::new(vec![first, second]).unwrap();
        assert_eq!(published.iter().count(), 2);
        for (inside_port, outside_port) in [(84, 8_004), (85, 443), (86, 8_006)] {
            let found = published.outside_of(OUTSIDE, Protocol::TCP, world.inside[0], inside_port);
            assert_eq!(found, Some((world.outside, outside_port)));
        }
    }
}

#[test]
fn a_range_must_lie_within_the_ports() {
    for world in World::both(ROOMY) {
        let fits = |outside_port, inside_port, count| {
            let publication = Publication {
                outside_port,
                inside_port,
                count,
                ..ten(&world)
            };
            Published::new(vec![publication]).is_ok()
        };
        assert!(fits(1, 1, 65_535) && fits(65_535, 65_535, 1));
        assert!(!fits(0, 1, 1) && !fits(1, 0, 1) && !fits(1, 1, 0));
        assert!(!fits(65_535, 1, 2) && !fits(1, 65_535, 2));
    }
}

#[test]
fn no_packet_is_translated_to_another_family() {
    let [four, six] = World::both(ROOMY);
    for (here, there) in [(&four, &six), (&six, &four)] {
        let publication = Publication {
            inside: there.inside[0],
            ..ten(here)
        };
        let published = Published::new(vec![publication]).unwrap();
        let tcp = Protocol::TCP;
        assert!(
            published.covers(OUTSIDE, tcp, here.outside, 8_000),
            "for a proxy"
        );
        assert_eq!(published.inside_of(OUTSIDE, tcp, here.outside, 8_000), None);
        assert_eq!(
            published.outside_of(OUTSIDE, tcp, there.inside[0], 80),
            None
        );
    }
}
