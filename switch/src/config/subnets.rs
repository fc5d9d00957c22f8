//! Which subnet an address is in: asked for with every packet that is routed or comes from outside.

use std::sync::Arc;

use heddle_wire::Address;
use ipnet::IpNet;

use super::{ConfigError, Network};
use crate::port::NetworkId;

/// All subnets. They do not overlap, so the one an address is in is the last that begins before it.
#[derive(Clone, Debug, Default)]
pub(super) struct Subnets {
    v4: Sorted<u32>,
    v6: Sorted<u128>,
}

/// The subnets of a family, their addresses as numbers.
#[derive(Clone, Debug, Default)]
struct Sorted<N> {
    firsts: Vec<N>,
    /// Behind each first address the rest: last address, subnet, network.
    rest: Vec<(N, IpNet, NetworkId)>,
}

impl<N: Ord + Copy> Sorted<N> {
    fn push(&mut self, first: N, last: N, subnet: IpNet, network: NetworkId) {
        self.firsts.push(first);
        self.rest.push((last, subnet, network));
    }

    #[inline(always)]
    fn find(&self, address: N) -> Option<(&IpNet, NetworkId)> {
        let behind = self.firsts.partition_point(|&first| first <= address);
        let (last, subnet, network) = self.rest.get(behind.checked_sub(1)?)?;
        (address <= *last).then_some((subnet, *network))
    }
}

impl Subnets {
    /// The subnets of all networks.
    pub(super) fn of(networks: &[Option<Arc<Network>>]) -> Result<Subnets, ConfigError> {
        let mut subnets: Vec<_> = networks
            .iter()
            .flatten()
            .flat_map(|network| network.subnets.iter().map(|subnet| (*subnet, network.id)))
            .collect();
        let first = |subnet: &IpNet| Address::from(subnet.network());
        subnets.sort_unstable_by_key(|(subnet, _)| (first(subnet), subnet.prefix_len()));
        for pair in subnets.windows(2) {
            let [one, next] = [pair[0].0, pair[1].0];
            if one.contains(&next.network()) {
                return Err(ConfigError::Overlap(one, next));
            }
        }
        let mut sorted = Subnets::default();
        for (subnet, network) in subnets {
            match subnet {
                IpNet::V4(v4) => {
                    let [first, last] = [v4.network(), v4.broadcast()].map(|it| it.to_bits());
                    sorted.v4.push(first, last, subnet, network);
                }
                IpNet::V6(v6) => {
                    let [first, last] = [v6.network(), v6.broadcast()].map(|it| it.to_bits());
                    sorted.v6.push(first, last, subnet, network);
                }
            }
        }
        Ok(sorted)
    }

    /// The subnet an address is in, and its network.
    #[inline]
    pub(super) fn find(&self, address: Address) -> Option<(&IpNet, NetworkId)> {
        match address.ipv4_bits() {
            Some(bits) => self.v4.find(bits),
            None => self.v6.find(address.bits()),
        }
    }
}
