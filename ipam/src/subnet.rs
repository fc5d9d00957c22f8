//! A subnet: its network, its gateway, and which of its addresses endpoints may hold.
//!
//! # Rules
//!
//! - IPv4 up to /30: the first address is the network's, the last the directed broadcast
//!   (RFC 1122 §3.2.1.3); neither is anyone's own. In a /31 both addresses are hosts
//!   (RFC 3021 §2.1): the gateway and one endpoint. A /32 is one host, so it makes a subnet only
//!   without a gateway.
//! - IPv6 up to [`LONGEST_V6`]. The first address is the subnet-router anycast address
//!   (RFC 4291 §2.6.1): every router answers to it, so nobody may hold it. The 128 highest
//!   interface identifiers are reserved for anycast too (RFC 2526 §2); they are never given out
//!   unasked, yet granted to those who ask, because nothing on Linux answers to them and
//!   configurations written for other engines use them.
//! - The gateway is the first address that is a host's unless another is named. An IPv6 network has
//!   the link-local gateway fe80::1 besides, which is the router's business and no subnet's.
//! - An optional range confines the automatic choice; addresses outside it may still be asked for.
//!   Reserved addresses belong to something that is not an endpoint and are never given out.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::family::{Family, bounds, number};
use crate::range_set::RangeSet;
use crate::special::{SpecialUse, special_use};

/// Longest prefix of an IPv4 subnet with a gateway: RFC 3021 §2.1, two hosts.
pub const LONGEST_V4_WITH_GATEWAY: u8 = 31;

/// Longest prefix of an IPv6 subnet: in a longer one, every address would be among the 128 that
/// RFC 2526 §2 reserves for anycast. Nor is there a reason to save addresses.
pub const LONGEST_V6: u8 = 120;

/// How many interface identifiers RFC 2526 §2 reserves in every subnet.
const RESERVED_ANYCAST: u128 = 128;

/// The last reserved interface identifier of a /64, where identifiers have the EUI-64 form with the
/// universal bit clear (RFC 2526 §2); with any other prefix it is all ones.
const LAST_ANYCAST_IN_64: u128 = 0xfdff_ffff_ffff_ffff;

/// A subnet as asked for, and as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubnetConfig {
    /// The network, without host bits.
    pub subnet: IpNet,
    /// The router's address in it.
    #[serde(default)]
    pub gateway: GatewayChoice,
    /// Where the automatic choice is confined to.
    #[serde(default)]
    pub range: Option<AddressRange>,
    /// Addresses that no endpoint gets, and what each is for.
    #[serde(default)]
    pub reserved: BTreeMap<IpAddr, String>,
}

/// Which address the router has in a subnet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayChoice {
    /// The first address a host may have.
    #[default]
    First,
    /// This one.
    At(IpAddr),
    /// None: the router has no address in the subnet.
    None,
}

/// Addresses from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressRange {
    /// The lowest address.
    pub first: IpAddr,
    /// The highest address.
    pub last: IpAddr,
}

/// A subnet that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SubnetConfig", into = "SubnetConfig")]
pub struct Subnet {
    network: IpNet,
    gateway: Option<IpAddr>,
    range: Option<AddressRange>,
    reserved: BTreeMap<IpAddr, String>,
}

/// What an address inside a subnet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The network itself.
    Network,
    /// All hosts of the subnet.
    Broadcast,
    /// Any router of the subnet.
    RouterAnycast,
    /// The subnet's gateway.
    Gateway,
    /// Set aside, and what for.
    Reserved(String),
    /// An endpoint's, once one holds it.
    Endpoint,
}

/// Why a subnet is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// Bits are set beyond the prefix.
    #[error("subnet {subnet} has host bits set; the network is {network}")]
    HostBits {
        /// The subnet as given.
        subnet: IpNet,
        /// What would be right.
        network: IpNet,
    },
    /// The subnet shares addresses with a block that no subnet may contain.
    #[error("subnet {subnet} contains {purpose} addresses ({block})")]
    Special {
        /// The subnet as given.
        subnet: IpNet,
        /// The block it runs into.
        block: IpNet,
        /// What that block is for.
        purpose: SpecialUse,
    },
    /// The prefix leaves no room for a gateway and an endpoint.
    #[error("subnet {subnet} is too small: /{longest} is the longest prefix possible here")]
    TooSmall {
        /// The subnet as given.
        subnet: IpNet,
        /// The longest prefix that would do.
        longest: u8,
    },
    /// Gateway and reserved addresses use up all there is, or all of the range.
    #[error(
        "subnet {subnet} has no address left to give to an endpoint{}",
        .range.map(|range| format!(" in the range {range}")).unwrap_or_default()
    )]
    NoRoom {
        /// The subnet as given.
        subnet: IpNet,
        /// The range as given.
        range: Option<AddressRange>,
    },
    /// The gateway lies elsewhere.
    #[error("gateway {gateway} is outside of subnet {subnet}; its first address is {first}")]
    GatewayOutside {
        /// The gateway as given.
        gateway: IpAddr,
        /// The subnet as given.
        subnet: IpNet,
        /// The address that would be chosen.
        first: IpAddr,
    },
    /// The gateway is no host's address.
    #[error("gateway {gateway} is {role} of subnet {subnet}; its first address is {first}")]
    GatewayUnusable {
        /// The gateway as given.
        gateway: IpAddr,
        /// The subnet as given.
        subnet: IpNet,
        /// What the address is instead.
        role: Role,
        /// The address that would be chosen.
        first: IpAddr,
    },
    /// The range is empty, or not wholly inside.
    #[error("range {range} is not a range of addresses in subnet {subnet}")]
    Range {
        /// The range as given.
        range: AddressRange,
        /// The subnet as given.
        subnet: IpNet,
    },
    /// A reserved address lies elsewhere.
    #[error("reserved address {address} ({purpose}) is outside of subnet {subnet}")]
    ReservedOutside {
        /// The address as given.
        address: IpAddr,
        /// What it is reserved for.
        purpose: String,
        /// The subnet as given.
        subnet: IpNet,
    },
    /// A reserved address is the gateway's.
    #[error("address {address} of subnet {subnet} cannot be both the gateway and {purpose}")]
    ReservedGateway {
        /// The address as given.
        address: IpAddr,
        /// What it is reserved for.
        purpose: String,
        /// The subnet as given.
        subnet: IpNet,
    },
}

