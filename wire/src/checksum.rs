//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! The checksum is a sum of 16-bit words modulo 65,535, and two properties of that modulus carry
//! this file. 2^16 is 1, so words of 32 and 64 bits may be summed as they are and folded at the
//! end. And 2^8 only swaps the bytes of a result, so the bytes may be read in the machine's own
//! order if the result is written back in it (RFC 1071 §2 (B)). Sums in that order are called
//! *memory-order* here; everything public takes and returns plain numbers.
//!
//! Zero has two representations, 0 and 65,535. A sum over bytes that are not all zero never folds
//! to 0, and no formula here leaves that class, so an incremental update gives the very bits that
//! summing everything again would give. (RFC 1624 §3 warns of formulas that do not.)

use crate::{Address, Protocol};

/// What the words of a packet with a correct checksum add up to.
pub(crate) const ALL_ONES: u16 = 0xffff;

/// The sum of `bytes` as 16-bit words, not complemented. An odd last byte is the upper half of a
/// word (RFC 1071 §4.1).
#[must_use]
pub fn sum(bytes: &[u8]) -> u16 {
    u16::from_be(fold(lanes(bytes)))
}

/// A sum over several pieces of a packet, one after the other, of any length each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum {
    /// Memory-order; far from overflow, as every piece adds at most 16 bits.
    sum: u64,
    /// Whether the next byte is the lower half of a word.
    is_odd: bool,
}

impl Checksum {
    /// The sum of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sum: 0,
            is_odd: false,
        }
    }

    /// Takes in the next bytes.
    #[inline]
    pub fn add(&mut self, bytes: &[u8]) {
        let piece = fold(lanes(bytes));
        // RFC 1071 §2 (B): a piece that starts inside a word counts with its bytes swapped.
        let piece = if self.is_odd {
            piece.swap_bytes()
        } else {
            piece
        };
        self.sum += u64::from(piece);
        self.is_odd ^= bytes.len() % 2 == 1;
    }

    /// Takes in a number in network order.
    #[inline]
    pub fn add_u16(&mut self, value: u16) {
        self.add(&value.to_be_bytes());
    }

    /// Takes in a number in network order.
    #[inline]
    pub fn add_u32(&mut self, value: u32) {
        self.add(&value.to_be_bytes());
    }

    /// The sum so far, not complemented: what the checksum field of a partial checksum holds, and
    /// 65,535 over a packet whose checksum is right.
    #[must_use]
    #[inline]
    pub fn sum(self) -> u16 {
        u16::from_be(fold(self.sum))
    }

    /// The checksum: what a header field holds if the bytes summed had zero in its place.
    #[must_use]
    #[inline]
    pub fn finish(self) -> u16 {
        !self.sum()
    }
}

/// The sum of the pseudo-header that TCP, UDP and ICMPv6 cover: RFC 9293 §3.1 and RFC 768 for
/// IPv4, RFC 8200 §8.1 for IPv6. `length` is that of the upper layer, header included.
#[must_use]
#[inline]
pub fn pseudo_header(
    source: Address,
    destination: Address,
    protocol: Protocol,
    length: u32,
) -> Checksum {
    let mut sum = 0;
    for address in [source, destination] {
        // One path for both families: the prefix of a mapped address, ::ffff, adds 65,535, which
        // is nothing.
        sum = add_lanes(sum, fold_wide(address.bits().to_be()));
    }
    let [a, b, c, d] = length.to_be_bytes();
    let rest = u64::from_ne_bytes([a, b, c, d, 0, 0, 0, protocol.0]);
    Checksum {
        sum: u64::from(fold(add_lanes(sum, rest))),
        is_odd: false,
    }
}

