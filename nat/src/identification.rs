//! Identifications of datagrams (RFC 791 §3.1, RFC 8200 §4.5), for those whose sender's may not be
//! unique any more behind a translation.
//!
//! # Theory of operation
//!
//! Hosts that share one outside address number their datagrams without knowing of each other, so two of
//! them may send the same number to the same destination, and the receiver would put fragments of both
//! into one datagram. Whoever rewrites addresses must keep the numbers unique for each source,
//! destination and protocol (RFC 6864 §5.3.1). Where it matters, that is in a datagram that is in
//! fragments or may yet be cut, the sender's number is replaced. An atomic one keeps what it has
//! (RFC 6864 §4).
//!
//! The numbers are those of RFC 7739 §5.3: a counter, shared by the flows that a keyed hash puts
//! together, and an offset that another keyed hash gives each of them. So they repeat only after the
//! counter has gone round, and who sees those sent to one destination learns nothing of those that
//! another one gets. A random number for each datagram would repeat after a few hundred.
//!
//! Numbers leave the process, so they come from `std`'s hasher for tables under attack and not from
//! the fast one of the tables, which must not be seen outside.

use std::hash::{DefaultHasher, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};

use heddle_wire::{Address, Protocol};

use crate::tuple::{high, low};

/// Counters. More of them mean fewer flows that speed each other up.
const COUNTERS: usize = 1 << 12;

/// The numbers that are given out.
pub struct Identifications {
    secret: [u8; 64],
    counters: Box<[AtomicU32]>,
}

impl Identifications {
    /// `secret` must be unpredictable; it also says where the counters begin.
    #[must_use]
    pub fn new(secret: [u8; 64]) -> Identifications {
        let mut identifications = Identifications {
            secret,
            counters: Box::default(),
        };
        identifications.counters = (0..COUNTERS)
            .map(|number| {
                let mut hasher = identifications.hasher(Use::Start);
                hasher.write_usize(number);
                AtomicU32::new(halves(hasher.finish())[0])
            })
            .collect();
        identifications
    }

    /// The first of `count` numbers that follow each other, for datagrams from `source` to
    /// `destination`. IPv4 takes the lower half, in which they follow each other as well.
    #[must_use]
    pub fn next(
        &self,
        source: Address,
        destination: Address,
        protocol: Protocol,
        count: u32,
    ) -> u32 {
        let hash = |asks| {
            let mut hasher = self.hasher(asks);
            for bits in [source.bits(), destination.bits()] {
                hasher.write_u64(high(bits));
                hasher.write_u64(low(bits));
            }
            hasher.write_u8(protocol.0);
            halves(hasher.finish())
        };
        let [offset, _] = hash(Use::Offset);
        let [_, place] = hash(Use::Counter);
        let place = usize::try_from(place).unwrap_or(0) % COUNTERS;
        let counter = self.counters[place].fetch_add(count, Ordering::Relaxed);
        counter.wrapping_add(offset)
    }

    /// A keyed hash of its own for each use.
    fn hasher(&self, asks: Use) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.secret);
        hasher.write_u8(asks as u8);
        hasher
    }
}

/// What a hash is for.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Use {
    Start,
    Offset,
    Counter,
}

impl std::fmt::Debug for Identifications {
    /// Says nothing of the secret and the counters.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Identifications")
            .finish_non_exhaustive()
    }
}

fn halves(hash: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = hash.to_be_bytes();
    [[a, b, c, d], [e, f, g, h]].map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Address, Identifications, Protocol};

    fn address(text: &str) -> Address {
        text.parse().expect("an address")
    }

    /// The next numbers for each of some destinations in turn.
    fn numbers(of: &Identifications, destinations: &[Address], rounds: usize) -> Vec<Vec<u32>> {
        let source = address("192.0.2.2");
        let mut numbers = vec![Vec::new(); destinations.len()];
        for _ in 0..rounds {
            for (numbers, &destination) in numbers.iter_mut().zip(destinations) {
                numbers.push(of.next(source, destination, Protocol::UDP, 1));
            }
        }
        numbers
    }

    #[test]
    fn the_lower_halves_for_one_destination_repeat_only_after_all_others() {
        let identifications = Identifications::new([7; 64]);
        let server = address("198.51.100.7");
        let numbers = numbers(&identifications, &[server], 1 << 16);
        let lower: HashSet<u32> = numbers[0].iter().map(|number| number & 0xffff).collect();
        assert_eq!(lower.len(), 1 << 16);
    }

    #[test]
    fn a_run_is_given_to_nobody_else() {
        let identifications = Identifications::new([7; 64]);
        let [source, server] = ["fd00::1", "2001:db8::7"].map(address);
        let mut seen = HashSet::new();
        for count in [1, 44, 2, 1, 128, 1] {
            let first = identifications.next(source, server, Protocol::TCP, count);
            for number in 0..count {
                assert!(seen.insert(first.wrapping_add(number)));
            }
        }
    }

    #[test]
    fn two_destinations_and_two_switches_begin_elsewhere() {
        let destinations: Vec<Address> = (0..500_u32)
            .map(|host| Address::from_ipv4_bits(0xc633_6400 + host))
            .collect();
        let first = numbers(&Identifications::new([7; 64]), &destinations, 1).concat();
        let again = numbers(&Identifications::new([7; 64]), &destinations, 1).concat();
        let other = numbers(&Identifications::new([8; 64]), &destinations, 1).concat();
        assert_eq!(first, again, "the secret decides, and nothing else");
        let all: HashSet<u32> = first.iter().chain(&other).copied().collect();
        assert_eq!(all.len(), 1000);
        // Nor do they follow each other: who knows one does not know the next destination's.
        let follows = first
            .windows(2)
            .filter(|pair| pair[1].wrapping_sub(pair[0]) < 500);
        assert_eq!(follows.count(), 0);
    }

    #[test]
    fn protocols_are_numbered_each_for_itself() {
        let identifications = Identifications::new([7; 64]);
        let [source, server] = ["192.0.2.2", "198.51.100.7"].map(address);
        let [tcp, udp] = [Protocol::TCP, Protocol::UDP]
            .map(|protocol| identifications.next(source, server, protocol, 1));
        assert_ne!(tcp.abs_diff(udp), 1);
        assert_ne!(tcp, udp);
    }
}
