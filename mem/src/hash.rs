//! A hash that somebody who chooses the keys cannot steer.
//!
//! # Theory of operation
//!
//! A hash table is slow exactly for keys that collide, and a container chooses its addresses and ports.
//! So the hash depends on a secret drawn at every start. Three steps:
//!
//! 1. **NH**, the universal hash of UMAC (RFC 4418 §5.2), with 64-bit words: key words are added to the
//!    words of the key, pairs multiplied and the products summed modulo 2¹²⁸. Two keys chosen without
//!    knowledge of the secret have equal sums with probability 2⁻⁶⁴.
//! 2. **A multilinear hash** of the sum's two halves, key words of 128 bits, upper half of the result
//!    (Carter and Wegman's family, as in RFC 4418 §5.4's role). It is strongly universal: for two
//!    different sums, the pair of results takes every value with the same probability. NH alone promises
//!    nothing for *parts* of its sum, and a table looks at parts: low bits for the bucket, others for the
//!    tag. This way any `b` bits of two hashes agree with probability 2⁻ᵇ (plus the 2⁻⁶⁴ of step 1).
//! 3. **A mixer**, fixed and invertible, which therefore leaves that promise as it is. Both steps before
//!    are sums of products, so keys in arithmetic progression, like ports counted up, give hashes in
//!    progression; now and then the step of it would be a multiple of a high power of two and fill few
//!    buckets. The mixer breaks that up.
//!
//! **What is promised**: collisions as between random numbers, for keys that were chosen without knowing
//! the secret or anything computed from it. **What is not**: resistance to somebody who sees hashes. They
//! must not leave the process: not in a counter, an order of listing, a port number. Somebody who measures
//! lookup times may learn of single collisions; the secret lives as long as the process. It is no MAC, and
//! no source of randomness.
//!
//! SipHash promises more and takes four times as long for a 40-byte key.

use std::{
    fmt,
    hash::{DefaultHasher, Hasher},
};

/// Key words for NH: one per word of the longest key.
const NH_WORDS: usize = 8;

/// Odd, with its bits well spread: 2⁶⁴ divided by the golden ratio (Knuth, volume 3, §6.4).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A keyed hash over packed 64-bit words.
#[derive(Clone)]
pub struct KeyedHash {
    nh: [u64; NH_WORDS],
    offset: u128,
    low: u128,
    high: u128,
}

impl KeyedHash {
    /// The hash that `secret`, 64 random bytes, selects.
    ///
    /// The key words are drawn from the whole of it by `std`'s own keyed-quality hash, so that none of
    /// them is equal to another even if the secret is poor, as tests have it.
    #[must_use]
    pub fn new(secret: [u8; 64]) -> Self {
        let word = |number: u64| {
            let mut hasher = DefaultHasher::new();
            hasher.write(&secret);
            hasher.write_u64(number);
            hasher.finish()
        };
        let wide = |number| u128::from(word(number)) << 64 | u128::from(word(number + 1));
        Self {
            nh: std::array::from_fn(|number| word(number as u64)),
            offset: wide(100),
            low: wide(102),
            high: wide(104),
        }
    }

    /// The hash of `words`, eight at most.
    ///
    /// The number of words is not part of what is hashed: a table has keys of one length.
    #[inline]
    #[must_use]
    pub fn hash<const N: usize>(&self, words: &[u64; N]) -> u64 {
        const { assert!(N <= NH_WORDS, "the secret has no more key words") };
        let mut sum = 0_u128;
        for (pair, keys) in words.chunks(2).zip(self.nh.chunks_exact(2)) {
            let first = pair[0].wrapping_add(keys[0]);
            // An odd word out is paired with zero, as RFC 4418 §5.2 pads.
            let second = pair.get(1).unwrap_or(&0).wrapping_add(keys[1]);
            sum = sum.wrapping_add(u128::from(first) * u128::from(second));
        }
        let (low, high) = halves(sum);
        let line = self
            .offset
            .wrapping_add(self.low.wrapping_mul(u128::from(low)))
            .wrapping_add(self.high.wrapping_mul(u128::from(high)));
        mix(halves(line).1)
    }
}

