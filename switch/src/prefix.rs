//! Prefixes as the frame path asks about them.

use heddle_wire::Address;
use ipnet::IpNet;

/// Whether an address lies in a prefix: one shift of the difference. (`ipnet` takes both apart first.)
#[inline]
pub(crate) fn contains(prefix: &IpNet, address: Address) -> bool {
    match (prefix, address.ipv4_bits()) {
        (IpNet::V4(prefix), Some(bits)) => {
            let difference = u64::from(bits ^ prefix.addr().to_bits());
            difference >> (32 - prefix.prefix_len()) == 0
        }
        (IpNet::V6(prefix), None) => {
            let difference = address.bits() ^ prefix.addr().to_bits();
            match prefix.prefix_len() {
                0 => true,
                len => difference >> (128 - len) == 0,
            }
        }
        _ => false,
    }
}

/// Whether an address is the one that a prefix was given with.
#[inline]
pub(crate) fn is_host(own: &IpNet, address: Address) -> bool {
    match own {
        IpNet::V4(own) => address.ipv4_bits() == Some(own.addr().to_bits()),
        IpNet::V6(own) => address == Address::from(own.addr()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use heddle_wire::Address;
    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::{contains, is_host};

    proptest! {
        #[test]
        fn ipnet_agrees(
            v4: u32,
            v6: u128,
            is_v6: bool,
            len in 0_u8..=128,
            near in 0_u32..=128,
            noise: u128,
        ) {
            let prefix = if is_v6 {
                IpNet::new(IpAddr::V6(Ipv6Addr::from_bits(v6)), len)
            } else {
                IpNet::new(IpAddr::V4(Ipv4Addr::from_bits(v4)), len.min(32))
            };
            let prefix = prefix.unwrap();
            let base = Address::from(prefix.addr()).bits();
            let addresses = [
                noise,
                // The first bits of the prefix, and then something else.
                base ^ noise.checked_shr(near).unwrap_or(0),
                0xffff_0000_0000 | noise >> 96,
                base,
            ];
            for address in addresses.map(Address::from_bits) {
                let expected = prefix.contains(&address.to_ip());
                prop_assert_eq!(contains(&prefix, address), expected, "{} {}", prefix, address);
                let expected = Address::from(prefix.addr()) == address;
                prop_assert_eq!(is_host(&prefix, address), expected, "{} {}", prefix, address);
            }
        }
    }
}
