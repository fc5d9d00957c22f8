//! The subnets of one network: none overlaps another, nor a subnet of any other network.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::family::{Families, Family, overlap};
use crate::pool::{PoolError, Pools};
use crate::subnet::{Subnet, SubnetConfig, SubnetError};

/// A network's subnets, in the order in which the automatic choice goes through them. There is at
/// least one; there may be several of a family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<SubnetConfig>", into = "Vec<SubnetConfig>")]
pub struct Subnets(Vec<Subnet>);

/// The subnets that a new network should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetsRequest {
    /// Those that are named.
    pub subnets: Vec<SubnetConfig>,
    /// Families of which the network has a subnet in any case: if none is named, the pools give
    /// one.
    pub families: Families,
}

/// A subnet and the network it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedSubnet<'a> {
    /// The name of the network.
    pub network: &'a str,
    /// One of its subnets.
    pub subnet: IpNet,
}

/// Why a network cannot have these subnets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetsError {
    /// One of them is wrong by itself.
    #[error(transparent)]
    Subnet(#[from] SubnetError),
    /// The pools have none to give.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// Another network has these addresses.
    #[error("subnet {subnet} overlaps {other} of network {network}")]
    Overlap {
        /// The subnet as given.
        subnet: IpNet,
        /// What it runs into.
        other: IpNet,
        /// The network that has the latter.
        network: String,
    },
    /// Two of them share addresses.
    #[error("subnets {first} and {second} of the same network overlap")]
    SelfOverlap {
        /// The subnet listed first.
        first: IpNet,
        /// The subnet listed later.
        second: IpNet,
    },
    /// There is none.
    #[error("a network needs at least one subnet")]
    Empty,
}

impl Subnets {
    /// Checks the subnets of one network against each other.
    ///
    /// # Errors
    ///
    /// An empty list, or two subnets that overlap.
    pub fn new(subnets: Vec<Subnet>) -> Result<Self, SubnetsError> {
        if subnets.is_empty() {
            return Err(SubnetsError::Empty);
        }
        let networks: Vec<IpNet> = subnets.iter().map(Subnet::network).collect();
        for (position, second) in networks.iter().enumerate() {
            if let Some(first) = networks[..position]
                .iter()
                .find(|first| overlap(first, second))
            {
                return Err(SubnetsError::SelfOverlap {
                    first: *first,
                    second: *second,
                });
            }
        }
        Ok(Self(subnets))
    }

    /// Settles the subnets of a new network: those that are named, checked against the subnets of
    /// the `existing` networks, and one from the pools for every family that has none, clear of the
    /// host's routes in `avoid` too. A named subnet may overlap a route: that can be what is
    /// wanted, and the routes of a host change.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with a named subnet, an overlap, or pools without a free subnet.
    pub fn plan(
        request: &SubnetsRequest,
        pools: &Pools,
        existing: &[NamedSubnet<'_>],
        avoid: &[IpNet],
    ) -> Result<Self, SubnetsError> {
        let named = request.subnets.iter().cloned().map(Subnet::new);
        let mut subnets = named.collect::<Result<Vec<_>, _>>()?;
        for subnet in &subnets {
            refuse_overlap(subnet, existing)?;
        }
        let taken: Vec<IpNet> = existing
            .iter()
            .map(|existing| existing.subnet)
            .chain(subnets.iter().map(Subnet::network))
            .collect();
        let missing = request
            .families
            .iter()
            .filter(|family| subnets.iter().all(|subnet| subnet.family() != *family))
            .collect::<Families>();
        for family in missing.iter() {
            let subnet = pools.carve(family, &taken, avoid)?;
            subnets.push(Subnet::new(subnet.into())?);
        }
        Self::new(subnets)
    }

    /// Checks that no subnet overlaps one of another network, as when stored networks are read
    /// back.
    ///
    /// # Errors
    ///
    /// The first overlap.
    pub fn check_apart(&self, others: &[NamedSubnet<'_>]) -> Result<(), SubnetsError> {
        self.0
            .iter()
            .try_for_each(|subnet| refuse_overlap(subnet, others))
    }

    /// The subnets in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Subnet] {
        &self.0
    }

    /// The subnets of one family, in order.
    pub fn of_family(&self, family: Family) -> impl Iterator<Item = &Subnet> {
        self.0
            .iter()
            .filter(move |subnet| subnet.family() == family)
    }

    /// The subnet that contains the address.
    #[must_use]
    pub fn containing(&self, address: IpAddr) -> Option<&Subnet> {
        self.0
            .iter()
            .find(|subnet| subnet.network().contains(&address))
    }

    /// The families of which there is a subnet.
    #[must_use]
    pub fn families(&self) -> Families {
        self.0.iter().map(Subnet::family).collect()
    }

    /// The router's addresses, each with the prefix length of its subnet.
    pub fn gateways(&self) -> impl Iterator<Item = IpNet> {
        self.0
            .iter()
            .filter_map(|subnet| subnet.gateway().map(|address| subnet.with_prefix(address)))
    }

    pub(crate) fn into_inner(self) -> Vec<Subnet> {
        self.0
    }
}

impl TryFrom<Vec<SubnetConfig>> for Subnets {
    type Error = SubnetsError;

