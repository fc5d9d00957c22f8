//! An array that grows without ever moving.
//!
//! # Theory of operation
//!
//! A `Vec` that grows copies itself: at four million records that is 640 MB and a pause of a quarter of
//! a second, and it needs the table to itself meanwhile. [`Segments`] adds a chunk instead, each twice
//! as long as the one before, and keeps the addresses of all chunks in a table of 32 pointers, so
//! - an element stays where it is for the life of the array: readers hold plain references to it while
//!   other threads grow the array;
//! - the place of an element is found from its index alone: `index + first` has its highest bit at
//!   the number of the chunk;
//! - growing costs one `mmap`, however long the chunk, and the kernel zeroes a page when it is first
//!   touched. The global allocator would do until it answers from memory that was used before: then
//!   `calloc` clears the whole chunk at once, and for an alignment above 16 it always does.
//!
//! What must stay true: a chunk's pointer is written once, after the chunk exists, and the chunk lives
//! as long as the array. Everything here that is `unsafe` rests on that.

use std::{fmt, io, marker::PhantomData, mem};

use crate::sync::{AtomicPtr, Mutex, Ordering, Zeroed};

/// Chunks at most: the highest bit of a `u32` has 32 places.
const CHUNKS: usize = u32::BITS as usize;

/// Elements in the first chunk at least. One would put index `u32::MAX`, which wraps to place 0, into
/// the same chunk as index 0.
const FIRST_MIN: u32 = 2;

/// A grow-only array of `T`, addressed by `u32`, whose elements start as zero bytes and never move.
///
/// Shared and plain use are the same type: through `&self` any thread may grow it and read it, through
/// `&mut self` elements are changed. Whoever shares elements that change needs a `T` made for that.
#[cfg_attr(
    loom,
    expect(private_bounds, reason = "the bound is zerocopy's, except under loom")
)]
pub struct Segments<T: Zeroed> {
    /// Per chunk the address that element 0 would have if the chunk reached down to it, so that adding
    /// the index gives the element; null while the chunk does not exist.
    origins: [AtomicPtr<T>; CHUNKS],
    /// Elements in the first chunk, a power of two.
    first: u32,
    owners: Mutex<Vec<Chunk<T>>>,
    /// `AtomicPtr` is `Sync` for any `T`; this array is so only if `T` is.
    holds: PhantomData<T>,
}

#[cfg_attr(loom, expect(private_bounds, reason = "as above"))]
impl<T: Zeroed> Segments<T> {
    /// An empty array whose first chunk will hold `first` elements, rounded up to a power of two.
    #[must_use]
    pub fn new(first: u32) -> Self {
        const {
            assert!(size_of::<T>() > 0, "elements without size have no address");
            assert!(!mem::needs_drop::<T>(), "elements are never dropped");
            assert!(align_of::<T>() <= 4_096, "a chunk is aligned to a page");
        }
        Self {
            origins: std::array::from_fn(|_| AtomicPtr::new(std::ptr::null_mut())),
            first: first.clamp(FIRST_MIN, 1 << 31).next_power_of_two(),
            owners: Mutex::new(Vec::new()),
            holds: PhantomData,
        }
    }

    /// The element at `index`, if [`ensure`](Self::ensure) was called for it or for one after it.
    #[inline(always)]
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&T> {
        let element = self.locate(index)?;
        // SAFETY: `locate` gives the address of an element of a chunk that lives as long as `self` and
        // is initialised (`Zeroed`). A `&mut T` to it exists only while `self` is borrowed mutably
        // (`get_mut`). Unsafe is needed because chunks are found through atomics, so that readers
        // need no lock.
        Some(unsafe { &*element })
    }

