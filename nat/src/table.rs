//! The table of all sessions: lookup for every packet, opening for the first, expiry for the last.
//!
//! # Theory of operation
//!
//! **The fast path** touches three things: a bucket of the index, the record, and nothing else. A
//! [`Hit`] holds the record's lock while the caller decides whether the packet may go; [`Nat::commit`]
//! then advances the session and says what the packet must read. A packet that is dropped in between
//! has changed nothing.
//!
//! **The slow path** is everything that changes the *set* of sessions or how they are filed: opening,
//! change of class, eviction, expiry, flush. It runs under one mutex, [`Tables`]. The order is always
//! mutex first, record lock second, and a record lock is a leaf: a worker that holds one never waits
//! for the mutex, so the holder of the mutex may wait for a record.
//!
//! Two workers may bring the first two packets of one flow at the same moment. Both miss, both ask
//! to open; the second finds, under the mutex, the session of the first and advances it.
//!
//! **Time** is lazy. A packet moves the deadline in its record and nothing else; when the wheel comes
//! to the session it reads the deadline and files it again, or ends it. Only where a deadline comes
//! *closer* (a connection that closes) is the wheel told.
//!
//! **A full table** never searches for a victim. What an owner cannot get is taken from the front of one
//! of its own lists (`owner`), or refused. Nobody else's sessions are touched. But the last part of the
//! table, and of each address's ports, is for owners that hold little ([`Limits`]): so those who hold much can
//! leave nobody without.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use heddle_mem::{Guard, Index, Instant, KeyedHash, Slab, Wheel};
use heddle_wire::{Address, Protocol, Rewrite};

use crate::files::{Entry, Files};
use crate::limits::Limits;
use crate::mapping::Mappings;
use crate::session::{Class, Held, Packet, Progress, Session, Side};
use crate::tuple::{Direction, Tuple, Zone};

/// Buckets that the session index starts with.
const INITIAL_BUCKETS: u32 = 1 << 10;

/// How exact timers are. The shortest one is a minute.
const GRANULARITY: Duration = Duration::from_millis(250);

/// Sessions that are ended under one hold of the mutex when many are: some 25,000 instructions.
const FLUSH_CHUNK: usize = 16;

/// The same for timers that have run out.
const EXPIRY_CHUNK: usize = 16;

/// Sessions that the index has numbers for: one bit of its entries is the direction, and the wheel
/// keeps another for itself.
const MAX_SESSIONS: u32 = (1 << 30) - 1;

/// Stands for "no deadline" in [`Nat::next_deadline`].
const NEVER: u64 = u64::MAX;

/// Sessions, mappings, ports: all state of address translation.
#[derive(Debug)]
pub struct Nat {
    pub(crate) hash: KeyedHash,
    pub(crate) limits: Limits,
    index: Index,
    pub(crate) sessions: Slab<Session>,
    /// In cache lines of its own, like the next: what is above is read for every packet, by all workers.
    tables: CachePadded<Mutex<Tables>>,
    /// When [`Nat::expire`] wants to be called, in microseconds.
    next_deadline: CachePadded<AtomicU64>,
}

/// What is changed under the mutex.
#[derive(Debug)]
pub(crate) struct Tables {
    wheel: Wheel,
    pub(crate) files: Files,
}

/// A session that a packet belongs to, locked.
#[derive(Debug)]
pub struct Hit<'nat> {
    session: Guard<'nat, Session>,
    slot: u32,
    direction: Direction,
}

impl Hit<'_> {
    /// Which way the packet goes.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Where the packet leaves.
    #[inline]
    #[must_use]
    pub fn egress(&self) -> Side {
        self.session.egress(self.direction)
    }

    /// Where packets of this tuple come from.
    #[inline]
    #[must_use]
    pub fn ingress(&self) -> Side {
        self.session.ingress(self.direction)
    }

    /// What the packet must read when it leaves.
    #[inline]
    #[must_use]
    pub fn rewrite(&self) -> Rewrite {
        self.session.rewrite(self.direction)
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }
}

