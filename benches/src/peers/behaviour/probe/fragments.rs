//! Datagrams in parts, and such that should be (RFC 4787 §10, §11; RFC 5722; RFC 1191).

use std::collections::BTreeMap;

use heddle_wire::builder::{Link, Packet};
use heddle_wire::{
    Address, Family, Fragment, MacAddr, Protocol, Summary, Transport, icmp,
    transport_checksum_is_valid,
};

use super::super::heard::Heard;
use super::super::places::{INSIDE_MTU, OUTSIDE_MTU, Station, outside, server};
use super::super::scene::Scene;
use super::super::verdict::{Outcome, Verdict, fail, pass, pass_as, require};
use super::mapping::seen_from;
use crate::problem::Problem;

const PORT: u16 = 3_478;

/// Octets of a datagram, and of each part of it but the last: a multiple of eight that fits everywhere.
const LEN: usize = 3_000;
const PART: usize = 1_200;

/// The orders in which three parts may come.
const ORDERS: [[usize; 3]; 3] = [[0, 1, 2], [2, 1, 0], [1, 2, 0]];

/// Content of which no two parts are alike.
fn content() -> Vec<u8> {
    (0..LEN)
        .map(|place| u8::try_from(place * 7 % 251).unwrap_or(0))
        .collect()
}

/// The parts of a datagram.
fn parts(packet: &Packet, id: u32, from: u16, to: u16) -> Vec<Vec<u8>> {
    let whole = packet.udp_segment(from, to, &content());
    let count = whole.len().div_ceil(PART);
    whole
        .chunks(PART)
        .enumerate()
        .map(|(number, part)| {
            let offset = u16::try_from(number * PART).unwrap_or(0);
            let packet = packet.clone().fragment(id, offset, number + 1 < count);
            packet.frame(Protocol::UDP, part)
        })
        .collect()
}

/// A datagram put together again.
#[derive(Debug, PartialEq, Eq)]
struct Whole {
    ports: (u16, u16),
    data: Vec<u8>,
    /// Whether its checksum is right.
    is_sound: bool,
    /// What its parts had in common, if it came in some.
    id: Option<u32>,
}

/// Puts datagrams together again, as a careless receiver does: what was there first stays.
struct Reassembly {
    source: Address,
    destination: Address,
    /// By identification.
    trains: BTreeMap<u32, Train>,
}

/// Parts of one datagram by their offset, and its length once that is known.
#[derive(Default)]
struct Train {
    parts: BTreeMap<usize, Vec<u8>>,
    len: Option<usize>,
}

impl Reassembly {
    fn new(source: Address, destination: Address) -> Reassembly {
        Reassembly {
            source,
            destination,
            trains: BTreeMap::new(),
        }
    }

    /// Takes a frame: the datagram that it completes.
    fn take(&mut self, heard: &Heard) -> Option<Whole> {
        let ip = heard.any_ip()?;
        let right = (ip.source, ip.destination) == (self.source, self.destination)
            && ip.protocol == Protocol::UDP;
        let part = ip.payload(&heard.frame).filter(|_| right)?;
        let (id, offset, last) = match ip.fragment {
            Fragment::Whole => return self.read(part, None),
            Fragment::First { id } => (id, 0, false),
            Fragment::Later { id, offset, last } => (id, usize::from(offset), last),
        };
        let Train { parts, len } = self.trains.entry(id).or_default();
        parts.entry(offset).or_insert_with(|| part.to_vec());
        if last {
            *len = Some(offset + part.len());
        }
        let mut whole = Vec::new();
        for (&offset, part) in &*parts {
            // A hole: wait for more.
            let known = whole.len().checked_sub(offset)?;
            whole.extend(part.get(known..).unwrap_or_default());
        }
        let is_whole = *len == Some(whole.len());
        if is_whole {
            self.read(&whole, Some(id))
        } else {
            None
        }
    }

    /// Reads a whole UDP datagram.
    fn read(&self, segment: &[u8], id: Option<u32>) -> Option<Whole> {
        let any = MacAddr::BROADCAST;
        let packet = Link::new(any, any).ip(self.source, self.destination);
        let frame = packet.frame(Protocol::UDP, segment);
        let summary = Summary::parse(&frame).ok()?;
        let ip = summary.ip()?;
        let Transport::Udp(udp) = ip.transport else {
            return None;
        };
        Some(Whole {
            ports: (udp.source_port, udp.destination_port),
            data: segment.get(8..)?.to_vec(),
            is_sound: transport_checksum_is_valid(&frame, ip),
            id,
        })
    }
}

/// What becomes of frames between a host and the outside: the datagram that they make.
fn carried(
    scene: &mut Scene<'_>,
    path: (Station, Station),
    frames: &[Vec<u8>],
    (source, destination): (Address, Address),
) -> Result<Option<Whole>, Problem> {
    let mut reassembly = Reassembly::new(source, destination);
    scene.hear(path, frames, |heard| reassembly.take(heard))
}

