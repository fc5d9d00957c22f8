//! How many errors we send (RFC 1812 §4.3.2.8, RFC 4443 §2.4 f).
//!
//! Two token buckets must both have something: one of the port that caused the error, so that one
//! endpoint cannot silence the others, and one of the whole worker. The rate of a limiter that is
//! exact can be measured from outside and tells which of an attacker's guesses were right
//! (CVE-2020-25705), so each error costs a random amount.

use std::time::Duration;

use heddle_mem::Instant;

/// Errors a second to one port, on average.
const PORT_RATE: u32 = 100;

/// Errors to one port in a row: three probes for each of 16 hops of a parallel traceroute.
const PORT_BURST: u32 = 48;

/// Errors a second of one worker, on average (Linux: `icmp_msgs_per_sec`, 1000).
const WORKER_RATE: u32 = 1000;

/// Errors of one worker in a row.
const WORKER_BURST: u32 = 250;

/// A token is this many units, so that costs can vary around one token.
const TOKEN: u32 = 4;

/// A bucket of tokens that fills with time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    units: u32,
    filled: Instant,
    rate: u32,
    burst: u32,
}

impl Bucket {
    fn new(rate: u32, burst: u32, now: Instant) -> Bucket {
        Bucket {
            units: burst * TOKEN,
            filled: now,
            rate,
            burst,
        }
    }

    fn fill(&mut self, now: Instant) {
        let rate = u64::from(self.rate * TOKEN);
        let passed = u64::try_from((now - self.filled).as_micros()).unwrap_or(u64::MAX);
        let gained = passed.saturating_mul(rate) / 1_000_000;
        let full = self.burst * TOKEN;
        self.units = u32::try_from(gained)
            .map_or(full, |gained| self.units.saturating_add(gained).min(full));
        // Only the time that made whole units is used up.
        self.filled = self.filled + Duration::from_micros(gained.saturating_mul(1_000_000) / rate);
    }
}

/// The limits of one worker.
#[derive(Debug)]
pub(crate) struct Limiter {
    worker: Bucket,
    ports: Vec<Option<Bucket>>,
}

impl Limiter {
    pub(crate) fn new(now: Instant) -> Limiter {
        Limiter {
            worker: Bucket::new(WORKER_RATE, WORKER_BURST, now),
            ports: Vec::new(),
        }
    }

    /// Whether an error caused by port number `port` may be sent now. `random` varies its cost.
    pub(crate) fn permits(&mut self, port: usize, random: u64, now: Instant) -> bool {
        if self.ports.len() <= port {
            self.ports.resize(port + 1, None);
        }
        let bucket =
            self.ports[port].get_or_insert_with(|| Bucket::new(PORT_RATE, PORT_BURST, now));
        bucket.fill(now);
        self.worker.fill(now);
        // Three to five units: one token on average.
        let cost = TOKEN - 1 + u32::try_from(random % 3).unwrap_or(0);
        if bucket.units < cost || self.worker.units < cost {
            return false;
        }
        bucket.units -= cost;
        self.worker.units -= cost;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn a_port_gets_its_burst_and_then_its_rate() {
        let mut limiter = Limiter::new(Instant::ZERO);
        let burst = (0..1000)
            .filter(|_| limiter.permits(3, 1, Instant::ZERO))
            .count();
        assert_eq!(burst, 48);
        let second = (1..=1000)
            .filter(|&at| limiter.permits(3, 1, after(at)))
            .count();
        assert!((99..=101).contains(&second), "{second}");
    }

    #[test]
    fn one_port_does_not_silence_another() {
        let mut limiter = Limiter::new(Instant::ZERO);
        while limiter.permits(0, 1, Instant::ZERO) {}
        assert!(limiter.permits(1, 1, Instant::ZERO));
    }

    #[test]
    fn all_ports_together_are_bounded() {
        let mut limiter = Limiter::new(Instant::ZERO);
        let sent = (0..100)
            .map(|port| {
                (0..100)
                    .filter(|_| limiter.permits(port, 1, Instant::ZERO))
                    .count()
            })
            .sum::<usize>();
        assert_eq!(sent, 250);
    }

    #[test]
    fn the_cost_varies_with_the_random_number() {
        let count = |random: u64| {
            let mut limiter = Limiter::new(Instant::ZERO);
            (0..1000)
                .filter(|_| limiter.permits(0, random, Instant::ZERO))
                .count()
        };
        assert!(count(0) > count(1) && count(1) > count(2));
    }
}