impl From<IpNet> for SubnetConfig {
    /// The subnet with its first address as gateway, no range and nothing reserved.
    fn from(subnet: IpNet) -> Self {
        Self {
            subnet,
            gateway: GatewayChoice::First,
            range: None,
            reserved: BTreeMap::new(),
        }
    }
}

impl From<IpNet> for AddressRange {
    /// All addresses of the network; those that are no host's are never given out all the same.
    fn from(net: IpNet) -> Self {
        Self {
            first: net.network(),
            last: net.broadcast(),
        }
    }
}

impl Subnet {
    /// Checks a subnet by the rules of this module. Overlaps with other subnets are the concern of
    /// [`Subnets`](crate::Subnets).
    ///
    /// # Errors
    ///
    /// Whatever is wrong, with what would be right.
    pub fn new(config: SubnetConfig) -> Result<Self, SubnetError> {
        let SubnetConfig {
            subnet,
            gateway,
            range,
            reserved,
        } = config;
        if subnet != subnet.trunc() {
            return Err(SubnetError::HostBits {
                subnet,
                network: subnet.trunc(),
            });
        }
        if let Some((block, purpose)) = special_use(&subnet) {
            return Err(SubnetError::Special {
                subnet,
                block,
                purpose,
            });
        }
        let longest = match (Family::from(subnet), gateway) {
            (Family::V4, GatewayChoice::None) => Family::V4.bits(),
            (family, _) => longest_with_gateway(family),
        };
        if subnet.prefix_len() > longest {
            return Err(SubnetError::TooSmall { subnet, longest });
        }
        let checked = Self {
            network: subnet,
            gateway: None,
            range,
            reserved,
        };
        let checked = Self {
            gateway: checked.check_gateway(gateway)?,
            ..checked
        };
        checked.check_range()?;
        checked.check_reserved()?;
        if checked.automatic().count() == 0 {
            return Err(SubnetError::NoRoom { subnet, range });
        }
        Ok(checked)
    }

    fn check_gateway(&self, choice: GatewayChoice) -> Result<Option<IpAddr>, SubnetError> {
        let (subnet, first) = (self.network, self.first_host());
        let gateway = match choice {
            GatewayChoice::None => return Ok(None),
            GatewayChoice::First => first,
            GatewayChoice::At(gateway) => gateway,
        };
        match self.role(gateway) {
            None => Err(SubnetError::GatewayOutside {
                gateway,
                subnet,
                first,
            }),
            Some(Role::Reserved(purpose)) => Err(SubnetError::ReservedGateway {
                address: gateway,
                purpose,
                subnet,
            }),
            Some(role) if role != Role::Endpoint => Err(SubnetError::GatewayUnusable {
                gateway,
                subnet,
                role,
                first,
            }),
            Some(_) => Ok(Some(gateway)),
        }
    }

    fn check_range(&self) -> Result<(), SubnetError> {
        let Some(range) = self.range else {
            return Ok(());
        };
        let inside = |address| self.network.contains(&address);
        if inside(range.first) && inside(range.last) && range.first <= range.last {
            Ok(())
        } else {
            Err(SubnetError::Range {
                range,
                subnet: self.network,
            })
        }
    }

    fn check_reserved(&self) -> Result<(), SubnetError> {
        match self
            .reserved
            .iter()
            .find(|(address, _)| !self.network.contains(*address))
        {
            None => Ok(()),
            Some((address, purpose)) => Err(SubnetError::ReservedOutside {
                address: *address,
                purpose: purpose.clone(),
                subnet: self.network,
            }),
        }
    }

    /// The network, without host bits.
    #[must_use]
    pub const fn network(&self) -> IpNet {
        self.network
    }

    /// The router's address in the subnet, if it has one.
    #[must_use]
    pub const fn gateway(&self) -> Option<IpAddr> {
        self.gateway
    }

