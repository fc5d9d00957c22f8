//! Neighbours: MAC addresses of next hops, found by ARP (RFC 826) and neighbour discovery (RFC 4861).
//!
//! # Theory of operation
//!
//! Endpoints need none of this, their MAC addresses are configuration. Neighbours are hosts on a
//! leg's link, and in networks without port security hosts behind an endpoint.
//!
//! | state | frames for it | questions |
//! |---|---|---|
//! | *incomplete* | wait | one a second, three times |
//! | *reachable* | are sent | none for half a minute |
//! | *stale* | are sent, and ask for a probe | none until a frame needs it |
//! | *probe* | are sent | one a second, three times |
//!
//! No answer ends the entry; the frames that waited are dropped and their senders are told.
//!
//! Frames look at a snapshot of the MAC addresses that are known, without a lock. Everything else is
//! behind a mutex, which is taken when an address is asked for, answered, or given up: never while an
//! established neighbour is used.
//!
//! **Strangers decide** who is asked for (from inside, by addressing a packet to it) and what is
//! answered (from outside). So both are bounded. The snapshot is copied for each change of a MAC
//! address, and an address changes only if *we* wanted it (RFC 826 would take every sender) and once a
//! second at most. Of [`LIMIT`] entries the idle ones give way to new ones. A port may have
//! [`PORT_SHARE`] frames waiting in all and [`NEIGHBOUR_SHARE`] of them for one neighbour, where its own
//! oldest gives way (RFC 4861 §7.2.2); an incomplete entry has a frame of the port that caused it. So
//! somebody inside who asks for a whole subnet (RFC 6583) fills neither memory nor anybody else's
//! share.

mod entry;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Cache};
use heddle_mem::Instant;
use heddle_wire::{Address, MacAddr};

pub(crate) use entry::Heard;
use entry::{Known, Neighbour, Step};

use crate::frame::HeldFrame;
use crate::port::{LegId, NetworkId, PortId};

/// Frames of one port that wait for one neighbour.
const NEIGHBOUR_SHARE: usize = 4;

/// Frames of one port that wait for any neighbour.
const PORT_SHARE: usize = 32;

/// Entries in all (Linux: `gc_thresh3`).
const LIMIT: usize = 1024;

/// Stands for "no deadline".
const NEVER: u64 = u64::MAX;

/// Where a neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Link {
    /// On the link of a leg.
    Leg(LegId),
    /// Behind an endpoint of a network.
    Network(NetworkId),
}

type Key = (Link, Address);

/// Neighbours that are looked at one by one.
const FEW: usize = 8;

/// The neighbour table.
#[derive(Debug)]
pub struct Neighbours {
    /// Behind a pointer of its own, so that readers can keep a part in it.
    snapshot: Arc<ArcSwap<Snapshot>>,
    table: Mutex<Table>,
    next_deadline: AtomicU64,
}

/// The neighbours whose MAC address is known, in the order of their keys. Found by halving, or one by one
/// where they are few: ten comparisons at [`LIMIT`], which is less than a hash that a stranger cannot steer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot(Vec<(Key, Arc<Known>)>);

impl Neighbours {
    /// Octets of memory that all neighbours take at most. The frames that wait for them are counted where
    /// they lie. An entry stands in the table and, for readers, in two snapshots while one replaces the
    /// other; a node of a tree may be half empty.
    pub const MEMORY_BOUND: usize = LIMIT
        * (2 * size_of::<(Key, Neighbour)>()
            + 2 * size_of::<(Key, Arc<Known>)>()
            + size_of::<Known>()
            + 2 * size_of::<usize>());
}

impl Snapshot {
    #[inline]
    fn find(&self, key: &Key) -> Option<&Known> {
        let found = if self.0.len() <= FEW {
            self.0.iter().find(|(other, _)| other == key)
        } else {
            self.0.get(self.place(key).ok()?)
        };
        found.map(|(_, known)| &**known)
    }

    fn insert(&mut self, key: Key, known: Arc<Known>) {
        match self.place(&key) {
            Ok(place) => self.0[place].1 = known,
            Err(place) => self.0.insert(place, (key, known)),
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Ok(place) = self.place(key) {
            self.0.remove(place);
        }
    }

    #[inline]
    fn place(&self, key: &Key) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(key))
    }
}

/// What is behind the mutex. Ordered, so that what is due is done in the same order in every run.
#[derive(Debug, Default)]
struct Table {
    entries: BTreeMap<Key, Neighbour>,
    /// Waiting frames by the port they came from.
    shares: BTreeMap<PortId, usize>,
    /// Frames whose link went away.
    stranded: Vec<HeldFrame>,
}

/// What became of a frame whose next hop is not known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It waits, and somebody has asked already.
    Waiting,
    /// It waits instead of an older one of the same port, which was so many frames.
    Replaced(usize),
    /// It waits, and the caller must ask.
    Ask,
    /// No room: the caller drops it.
    Full,
    /// The answer came meanwhile: the caller tries again.
    Known,
}

