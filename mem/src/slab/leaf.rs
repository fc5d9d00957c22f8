//! The debug build's watch over the rule that a record's lock is a leaf.

use std::{
    sync::{Mutex, PoisonError},
    thread::{self, ThreadId},
};

/// Which threads hold a record of one slab.
///
/// Not in release builds, where it would cost more than the lock it watches; not under miri or loom,
/// from which its own mutex would hide the races they look for. A thread-local count would watch over
/// all slabs at once, but global state stays out of this crate.
#[derive(Debug, Default)]
pub(super) struct LeafCheck {
    holders: Mutex<Vec<ThreadId>>,
}

impl LeafCheck {
    /// This thread is about to lock a record.
    #[track_caller]
    pub(super) fn enter(&self) {
        let thread = thread::current().id();
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        let twice = holders.contains(&thread);
        if !twice {
            holders.push(thread);
        }
        drop(holders);
        assert!(
            !twice,
            "a thread that holds a record locked another one: the lock is a leaf"
        );
    }

    /// This thread no longer holds one.
    pub(super) fn leave(&self) {
        let thread = thread::current().id();
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.retain(|&holder| holder != thread);
    }
}
