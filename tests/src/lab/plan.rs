//! What stands in a lab.

mod fluent;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use heddle_nat::{Filtering, Publication, Published, Zone};
use heddle_switch::endpoint::{Endpoint, MemoryPeer, memory_pair};
use heddle_switch::leg::{Leg, NoLeg, PortLeg};
use heddle_switch::{
    Config, ConfigParts, Driver, Identity, LegId, Network, NetworkId, Port, PortId, Role,
    StaticRoute, StormControl, fdb,
};
use heddle_wire::{Address, MacAddr, Protocol};
use ipnet::IpNet;

use super::Name;
use super::rules::RulesPlan;

/// Frames that a link holds in each direction if nothing else is said.
const QUEUE: usize = 4096;

/// Networks, hosts, legs and published ports.
///
/// Things are named; their numbers are given in the order in which they are first mentioned. A host or
/// leg becomes a port when the plan is put in force and stays that port until it is removed or
/// mentioned anew.
#[derive(Debug)]
pub struct Plan {
    pub(super) workers: usize,
    pub(super) sessions: heddle_nat::Limits,
    pub(super) stations: fdb::Limits,
    pub(super) seed: u64,
    networks: BTreeMap<Name, NetworkPlan>,
    hosts: BTreeMap<Name, HostPlan>,
    legs: BTreeMap<Name, LegPlan>,
    published: Vec<(Name, Publication)>,
    pub(super) rules: RulesPlan,
    next_port: u16,
    next_network: u16,
}

/// A network.
#[derive(Debug)]
pub struct NetworkPlan {
    id: NetworkId,
    driver: Driver,
    gateway_mac: MacAddr,
    gateways: Vec<Address>,
    subnets: Vec<IpNet>,
    routes: Vec<StaticRoute>,
    reaches: Vec<Name>,
    uplink: Option<Name>,
    storm_control: StormControl,
    ageing: Duration,
}

/// A host: a member port and what it was given.
#[derive(Debug)]
pub struct HostPlan {
    id: PortId,
    network: Name,
    macs: Vec<MacAddr>,
    addresses: Vec<Address>,
    secure: bool,
    mtu: u16,
    offloads: bool,
    queue: usize,
    /// The one worker that reads its link.
    reader: Option<usize>,
    plugged: Option<Plugged>,
}

/// A leg with a port.
#[derive(Debug)]
pub struct LegPlan {
    id: LegId,
    port: PortId,
    mac: MacAddr,
    addresses: Vec<IpNet>,
    gateways: Vec<Address>,
    filtering: Filtering,
    mtu: u16,
    offloads: bool,
    queue: usize,
    /// The one worker that reads its link.
    reader: Option<usize>,
    plugged: Option<Plugged>,
}

/// A port with the other end of its link.
#[derive(Debug)]
struct Plugged {
    port: Arc<Port>,
    peer: MemoryPeer,
}

/// Reads an address that a test wrote.
fn address(text: &str) -> Address {
    text.parse()
        .expect("a test names addresses that are addresses")
}

fn net(text: &str) -> IpNet {
    text.parse()
        .expect("a test names prefixes that are prefixes")
}

impl Plan {
    pub(super) fn new() -> Plan {
        Plan {
            workers: 1,
            sessions: heddle_nat::Limits::default(),
            stations: fdb::Limits::default(),
            seed: 1,
            networks: BTreeMap::new(),
            hosts: BTreeMap::new(),
            legs: BTreeMap::new(),
            published: Vec::new(),
            rules: RulesPlan::default(),
            next_port: 0,
            next_network: 0,
        }
    }

    /// How many workers; one if not said. Before the lab begins.
    pub fn workers(&mut self, workers: usize) {
        self.workers = workers;
    }

    /// Bounds of the session table. Before the lab begins.
    pub fn sessions(&mut self, limits: heddle_nat::Limits) {
        self.sessions = limits;
    }

    /// Bounds of the forwarding database. Before the lab begins.
    pub fn stations(&mut self, limits: fdb::Limits) {
        self.stations = limits;
    }

    /// Seed of the switch's randomness. Before the lab begins.
    pub fn seed(&mut self, seed: u64) {
        self.seed = seed;
    }

    /// A network: the one of this name, or a new one.
    pub fn network(&mut self, name: Name) -> &mut NetworkPlan {
        let id = self.next_network;
        self.networks.entry(name).or_insert_with(|| {
            self.next_network += 1;
            let [high, low] = id.to_be_bytes();
            NetworkPlan {
                id: NetworkId(id),
                driver: Driver::Bridge,
                gateway_mac: MacAddr::new([0x02, 0xee, 0, 0, high, low]),
                gateways: Vec::new(),
                subnets: Vec::new(),
                routes: Vec::new(),
                reaches: Vec::new(),
                uplink: None,
                storm_control: StormControl::default(),
                ageing: fdb::AGEING_TIME,
            }
        })
    }

