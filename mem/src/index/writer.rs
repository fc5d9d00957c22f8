//! The writer's side of the index: insertion, removal, and the split that makes it grow.

use std::{alloc::Layout, fmt};

use super::{
    LOAD, State, Table,
    bucket::{Bucket, LANES, TAG_BITS, Tag},
};
use crate::{
    free::FreeList,
    sync::{Arc, Ordering},
};

/// Buckets an index grows to at most.
const MAX_BUCKETS: u32 = 1 << 30;

/// The one handle that may change an [`Index`](super::Index). It lives in the caller's mutex, where it
/// also answers for certain what is in the index.
pub struct IndexWriter {
    pub(super) table: Arc<Table>,
    /// Numbers of overflow buckets.
    pub(super) overflow: FreeList,
    len: usize,
    /// Buckets at which growing ends: the bits an entry keeps have been used up.
    pub(super) max_buckets: u32,
}

impl IndexWriter {
    pub(super) fn new(table: Arc<Table>) -> Self {
        let max_buckets = 1_u32
            .checked_shl(table.tag_shift + TAG_BITS)
            .unwrap_or(MAX_BUCKETS);
        Self {
            table,
            overflow: FreeList::new(),
            len: 0,
            max_buckets: max_buckets.min(MAX_BUCKETS),
        }
    }

    /// Adds `value` under `hash`. What is there already stays, the same pair included.
    ///
    /// If the index is above its load then, one bucket is split. If the system refuses the memory for
    /// that, chains become longer instead.
    ///
    /// # Aborts
    ///
    /// As a `Vec` does, if the system refuses the memory for an overflow bucket.
    pub fn insert(&mut self, hash: u64, value: u32) {
        let Self {
            table,
            overflow,
            len,
            ..
        } = self;
        let head = table.bucket(table.state().bucket_of(hash));
        ChainEnd::of(table, head).push(overflow, table.tag(hash), value);
        *len += 1;
        if self.len > self.table.state().buckets() as usize * LOAD {
            self.split();
        }
    }

    /// Removes `value` from under `hash`, once. Returns whether it was there.
    ///
    /// The index keeps some bits of a hash, not all (see [theory](super)): do not ask to remove a pair
    /// that was not inserted, or the same value under a hash with the same bits may go instead.
    pub fn remove(&mut self, hash: u64, value: u32) -> bool {
        let Self {
            table,
            overflow,
            len,
            ..
        } = self;
        let tag = table.tag(hash);
        let mut before = None;
        let mut bucket = table.bucket(table.state().bucket_of(hash));
        let lane = loop {
            // The tag once more and in full: `matching` may deceive, and the same value may well stand
            // under a hash that differs in one bit.
            let lane = bucket
                .matching(tag)
                .find(|&lane| bucket.value(lane) == value && bucket.tag(lane) == Some(tag));
            if let Some(lane) = lane {
                break lane;
            }
            let Some(next) = table.continuation(bucket) else {
                return false;
            };
            before = Some(bucket);
            bucket = next;
        };
        *len -= 1;

        let mut last = bucket;
        while let Some(next) = table.continuation(last) {
            before = Some(last);
            last = next;
        }
        if std::ptr::eq(last, bucket) {
            bucket.clear(lane);
        } else {
            table.begin_move();
            move_any(last, (bucket, lane));
            table.end_move();
        }
        // No move to announce if the last bucket is given up: what is left of the chain is before it,
        // so a reader that stands in it, or in whatever it becomes, has passed all there is.
        if let Some(before) = before
            && last.occupied().next().is_none()
        {
            cut_after(table, overflow, before);
        }
        true
    }

    /// Offers `accept` the values under `hash`, and perhaps others, until it accepts one. Unlike a
    /// reader's search this misses nothing.
    pub fn find<T>(&self, hash: u64, mut accept: impl FnMut(u32) -> Option<T>) -> Option<T> {
        self.table.search(self.table.state(), hash, &mut accept)
    }

    /// Entries in the index.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory in use: all buckets, and as many overflow buckets as were ever needed at once.
    #[must_use]
    pub fn memory(&self) -> usize {
        let buckets = self.table.state().buckets() as usize + self.overflow.extent() as usize;
        size_of::<Table>() + size_of::<Self>() + buckets * size_of::<Bucket>()
    }

    /// Makes one more bucket and moves to it what it shall have from the bucket that had it so far.
    fn split(&mut self) {
        let Self {
            table,
            overflow,
            max_buckets,
            ..
        } = self;
        let new = table.state().buckets();
        if new >= *max_buckets || table.buckets.ensure(new).is_err() {
            return;
        }
        // The bit that now decides is the highest of the new bucket's number.
        let bit = new.ilog2();
        let (parent, deciding) = (table.bucket(new - (1 << bit)), bit - table.tag_shift);
        let mut end = FreshEnd {
            bucket: table.bucket(new),
            lane: 0,
        };
        let mut chain = Some(parent);
        while let Some(bucket) = chain {
            for lane in bucket.with_bit(deciding) {
                if let Some(tag) = bucket.tag(lane) {
                    end.push(table, overflow, tag, bucket.value(lane));
                }
            }
            chain = table.continuation(bucket);
        }
        // From here on readers look into the new bucket, and only now may entries vanish from the old.
        table.store(table.state().with_one_more().next_phase());
        if parent.next().is_none() {
            // The usual chain has one bucket, which may have vacant lanes anywhere.
            parent.clear_with_bit(deciding);
        } else {
            erase(table, overflow, parent, |tag| tag.bit(deciding));
        }
        table.end_move();
    }
}

