//! Which subnet an address is in: asked for with every packet that is routed or comes from outside.

use std::sync::Arc;

use heddle_wire::{Address, Family};
use ipnet::IpNet;

use super::{ConfigError, Network};
use crate::port::NetworkId;
use crate::prefix;

/// All subnets. They do not overlap, so the one an address is in is the last that begins before it.
#[derive(Clone, Debug, Default)]
pub(super) struct Subnets {
    /// Their first addresses, in order.
    firsts: Vec<Address>,
    /// The same subnets.
    subnets: Vec<(IpNet, NetworkId)>,
    /// The lowest and the highest address of all subnets of a family, IPv4 first. Most of what is outside
    /// lies outside of these.
    spans: [Option<(Address, Address)>; 2],
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
        let span = |family| {
            let of = subnets.iter().map(|(subnet, _)| subnet);
            let mut of = of.filter(|subnet| first(subnet).family() == family);
            let lowest = of.next()?;
            let highest = of.next_back().unwrap_or(lowest);
            Some((first(lowest), Address::from(highest.broadcast())))
        };
        Ok(Subnets {
            firsts: subnets.iter().map(|(subnet, _)| first(subnet)).collect(),
            spans: [span(Family::V4), span(Family::V6)],
            subnets,
        })
    }

    /// The subnet an address is in, and its network.
    #[inline]
    pub(super) fn find(&self, address: Address) -> Option<(&IpNet, NetworkId)> {
        let (lowest, highest) = self.spans[usize::from(!address.is_ipv4())]?;
        if address < lowest || address > highest {
            return None;
        }
        let behind = self.firsts.partition_point(|&first| first <= address);
        let (subnet, network) = self.subnets[..behind].last()?;
        prefix::contains(subnet, address).then_some((subnet, *network))
    }
}
