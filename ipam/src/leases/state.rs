//! Leases as plain data, for a store, and the way back.
//!
//! What comes out of a store may be damaged, edited, or written by a version with other rules. It
//! is therefore not trusted: every lease goes through the checks of a new request, and the first
//! contradiction is an error that names it. Starting without the network is better than handing one
//! address to two endpoints.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::block::Block;
use crate::lease::{Lease, Rest};
use crate::leases::{LeaseError, Leases};
use crate::mac::NetworkIdentity;
use crate::subnet::SubnetConfig;
use crate::subnets::{Subnets, SubnetsError};

/// All that a network's leases consist of, unchecked. A store may keep it whole, or one record for
/// each lease and rest, and put it together again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeasesState {
    /// Name, identifier and key of the network.
    pub network: NetworkIdentity,
    /// The subnets, in the order of choice.
    pub subnets: Vec<SubnetConfig>,
    /// How long released addresses rest.
    pub quarantine: Duration,
    /// The leases, in any order.
    pub leases: Vec<Lease>,
    /// Released addresses; those of one subnet in the order of release.
    pub resting: Vec<Rest>,
    /// The address chosen last in each subnet where one was, in any order.
    pub last_given: Vec<IpAddr>,
}

/// Why stored leases are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The subnets are wrong.
    #[error("stored subnets of network {network}: {error}")]
    Subnets {
        /// The network.
        network: String,
        /// What is wrong with them.
        #[source]
        error: Box<SubnetsError>,
    },
    /// A lease contradicts the rules or another lease.
    #[error("stored lease of {holder}: {error}")]
    Lease {
        /// Who is said to hold it.
        holder: String,
        /// What a request for it would be answered.
        #[source]
        error: Box<LeaseError>,
    },
    /// A lease is of nothing.
    #[error("stored lease of {holder} in network {network} has no address")]
    NoAddress {
        /// The network.
        network: String,
        /// Who is said to hold it.
        holder: String,
    },
    /// An address has another prefix length than its subnet.
    #[error("stored lease of {holder} in network {network} has {address} from subnet {subnet}")]
    Prefix {
        /// The network.
        network: String,
        /// Who is said to hold it.
        holder: String,
        /// The address as stored.
        address: IpNet,
        /// The subnet it lies in.
        subnet: IpNet,
    },
    /// An address cannot rest.
    #[error(
        "stored address {address} of network {network} cannot rest: \
         it is held, resting already, or never chosen automatically"
    )]
    Rest {
        /// The network.
        network: String,
        /// The address as stored.
        address: IpAddr,
    },
    /// An address cannot have been the last choice.
    #[error(
        "stored address {address} of network {network} cannot be the last choice: \
         another one is, or it is never chosen automatically"
    )]
    LastGiven {
        /// The network.
        network: String,
        /// The address as stored.
        address: IpAddr,
    },
}

impl Leases {
    /// What must be stored for the network to come back as it is.
    #[must_use]
    pub fn state(&self) -> LeasesState {
        LeasesState {
            network: self.network.clone(),
            subnets: self.subnets().cloned().map(SubnetConfig::from).collect(),
            quarantine: self.quarantine,
            leases: self.iter().cloned().collect(),
            resting: self.resting().cloned().collect(),
            last_given: self.blocks.iter().filter_map(Block::last_given).collect(),
        }
    }

    fn restore_lease(&mut self, lease: Lease) -> Result<(), StateError> {
        let network = || self.network.name.clone();
        let holder = || lease.holder.clone();
        let settled = match self.check_lease(&lease) {
            Ok(settled) => settled,
            Err(error) => {
                return Err(StateError::Lease {
                    holder: holder(),
                    error: Box::new(error),
                });
            }
        };
        if settled.is_empty() {
            return Err(StateError::NoAddress {
                network: network(),
                holder: holder(),
            });
        }
        let differs = |(stored, right): &(&IpNet, &IpNet)| stored != right;
        if let Some((stored, right)) = lease.addresses.iter().zip(&settled).find(differs) {
            let (address, subnet) = (*stored, right.trunc());
            return Err(StateError::Prefix {
                network: network(),
                holder: holder(),
                address,
                subnet,
            });
        }
        self.enter(lease);
        Ok(())
    }

    /// The checks of a request for just this lease, and the addresses as it would have them.
    fn check_lease(&self, lease: &Lease) -> Result<Vec<IpNet>, LeaseError> {
        self.check_holder(&lease.holder)?;
        let mut settled = Vec::with_capacity(lease.addresses.len());
        for address in lease.hosts() {
            settled.push(self.check_address(address, &settled)?);
        }
        self.settle_mac(Some(lease.mac), &settled)?;
        Ok(settled)
    }

    fn restore_rest(&mut self, rest: Rest) -> Result<(), StateError> {
        let address = rest.address;
        match self
            .block_mut(address)
            .map(|block| block.restore_rest(rest))
        {
            Some(true) => Ok(()),
            Some(false) | None => Err(StateError::Rest {
                network: self.network.name.clone(),
                address,
            }),
        }
    }

    fn restore_last_given(&mut self, address: IpAddr) -> Result<(), StateError> {
        match self.block_mut(address) {
            Some(block) if block.last_given().is_none() && block.subnet().is_automatic(address) => {
                block.continue_after(address);
                Ok(())
            }
            Some(_) | None => Err(StateError::LastGiven {
                network: self.network.name.clone(),
                address,
            }),
        }
    }
}

impl TryFrom<LeasesState> for Leases {
    type Error = StateError;

    fn try_from(state: LeasesState) -> Result<Self, StateError> {
        let LeasesState {
            network,
            subnets,
            quarantine,
            leases,
            resting,
            last_given,
        } = state;
        let subnets = Subnets::try_from(subnets).map_err(|error| StateError::Subnets {
            network: network.name.clone(),
            error: Box::new(error),
        })?;
        let mut restored = Self::new(network, subnets, quarantine);
        leases
            .into_iter()
            .try_for_each(|lease| restored.restore_lease(lease))?;
        // After the leases: an address that is held cannot rest.
        resting
            .into_iter()
            .try_for_each(|rest| restored.restore_rest(rest))?;
        last_given
            .into_iter()
            .try_for_each(|address| restored.restore_last_given(address))?;
        Ok(restored)
    }
}

impl Serialize for Leases {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.state().serialize(to)
    }
}

impl<'de> Deserialize<'de> for Leases {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::try_from(LeasesState::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