impl fmt::Debug for KeyedHash {
    /// Says nothing: the secret stays out of logs.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("KeyedHash").finish_non_exhaustive()
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "takes a number apart")]
fn halves(number: u128) -> (u64, u64) {
    (number as u64, (number >> 64) as u64)
}

/// Carries high bits down, low bits up, and high bits down again. Every step can be undone, so different
/// numbers stay different and uniform ones uniform.
#[inline(always)]
fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 32).wrapping_mul(GOLDEN);
    number ^ number >> 32
}

// Nothing here for miri to find: no unsafe code.
#[cfg(all(test, not(miri)))]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::{KeyedHash, mix};

    const COUNT: u64 = 1 << 16;

    fn keyed(number: u64) -> KeyedHash {
        let mut secret = [0; 64];
        secret[..8].copy_from_slice(&number.to_le_bytes());
        KeyedHash::new(secret)
    }

    /// The fullest of `2^bits` buckets when each hash is put into the one that its bits from `shift` on
    /// number.
    fn fullest(hashes: &[u64], shift: u32, bits: u32) -> usize {
        let mut buckets = vec![0; 1 << bits];
        for hash in hashes {
            let bucket = usize::try_from(hash >> shift & ((1 << bits) - 1));
            buckets[bucket.expect("a few bits")] += 1;
        }
        buckets.into_iter().max().unwrap_or(0)
    }

    #[test]
    fn the_secret_decides() {
        let words = [1, 2, 3, 4, 5];
        assert_eq!(keyed(1).hash(&words), keyed(1).hash(&words));
        let hashes: HashSet<u64> = (0..100).map(|secret| keyed(secret).hash(&words)).collect();
        assert_eq!(hashes.len(), 100);
    }

    #[test]
    fn every_byte_of_the_secret_counts() {
        let words = [7, 8];
        for byte in 0..64 {
            let mut secret = [0; 64];
            secret[byte] = 1;
            assert_ne!(
                KeyedHash::new(secret).hash(&words),
                keyed(0).hash(&words),
                "byte {byte}"
            );
        }
    }

    #[test]
    fn zero_words_have_hashes_like_any_others() {
        for secret in 0..COUNT / 4 {
            let hash = keyed(secret);
            let all = [
                hash.hash(&[0, 0]),
                hash.hash(&[0, 1]),
                hash.hash(&[1, 0]),
                hash.hash(&[u64::MAX, 0]),
                hash.hash(&[0, u64::MAX]),
            ];
            assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        }
    }

    #[test]
    fn the_two_directions_of_a_flow_differ() {
        for secret in 0..COUNT.min(1_000) {
            let hash = keyed(secret);
            assert_ne!(
                hash.hash(&[1, 2, 3]),
                hash.hash(&[2, 1, 3]),
                "within a pair"
            );
            assert_ne!(
                hash.hash(&[1, 0, 2, 0, 3]),
                hash.hash(&[2, 0, 1, 0, 3]),
                "between pairs"
            );
            assert_ne!(
                hash.hash(&[1, 2, 3, 4]),
                hash.hash(&[3, 4, 1, 2]),
                "pair and pair"
            );
        }
    }

    #[test]
    fn every_bit_of_a_key_changes_half_of_the_hash() {
        let words = [0x0a00_0001, 0, 0xc633_6401, 0, 0x01bb_c000_0006];
        let secrets: Vec<KeyedHash> = (0..COUNT.min(300)).map(keyed).collect();
        for bit in 0..5 * 64 {
            let mut flipped = words;
            flipped[bit / 64] ^= 1 << (bit % 64);
            let changes = |hash: &KeyedHash| (hash.hash(&words) ^ hash.hash(&flipped)).count_ones();
            let changed: u32 = secrets.iter().map(changes).sum();
            // 32 of 64 on average; the mean of 300 strays by a quarter of a bit.
            let count = u32::try_from(secrets.len()).expect("a few hundred");
            let mean = f64::from(changed) / f64::from(count);
            assert!((mean - 32.0).abs() < 1.25, "bit {bit} changes {mean} bits");
        }
    }

    #[test]
    fn keys_that_count_up_spread_over_the_buckets_for_every_secret() {
        // Sums of products make progressions of progressions: without the mixer, one secret in a few
        // puts these keys into a few buckets.
        for secret in 0..100 {
            let hash = keyed(secret);
            for (position, step) in
                (0..5).flat_map(|word| [(word, 1), (word, 1 << 16), (word, 1 << 48)])
            {
                let hashes = (0..COUNT / 32).map(|number| {
                    let mut words = [0x0a00_0001, 0, 0xc633_6401, 0, 6];
                    words[position] += number * step;
                    hash.hash(&words)
                });
                let hashes: Vec<u64> = hashes.collect();
                for shift in [0, 10, 20, 54] {
                    // Two thousand keys in 1,024 buckets, two each; sixteen in one is beyond chance.
                    let fullest = fullest(&hashes, shift, 10);
                    assert!(
                        fullest < 16,
                        "{fullest} in a bucket: secret {secret}, word {position}"
                    );
                }
            }
        }
    }

    #[test]
    fn hashes_fill_buckets_as_random_numbers_do() {
        // Keys that differ in a few bits each: addresses of one subnet, a few services, ports in turn.
        let hash = keyed(1);
        let keys = (0..COUNT).map(|number| {
            [
                0xffff_0a00_0000 + number % 250,
                0xffff_c633_6400 + number / 250 % 16,
                number << 16 | 443,
            ]
        });
        for shift in [0, 20, 48] {
            let buckets = usize::try_from(COUNT / 8).unwrap();
            let mut counts = vec![0_u32; buckets];
            for key in keys.clone() {
                counts[usize::try_from(hash.hash(&key) >> shift).unwrap() % buckets] += 1;
            }
            // Pearson's statistic has as mean the degrees of freedom, and their doubled root as deviation.
            let squares: f64 = counts
                .iter()
                .map(|&count| (f64::from(count) - 8.0).powi(2) / 8.0)
                .sum();
            let freedom = f64::from(u32::try_from(buckets).unwrap() - 1);
            let deviation = (2.0 * freedom).sqrt();
            assert!(
                (squares - freedom).abs() < 5.0 * deviation,
                "{squares} against {freedom}"
            );
        }
    }

    #[test]
    fn the_known_weakness_of_a_product_needs_the_secret() {
        // (m + k) × (n + l) is zero whatever n is if m = -k. Who knows k can make any number of keys with
        // the same sum; so hashes and secret must not leak. Here we do know it.
        let hash = keyed(3);
        let weak = hash.nh[0].wrapping_neg();
        let flood: HashSet<u64> = (0..100).map(|number| hash.hash(&[weak, number])).collect();
        assert_eq!(flood.len(), 1, "known to happen");
        let other = keyed(4);
        let harmless: HashSet<u64> = (0..100).map(|number| other.hash(&[weak, number])).collect();
        assert_eq!(
            harmless.len(),
            100,
            "under another secret they are just keys"
        );
    }

    #[test]
    fn one_to_eight_words_are_hashed() {
        let hash = keyed(5);
        let hashes = HashSet::from([
            hash.hash(&[9]),
            hash.hash(&[9; 2]),
            hash.hash(&[9; 3]),
            hash.hash(&[9; 4]),
            hash.hash(&[9; 5]),
            hash.hash(&[9; 6]),
            hash.hash(&[9; 7]),
            hash.hash(&[9; 8]),
        ]);
        assert_eq!(hashes.len(), 8);
    }

    #[test]
    fn debug_output_does_not_betray_the_secret() {
        assert_eq!(format!("{:?}", keyed(1)), "KeyedHash { .. }");
    }

    proptest! {
        #[test]
        fn the_mixer_can_be_undone(number: u64) {
            // The inverse of the odd factor modulo 2^64, by Newton's iteration.
            let inverse = (0..6).fold(1_u64, |x, _| {
                x.wrapping_mul(2_u64.wrapping_sub(super::GOLDEN.wrapping_mul(x)))
            });
            let mixed = mix(number);
            let product = (mixed ^ mixed >> 32).wrapping_mul(inverse);
            prop_assert_eq!(product ^ product >> 32, number);
        }
    }
}
