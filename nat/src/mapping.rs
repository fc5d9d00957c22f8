//! Dynamic mappings: which outside (address, port) an inside one has at the moment.
//!
//! # Theory of operation
//!
//! A mapping is endpoint independent (RFC 4787 §4.1 REQ-1, RFC 5382 §4.1 REQ-1): one inside address
//! and port has one outside address and port per leg, whoever it speaks to. It holds the outside
//! port and every session through it holds a counted reference to it; when the last session ends,
//! the mapping ends and the port goes back to its [`PortPool`] to rest. So a mapping needs no timer
//! of its own: its life is that of its longest session, which only packets from inside prolong.
//!
//! A packet that is let in from outside begins a session, too, and while that lasts the mapping lasts
//! (RFC 4787 §4.3 REQ-6 a allows it). But until the inside has answered, the session is not prolonged,
//! and lets nobody in: an endpoint that has gone silent is out of reach one timeout later, however
//! hard the outside tries to hold the door. Only [`Filtering::Endpoint`] has no door.
//!
//! What a mapping lets in (RFC 4787 §5 REQ-8) is decided by [`Filtering`]. The address-dependent kind needs to
//! know whether the endpoint has spoken to an address, whatever the port: the first [`RECENT`]
//! sessions in which it has stand in the mapping itself, later ones among the [`Permissions`]. Most
//! mappings have one or two sessions and pay nothing for the index.
//!
//! All of it lives behind the table's lock; established flows never come here.

use std::collections::BTreeMap;

use heddle_mem::{Index, IndexWriter, Instant, KeyedHash, Record, Slab};
use heddle_wire::{Address, Protocol};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::permission::Permissions;
use crate::ports::{Exhausted, PortPool, Wish};
use crate::published::Published;
use crate::session::{Session, Side};
use crate::tuple::{QUERY_KINDS, Zone, hash_pair, high, low};

/// Sessions that a mapping remembers itself.
const RECENT: usize = 2;

/// Buckets that the indexes start with.
const INITIAL_BUCKETS: u32 = 1 << 8;

/// Which packets from outside a mapping lets in (RFC 4787 §5, RFC 5382 §4.3 REQ-3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Filtering {
    /// From anybody.
    Endpoint,
    /// From addresses that the inside has spoken to.
    #[default]
    Address,
    /// From addresses and ports that the inside has spoken to.
    AddressPort,
}

/// One mapping as it lies in memory.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Mapping {
    inside: [u64; 2],
    outside: [u64; 2],
    inside_port: u16,
    outside_port: u16,
    zone: u16,
    owner: u16,
    /// Sessions that hold the mapping: at least one, except while the first is being made.
    sessions: u32,
    /// The sessions it remembers itself, plus one; zero for none.
    recent: [u32; RECENT],
    protocol: u8,
    _reserved: [u8; 3],
}

impl Record for Mapping {}

/// The key of a pool of outside ports.
type PoolKey = (Zone, Address, u8);

/// All dynamic mappings.
#[derive(Debug)]
pub(crate) struct Mappings {
    records: Slab<Mapping>,
    by_inside: IndexWriter,
    permissions: Permissions,
    pools: BTreeMap<PoolKey, PortPool>,
    /// How many each owner holds.
    holdings: Vec<u32>,
    limit: u32,
}

/// What a new mapping is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) protocol: Protocol,
    pub(crate) inside: Address,
    pub(crate) inside_port: u16,
    pub(crate) zone: Zone,
    pub(crate) outside: Address,
    pub(crate) owner: Side,
}

/// What the making of a mapping depends on besides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grounds<'a> {
    pub(crate) published: &'a Published,
    /// 64 unpredictable bits.
    pub(crate) random: u64,
    /// Whether the owner holds so little that it may have one of the last ports.
    pub(crate) is_modest: bool,
}

/// Where a mapping leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) id: u32,
    pub(crate) protocol: Protocol,
    pub(crate) zone: Zone,
    pub(crate) inside: Address,
    pub(crate) inside_port: u16,
    pub(crate) outside: Address,
    pub(crate) outside_port: u16,
    pub(crate) owner: Side,
}

/// Why there is no mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoMapping {
    PortsExhausted,
    TableFull,
}