/// What the passing of time asks for.
#[derive(Debug)]
pub(crate) enum Due {
    /// Ask for this neighbour; with its old MAC address if there was one.
    Ask(Link, Address, Option<MacAddr>),
    /// It does not answer; these frames waited.
    GaveUp(Vec<HeldFrame>),
}

/// How a neighbour stands, for listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// Asked for, no answer yet.
    Incomplete,
    /// Answered a short while ago.
    Reachable,
    /// Answered some time ago.
    Stale,
    /// Being asked again.
    Probe,
}

/// A neighbour for listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedNeighbour {
    /// Where it is.
    pub link: Link,
    /// Its address.
    pub address: Address,
    /// Its MAC address, where known.
    pub mac: Option<MacAddr>,
    /// How it stands.
    pub state: NeighbourState,
}

/// Looks neighbours up for one worker. It holds on to the snapshot that it saw last, and only looks
/// whether there is a newer one.
#[derive(Debug)]
pub(crate) struct Reader(Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>);

impl Reader {
    /// The MAC address of a neighbour, if it is known.
    #[inline(always)]
    pub(crate) fn find(&mut self, link: Link, address: Address) -> Option<MacAddr> {
        let known = self.0.load().find(&(link, address))?;
        if known.stale.load(Ordering::Relaxed) {
            known.wanted.store(true, Ordering::Relaxed);
        }
        Some(known.mac)
    }
}

impl Neighbours {
    pub(crate) fn new() -> Neighbours {
        Neighbours {
            snapshot: Arc::default(),
            table: Mutex::default(),
            next_deadline: AtomicU64::new(NEVER),
        }
    }

    /// A reader, for one worker.
    pub(crate) fn reader(&self) -> Reader {
        Reader(Cache::new(Arc::clone(&self.snapshot)))
    }

    /// The MAC address of a neighbour, if it is known.
    #[cfg(test)]
    pub(crate) fn find(&self, link: Link, address: Address) -> Option<MacAddr> {
        self.reader().find(link, address)
    }

    /// Lets a frame of `ingress` wait for a neighbour. `frame` is called only if there is room for it.
    pub(crate) fn hold(
        &self,
        link: Link,
        address: Address,
        ingress: PortId,
        frame: impl FnOnce() -> Option<HeldFrame>,
        now: Instant,
    ) -> Hold {
        let mut table = self.lock();
        let share = table.shares.get(&ingress).copied().unwrap_or(0);
        let Some(entry) = table.entries.get_mut(&(link, address)) else {
            if share >= PORT_SHARE || !self.make_room(&mut table) {
                return Hold::Full;
            }
            let Some(frame) = frame() else {
                return Hold::Full;
            };
            let mut entry = Neighbour::incomplete(now);
            entry.waiting.push_back(frame);
            self.expect_tick(entry.deadline);
            table.entries.insert((link, address), entry);
            *table.shares.entry(ingress).or_default() += 1;
            return Hold::Ask;
        };
        if entry.known.is_some() {
            return Hold::Known;
        }
        let own = entry.waiting_of(ingress);
        if own < NEIGHBOUR_SHARE && share < PORT_SHARE {
            let Some(frame) = frame() else {
                return Hold::Full;
            };
            entry.waiting.push_back(frame);
            *table.shares.entry(ingress).or_default() += 1;
            return Hold::Waiting;
        }
        let oldest = entry
            .waiting
            .iter()
            .position(|held| held.ingress == ingress);
        let Some(oldest) = oldest else {
            return Hold::Full;
        };
        // Given back first, so that the copy finds a buffer.
        let replaced = entry.waiting.remove(oldest);
        let replaced = replaced.map_or(0, |frame| frame.count());
        if let Some(frame) = frame() {
            entry.waiting.push_back(frame);
        } else {
            table.give_back(ingress);
        }
        Hold::Replaced(replaced)
    }

    /// Makes sure that one more entry may be made, at the cost of one that is idle.
    fn make_room(&self, table: &mut Table) -> bool {
        if table.entries.len() < LIMIT {
            return true;
        }
        let idle = table
            .entries
            .iter()
            .filter_map(|(&key, entry)| Some((entry.dispensable_since()?, key)))
            .min();
        let Some((_, key)) = idle else {
            return false;
        };
        table.entries.remove(&key);
        self.change_snapshot(|snapshot| {
            snapshot.remove(&key);
        });
        true
    }

    /// Takes note of what a neighbour said of itself; returns the frames that waited for it. An
    /// address nobody asked for changes nothing.
    pub(crate) fn hear(
        &self,
        link: Link,
        address: Address,
        heard: Heard,
        now: Instant,
    ) -> Vec<HeldFrame> {
        let mut table = self.lock();
        let Some(entry) = table.entries.get_mut(&(link, address)) else {
            return Vec::new();
        };
        let learned = entry.hear(heard, now);
        self.expect_tick(entry.deadline);
        let Some(known) = learned else {
            return Vec::new();
        };
        let waiting = std::mem::take(&mut entry.waiting);
        self.change_snapshot(|snapshot| {
            snapshot.insert((link, address), known.clone());
        });
        for frame in &waiting {
            table.give_back(frame.ingress);
        }
        waiting.into()
    }

