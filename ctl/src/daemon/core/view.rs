//! What there is, for people and programs.

use std::net::IpAddr;

use heddle_nat::{Direction, Session, SessionState, Side};
use heddle_switch::{Link, NeighbourState, PortId, Role};

use super::ports::ports_of;
use super::{Core, Endpoint, Network, now};
use crate::api;
use crate::api::{ApiError, EndpointState, Flow, FlowTuple, Name};

impl Core {
    /// All networks.
    pub(in crate::daemon) fn show_networks(&self) -> Vec<api::Network> {
        self.networks.values().map(show_network).collect()
    }

    /// One network.
    pub(in crate::daemon) fn show_network(&self, name: &Name) -> Result<api::Network, ApiError> {
        self.network(name).map(show_network)
    }

    /// The endpoints of one network, or of all.
    pub(in crate::daemon) fn show_endpoints(
        &self,
        name: Option<&Name>,
    ) -> Result<Vec<api::Endpoint>, ApiError> {
        let networks: Vec<&Network> = match name {
            Some(name) => vec![self.network(name)?],
            None => self.networks.values().collect(),
        };
        Ok(networks
            .into_iter()
            .flat_map(|network| {
                network
                    .endpoints
                    .values()
                    .map(|endpoint| show_endpoint(network, endpoint))
            })
            .collect())
    }

    /// One endpoint.
    pub(in crate::daemon) fn show_endpoint(
        &self,
        network: &Name,
        sandbox: &Name,
    ) -> Result<api::Endpoint, ApiError> {
        self.endpoint_record(network, sandbox)?;
        let found = self.network(network)?;
        let endpoint = found.endpoints.get(&sandbox.folded());
        endpoint
            .map(|endpoint| show_endpoint(found, endpoint))
            .ok_or_else(|| super::internal("an endpoint vanished"))
    }

    /// What each endpoint is made of.
    pub(in crate::daemon) fn describe_endpoints(&self) -> Vec<api::StatusEndpoint> {
        let endpoints = self
            .networks
            .values()
            .flat_map(|network| network.endpoints.values());
        endpoints
            .map(|endpoint| api::StatusEndpoint {
                network: endpoint.record.network.clone(),
                sandbox: endpoint.record.sandbox.clone(),
                description: endpoint
                    .port
                    .as_ref()
                    .map_or_else(|| "pending".to_owned(), |port| port.endpoint.describe()),
            })
            .collect()
    }

    /// How many networks there are.
    pub(in crate::daemon) fn network_count(&self) -> usize {
        self.networks.len()
    }

    /// Whether no endpoint is left.
    pub(in crate::daemon) fn is_idle(&self) -> bool {
        self.networks
            .values()
            .all(|network| network.endpoints.is_empty())
    }

    /// What people call a port.
    pub(super) fn port_name(&self, number: PortId) -> String {
        self.switch.with_config(|config| {
            config
                .port(number)
                .map_or_else(|| number.to_string(), |port| port.name.clone())
        })
    }

    /// The flow table.
    pub(in crate::daemon) fn show_flows(&self) -> Vec<Flow> {
        let mut flows = Vec::new();
        self.switch
            .nat()
            .for_each(|session| flows.push(self.show_flow(session)));
        flows
    }

    fn show_flow(&self, session: &Session) -> Flow {
        let original = session.tuple(Direction::Original);
        let name = |direction| self.port_name(PortId(session.ingress(direction).0));
        let now = now();
        Flow {
            protocol: original.protocol.to_string().to_ascii_lowercase(),
            state: state_name(session.state()),
            from: name(Direction::Original),
            to: name(Direction::Reply),
            original: show_tuple(session, Direction::Original),
            reply: show_tuple(session, Direction::Reply),
            expires_seconds: (session.deadline(now) - now).as_secs(),
        }
    }