/// Why a packet is not translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// TCP, but neither a connection nor the opening of one.
    NotSyn,
    /// Outside the window of its connection.
    OutOfWindow,
    /// From outside, and no mapping has this port; or an answer that nobody asked for.
    Unsolicited,
    /// From outside, and the mapping does not let this peer in.
    Filtered,
    /// No outside port is free, or the owner has its share of them and nothing to give up.
    PortsExhausted,
    /// The table is full and the owner has nothing to give up.
    SessionsExhausted,
    /// The owner's share is used up and it has nothing to give up.
    OwnerQuota,
    /// The answers would have the tuple of another session.
    Conflict,
    /// An ICMP error about nothing that was sent through here.
    ErrorUnmatched,
}

impl Nat {
    /// An empty table. `secret` keys the hash and must be unpredictable.
    #[must_use]
    pub fn new(limits: Limits, secret: [u8; 64], now: Instant) -> Nat {
        let limits = Limits {
            sessions: limits.sessions.min(MAX_SESSIONS),
            ..limits
        };
        let (index, writer) = Index::new(INITIAL_BUCKETS);
        Nat {
            hash: KeyedHash::new(secret),
            limits,
            index,
            sessions: Slab::new(limits.sessions),
            tables: CachePadded::new(Mutex::new(Tables {
                wheel: Wheel::new(now, GRANULARITY),
                files: Files::new(writer, Mappings::new(limits.sessions)),
            })),
            next_deadline: CachePadded::new(AtomicU64::new(NEVER)),
        }
    }

    /// The hash of a tuple, for [`Self::prefetch`] and [`Self::lookup_hashed`].
    #[inline]
    #[must_use]
    pub fn hash(&self, tuple: &Tuple) -> u64 {
        tuple.hash(&self.hash)
    }

    /// Brings the index bucket of a tuple into the cache.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Brings the probable record of a tuple into the cache; its bucket should be there already.
    #[inline]
    pub fn prefetch_session(&self, hash: u64) {
        if let Some(value) = self.index.candidate(hash) {
            self.sessions.prefetch(Entry::unpack(value).slot);
        }
    }

    /// Brings the buckets and the probable records of a whole burst into the cache.
    ///
    /// A lookup among a million sessions waits for memory three times; here the waits of all tuples
    /// overlap. To be used like this, since a [`Hit`] is a locked record and nobody may hold two:
    ///
    /// 1. [`Self::hash`] every tuple of the burst, before any is looked up;
    /// 2. call this once with all the hashes, in a burst of 16 to 64;
    /// 3. then, frame by frame, [`Self::lookup_hashed`] with the hash and [`Self::commit`].
    ///
    /// A hash that leads nowhere costs a few instructions and does no harm.
    #[inline]
    pub fn prefetch_burst(&self, hashes: &[u64]) {
        for &hash in hashes {
            self.prefetch(hash);
        }
        for &hash in hashes {
            self.prefetch_session(hash);
        }
    }

