//! A hash index that many threads read while one changes it, and that grows without a pause.
//!
//! # Theory of operation
//!
//! The index maps a 64-bit hash to any number of `u32` values, nine to a bucket of one cache line
//! ([`bucket`]). It knows no keys: a lookup offers every value whose tag matches, and the caller looks
//! at the record behind it, under the record's lock, whether it is the one it wants. So a value that
//! has just been removed, or whose record now belongs to somebody else, does no harm.
//!
//! **Growing** is linear hashing (Litwin 1980; Larson 1988 for main memory). There are `n` buckets, and
//! one more is made whenever the entries outnumber [`LOAD`] a bucket: the next in order is *split*
//! into itself and the new one, by one more bit of the hash. An insertion splits once at most, so its
//! worst case is a chain or two, whatever the size of the table; a table that doubles in one go stalls
//! for tens of milliseconds at a few million entries. The price is that in mid-round the buckets not
//! yet split are up to twice as full as the others: a bucket that overflows continues in another from
//! a pool. Chains are kept tight: only the last bucket of one has vacant lanes, and a last bucket that
//! becomes empty returns to the pool.
//!
//! **Splitting needs no keys.** An entry keeps 20 bits of its hash, those from bit *b* on if the index
//! began with 2*ᵇ* buckets. The place of an entry tells the bits below, so the bit that decides a split
//! is always at hand; asking the records instead costs a cache miss for every entry moved, and locks.
//! The bits that have not been used up tell entries apart: 20 + *b* − log₂ *n* of them. At 2¹⁰ initial
//! and 2²¹ later buckets (13 million entries) that is 9 bits, and one lookup in 85 looks at a wrong
//! record. A larger start costs address space, not memory: pages are touched as buckets are used.
//!
//! **Reading takes no lock.** An entry that moves, within its chain or to the new bucket, is written at
//! the new place first and erased at the old one afterwards, so a reader may see it twice, which is
//! harmless, or, coming past both places at the wrong moments, not at all. Therefore erasing happens
//! only while a *move* is announced: [`State`] counts when one begins and when it ends. A reader that found
//! nothing looks at the state again, and if it has changed or a move is under way, searches once more.
//! A reader that finds its entry never looks twice. (A lock for readers was rejected: one more shared
//! line per lookup, written by all. So was hazard bookkeeping: buckets are never unmapped, only reused.)
//!
//! # Contract
//!
//! - What [`Index::find`] offers is a candidate. The caller verifies it.
//! - What [`Index::find`] misses is *probably* absent. An entry that was there all the time is missed
//!   only if the writer was suspended in the middle of a move for longer than the reader's patience.
//!   Whoever is about to create the missing thing asks [`IndexWriter::find`] under the writer's lock.
//! - The writer is unique: it lives in the caller's mutex.
//!
//! The hash is taken as uniform in all its bits: use [`KeyedHash`](crate::KeyedHash) on keys that
//! strangers choose. Entries of equal hash share a chain; the index is a multimap for a few of them, not
//! for thousands.

mod bucket;
mod writer;

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod model;

use std::fmt;

use crossbeam_utils::CachePadded;

use self::bucket::{Bucket, TAG_BITS, Tag};
pub use self::writer::IndexWriter;
use crate::{
    prefetch::prefetch,
    segments::Segments,
    sync::{Arc, AtomicU64, Backoff, Ordering},
};

/// Entries per bucket above which the index grows.
///
/// Measured against the alternatives, averaged over a round of splits, with nine lanes: 5 takes 13.6
/// bytes an entry, 6 takes 12.0, 7 takes 11.1; the share of lookups that need a second cache line is 2.7,
/// 5.4 and 9.0 %.
const LOAD: usize = 6;

/// Overflow buckets in the first chunk of their pool: one page of them, two for the model checker.
const OVERFLOW_FIRST: u32 = if cfg!(loom) { 2 } else { 64 };

/// How often a reader searches again before it believes that the writer was suspended in mid-move. A
/// move takes well under a microsecond, a hundred looks several. The model checker has all the time.
const PATIENCE: u32 = if cfg!(loom) { u32::MAX } else { 100 };

