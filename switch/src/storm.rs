//! Storm control: how much of everybody's time one port may take.
//!
//! One frame that is flooded (broadcast, multicast, a station that is not known) is as much work as there are
//! ports, and every endpoint must look at it. So each port has a rate of its own for frames that are flooded,
//! of all three kinds together and counted where they come in; what is beyond it is dropped there and
//! counted. Frames that go to one port never come by here.
//!
//! The measure is the generic cell rate algorithm (ITU-T I.371 §A.1): one number a port, the time until
//! which its frames have been paid for, that all workers share. A port may be one second ahead of its rate: so
//! a burst of that many frames passes, as with the interval of one second that hardware switches count in.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use heddle_mem::Instant;

/// How far ahead of its rate a port may be: one second, in nanoseconds.
const AHEAD: u64 = 1_000_000_000;

/// How many frames a second each port of a network may flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StormControl(Option<NonZeroU32>);

impl StormControl {
    /// As many as it likes.
    pub const OFF: StormControl = StormControl(None);

    /// So many.
    #[must_use]
    pub const fn frames(rate: NonZeroU32) -> StormControl {
        StormControl(Some(rate))
    }

    /// The rate, if there is one.
    #[must_use]
    pub const fn rate(self) -> Option<NonZeroU32> {
        self.0
    }
}

impl Default for StormControl {
    /// Far more than ARP, neighbour discovery, mDNS and DHCP of a full network ever need, and about what a
    /// multicast stream of 100 Mbit/s is; far less than what a loop or a fault makes.
    fn default() -> StormControl {
        StormControl(NonZeroU32::new(10_000))
    }
}

/// What a port has flooded.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Until when it has been paid for, in nanoseconds.
    paid: AtomicU64,
}

impl Meter {
    /// Whether one more frame may be flooded now; counts it if so.
    pub(crate) fn permits(&self, control: StormControl, now: Instant) -> bool {
        let Some(rate) = control.0 else {
            return true;
        };
        let now = now.as_micros().saturating_mul(1_000);
        let price = AHEAD / u64::from(rate.get());
        let pay = |paid: u64| {
            let paid = paid.max(now) + price;
            (paid <= now + AHEAD).then_some(paid)
        };
        self.paid
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frames(rate: u32) -> StormControl {
        StormControl::frames(NonZeroU32::new(rate).unwrap())
    }

    const START: Instant = Instant::from_micros(77);

    #[test]
    fn a_port_gets_one_second_of_its_rate_at_once_and_then_its_rate() {
        let meter = Meter::default();
        let count = |tries: u32, now| {
            let passed = (0..tries).filter(|_| meter.permits(frames(100), now));
            passed.count()
        };
        assert_eq!(count(1_000, START), 100);
        assert_eq!(count(1_000, START + Duration::from_millis(10)), 1);
        assert_eq!(count(1_000, START + Duration::from_millis(510)), 50);
        // Silence is not saved up for more than that second.
        assert_eq!(count(1_000, START + Duration::from_secs(60)), 100);
    }

    #[test]
    fn where_it_is_off_nothing_is_counted() {
        let meter = Meter::default();
        assert!((0..1_000_000).all(|_| meter.permits(StormControl::OFF, START)));
        assert_eq!(meter.paid.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_slowest_and_the_fastest_rate_are_kept() {
        let meter = Meter::default();
        assert!(meter.permits(frames(1), START));
        assert!(!meter.permits(frames(1), START + Duration::from_millis(999)));
        assert!(meter.permits(frames(1), START + Duration::from_secs(1)));
        let meter = Meter::default();
        assert!((0..1_000_000).all(|_| meter.permits(frames(u32::MAX), START)));
    }

    #[test]
    fn workers_share_one_rate() {
        let meter = Meter::default();
        let passed: usize = std::thread::scope(|scope| {
            let count = || {
                (0..10_000)
                    .filter(|_| meter.permits(frames(5_000), START))
                    .count()
            };
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap())
                .sum()
        });
        assert_eq!(passed, 5_000);
    }
}