impl From<Exhausted> for NoMapping {
    fn from(Exhausted: Exhausted) -> NoMapping {
        NoMapping::PortsExhausted
    }
}

impl Mapping {
    fn found(&self, id: u32) -> Found {
        let address =
            |[high, low]: [u64; 2]| Address::from_bits(u128::from(high) << 64 | u128::from(low));
        Found {
            id,
            protocol: Protocol(self.protocol),
            zone: Zone(self.zone),
            inside: address(self.inside),
            inside_port: self.inside_port,
            outside: address(self.outside),
            outside_port: self.outside_port,
            owner: Side(self.owner),
        }
    }
}

impl Mappings {
    pub(crate) fn new(limit: u32) -> Mappings {
        Mappings {
            records: Slab::new(limit),
            by_inside: Index::new(INITIAL_BUCKETS).1,
            permissions: Permissions::new(limit),
            pools: BTreeMap::new(),
            holdings: Vec::new(),
            limit,
        }
    }

    /// How many mappings there are.
    pub(crate) fn len(&self) -> u32 {
        self.records.len()
    }

    /// How many an owner holds.
    pub(crate) fn held_by(&self, owner: Side) -> u32 {
        let held = self.holdings.get(usize::from(owner.0));
        held.copied().unwrap_or(0)
    }

    /// Ports in use at an outside address.
    pub(crate) fn ports_in_use(&self, zone: Zone, outside: Address, protocol: Protocol) -> u32 {
        self.pools
            .get(&(zone, outside, protocol.0))
            .map_or(0, PortPool::used)
    }

    /// The mapping of an inside address and port at an outside address. `key` is its [`inside_key`].
    pub(crate) fn by_inside(&self, key: u64, wanted: &Wanted) -> Option<Found> {
        self.by_inside.find(key, |id| {
            let found = self.records.lock(id);
            let same = found.inside == halves(wanted.inside)
                && found.inside_port == wanted.inside_port
                && found.outside == halves(wanted.outside)
                && found.zone == wanted.zone.0
                && found.protocol == wanted.protocol.0;
            same.then(|| found.found(id))
        })
    }

    /// The mapping that an outside address and port belongs to.
    pub(crate) fn by_outside(
        &self,
        zone: Zone,
        protocol: Protocol,
        outside: Address,
        port: u16,
    ) -> Option<Found> {
        let pool = self.pools.get(&(zone, outside, protocol.0))?;
        pool.mapping_at(port).map(|id| self.get(id).0)
    }

    /// The mapping with this number, and how many sessions hold it.
    pub(crate) fn get(&self, id: u32) -> (Found, u32) {
        let mapping = *self.records.lock(id);
        (mapping.found(id), mapping.sessions)
    }

    /// Makes a mapping, preferring the inside port's own number. It has no session yet: the caller
    /// adds one at once with [`Self::hold`], or takes it back with [`Self::abandon`].
    pub(crate) fn create(
        &mut self,
        key: u64,
        wanted: &Wanted,
        grounds: &Grounds<'_>,
        now: Instant,
    ) -> Result<Found, NoMapping> {
        let Wanted {
            protocol,
            zone,
            outside,
            inside_port: preferred,
            ..
        } = *wanted;
        let wish = Wish {
            preferred,
            owner: fingerprint(key),
            random: grounds.random,
            is_modest: grounds.is_modest,
        };
        let reserved = |port| reserved_until(grounds.published, zone, protocol, outside, port);
        let pool = self
            .pools
            .entry((zone, outside, protocol.0))
            .or_insert_with(|| PortPool::new(protocol));
        let port = pool.allocate(&wish, reserved, now)?;
        self.enter(key, wanted, port)
    }

    /// Makes a mapping at a port that an older one of the same owner has just given up.
    pub(crate) fn take_over(
        &mut self,
        key: u64,
        wanted: &Wanted,
        port: u16,
    ) -> Result<Found, NoMapping> {
        let pool = self
            .pools
            .get_mut(&(wanted.zone, wanted.outside, wanted.protocol.0))
            .ok_or(Exhausted)?;
        let port = pool.take_over(port)?;
        self.enter(key, wanted, port)
    }