impl fmt::Debug for IndexWriter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("IndexWriter")
            .field("table", &self.table)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// What only the writer calls.
impl Table {
    pub(super) fn bucket(&self, number: u32) -> &Bucket {
        self.buckets
            .get(number)
            .expect("every bucket that is counted was made before")
    }

    fn store(&self, state: State) {
        // Release: readers that see the state see the buckets as they were left. That a move was
        // announced before its erasures are seen comes from their own `Release`.
        self.state.store(state.0, Ordering::Release);
    }

    fn begin_move(&self) {
        self.store(self.state().next_phase());
    }

    fn end_move(&self) {
        self.store(self.state().next_phase());
    }
}

/// The last bucket of a chain: the one that may have vacant lanes.
struct ChainEnd<'table> {
    table: &'table Table,
    bucket: &'table Bucket,
}

impl<'table> ChainEnd<'table> {
    fn of(table: &'table Table, head: &'table Bucket) -> Self {
        let mut bucket = head;
        while let Some(next) = table.continuation(bucket) {
            bucket = next;
        }
        Self { table, bucket }
    }

    fn push(&mut self, overflow: &mut FreeList, tag: Tag, value: u32) {
        if let Some(lane) = self.bucket.vacant() {
            self.bucket.set(lane, tag, value);
            return;
        }
        let (number, next) = take_overflow(self.table, overflow);
        next.set(0, tag, value);
        self.bucket.link(Some(number));
        self.bucket = next;
    }
}

/// The last bucket of a chain that is being made: its lanes from `lane` on are vacant.
struct FreshEnd<'table> {
    bucket: &'table Bucket,
    lane: usize,
}

impl<'table> FreshEnd<'table> {
    #[inline(always)]
    fn push(&mut self, table: &'table Table, overflow: &mut FreeList, tag: Tag, value: u32) {
        if self.lane == LANES {
            let (number, next) = take_overflow(table, overflow);
            self.bucket.link(Some(number));
            (self.bucket, self.lane) = (next, 0);
        }
        self.bucket.set(self.lane, tag, value);
        self.lane += 1;
    }
}

/// An empty bucket from the pool.
#[cold]
fn take_overflow<'table>(table: &'table Table, overflow: &mut FreeList) -> (u32, &'table Bucket) {
    let number = overflow.reuse().or_else(|| {
        let number = overflow.extend().ok()?;
        table.overflow.ensure(number).ok()?;
        Some(number)
    });
    number
        .and_then(|number| Some((number, table.overflow.get(number)?)))
        .unwrap_or_else(|| std::alloc::handle_alloc_error(Layout::new::<Bucket>()))
}

/// Moves some entry of `from` to the place `to`. A move must have begun.
fn move_any(from: &Bucket, (bucket, lane): (&Bucket, usize)) {
    for last in from.occupied().take(1) {
        if let Some(tag) = from.tag(last) {
            bucket.set(lane, tag, from.value(last));
        }
        from.clear(last);
    }
}

/// Erases the entries that `moved` and closes the gaps, so that only the last bucket of the chain has
/// vacant lanes. A move must have begun.
fn erase<'table>(
    table: &'table Table,
    overflow: &mut FreeList,
    head: &'table Bucket,
    moved: impl Fn(Tag) -> bool,
) {
    let mut keep = Place {
        bucket: head,
        lane: 0,
    };
    let mut last_kept = head;
    let mut chain = Some(head);
    while let Some(bucket) = chain {
        for lane in 0..LANES {
            let Some(tag) = bucket.tag(lane) else {
                continue;
            };
            if moved(tag) {
                bucket.clear(lane);
                continue;
            }
            let place = keep.take(table);
            last_kept = place.bucket;
            if !(std::ptr::eq(place.bucket, bucket) && place.lane == lane) {
                place.bucket.set(place.lane, tag, bucket.value(lane));
                bucket.clear(lane);
            }
        }
        chain = table.continuation(bucket);
    }
    cut_after(table, overflow, last_kept);
}

/// Ends a chain at `last` and gives the buckets after it, all empty, back to the pool.
fn cut_after(table: &Table, overflow: &mut FreeList, last: &Bucket) {
    let mut excess = last.next();
    last.link(None);
    while let Some(number) = excess {
        let bucket = table
            .overflow
            .get(number)
            .expect("a linked bucket was made before");
        excess = bucket.next();
        // Pool buckets are as fresh as new ones, and a reader that still stands here ends its search.
        bucket.link(None);
        overflow.give_back(number);
    }
}

/// A lane of a chain, counted through from its head.
#[derive(Clone, Copy)]
struct Place<'table> {
    bucket: &'table Bucket,
    lane: usize,
}

impl<'table> Place<'table> {
    /// This place; the one after it is next.
    fn take(&mut self, table: &'table Table) -> Self {
        if self.lane == LANES {
            let next = table.continuation(self.bucket);
            self.bucket = next.expect("what is kept goes no further than what was read");
            self.lane = 0;
        }
        let place = *self;
        self.lane += 1;
        place
    }
}
