use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};

use super::{Checksum, Delta, pseudo_header, sum, update16, update32, update128};
use crate::testing::{any_address, any_family, slow_sum};
use crate::{Address, Family, Protocol};

#[test]
fn the_worked_example_of_rfc_1071() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(sum(&bytes), 0xddf2);
}

#[test]
fn the_worked_example_of_rfc_1624() {
    assert_eq!(update16(0xdd2f, 0x5555, 0x3285), 0x0000);
}

#[test]
fn a_sum_of_nothing_is_zero_and_one_of_all_ones_stays_all_ones() {
    assert_eq!(sum(&[]), 0);
    assert_eq!(sum(&[0; 64]), 0);
    for len in [2, 4, 20, 1500, 65_536] {
        assert_eq!(sum(&vec![0xff; len]), 0xffff, "{len} bytes");
    }
}

#[test]
fn an_odd_last_byte_is_the_upper_half_of_a_word() {
    assert_eq!(sum(&[0x12, 0x34, 0x56]), 0x1234 + 0x5600);
}

/// The pseudo-header as its RFC draws it.
fn slow_pseudo_header(
    source: Address,
    destination: Address,
    protocol: Protocol,
    length: u32,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    match source.family() {
        Family::V4 => {
            bytes.extend(source.ipv4_bits().unwrap().to_be_bytes());
            bytes.extend(destination.ipv4_bits().unwrap().to_be_bytes());
            bytes.extend([0, protocol.0]);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        Family::V6 => {
            bytes.extend(source.bits().to_be_bytes());
            bytes.extend(destination.bits().to_be_bytes());
            bytes.extend(length.to_be_bytes());
            bytes.extend([0, 0, 0, protocol.0]);
        }
    }
    bytes
}

proptest! {
    #[test]
    fn the_fast_sum_is_the_slow_one(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(sum(&bytes), slow_sum(&bytes));
    }

    #[test]
    fn the_fast_sum_is_the_slow_one_where_carries_are_many(
        bytes in vec(proptest::sample::select(vec![0, 1, 0xfe, 0xff]), 0..300),
    ) {
        prop_assert_eq!(sum(&bytes), slow_sum(&bytes));
    }

    #[test]
    fn pieces_split_anywhere_sum_up_to_the_whole(
        bytes in vec(any::<u8>(), 0..200),
        mut cuts in vec(0_usize..200, 0..6),
    ) {
        cuts.iter_mut().for_each(|cut| *cut = (*cut).min(bytes.len()));
        cuts.sort_unstable();
        let mut checksum = Checksum::new();
        let mut start = 0;
        for cut in cuts {
            checksum.add(&bytes[start..cut]);
            start = cut;
        }
        checksum.add(&bytes[start..]);
        prop_assert_eq!(checksum.sum(), slow_sum(&bytes));
        prop_assert_eq!(checksum.finish(), !slow_sum(&bytes));
    }

    #[test]
    fn numbers_are_summed_like_their_bytes(first in vec(any::<u8>(), 0..3), a: u16, b: u32) {
        let mut checksum = Checksum::new();
        checksum.add(&first);
        checksum.add_u16(a);
        checksum.add_u32(b);
        let mut bytes = first;
        bytes.extend(a.to_be_bytes());
        bytes.extend(b.to_be_bytes());
        prop_assert_eq!(checksum.sum(), slow_sum(&bytes));
    }

    #[test]
    fn the_pseudo_header_is_the_one_of_the_rfc(
        (source, destination) in any_family().prop_flat_map(|f| (any_address(f), any_address(f))),
        protocol in 1_u8..,
        length: u16,
    ) {
        let protocol = Protocol(protocol);
        let slow = slow_pseudo_header(source, destination, protocol, length.into());
        let fast = pseudo_header(source, destination, protocol, length.into());
        prop_assert_eq!(fast.sum(), slow_sum(&slow));
    }

    #[test]
    fn an_updated_checksum_has_the_bits_of_a_new_one(
        mut bytes in vec(any::<u8>(), 40),
        one: u16,
        two: u32,
        eight: u128,
    ) {
        bytes[0] |= 1; // Nothing that is summed is all zero: see the module's doc.
        let old = bytes.clone();
        bytes[2..4].copy_from_slice(&one.to_be_bytes());
        bytes[4..8].copy_from_slice(&two.to_be_bytes());
        bytes[8..24].copy_from_slice(&eight.to_be_bytes());
        let expected = !slow_sum(&bytes);

        let checksum = !slow_sum(&old);
        let checksum = update16(checksum, u16::from_be_bytes([old[2], old[3]]), one);
        let checksum = update32(checksum, u32::from_be_bytes(old[4..8].try_into().unwrap()), two);
        let was = u128::from_be_bytes(old[8..24].try_into().unwrap());
        prop_assert_eq!(update128(checksum, was, eight), expected);

        let mut delta = Delta::NONE;
        delta.replace16(old[2..4].try_into().unwrap(), one.to_be_bytes());
        delta.replace32(old[4..8].try_into().unwrap(), two.to_be_bytes());
        let mut other = Delta::NONE;
        other.replace128(old[8..24].try_into().unwrap(), eight.to_be_bytes());
        let mut field = (!slow_sum(&old)).to_be_bytes();
        delta.joined(other).apply(&mut field);
        prop_assert_eq!(u16::from_be_bytes(field), expected);

        let mut partial = slow_sum(&old).to_be_bytes();
        other.joined(delta).apply_to_sum(&mut partial);
        prop_assert_eq!(u16::from_be_bytes(partial), slow_sum(&bytes));
    }
}