    /// Whether the outside port of `mapping` would do for `wanted`, were it free.
    pub(crate) fn would_serve(
        &self,
        mapping: &Found,
        wanted: &Wanted,
        published: &Published,
    ) -> bool {
        let Wanted {
            protocol,
            zone,
            outside,
            ..
        } = *wanted;
        (mapping.protocol, mapping.zone, mapping.outside) == (protocol, zone, outside)
            && reserved_until(published, zone, protocol, outside, mapping.outside_port).is_none()
            && self
                .pools
                .get(&(zone, outside, protocol.0))
                .is_some_and(|pool| pool.are_alike(mapping.outside_port, wanted.inside_port))
    }

    fn enter(&mut self, key: u64, wanted: &Wanted, outside_port: u16) -> Result<Found, NoMapping> {
        let mapping = Mapping {
            inside: halves(wanted.inside),
            outside: halves(wanted.outside),
            inside_port: wanted.inside_port,
            outside_port,
            zone: wanted.zone.0,
            owner: wanted.owner.0,
            sessions: 0,
            recent: [0; RECENT],
            protocol: wanted.protocol.0,
            _reserved: [0; 3],
        };
        let id = self.records.insert(&mapping);
        if let Some(pool) = self.pool_of(wanted.zone, wanted.outside, wanted.protocol) {
            match id {
                Some(id) => pool.assign(outside_port, id),
                None => pool.put_back(outside_port),
            }
        }
        let id = id.ok_or(NoMapping::TableFull)?;
        self.by_inside.insert(key, id);
        let owner = usize::from(wanted.owner.0);
        if self.holdings.len() <= owner {
            self.holdings.resize(owner + 1, 0);
        }
        self.holdings[owner] += 1;
        Ok(mapping.found(id))
    }

    /// Adds a session to a mapping.
    pub(crate) fn hold(&mut self, id: u32) {
        self.records.lock(id).sessions += 1;
    }

    /// Takes a session from a mapping; the last one ends it and its port goes to rest.
    pub(crate) fn release(&mut self, hash: &KeyedHash, id: u32, now: Instant) {
        let mut mapping = self.records.lock(id);
        mapping.sessions -= 1;
        let is_last = mapping.sessions == 0;
        drop(mapping);
        if is_last {
            let (found, key) = self.remove(hash, id);
            let owner = fingerprint(key);
            if let Some(pool) = self.pool_of(found.zone, found.outside, found.protocol) {
                pool.release(found.outside_port, owner, now);
            }
        }
    }

    /// Ends a mapping that no session ever held. No packet has left through it, so its port does not
    /// have to rest.
    pub(crate) fn abandon(&mut self, hash: &KeyedHash, id: u32) {
        if self.records.lock(id).sessions != 0 {
            return;
        }
        let (found, _) = self.remove(hash, id);
        if let Some(pool) = self.pool_of(found.zone, found.outside, found.protocol) {
            pool.put_back(found.outside_port);
        }
    }

    /// Ends the rest of the port that a mapping had, if it has ended.
    pub(crate) fn wake(&mut self, mapping: &Found) {
        let (zone, outside, protocol) = (mapping.zone, mapping.outside, mapping.protocol);
        if let Some(pool) = self.pool_of(zone, outside, protocol)
            && let Ok(port) = pool.take_over(mapping.outside_port)
        {
            pool.put_back(port);
        }
    }

    /// Ends a mapping, except that its port is still taken. Also returns the [`inside_key`].
    fn remove(&mut self, hash: &KeyedHash, id: u32) -> (Found, u64) {
        let (found, _) = self.get(id);
        let wanted = Wanted {
            protocol: found.protocol,
            inside: found.inside,
            inside_port: found.inside_port,
            zone: found.zone,
            outside: found.outside,
            owner: found.owner,
        };
        let key = inside_key(hash, &wanted);
        let was_there = self.by_inside.remove(key, id);
        debug_assert!(was_there, "every mapping is in the index");
        self.records.free(id);
        self.holdings[usize::from(found.owner.0)] -= 1;
        (found, key)
    }

