//! Who holds which addresses of one network.
//!
//! # Theory of operation
//!
//! A network's [`Leases`] are a ledger with three keys: holder, address and MAC address each lead
//! to one lease at most. Beside it, a block for every subnet keeps the stock for the automatic
//! choice (which address comes next, which rests).
//!
//! Every change is made in two steps. A *draft* is drawn up from the ledger as it stands, without
//! touching it; whatever is wrong with the request shows here. Then the draft is entered, which
//! cannot fail. So a request that fails leaves nothing behind, and [`Leases::propose`] can tell
//! what [`Leases::allocate`] would answer.
//!
//! What must stay true, whatever is called in whatever order:
//!
//! 1. an address and a MAC address have one holder at most;
//! 2. nobody holds a gateway's, network's, broadcast, router anycast or reserved address, nor the
//!    gateway's MAC address;
//! 3. an address that is chosen automatically was not held within the quarantine, except by the
//!    same holder;
//! 4. of two released addresses, the one released earlier is chosen earlier (as long as the block
//!    remembers, see [`REMEMBERED_RESTS`](crate::REMEMBERED_RESTS)), and none before an address
//!    that was never used.
//!
//! A resting address that is asked for by name is granted at once, to anyone: an endpoint that is
//! recreated with its fixed address cannot wait, and since its MAC address follows from the
//! address, its neighbours need not learn anything new.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use heddle_wire::MacAddr;
use ipnet::IpNet;

use crate::block::{Block, Usage};
use crate::family::{Families, Family};
use crate::lease::{Lease, Request, Rest};
use crate::mac::{MacError, NetworkIdentity};
use crate::subnet::{Role, Subnet};
use crate::subnets::Subnets;

pub(crate) mod state;

/// How long a released address rests at least. Frames that wait for a neighbour to answer are given
/// up after three seconds (RFC 4861 §10: three solicitations one second apart), and an answer from
/// the name service that still shows the old holder should have been asked for again. Longer would
/// lock a small subnet whose endpoints come and go; the order of reuse already gives most addresses
/// a far longer rest.
pub const DEFAULT_QUARANTINE: Duration = Duration::from_secs(10);

/// The leases of one network; see the module.
///
/// Serialises as [`LeasesState`](crate::LeasesState) and is checked when it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leases {
    network: NetworkIdentity,
    quarantine: Duration,
    blocks: Vec<Block>,
    by_holder: BTreeMap<String, Lease>,
    by_address: BTreeMap<IpAddr, String>,
    by_mac: BTreeMap<MacAddr, String>,
}

/// Why a request is refused. Every message stands for itself: it names the network, the address,
/// who is in the way and, where there is one, a way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The holder's name is empty.
    #[error("an endpoint of network {network} needs a name to hold addresses under")]
    UnnamedHolder {
        /// The network.
        network: String,
    },
    /// The holder holds a lease here already.
    #[error("{holder} holds {} in network {network} already", join(.addresses, ", "))]
    HolderExists {
        /// The network.
        network: String,
        /// Who asked.
        holder: String,
        /// What it holds.
        addresses: Vec<IpNet>,
    },
    /// The holder to release holds nothing.
    #[error("{holder} holds no address in network {network}")]
    NotHeld {
        /// The network.
        network: String,
        /// Who was to be released.
        holder: String,
    },
    /// The request names no address, no subnet and no family.
    #[error("the request of {holder} names no address and no family to have one from")]
    NothingAsked {
        /// Who asked.
        holder: String,
    },
    /// The network has no subnet of a family asked for.
    #[error("network {network} has no {family} subnet; it has {}", join(.subnets, ", "))]
    NoSuchFamily {
        /// The network.
        network: String,
        /// The family asked for.
        family: Family,
        /// What there is.
        subnets: Vec<IpNet>,
    },
    /// The network has no such subnet.
    #[error("network {network} has no subnet {subnet}; it has {}", join(.subnets, ", "))]
    NoSuchSubnet {
        /// The network.
        network: String,
        /// The subnet asked for.
        subnet: IpNet,
        /// What there is.
        subnets: Vec<IpNet>,
    },
    /// An address is in no subnet of the network.
    #[error("{address} is in no subnet of network {network}; it has {}", join(.subnets, ", "))]
    Outside {
        /// The network.
        network: String,
        /// The address asked for.
        address: IpAddr,
        /// What there is.
        subnets: Vec<IpNet>,
    },
    /// An address is not one that endpoints hold.
    #[error("{address} is {role} of {subnet} in network {network}{}", suggestion(*.free))]
    Unusable {
        /// The network.
        network: String,
        /// The address asked for.
        address: IpAddr,
        /// The subnet it lies in.
        subnet: IpNet,
        /// What it is instead.
        role: Role,
        /// One that could be had.
        free: Option<IpAddr>,
    },
    /// Another endpoint has the address.
    #[error("{address} is held by {holder} in network {network}{}", suggestion(*.free))]
    Taken {
        /// The network.
        network: String,
        /// The address asked for.
        address: IpAddr,
        /// Who holds it.
        holder: String,
        /// One that could be had.
        free: Option<IpAddr>,
    },
    /// One request names an address twice.
    #[error("{address} is asked for twice in one request")]
    AskedTwice {
        /// The address asked for.
        address: IpAddr,
    },
    /// There is nothing to choose from.
    #[error("network {network} has no {family} address to give ({})", join(.usage, "; "))]
    Exhausted {
        /// The network.
        network: String,
        /// The family asked for.
        family: Family,
        /// Where was looked, and what is the matter there.
        usage: Vec<Usage>,
    },
    /// The MAC address is not to be had.
    #[error(transparent)]
    Mac(#[from] MacError),
}

