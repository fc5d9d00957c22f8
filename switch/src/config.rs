//! The configuration a frame is processed under: an immutable snapshot.
//!
//! The control plane builds a whole new [`Config`] for every change, checks it, and publishes it; a
//! worker takes it up between two bursts. So a frame sees all of a change or none, and nothing here
//! needs a lock. Parts that did not change are shared with the snapshot before.

mod hosts;
mod subnets;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use heddle_nat::Published;
use heddle_nat::filter::RuleSet;
use heddle_wire::{Address, Family, MacAddr};
use ipnet::IpNet;
use thiserror::Error;

use hosts::Hosts;
use subnets::Subnets;

use crate::leg::{Leg, PortLeg};
use crate::port::{LegId, NetworkId, Port, PortId, Role};
use crate::prefix;
use crate::storm::StormControl;

/// The gateway's link-local address in every network (design: the same everywhere, so that a
/// default route never changes).
pub const GATEWAY_LINK_LOCAL: Address = Address::from_bits(0xfe80_u128 << 112 | 1);

/// How the endpoints of a network are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Driver {
    /// A learning bridge with a gateway on it.
    Bridge,
    /// Routed like ipvlan's L3 mode: no ARP, no broadcast, every packet goes to the router.
    L3,
}

/// A route to addresses behind an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StaticRoute {
    /// Where it leads.
    pub destination: IpNet,
    /// An endpoint's address, in this network or one it is routed to.
    pub via: Address,
}

/// A set of endpoints that may talk, and the gateway among them.
#[derive(Debug)]
pub struct Network {
    /// Its number.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// How its endpoints are joined.
    pub driver: Driver,
    /// Longest IP packet, in octets.
    pub mtu: u16,
    /// The gateway's MAC address.
    pub gateway_mac: MacAddr,
    /// The gateway's addresses, [`GATEWAY_LINK_LOCAL`] among them if the network has IPv6.
    pub gateways: Vec<Address>,
    /// Subnets of the network.
    pub subnets: Vec<IpNet>,
    /// Routes to addresses behind its endpoints, in any order.
    pub routes: Vec<StaticRoute>,
    /// Networks it is routed to.
    pub reaches: Vec<NetworkId>,
    /// The way out.
    pub uplink: Arc<dyn Leg>,
    /// Its ports: where a flooded frame goes.
    pub ports: Vec<PortId>,
    /// How much each of them may flood.
    pub storm_control: StormControl,
    /// How long a station that is silent is remembered.
    pub ageing: Duration,
}

impl Network {
    /// Whether the network carries packets of a family. A network without a subnet of a family does
    /// not switch it at all, link-local included (CVE-2024-32473).
    #[inline]
    #[must_use]
    pub fn carries(&self, family: Family) -> bool {
        self.subnets
            .iter()
            .any(|subnet| family_of(subnet) == family)
    }

    /// Whether packets may be routed from here to `other`.
    #[must_use]
    pub fn reaches(&self, other: NetworkId) -> bool {
        other == self.id || self.reaches.contains(&other)
    }

    /// The longest of its routes that leads to `destination` (RFC 1812 §5.2.4.3).
    #[must_use]
    pub fn route_to(&self, destination: Address) -> Option<&StaticRoute> {
        self.routes
            .iter()
            .filter(|route| prefix::contains(&route.destination, destination))
            .max_by_key(|route| route.destination.prefix_len())
    }

    /// The gateway's address that a host at `address` would see as its neighbour: the one in its
    /// subnet, for IPv6 the link-local one.
    #[must_use]
    pub fn gateway_towards(&self, address: Address) -> Option<Address> {
        let subnet = self
            .subnets
            .iter()
            .find(|subnet| subnet.contains(&address.to_ip()))?;
        let in_subnet = |gateway: &&Address| subnet.contains(&gateway.to_ip());
        match address.family() {
            Family::V4 => self.gateways.iter().find(in_subnet).copied(),
            Family::V6 => Some(GATEWAY_LINK_LOCAL),
        }
    }
}

fn family_of(subnet: &IpNet) -> Family {
    match subnet {
        IpNet::V4(_) => Family::V4,
        IpNet::V6(_) => Family::V6,
    }
}

/// Everything a configuration is made of.
#[derive(Debug, Default)]
pub struct ConfigParts {
    /// The ports, in any order.
    pub ports: Vec<Arc<Port>>,
    /// The networks, in any order.
    pub networks: Vec<Arc<Network>>,
    /// The legs that have a port, in any order.
    pub legs: Vec<Arc<PortLeg>>,
    /// What is published on the legs' addresses.
    pub published: Published,
    /// The rules that packets must pass.
    pub rules: RuleSet,
}

