//! Whom a mapping lets in (RFC 4787 §5, RFC 5382 §4.2), and who is inside at all.

use std::time::Duration;

use heddle_wire::builder::{Packet, TcpHeader};
use heddle_wire::{Address, Protocol, TcpFlags};

use super::super::places::{Station, other_server, outside, server};
use super::super::scene::Scene;
use super::super::verdict::{Outcome, fail, pass, pass_as, require};
use super::mapping::seen_from;
use crate::problem::Problem;

const ASKED: u16 = 3_478;
const NEVER_ASKED: u16 = 3_479;

/// Whether a packet from outside to a port of the outside address gets to host A.
fn comes_in(
    scene: &mut Scene<'_>,
    protocol: Protocol,
    from: (Address, u16),
    to: u16,
) -> Result<bool, Problem> {
    let heard = scene.send_in(from.0, Station::A, |packet| {
        knock(packet, protocol, from.1, to)
    })?;
    Ok(heard.is_some())
}

fn knock(packet: &Packet, protocol: Protocol, from: u16, to: u16) -> Vec<u8> {
    if protocol == Protocol::TCP {
        let header = TcpHeader {
            source_port: from,
            destination_port: to,
            sequence: 77,
            acknowledgement: 0,
            flags: TcpFlags::SYN,
            ..TcpHeader::default()
        };
        packet.tcp(&header, b"")
    } else {
        packet.udp(from, to, b"let me in")
    }
}

/// A mapping of host A, by its outside port.
fn mapping(scene: &mut Scene<'_>, protocol: Protocol) -> Result<Option<u16>, Problem> {
    let port = scene.port();
    let to = (server(scene.family), ASKED);
    seen_from(scene, Station::A, port, protocol, to)
}

fn stranger(scene: &mut Scene<'_>, protocol: Protocol) -> Outcome {
    let Some(seen) = mapping(scene, protocol)? else {
        return fail("there is no mapping");
    };
    let from = (other_server(scene.family), ASKED);
    let came = comes_in(scene, protocol, from, seen)?;
    require(!came, "an address that was never spoken to is let in")
}

pub(super) fn udp_stranger(scene: &mut Scene<'_>) -> Outcome {
    stranger(scene, Protocol::UDP)
}

pub(super) fn tcp_stranger(scene: &mut Scene<'_>) -> Outcome {
    stranger(scene, Protocol::TCP)
}

fn acquaintance(scene: &mut Scene<'_>, protocol: Protocol) -> Outcome {
    let Some(seen) = mapping(scene, protocol)? else {
        return fail("there is no mapping");
    };
    let from = (server(scene.family), NEVER_ASKED);
    let came = comes_in(scene, protocol, from, seen)?;
    require(came, "filtering is by address and port")
}

pub(super) fn udp_acquaintance(scene: &mut Scene<'_>) -> Outcome {
    acquaintance(scene, Protocol::UDP)
}

pub(super) fn tcp_acquaintance(scene: &mut Scene<'_>) -> Outcome {
    acquaintance(scene, Protocol::TCP)
}

/// How long an unsolicited SYN must stay unanswered (RFC 5382 §4.3 REQ-4), and how long that is
/// looked at where nobody has the time.
const SILENCE: Duration = Duration::from_secs(6);
const GLANCE: Duration = Duration::from_secs(1);

fn unsolicited(scene: &mut Scene<'_>, time: Duration) -> Outcome {
    let seen = mapping(scene, Protocol::TCP)?;
    let unused = scene.port();
    let from = other_server(scene.family);
    let own = outside(scene.family);
    scene.clear()?;
    for port in [Some(unused), seen].into_iter().flatten() {
        let frame = knock(&scene.inward(from), Protocol::TCP, ASKED, port);
        scene.send(Station::Outside, &frame)?;
    }
    scene.pass(time)?;
    let heard = scene.heard_at(Station::Outside)?;
    let answered = heard.iter().any(|heard| heard.is_between(own, from));
    if answered {
        return fail("it is answered");
    }
    pass_as(format!("silent for {} s", time.as_secs()))
}

pub(super) fn unsolicited_syn(scene: &mut Scene<'_>) -> Outcome {
    unsolicited(scene, GLANCE)
}

pub(super) fn unsolicited_syn_slowly(scene: &mut Scene<'_>) -> Outcome {
    unsolicited(scene, SILENCE)
}

/// Somebody outside knows an inside address and sends to it straight away.
pub(super) fn isolation(scene: &mut Scene<'_>) -> Outcome {
    let port = scene.port();
    let (from, to) = (server(scene.family), Station::A.address(scene.family));
    for protocol in [Protocol::UDP, Protocol::TCP] {
        let packet = scene.to_router(Station::Outside).ip(from, to);
        let frame = knock(&packet, protocol, ASKED, port);
        let path = (Station::Outside, Station::A);
        let came = scene.hear(path, &[frame], |heard| {
            heard.is_between(from, to).then_some(())
        })?;
        if came.is_some() {
            return fail("a packet to an inside address is let in");
        }
    }
    pass()
}

/// Somebody outside uses an inside address as his own, towards a port that host A has.
pub(super) fn inside_source(scene: &mut Scene<'_>) -> Outcome {
    let Some(seen) = mapping(scene, Protocol::UDP)? else {
        return fail("there is no mapping");
    };
    let from = (Station::C.address(scene.family), ASKED);
    let came = comes_in(scene, Protocol::UDP, from, seen)?;
    require(
        !came,
        "a packet from outside with an inside source is let in",
    )
}