    /// The session that a packet with this tuple belongs to.
    #[must_use]
    pub fn lookup(&self, tuple: &Tuple) -> Option<Hit<'_>> {
        self.lookup_hashed(tuple, self.hash(tuple))
    }

    /// The same, for a caller that has prefetched.
    #[inline]
    #[must_use]
    pub fn lookup_hashed(&self, tuple: &Tuple, hash: u64) -> Option<Hit<'_>> {
        self.index.find(hash, |value| self.accept(value, tuple))
    }

    #[inline]
    pub(crate) fn accept(&self, value: u32, tuple: &Tuple) -> Option<Hit<'_>> {
        let Entry { slot, direction } = Entry::unpack(value);
        let session = self.sessions.lock(slot);
        session.matches(direction, tuple).then_some(Hit {
            session,
            slot,
            direction,
        })
    }

    /// Lets the packet of a hit pass: advances its session and says what the packet must read.
    ///
    /// # Errors
    ///
    /// [`Refusal::OutOfWindow`]; nothing has changed then.
    #[inline]
    pub fn commit(&self, hit: Hit<'_>, packet: &Packet, now: Instant) -> Result<Rewrite, Refusal> {
        let Hit {
            mut session,
            slot,
            direction,
        } = hit;
        let rewrite = session.rewrite(direction);
        match session.advance(direction, packet, now) {
            Progress::Same => Ok(rewrite),
            Progress::OutOfWindow => Err(Refusal::OutOfWindow),
            Progress::Reclassified => {
                let original = session.tuple(Direction::Original);
                drop(session);
                self.refile(slot, &original, now);
                Ok(rewrite)
            }
        }
    }

    /// Files a session under its new class. It may have ended, or changed again, since its lock was
    /// given up; then there is nothing to do, or more than the caller knew.
    #[cold]
    fn refile(&self, slot: u32, original: &Tuple, now: Instant) {
        let mut tables = self.lock();
        self.refile_in(&mut tables, slot, original, now);
    }

    fn refile_in(&self, tables: &mut Tables, slot: u32, original: &Tuple, now: Instant) {
        let mut session = self.sessions.lock(slot);
        if !session.matches(Direction::Original, original) {
            return;
        }
        let (from, to) = (session.filed_under(), session.class());
        session.file_under(to);
        let earns_permission = session.earns_permission();
        if earns_permission {
            session.set_permits();
        }
        let seen = *session;
        drop(session);
        tables.files.refile(&self.hash, slot, &seen, from, to);
        if earns_permission {
            tables.files.permit(&self.hash, &self.sessions, slot, &seen);
        }
        let deadline = seen.deadline(now);
        tables.wheel.schedule(slot, deadline);
        self.lower_deadline(deadline);
        if to == Class::HalfOpen {
            // A tuple that is used again.
            self.bound_half_open(tables, &seen, slot, now);
        }
    }

    /// Files a session for a worker that has changed its class and waits for the mutex, if there is one;
    /// whether there was. Until then it stands where it does not belong: a connection that has just come to
    /// life must not be taken for one that is over.
    pub(crate) fn catch_up(&self, tables: &mut Tables, slot: u32, now: Instant) -> bool {
        let session = *self.sessions.lock(slot);
        let is_behind = session.class() != session.filed_under();
        if is_behind {
            self.refile_in(tables, slot, &session.tuple(Direction::Original), now);
        }
        is_behind
    }

    /// Takes back a session whose first packet could not be sent after all, unless another one has
    /// followed. Its mapping's port need not rest.
    #[cold]
    pub fn retract(&self, original: &Tuple, now: Instant) {
        let mut tables = self.lock();
        let found = (tables.files.index).find(self.hash(original), |value| {
            let Hit { session, slot, .. } = self.accept(value, original)?;
            let frames = Direction::BOTH.map(|direction| session.traffic(direction).0);
            let held = session.held();
            (frames == [1, 0]).then_some((slot, held))
        });
        let Some((slot, held)) = found else { return };
        let mapping = match held {
            Held::Source(id) | Held::Both(id) => Some(tables.files.mappings.get(id).0),
            Held::Nothing | Held::Destination(_) => None,
        };
        self.remove(&mut tables, slot, now);
        if let Some(mapping) = mapping {
            tables.files.mappings.wake(&mapping);
        }
        self.publish_deadline(&tables);
    }

    /// When [`Self::expire`] wants to be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let micros = self.next_deadline.load(Ordering::Relaxed);
        (micros != NEVER).then(|| Instant::from_micros(micros))
    }

    /// Ends sessions whose time is over, and looks after `budget` timers at most; whether more are
    /// waiting. Holds the mutex for [a few](EXPIRY_CHUNK) at a time, and leaves the rest to another
    /// worker that is at it.
    pub fn expire(&self, now: Instant, budget: usize) -> bool {
        let mut left = budget;
        while left > 0 {
            let chunk = left.min(EXPIRY_CHUNK);
            match self.expire_chunk(now, chunk) {
                Some(true) => left -= chunk,
                Some(false) | None => return false,
            }
        }
        true
    }

    /// One hold of the mutex; `None` if another worker has it.
    fn expire_chunk(&self, now: Instant, chunk: usize) -> Option<bool> {
        let mut guard = match self.tables.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let Tables { wheel, files } = &mut *guard;
        let more = wheel.advance(now, chunk, |slot| {
            let session = *self.sessions.lock(slot);
            let deadline = session.deadline(now);
            if deadline > now {
                return Some(deadline);
            }
            files.unfile(&self.hash, &self.sessions, slot, &session, now);
            self.sessions.free(slot);
            None
        });
        self.publish_deadline(&guard);
        Some(more)
    }

    /// Ends every session that `ends` says yes to; how many there were. For the control plane: it
    /// looks at the whole table, and takes the mutex only to end what it has found, a few sessions
    /// at a time, so that workers go on.
    pub fn flush(&self, now: Instant, ends: impl Fn(&Session) -> bool) -> u32 {
        let concerns = |slot| {
            let session = *self.sessions.lock(slot);
            session.is_live() && ends(&session)
        };
        let mut flushed = 0;
        let mut slots = (0..self.sessions.extent()).filter(|&slot| concerns(slot));
        loop {
            let chunk: Vec<u32> = slots.by_ref().take(FLUSH_CHUNK).collect();
            if chunk.is_empty() {
                return flushed;
            }
            let mut tables = self.lock();
            // Another session may have the slot by now.
            for slot in chunk.into_iter().filter(|&slot| concerns(slot)) {
                self.remove(&mut tables, slot, now);
                flushed += 1;
            }
            self.publish_deadline(&tables);
        }
    }

    /// Shows every session once, as it stands when its turn comes.
    pub fn for_each(&self, mut show: impl FnMut(&Session)) {
        for slot in 0..self.sessions.extent() {
            let session = *self.sessions.lock(slot);
            if session.is_live() {
                show(&session);
            }
        }
    }

    /// How many sessions there are.
    #[must_use]
    pub fn session_count(&self) -> u32 {
        self.sessions.len()
    }

    /// How many dynamic mappings there are.
    #[must_use]
    pub fn mapping_count(&self) -> u32 {
        self.lock().files.mappings.len()
    }

    /// Sessions charged to one owner.
    #[must_use]
    pub fn sessions_of(&self, owner: Side) -> u32 {
        self.holdings_of(owner).sessions
    }

    /// Ports in use at an outside address.
    #[must_use]
    pub fn ports_in_use(&self, zone: Zone, outside: Address, protocol: Protocol) -> u32 {
        self.lock()
            .files
            .mappings
            .ports_in_use(zone, outside, protocol)
    }

    /// Octets of memory in use.
    #[must_use]
    pub fn memory(&self) -> usize {
        let slots = usize::try_from(self.sessions.extent()).unwrap_or(usize::MAX);
        self.sessions.memory() + self.lock().files.memory(slots)
    }

    /// Files a session that [`Nat::open`] has made.
    pub(crate) fn file(
        &self,
        tables: &mut Tables,
        slot: u32,
        session: &Session,
        hashes: [u64; 2],
        now: Instant,
    ) {
        let deadline = session.deadline(now);
        tables.files.file(&self.hash, slot, session, hashes);
        tables.wheel.schedule(slot, deadline);
        self.lower_deadline(deadline);
    }

    /// Ends a session.
    pub(crate) fn remove(&self, tables: &mut Tables, slot: u32, now: Instant) {
        let session = *self.sessions.lock(slot);
        tables
            .files
            .unfile(&self.hash, &self.sessions, slot, &session, now);
        tables.wheel.cancel(slot);
        self.sessions.free(slot);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Tables> {
        // A panic under the lock can only be a broken invariant of ours; the tables are still
        // memory-safe, and going on with them serves more flows than stopping.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a new timer's deadline if it is the nearest. Where another one has to be put further in
    /// before, that is published already. For the holder of the mutex.
    fn lower_deadline(&self, deadline: Instant) {
        let deadline = deadline.as_micros();
        if deadline < self.next_deadline.load(Ordering::Relaxed) {
            self.next_deadline.store(deadline, Ordering::Relaxed);
        }
    }

    pub(crate) fn publish_deadline(&self, tables: &Tables) {
        let next = tables
            .wheel
            .next_deadline()
            .map_or(NEVER, Instant::as_micros);
        self.next_deadline.store(next, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
