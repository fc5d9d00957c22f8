//! Memory for millions of flows. (tour to come)

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