/// Buckets an index begins with at most and at least.
const INITIAL_RANGE: (u32, u32) = (2, 1 << 24);

/// The readers' side of a hash index. Clones are cheap and see the same index.
#[derive(Clone, Debug)]
pub struct Index {
    table: Arc<Table>,
}

impl Index {
    /// An empty index of `initial_buckets`, rounded up to a power of two, with the writer's side of it.
    ///
    /// A bucket holds six entries on average. The initial number also decides how many bits of a hash
    /// tell entries apart when the index has grown; see the [theory](self). At 64 bytes each, untouched
    /// buckets take no memory.
    ///
    /// # Panics
    ///
    /// The system refuses the address space.
    #[must_use]
    pub fn new(initial_buckets: u32) -> (Self, IndexWriter) {
        let table = Arc::new(Table::new(initial_buckets));
        let writer = IndexWriter::new(Arc::clone(&table));
        (Self { table }, writer)
    }

    /// Octets that an entry takes at most. Of the buckets there is one for each [`LOAD`] entries; and as
    /// chains are kept tight, one more for each [`LANES`](bucket::LANES) that have overflown.
    pub const OCTETS_PER_ENTRY: usize =
        size_of::<Bucket>().div_ceil(LOAD) + size_of::<Bucket>().div_ceil(bucket::LANES);

    /// Octets that an index of at most `entries` entries takes at most, if it began with no more than
    /// [`Self::MOST_INITIAL_BUCKETS`].
    #[must_use]
    pub const fn memory_bound(entries: usize) -> usize {
        let start = size_of::<Table>()
            + size_of::<IndexWriter>()
            + Self::MOST_INITIAL_BUCKETS * size_of::<Bucket>();
        start.saturating_add(entries.saturating_mul(Self::OCTETS_PER_ENTRY))
    }

    /// For [`Self::memory_bound`].
    pub const MOST_INITIAL_BUCKETS: usize = 1 << 10;

    /// Offers `accept` the values under `hash`, and perhaps others, until it accepts one.
    ///
    /// `accept` verifies: it locks the record that the value stands for, compares the key, and returns
    /// what the caller wants of it. Finding nothing is a hint; see the [contract](self).
    #[inline]
    pub fn find<T>(&self, hash: u64, mut accept: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let seen = self.table.state();
        let found = self.table.search(seen, hash, &mut accept);
        if found.is_some() || self.table.is_settled(seen) {
            return found;
        }
        self.table.search_again(hash, &mut accept)
    }

    /// The first value whose tag matches `hash`, unverified: most likely the one [`find`](Self::find)
    /// will offer first, so the one whose record is worth a prefetch.
    #[inline]
    #[must_use]
    pub fn candidate(&self, hash: u64) -> Option<u32> {
        self.table.search(self.table.state(), hash, &mut Some)
    }

    /// Starts to load the bucket of `hash`.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        if let Some(bucket) = self.table.buckets.get(self.table.state().bucket_of(hash)) {
            prefetch(bucket);
        }
    }
}

/// What readers and writer share.
struct Table {
    /// Written at every split, so alone in its cache line: the rest of the table is hardly ever written.
    state: CachePadded<AtomicU64>,
    buckets: Segments<Bucket>,
    overflow: Segments<Bucket>,
    /// The lowest bit of the hash that entries keep.
    tag_shift: u32,
}

impl Table {
    fn new(initial_buckets: u32) -> Self {
        let (least, most) = INITIAL_RANGE;
        let initial = initial_buckets.clamp(least, most).next_power_of_two();
        let buckets = Segments::new(initial);
        buckets
            .ensure(initial - 1)
            .expect("address space for an index's first buckets");
        Self {
            state: CachePadded::new(AtomicU64::new(State::new(initial).0)),
            buckets,
            overflow: Segments::new(OVERFLOW_FIRST),
            tag_shift: initial.ilog2(),
        }
    }

    #[inline(always)]
    fn state(&self) -> State {
        // Acquire: the buckets that the number counts exist and hold what was moved into them.
        State(self.state.load(Ordering::Acquire))
    }

