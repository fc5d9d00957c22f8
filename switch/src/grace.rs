//! Grace periods: how the publisher of a configuration learns that no worker uses an older one.
//!
//! # Theory of operation
//!
//! Each worker says in its [`Progress`] which generation it is working with, or that it works with
//! none. The publisher makes its configuration visible and then waits until every worker has either
//! come to it or fallen asleep. After that nobody can be looking at anything that only the older
//! configuration named.
//!
//! Two races decide whether this is sound; both are of the kind "each writes its own word and then
//! reads the other's", and both need a sequentially consistent fence between write and read on both
//! sides, so that at least one of the two sees the other's write.
//!
//! 1. **A worker wakes while a configuration is published.** It says so ([`Progress::wake`]) before it
//!    loads a configuration; the publisher stores its configuration before it looks at the workers
//!    ([`published`]). If the publisher still saw the worker asleep, the worker loads the new one.
//! 2. **A worker moves on while the publisher goes to wait.** It moves before it looks whether anybody
//!    waits ([`Grace::moved`]); the publisher says that it waits before it looks at the workers
//!    ([`Grace::wait`]). If the worker saw nobody waiting, the publisher sees the move.
//!
//! Everything else is release and acquire: what a worker did under the old configuration happens
//! before its store of "passed", and that before whatever the publisher does next. `grace/model.rs`
//! tries all interleavings with loom.

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;

use std::time::Duration;

#[cfg(loom)]
use loom::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering, fence},
};
#[cfg(not(loom))]
use std::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering, fence},
};

/// How far a worker is.
#[derive(Debug)]
pub(crate) struct Progress(AtomicU64);

impl Progress {
    /// The worker holds no configuration, and will take up the newest one when it wakes.
    const ASLEEP: u64 = u64::MAX;

    /// The worker is about to take up a configuration, nobody knows which.
    const WAKING: u64 = 0;

    /// Of a worker that has not begun.
    pub(crate) fn asleep() -> Progress {
        Progress(AtomicU64::new(Self::ASLEEP))
    }

    /// To be called before a configuration is loaded.
    pub(crate) fn wake(&self) {
        self.0.store(Self::WAKING, Ordering::Relaxed);
        // Race 1, the worker's side.
        fence(Ordering::SeqCst);
    }

    /// A configuration was loaded, and the one before it is not used any more.
    pub(crate) fn at(&self, generation: u64) {
        self.0.store(generation, Ordering::Release);
    }

    /// The configuration was let go.
    pub(crate) fn sleep(&self) {
        self.0.store(Self::ASLEEP, Ordering::Release);
    }

    /// Whether nothing older than `generation` is used.
    pub(crate) fn has_passed(&self, generation: u64) -> bool {
        self.0.load(Ordering::Acquire) >= generation
    }
}

/// To be called between the store of a configuration and [`Grace::wait`].
pub(crate) fn published() {
    // Race 1, the publisher's side.
    fence(Ordering::SeqCst);
}

/// Wakes whoever waits for workers to pass a generation.
#[derive(Debug)]
pub(crate) struct Grace {
    /// Whether somebody waits; workers look here when they move on.
    awaited: AtomicU64,
    lock: Mutex<()>,
    passed: Condvar,
}

impl Grace {
    pub(crate) fn new() -> Grace {
        Grace {
            awaited: AtomicU64::new(0),
            lock: Mutex::new(()),
            passed: Condvar::new(),
        }
    }

    /// A worker has moved on. Costs a fence and a load unless somebody waits.
    #[inline]
    pub(crate) fn moved(&self) {
        // Race 2, the worker's side.
        fence(Ordering::SeqCst);
        if self.awaited.load(Ordering::Relaxed) != 0 {
            // Under the lock: the publisher either has not looked yet, or is waiting already.
            let _guard = lock(&self.lock);
            self.passed.notify_all();
        }
    }

    /// Waits until each of `workers` has been seen to have passed `generation`, but no longer than
    /// `patience`. Whether all have.
    ///
    /// A worker that has passed once will not come back, though it may look so while it is waking. So
    /// each is looked at until it has, and not again.
    pub(crate) fn wait<'p>(
        &self,
        patience: Duration,
        generation: u64,
        workers: impl Iterator<Item = &'p Progress>,
    ) -> bool {
        let mut behind: Vec<&Progress> = workers.collect();
        self.awaited.store(1, Ordering::Relaxed);
        // Race 2, the publisher's side.
        fence(Ordering::SeqCst);
        wait_while(&self.passed, lock(&self.lock), patience, || {
            behind.retain(|worker| !worker.has_passed(generation));
            !behind.is_empty()
        });
        self.awaited.store(0, Ordering::Relaxed);
        behind.is_empty()
    }
}

/// The lock guards nothing that could be left half-done.
fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(not(loom))]
fn wait_while(
    condition: &Condvar,
    guard: MutexGuard<'_, ()>,
    patience: Duration,
    mut pending: impl FnMut() -> bool,
) {
    drop(condition.wait_timeout_while(guard, patience, |()| pending()));
}

/// Loom knows no time: here a lost wake-up is a deadlock, which it reports.
#[cfg(loom)]
fn wait_while(
    condition: &Condvar,
    mut guard: MutexGuard<'_, ()>,
    _: Duration,
    mut pending: impl FnMut() -> bool,
) {
    while pending() {
        guard = condition
            .wait(guard)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
    }
}