/// A lease that is settled but not entered.
struct Draft {
    lease: Lease,
    /// Those of its addresses that were chosen, in the order of choice.
    chosen: Vec<IpAddr>,
}

impl Leases {
    /// A network in which nobody holds anything yet. A released address rests for `quarantine`
    /// before another endpoint gets it unasked; [`DEFAULT_QUARANTINE`] is a good value.
    #[must_use]
    pub fn new(network: NetworkIdentity, subnets: Subnets, quarantine: Duration) -> Self {
        Self {
            network,
            quarantine,
            blocks: subnets.into_inner().into_iter().map(Block::new).collect(),
            by_holder: BTreeMap::new(),
            by_address: BTreeMap::new(),
            by_mac: BTreeMap::new(),
        }
    }

    /// The network's name and identifier.
    #[must_use]
    pub const fn network(&self) -> &NetworkIdentity {
        &self.network
    }

    /// How long released addresses rest.
    #[must_use]
    pub const fn quarantine(&self) -> Duration {
        self.quarantine
    }

    /// The network's subnets, in the order in which addresses are chosen from them.
    pub fn subnets(&self) -> impl Iterator<Item = &Subnet> {
        self.blocks.iter().map(Block::subnet)
    }

    /// The families of which the network has a subnet.
    #[must_use]
    pub fn families(&self) -> Families {
        self.subnets().map(Subnet::family).collect()
    }

    /// The router's MAC address in this network.
    #[must_use]
    pub fn gateway_mac(&self) -> MacAddr {
        self.network.gateway_mac()
    }

    /// Gives `holder` the addresses it asks for, or those next in turn.
    ///
    /// # Errors
    ///
    /// Anything wrong with the request, with nothing changed.
    pub fn allocate(
        &mut self,
        holder: &str,
        request: &Request,
        now: SystemTime,
    ) -> Result<Lease, LeaseError> {
        let Draft { lease, chosen } = self.draft(holder, request, now)?;
        self.enter(lease.clone());
        for address in chosen {
            if let Some(block) = self.block_mut(address) {
                block.continue_after(address);
            }
        }
        Ok(lease)
    }

    /// What [`allocate`](Self::allocate) would answer, without doing it.
    ///
    /// # Errors
    ///
    /// Those of `allocate`.
    pub fn propose(
        &self,
        holder: &str,
        request: &Request,
        now: SystemTime,
    ) -> Result<Lease, LeaseError> {
        self.draft(holder, request, now).map(|draft| draft.lease)
    }