    fn try_from(configs: Vec<SubnetConfig>) -> Result<Self, SubnetsError> {
        Self::new(
            configs
                .into_iter()
                .map(Subnet::new)
                .collect::<Result<Vec<_>, _>>()?,
        )
    }
}

impl From<Subnets> for Vec<SubnetConfig> {
    fn from(subnets: Subnets) -> Self {
        subnets.0.into_iter().map(SubnetConfig::from).collect()
    }
}

fn refuse_overlap(subnet: &Subnet, others: &[NamedSubnet<'_>]) -> Result<(), SubnetsError> {
    let subnet = subnet.network();
    match others.iter().find(|other| overlap(&other.subnet, &subnet)) {
        None => Ok(()),
        Some(other) => Err(SubnetsError::Overlap {
            subnet,
            other: other.subnet,
            network: other.network.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn pools() -> Pools {
        let pool = |base, size| Pool {
            base: net(base),
            size,
        };
        Pools::new(vec![pool("10.64.0.0/16", 24), pool("fd00:64::/48", 64)]).unwrap()
    }

    fn plan(
        named: &[&str],
        families: Families,
        existing: &[(&str, &str)],
    ) -> Result<Vec<String>, String> {
        let request = SubnetsRequest {
            subnets: named.iter().map(|text| net(text).into()).collect(),
            families,
        };
        let existing: Vec<NamedSubnet<'_>> = existing
            .iter()
            .map(|(network, subnet)| NamedSubnet {
                network,
                subnet: net(subnet),
            })
            .collect();
        let routes = [net("10.64.0.0/24"), net("fd00:64::/64"), net("0.0.0.0/0")];
        let subnets = Subnets::plan(&request, &pools(), &existing, &routes);
        let list = |subnets: Subnets| {
            subnets
                .as_slice()
                .iter()
                .map(|subnet| subnet.network().to_string())
                .collect()
        };
        subnets.map(list).map_err(|error| error.to_string())
    }

    #[test]
    fn families_without_a_named_subnet_get_one_from_the_pools() {
        for (named, families, existing, expected) in [
            (
                &[][..],
                Families::BOTH,
                &[][..],
                &["10.64.1.0/24", "fd00:64:0:1::/64"][..],
            ),
            (
                &[],
                Families::V4,
                &[("lab", "10.64.1.0/24")],
                &["10.64.2.0/24"],
            ),
            (
                &[],
                Families::V6,
                &[("lab", "10.64.1.0/24")],
                &["fd00:64:0:1::/64"],
            ),
            (&["10.9.0.0/16"], Families::V4, &[], &["10.9.0.0/16"]),
            (
                &["10.9.0.0/16"],
                Families::BOTH,
                &[],
                &["10.9.0.0/16", "fd00:64:0:1::/64"],
            ),
            // A family that is named but not demanded is had all the same.
            (&["fd09::/64"], Families::NONE, &[], &["fd09::/64"]),
            (
                &["10.9.0.0/16", "10.10.0.0/16", "fd09::/64", "fd0a::/64"],
                Families::BOTH,
                &[],
                &["10.9.0.0/16", "10.10.0.0/16", "fd09::/64", "fd0a::/64"],
            ),
            // The user may know better than the routing table.
            (&["10.64.0.0/24"], Families::V4, &[], &["10.64.0.0/24"]),
        ] {
            let expected = expected.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(plan(named, families, existing), Ok(expected), "{named:?}");
        }
    }

    #[test]
    fn overlaps_are_refused_with_the_name_of_the_other_network() {
        let existing = [("lab", "10.9.0.0/16"), ("web", "fd09::/64")];
        for (named, message) in [
            (
                &["10.9.4.0/24"][..],
                "subnet 10.9.4.0/24 overlaps 10.9.0.0/16 of network lab",
            ),
            (
                &["10.0.0.0/8"],
                "subnet 10.0.0.0/8 overlaps 10.9.0.0/16 of network lab",
            ),
            (
                &["fd09::/64"],
                "subnet fd09::/64 overlaps fd09::/64 of network web",
            ),
            (
                &["fd09::/48"],
                "subnet fd09::/48 overlaps fd09::/64 of network web",
            ),
            (
                &["10.8.0.0/16", "fd08::/64", "10.8.3.0/24"],
                "subnets 10.8.0.0/16 and 10.8.3.0/24 of the same network overlap",
            ),
            (
                &["10.8.0.1/16"],
                "subnet 10.8.0.1/16 has host bits set; the network is 10.8.0.0/16",
            ),
            (&[], "a network needs at least one subnet"),
        ] {
            assert_eq!(
                plan(named, Families::NONE, &existing),
                Err(message.to_owned())
            );
        }
        let full = plan(&["10.64.0.0/15"], Families::V4, &[("all", "fd00:64::/48")]);
        assert_eq!(full, Ok(vec!["10.64.0.0/15".to_owned()]));
        let full = plan(&[], Families::V6, &[("all", "fd00:64::/48")]).unwrap_err();
        assert!(
            full.starts_with("all 65536 IPv6 subnets of the pools are taken"),
            "{full}"
        );
    }

    #[test]
    fn stored_networks_are_checked_against_each_other() {
        let subnets =
            Subnets::try_from(vec![net("10.9.0.0/16").into(), net("fd09::/64").into()]).unwrap();
        let other = |subnet| {
            [NamedSubnet {
                network: "lab",
                subnet: net(subnet),
            }]
        };
        assert_eq!(subnets.check_apart(&other("10.10.0.0/16")), Ok(()));
        assert_eq!(
            subnets
                .check_apart(&other("fd09::/80"))
                .unwrap_err()
                .to_string(),
            "subnet fd09::/64 overlaps fd09::/80 of network lab"
        );
    }

    #[test]
    fn a_network_knows_its_gateways_families_and_whose_an_address_is() {
        let configs = ["10.9.0.0/16", "fd09::/64", "10.10.0.0/16"].map(|text| net(text).into());
        let subnets = Subnets::try_from(configs.to_vec()).unwrap();
        assert_eq!(subnets.families(), Families::BOTH);
        let gateways: Vec<String> = subnets.gateways().map(|net| net.to_string()).collect();
        assert_eq!(gateways, ["10.9.0.1/16", "fd09::1/64", "10.10.0.1/16"]);
        let of = |text: &str| {
            let subnet = subnets.containing(text.parse().unwrap());
            subnet.map(|subnet| subnet.network().to_string())
        };
        assert_eq!(of("10.10.7.7").as_deref(), Some("10.10.0.0/16"));
        assert_eq!(of("fd09::7").as_deref(), Some("fd09::/64"));
        assert_eq!(of("10.11.0.1"), None);
        assert_eq!(subnets.of_family(Family::V4).count(), 2);
        let text = serde_json::to_string(&subnets).unwrap();
        assert_eq!(serde_json::from_str::<Subnets>(&text).unwrap(), subnets);
        assert!(serde_json::from_str::<Subnets>("[]").is_err());
    }
}
