//! Published ports: checked against each other, given a number where none was named, withdrawn.

use std::net::IpAddr;

use heddle_nat::Publication;
use heddle_wire::{Address, Protocol};

use super::{Core, Endpoint, Network};
use crate::api::{ApiError, ErrorCode, Name, PortProtocol, PortSpec, PublishedPort, UplinkSpec};
use crate::daemon::records::{EndpointRecord, endpoint_key, put};
use crate::store::Change;

/// Where ports are taken from that nobody named (RFC 6335 §6, dynamic ports).
const FIRST_DYNAMIC: u16 = 49152;

impl Core {
    /// Checks the ports that an endpoint to be made wants, and chooses numbers where none is named.
    pub(super) fn plan_ports(
        &self,
        network: &Name,
        sandbox: &Name,
        specs: &[PortSpec],
    ) -> Result<Vec<PortSpec>, ApiError> {
        let mut planned: Vec<PortSpec> = Vec::with_capacity(specs.len());
        for spec in specs {
            let spec = self.plan_port(network, sandbox, spec, &planned)?;
            planned.push(spec);
        }
        Ok(planned)
    }

    /// `planned` are ports of the same endpoint that are not in the state yet.
    fn plan_port(
        &self,
        network: &Name,
        sandbox: &Name,
        spec: &PortSpec,
        planned: &[PortSpec],
    ) -> Result<PortSpec, ApiError> {
        let found = self.network(network)?;
        let outside = outside_addresses(found, spec)?;
        let others = self.published_at(found, &outside);
        let taken_by = |first: u16| -> Option<(String, PortSpec)> {
            let wanted = PortSpec {
                host_port: Some(first),
                ..spec.clone()
            };
            let own = planned
                .iter()
                .find(|other| overlap(other, &wanted) && shares_address(found, other, &outside));
            if let Some(own) = own {
                return Some((sandbox.to_string(), own.clone()));
            }
            others
                .iter()
                .find(|(_, other)| overlap(other, &wanted))
                .cloned()
        };
        let host_port = match spec.host_port {
            Some(first) => {
                if let Some((holder, held)) = taken_by(first) {
                    return Err(port_taken(first, &holder, &held));
                }
                first
            }
            None => (FIRST_DYNAMIC..=u16::MAX)
                .filter(|&first| u32::from(first) + u32::from(spec.count) <= 1 << 16)
                .find(|&first| taken_by(first).is_none())
                .ok_or_else(|| {
                    let message = format!("no range of {} free ports is left", spec.count);
                    ApiError::new(ErrorCode::PortTaken, message)
                })?,
        };
        Ok(PortSpec {
            host_port: Some(host_port),
            ..spec.clone()
        })
    }

    /// Ports published at any of some outside addresses, and who has them.
    fn published_at(&self, network: &Network, outside: &[IpAddr]) -> Vec<(String, PortSpec)> {
        self.networks
            .values()
            .filter(|other| other.leg == network.leg)
            .flat_map(|other| {
                other
                    .endpoints
                    .values()
                    .map(move |endpoint| (other, &endpoint.record))
            })
            .flat_map(|(other, record)| {
                record
                    .ports
                    .iter()
                    .filter(|spec| shares_address(other, spec, outside))
                    .map(|spec| (record.sandbox.to_string(), spec.clone()))
            })
            .collect()
    }

    /// Publishes a port of an endpoint that exists.
    pub(in crate::daemon) fn publish_port(
        &mut self,
        network: &Name,
        sandbox: &Name,
        spec: &PortSpec,
    ) -> Result<(PublishedPort, Vec<Change>), ApiError> {
        self.require_up(network, sandbox)?;
        let spec = self.plan_port(network, sandbox, spec, &[])?;
        self.change_ports(network, sandbox, |ports| ports.push(spec.clone()))?;
        self.evict_dynamic(network, &spec)?;
        let found = self.network(network)?;
        let record = self.endpoint_record(network, sandbox)?;
        let change = put(endpoint_key(network, sandbox), record);
        Ok((published(found, record, &spec), vec![change]))
    }