    /// A new host in a network, in place of one of this name.
    pub fn host(&mut self, name: Name, network: Name) -> &mut HostPlan {
        let id = self.next_port;
        self.next_port += 1;
        let [high, low] = id.to_be_bytes();
        let host = HostPlan {
            id: PortId(id),
            network,
            macs: vec![MacAddr::new([0x02, 0xaa, 0, 0, high, low])],
            addresses: Vec::new(),
            secure: true,
            mtu: 1500,
            offloads: true,
            queue: QUEUE,
            reader: None,
            plugged: None,
        };
        self.hosts.insert(name, host);
        self.hosts.get_mut(name).expect("just put there")
    }

    /// A new leg, in place of one of this name, which keeps its number.
    pub fn leg(&mut self, name: Name) -> &mut LegPlan {
        let port = self.next_port;
        self.next_port += 1;
        let next = u16::try_from(self.legs.len()).expect("few legs");
        let id = self.legs.get(name).map_or(LegId(next), |leg| leg.id);
        let leg = LegPlan {
            id,
            port: PortId(port),
            mac: MacAddr::new([0x02, 0x1e, 0, 0, 0, u8::try_from(id.0).unwrap_or(0xff)]),
            addresses: Vec::new(),
            gateways: Vec::new(),
            filtering: Filtering::default(),
            mtu: 1500,
            offloads: true,
            queue: QUEUE,
            reader: None,
            plugged: None,
        };
        self.legs.insert(name, leg);
        self.legs.get_mut(name).expect("just put there")
    }

    /// Publishes ports of an endpoint on a leg's address.
    pub fn publish(
        &mut self,
        leg: Name,
        protocol: Protocol,
        outside: (&str, u16),
        inside: (&str, u16),
    ) -> &mut Plan {
        self.publish_range(leg, protocol, outside, inside, 1)
    }

    /// Publishes a range of ports.
    pub fn publish_range(
        &mut self,
        leg: Name,
        protocol: Protocol,
        outside: (&str, u16),
        inside: (&str, u16),
        count: u16,
    ) -> &mut Plan {
        let publication = Publication {
            // Known only when the plan is put in force.
            zone: Zone::INSIDE,
            protocol,
            outside: address(outside.0),
            outside_port: outside.1,
            inside: address(inside.0),
            inside_port: inside.1,
            count,
        };
        self.published.push((leg, publication));
        self
    }

    /// Publishes nothing any more.
    pub fn unpublish(&mut self) {
        self.published.clear();
    }

    /// Removes a host or leg, or an empty network.
    ///
    /// # Panics
    ///
    /// If there is none of this name.
    pub fn remove(&mut self, name: Name) {
        let removed = self.hosts.remove(name).is_some()
            || self.legs.remove(name).is_some()
            || self.networks.remove(name).is_some();
        assert!(removed, "nothing is called {name}");
    }

    /// The names of all hosts and legs.
    pub fn ports(&self) -> impl Iterator<Item = Name> {
        self.hosts.keys().chain(self.legs.keys()).copied()
    }

    /// The port of a host or leg.
    ///
    /// # Panics
    ///
    /// If there is none of this name.
    #[must_use]
    pub fn port(&self, name: Name) -> &Arc<Port> {
        &self.plugged(name).port
    }

    /// The other end of a port's link.
    ///
    /// # Panics
    ///
    /// If there is none of this name.
    #[must_use]
    pub fn peer(&self, name: Name) -> &MemoryPeer {
        &self.plugged(name).peer
    }

    /// How many frames the link of a port holds in each direction.
    pub(super) fn queue(&self, name: Name) -> usize {
        let host = self.hosts.get(name).map(|host| host.queue);
        host.or(self.legs.get(name).map(|leg| leg.queue))
            .unwrap_or_else(|| panic!("no port is called {name}"))
    }

    fn plugged(&self, name: Name) -> &Plugged {
        let host = self.hosts.get(name).and_then(|host| host.plugged.as_ref());
        let leg = self.legs.get(name).and_then(|leg| leg.plugged.as_ref());
        host.or(leg)
            .unwrap_or_else(|| panic!("no port is called {name}"))
    }

    /// The MAC address of a host or leg.
    ///
    /// # Panics
    ///
    /// If there is none of this name.
    #[must_use]
    pub fn mac(&self, name: Name) -> MacAddr {
        let host = self.hosts.get(name).map(|host| host.macs[0]);
        host.or(self.legs.get(name).map(|leg| leg.mac))
            .unwrap_or_else(|| panic!("no port is called {name}"))
    }

    /// The addresses of a host, without its link-local one.
    ///
    /// # Panics
    ///
    /// If there is none of this name.
    #[must_use]
    pub fn addresses(&self, host: Name) -> &[Address] {
        &self.hosts[host].addresses
    }

    /// The prefixes of a leg's addresses.
    ///
    /// # Panics
    ///
    /// If there is none of this name.
    #[must_use]
    pub fn leg_addresses(&self, leg: Name) -> &[IpNet] {
        &self.legs[leg].addresses
    }

