//! Endpoints: reserved, started, ended.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use heddle_ipam::{LeaseError, Request};
use heddle_switch::endpoint::Endpoint as Link;
use heddle_switch::{GATEWAY_LINK_LOCAL, Identity, NetworkId, Port, Role};
use heddle_wire::Address;
use ipnet::IpNet;

use super::{Core, Endpoint, Network, internal, today};
use crate::api::{ApiError, AttachRequest, Driver, EndpointKind, ErrorCode, Name, Plan, PlanRoute};
use crate::daemon::records::{AttachedBy, EndpointRecord, endpoint_key, put};
use crate::store::Change;

/// Published ports that one request may ask for.
const MOST_PORTS: usize = 64;

/// Tells an endpoint from earlier and later ones of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Attachment(pub(in crate::daemon) u64);

/// An endpoint whose addresses are reserved.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct Reservation {
    pub(in crate::daemon) network: Name,
    pub(in crate::daemon) sandbox: Name,
    pub(in crate::daemon) attachment: Attachment,
    pub(in crate::daemon) plan: Plan,
}

/// An endpoint that has ended: what is left to be done for it.
#[derive(Debug)]
pub(in crate::daemon) struct Ended {
    pub(in crate::daemon) key: String,
    /// To be dropped where closing may take its time.
    pub(in crate::daemon) port: Option<Arc<Port>>,
    pub(in crate::daemon) changes: Vec<Change>,
}

impl Core {
    /// Reserves name, addresses and outside ports for an endpoint. Nothing of it is known to the
    /// dataplane, or to the store, until it is started.
    pub(in crate::daemon) fn reserve(
        &mut self,
        network: &Name,
        request: &AttachRequest,
        attached_by: AttachedBy,
    ) -> Result<Reservation, ApiError> {
        if request.publish.len() > MOST_PORTS {
            let message = format!("more than {MOST_PORTS} ports are to be published at once");
            return Err(
                ApiError::new(ErrorCode::TooMany, message).hint("publish ranges: 8000-8099")
            );
        }
        let sandbox = self.name_sandbox(network, request, &attached_by)?;
        self.require_descriptors()?;
        let interface = self.name_interface(&sandbox, request)?;
        let number = self.free_port_number()?;
        let has_default = self.endpoints_of(&sandbox).next().is_some();
        let lease_request = Request {
            addresses: request.addresses.clone(),
            mac: request.mac,
            ..Request::default()
        };
        // Checked against a copy, so that what fails later has changed nothing.
        let mut leases = self.network(network)?.leases().clone();
        let lease = leases
            .allocate(sandbox.as_str(), &lease_request, today())
            .map_err(lease_error)?;
        let ports = self.plan_ports(network, &sandbox, &request.publish)?;
        let kind = request.kind.unwrap_or(self.settings.default_kind);
        if let (EndpointKind::Tap, Some(fault)) = (kind, &self.settings.tun_fault)
            && request.kind.is_none()
        {
            return Err(internal(&format!(
                "the default endpoint cannot be made: {fault}"
            )));
        }
        let queues = u16::try_from(self.switch.workers()).unwrap_or(u16::MAX);
        let found = self.network(network)?;
        let routed = found.record.driver == Driver::L3;
        let plan = Plan {
            interface,
            kind,
            queues,
            mac: lease.mac,
            mtu: found.record.mtu,
            addresses: lease
                .addresses
                .iter()
                .map(|own| if routed { host(*own) } else { *own })
                .collect(),
            routes: self.plan_routes(found, &lease.addresses, has_default),
            no_arp: routed,
        };
        let attachment = self.next_attachment();
        let reservation = Reservation {
            network: network.clone(),
            sandbox: sandbox.clone(),
            attachment,
            plan: plan.clone(),
        };
        let record = EndpointRecord {
            network: network.clone(),
            sandbox: sandbox.clone(),
            plan,
            attached_by,
            ports,
        };
        let found = self.network_mut(network)?;
        found.record.leases = leases;
        found.endpoints.insert(
            sandbox.folded(),
            Endpoint {
                record,
                attachment,
                number,
                starting: false,
                port: None,
            },
        );
        Ok(reservation)
    }