    /// Whether a search that began at `seen` and found nothing met no move.
    ///
    /// Every erasure in a move is stored with `Release` after the state said so, and read with
    /// `Acquire`: a reader that missed an entry because of it sees that state here, or a later one.
    #[inline(always)]
    fn is_settled(&self, seen: State) -> bool {
        seen.is_settled() && self.state.load(Ordering::Relaxed) == seen.0
    }

    /// The tag that an entry of `hash` has.
    #[inline(always)]
    fn tag(&self, hash: u64) -> Tag {
        Tag::new(hash >> self.tag_shift)
    }

    /// One search through the chain that has `hash` when the state is `state`.
    #[inline(always)]
    fn search<T>(
        &self,
        state: State,
        hash: u64,
        accept: &mut impl FnMut(u32) -> Option<T>,
    ) -> Option<T> {
        let tag = self.tag(hash);
        let mut chain = self.buckets.get(state.bucket_of(hash));
        while let Some(bucket) = chain {
            for lane in bucket.matching(tag) {
                if let Some(found) = accept(bucket.value(lane)) {
                    return Some(found);
                }
            }
            chain = self.continuation(bucket);
        }
        None
    }

    /// Searches until a search met no move, or patience ends.
    #[cold]
    fn search_again<T>(&self, hash: u64, accept: &mut impl FnMut(u32) -> Option<T>) -> Option<T> {
        let backoff = Backoff::new();
        for _ in 0..PATIENCE {
            let seen = self.state();
            let found = self.search(seen, hash, accept);
            if found.is_some() || self.is_settled(seen) {
                return found;
            }
            backoff.wait();
        }
        None
    }

    /// The bucket after `bucket` in its chain.
    #[inline(always)]
    fn continuation(&self, bucket: &Bucket) -> Option<&Bucket> {
        self.overflow.get(bucket.next()?)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Table")
            .field("state", &self.state())
            .field("tag_shift", &self.tag_shift)
            .finish_non_exhaustive()
    }
}

/// What a reader has to know of the table, in one word: bits 0 to 31 the number of buckets, 32 to 36 the
/// shift of [`State::bucket_of`], 37 to 63 how many moves began and ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State(u64);

impl State {
    const SHIFT: u32 = 32;

    const PHASE: u32 = 37;

    fn new(buckets: u32) -> Self {
        debug_assert!(buckets >= 2, "the shift for one bucket does not fit");
        Self((u64::from((buckets - 1).leading_zeros()) << Self::SHIFT) | u64::from(buckets))
    }

    /// The buckets there are.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lower half is the number"
    )]
    fn buckets(self) -> u32 {
        self.0 as u32
    }

    /// The bucket that has `hash`: as many low bits of it as number all buckets, or one bit less where
    /// that bucket is still to come.
    ///
    /// How many is kept, not computed: finding the highest bit takes long without `lzcnt`, which not every
    /// x86-64 has.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low bits are what is wanted"
    )]
    fn bucket_of(self, hash: u64) -> u32 {
        let mask = u32::MAX >> ((self.0 >> Self::SHIFT) & 31);
        let bucket = hash as u32 & mask;
        if bucket < self.buckets() {
            bucket
        } else {
            bucket & (mask >> 1)
        }
    }

    /// Whether no move is under way.
    #[inline(always)]
    fn is_settled(self) -> bool {
        (self.0 >> Self::PHASE) & 1 == 0
    }

    /// The state when a move begins or ends. The count wraps after 2²⁶ moves: to be deceived, a reader
    /// would have to sleep in the middle of a search for exactly so many.
    fn next_phase(self) -> Self {
        Self(self.0.wrapping_add(1 << Self::PHASE))
    }

    /// The state with one bucket more.
    fn with_one_more(self) -> Self {
        let phase = (self.0 >> Self::PHASE) << Self::PHASE;
        Self(phase | Self::new(self.buckets() + 1).0)
    }
}

const _: () = assert!(
    TAG_BITS < u32::BITS,
    "an entry keeps bits that number buckets"
);