    /// Withdraws a port. Flows that came through it go on; new ones are refused.
    pub(in crate::daemon) fn unpublish_port(
        &mut self,
        network: &Name,
        sandbox: &Name,
        spec: &PortSpec,
    ) -> Result<Vec<Change>, ApiError> {
        let record = self.endpoint_record(network, sandbox)?;
        let is_meant = |own: &PortSpec| {
            own.port == spec.port
                && own.count == spec.count
                && own.protocol == spec.protocol
                && (spec.host_port.is_none() || own.host_port == spec.host_port)
                && (spec.host_ip.is_none() || own.host_ip == spec.host_ip)
        };
        if !record.ports.iter().any(is_meant) {
            let own: Vec<String> = record.ports.iter().map(ToString::to_string).collect();
            let message = format!("{sandbox} has not published {spec}");
            let error = ApiError::new(ErrorCode::UnknownPort, message);
            return Err(if own.is_empty() {
                error
            } else {
                error.hint(format!("it has published {}", own.join(", ")))
            });
        }
        self.change_ports(network, sandbox, |ports| ports.retain(|own| !is_meant(own)))?;
        let record = self.endpoint_record(network, sandbox)?;
        Ok(vec![put(endpoint_key(network, sandbox), record)])
    }

    fn change_ports(
        &mut self,
        network: &Name,
        sandbox: &Name,
        change: impl FnOnce(&mut Vec<PortSpec>),
    ) -> Result<(), ApiError> {
        let folded = sandbox.folded();
        let found = self.network_mut(network)?;
        let Some(endpoint) = found.endpoints.get_mut(&folded) else {
            return Ok(());
        };
        let before = endpoint.record.ports.clone();
        change(&mut endpoint.record.ports);
        let result = self.publish();
        if result.is_err()
            && let Ok(found) = self.network_mut(network)
            && let Some(endpoint) = found.endpoints.get_mut(&folded)
        {
            endpoint.record.ports = before;
            self.publish_former();
        }
        result
    }

    /// Ends flows from inside that happen to use an outside port which is published now: whoever
    /// asks for it must reach its new owner (port shadowing, CVE-2021-3773).
    pub(super) fn evict_dynamic(&self, network: &Name, spec: &PortSpec) -> Result<(), ApiError> {
        let found = self.network(network)?;
        let outside: Vec<Address> = outside_addresses(found, spec)?
            .into_iter()
            .map(Address::from)
            .collect();
        let protocol = protocol(spec.protocol);
        let first = spec.host_port.unwrap_or_default();
        self.switch.flush_sessions(super::now(), |session| {
            heddle_nat::Direction::BOTH.into_iter().any(|direction| {
                let tuple = session.tuple(direction);
                tuple.protocol == protocol
                    && outside.contains(&tuple.destination)
                    && tuple.destination_port >= first
                    && tuple.destination_port - first < spec.count
            })
        });
        Ok(())
    }

    /// All published ports.
    pub(in crate::daemon) fn ports(&self) -> Vec<PublishedPort> {
        self.networks
            .values()
            .flat_map(|network| {
                network
                    .endpoints
                    .values()
                    .flat_map(|endpoint| ports_of(network, endpoint))
            })
            .collect()
    }

    /// Published ports as the dataplane has them.
    pub(super) fn publications(&self) -> Vec<Publication> {
        let mut publications = Vec::new();
        for network in self.networks.values() {
            let Some(leg) = network.leg.and_then(|id| self.legs.get(&id)) else {
                continue;
            };
            // An endpoint that is pending has no port yet to send a frame to.
            for endpoint in network
                .endpoints
                .values()
                .filter(|endpoint| endpoint.port.is_some())
            {
                for spec in &endpoint.record.ports {
                    let outside = outside_addresses(network, spec).unwrap_or_default();
                    publications.extend(outside.into_iter().filter_map(|address| {
                        Some(Publication {
                            zone: leg.config.zone(),
                            protocol: protocol(spec.protocol),
                            outside: address.into(),
                            outside_port: spec.host_port?,
                            inside: inside_address(&endpoint.record, address)?.into(),
                            inside_port: spec.port,
                            count: spec.count,
                        })
                    }));
                }
            }
        }
        publications
    }
}

