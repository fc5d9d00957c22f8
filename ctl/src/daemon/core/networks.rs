//! Networks: made, shown, removed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use heddle_ipam::{
    DEFAULT_QUARANTINE, Families, GatewayChoice, Leases, NamedSubnet, NetworkIdentity,
    SubnetConfig, Subnets, SubnetsError, SubnetsRequest,
};
use ipnet::IpNet;

use super::{Core, DEFAULT_MTU, Network, internal, lowest_free};
use crate::api::{
    ApiError, CreateNetwork, Driver, ErrorCode, Filtering, Name, RouteSpec, Uplink, UplinkSpec,
};
use crate::daemon::records::{NetworkRecord, network_key, put};
use crate::store::Change;

/// The smallest MTU of IPv4 (RFC 791 §3.2) and of IPv6 (RFC 8200 §5).
const SMALLEST_MTU_V4: u16 = 68;
const SMALLEST_MTU_V6: u16 = 1280;

impl Core {
    /// Checks a network to be made and settles what it leaves open. Changes nothing.
    pub(in crate::daemon) fn plan_network(
        &self,
        request: &CreateNetwork,
        host_routes: &[IpNet],
    ) -> Result<NetworkRecord, ApiError> {
        if self.networks.contains_key(&request.name.folded()) {
            let message = format!("a network named {} exists already", request.name);
            return Err(ApiError::new(ErrorCode::NameTaken, message));
        }
        check_ageing(request.ageing_seconds)?;
        let uplink = self.plan_uplink(request)?;
        let mtu = request.mtu.unwrap_or(DEFAULT_MTU);
        let families = families(request, mtu)?;
        let subnets = self.plan_subnets(request, families, &uplink, host_routes)?;
        for other in &request.route_to {
            self.network(other)?;
        }
        for route in &request.routes {
            self.check_route(request, &subnets, route)?;
        }
        let taken = self
            .networks
            .values()
            .map(|network| network.record.number)
            .collect();
        let number = lowest_free(&taken, u16::MAX)
            .ok_or_else(|| ApiError::new(ErrorCode::TooMany, "there are too many networks"))?;
        let identity = NetworkIdentity {
            name: request.name.to_string(),
            id: format!("{number}/{}", request.name.folded()),
            key: self.installation.key,
        };
        Ok(NetworkRecord {
            number,
            name: request.name.clone(),
            driver: request.driver,
            mtu,
            uplink,
            route_to: request.route_to.clone(),
            routes: request.routes.clone(),
            port_security: request.port_security,
            storm_control: request.storm_control,
            ageing_seconds: request.ageing_seconds,
            leases: Leases::new(identity, subnets, DEFAULT_QUARANTINE),
        })
    }

    fn plan_uplink(&self, request: &CreateNetwork) -> Result<Uplink, ApiError> {
        let uplink = request.uplink.clone().unwrap_or_default();
        if uplink.kind == UplinkSpec::None {
            if !uplink.addresses.is_empty() || !uplink.gateways.is_empty() {
                let message = "a network without an uplink has no outside address or gateway";
                return Err(ApiError::new(ErrorCode::InvalidAddress, message)
                    .hint("name the way out with --uplink"));
            }
            return Ok(uplink);
        }
        if request.internal {
            let message = format!(
                "an internal network has no uplink, and {} is one",
                uplink.kind
            );
            return Err(ApiError::new(ErrorCode::InvalidRequest, message)
                .hint("leave out --internal or --uplink"));
        }
        if uplink.addresses.is_empty() {
            // A leg that exists already has its addresses.
            if let Some(shared) = self.uplink_of_kind(&uplink.kind) {
                if uplink.filtering == Filtering::default() || uplink.filtering == shared.filtering
                {
                    return Ok(shared);
                }
                return Err(differs(&shared));
            }
            let message = format!("the uplink {} needs an address of its own", uplink.kind);
            return Err(ApiError::new(ErrorCode::InvalidAddress, message)
                .hint("give it one with -o uplink_address=ADDRESS/LENGTH"));
        }
        for gateway in &uplink.gateways {
            let on_link = uplink.addresses.iter().any(|own| own.contains(gateway));
            let own = uplink.addresses.iter().any(|own| own.addr() == *gateway);
            if own || !on_link && !is_link_local(gateway) {
                let message = format!("the uplink's gateway {gateway} is not on its link");
                return Err(ApiError::new(ErrorCode::InvalidAddress, message));
            }
        }
        // Networks that go out by one leg have its next hops and its filtering.
        let shared = self.uplink_like(&uplink).filter(|shared| *shared != uplink);
        shared.map_or(Ok(uplink), |shared| Err(differs(&shared)))
    }

