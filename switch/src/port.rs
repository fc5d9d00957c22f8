//! A port: one plug of the switch, whatever is plugged into it.
//!
//! What a port *is* never changes while it exists: its endpoint, whose it is, which addresses it may
//! use. A change is a new port. Its counters are the only part that moves, one set for each worker.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_utils::CachePadded;
use heddle_wire::{Address, MacAddr};

use crate::counter::Counter;
use crate::drop::{Cause, DropReason};
use crate::endpoint::Endpoint;
use crate::storm::Meter;

/// Number of a port: its position in the configuration. Reused only after every trace of the former
/// holder is gone (see [`crate::Switch::publish`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u16);

impl PortId {
    /// Position in an array of ports.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "port {}", self.0)
    }
}

/// Number of a network: its position in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkId(pub u16);

impl NetworkId {
    /// Position in an array of networks.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Number of a leg: its position in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegId(pub u16);

impl LegId {
    /// The highest number: a session keeps the zone of a leg, which is one more, in a byte.
    pub const LAST: LegId = LegId(254);

    /// Position in an array of legs.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What a port is for.
#[derive(Clone, Debug)]
pub enum Role {
    /// The plug of a sandbox in a network.
    Member {
        /// The network.
        network: NetworkId,
        /// Who may speak here.
        identity: Identity,
    },
    /// A way out.
    Leg(LegId),
}

/// The addresses an endpoint was given, and whether it is held to them.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its MAC addresses; more than one only for machines behind an endpoint.
    pub macs: Vec<MacAddr>,
    /// The same as numbers, sorted.
    stations: Vec<u64>,
    /// Its IP addresses, sorted; with link-local ones.
    addresses: Vec<Address>,
    /// Port security: frames with other sources are dropped.
    pub secure: bool,
}

impl Identity {
    /// An identity with the link-local addresses that Linux derives from the MAC addresses (RFC 4291
    /// appendix A) added to `addresses`.
    #[must_use]
    pub fn new(macs: Vec<MacAddr>, mut addresses: Vec<Address>, secure: bool) -> Identity {
        addresses.extend(macs.iter().map(|&mac| link_local(mac)));
        addresses.sort_unstable();
        addresses.dedup();
        let mut stations: Vec<u64> = macs.iter().map(|mac| mac.to_u64()).collect();
        stations.sort_unstable();
        Identity {
            macs,
            stations,
            addresses,
            secure,
        }
    }

    /// Whether `mac` was given to this endpoint.
    #[inline]
    #[must_use]
    pub fn is_station(&self, mac: MacAddr) -> bool {
        let number = mac.to_u64();
        match self.stations.as_slice() {
            // Nearly all have one.
            [only] => *only == number,
            stations => stations.binary_search(&number).is_ok(),
        }
    }

    /// Whether `address` was given to this endpoint.
    #[inline]
    #[must_use]
    pub fn owns(&self, address: Address) -> bool {
        // An endpoint has three or four addresses: looking at each beats searching.
        if self.addresses.len() <= 4 {
            self.addresses.contains(&address)
        } else {
            self.addresses.binary_search(&address).is_ok()
        }
    }

    /// The addresses, sorted.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }
}

/// The link-local address with the modified EUI-64 identifier of `mac` (RFC 4291 appendix A).
#[must_use]
pub fn link_local(mac: MacAddr) -> Address {
    let [a, b, c, d, e, f] = mac.0;
    let identifier = [a ^ 0x02, b, c, 0xff, 0xfe, d, e, f];
    Address::from_bits((0xfe80_u128 << 112) | u128::from(u64::from_be_bytes(identifier)))
}

/// One plug of the switch.
#[derive(Debug)]
pub struct Port {
    /// Its number.
    pub id: PortId,
    /// What people call it: the name of the sandbox or of the leg.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Longest IP packet the link carries, in octets.
    pub mtu: u16,
    /// Where its frames come from and go to.
    pub endpoint: Endpoint,
    /// Counters by worker.
    counters: Box<[CachePadded<PortCounters>]>,
    gone: AtomicBool,
    /// Whether a multicast router has been heard behind it.
    router: AtomicBool,
    /// What it has flooded.
    pub(crate) flooded: Meter,
}

/// What one worker counted at one port.
#[derive(Debug)]
pub(crate) struct PortCounters {
    /// Frames received from the endpoint.
    pub(crate) received_frames: Counter,
    /// Octets received, Ethernet header included.
    pub(crate) received_bytes: Counter,
    /// Frames sent to the endpoint.
    pub(crate) sent_frames: Counter,
    /// Octets sent, Ethernet header included.
    pub(crate) sent_bytes: Counter,
    drops: [Counter; DropReason::COUNT],
}

impl PortCounters {
    fn new() -> PortCounters {
        PortCounters {
            received_frames: Counter::default(),
            received_bytes: Counter::default(),
            sent_frames: Counter::default(),
            sent_bytes: Counter::default(),
            drops: std::array::from_fn(|_| Counter::default()),
        }
    }

