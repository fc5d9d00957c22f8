//! Pools: the stock from which networks get their subnets when the user names none.
//!
//! # Choosing a subnet
//!
//! [`Pools::carve`] walks the pools in order and takes the first subnet that shares no address with
//! an existing network nor with a route of the host. The answer depends on the arguments alone, so
//! the same host in the same state always gets the same subnet.
//!
//! Routes matter because a container that sits in a subnet the host reaches elsewhere (an office
//! behind a VPN, another engine's bridge) makes that place unreachable. A default route says
//! nothing of the kind, though, and VPN clients split theirs in pieces (`0.0.0.0/1` and
//! `128.0.0.0/1`, or everything but the local network in a dozen prefixes). Taking such a piece for
//! a place would leave no subnet at all; so routes shorter than [`SHORTEST_PLACE`] are not counted.
//!
//! # RFCs
//!
//! RFC 1918 (private IPv4), RFC 4193 (unique local IPv6).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::family::{Family, bounds, overlap};
use crate::special::{SpecialUse, special_use};
use crate::subnet::longest_with_gateway;

/// Prefix length below which a route is a piece of a default route rather than somebody's network:
/// no registry ever gave out more than a /8 of IPv4, and RFC 4193 §3.1 makes fd00::/8 the largest
/// private block of IPv6. (`fc00::/7`, which VPN clients push as part of their IPv6 default route,
/// is shorter.)
pub const SHORTEST_PLACE: u8 = 8;

/// IPv4 pools as (base, its prefix length), each carved into [`DEFAULT_SIZE_V4`].
///
/// The first two lie outside everything that Docker (172.17-172.31, 192.168), Podman
/// (10.88-10.255), the usual Kubernetes distributions (10.42, 10.43, 10.96, 10.244) and QEMU,
/// libslirp (10.0.2) pick from by themselves. The second comes to use when a VPN routes all of
/// 10/8, the third when it routes 172.16/12 as well.
const DEFAULT_V4: [(Ipv4Addr, u8); 3] = [
    (Ipv4Addr::new(10, 64, 0, 0), 12),
    (Ipv4Addr::new(172, 16, 128, 0), 17),
    (Ipv4Addr::new(192, 168, 192, 0), 18),
];

/// Prefix length of an automatic IPv4 subnet: 253 endpoints. The first default pool then holds
/// 4,096 networks; an engine that carves a /16 or a /20 for each is out of networks after 31.
pub const DEFAULT_SIZE_V4: u8 = 24;

/// Prefix length of an automatic IPv6 subnet, as address autoconfiguration needs it (RFC 4291
/// §2.5.1, RFC 4862 §5.5.3 d).
pub const DEFAULT_SIZE_V6: u8 = 64;

/// Prefix length of a unique local site: fd, 40 bits of global identifier (RFC 4193 §3.1).
const UNIQUE_LOCAL_PREFIX: u8 = 48;

/// Keeps the global identifier from being the hash of the seed for anything else.
const UNIQUE_LOCAL_CONTEXT: &[u8] = b"heddle unique local prefix\0";

/// A block of addresses and the size of the subnets carved from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The block.
    pub base: IpNet,
    /// Prefix length of each subnet.
    pub size: u8,
}

/// Pools that were checked, in the order in which they are used up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Pool>", into = "Vec<Pool>")]
pub struct Pools(Vec<Pool>);