    fn next_attachment(&mut self) -> Attachment {
        self.attachments += 1;
        Attachment(self.attachments)
    }

    /// The sandbox's name: the one given, or the lowest free one of its kind.
    fn name_sandbox(
        &self,
        network: &Name,
        request: &AttachRequest,
        attached_by: &AttachedBy,
    ) -> Result<Name, ApiError> {
        self.network(network)?;
        let Some(name) = &request.name else {
            let base = request.name_like.as_ref().map_or("sandbox", Name::as_str);
            return self.free_name(base);
        };
        for endpoint in self.endpoints_of(name) {
            let record = &endpoint.record;
            if record.network == *network {
                let message = format!("{name} is in network {network} already");
                return Err(ApiError::new(ErrorCode::NameTaken, message)
                    .hint(format!("choose another --name, or: heddle detach {name}")));
            }
            if record.attached_by != *attached_by {
                let message = format!(
                    "{name} is the name of another sandbox, attached by {}",
                    record.attached_by
                );
                return Err(
                    ApiError::new(ErrorCode::NameTaken, message).hint("choose another --name")
                );
            }
        }
        Ok(name.clone())
    }

    fn free_name(&self, base: &str) -> Result<Name, ApiError> {
        let taken: BTreeSet<String> = self
            .networks
            .values()
            .flat_map(|network| network.endpoints.keys().cloned())
            .collect();
        // Room for the number.
        let base: String = base.chars().take(57).collect();
        (1..=u32::MAX)
            .map(|number| format!("{base}{number}"))
            .find(|name| !taken.contains(&name.to_ascii_lowercase()))
            .and_then(|name| name.parse().ok())
            .ok_or_else(|| internal("no name is free"))
    }

    fn name_interface(&self, sandbox: &Name, request: &AttachRequest) -> Result<String, ApiError> {
        let taken: BTreeSet<&str> = self
            .endpoints_of(sandbox)
            .map(|endpoint| endpoint.record.plan.interface.as_str())
            .collect();
        if let Some(interface) = &request.interface {
            if !heddle_sys::tap::is_interface_name(interface) {
                let message = format!("{interface:?} cannot be the name of an interface");
                return Err(ApiError::new(ErrorCode::InvalidRequest, message));
            }
            if taken.contains(interface.as_str()) {
                let message = format!("{sandbox} has an interface {interface} already");
                return Err(ApiError::new(ErrorCode::InterfaceTaken, message));
            }
            return Ok(interface.clone());
        }
        (0..=u16::MAX)
            .map(|number| format!("eth{number}"))
            .find(|name| !taken.contains(name.as_str()))
            .ok_or_else(|| internal("no interface name is free"))
    }

    /// All endpoints of a sandbox.
    pub(super) fn endpoints_of(&self, sandbox: &Name) -> impl Iterator<Item = &Endpoint> {
        let folded = sandbox.folded();
        self.networks
            .values()
            .filter_map(move |network| network.endpoints.get(&folded))
    }

    /// Routes inside: everything by the first network of a sandbox, by others only what they reach.
    fn plan_routes(
        &self,
        network: &Network,
        addresses: &[IpNet],
        has_default: bool,
    ) -> Vec<PlanRoute> {
        let routed = network.record.driver == Driver::L3;
        let gateway = |v4: bool| -> Option<IpAddr> {
            if routed {
                return None;
            }
            if !v4 {
                return Some(GATEWAY_LINK_LOCAL.to_ip());
            }
            network.gateways().find(IpAddr::is_ipv4)
        };
        let mut routes = Vec::new();
        for v4 in [true, false] {
            if !addresses.iter().any(|own| own.addr().is_ipv4() == v4) {
                continue;
            }
            let gateway = gateway(v4);
            if !routed && gateway.is_none() {
                continue;
            }
            let destinations = if has_default {
                self.reached(network, v4, routed)
            } else {
                vec![everything(v4)]
            };
            routes.extend(destinations.into_iter().map(|destination| PlanRoute {
                destination,
                gateway,
            }));
        }
        routes
    }

