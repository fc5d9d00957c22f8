//! How sessions are filed: under their tuples, with their owner, with their mapping.
//!
//! Everything here is behind the mutex of [`crate::Nat`].

use heddle_mem::{Index, IndexWriter, Instant, KeyedHash, Links, Slab};
use heddle_wire::Address;

use crate::mapping::Mappings;
use crate::owner::{Owner, Shelf};
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

    /// What `owner` holds; nothing if it never held anything.
    pub(crate) fn owner(&self, owner: Side) -> Option<&Owner> {
        self.owners.get(usize::from(owner.0))
    }

    /// The same, to be changed.
    pub(crate) fn owner_mut(&mut self, owner: Side) -> &mut Owner {
        owner_of(&mut self.owners, owner)
    }

    /// The owner's sessions that may hold a port it would rather use for something new.
    pub(crate) fn port_holders(&self, owner: Side) -> impl Iterator<Item = u32> {
        let owner = self.owner(owner).into_iter();
        owner.flat_map(|owner| owner.port_holders(&self.links))
    }

    /// Files a new session.
    pub(crate) fn file(
        &mut self,
        hash: &KeyedHash,
        slot: u32,
        session: &Session,
        hashes: [u64; 2],
    ) {
        for direction in Direction::BOTH {
            let entry = Entry { slot, direction };
            self.index.insert(hashes[direction.index()], entry.pack());
        }
        let shelf = Shelf::of(hash, session, session.filed_under());
        let Files { links, owners, .. } = self;
        owner_of(owners, session.owner()).add(links, slot, shelf);
    }

    /// Moves a session to the list of another class.
    pub(crate) fn refile(
        &mut self,
        hash: &KeyedHash,
        slot: u32,
        session: &Session,
        from: Class,
        to: Class,
    ) {
        let [from, to] = [from, to].map(|class| Shelf::of(hash, session, class));
        if let Some(owner) = self.owners.get_mut(usize::from(session.owner().0)) {
            owner.remove(&mut self.links, slot, from);
            owner.add(&mut self.links, slot, to);
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
        let [_, destination] = self.mappings_of(session);
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
                .remove(session.tuple(direction).hash(hash), entry.pack());
            debug_assert!(was_there, "a session is indexed by both tuples");
        }
        let shelf = Shelf::of(hash, session, session.filed_under());
        if let Some(owner) = self.owners.get_mut(usize::from(session.owner().0)) {
            owner.remove(&mut self.links, slot, shelf);
        }
        let [source, destination] = self.mappings_of(session);
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
    fn mappings_of(&self, session: &Session) -> [Option<(u32, Address)>; 2] {
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

    /// Octets that `sessions` sessions of `owners` owners can take here, each with a mapping of its own.
    pub(crate) fn memory_bound(&self, sessions: usize, owners: usize) -> usize {
        // A vector that grows may be twice as long as what is in it.
        let per_owner = 2 * size_of::<Owner>() + Owner::MOST_MEMORY + 2 * size_of::<u32>();
        (sessions.saturating_mul(FILING))
            .saturating_add(self.mappings.memory_bound())
            .saturating_add((owners + 4).saturating_mul(per_owner))
    }

    /// Octets that a session takes at most, its mapping apart.
    pub(crate) fn octets_per_session() -> usize {
        Slab::<Session>::octets_per_record() + 2 * Index::OCTETS_PER_ENTRY + FILING
    }

    /// Octets that a mapping takes at most.
    pub(crate) fn octets_per_mapping() -> usize {
        Mappings::octets_per_mapping()
    }

    /// Octets of memory in use for `slots` sessions.
    pub(crate) fn memory(&self, slots: usize) -> usize {
        self.index.memory()
            + self.mappings.memory()
            + self.owners.capacity() * size_of::<Owner>()
            + self.owners.iter().map(Owner::memory).sum::<usize>()
            + slots * FILING
    }
}

/// What an owner holds, made if need be.
fn owner_of(owners: &mut Vec<Owner>, owner: Side) -> &mut Owner {
    let owner = usize::from(owner.0);
    if owners.len() <= owner {
        owners.resize_with(owner + 1, Owner::default);
    }
    &mut owners[owner]
}

#[cfg(test)]
mod tests;