/// The published ports of an endpoint.
pub(super) fn ports_of(network: &Network, endpoint: &Endpoint) -> Vec<PublishedPort> {
    let record = &endpoint.record;
    record
        .ports
        .iter()
        .map(|spec| published(network, record, spec))
        .collect()
}

fn published(network: &Network, record: &EndpointRecord, spec: &PortSpec) -> PublishedPort {
    PublishedPort {
        sandbox: record.sandbox.clone(),
        network: record.network.clone(),
        host_addresses: outside_addresses(network, spec)
            .unwrap_or_default()
            .into_iter()
            .filter(|address| inside_address(record, *address).is_some())
            .collect(),
        host_port: spec.host_port.unwrap_or_default(),
        port: spec.port,
        count: spec.count,
        protocol: spec.protocol,
        spec: spec.clone(),
    }
}

/// Outside addresses that a port is published at.
fn outside_addresses(network: &Network, spec: &PortSpec) -> Result<Vec<IpAddr>, ApiError> {
    let uplink = &network.record.uplink;
    let name = &network.record.name;
    if uplink.kind == UplinkSpec::None {
        let message =
            format!("network {name} has no uplink, so there is nowhere to publish a port");
        return Err(ApiError::new(ErrorCode::NoUplink, message)
            .hint("create the network with --uplink netns:PATH or packet:INTERFACE"));
    }
    let own: Vec<IpAddr> = uplink.addresses.iter().map(ipnet::IpNet::addr).collect();
    match spec.host_ip {
        None => Ok(own),
        // As in docker: any address of this family.
        Some(any) if any.is_unspecified() => Ok(own
            .into_iter()
            .filter(|address| address.is_ipv4() == any.is_ipv4())
            .collect()),
        Some(address) if own.contains(&address) => Ok(vec![address]),
        Some(address) => {
            let own: Vec<String> = own.iter().map(ToString::to_string).collect();
            let message = format!("{address} is not an address of the uplink of network {name}");
            Err(ApiError::new(ErrorCode::InvalidAddress, message)
                .hint(format!("it has {}", own.join(", "))))
        }
    }
}

/// The endpoint's address of the same family as an outside one.
fn inside_address(record: &EndpointRecord, outside: IpAddr) -> Option<IpAddr> {
    let addresses = record.plan.addresses.iter().map(ipnet::IpNet::addr);
    addresses
        .into_iter()
        .find(|own| own.is_ipv4() == outside.is_ipv4())
}

fn shares_address(network: &Network, spec: &PortSpec, outside: &[IpAddr]) -> bool {
    outside_addresses(network, spec)
        .unwrap_or_default()
        .iter()
        .any(|address| outside.contains(address))
}

/// Whether two port specifications have an outside port in common.
fn overlap(one: &PortSpec, other: &PortSpec) -> bool {
    let (Some(first), Some(second)) = (one.host_port, other.host_port) else {
        return false;
    };
    let end = |first: u16, spec: &PortSpec| u32::from(first) + u32::from(spec.count);
    one.protocol == other.protocol
        && u32::from(first) < end(second, other)
        && u32::from(second) < end(first, one)
}

/// `held` is what the holder has published; `first` is the first port that somebody else wants.
fn port_taken(first: u16, holder: &str, held: &PortSpec) -> ApiError {
    let taken = held.host_port.map_or(first, |port| port.max(first));
    let message = format!(
        "port {taken}/{} is published by {holder} already",
        held.protocol
    );
    ApiError::new(ErrorCode::PortTaken, message).hint(format!(
        "choose another outside port, or: heddle port unpublish {holder} {held}"
    ))
}

fn protocol(protocol: PortProtocol) -> Protocol {
    match protocol {
        PortProtocol::Tcp => Protocol::TCP,
        PortProtocol::Udp => Protocol::UDP,
    }
}