/// Why pools are refused, or have nothing to give.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The base has bits set beyond its prefix.
    #[error("pool {base} has host bits set; the network is {network}")]
    HostBits {
        /// The base as given.
        base: IpNet,
        /// What would be right.
        network: IpNet,
    },
    /// The base shares addresses with a block that no subnet may contain.
    #[error("pool {base} contains {purpose} addresses ({block})")]
    Special {
        /// The base as given.
        base: IpNet,
        /// The block it runs into.
        block: IpNet,
        /// What that block is for.
        purpose: SpecialUse,
    },
    /// The subnets are larger than the pool or too small to hold an endpoint.
    #[error(
        "pool {base} cannot be carved into /{size}: from /{shortest} to /{longest} is possible"
    )]
    Size {
        /// The base as given.
        base: IpNet,
        /// The size as given.
        size: u8,
        /// The shortest prefix: the pool as one subnet.
        shortest: u8,
        /// The longest prefix that leaves room for a gateway and an endpoint.
        longest: u8,
    },
    /// Two pools share addresses.
    #[error("pools {first} and {second} overlap")]
    Overlap {
        /// The pool listed first.
        first: IpNet,
        /// The pool listed later.
        second: IpNet,
    },
    /// No pool of this family exists.
    #[error("no {family} pool is configured to take a subnet from")]
    NoPool {
        /// The family asked for.
        family: Family,
    },
    /// Every subnet is in use or shadowed by a route.
    #[error(
        "all {total} {family} subnets of the pools are taken: {by_networks} by networks, \
         {by_routes} by routes of the host{}",
        .widest_route.map(|route| format!(" (the widest is {route})")).unwrap_or_default()
    )]
    Exhausted {
        /// The family asked for.
        family: Family,
        /// Subnets in all pools of the family.
        total: u128,
        /// Those that overlap an existing network.
        by_networks: u128,
        /// Those that overlap only a route of the host.
        by_routes: u128,
        /// The shortest prefix among the routes that stand in the way.
        widest_route: Option<IpNet>,
    },
}

impl Pool {
    /// The pool of unique local IPv6 addresses (RFC 4193) that belongs to `seed`, in /64s.
    ///
    /// The same seed always gives the same prefix; the seed should be unique to this installation
    /// (random and stored, or a machine identifier), which makes the prefix so too. RFC 4193 §3.2.2
    /// hashes the time and an EUI-64 with SHA-1 and keeps the least significant 40 bits; the seed
    /// stands for the former and SHA-256 for the latter, which §3.2.2 leaves open.
    #[must_use]
    pub fn unique_local(seed: &[u8]) -> Self {
        let digest = Sha256::new()
            .chain_update(UNIQUE_LOCAL_CONTEXT)
            .chain_update(seed)
            .finalize();
        let [.., a, b, c, d, e] = digest.0;
        let site = [0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        Self {
            base: IpNet::V6(Ipv6Net::new_assert(
                Ipv6Addr::from(site),
                UNIQUE_LOCAL_PREFIX,
            )),
            size: DEFAULT_SIZE_V6,
        }
    }

    fn check(&self) -> Result<(), PoolError> {
        let base = self.base;
        if base != base.trunc() {
            return Err(PoolError::HostBits {
                base,
                network: base.trunc(),
            });
        }
        if let Some((block, purpose)) = special_use(&base) {
            return Err(PoolError::Special {
                base,
                block,
                purpose,
            });
        }
        let (shortest, longest) = (base.prefix_len(), longest_with_gateway(base.into()));
        if !(shortest..=longest).contains(&self.size) {
            return Err(PoolError::Size {
                base,
                size: self.size,
                shortest,
                longest,
            });
        }
        Ok(())
    }

    /// How many subnets the pool holds.
    fn subnets(&self) -> u128 {
        1 << (self.size - self.base.prefix_len())
    }

    /// The subnet at `index`, counted from the start of the base.
    fn subnet(&self, index: u128) -> IpNet {
        let family = Family::from(self.base);
        let (first, _) = bounds(&self.base);
        let address = family.address(first + index * self.subnet_size());
        IpNet::new(address, self.size).expect("the size was checked to be a prefix of the family")
    }

    /// The first and the last subnet, as indices, that share addresses with `net`.
    fn shadow(&self, net: &IpNet) -> Option<(u128, u128)> {
        if !overlap(&self.base, net) {
            return None;
        }
        let (pool_first, pool_last) = bounds(&self.base);
        let (first, last) = bounds(net);
        let index = |number: u128| (number - pool_first) / self.subnet_size();
        Some((index(first.max(pool_first)), index(last.min(pool_last))))
    }

    fn subnet_size(&self) -> u128 {
        1 << (Family::from(self.base).bits() - self.size)
    }

    /// The shadows of all these networks, in ascending order, each clear of the one before.
    fn shadows<'a>(&self, nets: impl Iterator<Item = &'a IpNet>) -> Vec<(u128, u128)> {
        let mut shadows: Vec<(u128, u128)> = nets.filter_map(|net| self.shadow(net)).collect();
        shadows.sort_unstable();
        shadows.dedup_by(|next, kept| {
            let nested = next.0 <= kept.1;
            if nested {
                kept.1 = kept.1.max(next.1);
            }
            nested
        });
        shadows
    }
}