    fn plan_subnets(
        &self,
        request: &CreateNetwork,
        families: Families,
        uplink: &Uplink,
        host_routes: &[IpNet],
    ) -> Result<Subnets, ApiError> {
        let mut gateways: BTreeSet<IpAddr> = request.gateways.iter().copied().collect();
        let configs = request.subnets.iter().map(|&subnet| {
            let own = gateways
                .iter()
                .copied()
                .find(|gateway| subnet.contains(gateway));
            let gateway = match own {
                Some(gateway) => {
                    gateways.remove(&gateway);
                    GatewayChoice::At(gateway)
                }
                None => GatewayChoice::First,
            };
            SubnetConfig {
                gateway,
                ..SubnetConfig::from(subnet)
            }
        });
        let subnets: Vec<SubnetConfig> = configs.collect();
        if let Some(gateway) = gateways.first() {
            let message = format!("the gateway {gateway} is in no subnet of the network");
            return Err(ApiError::new(ErrorCode::InvalidSubnet, message)
                .hint("name the subnet it belongs to with --subnet"));
        }
        let existing = self.taken_subnets(uplink);
        let named: Vec<NamedSubnet<'_>> = existing
            .iter()
            .map(|(network, subnet)| NamedSubnet {
                network,
                subnet: *subnet,
            })
            .collect();
        let plan = SubnetsRequest { subnets, families };
        Subnets::plan(&plan, &self.pools, &named, host_routes).map_err(subnets_error)
    }

    /// Subnets of other networks, and those of the links we go out by: neither may appear inside.
    fn taken_subnets(&self, uplink: &Uplink) -> Vec<(String, IpNet)> {
        let networks = self.networks.values().flat_map(|network| {
            let name = network.record.name.to_string();
            network.subnets().map(move |subnet| (name.clone(), subnet))
        });
        let links = self
            .networks
            .values()
            .map(|network| &network.record.uplink)
            .chain([uplink])
            .flat_map(|uplink| {
                let name = format!("(uplink {})", uplink.kind);
                uplink
                    .addresses
                    .iter()
                    .map(move |own| (name.clone(), own.trunc()))
            });
        networks.chain(links).collect()
    }

    fn check_route(
        &self,
        request: &CreateNetwork,
        subnets: &Subnets,
        route: &RouteSpec,
    ) -> Result<(), ApiError> {
        let bad = |problem: String| Err(ApiError::new(ErrorCode::InvalidSubnet, problem));
        if route.destination != route.destination.trunc() {
            let right = route.destination.trunc();
            return bad(format!(
                "{} is not a network; {right} is",
                route.destination
            ));
        }
        let same_family = route.destination.addr().is_ipv4() == route.via.is_ipv4();
        let reached = subnets.containing(route.via).is_some()
            || request.route_to.iter().any(|other| {
                self.network(other)
                    .is_ok_and(|other| other.subnets().any(|subnet| subnet.contains(&route.via)))
            });
        if !same_family || !reached {
            return bad(format!(
                "the route to {} leads via {}, which is in no subnet of {} or of a network it is \
                 routed to",
                route.destination, route.via, request.name
            ));
        }
        Ok(())
    }

    /// Makes a planned network, with its leg if it has one.
    pub(in crate::daemon) fn add_network(
        &mut self,
        record: NetworkRecord,
        leg: Option<heddle_switch::LegId>,
        leg_fault: Option<String>,
    ) -> Result<Vec<Change>, ApiError> {
        let name = record.name.clone();
        let change = put(network_key(&name), &record);
        let network = Network {
            record,
            leg,
            leg_fault,
            endpoints: BTreeMap::new(),
        };
        self.networks.insert(name.folded(), network);
        if let Err(error) = self.publish() {
            self.networks.remove(&name.folded());
            self.publish_former();
            return Err(error);
        }
        Ok(vec![change])
    }