    /// What an endpoint reaches through its network's gateway besides the outside.
    fn reached(&self, network: &Network, v4: bool, routed: bool) -> Vec<IpNet> {
        let own = network.subnets().filter(|_| routed);
        let others = self
            .networks
            .values()
            .filter(|other| {
                network.record.route_to.contains(&other.record.name)
                    || other.record.route_to.contains(&network.record.name)
            })
            .flat_map(Network::subnets);
        let statics = network.record.routes.iter().map(|route| route.destination);
        own.chain(others)
            .chain(statics)
            .filter(|subnet| subnet.addr().is_ipv4() == v4)
            .collect()
    }

    /// Gives up a reservation, unless it has become an endpoint that is up. Whether it was there.
    pub(in crate::daemon) fn cancel(&mut self, reserved: &Reservation) -> bool {
        let Reservation {
            network,
            sandbox,
            attachment,
            ..
        } = reserved;
        let Ok(network) = self.network_mut(network) else {
            return false;
        };
        let pending = network
            .endpoints
            .get(&sandbox.folded())
            .is_some_and(|endpoint| endpoint.attachment == *attachment && endpoint.port.is_none());
        if pending {
            network.endpoints.remove(&sandbox.folded());
            // It was reserved under this name.
            let _ = network.record.leases.release(sandbox.as_str(), today());
        }
        pending
    }

    /// Gives up a reservation that nobody has taken up.
    pub(in crate::daemon) fn expire(&mut self, reserved: &Reservation) -> bool {
        let starting = self
            .pending_endpoint(reserved)
            .is_ok_and(|endpoint| endpoint.starting);
        !starting && self.cancel(reserved)
    }

    /// The reservation under a name, and under this number if one is given.
    pub(in crate::daemon) fn reservation(
        &self,
        network: &Name,
        sandbox: &Name,
        attachment: Option<Attachment>,
    ) -> Result<Reservation, ApiError> {
        let endpoint = self
            .network(network)?
            .endpoints
            .get(&sandbox.folded())
            .ok_or_else(|| not_pending(network, sandbox))?;
        if attachment.is_some_and(|attachment| attachment != endpoint.attachment) {
            return Err(not_pending(network, sandbox));
        }
        if endpoint.starting || endpoint.port.is_some() {
            let message = format!("{sandbox} is up in network {network} already");
            return Err(ApiError::new(ErrorCode::NameTaken, message));
        }
        Ok(Reservation {
            network: endpoint.record.network.clone(),
            sandbox: endpoint.record.sandbox.clone(),
            attachment: endpoint.attachment,
            plan: endpoint.record.plan.clone(),
        })
    }

    /// Begins to open the link of a reserved endpoint: from here on nobody else can.
    pub(in crate::daemon) fn begin(
        &mut self,
        reserved: &Reservation,
    ) -> Result<EndpointRecord, ApiError> {
        let endpoint = self.pending_endpoint(reserved)?;
        if std::mem::replace(&mut endpoint.starting, true) {
            return Err(not_pending(&reserved.network, &reserved.sandbox));
        }
        Ok(endpoint.record.clone())
    }

    fn pending_endpoint(&mut self, reserved: &Reservation) -> Result<&mut Endpoint, ApiError> {
        let Reservation {
            network, sandbox, ..
        } = reserved;
        self.network_mut(network)?
            .endpoints
            .get_mut(&sandbox.folded())
            .filter(|endpoint| {
                endpoint.attachment == reserved.attachment && endpoint.port.is_none()
            })
            .ok_or_else(|| not_pending(network, sandbox))
    }

