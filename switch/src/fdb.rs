//! The forwarding database: which station is behind which port (IEEE 802.1Q §8.8).
//!
//! # Theory of operation
//!
//! One table for all networks, keyed by (network, MAC address). Entries are *fixed*, for the
//! addresses that endpoints were given, or *learned* from the source of frames. A fixed entry is never
//! overwritten, and is also what port security checks a source against: one lookup answers "who has
//! this address" and "is it the one who speaks".
//!
//! **Lookup** takes no lock. An entry is two words, the key and a value (port, kind, time); a reader
//! takes the value first and the key after it. A writer that reuses an entry clears the key first, so
//! the value is that of the key or of a station that had the entry in between, if the key has come back
//! to it meanwhile. To tell these two apart the value repeats some bits of the key's hash.
//!
//! **Learning** touches shared memory only when something is new: a station not seen before or behind
//! another port takes the writer's lock; a known one has its time refreshed at most once a second.
//!
//! **Remembering**: each worker has a [`Cache`] before the table.
//!
//! **Bounds** are per port and per network. A port that has used up its own bound replaces its own
//! oldest entry. When a network is full, a port that holds more than [`Limits::guaranteed`] replaces its
//! own oldest entry too, and one that holds fewer still gets a new one: so a port that floods addresses
//! only ever pushes out itself, and everybody can always learn a few.

mod cache;

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use heddle_mem::{Index, IndexWriter, Instant, KeyedHash, Links, List, Segments, Stamp, Wheel};
use heddle_wire::MacAddr;

pub(crate) use cache::Cache;

use crate::port::{NetworkId, PortId};

/// How long a learned station is remembered (IEEE 802.1Q §8.8.3, table 8-6: 300 s).
pub const AGEING_TIME: Duration = Duration::from_secs(300);

/// What can be asked for instead (IEEE 802.1Q §8.8.3, table 8-6: 10 s to 10⁶ s).
pub const AGEING_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_secs(1_000_000);

/// How often a station that keeps talking is noted. Coarse, so that two workers hearing the same
/// station do not pass its cache line to and fro.
const REFRESH: Duration = Duration::from_secs(1);

/// How exact ageing is.
const GRANULARITY: Duration = Duration::from_secs(1);

const INITIAL_BUCKETS: u32 = 1 << 8;
const FIRST_SEGMENT: u32 = 1 << 10;

/// How many stations are learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Learned behind one port.
    pub port: u32,
    /// Learned in one network, beyond which only guarantees count.
    pub network: u32,
    /// Learned behind one port even if the network is full.
    pub guaranteed: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            port: 1024,
            network: 4096,
            guaranteed: 16,
        }
    }
}

/// What is known of a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// Where it is.
    pub port: PortId,
    /// Given by configuration, not learned.
    pub fixed: bool,
}

/// What a frame taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// Nothing new.
    Known,
    /// A station that was not known.
    New,
    /// A station that was behind another port.
    Moved,
    /// A station whose address is fixed to another port.
    Fixed,
}

/// An entry for listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Network the station is in.
    pub network: NetworkId,
    /// Its address.
    pub mac: MacAddr,
    /// Where it is.
    pub station: Station,
    /// How long ago it was heard; nothing for fixed entries.
    pub age: Option<Duration>,
}

/// An entry: zero key means unused.
#[derive(Debug, Default, zerocopy::FromZeros)]
struct Entry {
    key: AtomicU64,
    value: AtomicU64,
}

/// The forwarding database.
#[derive(Debug)]
pub struct Fdb {
    hash: KeyedHash,
    index: Index,
    entries: Segments<Entry>,
    limits: Limits,
    writer: Mutex<Writer>,
    next_deadline: AtomicU64,
    /// How often anything has changed that a worker may remember.
    version: CachePadded<AtomicU64>,
}

#[derive(Debug)]
struct Writer {
    index: IndexWriter,
    wheel: Wheel,
    links: Links,
    free: Vec<u32>,
    extent: u32,
    ports: HashMap<PortId, Heard>,
    networks: HashMap<NetworkId, u32>,
    ageing: HashMap<NetworkId, Duration>,
}

impl Writer {
    fn ageing_of(&self, network: NetworkId) -> Duration {
        ageing_of(&self.ageing, network)
    }
}

fn ageing_of(ageing: &HashMap<NetworkId, Duration>, network: NetworkId) -> Duration {
    ageing.get(&network).copied().unwrap_or(AGEING_TIME)
}

