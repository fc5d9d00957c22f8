//! Which outside port an inside one gets (RFC 4787 §4, RFC 5382 §4, RFC 5508 §3).

use heddle_wire::builder::{Packet, TcpHeader};
use heddle_wire::{Address, Protocol, TcpFlags};

use super::super::heard::Heard;
use super::super::places::{PUBLISHED, Station, other_server, server};
use super::super::scene::{Scene, echo_kinds};
use super::super::verdict::{Outcome, fail, pass, require};
use crate::problem::Problem;

/// Ports of servers.
const PORTS: [u16; 2] = [3_478, 3_479];

/// Ports that two hosts contend for where the choice of others is looked at.
const CONTENDED: u16 = 8;

/// The first packet of a flow.
fn first(packet: &Packet, protocol: Protocol, from: u16, to: u16) -> Vec<u8> {
    if protocol == Protocol::TCP {
        let header = TcpHeader {
            source_port: from,
            destination_port: to,
            sequence: 1_000_000,
            acknowledgement: 0,
            flags: TcpFlags::SYN,
            ..TcpHeader::default()
        };
        packet.tcp(&header, b"")
    } else {
        packet.udp(from, to, b"who am I?")
    }
}

/// The outside port of a host's port as one server sees it; `None` if the packet does not get there.
pub(super) fn seen_from(
    scene: &mut Scene<'_>,
    host: Station,
    port: u16,
    protocol: Protocol,
    to: (Address, u16),
) -> Result<Option<u16>, Problem> {
    let heard = scene.send_out(host, to.0, |packet| first(packet, protocol, port, to.1))?;
    let ports = heard.as_ref().and_then(Heard::ports);
    Ok(ports.filter(|&(_, at)| at == to.1).map(|(seen, _)| seen))
}

/// The same for two addresses with two ports each.
fn seen_from_everywhere(
    scene: &mut Scene<'_>,
    port: u16,
    protocol: Protocol,
) -> Result<Vec<Option<u16>>, Problem> {
    let servers = [other_server(scene.family), server(scene.family)];
    let mut all = Vec::new();
    for to in servers {
        for to_port in PORTS {
            let seen = seen_from(scene, Station::A, port, protocol, (to, to_port))?;
            all.push(seen);
        }
    }
    Ok(all)
}

fn is_one_port(seen: &[Option<u16>]) -> bool {
    seen[0].is_some() && seen.iter().all(|port| port == &seen[0])
}

fn in_words(seen: &[Option<u16>]) -> String {
    let words: Vec<String> = seen
        .iter()
        .map(|port| port.map_or("none".to_owned(), |port| port.to_string()))
        .collect();
    format!("seen from outside: {}", words.join(", "))
}

fn endpoint_independent(scene: &mut Scene<'_>, protocol: Protocol) -> Outcome {
    let port = scene.port();
    let seen = seen_from_everywhere(scene, port, protocol)?;
    require(is_one_port(&seen), &in_words(&seen))
}

pub(super) fn udp_endpoint_independent(scene: &mut Scene<'_>) -> Outcome {
    endpoint_independent(scene, Protocol::UDP)
}

pub(super) fn tcp_endpoint_independent(scene: &mut Scene<'_>) -> Outcome {
    endpoint_independent(scene, Protocol::TCP)
}

/// Another host has the port already, towards the server that is asked last.
fn under_contention(scene: &mut Scene<'_>, protocol: Protocol) -> Outcome {
    let port = scene.port();
    let to = (server(scene.family), PORTS[0]);
    let other = seen_from(scene, Station::B, port, protocol, to)?;
    let seen = seen_from_everywhere(scene, port, protocol)?;
    require(is_one_port(&seen) && seen[0] != other, &in_words(&seen))
}

pub(super) fn udp_under_contention(scene: &mut Scene<'_>) -> Outcome {
    under_contention(scene, Protocol::UDP)
}