    /// The element at `index`, to be changed.
    #[inline(always)]
    #[must_use]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let element = self.locate(index)?;
        // SAFETY: as in `get`; `&mut self` says that no other reference to an element exists.
        Some(unsafe { &mut *element })
    }

    /// Makes the elements up to `index` and at least that one exist.
    ///
    /// Cheap if they do. One system call per chunk if not; no element is touched.
    ///
    /// # Errors
    ///
    /// The system refuses the memory.
    #[inline]
    pub fn ensure(&self, index: u32) -> io::Result<()> {
        if self.locate(index).is_some() {
            return Ok(());
        }
        self.extend_to(index)
    }

    #[cold]
    fn extend_to(&self, index: u32) -> io::Result<()> {
        let Some(place) = index.checked_add(self.first) else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        let first = self.first.ilog2();
        for chunk in first..=place.ilog2() {
            self.map(chunk)?;
        }
        Ok(())
    }

    /// The element at `index`, made if need be.
    ///
    /// # Aborts
    ///
    /// As a `Vec` does, if the system refuses the memory.
    #[inline]
    pub(crate) fn demand(&mut self, index: u32) -> &mut T {
        let element = self.locate(index).unwrap_or_else(|| self.make(index));
        // SAFETY: as in `get_mut`.
        unsafe { &mut *element }
    }

    #[cold]
    fn make(&self, index: u32) -> *mut T {
        let made = self.ensure(index).ok().and_then(|()| self.locate(index));
        made.unwrap_or_else(|| std::alloc::handle_alloc_error(std::alloc::Layout::new::<T>()))
    }

    /// The address of the element at `index`: non-null, aligned and inside its chunk.
    #[inline(always)]
    fn locate(&self, index: u32) -> Option<*mut T> {
        // An index so high that this wraps lands below `first`, where no chunk ever is.
        let place = index.wrapping_add(self.first);
        let chunk = (place | 1).ilog2() as usize;
        // Acquire: the chunk's existence, and under loom its elements, come with its address.
        let origin = self.origins[chunk].load(Ordering::Acquire);
        (!origin.is_null()).then(|| origin.wrapping_add(index as usize))
    }

    /// Maps chunk `chunk` unless it exists.
    fn map(&self, chunk: u32) -> io::Result<()> {
        let mut owners = self
            .owners
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let slot = &self.origins[chunk as usize];
        // Relaxed: only holders of the lock write.
        if !slot.load(Ordering::Relaxed).is_null() {
            return Ok(());
        }
        let elements = 1_usize << chunk;
        let owner = Chunk::<T>::zeroed(elements)?;
        let origin = owner.start().wrapping_sub(elements - self.first as usize);
        if origin.is_null() {
            // A chunk at the very address that would make its origin look absent. Kernels do not map
            // that low; if one did, it would be as good as no memory.
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        owners.push(owner);
        slot.store(origin, Ordering::Release);
        Ok(())
    }
}

impl<T: Zeroed> fmt::Debug for Segments<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Segments")
            .field("first", &self.first)
            .finish_non_exhaustive()
    }
}

/// The memory of one chunk.
#[cfg(not(loom))]
struct Chunk<T> {
    pages: memmap2::MmapRaw,
    holds: PhantomData<T>,
}

#[cfg(not(loom))]
impl<T: Zeroed> Chunk<T> {
    fn zeroed(elements: usize) -> io::Result<Self> {
        let bytes = elements
            .checked_mul(size_of::<T>())
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let mut options = memmap2::MmapOptions::new();
        options.len(bytes);
        // Chunks are promises: the next may be larger than all memory, and most of it is never touched.
        // Without this flag, which miri does not know, the kernel refuses such a one.
        if !cfg!(miri) {
            options.no_reserve_swap();
        }
        let pages = options.map_anon()?.into();
        Ok(Self {
            pages,
            holds: PhantomData,
        })
    }

    fn start(&self) -> *mut T {
        self.pages.as_mut_ptr().cast()
    }
}

/// The memory of one chunk: loom's types need construction.
#[cfg(loom)]
struct Chunk<T> {
    elements: *mut [T],
}

#[cfg(loom)]
impl<T: Zeroed> Chunk<T> {
    fn zeroed(elements: usize) -> io::Result<Self> {
        let elements = std::iter::repeat_with(T::default)
            .take(elements)
            .collect::<Box<[T]>>();
        Ok(Self {
            elements: Box::into_raw(elements),
        })
    }

    fn start(&self) -> *mut T {
        self.elements.cast()
    }
}

#[cfg(loom)]
impl<T> Drop for Chunk<T> {
    fn drop(&mut self) {
        // SAFETY: from `Box::into_raw` in `zeroed`, and dropped once.
        drop(unsafe { Box::from_raw(self.elements) });
    }
}