/// Stations behind one port: learned ones, the one heard first in front, and fixed ones.
#[derive(Debug, Default)]
struct Heard {
    list: List,
    count: u32,
    fixed: List,
}

impl Heard {
    fn any(&self) -> Option<u32> {
        self.list.front().or(self.fixed.front())
    }
}

/// Octets that an entry takes besides the index: itself, links, timer, a place among the free.
const OCTETS_PER_ENTRY: usize = size_of::<Entry>() + 24;

const NEVER: u64 = u64::MAX;
const FIXED: u64 = 1 << 48;

/// Bits of the hash of its key that a value repeats.
const TAG: u64 = 0x7fff << 49;

/// The key of a station. Never zero: network numbers are stored plus one.
#[inline]
fn key_of(network: NetworkId, mac: MacAddr) -> u64 {
    (u64::from(network.0) + 1) << 48 | mac.to_u64()
}

fn network_of(key: u64) -> NetworkId {
    let [.., high, low] = (key >> 48).to_be_bytes();
    NetworkId(u16::from_be_bytes([high, low]).wrapping_sub(1))
}

fn mac_of(key: u64) -> MacAddr {
    MacAddr::from_u64(key & 0xffff_ffff_ffff)
}

#[inline]
fn pack(station: Station, seen: Stamp, hash: u64) -> u64 {
    let fixed = if station.fixed { FIXED } else { 0 };
    hash & TAG | fixed | u64::from(station.port.0) << 32 | u64::from(seen.to_bits())
}

#[inline]
fn unpack(value: u64) -> (Station, Stamp) {
    let [_, _, high, low, a, b, c, d] = value.to_be_bytes();
    let port = PortId(u16::from_be_bytes([high, low]));
    let seen = Stamp::from_bits(u32::from_be_bytes([a, b, c, d]));
    (
        Station {
            port,
            fixed: value & FIXED != 0,
        },
        seen,
    )
}

impl Fdb {
    /// An empty database. `secret` keys the hash and must be unpredictable.
    #[must_use]
    pub fn new(limits: Limits, secret: [u8; 64], now: Instant) -> Fdb {
        let (index, writer) = Index::new(INITIAL_BUCKETS);
        Fdb {
            hash: KeyedHash::new(secret),
            index,
            entries: Segments::new(FIRST_SEGMENT),
            limits,
            writer: Mutex::new(Writer {
                index: writer,
                wheel: Wheel::new(now, GRANULARITY),
                links: Links::new(),
                free: Vec::new(),
                extent: 0,
                ports: HashMap::new(),
                networks: HashMap::new(),
                ageing: HashMap::new(),
            }),
            next_deadline: AtomicU64::new(NEVER),
            version: CachePadded::new(AtomicU64::new(0)),
        }
    }

    /// The hash of a station, for [`Self::find`] and [`Self::learn`].
    #[inline]
    #[must_use]
    pub fn hash(&self, network: NetworkId, mac: MacAddr) -> u64 {
        self.hash.hash(&[key_of(network, mac)])
    }

    /// Where a station is.
    #[inline]
    #[must_use]
    pub fn find(&self, network: NetworkId, mac: MacAddr, hash: u64) -> Option<Station> {
        self.look(key_of(network, mac), hash)
            .map(|(_, value)| unpack(value).0)
    }

    #[inline(always)]
    fn version(&self) -> u64 {
        // Acquire: whoever sees the version sees the change.
        self.version.load(Ordering::Acquire)
    }