    /// Lets frames flow: the endpoint's link is open.
    pub(in crate::daemon) fn start(
        &mut self,
        reserved: &Reservation,
        link: Link,
    ) -> Result<Vec<Change>, ApiError> {
        let Reservation {
            network, sandbox, ..
        } = reserved;
        let workers = self.switch.workers();
        let found = self.network_mut(network)?;
        let number = NetworkId(found.record.number);
        let secure = found.record.port_security;
        let endpoint = self.pending_endpoint(reserved)?;
        let plan = &endpoint.record.plan;
        let addresses = plan
            .addresses
            .iter()
            .map(|own| Address::from(own.addr()))
            .collect();
        let identity = Identity::new(vec![plan.mac], addresses, secure);
        let role = Role::Member {
            network: number,
            identity,
        };
        let name = sandbox.to_string();
        let port = Port::new(endpoint.number, name, role, plan.mtu, link, workers);
        endpoint.port = Some(Arc::new(port));
        let record = endpoint.record.clone();
        // A published port is withdrawn from the flows that use it.
        let published = if record.ports.is_empty() {
            self.extend()
        } else {
            self.publish()
        };
        if let Err(error) = published {
            if let Ok(found) = self.network_mut(network)
                && let Some(endpoint) = found.endpoints.get_mut(&sandbox.folded())
            {
                endpoint.port = None;
            }
            self.publish_former();
            return Err(error);
        }
        for spec in &record.ports {
            self.evict_dynamic(network, spec)?;
        }
        let mut changes = self.network_change(network);
        changes.push(put(endpoint_key(network, sandbox), &record));
        Ok(changes)
    }

    /// Ends an endpoint: no frame of it is in the dataplane any more when this returns, and only
    /// then its addresses go to rest.
    pub(in crate::daemon) fn end(
        &mut self,
        network: &Name,
        sandbox: &Name,
        attachment: Option<Attachment>,
    ) -> Result<Ended, ApiError> {
        let found = self.network_mut(network)?;
        let is_meant = found
            .endpoints
            .get(&sandbox.folded())
            .is_some_and(|found| attachment.is_none_or(|meant| meant == found.attachment));
        if !is_meant {
            return Err(not_in_network(network, sandbox));
        }
        let removed = found
            .endpoints
            .remove(&sandbox.folded())
            .ok_or_else(|| not_in_network(network, sandbox))?;
        self.publish()?;
        let found = self.network_mut(network)?;
        // The lease may be missing only if the store was made by hand.
        let _ = found
            .record
            .leases
            .release(removed.record.sandbox.as_str(), today());
        let key = endpoint_key(network, sandbox);
        let mut changes = self.network_change(network);
        changes.push(Change::Delete(key.clone()));
        Ok(Ended {
            key,
            port: removed.port,
            changes,
        })
    }

    /// Networks that a sandbox is in.
    pub(in crate::daemon) fn networks_of(&self, sandbox: &Name) -> Vec<Name> {
        self.endpoints_of(sandbox)
            .map(|endpoint| endpoint.record.network.clone())
            .collect()
    }

    /// Endpoints whose interface is gone.
    pub(in crate::daemon) fn gone_endpoints(&self) -> Vec<(Name, Name, Attachment)> {
        let is_gone =
            |endpoint: &&Endpoint| endpoint.port.as_ref().is_some_and(|port| port.is_gone());
        self.networks
            .values()
            .flat_map(|network| network.endpoints.values())
            .filter(is_gone)
            .map(|endpoint| {
                let EndpointRecord {
                    network, sandbox, ..
                } = &endpoint.record;
                (network.clone(), sandbox.clone(), endpoint.attachment)
            })
            .collect()
    }

    /// The record of an endpoint.
    pub(in crate::daemon) fn endpoint_record(
        &self,
        network: &Name,
        sandbox: &Name,
    ) -> Result<&EndpointRecord, ApiError> {
        self.network(network)?
            .endpoints
            .get(&sandbox.folded())
            .map(|endpoint| &endpoint.record)
            .ok_or_else(|| not_in_network(network, sandbox))
    }