    /// Ends a lease. Its addresses rest from `now` on; its MAC address is free at once.
    ///
    /// # Errors
    ///
    /// [`LeaseError::NotHeld`] if there is no such lease.
    pub fn release(&mut self, holder: &str, now: SystemTime) -> Result<Lease, LeaseError> {
        let lease = self
            .by_holder
            .remove(holder)
            .ok_or_else(|| LeaseError::NotHeld {
                network: self.network.name.clone(),
                holder: holder.to_owned(),
            })?;
        self.by_mac.remove(&lease.mac);
        let quarantine = self.quarantine;
        for address in lease.hosts() {
            self.by_address.remove(&address);
            let rest = Rest {
                address,
                holder: holder.to_owned(),
                released: now,
            };
            if let Some(block) = self.block_mut(address) {
                block.give_back(rest, quarantine);
            }
        }
        Ok(lease)
    }

    /// The lease of a holder.
    #[must_use]
    pub fn lease(&self, holder: &str) -> Option<&Lease> {
        self.by_holder.get(holder)
    }

    /// The lease that an address belongs to.
    #[must_use]
    pub fn holder_of(&self, address: IpAddr) -> Option<&Lease> {
        self.by_address
            .get(&address)
            .and_then(|holder| self.lease(holder))
    }

    /// The lease that a MAC address belongs to.
    #[must_use]
    pub fn holder_of_mac(&self, mac: MacAddr) -> Option<&Lease> {
        self.by_mac.get(&mac).and_then(|holder| self.lease(holder))
    }

