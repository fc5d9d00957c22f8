//! The state as the dataplane wants it.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use heddle_nat::Published;
use heddle_switch::leg::{Leg, NoLeg};
use heddle_switch::{
    Config, ConfigParts, GATEWAY_LINK_LOCAL, NetworkId, StaticRoute, StormControl,
};
use heddle_wire::Address;
use ipnet::IpNet;

use super::networks::driver;
use super::{Core, Network, internal};
use crate::api::ApiError;

impl Core {
    /// The configuration for the dataplane. Only what frames can flow through is in it.
    pub(super) fn build(&self) -> Result<Config, ApiError> {
        let networks = self.networks.values();
        let ports = networks
            .clone()
            .flat_map(|network| network.endpoints.values())
            .filter_map(|endpoint| endpoint.port.clone())
            .chain(self.legs.values().filter_map(|leg| leg.port.clone()))
            .collect();
        let published =
            Published::new(self.publications()).map_err(|error| internal(&error.to_string()))?;
        Config::new(ConfigParts {
            ports,
            networks: networks
                .map(|network| Arc::new(self.build_network(network)))
                .collect(),
            legs: self.legs.values().map(|leg| leg.config.clone()).collect(),
            published,
            rules: self.build_rules()?,
        })
        .map_err(|error| internal(&error.to_string()))
    }

    fn build_network(&self, network: &Network) -> heddle_switch::Network {
        let record = &network.record;
        let subnets: Vec<IpNet> = network.subnets().collect();
        let mut gateways: Vec<Address> = network.gateways().map(Address::from).collect();
        if subnets.iter().any(|subnet| subnet.addr().is_ipv6()) {
            gateways.push(GATEWAY_LINK_LOCAL);
        }
        let mut routes: Vec<StaticRoute> = record
            .routes
            .iter()
            .map(|route| StaticRoute {
                destination: route.destination,
                via: route.via.into(),
            })
            .collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.destination.prefix_len()));
        let uplink: Arc<dyn Leg> = match network.leg.and_then(|id| self.legs.get(&id)) {
            Some(leg) => leg.config.clone(),
            None => Arc::new(NoLeg),
        };
        heddle_switch::Network {
            id: NetworkId(record.number),
            name: record.name.to_string(),
            driver: driver(record.driver),
            mtu: record.mtu,
            gateway_mac: record.leases.gateway_mac(),
            gateways,
            subnets,
            routes,
            reaches: self.reaches(network),
            uplink,
            ports: network
                .endpoints
                .values()
                .filter(|endpoint| endpoint.port.is_some())
                .map(|endpoint| endpoint.number)
                .collect(),
            storm_control: NonZeroU32::new(record.storm_control)
                .map_or(StormControl::OFF, StormControl::frames),
            ageing: Duration::from_secs(record.ageing_seconds.into()),
        }
    }

    /// Networks that packets of this one may be routed to: routing is configured on one side and
    /// holds for both, or answers would not come back.
    fn reaches(&self, network: &Network) -> Vec<NetworkId> {
        let reached: BTreeSet<u16> = self
            .networks
            .values()
            .filter(|other| {
                network.record.route_to.contains(&other.record.name)
                    || other.record.route_to.contains(&network.record.name)
            })
            .map(|other| other.record.number)
            .collect();
        reached.into_iter().map(NetworkId).collect()
    }
}