    fn pool_of(
        &mut self,
        zone: Zone,
        outside: Address,
        protocol: Protocol,
    ) -> Option<&mut PortPool> {
        self.pools.get_mut(&(zone, outside, protocol.0))
    }

    /// Lets `peer` in through a mapping for as long as the session at `slot` lasts.
    pub(crate) fn grant(
        &mut self,
        hash: &KeyedHash,
        sessions: &Slab<Session>,
        id: u32,
        peer: Address,
        slot: u32,
    ) {
        let mut mapping = self.records.lock(id);
        if let Some(place) = mapping.recent.iter_mut().find(|place| **place == 0) {
            *place = slot + 1;
            return;
        }
        let found = mapping.found(id);
        drop(mapping);
        self.permissions.grant(hash, sessions, &found, peer, slot);
    }

    /// Takes back what [`Self::grant`] gave. The session's record must still be as it was.
    pub(crate) fn revoke(
        &mut self,
        hash: &KeyedHash,
        sessions: &Slab<Session>,
        id: u32,
        peer: Address,
        slot: u32,
    ) {
        let mut mapping = self.records.lock(id);
        if let Some(place) = mapping.recent.iter_mut().find(|place| **place == slot + 1) {
            *place = 0;
            return;
        }
        let found = mapping.found(id);
        drop(mapping);
        self.permissions.revoke(hash, sessions, &found, peer, slot);
    }

    /// Whether the inside of a mapping has spoken to `peer`.
    pub(crate) fn permits(
        &self,
        hash: &KeyedHash,
        sessions: &Slab<Session>,
        mapping: &Found,
        peer: Address,
    ) -> bool {
        let recent = self.records.lock(mapping.id).recent;
        recent
            .iter()
            .filter_map(|place| place.checked_sub(1))
            .any(|slot| sessions.lock(slot).peer_through(mapping) == Some(peer))
            || self.permissions.contains(hash, sessions, mapping, peer)
    }

    /// Octets that all mappings can take at the outside addresses that have been used, what is kept of
    /// owners apart.
    pub(crate) fn memory_bound(&self) -> usize {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        (limit.saturating_mul(Mappings::octets_per_mapping()))
            .saturating_add(3 * Index::memory_bound(0))
            .saturating_add(self.pools.len() * PortPool::MOST_MEMORY)
    }

    /// Octets that a mapping takes at most, with whom it lets in.
    pub(crate) fn octets_per_mapping() -> usize {
        Slab::<Mapping>::octets_per_record() + Index::OCTETS_PER_ENTRY + Permissions::OCTETS_EACH
    }

    /// Octets of memory in use.
    pub(crate) fn memory(&self) -> usize {
        self.records.memory()
            + self.by_inside.memory()
            + self.permissions.memory()
            + self.pools.values().map(PortPool::memory).sum::<usize>()
            + self.holdings.capacity() * size_of::<u32>()
    }
}

/// The last port of the range that may not be given to a mapping and that `port` lies in.
fn reserved_until(
    published: &Published,
    zone: Zone,
    protocol: Protocol,
    outside: Address,
    port: u16,
) -> Option<u16> {
    if let Some(publication) = published.covering(zone, protocol, outside, port) {
        return Some(publication.last_outside_port());
    }
    let is_query = matches!(protocol, Protocol::ICMP | Protocol::ICMPV6);
    (is_query && QUERY_KINDS.contains(&port)).then_some(port)
}

fn halves(address: Address) -> [u64; 2] {
    [high(address.bits()), low(address.bits())]
}

/// What the mapping of an inside address and port is filed under.
pub(crate) fn inside_key(hash: &KeyedHash, wanted: &Wanted) -> u64 {
    let port = port_word(wanted.zone, wanted.protocol, wanted.inside_port);
    hash_pair(hash, wanted.inside, wanted.outside, port)
}

fn port_word(zone: Zone, protocol: Protocol, port: u16) -> u64 {
    u64::from(port) << 32 | u64::from(zone.0) << 8 | u64::from(protocol.0)
}

/// Tells one inside address and port from another, for the rest of its port.
fn fingerprint(key: u64) -> u32 {
    let [.., c, d, e, f] = key.to_le_bytes();
    u32::from_le_bytes([c, d, e, f])
}

#[cfg(test)]
mod tests;
