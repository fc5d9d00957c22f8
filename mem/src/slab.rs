//! Records of one size, millions of them, each with a lock of one byte.
//!
//! # Theory of operation
//!
//! A [`Slab`] hands out slots, numbered from zero, up to a limit given at its making; the memory behind
//! them comes as they are used and is never moved or returned ([`Segments`]). A record is found by its
//! slot from any thread and looked at under its lock. Whoever comes with an old slot number, from an
//! index entry removed meanwhile, finds zeros or a stranger's record, never freed memory: it compares the
//! key under the lock and goes its way.
//!
//! **The lock** is a byte in front of the record, in the cache line with its first fields, so taking it
//! costs no further miss; keep the hottest fields first. A table of locks beside the records was rejected
//! for that miss, and because 64 neighbours would share a line and be slowed down by each other's owner.
//! A record of alignment *a* occupies a slot of its size plus *a* bytes: 152 bytes of alignment 8 make a
//! slot of 160, which touches three cache lines wherever it lies; 160 make 168, which often touches four.
//!
//! **The lock is a leaf**: nobody takes a second one, of any slab, or any other lock, while holding it.
//! That is why no order between locks exists and none is needed, and why a holder is never suspended
//! by anything but the scheduler. A debug build panics if a thread locks two records of one slab.
//!
//! | slot | lock byte | record | who may |
//! |---|---|---|---|
//! | never handed out | 0 | zero | nobody looks; a look finds zeros |
//! | handed out | in use | the caller's | lock it, free it |
//! | locked | in use, locked | the holder's alone | read and write through the [`Guard`] |
//! | freed | 0 | zero | stale slot numbers lock it and find zeros |

#[cfg(all(debug_assertions, not(loom), not(miri)))]
mod leaf;

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod model;

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::PoisonError,
};