    /// The gateway's addresses in a network, its link-local one left out.
    ///
    /// # Panics
    ///
    /// If there is none of this name.
    #[must_use]
    pub fn gateways(&self, network: Name) -> Vec<IpAddr> {
        let gateways = self.networks[network].gateways.iter();
        gateways
            .filter(|gateway| !gateway.is_link_local())
            .map(|gateway| gateway.to_ip())
            .collect()
    }

    /// The network a host is in.
    ///
    /// # Panics
    ///
    /// If there is none of this name.
    #[must_use]
    pub fn network_of(&self, host: Name) -> Name {
        self.hosts[host].network
    }

    /// The gateway's MAC address in the network of a host.
    ///
    /// # Panics
    ///
    /// If there is none of this name.
    #[must_use]
    pub fn gateway_mac(&self, host: Name) -> MacAddr {
        self.networks[self.hosts[host].network].gateway_mac
    }

    pub(super) fn port_name(&self, id: PortId) -> Option<Name> {
        let host = self.hosts.iter().find(|(_, host)| host.id == id);
        let leg = self.legs.iter().find(|(_, leg)| leg.port == id);
        host.map(|(&name, _)| name).or(leg.map(|(&name, _)| name))
    }

    pub(super) fn has_network(&self, name: Name) -> bool {
        self.networks.contains_key(name)
    }

    pub(super) fn network_id(&self, name: Name) -> NetworkId {
        self.networks[name].id
    }

    pub(super) fn network_name(&self, id: NetworkId) -> Option<Name> {
        let found = self.networks.iter().find(|(_, network)| network.id == id);
        found.map(|(&name, _)| name)
    }

    pub(super) fn leg_name(&self, id: LegId) -> Option<Name> {
        let found = self.legs.iter().find(|(_, leg)| leg.id == id);
        found.map(|(&name, _)| name)
    }

    /// The configuration that the plan stands for; new hosts and legs get their ports.
    ///
    /// # Panics
    ///
    /// If the plan contradicts itself.
    pub fn config(&mut self) -> Config {
        Config::new(self.parts()).expect("a test's plan does not contradict itself")
    }

    /// The parts of the configuration.
    ///
    /// # Panics
    ///
    /// If the plan names what is not there.
    pub fn parts(&mut self) -> ConfigParts {
        self.plug();
        let legs: BTreeMap<Name, Arc<PortLeg>> = self
            .legs
            .iter()
            .map(|(&name, leg)| (name, Arc::new(leg.build())))
            .collect();
        let networks = self
            .networks
            .values()
            .map(|network| Arc::new(self.build_network(network, &legs)))
            .collect();
        let publications = self.published.iter().map(|(leg, publication)| Publication {
            zone: legs[leg].zone(),
            ..*publication
        });
        let published = Published::new(publications.collect())
            .expect("a test publishes ports that can be published");
        let ports = self.ports().map(|name| self.port(name).clone()).collect();
        ConfigParts {
            ports,
            networks,
            legs: legs.into_values().collect(),
            published,
            rules: self.build_rules(),
        }
    }

    fn plug(&mut self) {
        let workers = self.workers;
        for (&name, host) in &mut self.hosts {
            let network = self.networks[host.network].id;
            host.plugged.get_or_insert_with(|| {
                let (mut end, peer) = memory_pair(host.queue, host.offloads);
                end.read_by(host.reader);
                let identity =
                    Identity::new(host.macs.clone(), host.addresses.clone(), host.secure);
                let role = Role::Member { network, identity };
                let end = Endpoint::Memory(end);
                let port = Port::new(host.id, name.to_owned(), role, host.mtu, end, workers);
                Plugged {
                    port: Arc::new(port),
                    peer,
                }
            });
        }
        for (&name, leg) in &mut self.legs {
            let (id, port, mtu) = (leg.id, leg.port, leg.mtu);
            leg.plugged.get_or_insert_with(|| {
                let (mut end, peer) = memory_pair(leg.queue, leg.offloads);
                end.read_by(leg.reader);
                let end = Endpoint::Memory(end);
                let port = Port::new(port, name.to_owned(), Role::Leg(id), mtu, end, workers);
                Plugged {
                    port: Arc::new(port),
                    peer,
                }
            });
        }
    }

    fn build_network(&self, plan: &NetworkPlan, legs: &BTreeMap<Name, Arc<PortLeg>>) -> Network {
        let name = self.network_name(plan.id).expect("it is in the plan");
        let members = self.hosts.values().filter(|host| host.network == name);
        let uplink: Arc<dyn Leg> = match plan.uplink {
            Some(uplink) => legs[uplink].clone(),
            None => Arc::new(NoLeg),
        };
        Network {
            id: plan.id,
            name: name.to_owned(),
            driver: plan.driver,
            mtu: 1500,
            gateway_mac: plan.gateway_mac,
            gateways: plan.gateways.clone(),
            subnets: plan.subnets.clone(),
            routes: plan.routes.clone(),
            reaches: plan
                .reaches
                .iter()
                .map(|other| self.networks[other].id)
                .collect(),
            uplink,
            ports: members.map(|host| host.id).collect(),
            storm_control: plan.storm_control,
            ageing: plan.ageing,
        }
    }
}