pub(super) fn tcp_under_contention(scene: &mut Scene<'_>) -> Outcome {
    under_contention(scene, Protocol::TCP)
}

/// Two hosts speak from the same port to different servers.
fn overloading(scene: &mut Scene<'_>, protocol: Protocol) -> Outcome {
    let port = scene.port();
    let servers = [server(scene.family), other_server(scene.family)];
    let one = seen_from(scene, Station::A, port, protocol, (servers[0], PORTS[0]))?;
    let other = seen_from(scene, Station::B, port, protocol, (servers[1], PORTS[0]))?;
    match (one, other) {
        (Some(one), Some(other)) if one != other => pass(),
        (Some(one), Some(_)) => fail(format!("two hosts are both port {one}")),
        _ => fail(in_words(&[one, other])),
    }
}

pub(super) fn udp_overloading(scene: &mut Scene<'_>) -> Outcome {
    overloading(scene, Protocol::UDP)
}

pub(super) fn tcp_overloading(scene: &mut Scene<'_>) -> Outcome {
    overloading(scene, Protocol::TCP)
}

pub(super) fn preservation(scene: &mut Scene<'_>) -> Outcome {
    let to = (server(scene.family), PORTS[0]);
    for protocol in [Protocol::UDP, Protocol::TCP] {
        let port = scene.port();
        let seen = seen_from(scene, Station::A, port, protocol, to)?;
        if seen != Some(port) {
            return fail(format!("{port} is {}", in_words(&[seen])));
        }
    }
    pass()
}

/// A system port that another host has already.
pub(super) fn system_ports(scene: &mut Scene<'_>) -> Outcome {
    let port = scene.port() % 200 + 600;
    let to = (server(scene.family), PORTS[0]);
    seen_from(scene, Station::B, port, Protocol::UDP, to)?;
    let seen = seen_from(scene, Station::A, port, Protocol::UDP, to)?;
    let is_one = seen.is_some_and(|seen| (1..1024).contains(&seen) && seen != port);
    require(is_one, &in_words(&[seen]))
}

/// What eight contended ports become: neither all moved by the same, nor one after the other, nor
/// next to each other.
pub(super) fn unpredictable(scene: &mut Scene<'_>) -> Outcome {
    let first = scene.ports(CONTENDED);
    let to = (server(scene.family), PORTS[0]);
    let mut seen = Vec::new();
    for port in first..first + CONTENDED {
        seen_from(scene, Station::B, port, Protocol::UDP, to)?;
        let other = seen_from(scene, Station::A, port, Protocol::UDP, to)?;
        seen.push(other);
    }
    let ports: Vec<u16> = seen.iter().flatten().copied().collect();
    let mut steps: Vec<u16> = ports
        .windows(2)
        .map(|pair| pair[1].wrapping_sub(pair[0]))
        .collect();
    steps.sort_unstable();
    steps.dedup();
    let (least, most) = (ports.iter().min(), ports.iter().max());
    let spread = least.zip(most).map_or(0, |(least, most)| most - least);
    let is_complete = ports.len() == usize::from(CONTENDED);
    require(
        is_complete && steps.len() + 1 >= usize::from(CONTENDED) - 1 && spread > 1_000,
        &in_words(&seen),
    )
}

/// What a host's echo request is outside, by its identifier.
fn query(
    scene: &mut Scene<'_>,
    host: Station,
    identifier: u16,
    to: Address,
) -> Result<Option<u16>, Problem> {
    let (request, _) = echo_kinds(scene.family);
    let word = u32::from(identifier) << 16 | 1;
    let heard = scene.send_out(host, to, |packet| packet.icmp(request, 0, word, b"echo"))?;
    let is_request = |heard: &Heard| heard.icmp().is_some_and(|message| message.kind == request);
    Ok(heard
        .filter(is_request)
        .and_then(|heard| heard.ports())
        .map(|(seen, _)| seen))
}