/// `checksum` after one 16-bit word under it changed from `old` to `new` (RFC 1624 §3 eqn. 3).
///
/// The word must stand at an even offset of what is summed.
#[must_use]
#[inline]
pub const fn update16(checksum: u16, old: u16, new: u16) -> u16 {
    // Lossless: From is not const.
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

/// [`update16`] for the two words of a 32-bit number.
#[must_use]
#[inline]
pub const fn update32(checksum: u16, old: u32, new: u32) -> u16 {
    // Lossless: From is not const.
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

/// [`update16`] for the eight words of a 128-bit number, such as an IPv6 address.
#[must_use]
#[inline]
pub const fn update128(checksum: u16, old: u128, new: u128) -> u16 {
    let (sum, carry) = (!old).overflowing_add(new);
    // Lossless: From is not const.
    !fold(add_lanes(fold_wide(sum + carry as u128), !checksum as u64))
}

/// A multiple of 65,535, and so nothing, above every sum that a [`Delta`] takes away.
const NOTHING: u64 = 0xffff_0000_0000_0000;

/// The difference that replaced words make to the sums over them, in memory order.
///
/// Gathered once, it is applied to each checksum that covers the words: an address stands under
/// the IPv4 header checksum and under the transport's.
///
/// The old words are subtracted where RFC 1624 adds their complement: as ~m is 65,535 - m, the two
/// differ by multiples of 65,535, and one [`NOTHING`] for all words makes up for them and keeps the
/// sum positive. That costs one addition instead of one operation a word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delta(u64);

impl Delta {
    pub(crate) const NONE: Self = Self(NOTHING);

    /// A 16-bit word at an even offset changed.
    #[inline(always)]
    pub(crate) fn replace16(&mut self, old: [u8; 2], new: [u8; 2]) {
        self.replace(
            u16::from_ne_bytes(old).into(),
            u16::from_ne_bytes(new).into(),
        );
    }

    /// Four bytes at an even offset changed.
    #[inline(always)]
    pub(crate) fn replace32(&mut self, old: [u8; 4], new: [u8; 4]) {
        self.replace(
            u32::from_ne_bytes(old).into(),
            u32::from_ne_bytes(new).into(),
        );
    }

    /// Sixteen bytes at an even offset changed.
    #[inline(always)]
    pub(crate) fn replace128(&mut self, old: [u8; 16], new: [u8; 16]) {
        let sum = |bytes| halve(fold_wide(u128::from_ne_bytes(bytes)));
        self.replace(sum(old), sum(new));
    }

    /// Both differences together.
    #[inline(always)]
    pub(crate) fn joined(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0).wrapping_sub(NOTHING))
    }

    /// A checksum field after the change: HC' = ~(~HC + ~m + m'), RFC 1624 §3 eqn. 3.
    #[inline(always)]
    pub(crate) fn apply(self, checksum: &mut [u8; 2]) {
        let sum = self.0 + u64::from(!u16::from_ne_bytes(*checksum));
        *checksum = (!fold(sum)).to_ne_bytes();
    }

    /// The same for a field that holds the sum itself and not its complement: a partial checksum.
    #[inline(always)]
    pub(crate) fn apply_to_sum(self, sum: &mut [u8; 2]) {
        *sum = fold(self.0 + u64::from(u16::from_ne_bytes(*sum))).to_ne_bytes();
    }

    /// Both sums are below 2^33; it takes 2^15 of them to leave the range.
    #[inline(always)]
    fn replace(&mut self, old: u64, new: u64) {
        self.0 = self.0 + new - old;
    }
}

/// Whether an IPv4 header without options has a correct checksum: [`sum`] with the length known.
#[inline(always)]
pub(crate) fn is_all_ones(header: &[u8; 20]) -> bool {
    let (words, _) = header.as_chunks::<4>();
    fold(
        words
            .iter()
            .map(|word| u64::from(u32::from_ne_bytes(*word)))
            .sum(),
    ) == ALL_ONES
}

/// The memory-order sum of `bytes`.
///
/// Two independent chains of add-with-carry into 128 bits: as fast as 32-bit lanes in vector
/// registers (both near two loads a cycle), without their set-up for a short header.
fn lanes(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<16>();
    let mut even = 0_u128;
    let mut odd = 0_u128;
    for block in blocks {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *block;
        even += u128::from(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
        odd += u128::from(u64::from_ne_bytes([i, j, k, l, m, n, o, p]));
    }
    let mut sum = even + odd;
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        sum += u128::from(u32::from_ne_bytes(*word));
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum += u128::from(u32::from_ne_bytes(last));
    fold_wide(sum)
}

/// A 128-bit sum in 64 bits.
#[inline(always)]
const fn fold_wide(sum: u128) -> u64 {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = sum.to_le_bytes();
    let low = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let high = u64::from_le_bytes([i, j, k, l, m, n, o, p]);
    add_lanes(low, high)
}

/// The sum of two 64-bit sums, the carry brought around.
#[inline(always)]
const fn add_lanes(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    // Cannot overflow again: a sum that carried is at most 2^64 - 2. Lossless: From is not const.
    sum + carry as u64
}

/// A 64-bit sum in 33 bits.
#[inline(always)]
const fn halve(sum: u64) -> u64 {
    (sum >> 32) + (sum & 0xffff_ffff)
}

/// A 64-bit sum in 16 bits; 0 only if it was 0.
///
/// A sum of two halves plus the carry out of it is the upper half of x + rotate(x): the lower
/// halves' carry comes in by itself.
#[inline(always)]
const fn fold(sum: u64) -> u16 {
    let [_, _, _, _, a, b, c, d] = sum.wrapping_add(sum.rotate_left(32)).to_le_bytes();
    let sum = u32::from_le_bytes([a, b, c, d]);
    let [_, _, a, b] = sum.wrapping_add(sum.rotate_left(16)).to_le_bytes();
    u16::from_le_bytes([a, b])
}

#[cfg(test)]
mod tests;
