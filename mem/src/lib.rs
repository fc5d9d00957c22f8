//! Memory for millions of flows, knowing nothing of networks.
//!
//! A table of flows is four things side by side, joined by slot numbers:
//!
//! 1. [`Slab`] holds the records, each behind a lock of one byte; [`Record`] is what may lie in one:
//!    plain words without pointers, so that zero bytes are a valid value.
//! 2. [`Index`] finds a slot by the [`KeyedHash`] of its key, without a lock, while its one
//!    [`IndexWriter`] changes it. It grows bucket by bucket, never in one go. [`prefetch()`] asks for
//!    what a whole burst will need.
//! 3. [`Wheel`] says whose time has come, for any number of timers at the same small cost.
//! 4. [`Links`] and [`List`] keep slots in order of age, for who must make room.
//!
//! Below them [`Segments`] is the array that grows without moving. [`BufferPool`] is for the few frames
//! that have to wait. [`Instant`] and [`Stamp`] are time as numbers; nothing here reads a clock.
//!
//! # What holds throughout
//!
//! - Every structure has a limit given at its making; what is full says so and changes nothing.
//! - No operation takes longer because the table is large: no rehash, no copy, no sweep.
//! - Memory is taken as it is used, from zero pages of the kernel, and never moved.
//!
//! # `unsafe`
//!
//! Allowed here for shared records behind byte locks and for memory that is mapped piece by piece; each
//! block says what makes it sound. Interleavings are tried by loom
//! (`RUSTFLAGS="--cfg loom" cargo test -p heddle-mem --release`); operations against simple models
//! by proptest.

mod free;
mod hash;
pub mod index;
mod list;
mod pool;
mod prefetch;
mod segments;
mod slab;
mod sync;
mod time;
mod wheel;

pub use self::{
    hash::KeyedHash,
    index::{Index, IndexWriter},
    list::{Links, List, MaybeSlot},
    pool::{Buffer, BufferPool},
    prefetch::prefetch,
    segments::Segments,
    slab::{Guard, Record, Slab},
    time::{Instant, Stamp},
    wheel::Wheel,
};