    /// The forwarding database.
    pub(in crate::daemon) fn show_stations(&self) -> Vec<api::Station> {
        let mut stations: Vec<api::Station> = self
            .switch
            .fdb()
            .list(now())
            .into_iter()
            .filter_map(|listed| {
                let network = self
                    .networks
                    .values()
                    .find(|network| network.record.number == listed.network.0)?;
                Some(api::Station {
                    network: network.record.name.clone(),
                    mac: listed.mac.to_string(),
                    sandbox: self.port_name(listed.station.port),
                    fixed: listed.station.fixed,
                    age_seconds: listed.age.map(|age| age.as_secs()),
                })
            })
            .collect();
        stations.sort_by(|a, b| (&a.network, &a.mac).cmp(&(&b.network, &b.mac)));
        stations
    }

    /// Neighbours: endpoints, which are known by configuration, and those that were asked for.
    pub(in crate::daemon) fn show_neighbours(&self) -> Vec<api::Neighbour> {
        let permanent = self.networks.values().flat_map(|network| {
            network.endpoints.values().flat_map(|endpoint| {
                let plan = &endpoint.record.plan;
                plan.addresses.iter().map(|own| api::Neighbour {
                    link: endpoint.record.network.to_string(),
                    address: own.addr(),
                    mac: Some(plan.mac.to_string()),
                    state: "permanent".to_owned(),
                })
            })
        });
        let asked = self
            .switch
            .neighbours()
            .list()
            .into_iter()
            .map(|neighbour| api::Neighbour {
                link: self.link_name(neighbour.link),
                address: neighbour.address.to_ip(),
                mac: neighbour.mac.map(|mac| mac.to_string()),
                state: match neighbour.state {
                    NeighbourState::Incomplete => "incomplete",
                    NeighbourState::Reachable => "reachable",
                    NeighbourState::Stale => "stale",
                    NeighbourState::Probe => "probe",
                }
                .to_owned(),
            });
        permanent.chain(asked).collect()
    }

    fn link_name(&self, link: Link) -> String {
        match link {
            Link::Leg(id) => match self.legs.get(&id) {
                Some(leg) => leg.key.kind.to_string(),
                None => "(closed uplink)".to_owned(),
            },
            Link::Network(id) => self
                .networks
                .values()
                .find(|network| network.record.number == id.0)
                .map_or_else(
                    || "(removed network)".to_owned(),
                    |network| network.record.name.to_string(),
                ),
        }
    }

    /// Where packets of each network go.
    pub(in crate::daemon) fn show_routes(&self) -> Vec<api::Route> {
        self.networks
            .values()
            .flat_map(|network| self.routes_of(network))
            .collect()
    }

    fn routes_of(&self, network: &Network) -> Vec<api::Route> {
        let record = &network.record;
        let route = |destination: String, via: String| api::Route {
            network: record.name.clone(),
            destination,
            via,
        };
        let own = network
            .subnets()
            .map(|subnet| route(subnet.to_string(), "on the network".to_owned()));
        let others = self.networks.values().filter(|other| {
            record.route_to.contains(&other.record.name)
                || other.record.route_to.contains(&record.name)
        });
        let others = others.flat_map(|other| {
            let name = other.record.name.to_string();
            other
                .subnets()
                .map(move |subnet| (subnet.to_string(), format!("network {name}")))
        });
        let others = others.map(|(destination, via)| route(destination, via));
        let statics = record
            .routes
            .iter()
            .map(|item| route(item.destination.to_string(), item.via.to_string()));
        let default = match (network.leg, &network.leg_fault) {
            (Some(_), _) => {
                let next: Vec<String> = record
                    .uplink
                    .gateways
                    .iter()
                    .map(IpAddr::to_string)
                    .collect();
                let via = if next.is_empty() {
                    "its link".to_owned()
                } else {
                    next.join(", ")
                };
                format!("uplink {} via {via}", record.uplink.kind)
            }
            (None, Some(fault)) => format!("uplink {}: {fault}", record.uplink.kind),
            (None, None) => "unreachable".to_owned(),
        };
        own.chain(others)
            .chain(statics)
            .chain([route("default".to_owned(), default)])
            .collect()
    }