use crossbeam_utils::CachePadded;
use zerocopy::{FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::{
    free::FreeList,
    prefetch::{CACHE_LINE, prefetch},
    segments::Segments,
    sync::{AtomicU8, AtomicU32, Backoff, CellAccess, Mutex, MutexGuard, Ordering, SharedCell},
};

/// The slot's record is somebody's.
const IN_USE: u8 = 1;

/// A [`Guard`] to the record exists.
const LOCKED: u8 = 2;

/// Slots in the first chunk at most; a slab with a lower limit begins smaller.
const FIRST_CHUNK: u32 = 1_024;

/// What a slab keeps: plain bytes without a pointer among them and without padding, of which all zeros
/// is a valid one.
///
/// So a record can be wiped, dumped, checked for being wiped, and one day kept in memory that outlives
/// the process. The bounds are derived (`#[derive(FromZeros, IntoBytes, Immutable, KnownLayout)]`), this
/// trait is implemented by hand: it says that the type is meant to be one.
pub trait Record: FromZeros + IntoBytes + Immutable + KnownLayout + Copy + Send + 'static {}

/// A bounded store of records, each under its own lock, shared by all threads through `&self`.
pub struct Slab<R: Record> {
    slots: Segments<Slot<R>>,
    limit: u32,
    /// Written whenever a slot is handed out or taken back, and so in a cache line of its own: lookups
    /// on other processors do not come near it.
    count: CachePadded<Count>,
    #[cfg(all(debug_assertions, not(loom), not(miri)))]
    leaf: leaf::LeafCheck,
}

/// Which slots are whose.
struct Count {
    free: Mutex<FreeList>,
    /// A copy of what the list counts, for those who only want to know.
    held: AtomicU32,
    extent: AtomicU32,
}

impl<R: Record> Slab<R> {
    /// An empty slab for at most `limit` records. Takes no memory for them yet.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            slots: Segments::new(limit.min(FIRST_CHUNK)),
            limit,
            count: CachePadded::new(Count {
                free: Mutex::new(FreeList::new()),
                held: AtomicU32::new(0),
                extent: AtomicU32::new(0),
            }),
            #[cfg(all(debug_assertions, not(loom), not(miri)))]
            leaf: leaf::LeafCheck::default(),
        }
    }

    /// Hands out a slot whose record is all zeros. `None` if `limit` are out, or the system has no
    /// memory for one more.
    #[must_use]
    pub fn allocate(&self) -> Option<u32> {
        let slot = self.take_number()?;
        // Under the lock, as every change of the byte: a stranger with an old number may hold it.
        self.lock(slot).held.unlocked = IN_USE;
        Some(slot)
    }

    /// Hands out a slot that has `record`, in one go. `None` as for [`allocate`](Self::allocate).
    #[must_use]
    pub fn insert(&self, record: &R) -> Option<u32> {
        let slot = self.take_number()?;
        let mut guard = self.lock(slot);
        *guard = *record;
        guard.held.unlocked = IN_USE;
        Some(slot)
    }

    /// Wipes the record at `slot` and takes the slot back.
    ///
    /// Freeing what is not in use is the caller's mistake: it changes nothing, and a debug build panics.
    pub fn free(&self, slot: u32) {
        {
            let mut guard = self.lock(slot);
            debug_assert_eq!(
                guard.held.unlocked, IN_USE,
                "slot {slot} is freed but not in use"
            );
            if guard.held.unlocked != IN_USE {
                return;
            }
            guard.zero();
            guard.held.unlocked = 0;
        }
        let mut free = self.free_list();
        free.give_back(slot);
        self.count.held.store(free.held(), Ordering::Relaxed);
    }

    /// Waits for the lock of the record at `slot` and takes it.
    ///
    /// Spins, then yields: a holder does a few dozen instructions and takes no other lock.
    ///
    /// # Panics
    ///
    /// `slot` was never handed out and lies beyond the memory of this slab. In a debug build also if this
    /// thread holds another record of this slab: it would be a deadlock sooner or later.
    #[inline]
    #[track_caller]
    pub fn lock(&self, slot: u32) -> Guard<'_, R> {
        let entry = self.slot(slot);
        #[cfg(all(debug_assertions, not(loom), not(miri)))]
        self.leaf.enter();
        if let Some(unlocked) = entry.try_lock() {
            return self.guard(entry, unlocked);
        }
        self.guard(entry, entry.wait_for_lock())
    }

    /// Takes the lock of the record at `slot` if nobody has it.
    ///
    /// # Panics
    ///
    /// As [`lock`](Self::lock).
    #[inline]
    #[track_caller]
    pub fn try_lock(&self, slot: u32) -> Option<Guard<'_, R>> {
        let entry = self.slot(slot);
        #[cfg(all(debug_assertions, not(loom), not(miri)))]
        self.leaf.enter();
        let unlocked = entry.try_lock();
        #[cfg(all(debug_assertions, not(loom), not(miri)))]
        if unlocked.is_none() {
            self.leaf.leave();
        }
        Some(self.guard(entry, unlocked?))
    }

    /// Starts to load all cache lines of `slot`.
    #[inline]
    pub fn prefetch(&self, slot: u32) {
        let Some(slot) = self.slots.get(slot) else {
            return;
        };
        let start = std::ptr::from_ref(slot).cast::<u8>();
        for line in 0..Slot::<R>::LINES_FROM_START {
            prefetch(start.wrapping_add(line * CACHE_LINE));
        }
        if Slot::<R>::ENDS_IN_ANOTHER_LINE {
            prefetch(start.wrapping_add(size_of::<Slot<R>>() - 1));
        }
    }

    /// Records that can be in use at once.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Records in use.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.count.held.load(Ordering::Relaxed)
    }

    /// Whether no record is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One more than the highest slot ever handed out: who wants to see all records looks from zero up
    /// to here, and skips those that are zero.
    #[must_use]
    pub fn extent(&self) -> u32 {
        self.count.extent.load(Ordering::Acquire)
    }

    /// Octets that a record takes, its lock included.
    #[must_use]
    pub const fn octets_per_record() -> usize {
        size_of::<Slot<R>>()
    }

    /// Octets that a slab of at most `limit` records takes at most.
    #[must_use]
    pub const fn memory_bound(limit: u32) -> usize {
        size_of::<Self>().saturating_add((limit as usize).saturating_mul(size_of::<Slot<R>>()))
    }

    /// Bytes of memory in use: whatever was in use at once, since memory is not returned.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.extent() as usize * size_of::<Slot<R>>()
    }

    fn take_number(&self) -> Option<u32> {
        let mut free = self.free_list();
        let number = match free.reuse() {
            Some(number) => number,
            None if free.extent() < self.limit => {
                self.slots.ensure(free.extent()).ok()?;
                free.extend().ok()?
            }
            None => return None,
        };
        self.count.held.store(free.held(), Ordering::Relaxed);
        // Release: whoever walks up to the extent finds the slots mapped.
        self.count.extent.store(free.extent(), Ordering::Release);
        Some(number)
    }

    fn free_list(&self) -> MutexGuard<'_, FreeList> {
        self.count
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    #[inline(always)]
    #[track_caller]
    fn slot(&self, slot: u32) -> &Slot<R> {
        self.slots
            .get(slot)
            .expect("slot numbers come from `allocate`")
    }

    #[inline(always)]
    fn guard<'slab>(&'slab self, slot: &'slab Slot<R>, unlocked: u8) -> Guard<'slab, R> {
        Guard {
            record: slot.record.access(),
            held: HeldLock {
                byte: &slot.lock,
                unlocked,
                #[cfg(all(debug_assertions, not(loom), not(miri)))]
                leaf: &self.leaf,
            },
        }
    }
}