    /// When [`Self::tick`] wants to be called next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let micros = self.next_deadline.load(Ordering::Relaxed);
        (micros != NEVER).then(|| Instant::from_micros(micros))
    }

    /// What is due by now.
    pub(crate) fn tick(&self, now: Instant) -> Vec<Due> {
        let mut guard = self.lock();
        let table = &mut *guard;
        let mut due = Vec::new();
        let mut gone = Vec::new();
        for (&(link, address), entry) in &mut table.entries {
            if entry.deadline > now {
                continue;
            }
            match entry.step(now) {
                Step::Nothing => {}
                Step::Ask => {
                    let mac = entry.known.as_ref().map(|known| known.mac);
                    due.push(Due::Ask(link, address, mac));
                }
                Step::Remove => gone.push((link, address)),
            }
        }
        let mut gave_up = std::mem::take(&mut table.stranded);
        for key in &gone {
            let entry = table.entries.remove(key);
            gave_up.extend(entry.into_iter().flat_map(|entry| entry.waiting));
        }
        for frame in &gave_up {
            table.give_back(frame.ingress);
        }
        if !gave_up.is_empty() {
            due.push(Due::GaveUp(gave_up));
        }
        self.forget_known(&gone);
        self.publish_deadline(table);
        due
    }

    /// Forgets everything on a link. The frames that waited there are given up by the next
    /// [`Self::tick`]: their ends are counted by a worker.
    pub(crate) fn flush(&self, link: Link, now: Instant) {
        let mut guard = self.lock();
        let table = &mut *guard;
        let gone: Vec<Key> = table
            .entries
            .keys()
            .filter(|&&(of, _)| of == link)
            .copied()
            .collect();
        for key in &gone {
            let entry = table.entries.remove(key);
            let waiting = entry.into_iter().flat_map(|entry| entry.waiting);
            table.stranded.extend(waiting);
        }
        if !table.stranded.is_empty() {
            self.expect_tick(now);
        }
        self.forget_known(&gone);
    }

    /// Forgets the waiting frames that `is_gone` says yes to: nobody is left to be told.
    pub(crate) fn forget_waiting(&self, is_gone: impl Fn(&HeldFrame) -> bool) {
        let mut guard = self.lock();
        let Table {
            entries,
            shares,
            stranded,
        } = &mut *guard;
        for entry in entries.values_mut() {
            entry.waiting.retain(|frame| !is_gone(frame));
        }
        stranded.retain(|frame| !is_gone(frame));
        shares.clear();
        for frame in entries
            .values()
            .flat_map(|entry| &entry.waiting)
            .chain(&*stranded)
        {
            *shares.entry(frame.ingress).or_default() += 1;
        }
    }

    /// How many frames wait, those that came in fragments counted by these.
    pub(crate) fn waiting(&self) -> usize {
        let table = self.lock();
        let waiting = table.entries.values().flat_map(|entry| &entry.waiting);
        waiting.chain(&table.stranded).map(HeldFrame::count).sum()
    }

    /// Every neighbour, by link and address.
    #[must_use]
    pub fn list(&self) -> Vec<ListedNeighbour> {
        let table = self.lock();
        let list = table.entries.iter();
        list.map(|(&(link, address), entry)| ListedNeighbour {
            link,
            address,
            mac: entry.known.as_ref().map(|known| known.mac),
            state: entry.state(),
        })
        .collect()
    }

    fn forget_known(&self, gone: &[Key]) {
        if !gone.is_empty() {
            self.change_snapshot(|snapshot| {
                for key in gone {
                    snapshot.remove(key);
                }
            });
        }
    }

    /// Caller holds the lock on the table, so there is one writer.
    fn change_snapshot(&self, change: impl Fn(&mut Snapshot)) {
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        change(&mut snapshot);
        self.snapshot.store(Arc::new(snapshot));
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A deadline has come closer, perhaps. One that has moved away is found out by a tick that has
    /// nothing to do: cheaper than looking at all entries for each frame that waits.
    fn expect_tick(&self, deadline: Instant) {
        self.next_deadline
            .fetch_min(deadline.as_micros(), Ordering::Relaxed);
    }

    fn publish_deadline(&self, table: &Table) {
        let next = table.entries.values().map(|entry| entry.deadline).min();
        self.next_deadline
            .store(next.map_or(NEVER, Instant::as_micros), Ordering::Relaxed);
    }
}

impl Table {
    /// A frame of `ingress` waits no longer.
    fn give_back(&mut self, ingress: PortId) {
        if let Some(share) = self.shares.get_mut(&ingress) {
            *share -= 1;
            if *share == 0 {
                self.shares.remove(&ingress);
            }
        }
    }
}