    /// Voids what workers remember. The caller has changed the table and holds the writer.
    fn next_version(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The entry and value of a key.
    #[inline]
    fn look(&self, key: u64, hash: u64) -> Option<(&Entry, u64)> {
        self.index.find(hash, |slot| {
            let entry = self.entries.get(slot)?;
            let value = entry.value.load(Ordering::Acquire);
            // In this order: see the theory of operation.
            let same = value & TAG == hash & TAG && entry.key.load(Ordering::Acquire) == key;
            same.then_some((entry, value))
        })
    }

    /// Takes note that a frame of `mac` came in at `port`.
    #[inline]
    pub fn learn(
        &self,
        network: NetworkId,
        mac: MacAddr,
        hash: u64,
        port: PortId,
        now: Instant,
    ) -> Learned {
        let key = key_of(network, mac);
        let Some((entry, value)) = self.look(key, hash) else {
            return self.learn_slowly(key, hash, port, now);
        };
        let (station, seen) = unpack(value);
        if station.fixed {
            return if station.port == port {
                Learned::Known
            } else {
                Learned::Fixed
            };
        }
        if station.port != port {
            return self.learn_slowly(key, hash, port, now);
        }
        if seen.elapsed(now) >= REFRESH {
            // If the entry has just become another station's, the exchange fails or gives that one
            // a second more of life.
            let fresh = pack(station, Stamp::from(now), hash);
            let _ =
                entry
                    .value
                    .compare_exchange(value, fresh, Ordering::Release, Ordering::Relaxed);
        }
        Learned::Known
    }

    #[cold]
    fn learn_slowly(&self, key: u64, hash: u64, port: PortId, now: Instant) -> Learned {
        let mut writer = self.lock();
        let station = Station { port, fixed: false };
        let known = writer.index.find(hash, |slot| {
            let entry = self.entries.get(slot)?;
            (entry.key.load(Ordering::Relaxed) == key)
                .then(|| (slot, unpack(entry.value.load(Ordering::Relaxed)).0))
        });
        let learned = match known {
            Some((
                _,
                Station {
                    fixed: true,
                    port: owner,
                },
            )) => {
                return if owner == port {
                    Learned::Known
                } else {
                    Learned::Fixed
                };
            }
            Some((_, Station { port: before, .. })) if before == port => return Learned::Known,
            Some((slot, _)) => {
                self.remove(&mut writer, slot);
                Learned::Moved
            }
            None => Learned::New,
        };
        self.make_room(&mut writer, network_of(key), port);
        self.insert(&mut writer, key, hash, station, now);
        self.publish_deadline(&writer);
        learned
    }

    /// Makes one of the port's own entries go if the bounds ask for it.
    fn make_room(&self, writer: &mut Writer, network: NetworkId, port: PortId) {
        let (count, oldest) = writer
            .ports
            .get(&port)
            .map_or((0, None), |heard| (heard.count, heard.list.front()));
        let in_network = writer.networks.get(&network).copied().unwrap_or(0);
        let network_full = in_network >= self.limits.network && count >= self.limits.guaranteed;
        if (count >= self.limits.port || network_full)
            && let Some(oldest) = oldest
        {
            self.remove(writer, oldest);
        }
    }

    /// Fixes a station to a port, over whatever was learned of it.
    pub fn fix(&self, network: NetworkId, mac: MacAddr, port: PortId, now: Instant) {
        let (key, hash) = (key_of(network, mac), self.hash(network, mac));
        let mut writer = self.lock();
        let known = writer.index.find(hash, |slot| self.slot_if(slot, key));
        if let Some(slot) = known {
            self.remove(&mut writer, slot);
        }
        self.insert(&mut writer, key, hash, Station { port, fixed: true }, now);
    }

    fn slot_if(&self, slot: u32, key: u64) -> Option<u32> {
        let entry = self.entries.get(slot)?;
        (entry.key.load(Ordering::Relaxed) == key).then_some(slot)
    }

    /// How long silent stations of a network are remembered from now on: [`AGEING_TIME`] unless said
    /// otherwise. Taken into [`AGEING_RANGE`].
    pub fn set_ageing(&self, network: NetworkId, ageing: Duration) {
        let ageing = ageing.clamp(*AGEING_RANGE.start(), *AGEING_RANGE.end());
        self.lock().ageing.insert(network, ageing);
    }

    /// Forgets everything behind a port that is removed, fixed entries included.
    pub fn flush_port(&self, port: PortId) {
        let mut writer = self.lock();
        while let Some(slot) = writer.ports.get(&port).and_then(Heard::any) {
            self.remove(&mut writer, slot);
        }
        self.publish_deadline(&writer);
    }

    /// Forgets what was learned behind a port that is down (IEEE 802.1Q §8.8.3).
    pub fn flush_learned(&self, port: PortId) {
        let mut writer = self.lock();
        while let Some(slot) = writer.ports.get(&port).and_then(|heard| heard.list.front()) {
            self.remove(&mut writer, slot);
        }
        self.publish_deadline(&writer);
    }

    /// Octets of memory in use.
    #[must_use]
    pub fn memory(&self) -> usize {
        let writer = self.lock();
        let entries = usize::try_from(writer.extent).unwrap_or(usize::MAX);
        let ports = writer.ports.capacity() * size_of::<(PortId, Heard)>();
        writer.index.memory() + entries * OCTETS_PER_ENTRY + ports
    }

    /// Octets of memory that the stations of so many networks and ports can take.
    #[must_use]
    pub fn memory_bound(&self, networks: usize, ports: usize) -> usize {
        let count = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
        // Of each port a few more than a full network takes, and its own address.
        let entries = (networks.saturating_mul(count(self.limits.network)))
            .saturating_add(ports.saturating_mul(count(self.limits.guaranteed) + 1));
        entries
            .saturating_mul(OCTETS_PER_ENTRY)
            .saturating_add(Index::memory_bound(entries))
            .saturating_add(ports.saturating_mul(4 * size_of::<(PortId, Heard)>()))
    }

    /// When [`Self::expire`] wants to be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let micros = self.next_deadline.load(Ordering::Relaxed);
        (micros != NEVER).then(|| Instant::from_micros(micros))
    }