    /// Counts a frame from this port that ended.
    #[inline]
    pub(crate) fn dropped(&self, reason: DropReason) {
        self.dropped_many(reason, 1);
    }

    /// Counts frames from this port that ended.
    #[inline]
    pub(crate) fn dropped_many(&self, reason: DropReason, frames: usize) {
        self.drops[reason.index()].add(u64::try_from(frames).unwrap_or(0));
    }
}

/// Sums over all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortStatistics {
    /// Frames received from the endpoint.
    pub received_frames: u64,
    /// Octets received, Ethernet header included.
    pub received_bytes: u64,
    /// Frames sent to the endpoint.
    pub sent_frames: u64,
    /// Octets sent, Ethernet header included.
    pub sent_bytes: u64,
    /// Frames from this port that ended, by reason; only reasons that occurred.
    pub drops: Vec<(DropReason, u64)>,
}

impl Port {
    /// A port with fresh counters for `workers` workers.
    #[must_use]
    pub fn new(
        id: PortId,
        name: String,
        role: Role,
        mtu: u16,
        endpoint: Endpoint,
        workers: usize,
    ) -> Port {
        let counters = (0..workers.max(1))
            .map(|_| CachePadded::new(PortCounters::new()))
            .collect();
        Port {
            id,
            name,
            role,
            mtu,
            endpoint,
            counters,
            gone: AtomicBool::new(false),
            router: AtomicBool::new(false),
            flooded: Meter::default(),
        }
    }

    /// Whether a worker has found the endpoint's other end gone. Once said, it stays true.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    pub(crate) fn mark_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// Notes that a multicast router is behind this port. It is not forgotten while the port is there: a
    /// report too many costs a frame, one that is missed costs a group.
    pub(crate) fn mark_router(&self) {
        if !self.router.load(Ordering::Relaxed) {
            self.router.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a router may be behind this port: one was heard, or there is no port security.
    pub(crate) fn may_be_router(&self) -> bool {
        self.may_hide_hosts() || self.router.load(Ordering::Relaxed)
    }

    /// Whether addresses that we do not know of may be behind this port.
    pub(crate) fn may_hide_hosts(&self) -> bool {
        matches!(&self.role, Role::Member { identity, .. } if !identity.secure)
    }

    /// The counters that `worker` writes.
    #[inline]
    pub(crate) fn counters(&self, worker: usize) -> &PortCounters {
        &self.counters[worker]
    }

    /// Sums over all workers.
    #[must_use]
    pub fn statistics(&self) -> PortStatistics {
        let sum = |field: fn(&PortCounters) -> &Counter| {
            self.counters
                .iter()
                .map(|counters| field(counters).get())
                .sum()
        };
        let lost = (Cause::ReceiveRingFull.into(), self.endpoint.lost());
        let drops = DropReason::all()
            .map(|reason| {
                let index = reason.index();
                (
                    reason,
                    self.counters
                        .iter()
                        .map(|counters| counters.drops[index].get())
                        .sum(),
                )
            })
            .chain([lost])
            .filter(|&(_, frames)| frames != 0)
            .collect();
        PortStatistics {
            received_frames: sum(|counters| &counters.received_frames),
            received_bytes: sum(|counters| &counters.received_bytes),
            sent_frames: sum(|counters| &counters.sent_frames),
            sent_bytes: sum(|counters| &counters.sent_bytes),
            drops,
        }
    }

    /// The network a member port is in.
    #[must_use]
    pub fn network(&self) -> Option<NetworkId> {
        match self.role {
            Role::Member { network, .. } => Some(network),
            Role::Leg(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use heddle_wire::MacAddr;

    use super::Identity;

    #[test]
    fn an_identity_knows_its_stations_however_many_they_are() {
        let mac = |number| MacAddr::new([2, 0, 0, 0, number, !number]);
        for count in [0_u8, 1, 2, 64] {
            // In no order.
            let macs: Vec<MacAddr> = (0..count)
                .map(|number: u8| mac(number.wrapping_mul(37) % 64))
                .collect();
            let identity = Identity::new(macs.clone(), Vec::new(), true);
            for number in 0..=255 {
                assert_eq!(
                    identity.is_station(mac(number)),
                    macs.contains(&mac(number))
                );
            }
            assert_eq!(identity.macs, macs, "the first stays the first");
        }
    }
}
