//! Timers for millions of slots: a hierarchical timing wheel.
//!
//! # Theory of operation
//!
//! Time is cut into ticks. A wheel (Varghese and Lauck 1987, scheme 7) has three [`RINGS`] of 64 buckets:
//! a bucket of the innermost ring stands for one tick, of the next ring for 64, of the outermost for 4,096.
//! A timer lies in the innermost ring that reaches its tick; when the hand comes to an outer bucket, its
//! timers are put further in. Every operation is a handful of instructions; a heap, or a `BTreeMap`,
//! takes a dozen cache misses at a million timers.
//!
//! **Timers are lazy.** A session's deadline moves with every packet; telling the wheel each time would
//! cost more than the rest of the packet. A packet only writes its time into the record. When the timer
//! fires, the callback looks there and answers with the new deadline, so the wheel hears of a busy session
//! once per timeout.
//!
//! **Work comes in portions.** A bucket may hold a million timers. [`Wheel::advance`] handles as many
//! as the caller's budget says, fired or put further in, and says whether more are waiting; where it stopped
//! is simply what is still in the bucket. The hand does not move on before the bucket is empty, so
//! timers that lie behind it fire late rather than out of order.
//!
//! **Precision.** A timer fires at the first tick not before its deadline: never early, and late by less
//! than one tick if `advance` is called in time. [`Wheel::next_deadline`] may name an earlier time than
//! that of the first timer: when the hand has to be somewhere to put timers further in.

#[cfg(all(test, not(loom)))]
mod tests;

use std::time::Duration;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{list::MaybeSlot, segments::Segments, time::Instant};

/// Per ring, innermost first, the power of two of ticks that one of its buckets stands for. At 250 ms a
/// tick the outermost reaches 63 × 4,096 ticks, almost 18 hours.
const RINGS: [u32; 3] = [0, 6, 12];

/// Buckets in a ring: a word has a bit for each.
const BUCKETS: u32 = u64::BITS;

/// The last tick: beyond it sums could overflow. At a microsecond a tick it is 146,000 years away.
const LAST_TICK: u64 = 1 << 62;

/// The farthest deadline told apart, in ticks: 17 years of 250 ms. Timers keep the low 32 bits of theirs.
const HORIZON: u64 = (1 << 31) - 1;

/// Timers in the first chunk.
const FIRST_CHUNK: u32 = 512;

/// Marks, in the place of the timer before it, the number of the bucket whose first timer it is.
const FIRST_OF_BUCKET: u32 = 1 << 31;

/// One timer for each slot, or none.
#[derive(Debug)]
pub struct Wheel {
    start: Instant,
    tick_micros: u64,
    /// The tick that `advance` has come to. All timers are at this tick or after it.
    hand: u64,
    /// Per ring a bit for each bucket that is not empty.
    occupied: [u64; RINGS.len()],
    first: [[MaybeSlot; BUCKETS as usize]; RINGS.len()],
    timers: Segments<Timer>,
    len: usize,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[cfg_attr(loom, derive(Default))]
#[repr(C)]
struct Timer {
    /// Zero if the timer is not running; else one more than the slot before it in its bucket, or
    /// [`FIRST_OF_BUCKET`] and the bucket's number.
    previous: u32,
    next: MaybeSlot,
    /// The low half of the tick it fires at.
    due: u32,
}

/// Where in the rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    ring: usize,
    bucket: u32,
}

impl Wheel {
    /// A wheel that begins at `now` with ticks of `granularity`, a microsecond at least.
    #[must_use]
    pub fn new(now: Instant, granularity: Duration) -> Self {
        Self {
            start: now,
            tick_micros: u64::try_from(granularity.as_micros())
                .unwrap_or(u64::MAX)
                .max(1),
            hand: 0,
            occupied: [0; RINGS.len()],
            first: [[MaybeSlot::NONE; BUCKETS as usize]; RINGS.len()],
            timers: Segments::new(FIRST_CHUNK),
            len: 0,
        }
    }

    /// Starts the timer of `slot`, or sets it anew if it is running.
    ///
    /// A deadline that has passed fires at the next [`advance`](Self::advance).
    ///
    /// # Aborts
    ///
    /// As a `Vec` does, if the system refuses the memory. `slot` must be below 2³¹ - 1.
    pub fn schedule(&mut self, slot: u32, deadline: Instant) {
        self.cancel(slot);
        self.start_timer(slot, self.tick_not_before(deadline).max(self.hand));
    }

    /// Stops the timer of `slot`. Returns whether it was running.
    pub fn cancel(&mut self, slot: u32) -> bool {
        if !self.is_scheduled(slot) {
            return false;
        }
        self.unlink(slot);
        self.len -= 1;
        true
    }

    /// Whether the timer of `slot` is running.
    #[must_use]
    pub fn is_scheduled(&self, slot: u32) -> bool {
        self.timers
            .get(slot)
            .is_some_and(|timer| timer.previous != 0)
    }