    /// Forgets stations that have been silent for the ageing time, `budget` at most; whether more are
    /// waiting. Returns at once if another worker is at it.
    pub fn expire(&self, now: Instant, budget: usize) -> bool {
        let mut guard = match self.writer.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let mut aged = Vec::new();
        let Writer { wheel, ageing, .. } = &mut *guard;
        let more = wheel.advance(now, budget, |slot| {
            let entry = self.entries.get(slot)?;
            let value = entry.value.load(Ordering::Acquire);
            let network = network_of(entry.key.load(Ordering::Relaxed));
            let deadline = unpack(value).1.near(now) + ageing_of(ageing, network);
            if deadline > now {
                return Some(deadline);
            }
            aged.push(slot);
            None
        });
        for slot in aged {
            self.remove(&mut guard, slot);
        }
        self.publish_deadline(&guard);
        more
    }

    /// Every station, in no order.
    #[must_use]
    pub fn list(&self, now: Instant) -> Vec<Listed> {
        let extent = self.lock().extent;
        (0..extent)
            .filter_map(|slot| {
                let entry = self.entries.get(slot)?;
                let key = entry.key.load(Ordering::Acquire);
                let (station, seen) = unpack(entry.value.load(Ordering::Acquire));
                let steady = key != 0 && entry.key.load(Ordering::Acquire) == key;
                steady.then(|| Listed {
                    network: network_of(key),
                    mac: mac_of(key),
                    station,
                    age: (!station.fixed).then(|| seen.elapsed(now)),
                })
            })
            .collect()
    }

    fn insert(&self, writer: &mut Writer, key: u64, hash: u64, station: Station, now: Instant) {
        let slot = match writer.free.pop() {
            Some(slot) => slot,
            None => {
                if self.entries.ensure(writer.extent).is_err() {
                    // No memory: the station stays unknown and its frames are flooded.
                    return;
                }
                writer.extent += 1;
                writer.extent - 1
            }
        };
        let Some(entry) = self.entries.get(slot) else {
            return;
        };
        entry
            .value
            .store(pack(station, Stamp::from(now), hash), Ordering::Release);
        entry.key.store(key, Ordering::Release);
        writer.index.insert(hash, slot);
        self.next_version();
        let heard = writer.ports.entry(station.port).or_default();
        if station.fixed {
            writer.links.push_back(&mut heard.fixed, slot);
        } else {
            heard.count += 1;
            writer.links.push_back(&mut heard.list, slot);
            let ageing = writer.ageing_of(network_of(key));
            writer.wheel.schedule(slot, now + ageing);
            *writer.networks.entry(network_of(key)).or_default() += 1;
        }
    }

    fn remove(&self, writer: &mut Writer, slot: u32) {
        let Some(entry) = self.entries.get(slot) else {
            return;
        };
        let key = entry.key.swap(0, Ordering::AcqRel);
        let (station, _) = unpack(entry.value.load(Ordering::Relaxed));
        writer.index.remove(self.hash.hash(&[key]), slot);
        self.next_version();
        writer.free.push(slot);
        if let Some(heard) = writer.ports.get_mut(&station.port) {
            if station.fixed {
                writer.links.remove(&mut heard.fixed, slot);
            } else {
                heard.count = heard.count.saturating_sub(1);
                writer.links.remove(&mut heard.list, slot);
            }
            if heard.any().is_none() {
                writer.ports.remove(&station.port);
            }
        }
        if station.fixed {
            return;
        }
        writer.wheel.cancel(slot);
        if let Some(count) = writer.networks.get_mut(&network_of(key)) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                writer.networks.remove(&network_of(key));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish_deadline(&self, writer: &Writer) {
        let next = writer
            .wheel
            .next_deadline()
            .map_or(NEVER, Instant::as_micros);
        self.next_deadline.store(next, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