pub(super) fn outward(scene: &mut Scene<'_>) -> Outcome {
    for (number, order) in (0_u32..).zip(ORDERS) {
        let port = scene.port();
        let far = server(scene.family);
        let all = parts(&scene.outward(Station::A, far), 0x5100 + number, port, PORT);
        let frames = order.map(|place| all[place].clone());
        let path = (Station::A, Station::Outside);
        let ends = (outside(scene.family), far);
        let whole = carried(scene, path, &frames, ends)?;
        let is_right =
            |whole: Whole| whole.ports.1 == PORT && whole.data == content() && whole.is_sound;
        if !whole.is_some_and(is_right) {
            return fail(format!("lost when its parts come in the order {order:?}"));
        }
    }
    pass()
}

pub(super) fn inward(scene: &mut Scene<'_>) -> Outcome {
    let port = scene.port();
    let far = server(scene.family);
    let to = (far, PORT);
    let Some(seen) = seen_from(scene, Station::A, port, Protocol::UDP, to)? else {
        return fail("there is no mapping");
    };
    for (number, order) in (0_u32..).zip(ORDERS) {
        let all = parts(&scene.inward(far), 0x6100 + number, PORT, seen);
        let frames = order.map(|place| all[place].clone());
        let path = (Station::Outside, Station::A);
        let ends = (far, Station::A.address(scene.family));
        let whole = carried(scene, path, &frames, ends)?;
        let is_right =
            |whole: Whole| whole.ports == (PORT, port) && whole.data == content() && whole.is_sound;
        if !whole.is_some_and(is_right) {
            return fail(format!("lost when its parts come in the order {order:?}"));
        }
    }
    pass()
}

/// Parts that overlap, and differ where they do (RFC 5722 §4): nothing may come of them.
pub(super) fn overlap(scene: &mut Scene<'_>) -> Outcome {
    let port = scene.port();
    let far = server(scene.family);
    let packet = scene.outward(Station::A, far);
    let all = parts(&packet, 0x7100, port, PORT);
    let path = (Station::A, Station::Outside);
    let ends = (outside(scene.family), far);
    if carried(scene, path, &all, ends)?.is_none() {
        return fail("no datagram in parts passes at all");
    }
    // Once more, and before its end comes a part that begins eight octets early.
    let mut frames = parts(&packet, 0x7101, port, PORT);
    let start = u16::try_from(2 * PART - 8).unwrap_or(0);
    let early = packet
        .fragment(0x7101, start, true)
        .frame(Protocol::UDP, &[0xee; 64]);
    frames.insert(2, early);
    let whole = carried(scene, path, &frames, ends)?;
    require(whole.is_none(), "a datagram whose parts overlap passes")
}

/// Two hosts number their datagrams alike; the receiver must be able to tell them apart.
pub(super) fn identification(scene: &mut Scene<'_>) -> Outcome {
    let (far, own) = (server(scene.family), outside(scene.family));
    let mut seen = Vec::new();
    for host in [Station::A, Station::B] {
        let port = scene.port();
        let frames = parts(&scene.outward(host, far), 0x5a5a, port, PORT);
        let path = (host, Station::Outside);
        let whole = carried(scene, path, &frames, (own, far))?;
        seen.push(whole.and_then(|whole| whole.id));
    }
    match seen[..] {
        [Some(one), Some(other)] if one != other => pass(),
        [Some(one), Some(_)] => fail(format!("both are number {one:#x}")),
        _ => fail("no datagram in parts passes at all"),
    }
}

/// Octets of payload that make a datagram which fits inside and not outside.
fn too_much(family: Family) -> Vec<u8> {
    let headers = match family {
        Family::V4 => 28,
        Family::V6 => 48,
    };
    vec![0x5a; usize::from(INSIDE_MTU) - 50 - headers]
}

pub(super) fn too_big(scene: &mut Scene<'_>) -> Outcome {
    let port = scene.port();
    let family = scene.family;
    let far = server(family);
    let packet = scene.outward(Station::A, far).dont_fragment();
    let frame = packet.udp(port, PORT, &too_much(family));
    let told = scene.hear((Station::A, Station::A), &[frame], |heard| {
        let (message, quote) = (heard.icmp()?, heard.quote()?);
        let is_it = match family {
            Family::V4 => (message.kind, message.code) == (icmp::v4::DESTINATION_UNREACHABLE, 4),
            Family::V6 => message.kind == icmp::v6::PACKET_TOO_BIG,
        };
        let is_mine = quote.source_port == port;
        (is_it && is_mine).then_some(message.word)
    })?;
    match told {
        None => fail("the sender is told nothing"),
        Some(mtu) if mtu == u32::from(OUTSIDE_MTU) => pass_as(format!("MTU {mtu}")),
        Some(mtu) => fail(format!("the sender is told {mtu} instead of {OUTSIDE_MTU}")),
    }
}

pub(super) fn cut(scene: &mut Scene<'_>) -> Outcome {
    if scene.family == Family::V6 {
        let detail = "IPv6 routers cut nothing (RFC 8200 §5)".to_owned();
        return Ok(Verdict::NotApplicable(detail));
    }
    let port = scene.port();
    let far = server(scene.family);
    let data = too_much(scene.family);
    let packet = scene.outward(Station::A, far).may_fragment();
    let frame = packet.udp(port, PORT, &data);
    let path = (Station::A, Station::Outside);
    let ends = (outside(scene.family), far);
    let whole = carried(scene, path, &[frame], ends)?;
    let is_right = |whole: Whole| whole.data == data && whole.is_sound;
    require(whole.is_some_and(is_right), "it is lost")
}
