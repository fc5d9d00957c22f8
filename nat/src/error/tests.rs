use heddle_wire::{Embedded, Protocol, Rewrite};

use crate::session::Side;
use crate::table::Refusal;
use crate::tuple::Zone;
use crate::world::{Endpoint, LEG, OUTSIDE, ROOMY, World};

/// A quote of a packet.
fn quote(protocol: Protocol, from: Endpoint, to: Endpoint, sequence: Option<u32>) -> Embedded {
    Embedded {
        source: from.0,
        destination: to.0,
        protocol,
        source_port: from.1,
        destination_port: to.1,
        sequence,
        icmp_kind: None,
        fragment_later: false,
        header_offset: 0,
        transport_offset: 0,
        end: 0,
    }
}

#[test]
fn an_error_from_outside_goes_to_who_sent_the_packet_as_it_was_sent() {
    for world in World::both(ROOMY) {
        let (from, to) = ((world.inside[0], 5_000), (world.peers[0], 80));
        for (protocol, sequence) in [(Protocol::UDP, None), (Protocol::TCP, Some(1_000))] {
            world.port_of(protocol, (world.inside[1], 5_000), to);
            let port = world.port_of(protocol, from, to);
            let router = world.peers[2];
            let embedded = quote(protocol, (world.outside, port), to, sequence);
            let error = world
                .nat
                .translate_error(router, &embedded, OUTSIDE)
                .unwrap();
            let sent = Rewrite {
                source: from.0,
                source_port: from.1,
                destination: to.0,
                destination_port: to.1,
            };
            assert_eq!((error.quote, error.destination), (sent, from.0));
            assert_eq!((error.source, error.egress), (router, Side(1)));
            // Not from another leg, nor about what was not sent.
            for (embedded, zone) in [
                (embedded, Zone(2)),
                (quote(protocol, (world.outside, 9), to, sequence), OUTSIDE),
            ] {
                let refused = world.nat.translate_error(router, &embedded, zone);
                assert_eq!(refused, Err(Refusal::ErrorUnmatched));
            }
        }
        world.end();
    }
}

#[test]
fn an_error_from_inside_does_not_show_an_inside_address() {
    // RFC 5508 §4.2 REQ-5.
    for world in World::both(ROOMY) {
        let (inside, peer) = ((world.inside[0], 5_000), (world.peers[0], 80));
        world.port_of(Protocol::UDP, (world.inside[1], 5_000), peer);
        let port = world.port_of(Protocol::UDP, inside, peer);
        // About an answer, as the inside has got it.
        let embedded = quote(Protocol::UDP, peer, inside, None);
        let error = world
            .nat
            .translate_error(inside.0, &embedded, Zone::INSIDE)
            .unwrap();
        assert_eq!((error.source, error.destination), (world.outside, peer.0));
        assert_eq!(
            (error.quote.destination, error.quote.destination_port),
            (world.outside, port)
        );
        assert_eq!(error.egress, LEG);
        world.end();
    }
}

#[test]
fn an_error_about_what_is_not_in_flight_is_forged() {
    // RFC 5927 §4.1.
    for world in World::both(ROOMY) {
        let to = (world.peers[0], 80);
        let port = world.port_of(Protocol::TCP, (world.inside[0], 5_000), to);
        for (sequence, is_ours) in [(999, false), (1_000, true), (2_000, false)] {
            let embedded = quote(Protocol::TCP, (world.outside, port), to, Some(sequence));
            let result = world.nat.translate_error(to.0, &embedded, OUTSIDE);
            assert_eq!(result.is_ok(), is_ours, "{sequence}");
        }
        world.end();
    }
}

#[test]
fn an_error_about_an_echo_finds_who_asked() {
    for world in World::both(ROOMY) {
        let (protocol, request) = world.echo;
        let to = (world.peers[0], request);
        world.port_of(protocol, (world.inside[1], 77), to);
        let id = world.port_of(protocol, (world.inside[0], 77), to);
        let kind = u8::try_from(request).unwrap();
        let mut embedded = Embedded {
            icmp_kind: Some(kind),
            ..quote(protocol, (world.outside, id), (to.0, 0), None)
        };
        let error = world.nat.translate_error(to.0, &embedded, OUTSIDE).unwrap();
        assert_eq!(
            (error.quote.source, error.quote.source_port),
            (world.inside[0], 77)
        );
        // An error about an error is none (RFC 792, RFC 4443 §2.4).
        embedded.icmp_kind = Some(3);
        let refused = world.nat.translate_error(to.0, &embedded, OUTSIDE);
        assert_eq!(refused, Err(Refusal::ErrorUnmatched));
        world.end();
    }
}