    /// When [`advance`](Self::advance) has work to do: not after the first deadline by more than a tick,
    /// perhaps before it.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let (tick, _) = self.next_event()?;
        Some(self.start + Duration::from_micros(tick.saturating_mul(self.tick_micros)))
    }

    /// Brings the wheel to `now`: calls `expired` for the slots whose deadlines have passed, in the order of
    /// their ticks. It answers with a new deadline, or with `None` to leave the timer stopped.
    ///
    /// Handles `budget` timers at most and returns whether more are waiting.
    pub fn advance(
        &mut self,
        now: Instant,
        mut budget: usize,
        mut expired: impl FnMut(u32) -> Option<Instant>,
    ) -> bool {
        let target = (now - self.start).as_micros() / u128::from(self.tick_micros);
        let target = u64::try_from(target).unwrap_or(LAST_TICK).min(LAST_TICK);
        while let Some((tick, place)) = self.next_event().filter(|&(tick, _)| tick <= target) {
            self.hand = tick;
            // Nothing is put into this bucket meanwhile: what comes out of it goes further in, or, if it
            // is armed again, later. So this ends, and no look at the rings is needed before it does.
            while let Some(slot) = self.first_mut(place).get() {
                if budget == 0 {
                    return true;
                }
                budget -= 1;
                let due = self.unlink(slot);
                if place.ring > 0 {
                    self.link(slot, due);
                    continue;
                }
                self.len -= 1;
                if let Some(deadline) = expired(slot) {
                    self.start_timer(slot, self.tick_not_before(deadline).max(self.hand + 1));
                }
            }
        }
        // Nothing lies between the hand and the target.
        self.hand = self.hand.max(target);
        false
    }

    /// Timers running.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is running.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first tick not before `deadline`.
    fn tick_not_before(&self, deadline: Instant) -> u64 {
        let micros = deadline.as_micros().saturating_sub(self.start.as_micros());
        micros.div_ceil(self.tick_micros).min(LAST_TICK)
    }

    /// The next tick at which there is something to do, and where. Of several places with the same tick
    /// the outermost: what lies there may have to go to the others first.
    fn next_event(&self) -> Option<(u64, Place)> {
        let mut earliest = None;
        for (ring, shift) in RINGS.into_iter().enumerate().rev() {
            let position = self.hand >> shift;
            // A bucket at distance zero holds something only in the innermost ring, or if the hand stands
            // at its beginning and it has not been emptied yet.
            let ahead = self.occupied[ring].rotate_right(bucket_of(position));
            if ahead == 0 {
                continue;
            }
            let position = position + u64::from(ahead.trailing_zeros());
            let tick = position << shift;
            if earliest.is_none_or(|(other, _)| tick < other) {
                earliest = Some((
                    tick,
                    Place {
                        ring,
                        bucket: bucket_of(position),
                    },
                ));
            }
        }
        earliest
    }

    fn start_timer(&mut self, slot: u32, due: u64) {
        self.link(slot, due.min(self.hand + HORIZON));
        self.len += 1;
    }

    /// Puts a timer that is in no bucket into the one for `due`, as its first.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a timer keeps the low half of its tick"
    )]
    fn link(&mut self, slot: u32, due: u64) {
        let place = self.place_for(due);
        let next = std::mem::replace(self.first_mut(place), MaybeSlot::some(slot));
        if let Some(next) = next.get() {
            self.timer(next).previous = slot + 1;
        }
        self.occupied[place.ring] |= 1 << place.bucket;
        let previous = FIRST_OF_BUCKET | (place.ring as u32 * BUCKETS + place.bucket);
        *self.timer(slot) = Timer {
            previous,
            next,
            due: due as u32,
        };
    }

    /// Takes a timer out of its bucket. Returns the tick it is due at.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a timer keeps the low half of its tick"
    )]
    fn unlink(&mut self, slot: u32) -> u64 {
        let Timer {
            previous,
            next,
            due,
        } = *self.timer(slot);
        self.timer(slot).previous = 0;
        if let Some(next) = next.get() {
            self.timer(next).previous = previous;
        }
        if previous & FIRST_OF_BUCKET == 0 {
            self.timer(previous - 1).next = next;
        } else {
            let number = previous & !FIRST_OF_BUCKET;
            let place = Place {
                ring: (number / BUCKETS) as usize,
                bucket: number % BUCKETS,
            };
            *self.first_mut(place) = next;
            if next == MaybeSlot::NONE {
                self.occupied[place.ring] &= !(1 << place.bucket);
            }
        }
        // No timer lies behind the hand, and none is farther than the horizon.
        self.hand + u64::from(due.wrapping_sub(self.hand as u32))
    }

    /// The innermost bucket that stands for `due` and is not the one the hand has passed a turn ago.
    fn place_for(&self, due: u64) -> Place {
        for (ring, shift) in RINGS.into_iter().enumerate() {
            let position = due >> shift;
            if position - (self.hand >> shift) < u64::from(BUCKETS) {
                return Place {
                    ring,
                    bucket: bucket_of(position),
                };
            }
        }
        // Out of reach: as far as possible. There it will be put on again.
        let ring = RINGS.len() - 1;
        let farthest = (self.hand >> RINGS[ring]) + u64::from(BUCKETS - 1);
        Place {
            ring,
            bucket: bucket_of(farthest),
        }
    }

    fn first_mut(&mut self, place: Place) -> &mut MaybeSlot {
        &mut self.first[place.ring][place.bucket as usize]
    }

    fn timer(&mut self, slot: u32) -> &mut Timer {
        self.timers.demand(slot)
    }
}

/// The bucket of a ring that has the ticks at `position`, counted in that ring's buckets.
#[expect(clippy::cast_possible_truncation, reason = "below 64")]
fn bucket_of(position: u64) -> u32 {
    (position % u64::from(BUCKETS)) as u32
}