#[cfg(loom)]
// SAFETY: owns its elements like a `Box<[T]>`.
unsafe impl<T: Send> Send for Chunk<T> {}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{
            Barrier,
            atomic::{AtomicU32, Ordering},
        },
        thread,
    };

    use proptest::prelude::*;

    use super::Segments;

    #[test]
    fn nothing_exists_before_it_is_ensured() {
        let segments = Segments::<u64>::new(8);
        assert!(segments.get(0).is_none());
        assert!(segments.get(u32::MAX).is_none());
        segments.ensure(0).unwrap();
        assert_eq!(
            segments.get(7),
            Some(&0),
            "the rest of the chunk comes with it"
        );
        assert!(segments.get(8).is_none());
        assert!(segments.get(u32::MAX).is_none());
    }

    #[test]
    fn what_lies_below_an_ensured_element_exists_too() {
        let segments = Segments::<u64>::new(2);
        segments.ensure(1_000).unwrap();
        assert!((0..=1_000).all(|index| segments.get(index) == Some(&0)));
    }

    #[test]
    fn elements_stay_where_they_are() {
        let mut segments = Segments::<u64>::new(2);
        *segments.demand(1) = 11;
        let before = std::ptr::from_ref(segments.get(1).unwrap());
        *segments.demand(5_000) = 55;
        let after = segments.get(1).unwrap();
        assert_eq!((before, *after), (std::ptr::from_ref(after), 11));
        assert_eq!(segments.get(5_000), Some(&55));
    }

    #[test]
    fn a_chunk_takes_address_space_and_memory_only_where_touched() {
        let mut segments = Segments::<[u8; 160]>::new(1_024);
        // Eighty gigabytes of addresses. Not under miri, which has none to give away.
        let far = if cfg!(miri) { 5_000 } else { 400_000_000 };
        segments.demand(far)[159] = 1;
        assert_eq!(segments.get(far).map(|element| element[159]), Some(1));
    }

    #[test]
    #[cfg_attr(miri, ignore = "miri allocates what it is asked for")]
    fn memory_that_cannot_be_had_is_an_error() {
        let segments = Segments::<[u64; 1 << 32]>::new(2);
        assert!(segments.ensure(1 << 30).is_err());
        assert!(segments.ensure(u32::MAX).is_err());
    }

    #[test]
    fn elements_keep_their_alignment() {
        #[derive(zerocopy::FromZeros)]
        #[repr(align(64))]
        struct Line([u8; 64]);
        let segments = Segments::<Line>::new(4);
        segments.ensure(100).unwrap();
        for index in 0..100 {
            let line = segments.get(index).unwrap();
            assert!(std::ptr::from_ref(line).is_aligned() && line.0 == [0; 64]);
        }
    }

    #[test]
    fn threads_grow_and_read_it_together() {
        const COUNT: u32 = if cfg!(miri) { 40 } else { 20_000 };
        let segments = Segments::<AtomicU32>::new(2);
        let barrier = Barrier::new(4);
        thread::scope(|scope| {
            for part in 0..4 {
                let (segments, barrier) = (&segments, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for index in 0..COUNT {
                        segments.ensure(index).unwrap();
                        let element = segments.get(index).unwrap();
                        element.fetch_add(index + part, Ordering::Relaxed);
                    }
                });
            }
        });
        for index in 0..COUNT {
            let element = segments.get(index).unwrap();
            assert_eq!(element.load(Ordering::Relaxed), 4 * index + 6);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            cases: if cfg!(miri) { 2 } else { 256 },
            ..ProptestConfig::default()
        })]

        #[test]
        fn it_is_an_array_of_zeros_until_written(
            first in 0..200_u32,
            writes in prop::collection::vec((0..5_000_u32, 1..=u32::MAX), 0..40),
        ) {
            let mut segments = Segments::<u32>::new(first);
            let mut model = BTreeMap::new();
            for (index, value) in writes {
                *segments.demand(index) = value;
                model.insert(index, value);
            }
            for index in (0..6_000).step_by(if cfg!(miri) { 97 } else { 1 }) {
                match segments.get(index) {
                    Some(value) => prop_assert_eq!(*value, model.get(&index).copied().unwrap_or(0)),
                    None => prop_assert!(model.range(index..).next().is_none()),
                }
            }
        }
    }
}

#[cfg(all(test, loom))]
mod model {
    use loom::{sync::Arc, thread};

    use super::{Ordering, Segments};
    use crate::sync::AtomicU32;

    #[test]
    fn threads_that_make_a_chunk_together_make_one() {
        loom::model(|| {
            let segments = Arc::new(Segments::<AtomicU32>::new(2));
            let count = |segments: &Segments<AtomicU32>| {
                segments.ensure(0).unwrap();
                segments.get(0).unwrap().fetch_add(1, Ordering::Relaxed)
            };
            let other = thread::spawn({
                let segments = segments.clone();
                move || count(&segments)
            });
            let (mine, others) = (count(&segments), other.join().unwrap());
            assert_eq!(mine + others, 1, "both counted in the same element");
        });
    }
}
