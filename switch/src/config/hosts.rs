//! Where each address is: asked for with every packet that is routed to an endpoint.

use std::hash::{BuildHasher as _, RandomState};

use heddle_mem::KeyedHash;
use heddle_wire::Address;

use crate::port::PortId;

/// A table that is made once: open addressing, half empty at most, under a hash that nobody outside knows.
#[derive(Debug)]
pub(super) struct Hosts {
    hash: KeyedHash,
    /// A power of two of them, one empty at least.
    places: Vec<Option<(Address, PortId)>>,
}

impl Hosts {
    /// A table of addresses that are there once.
    pub(super) fn new(hosts: &[(Address, PortId)]) -> Hosts {
        let mut secret = [0; 64];
        for word in secret.as_chunks_mut().0 {
            // Drawn from the system's randomness, and another one each time.
            *word = RandomState::new().hash_one(0).to_ne_bytes();
        }
        let mut made = Hosts {
            hash: KeyedHash::new(secret),
            places: vec![None; (2 * hosts.len() + 1).next_power_of_two()],
        };
        for &(address, port) in hosts {
            let place = made.place(address);
            made.places[place] = Some((address, port));
        }
        made
    }

    /// The endpoint that has an address.
    #[inline]
    pub(super) fn find(&self, address: Address) -> Option<PortId> {
        self.places[self.place(address)].map(|(_, port)| port)
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Address, PortId)> {
        self.places.iter().flatten().copied()
    }

    /// Where an address is, or would be.
    #[inline]
    fn place(&self, address: Address) -> usize {
        let mask = self.places.len() - 1;
        let (high, low) = halves(address);
        // What does not fit a smaller machine's word is above the mask.
        let mut place = usize::try_from(self.hash.hash(&[high, low]) & low_bits(mask)).unwrap_or(0);
        while self.places[place].is_some_and(|(other, _)| other != address) {
            place = (place + 1) & mask;
        }
        place
    }
}

impl Default for Hosts {
    fn default() -> Hosts {
        Hosts::new(&[])
    }
}

#[inline]
fn low_bits(mask: usize) -> u64 {
    u64::try_from(mask).unwrap_or(u64::MAX)
}

#[inline]
fn halves(address: Address) -> (u64, u64) {
    let [a, b, c, d, e, f, g, h, low @ ..] = address.bits().to_be_bytes();
    let high = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    (high, u64::from_be_bytes(low))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use heddle_wire::Address;
    use proptest::prelude::*;

    use super::Hosts;
    use crate::port::PortId;

    proptest! {
        #[test]
        fn a_hash_map_agrees(
            given in prop::collection::hash_map(0_u128..600, any::<u16>(), 0..300),
            family in prop::sample::select(vec![0xffff_0a00_0000_u128, 0xfd00 << 112]),
        ) {
            let model: HashMap<Address, PortId> = given
                .into_iter()
                .map(|(number, port)| (Address::from_bits(family | number), PortId(port)))
                .collect();
            let list: Vec<_> = model.iter().map(|(&address, &port)| (address, port)).collect();
            let hosts = Hosts::new(&list);
            for number in 0..600 {
                let address = Address::from_bits(family | number);
                prop_assert_eq!(hosts.find(address), model.get(&address).copied());
            }
            prop_assert_eq!(hosts.iter().collect::<HashMap<_, _>>(), model);
        }
    }
}
