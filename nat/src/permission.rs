//! Whom the insides of mappings have spoken to, by address, whatever the port.
//!
//! # Theory of operation
//!
//! Filtering by address asks: does this mapping have a session with that peer? Nearly always there is
//! one session for a peer, so what stands under (mapping, peer) is simply that session, and costs one
//! entry of an index. From the second session on it is a shared record that counts them. Without that
//! step the entries of one mapping and one peer would pile up under one hash, and an endpoint that
//! speaks to thousands of ports of one address would make everybody wait for its chain to be walked.

use heddle_mem::{Index, IndexWriter, KeyedHash, Record, Slab};
use heddle_wire::Address;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::mapping::Found;
use crate::session::Session;
use crate::tuple::{high, low};

/// Buckets that the index starts with.
const INITIAL_BUCKETS: u32 = 1 << 8;

/// All permissions of all mappings.
#[derive(Debug)]
pub(crate) struct Permissions {
    /// (mapping, peer) to [`Entry`].
    index: IndexWriter,
    shared: Slab<Shared>,
}

/// A permission that several sessions give.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Shared {
    peer: [u64; 2],
    mapping: u32,
    /// How many; zero in a record that nobody uses.
    sessions: u32,
}

impl Record for Shared {}

/// What the index holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// The one session that gives the permission.
    Session(u32),
    /// A record of several.
    Shared(u32),
}

impl Entry {
    fn pack(self) -> u32 {
        match self {
            Entry::Session(slot) => slot << 1,
            Entry::Shared(id) => id << 1 | 1,
        }
    }

    fn unpack(value: u32) -> Entry {
        if value & 1 == 0 {
            Entry::Session(value >> 1)
        } else {
            Entry::Shared(value >> 1)
        }
    }
}

impl Permissions {
    /// Octets that a session's permission takes at most: an entry of the index, and half of a record that
    /// it shares with one other.
    pub(crate) const OCTETS_EACH: usize =
        Index::OCTETS_PER_ENTRY + Slab::<Shared>::octets_per_record();

    pub(crate) fn new(limit: u32) -> Permissions {
        Permissions {
            index: Index::new(INITIAL_BUCKETS).1,
            shared: Slab::new(limit),
        }
    }

    /// Whether a session gives this permission.
    pub(crate) fn contains(
        &self,
        hash: &KeyedHash,
        sessions: &Slab<Session>,
        mapping: &Found,
        peer: Address,
    ) -> bool {
        let key = hash.hash(&words(mapping.id, peer));
        self.find(key, sessions, mapping, peer).is_some()
    }

    /// Adds the permission that the session at `slot` gives.
    pub(crate) fn grant(
        &mut self,
        hash: &KeyedHash,
        sessions: &Slab<Session>,
        mapping: &Found,
        peer: Address,
        slot: u32,
    ) {
        let key = hash.hash(&words(mapping.id, peer));
        match self.find(key, sessions, mapping, peer) {
            None => self.index.insert(key, Entry::Session(slot).pack()),
            Some(Entry::Shared(id)) => self.shared.lock(id).sessions += 1,
            Some(only @ Entry::Session(_)) => match self.shared.allocate() {
                Some(id) => {
                    *self.shared.lock(id) = Shared {
                        peer: halves(peer),
                        mapping: mapping.id,
                        sessions: 2,
                    };
                    self.index.insert(key, Entry::Shared(id).pack());
                    self.index.remove(key, only.pack());
                }
                // No memory: two entries do as well.
                None => self.index.insert(key, Entry::Session(slot).pack()),
            },
        }
    }

    /// Takes back the permission that the session at `slot` gave. The session's record must still be
    /// as it was.
    pub(crate) fn revoke(
        &mut self,
        hash: &KeyedHash,
        sessions: &Slab<Session>,
        mapping: &Found,
        peer: Address,
        slot: u32,
    ) {
        let key = hash.hash(&words(mapping.id, peer));
        match self.find(key, sessions, mapping, peer) {
            Some(Entry::Shared(id)) => {
                let mut shared = self.shared.lock(id);
                shared.sessions -= 1;
                let is_last = shared.sessions == 0;
                drop(shared);
                if is_last {
                    self.index.remove(key, Entry::Shared(id).pack());
                    self.shared.free(id);
                }
            }
            _ => {
                let found = self.index.remove(key, Entry::Session(slot).pack());
                debug_assert!(found, "a permission is taken back that was not given");
            }
        }
    }

    fn find(
        &self,
        key: u64,
        sessions: &Slab<Session>,
        mapping: &Found,
        peer: Address,
    ) -> Option<Entry> {
        self.index.find(key, |value| {
            let entry = Entry::unpack(value);
            let is_it = match entry {
                Entry::Session(slot) => sessions.lock(slot).peer_through(mapping) == Some(peer),
                Entry::Shared(id) => {
                    let shared = self.shared.lock(id);
                    shared.mapping == mapping.id && shared.peer == halves(peer)
                }
            };
            is_it.then_some(entry)
        })
    }

    /// Octets of memory in use.
    pub(crate) fn memory(&self) -> usize {
        self.index.memory() + self.shared.memory()
    }
}

fn halves(address: Address) -> [u64; 2] {
    [high(address.bits()), low(address.bits())]
}

fn words(mapping: u32, peer: Address) -> [u64; 3] {
    let [a, b] = halves(peer);
    [a, b, u64::from(mapping)]
}

#[cfg(test)]
mod tests;
