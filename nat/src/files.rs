//! How sessions are filed: under their tuples, with their owner, with their mapping.
//!
//! Everything here is behind the mutex of [`crate::Nat`].

use heddle_mem::{IndexWriter, Instant, KeyedHash, Links, List, Slab};
use heddle_wire::Address;

use crate::mapping::Mappings;
use crate::session::{Class, Held, Session, Side};
use crate::tuple::Direction;

/// Octets that filing takes for each slot that was ever used: a timer of the wheel (three words), the
/// links of a list (two), and a place among the free slots. They are not counted where they lie.
const FILING: usize = 24;

/// Where a session is found, except by time.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) index: IndexWriter,
    pub(crate) mappings: Mappings,
    links: Links,
    owners: Vec<Owner>,
}

/// What one owner holds.
#[derive(Debug, Default)]
struct Owner {
    sessions: u32,
    closing: List,
    unreplied: List,
    open: List,
}

impl Owner {
    fn list(&mut self, class: Class) -> &mut List {
        match class {
            Class::Closing => &mut self.closing,
            Class::Unreplied => &mut self.unreplied,
            Class::Open => &mut self.open,
        }
    }
}

/// What the index says of a tuple: which record, and in which direction it is that record's tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) slot: u32,
    pub(crate) direction: Direction,
}

impl Entry {
    #[inline]
    pub(crate) fn pack(self) -> u32 {
        self.slot << 1 | u32::from(self.direction == Direction::Reply)
    }

    #[inline]
    pub(crate) fn unpack(value: u32) -> Entry {
        let direction = if value & 1 == 0 {
            Direction::Original
        } else {
            Direction::Reply
        };
        Entry {
            slot: value >> 1,
            direction,
        }
    }
}

impl Files {
    pub(crate) fn new(index: IndexWriter, mappings: Mappings) -> Files {
        Files {
            index,
            mappings,
            links: Links::new(),
            owners: Vec::new(),
        }
    }

    /// Sessions charged to `owner`.
    pub(crate) fn sessions_of(&self, owner: Side) -> u32 {
        self.owners
            .get(usize::from(owner.0))
            .map_or(0, |owner| owner.sessions)
    }

    /// The owner's sessions that can be given up, those that are missed least first: the closing ones,
    /// then the unreplied ones, the oldest of each first.
    pub(crate) fn least_missed(&self, owner: Side) -> impl Iterator<Item = u32> {
        self.owners
            .get(usize::from(owner.0))
            .into_iter()
            .flat_map(|owner| [&owner.closing, &owner.unreplied])
            .flat_map(|list| self.links.iter(list))
    }

    /// Files a new session.
    pub(crate) fn file(&mut self, slot: u32, session: &Session, hashes: [u64; 2]) {
        for direction in Direction::BOTH {
            let entry = Entry { slot, direction };
            self.index.insert(hashes[direction.index()], entry.pack());
        }
        let owner = usize::from(session.owner().0);
        if self.owners.len() <= owner {
            self.owners.resize_with(owner + 1, Owner::default);
        }
        let owner = &mut self.owners[owner];
        owner.sessions += 1;
        self.links
            .push_back(owner.list(session.filed_under()), slot);
    }

    /// Moves a session to the list of another class.
    pub(crate) fn refile(&mut self, slot: u32, owner: Side, from: Class, to: Class) {
        if let Some(owner) = self.owners.get_mut(usize::from(owner.0)) {
            self.links.remove(owner.list(from), slot);
            self.links.push_back(owner.list(to), slot);
        }
    }

    /// Lets the other end's address in through the mapping of the original destination, which has
    /// spoken.
    pub(crate) fn permit(
        &mut self,
        hash: &KeyedHash,
        sessions: &Slab<Session>,
        slot: u32,
        session: &Session,
    ) {
        let [_, destination] = self.mappings_of(hash, session);
        if let Some((id, peer)) = destination {
            self.mappings.grant(hash, sessions, id, peer, slot);
        }
    }

    /// Takes a session out of every file. Its record must still be as it was.
    pub(crate) fn unfile(
        &mut self,
        hash: &KeyedHash,
        sessions: &Slab<Session>,
        slot: u32,
        session: &Session,
        now: Instant,
    ) {
        for direction in Direction::BOTH {
            let entry = Entry { slot, direction };
            let was_there = self
                .index
                .remove(hash.hash(&session.tuple(direction).words()), entry.pack());
            debug_assert!(was_there, "a session is indexed by both tuples");
        }
        if let Some(owner) = self.owners.get_mut(usize::from(session.owner().0)) {
            owner.sessions = owner.sessions.saturating_sub(1);
            self.links.remove(owner.list(session.filed_under()), slot);
        }
        let [source, destination] = self.mappings_of(hash, session);
        if let Some((id, peer)) = source {
            self.mappings.revoke(hash, sessions, id, peer, slot);
        }
        if let Some((id, peer)) = destination.filter(|_| session.permits()) {
            self.mappings.revoke(hash, sessions, id, peer, slot);
        }
        for (id, _) in [source, destination].into_iter().flatten() {
            self.mappings.release(hash, id, now);
        }
    }

    /// The mappings that a session holds, of its original source and of its original destination, and
    /// whom the inside of each speaks to.
    fn mappings_of(&self, hash: &KeyedHash, session: &Session) -> [Option<(u32, Address)>; 2] {
        let original = session.tuple(Direction::Original);
        let reply = session.tuple(Direction::Reply);
        let source = |id| Some((id, original.destination));
        let destination = |id| Some((id, reply.destination));
        match session.held() {
            Held::Nothing => [None, None],
            Held::Source(id) => [source(id), None],
            Held::Destination(id) => [None, destination(id)],
            Held::Both(id) => {
                let (of_source, _) = self.mappings.get(id);
                let other = self.mappings.by_outside(
                    hash,
                    of_source.zone,
                    original.protocol,
                    original.destination,
                    original.destination_port,
                );
                debug_assert!(other.is_some(), "a mapping lives while a session holds it");
                [source(id), other.and_then(|other| destination(other.id))]
            }
        }
    }

    /// Octets of memory in use for `slots` sessions.
    pub(crate) fn memory(&self, slots: usize) -> usize {
        self.index.memory()
            + self.mappings.memory()
            + self.owners.capacity() * size_of::<Owner>()
            + slots * FILING
    }
}

#[cfg(test)]
mod tests;
