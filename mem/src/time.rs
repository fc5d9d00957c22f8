//! Time as plain numbers: nobody here reads a clock, time is an argument.
//!
//! [`Instant`] is for reckoning, [`Stamp`] is its short form for records, of which there are millions.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const MICROS_PER_MILLI: u64 = 1_000;

/// A point in time: microseconds since a start that the caller chose. Arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The start.
    pub const ZERO: Self = Self(0);

    /// The point `micros` microseconds after the start.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// The span since `earlier`, zero if that is the later one.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// An [`Instant`] in four bytes: its whole milliseconds, modulo 2³².
///
/// The number repeats after 49.7 days, so a stamp means the one point with that number that is nearest
/// to the time it is read at: it tells past from future only within 2³¹ milliseconds, 24.8 days, either
/// way. Whoever keeps a stamp looks at it more often than that; every session's timer does.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Stamp(u32);

impl Stamp {
    /// The stamp as a number, for a record of packed words.
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// The stamp that [`Self::to_bits`] made a number.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Time since this stamp was taken; zero if it lies in the future.
    #[must_use]
    pub fn elapsed(self, now: Instant) -> Duration {
        now - self.near(now)
    }

    /// The instant this stamp stands for, read at `now`: the nearest of those it could mean.
    ///
    /// The way back from a deadline kept in a record. It lies up to a millisecond before the instant the
    /// stamp was made from, because a stamp keeps whole milliseconds only.
    #[must_use]
    pub fn near(self, now: Instant) -> Instant {
        let ahead = i64::from(self.0.wrapping_sub(Self::from(now).0).cast_signed());
        let millis = (now.0 / MICROS_PER_MILLI).saturating_add_signed(ahead);
        Instant(millis.saturating_mul(MICROS_PER_MILLI))
    }
}

impl From<Instant> for Stamp {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a stamp is the low 32 bits by definition"
    )]
    fn from(instant: Instant) -> Self {
        Self((instant.0 / MICROS_PER_MILLI) as u32)
    }
}

// Nothing here for miri to find: no unsafe code.
#[cfg(all(test, not(miri)))]
mod tests {
    use proptest::prelude::*;

    use super::{Duration, Instant, Stamp};

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn spans_add_and_subtract() {
        let start = Instant::from_micros(5);
        let later = start + Duration::from_millis(2);
        assert_eq!(later.as_micros(), 2_005);
        assert_eq!(later - start, Duration::from_millis(2));
        assert!(Instant::ZERO < start && start < later);
    }

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Instant::ZERO - Instant::from_micros(1), Duration::ZERO);
        let last = Instant::from_micros(u64::MAX);
        assert_eq!(last + Duration::from_micros(1), last);
        assert_eq!(Instant::ZERO + Duration::MAX, last);
    }

    #[test]
    fn a_stamp_measures_across_its_own_overflow() {
        let before = Instant::from_micros((u64::from(u32::MAX) - 10) * 1_000);
        let after = before + Duration::from_millis(30);
        assert_eq!(
            Stamp::from(before).elapsed(after),
            Duration::from_millis(30)
        );
        assert_eq!(Stamp::from(after).near(before), after);
    }

    #[test]
    fn a_stamp_in_the_future_has_not_elapsed() {
        let now = Instant::ZERO + DAY;
        assert_eq!(Stamp::from(now + DAY).elapsed(now), Duration::ZERO);
    }

    #[test]
    fn a_stamp_is_right_for_24_days_and_not_for_25() {
        let taken = Instant::ZERO + 100 * DAY;
        let stamp = Stamp::from(taken);
        assert_eq!(stamp.elapsed(taken + 24 * DAY), 24 * DAY);
        assert_eq!(
            stamp.elapsed(taken + 25 * DAY),
            Duration::ZERO,
            "taken for the future"
        );
    }

    #[test]
    fn before_the_start_there_is_nothing() {
        let stamp = Stamp::from(Instant::from_micros(u64::from(u32::MAX) * 1_000));
        assert_eq!(stamp.near(Instant::ZERO), Instant::ZERO);
    }

    proptest! {
        #[test]
        fn a_stamp_near_its_instant_finds_it_again(micros in 0..u64::MAX / 2, ahead in -2_000_000_000_i64..2_000_000_000) {
            let instant = Instant::from_micros(micros);
            let now = Instant::from_micros(micros.saturating_add_signed(ahead * 1_000));
            prop_assume!(now.as_micros() > 0);
            let found = Stamp::from(instant).near(now);
            prop_assert!(found <= instant && instant - found < Duration::from_millis(1));
        }
    }
}