/// Why a configuration is refused. The control plane has checked what users can get wrong; these are
/// contradictions.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// Two ports, networks or legs with one number.
    #[error("{0} {1} exists twice")]
    Twice(&'static str, u16),
    /// A reference to something that is not there.
    #[error("{0} {1} does not exist")]
    Missing(&'static str, u16),
    /// A leg's number for which there is no zone, see [`LegId::LAST`].
    #[error("{0} {1} has too high a number")]
    Number(&'static str, u16),
    /// A port that is listed where it does not belong, or not listed where it does.
    #[error("port {0} and its network or leg do not agree that it belongs there")]
    Membership(u16),
    /// Two endpoints, or an endpoint and a gateway, with one address.
    #[error("address {0} is given twice")]
    AddressTwice(Address),
    /// Two stations of a bridge with one MAC address, the gateway being one of them.
    #[error("MAC address {0} is given to two stations of one network")]
    MacTwice(MacAddr),
    /// Two subnets with common addresses.
    #[error("subnets {0} and {1} overlap")]
    Overlap(IpNet, IpNet),
}

/// A configuration.
#[derive(Debug, Default)]
pub struct Config {
    ports: Vec<Option<Arc<Port>>>,
    networks: Vec<Option<Arc<Network>>>,
    legs: Vec<Option<Arc<PortLeg>>>,
    /// Endpoint addresses that are unique everywhere: all but link-local ones.
    hosts: Hosts,
    subnets: Subnets,
    published: Published,
    /// Nothing where there is no rule: then it costs a frame one look.
    rules: Option<Arc<RuleSet>>,
}

impl Config {
    /// Checks the parts against each other.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]
    pub fn new(parts: ConfigParts) -> Result<Config, ConfigError> {
        let ConfigParts {
            ports,
            networks,
            legs,
            published,
            rules,
        } = parts;
        let ports = place("port", ports, |port| port.id.0)?;
        let networks = place("network", networks, |network| network.id.0)?;
        let legs = place("leg", legs, |leg| leg.id.0)?;
        if let Some(number) = (legs.len().checked_sub(1)).and_then(|last| u16::try_from(last).ok())
            && number > LegId::LAST.0
        {
            return Err(ConfigError::Number("leg", number));
        }
        let subnets = Subnets::of(&networks)?;
        let hosts = collect_hosts(&ports, &networks)?;
        let config = Config {
            ports,
            networks,
            legs,
            hosts,
            subnets,
            published,
            rules: (!rules.is_empty()).then(|| Arc::new(rules)),
        };
        config.check_references()?;
        config.check_stations()?;
        config.check_legs()?;
        Ok(config)
    }

    /// The same without some ports; whatever names one of them leads nowhere.
    pub(crate) fn without(&self, removed: &[Arc<Port>]) -> Config {
        let is_removed = |id: PortId| removed.iter().any(|port| port.id == id);
        let Config {
            ports,
            networks,
            legs,
            hosts,
            subnets,
            published,
            rules,
        } = self;
        let ports = ports
            .iter()
            .map(|port| port.clone().filter(|port| !is_removed(port.id)))
            .collect();
        let hosts: Vec<_> = hosts
            .iter()
            .filter(|&(_, port)| !is_removed(port))
            .collect();
        let hosts = Hosts::new(&hosts);
        Config {
            ports,
            networks: networks.clone(),
            legs: legs.clone(),
            hosts,
            subnets: subnets.clone(),
            published: published.clone(),
            rules: rules.clone(),
        }
    }

    fn check_references(&self) -> Result<(), ConfigError> {
        for port in self.ports() {
            match port.role {
                Role::Member { network, .. } if self.network(network).is_none() => {
                    return Err(ConfigError::Missing("network", network.0));
                }
                Role::Leg(leg) if self.leg(leg).is_none() => {
                    return Err(ConfigError::Missing("leg", leg.0));
                }
                _ => {}
            }
        }
        for network in self.rules().into_iter().flat_map(RuleSet::networks) {
            if self.network(NetworkId(network.0)).is_none() {
                return Err(ConfigError::Missing("network", network.0));
            }
        }
        let mut listed = HashSet::new();
        for network in self.networks() {
            for &id in &network.ports {
                let port = self.port(id).ok_or(ConfigError::Missing("port", id.0))?;
                if port.network() != Some(network.id) || !listed.insert(id) {
                    return Err(ConfigError::Membership(id.0));
                }
            }
        }
        for leg in self.legs() {
            let port = self.port(leg.port);
            let port = port.ok_or(ConfigError::Missing("port", leg.port.0))?;
            if !matches!(port.role, Role::Leg(id) if id == leg.id) {
                return Err(ConfigError::Membership(leg.port.0));
            }
            listed.insert(leg.port);
        }
        if let Some(port) = self.ports().find(|port| !listed.contains(&port.id)) {
            return Err(ConfigError::Membership(port.id.0));
        }
        Ok(())
    }

    /// On a bridge a MAC address is one station, and the gateway is one of them. In an l3 network
    /// nobody looks for anybody by MAC address.
    fn check_stations(&self) -> Result<(), ConfigError> {
        let mut stations: HashSet<(NetworkId, MacAddr)> = self
            .networks()
            .map(|network| (network.id, network.gateway_mac))
            .collect();
        for port in self.ports() {
            let Role::Member { network, identity } = &port.role else {
                continue;
            };
            let driver = self.network(*network).map(|network| network.driver);
            if driver != Some(Driver::Bridge) {
                continue;
            }
            for &mac in &identity.macs {
                if !stations.insert((*network, mac)) {
                    return Err(ConfigError::MacTwice(mac));
                }
            }
        }
        Ok(())
    }

    /// A leg whose own address were inside a network could never be spoken to.
    fn check_legs(&self) -> Result<(), ConfigError> {
        for own in self.legs().flat_map(|leg| &leg.addresses) {
            if let Some((subnet, _)) = self.subnet_of(own.addr().into()) {
                return Err(ConfigError::Overlap(*own, *subnet));
            }
        }
        Ok(())
    }

    /// A port by its number.
    #[inline]
    #[must_use]
    pub fn port(&self, id: PortId) -> Option<&Arc<Port>> {
        self.ports.get(id.index())?.as_ref()
    }

    /// A network by its number.
    #[inline]
    #[must_use]
    pub fn network(&self, id: NetworkId) -> Option<&Arc<Network>> {
        self.networks.get(id.index())?.as_ref()
    }

    /// A leg by its number.
    #[inline]
    #[must_use]
    pub fn leg(&self, id: LegId) -> Option<&Arc<PortLeg>> {
        self.legs.get(id.index())?.as_ref()
    }

    /// All ports.
    pub fn ports(&self) -> impl Iterator<Item = &Arc<Port>> {
        self.ports.iter().flatten()
    }

    /// All networks.
    pub fn networks(&self) -> impl Iterator<Item = &Arc<Network>> {
        self.networks.iter().flatten()
    }

    /// All legs that have a port.
    pub fn legs(&self) -> impl Iterator<Item = &Arc<PortLeg>> {
        self.legs.iter().flatten()
    }

    /// The rules that packets must pass, if there are any.
    #[inline]
    #[must_use]
    pub fn rules(&self) -> Option<&RuleSet> {
        self.rules.as_deref()
    }

    /// What is published.
    #[must_use]
    pub fn published(&self) -> &Published {
        &self.published
    }

    /// The endpoint that has an address, link-local ones excepted.
    #[inline]
    #[must_use]
    pub fn host(&self, address: Address) -> Option<PortId> {
        self.hosts.find(address)
    }

    /// The subnet an address is in, and its network.
    #[inline]
    #[must_use]
    pub fn subnet_of(&self, address: Address) -> Option<(&IpNet, NetworkId)> {
        self.subnets.find(address)
    }
}

/// Puts things at the position of their number.
fn place<T>(
    what: &'static str,
    things: Vec<Arc<T>>,
    number: impl Fn(&T) -> u16,
) -> Result<Vec<Option<Arc<T>>>, ConfigError> {
    let len = things
        .iter()
        .map(|thing| usize::from(number(thing)) + 1)
        .max()
        .unwrap_or(0);
    let mut placed = vec![None; len];
    for thing in things {
        let number = number(&thing);
        let place = &mut placed[usize::from(number)];
        if place.is_some() {
            return Err(ConfigError::Twice(what, number));
        }
        *place = Some(thing);
    }
    Ok(placed)
}

/// Where each address is; fails if it is at two places, a gateway's own addresses included.
fn collect_hosts(
    ports: &[Option<Arc<Port>>],
    networks: &[Option<Arc<Network>>],
) -> Result<Hosts, ConfigError> {
    let is_unique = |address: &&Address| !address.is_link_local();
    let mut gateways = HashSet::new();
    for network in networks.iter().flatten() {
        for &address in network.gateways.iter().filter(is_unique) {
            if !gateways.insert(address) {
                return Err(ConfigError::AddressTwice(address));
            }
        }
    }
    let mut hosts = HashMap::new();
    for port in ports.iter().flatten() {
        let Role::Member { identity, .. } = &port.role else {
            continue;
        };
        for &address in identity.addresses().iter().filter(is_unique) {
            if gateways.contains(&address) || hosts.insert(address, port.id).is_some() {
                return Err(ConfigError::AddressTwice(address));
            }
        }
    }
    let hosts: Vec<_> = hosts.into_iter().collect();
    Ok(Hosts::new(&hosts))
}

#[cfg(test)]
mod tests;