impl Pools {
    /// Checks the pools. They are used up in the order given; an empty list is allowed and means
    /// that every network names its subnets.
    ///
    /// # Errors
    ///
    /// A pool with host bits set, of special addresses, with a size that cannot be carved from it,
    /// or overlapping another one.
    pub fn new(pools: Vec<Pool>) -> Result<Self, PoolError> {
        for (position, pool) in pools.iter().enumerate() {
            pool.check()?;
            if let Some(other) = pools[..position]
                .iter()
                .find(|p| overlap(&p.base, &pool.base))
            {
                return Err(PoolError::Overlap {
                    first: other.base,
                    second: pool.base,
                });
            }
        }
        Ok(Self(pools))
    }

    /// The default pools: private IPv4 that other engines leave alone, and the
    /// [unique local](Pool::unique_local) prefix of `seed`.
    #[must_use]
    pub fn for_containers(seed: &[u8]) -> Self {
        let v4 = DEFAULT_V4.map(|(address, prefix)| Pool {
            base: IpNet::V4(Ipv4Net::new_assert(address, prefix)),
            size: DEFAULT_SIZE_V4,
        });
        Self(v4.into_iter().chain([Pool::unique_local(seed)]).collect())
    }

    /// The pools in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Pool] {
        &self.0
    }

    /// The first subnet of the family that overlaps neither `taken`, the subnets of existing
    /// networks, nor `avoid`, the routes of the host (default routes and pieces of one are
    /// ignored). Networks of the other family may be among both.
    ///
    /// # Errors
    ///
    /// No pool of the family, or none of its subnets free.
    pub fn carve(
        &self,
        family: Family,
        taken: &[IpNet],
        avoid: &[IpNet],
    ) -> Result<IpNet, PoolError> {
        let mut pools = self
            .0
            .iter()
            .filter(|pool| Family::from(pool.base) == family)
            .peekable();
        if pools.peek().is_none() {
            return Err(PoolError::NoPool { family });
        }
        let places = || {
            avoid
                .iter()
                .filter(|route| route.prefix_len() >= SHORTEST_PLACE)
        };
        let (mut total, mut by_networks) = (0, 0);
        let mut widest_route: Option<IpNet> = None;
        for pool in pools {
            let shadows = pool.shadows(taken.iter().chain(places()));
            let mut index = 0;
            for (first, last) in shadows {
                if index < first {
                    break;
                }
                index = last + 1;
            }
            if index < pool.subnets() {
                return Ok(pool.subnet(index));
            }
            total += pool.subnets();
            by_networks += covered(&pool.shadows(taken.iter()));
            widest_route = places()
                .filter(|route| pool.shadow(route).is_some())
                .map(IpNet::trunc)
                .chain(widest_route)
                .min_by_key(|route| (route.prefix_len(), *route));
        }
        let by_routes = total - by_networks;
        Err(PoolError::Exhausted {
            family,
            total,
            by_networks,
            by_routes,
            widest_route,
        })
    }
}

impl TryFrom<Vec<Pool>> for Pools {
    type Error = PoolError;

    fn try_from(pools: Vec<Pool>) -> Result<Self, PoolError> {
        Self::new(pools)
    }
}

impl From<Pools> for Vec<Pool> {
    fn from(pools: Pools) -> Self {
        pools.0
    }
}

/// How many subnets these shadows, clear of each other, cover.
fn covered(shadows: &[(u128, u128)]) -> u128 {
    shadows.iter().map(|(first, last)| last - first + 1).sum()
}

#[cfg(test)]
mod tests;