/// Whether a reply from outside gets to a host, with its own identifier.
fn replied(
    scene: &mut Scene<'_>,
    from: Address,
    (host, identifier): (Station, u16),
    seen: u16,
) -> Result<bool, Problem> {
    let (_, reply) = echo_kinds(scene.family);
    let word = u32::from(seen) << 16 | 1;
    let heard = scene.send_in(from, host, |packet| packet.icmp(reply, 0, word, b"echo"))?;
    Ok(heard.and_then(|heard| heard.ports()) == Some((identifier, identifier)))
}

/// Two hosts ask with the same identifier; each gets its answer.
pub(super) fn queries(scene: &mut Scene<'_>) -> Outcome {
    let identifier = scene.port();
    let to = server(scene.family);
    let mut seen = Vec::new();
    for host in [Station::A, Station::B] {
        seen.push(query(scene, host, identifier, to)?);
    }
    let (Some(a), Some(b)) = (seen[0], seen[1]) else {
        return fail(in_words(&seen));
    };
    let answered = replied(scene, to, (Station::A, identifier), a)?
        && replied(scene, to, (Station::B, identifier), b)?;
    require(
        a != b && answered,
        "an answer is lost, or goes to the other one",
    )
}

/// The identifier outside does not depend on who is asked, not even under contention.
pub(super) fn queries_independent(scene: &mut Scene<'_>) -> Outcome {
    let identifier = scene.port();
    query(scene, Station::B, identifier, server(scene.family))?;
    let mut seen = Vec::new();
    for to in [other_server(scene.family), server(scene.family)] {
        seen.push(query(scene, Station::A, identifier, to)?);
    }
    require(is_one_port(&seen), &in_words(&seen))
}

/// Port 0 is no port: nothing may leave from it, and nothing may come in to it.
pub(super) fn port_zero(scene: &mut Scene<'_>) -> Outcome {
    let far = server(scene.family);
    let left = seen_from(scene, Station::A, 0, Protocol::UDP, (far, PORTS[0]))?;
    if left == Some(0) {
        return fail("a datagram left from port 0");
    }
    let came = scene.send_in(far, Station::A, |packet| packet.udp(PORTS[0], 0, b"zero"))?;
    require(came.is_none(), "a datagram to port 0 arrived inside")
}

/// A port is published for host A; host B speaks from the same port and must not get A's visitors.
pub(super) fn shadowing(scene: &mut Scene<'_>) -> Outcome {
    let to = (server(scene.family), PORTS[0]);
    let visit = |scene: &mut Scene<'_>| {
        let heard = scene.send_in(to.0, Station::A, |packet| {
            packet.udp(PORTS[0], PUBLISHED, b"visitor")
        })?;
        Ok::<bool, Problem>(heard.and_then(|heard| heard.ports()) == Some((PORTS[0], PUBLISHED)))
    };
    let seen = seen_from(scene, Station::B, PUBLISHED, Protocol::UDP, to)?;
    if seen == Some(PUBLISHED) {
        return fail(format!(
            "another host speaks as the published port {PUBLISHED}"
        ));
    }
    require(visit(scene)?, "the published port leads nowhere")
}

/// Whoever is behind a published port speaks from that port, and to others than its visitors, too.
pub(super) fn published(scene: &mut Scene<'_>) -> Outcome {
    let visitor = other_server(scene.family);
    let heard = scene.send_in(visitor, Station::A, |packet| {
        packet.udp(PORTS[1], PUBLISHED, b"hello")
    })?;
    if heard.and_then(|heard| heard.ports()) != Some((PORTS[1], PUBLISHED)) {
        return fail("a visitor does not arrive");
    }
    for to in [(visitor, PORTS[1]), (server(scene.family), PORTS[1])] {
        let seen = seen_from(scene, Station::A, PUBLISHED, Protocol::UDP, to)?;
        if seen != Some(PUBLISHED) {
            return fail(in_words(&[seen]));
        }
    }
    pass()
}
