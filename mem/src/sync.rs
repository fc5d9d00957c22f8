//! The only door to atomics, locks and shared cells, so that loom can stand behind it.
//!
//! A normal build takes them from `std`. With `RUSTFLAGS="--cfg loom"` the same code runs on loom's
//! types, which try every interleaving and every value a weakly ordered load may return. Loom's types
//! are not plain memory: all-zero bytes are no valid value of them, so there a fresh element comes from
//! [`Default`] where a normal build takes the zero page as it comes from the kernel ([`Zeroed`]).

#[cfg(not(loom))]
mod with_std {
    pub(crate) use std::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering},
    };

    pub(crate) use zerocopy::FromZeros as Zeroed;

    /// `std`'s cell under loom's interface: the pointer comes from an object that marks the access.
    #[derive(Debug, zerocopy::FromZeros)]
    #[repr(transparent)]
    pub(crate) struct SharedCell<T>(std::cell::UnsafeCell<T>);

    /// Marks one exclusive access to a [`SharedCell`]. Here it is the bare pointer.
    #[derive(Debug)]
    pub(crate) struct CellAccess<T>(*mut T);

    impl<T> SharedCell<T> {
        #[inline(always)]
        pub(crate) fn access(&self) -> CellAccess<T> {
            CellAccess(self.0.get())
        }
    }

    impl<T> CellAccess<T> {
        #[inline(always)]
        pub(crate) fn pointer(&self) -> *mut T {
            self.0
        }
    }

    /// Spins first, then offers the processor to others.
    #[derive(Debug)]
    pub(crate) struct Backoff(crossbeam_utils::Backoff);

    impl Backoff {
        pub(crate) fn new() -> Self {
            Self(crossbeam_utils::Backoff::new())
        }

        pub(crate) fn wait(&self) {
            self.0.snooze();
        }
    }
}

#[cfg(loom)]
mod with_loom {
    pub(crate) use loom::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering},
    };

    /// What a fresh element is made from under loom.
    pub(crate) trait Zeroed: Default {}

    impl<T: Default> Zeroed for T {}

    /// Loom's cell, which reports two accesses that overlap.
    #[derive(Debug)]
    pub(crate) struct SharedCell<T>(loom::cell::UnsafeCell<T>);

    /// One exclusive access: loom counts it as lasting until this is dropped.
    #[derive(Debug)]
    pub(crate) struct CellAccess<T>(loom::cell::MutPtr<T>);

    impl<T> SharedCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::cell::UnsafeCell::new(value))
        }

        #[track_caller]
        pub(crate) fn access(&self) -> CellAccess<T> {
            CellAccess(self.0.get_mut())
        }
    }

    impl<T> CellAccess<T> {
        pub(crate) fn pointer(&self) -> *mut T {
            self.0.with(|pointer| pointer)
        }
    }

    /// Tells loom that nothing changes here until another thread has run.
    #[derive(Debug)]
    pub(crate) struct Backoff;

    impl Backoff {
        pub(crate) fn new() -> Self {
            Self
        }

        pub(crate) fn wait(&self) {
            loom::thread::yield_now();
        }
    }
}

#[cfg(loom)]
pub(crate) use with_loom::{
    Arc, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Backoff, CellAccess, Mutex, MutexGuard,
    Ordering, SharedCell, Zeroed,
};
#[cfg(not(loom))]
pub(crate) use with_std::{
    Arc, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Backoff, CellAccess, Mutex, MutexGuard,
    Ordering, SharedCell, Zeroed,
};