    /// What every port has sent and received.
    pub(in crate::daemon) fn show_statistics(&self) -> api::Statistics {
        let ports = self.with_ports(|name, network, port| {
            let statistics = port.statistics();
            let held = self.switch.nat().holdings_of(Side(port.id.0));
            api::PortStatistics {
                port: name,
                network,
                received_frames: statistics.received_frames,
                received_bytes: statistics.received_bytes,
                sent_frames: statistics.sent_frames,
                sent_bytes: statistics.sent_bytes,
                dropped_frames: statistics.drops.iter().map(|(_, frames)| frames).sum(),
                sessions: held.sessions,
                half_open: held.half_open.iter().sum(),
                mappings: held.mappings,
                evicted_sessions: held.evicted,
            }
        });
        api::Statistics { ports }
    }

    /// Frames that ended without being sent, by port and reason.
    pub(in crate::daemon) fn show_drops(&self) -> Vec<api::DropCount> {
        let drops = self.with_ports(|name, network, port| {
            let drops = port.statistics().drops.into_iter();
            drops
                .map(|(reason, frames)| api::DropCount {
                    port: name.clone(),
                    network: network.clone(),
                    reason: reason.name(),
                    explanation: reason.sentence(),
                    frames,
                })
                .collect::<Vec<_>>()
        });
        drops.into_iter().flatten().collect()
    }

    fn with_ports<T>(
        &self,
        mut show: impl FnMut(String, Option<Name>, &heddle_switch::Port) -> T,
    ) -> Vec<T> {
        self.switch.with_config(|config| {
            config
                .ports()
                .map(|port| {
                    let network = match port.role {
                        Role::Member { network, .. } => self
                            .networks
                            .values()
                            .find(|known| known.record.number == network.0)
                            .map(|known| known.record.name.clone()),
                        Role::Leg(_) => None,
                    };
                    show(port.name.clone(), network, port)
                })
                .collect()
        })
    }
}

fn show_network(network: &Network) -> api::Network {
    let record = &network.record;
    api::Network {
        name: record.name.clone(),
        driver: record.driver,
        subnets: network.subnets().collect(),
        gateways: network.gateways().collect(),
        gateway_mac: record.leases.gateway_mac().to_string(),
        mtu: record.mtu,
        uplink: record.uplink.clone(),
        uplink_fault: network.leg_fault.clone(),
        route_to: record.route_to.clone(),
        routes: record.routes.clone(),
        port_security: record.port_security,
        storm_control: record.storm_control,
        ageing_seconds: record.ageing_seconds,
        sandboxes: network
            .endpoints
            .values()
            .map(|endpoint| endpoint.record.sandbox.clone())
            .collect(),
    }
}

fn show_endpoint(network: &Network, endpoint: &Endpoint) -> api::Endpoint {
    let record = &endpoint.record;
    api::Endpoint {
        network: record.network.clone(),
        sandbox: record.sandbox.clone(),
        attachment: endpoint.attachment.0,
        state: if endpoint.port.is_some() {
            EndpointState::Up
        } else {
            EndpointState::Pending
        },
        plan: record.plan.clone(),
        attached_by: record.attached_by.to_string(),
        ports: ports_of(network, endpoint),
    }
}

fn show_tuple(session: &Session, direction: Direction) -> FlowTuple {
    let tuple = session.tuple(direction);
    let (frames, bytes) = session.traffic(direction);
    FlowTuple {
        source: tuple.source.to_ip(),
        source_port: tuple.source_port,
        destination: tuple.destination.to_ip(),
        destination_port: tuple.destination_port,
        frames,
        bytes,
    }
}

fn state_name(state: SessionState) -> String {
    use heddle_nat::tcp::State;
    match state {
        SessionState::Unreplied => "unreplied",
        SessionState::Replied => "replied",
        SessionState::Tcp(state) => match state {
            State::Closed => "closed",
            State::OriginalInit | State::ReplyInit => "opening",
            State::Established => "established",
            State::OriginalFin | State::ReplyFin => "half-closed",
            State::BothFin => "closing",
            State::Transitory => "reset",
        },
    }
    .to_owned()
}
