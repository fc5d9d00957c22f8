//! The moving parts of a rule: what it has counted, and how often it may match.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use heddle_mem::Instant;

/// How often a rule may match: a bucket of tokens, filled at a steady rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Time in which one token is added.
    pub interval: Duration,
    /// Tokens that the bucket holds; it begins full.
    pub burst: u32,
}

/// The bucket of a [`Limit`], shared by all workers.
///
/// It is kept as the time at which it will be full again (the generic cell rate algorithm, ITU-T I.371):
/// one word, so taking a token is one exchange, and nothing needs to be filled.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// In nanoseconds.
    full_at: AtomicU64,
}

impl Bucket {
    /// Takes a token, if there is one and `takes`; whether there is one.
    #[inline]
    pub(super) fn take(&self, limit: Limit, now: Instant, takes: bool) -> bool {
        let now = now.as_micros().saturating_mul(1000);
        let interval = nanoseconds(limit.interval).max(1);
        let space = interval.saturating_mul(u64::from(limit.burst.max(1) - 1));
        let try_take = |full_at: u64| {
            let full_at = full_at.max(now);
            (full_at - now <= space).then(|| full_at.saturating_add(interval))
        };
        if !takes {
            return try_take(self.full_at.load(Ordering::Relaxed)).is_some();
        }
        let order = Ordering::Relaxed;
        self.full_at.fetch_update(order, order, try_take).is_ok()
    }
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// What one worker counted.
#[derive(Debug, Default)]
struct Cell {
    packets: AtomicU64,
    octets: AtomicU64,
    /// Packets until the next one that is logged.
    skip: AtomicU32,
}

impl Cell {
    /// Only the owning worker calls this, so there is nobody to race with.
    #[inline]
    fn add(&self, octets: u32) {
        let add = |count: &AtomicU64, amount: u64| {
            let sum = count.load(Ordering::Relaxed).wrapping_add(amount);
            count.store(sum, Ordering::Relaxed);
        };
        add(&self.packets, 1);
        add(&self.octets, u64::from(octets));
    }

    /// Whether this packet is the one in `sample` that is logged: the first, and then every so many.
    #[inline]
    fn is_sampled(&self, sample: u32) -> bool {
        let skip = self.skip.load(Ordering::Relaxed);
        let next = skip.checked_sub(1).unwrap_or(sample.saturating_sub(1));
        self.skip.store(next, Ordering::Relaxed);
        skip == 0
    }
}

/// What a rule has counted, and its tokens. Rule sets before and after a change share the meters of the
/// rules that stay.
#[derive(Debug)]
pub struct Meter {
    /// By worker.
    cells: Box<[CachePadded<Cell>]>,
    bucket: Bucket,
}

impl Meter {
    /// A meter for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Meter {
        Meter {
            cells: (0..workers.max(1))
                .map(|_| CachePadded::default())
                .collect(),
            bucket: Bucket::default(),
        }
    }

    /// Packets and octets of IP so far.
    #[must_use]
    pub fn counted(&self) -> (u64, u64) {
        self.cells.iter().fold((0, 0), |(packets, octets), cell| {
            (
                packets.wrapping_add(cell.packets.load(Ordering::Relaxed)),
                octets.wrapping_add(cell.octets.load(Ordering::Relaxed)),
            )
        })
    }

    #[inline]
    pub(super) fn permits(&self, limit: Limit, now: Instant, takes: bool) -> bool {
        self.bucket.take(limit, now, takes)
    }

    #[inline]
    pub(super) fn count(&self, worker: usize, octets: u32) {
        self.cells[worker].add(octets);
    }

    #[inline]
    pub(super) fn is_sampled(&self, worker: usize, sample: u32) -> bool {
        self.cells[worker].is_sampled(sample)
    }
}