    /// The range that confines the automatic choice, if one does.
    #[must_use]
    pub const fn range(&self) -> Option<AddressRange> {
        self.range
    }

    /// The addresses that no endpoint gets, and what each is for.
    #[must_use]
    pub const fn reserved(&self) -> &BTreeMap<IpAddr, String> {
        &self.reserved
    }

    /// The family of the subnet.
    #[must_use]
    pub fn family(&self) -> Family {
        self.network.into()
    }

    /// What the address is in this subnet; `None` if it lies outside.
    #[must_use]
    pub fn role(&self, address: IpAddr) -> Option<Role> {
        if !self.network.contains(&address) {
            return None;
        }
        let is_first = address == self.network.network();
        Some(match self.family() {
            Family::V4 if self.is_broadcast_domain() && is_first => Role::Network,
            Family::V4 if self.is_broadcast_domain() && address == self.network.broadcast() => {
                Role::Broadcast
            }
            Family::V6 if is_first => Role::RouterAnycast,
            _ if self.gateway == Some(address) => Role::Gateway,
            _ => match self.reserved.get(&address) {
                Some(purpose) => Role::Reserved(purpose.clone()),
                None => Role::Endpoint,
            },
        })
    }

    /// The address with the subnet's prefix length, as an interface carries it.
    pub(crate) fn with_prefix(&self, address: IpAddr) -> IpNet {
        IpNet::new(address, self.network.prefix_len())
            .expect("an address inside the subnet is of the subnet's family")
    }

    /// Whether the automatic choice may ever give this address out.
    pub(crate) fn is_automatic(&self, address: IpAddr) -> bool {
        let in_range = self
            .range
            .is_none_or(|range| range.first <= address && address <= range.last);
        let (first, last) = self.anycast().unwrap_or((1, 0));
        in_range
            && self.role(address) == Some(Role::Endpoint)
            && !(first..=last).contains(&number(address))
    }

    /// All addresses for which [`is_automatic`](Self::is_automatic) holds, as numbers.
    pub(crate) fn automatic(&self) -> RangeSet {
        let range = self.range.unwrap_or_else(|| self.network.into());
        let mut set = RangeSet::from_range(number(range.first), number(range.last));
        let (first, last) = bounds(&self.network);
        match self.family() {
            Family::V4 if self.is_broadcast_domain() => {
                set.remove(first);
                set.remove(last);
            }
            Family::V4 => {}
            Family::V6 => {
                set.remove(first);
            }
        }
        if let Some((first, last)) = self.anycast() {
            set.remove_range(first, last);
        }
        for address in self.gateway.iter().chain(self.reserved.keys()) {
            set.remove(number(*address));
        }
        set
    }

    /// The addresses reserved by RFC 2526, as numbers.
    fn anycast(&self) -> Option<(u128, u128)> {
        let (first, last) = bounds(&self.network);
        let last = match self.network {
            IpNet::V4(_) => return None,
            IpNet::V6(net) if net.prefix_len() == 64 => first + LAST_ANYCAST_IN_64,
            IpNet::V6(_) => last,
        };
        Some((last - (RESERVED_ANYCAST - 1), last))
    }

    /// Whether the first and last address have the meaning that RFC 3021 takes from them in a /31.
    fn is_broadcast_domain(&self) -> bool {
        self.network.prefix_len() < LONGEST_V4_WITH_GATEWAY
    }

    fn first_host(&self) -> IpAddr {
        let (first, _) = bounds(&self.network);
        let skip = match self.family() {
            Family::V4 => u128::from(self.is_broadcast_domain()),
            Family::V6 => 1,
        };
        self.family().address(first + skip)
    }
}

impl TryFrom<SubnetConfig> for Subnet {
    type Error = SubnetError;

    fn try_from(config: SubnetConfig) -> Result<Self, SubnetError> {
        Self::new(config)
    }
}

impl From<Subnet> for SubnetConfig {
    /// The gateway comes out as what was settled on, so that a later change of the default moves no
    /// existing network.
    fn from(subnet: Subnet) -> Self {
        let Subnet {
            network,
            gateway,
            range,
            reserved,
        } = subnet;
        let gateway = gateway.map_or(GatewayChoice::None, GatewayChoice::At);
        Self {
            subnet: network,
            gateway,
            range,
            reserved,
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network => f.write_str("the network address"),
            Self::Broadcast => f.write_str("the broadcast address"),
            Self::RouterAnycast => f.write_str("the subnet-router anycast address"),
            Self::Gateway => f.write_str("the gateway"),
            Self::Reserved(purpose) => write!(f, "reserved ({purpose})"),
            Self::Endpoint => f.write_str("an endpoint's address"),
        }
    }
}

/// The longest prefix of a subnet that holds a gateway and an endpoint.
pub(crate) const fn longest_with_gateway(family: Family) -> u8 {
    match family {
        Family::V4 => LONGEST_V4_WITH_GATEWAY,
        Family::V6 => LONGEST_V6,
    }
}

#[cfg(test)]
mod tests;
