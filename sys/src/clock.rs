//! The one place where a clock is read.
//!
//! Time is an argument everywhere else. The worker loop asks [`nanoseconds`] once a burst and hands
//! the value down; through the vDSO that costs no system call.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Time since an arbitrary start that never goes back and stands still while the machine sleeps
/// (`CLOCK_MONOTONIC`).
#[must_use]
pub fn monotonic() -> Duration {
    duration(clock_gettime(ClockId::Monotonic))
}

/// [`monotonic`] as a plain count of nanoseconds: the dataplane's time stamps are 64-bit words in
/// its records. Wraps after 584 years.
#[must_use]
pub fn nanoseconds() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec
        .unsigned_abs()
        .wrapping_mul(1_000_000_000)
        .wrapping_add(now.tv_nsec.unsigned_abs())
}

/// Time since 1970-01-01 00:00 UTC, for logs and leases that outlive the machine's uptime.
#[must_use]
pub fn wall() -> Duration {
    duration(clock_gettime(ClockId::Realtime))
}

fn duration(time: Timespec) -> Duration {
    // Both fields are never negative for these clocks: the kernel refuses to set the wall clock
    // before 1970.
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(time.tv_sec.unsigned_abs(), nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_never_goes_back() {
        let mut last = nanoseconds();
        for _ in 0..10_000 {
            let now = nanoseconds();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn both_forms_tell_the_same_time() {
        let before = u128::from(nanoseconds());
        let between = monotonic().as_nanos();
        let after = u128::from(nanoseconds());
        assert!((before..=after).contains(&between));
    }

    #[test]
    fn the_wall_clock_is_past_2024() {
        assert!(wall() > Duration::from_secs(1_704_067_200));
    }
}