    /// Removes a network that nobody uses. Its leg is to be closed by the caller if it was the last
    /// one to use it.
    pub(in crate::daemon) fn remove_network(
        &mut self,
        name: &Name,
    ) -> Result<(Option<heddle_switch::LegId>, Vec<Change>), ApiError> {
        let network = self.network(name)?;
        let sandboxes: Vec<&str> = network
            .endpoints
            .values()
            .map(|endpoint| endpoint.record.sandbox.as_str())
            .collect();
        if !sandboxes.is_empty() {
            let message = format!("network {name} is in use by {}", sandboxes.join(", "));
            return Err(ApiError::new(ErrorCode::NetworkInUse, message)
                .hint("detach them first: heddle detach NAME"));
        }
        let routing = self
            .networks
            .values()
            .find(|other| other.record.route_to.contains(name));
        if let Some(other) = routing {
            let message = format!("network {} is routed to {name}", other.record.name);
            return Err(ApiError::new(ErrorCode::NetworkInUse, message)
                .hint(format!("remove {} first", other.record.name)));
        }
        self.require_unnamed(name)?;
        let removed = self
            .networks
            .remove(&name.folded())
            .ok_or_else(|| internal("a network vanished"))?;
        let forgotten = self.forget_rules(name);
        self.publish()?;
        let leg = removed.leg.filter(|leg| !self.uses_leg(*leg));
        let changes = [Change::Delete(network_key(name))]
            .into_iter()
            .chain(forgotten);
        Ok((leg, changes.collect()))
    }
}

/// Families of which a network must have a subnet.
fn families(request: &CreateNetwork, mtu: u16) -> Result<Families, ApiError> {
    if mtu < SMALLEST_MTU_V4 {
        let message = format!("an MTU of {mtu} is too small; IPv4 needs {SMALLEST_MTU_V4}");
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    let has_v6 = request.subnets.iter().any(|subnet| subnet.addr().is_ipv6());
    if mtu < SMALLEST_MTU_V6 && has_v6 {
        let message =
            format!("an MTU of {mtu} is too small for IPv6, which needs {SMALLEST_MTU_V6}");
        return Err(ApiError::new(ErrorCode::InvalidRequest, message)
            .hint("leave out the IPv6 subnet, or raise the MTU"));
    }
    Ok(Families {
        v4: !request.no_ipv4,
        v6: !request.no_ipv6 && mtu >= SMALLEST_MTU_V6,
    })
}

fn check_ageing(seconds: u32) -> Result<(), ApiError> {
    let range = heddle_switch::fdb::AGEING_RANGE;
    if range.contains(&Duration::from_secs(seconds.into())) {
        return Ok(());
    }
    let message = format!(
        "an ageing time of {seconds} s is outside {} to {} s (IEEE 802.1Q)",
        range.start().as_secs(),
        range.end().as_secs()
    );
    Err(ApiError::new(ErrorCode::InvalidRequest, message))
}

fn differs(shared: &Uplink) -> ApiError {
    let message = format!(
        "another network goes out by {} with the same addresses, and with other gateways or another \
         filtering",
        shared.kind
    );
    ApiError::new(ErrorCode::InvalidRequest, message)
        .hint("say the same for both, or give this network's uplink an address of its own")
}

fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn subnets_error(error: SubnetsError) -> ApiError {
    let code = match &error {
        SubnetsError::Overlap { .. } | SubnetsError::SelfOverlap { .. } => ErrorCode::SubnetOverlap,
        SubnetsError::Pool(_) => ErrorCode::PoolExhausted,
        SubnetsError::Subnet(_) | SubnetsError::Empty => ErrorCode::InvalidSubnet,
    };
    let hint = matches!(error, SubnetsError::Pool(_))
        .then_some("name a free subnet with --subnet, or remove a network");
    ApiError::new(code, error.to_string()).maybe_hint(hint)
}

/// The driver as the dataplane calls it.
pub(super) fn driver(driver: Driver) -> heddle_switch::Driver {
    match driver {
        Driver::Bridge => heddle_switch::Driver::Bridge,
        Driver::L3 => heddle_switch::Driver::L3,
    }
}
