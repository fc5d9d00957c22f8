//! Two hosts inside that know each other by their outside addresses (RFC 4787 §6 REQ-9, RFC 5382 §7.2
//! REQ-8, RFC 5508 §4.2 REQ-7).

use heddle_wire::builder::TcpHeader;
use heddle_wire::{Protocol, TcpFlags};

use super::super::connection::SYN_ACK;
use super::super::heard::Heard;
use super::super::places::{Station, outside, server};
use super::super::scene::Scene;
use super::super::verdict::{Outcome, fail, pass, require};
use super::mapping::seen_from;
use crate::problem::Problem;

/// Two hosts with a port each, and what they are outside.
struct Pair {
    ports: [u16; 2],
    seen: [u16; 2],
}

fn pair(scene: &mut Scene<'_>, protocol: Protocol) -> Result<Option<Pair>, Problem> {
    let ports = [scene.port(), scene.port()];
    let to = (server(scene.family), 3_478);
    let one = seen_from(scene, Station::A, ports[0], protocol, to)?;
    let other = seen_from(scene, Station::B, ports[1], protocol, to)?;
    Ok(one.zip(other).map(|(one, other)| Pair {
        ports,
        seen: [one, other],
    }))
}

/// What a host hears of a frame that the other one sends to the outside address: from whomever, that
/// is for the caller to look at.
fn turned(
    scene: &mut Scene<'_>,
    path: (Station, Station),
    frame: Vec<u8>,
) -> Result<Option<Heard>, Problem> {
    let own = path.1.address(scene.family);
    scene.hear(path, &[frame], |heard| {
        let ip = heard.ip()?;
        let is_error = heard.quote().is_some();
        let is_it = matches!(ip.protocol, Protocol::UDP | Protocol::TCP) || is_error;
        (ip.destination == own && is_it).then(|| heard.clone())
    })
}

/// Whether what arrived names the sender by its outside address and port.
fn is_from(scene: &Scene<'_>, heard: Option<&Heard>, ports: (u16, u16)) -> bool {
    heard.is_some_and(|heard| {
        heard
            .ip()
            .is_some_and(|ip| ip.source == outside(scene.family))
            && heard.ports() == Some(ports)
    })
}

pub(super) fn udp(scene: &mut Scene<'_>) -> Outcome {
    let Some(Pair { ports, seen }) = pair(scene, Protocol::UDP)? else {
        return fail("there is no mapping");
    };
    let own = outside(scene.family);
    let question = scene
        .outward(Station::A, own)
        .udp(ports[0], seen[1], b"question");
    let heard = turned(scene, (Station::A, Station::B), question)?;
    if heard.is_none() {
        return fail("the first packet does not arrive");
    }
    if !is_from(scene, heard.as_ref(), (seen[0], ports[1])) {
        return fail("the sender is not seen by its outside address and port");
    }
    let answer = scene
        .outward(Station::B, own)
        .udp(ports[1], seen[0], b"answer");
    let heard = turned(scene, (Station::B, Station::A), answer)?;
    require(
        is_from(scene, heard.as_ref(), (seen[1], ports[0])),
        "the answer is lost",
    )
}

pub(super) fn tcp(scene: &mut Scene<'_>) -> Outcome {
    let Some(Pair { ports, seen }) = pair(scene, Protocol::TCP)? else {
        return fail("there is no mapping");
    };
    let own = outside(scene.family);
    let segment = |from: usize, flags, numbers: (u32, u32)| TcpHeader {
        source_port: ports[from],
        destination_port: seen[1 - from],
        sequence: numbers.0,
        acknowledgement: numbers.1,
        flags,
        ..TcpHeader::default()
    };
    let steps = [
        (0, TcpFlags::SYN, (500, 0)),
        (1, SYN_ACK, (900, 501)),
        (0, TcpFlags::ACK, (501, 901)),
        (1, TcpFlags::ACK, (901, 501)),
    ];
    for (from, flags, numbers) in steps {
        let hosts = [Station::A, Station::B];
        let header = segment(from, flags, numbers);
        let frame = scene.outward(hosts[from], own).tcp(&header, b"");
        let heard = turned(scene, (hosts[from], hosts[1 - from]), frame)?;
        if !is_from(scene, heard.as_ref(), (seen[from], ports[1 - from])) {
            return fail(format!("{flags} is lost, or comes from elsewhere"));
        }
    }
    pass()
}

/// The one who gets a hairpinned packet refuses it.
pub(super) fn errors(scene: &mut Scene<'_>) -> Outcome {
    let Some(Pair { ports, seen }) = pair(scene, Protocol::UDP)? else {
        return fail("there is no mapping");
    };
    let own = outside(scene.family);
    let question = scene
        .outward(Station::A, own)
        .udp(ports[0], seen[1], b"question");
    let Some(heard) = turned(scene, (Station::A, Station::B), question)? else {
        return fail("the packet itself does not arrive");
    };
    let source = heard.ip().map_or(own, |ip| ip.source);
    let (kind, code) = super::icmp::port_unreachable(scene.family);
    let error = scene
        .outward(Station::B, source)
        .icmp_error(kind, code, 0, &heard.frame);
    let heard = turned(scene, (Station::B, Station::A), error)?;
    let a = Station::A.address(scene.family);
    let is_right = heard.is_some_and(|heard| {
        let names = |quote: heddle_wire::Embedded| {
            (quote.source, quote.source_port) == (a, ports[0])
                && (quote.destination, quote.destination_port) == (own, seen[1])
        };
        heard.icmp().is_some_and(|message| message.kind == kind)
            && heard.ip().is_some_and(|ip| ip.source == own)
            && heard.quote().is_some_and(names)
    });
    require(
        is_right,
        "the error is lost, or quotes a packet that the sender did not send",
    )
}
