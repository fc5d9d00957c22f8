//! What identifies a flow: addresses, ports, protocol, and the zone they are valid in.
//!
//! Directions are *original* (that of the first packet) and *reply*. A session is two tuples: the
//! original one as the first packet arrived, and the reply one as the answer will arrive. Without
//! translation the second is the first one inverted; every translation changes only the second, and
//! rewriting in either direction is derived from the pair, so the two can never disagree.
//!
//! ICMP queries fit the same shape: the identifier stands where the inside's port would, and the
//! *request* kind (echo, timestamp) where the outside's port would, so that an answer has exactly
//! the inverted tuple of its question (RFC 5508 §3.1).

use heddle_mem::KeyedHash;
use heddle_wire::{Address, Embedded, Icmp, Ip, Protocol, Transport};

/// Which way a packet of a session goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The way of the first packet.
    Original,
    /// The way of the answer.
    Reply,
}

impl Direction {
    /// Both ways.
    pub const BOTH: [Direction; 2] = [Direction::Original, Direction::Reply];

    /// Position in an array that holds one thing for each direction.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Direction::Original => 0,
            Direction::Reply => 1,
        }
    }

    /// The other way.
    #[must_use]
    pub fn inverse(self) -> Direction {
        match self {
            Direction::Original => Direction::Reply,
            Direction::Reply => Direction::Original,
        }
    }
}

/// Where a tuple is valid. All inside networks share [`Zone::INSIDE`], because their subnets never
/// overlap; each leg to the outside has a zone of its own, because two legs may well lead to two
/// unrelated worlds that use the same addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Zone(pub u16);

impl Zone {
    /// The networks we switch.
    pub const INSIDE: Zone = Zone(0);

    /// The same networks, for what is tracked on its way between two endpoints and never translated. A
    /// zone of its own, so that such a session is never taken for one that leads outside.
    pub const WITHIN: Zone = Zone(u16::MAX);

    /// Whether packets arrive there from an endpoint of ours.
    #[inline]
    #[must_use]
    pub fn is_inside(self) -> bool {
        matches!(self, Zone::INSIDE | Zone::WITHIN)
    }
}

/// One direction of a flow, as its packets look on arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port, or the identifier of an ICMP query.
    pub source_port: u16,
    /// Destination port, or the request kind of an ICMP query.
    pub destination_port: u16,
    /// Upper-layer protocol.
    pub protocol: Protocol,
    /// Where the packets arrive.
    pub zone: Zone,
}

impl Tuple {
    /// The tuple of a packet that arrived in `zone`; `None` where there is nothing to track: other
    /// protocols, ICMP errors, fragments without ports.
    #[inline]
    #[must_use]
    pub fn of(ip: &Ip, zone: Zone) -> Option<Tuple> {
        let (source_port, destination_port) = match &ip.transport {
            Transport::Tcp(tcp) => (tcp.source_port, tcp.destination_port),
            Transport::Udp(udp) => (udp.source_port, udp.destination_port),
            Transport::Icmp(icmp) => query_ports(ip.protocol, icmp)?,
            Transport::Other | Transport::Absent => return None,
        };
        Some(Tuple {
            source: ip.source,
            destination: ip.destination,
            source_port,
            destination_port,
            protocol: ip.protocol,
            zone,
        })
    }

    /// The tuple of the answer, where nothing is translated and it arrives in `zone`.
    #[must_use]
    pub fn inverse(&self, zone: Zone) -> Tuple {
        Tuple {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
            zone,
        }
    }

    /// Whether a packet with this tuple can be the first of a flow: the answer to an ICMP query cannot.
    #[must_use]
    pub fn can_begin(&self) -> bool {
        let is_icmp = matches!(self.protocol, Protocol::ICMP | Protocol::ICMPV6);
        !is_icmp
            || QUERIES.iter().any(|&(of, request, _)| {
                of == self.protocol && u16::from(request) == self.destination_port
            })
    }

    /// The hash that the tuple is filed under.
    #[inline]
    #[must_use]
    pub(crate) fn hash(&self, hash: &KeyedHash) -> u64 {
        hash_pair(hash, self.source, self.destination, self.rest())
    }

    /// Everything but the addresses, in a word.
    #[inline]
    fn rest(&self) -> u64 {
        u64::from(self.source_port) << 48
            | u64::from(self.destination_port) << 32
            | u64::from(self.zone.0) << 16
            | u64::from(self.protocol.0)
    }
}

/// The hash of two addresses and a word.
///
/// The same five words for both families: to pack two IPv4 addresses into one takes as many
/// instructions as the multiplications that it saves.
#[inline]
pub(crate) fn hash_pair(hash: &KeyedHash, one: Address, other: Address, rest: u64) -> u64 {
    let (one, other) = (one.bits(), other.bits());
    hash.hash(&[high(one), low(one), high(other), low(other), rest])
}

/// Upper half of an address.
#[inline]
pub(crate) fn high(bits: u128) -> u64 {
    low(bits >> 64)
}

/// Lower half of an address.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half is what is asked for"
)]
pub(crate) fn low(bits: u128) -> u64 {
    bits as u64
}

/// ICMP query kinds that are translated: request, reply (RFC 792; RFC 4443 §4; RFC 5508 §3.1 asks
/// for all queries, of which information and address mask are obsolete by RFC 6918).
const QUERIES: [(Protocol, u8, u8); 3] = [
    (Protocol::ICMP, 8, 0),
    (Protocol::ICMP, 13, 14),
    (Protocol::ICMPV6, 128, 129),
];

/// Identifiers that are never given to a query outside: there, a question of that identifier would
/// have the tuple of an answer to it.
pub(crate) const QUERY_KINDS: [u16; 3] = [8, 13, 128];

/// Ports of an ICMP query or its answer; `None` for errors and for kinds that are not translated.
#[inline]
fn query_ports(protocol: Protocol, icmp: &Icmp) -> Option<(u16, u16)> {
    QUERIES.iter().find_map(|&(of, request, reply)| {
        if of != protocol {
            None
        } else if icmp.kind == request {
            Some((icmp.id(), u16::from(request)))
        } else if icmp.kind == reply {
            Some((u16::from(request), icmp.id()))
        } else {
            None
        }
    })
}

/// The tuple of a packet quoted in an ICMP error, as if the packet had arrived in `zone`.
#[must_use]
pub fn quoted(embedded: &Embedded, zone: Zone) -> Option<Tuple> {
    let (source_port, destination_port) = match embedded.icmp_kind {
        None => (embedded.source_port, embedded.destination_port),
        Some(kind) => QUERIES.iter().find_map(|&(of, request, reply)| {
            if of != embedded.protocol {
                None
            } else if kind == request {
                Some((embedded.source_port, u16::from(request)))
            } else if kind == reply {
                Some((u16::from(request), embedded.source_port))
            } else {
                None
            }
        })?,
    };
    Some(Tuple {
        source: embedded.source,
        destination: embedded.destination,
        source_port,
        destination_port,
        protocol: embedded.protocol,
        zone,
    })
}

#[cfg(test)]
mod tests;