    /// Refuses what only an endpoint can do whose frames flow.
    pub(super) fn require_up(&self, network: &Name, sandbox: &Name) -> Result<(), ApiError> {
        let endpoint = self.network(network)?.endpoints.get(&sandbox.folded());
        match endpoint {
            None => Err(not_in_network(network, sandbox)),
            Some(endpoint) if endpoint.port.is_some() => Ok(()),
            Some(_) => {
                let message = format!("{sandbox} is not up yet in network {network}");
                Err(ApiError::new(ErrorCode::UnknownSandbox, message))
            }
        }
    }

    /// Takes up an endpoint that a former daemon had, as reserved: the same addresses, or none.
    pub(in crate::daemon) fn restore(
        &mut self,
        record: EndpointRecord,
    ) -> Result<Reservation, ApiError> {
        let number = self.free_port_number()?;
        let attachment = self.next_attachment();
        let reservation = Reservation {
            network: record.network.clone(),
            sandbox: record.sandbox.clone(),
            attachment,
            plan: record.plan.clone(),
        };
        let found = self.network_mut(&record.network)?;
        let leased = found
            .record
            .leases
            .lease(record.sandbox.as_str())
            .is_some_and(|lease| lease.mac == record.plan.mac);
        if !leased {
            let request = Request {
                addresses: record.plan.addresses.iter().map(IpNet::addr).collect(),
                mac: Some(record.plan.mac),
                ..Request::default()
            };
            let leases = &mut found.record.leases;
            leases
                .allocate(record.sandbox.as_str(), &request, today())
                .map_err(lease_error)?;
        }
        let endpoint = Endpoint {
            record,
            attachment,
            number,
            starting: false,
            port: None,
        };
        found
            .endpoints
            .insert(endpoint.record.sandbox.folded(), endpoint);
        Ok(reservation)
    }

    /// Releases leases whose endpoint is gone for good.
    pub(in crate::daemon) fn drop_stale_leases(&mut self) {
        for network in self.networks.values_mut() {
            let stale: Vec<String> = network
                .record
                .leases
                .iter()
                .map(|lease| lease.holder.clone())
                .filter(|holder| !network.endpoints.contains_key(&holder.to_ascii_lowercase()))
                .collect();
            for holder in stale {
                let _ = network.record.leases.release(&holder, today());
            }
        }
    }
}

/// The address alone, as an endpoint of a routed network has it.
fn host(own: IpNet) -> IpNet {
    IpNet::from(own.addr())
}

fn everything(v4: bool) -> IpNet {
    let unspecified: IpAddr = if v4 {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    IpNet::new_assert(unspecified, 0)
}

fn not_in_network(network: &Name, sandbox: &Name) -> ApiError {
    let message = format!("{sandbox} is not in network {network}");
    ApiError::new(ErrorCode::UnknownSandbox, message)
        .hint("see who is: heddle network inspect NETWORK")
}

fn not_pending(network: &Name, sandbox: &Name) -> ApiError {
    let message = format!("no attachment of {sandbox} to network {network} is pending");
    ApiError::new(ErrorCode::UnknownSandbox, message)
        .hint("it may have taken too long; attach again")
}

fn lease_error(error: LeaseError) -> ApiError {
    let code = match &error {
        LeaseError::Outside { .. }
        | LeaseError::Unusable { .. }
        | LeaseError::NoSuchFamily { .. }
        | LeaseError::NoSuchSubnet { .. } => ErrorCode::InvalidAddress,
        LeaseError::Taken { .. } => ErrorCode::AddressTaken,
        LeaseError::Exhausted { .. } => ErrorCode::AddressesExhausted,
        LeaseError::Mac(mac) => match mac {
            heddle_ipam::MacError::Taken { .. } | heddle_ipam::MacError::Gateway { .. } => {
                ErrorCode::AddressTaken
            }
            _ => ErrorCode::InvalidAddress,
        },
        _ => ErrorCode::InvalidRequest,
    };
    ApiError::new(code, error.to_string())
}