impl<R: Record> fmt::Debug for Slab<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Slab")
            .field("len", &self.len())
            .field("extent", &self.extent())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// A lock byte and the record it guards.
#[cfg_attr(not(loom), derive(FromZeros))]
#[repr(C)]
struct Slot<R> {
    lock: AtomicU8,
    record: SharedCell<R>,
}

// SAFETY: the record is reached only through a `Guard`, of which there is one at a time: it exists only
// between a successful `try_lock` and the store that unlocks, which are Acquire and Release. So sharing
// a slot hands the record from thread to thread, for which `R: Send` is enough. Unsafe is needed because
// the compiler cannot see that the byte guards the cell.
unsafe impl<R: Record> Sync for Slot<R> {}

impl<R: Record> Slot<R> {
    /// Lines to ask for, counted from the start of the slot.
    const LINES_FROM_START: usize = size_of::<Self>().div_ceil(CACHE_LINE);

    /// Whether a slot may end in a line that lies beyond those, because slots begin inside of lines.
    const ENDS_IN_ANOTHER_LINE: bool = {
        let size = size_of::<Self>();
        // Slots follow one another from a page's start on, so they begin at multiples of this.
        let step = 1 << size.trailing_zeros();
        let latest_start = CACHE_LINE.saturating_sub(step);
        (latest_start + size).div_ceil(CACHE_LINE) > Self::LINES_FROM_START
    };

    /// Takes the lock if it is free, and returns what the byte is without it.
    #[inline(always)]
    fn try_lock(&self) -> Option<u8> {
        // The usual case first and without a look beforehand, which would fetch the line twice: shared
        // to look, exclusive to take.
        match self.take(IN_USE) {
            Err(0) => self.take(0).ok(),
            taken => taken.ok(),
        }
    }

    #[inline(always)]
    fn take(&self, unlocked: u8) -> Result<u8, u8> {
        // Acquire: what the last holder wrote.
        self.lock.compare_exchange(
            unlocked,
            unlocked | LOCKED,
            Ordering::Acquire,
            Ordering::Relaxed,
        )
    }

    #[cold]
    fn wait_for_lock(&self) -> u8 {
        let backoff = Backoff::new();
        loop {
            // Looks before it takes: waiters then share the line instead of tearing it from the holder.
            if self.lock.load(Ordering::Relaxed) & LOCKED == 0
                && let Some(unlocked) = self.try_lock()
            {
                return unlocked;
            }
            backoff.wait();
        }
    }
}

#[cfg(loom)]
impl<R: Record> Default for Slot<R> {
    fn default() -> Self {
        Self {
            lock: AtomicU8::new(0),
            record: SharedCell::new(R::new_zeroed()),
        }
    }
}

/// The one who may look at and change a record, until it is dropped. Not for keeping: see
/// [`Slab::lock`].
#[must_use]
pub struct Guard<'slab, R: Record> {
    // The order of the fields is the order of their end: the access first, then the lock.
    record: CellAccess<R>,
    held: HeldLock<'slab>,
}

impl<R: Record> Deref for Guard<'_, R> {
    type Target = R;

    #[inline(always)]
    fn deref(&self) -> &R {
        // SAFETY: the pointer is to the cell of a slot of the slab that `held` borrows. The lock is held,
        // so no other guard to it exists; `&self` forbids a `&mut R` from this one. Zeroed memory is a
        // valid `R`, and so is what the holders before left.
        unsafe { &*self.record.pointer() }
    }
}

impl<R: Record> DerefMut for Guard<'_, R> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut R {
        // SAFETY: as in `deref`, and `&mut self` says that this guard lent no other reference.
        unsafe { &mut *self.record.pointer() }
    }
}

impl<R: Record + fmt::Debug> fmt::Debug for Guard<'_, R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Guard").field(&**self).finish()
    }
}

/// A lock byte that is locked, and unlocks when it goes.
struct HeldLock<'slab> {
    byte: &'slab AtomicU8,
    /// What the byte will be: changed only by `allocate` and `free`.
    unlocked: u8,
    #[cfg(all(debug_assertions, not(loom), not(miri)))]
    leaf: &'slab leaf::LeafCheck,
}

impl Drop for HeldLock<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        #[cfg(all(debug_assertions, not(loom), not(miri)))]
        self.leaf.leave();
        // Release: the next holder sees what this one wrote.
        self.byte.store(self.unlocked, Ordering::Release);
    }
}