    /// All leases, by the name of their holder.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Lease> {
        self.by_holder.values()
    }

    /// The addresses that were released and not given out again, by subnet and in the order of
    /// release. A subnet forgets the oldest once there are
    /// [many](crate::REMEMBERED_RESTS).
    pub fn resting(&self) -> impl Iterator<Item = &Rest> {
        self.blocks.iter().flat_map(Block::resting)
    }

    /// How far each subnet is used up.
    #[must_use]
    pub fn usage(&self, now: SystemTime) -> Vec<Usage> {
        self.blocks
            .iter()
            .map(|block| block.usage(self.quarantine, now))
            .collect()
    }

    fn draft(&self, holder: &str, request: &Request, now: SystemTime) -> Result<Draft, LeaseError> {
        self.check_holder(holder)?;
        let Request {
            addresses,
            subnets,
            families,
            mac,
        } = request;
        let mut settled: Vec<IpNet> = Vec::new();
        for address in addresses {
            settled.push(self.check_address(*address, &settled)?);
        }
        let named = settled.len();
        for subnet in subnets {
            let blocks = [self.block_named(subnet)?];
            settled.push(self.choose(&blocks, (*subnet).into(), holder, &settled, now)?);
        }
        for family in families.unwrap_or_else(|| self.families()).iter() {
            if !settled
                .iter()
                .any(|address| Family::from(*address) == family)
            {
                let blocks = self.blocks_of(family)?;
                settled.push(self.choose(&blocks, family, holder, &settled, now)?);
            }
        }
        if settled.is_empty() {
            return Err(LeaseError::NothingAsked {
                holder: holder.to_owned(),
            });
        }
        let mac = self.settle_mac(*mac, &settled)?;
        let chosen = settled[named..].iter().map(IpNet::addr).collect();
        let lease = Lease {
            holder: holder.to_owned(),
            addresses: settled,
            mac,
        };
        Ok(Draft { lease, chosen })
    }

    /// Enters a lease of which every part was checked.
    fn enter(&mut self, lease: Lease) {
        for address in lease.hosts() {
            if let Some(block) = self.block_mut(address) {
                block.take(address);
            }
            self.by_address.insert(address, lease.holder.clone());
        }
        self.by_mac.insert(lease.mac, lease.holder.clone());
        self.by_holder.insert(lease.holder.clone(), lease);
    }

    fn check_holder(&self, holder: &str) -> Result<(), LeaseError> {
        let network = || self.network.name.clone();
        if holder.is_empty() {
            return Err(LeaseError::UnnamedHolder { network: network() });
        }
        match self.lease(holder) {
            None => Ok(()),
            Some(lease) => Err(LeaseError::HolderExists {
                network: network(),
                holder: holder.to_owned(),
                addresses: lease.addresses.clone(),
            }),
        }
    }

    /// An address asked for by name as its holder will have it, unless a lease that has `others`
    /// already cannot have it too.
    fn check_address(&self, address: IpAddr, others: &[IpNet]) -> Result<IpNet, LeaseError> {
        let network = || self.network.name.clone();
        let found = self
            .blocks
            .iter()
            .find_map(|block| Some((block, block.subnet().role(address)?)));
        let Some((block, role)) = found else {
            let subnets = self.networks();
            return Err(LeaseError::Outside {
                network: network(),
                address,
                subnets,
            });
        };
        let free = || block.next_free(others).map(|free| free.addr());
        if role != Role::Endpoint {
            let (network, subnet) = (network(), block.subnet().network());
            return Err(LeaseError::Unusable {
                network,
                address,
                subnet,
                role,
                free: free(),
            });
        }
        if let Some(Lease { holder, .. }) = self.holder_of(address) {
            let (network, holder) = (network(), holder.clone());
            return Err(LeaseError::Taken {
                network,
                address,
                holder,
                free: free(),
            });
        }
        let settled = block.subnet().with_prefix(address);
        if others.contains(&settled) {
            return Err(LeaseError::AskedTwice { address });
        }
        Ok(settled)
    }

    fn block_named(&self, subnet: &IpNet) -> Result<&Block, LeaseError> {
        let mut blocks = self.blocks.iter();
        blocks
            .find(|block| block.subnet().network() == *subnet)
            .ok_or_else(|| LeaseError::NoSuchSubnet {
                network: self.network.name.clone(),
                subnet: *subnet,
                subnets: self.networks(),
            })
    }

    fn blocks_of(&self, family: Family) -> Result<Vec<&Block>, LeaseError> {
        let blocks: Vec<&Block> = self
            .blocks
            .iter()
            .filter(|block| block.subnet().family() == family)
            .collect();
        if blocks.is_empty() {
            let (network, subnets) = (self.network.name.clone(), self.networks());
            return Err(LeaseError::NoSuchFamily {
                network,
                family,
                subnets,
            });
        }
        Ok(blocks)
    }

    /// Chooses an address from blocks of one family for a lease that has `others` already: a free
    /// one, else the longest-resting one past its quarantine, else one that this holder itself
    /// released (a restart need not wait for its own quarantine).
    fn choose(
        &self,
        blocks: &[&Block],
        family: Family,
        holder: &str,
        others: &[IpNet],
        now: SystemTime,
    ) -> Result<IpNet, LeaseError> {
        if let Some(free) = blocks.iter().find_map(|block| block.next_free(others)) {
            return Ok(free);
        }
        let rested = blocks
            .iter()
            .filter_map(|block| Some((block, block.oldest_rest(others)?)))
            .filter(|(_, rest)| rest.is_over(self.quarantine, now))
            .min_by_key(|(_, rest)| rest.released);
        let own = || {
            blocks
                .iter()
                .find_map(|block| Some((block, block.rest_of(holder, others)?)))
        };
        match rested.or_else(own) {
            Some((block, rest)) => Ok(block.subnet().with_prefix(rest.address)),
            None => Err(LeaseError::Exhausted {
                network: self.network.name.clone(),
                family,
                usage: blocks
                    .iter()
                    .map(|block| block.usage(self.quarantine, now))
                    .collect(),
            }),
        }
    }

    /// The MAC address for a lease of these addresses: the one asked for, else the best that is
    /// free.
    fn settle_mac(
        &self,
        asked: Option<MacAddr>,
        addresses: &[IpNet],
    ) -> Result<MacAddr, LeaseError> {
        let Some(mac) = asked else {
            let mut candidates = self.network.endpoint_macs(addresses);
            let free = candidates.find(|mac| !self.by_mac.contains_key(mac));
            return Ok(free.expect("there are more candidates than leases fit into memory"));
        };
        self.network.check_mac(mac)?;
        match self.by_mac.get(&mac) {
            None => Ok(mac),
            Some(holder) => Err(LeaseError::Mac(MacError::Taken {
                mac,
                network: self.network.name.clone(),
                holder: holder.clone(),
            })),
        }
    }

    fn block_mut(&mut self, address: IpAddr) -> Option<&mut Block> {
        self.blocks
            .iter_mut()
            .find(|block| block.subnet().network().contains(&address))
    }

    fn networks(&self) -> Vec<IpNet> {
        self.subnets().map(Subnet::network).collect()
    }
}

fn join<T: Display>(items: &[T], separator: &str) -> String {
    items
        .iter()
        .map(T::to_string)
        .collect::<Vec<_>>()
        .join(separator)
}

fn suggestion(free: Option<IpAddr>) -> String {
    free.map(|address| format!("; {address} is free"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
