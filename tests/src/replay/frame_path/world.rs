//! The switch that actions happen to: five networks and two ways out. It is this world that the corpus
//! speaks of, so it changes only together with the corpus.
//!
//! ```text
//! blue    a b c   bridge; c without port security; a route to what is behind b; little is flooded
//! green   d       bridge, reached from blue; a link without offloads
//! red     e       l3
//! grey    f       IPv4 only, no way out
//! lime    g       bridge; its way out has no IPv6
//! wan             way out of blue, green and red
//! lan             way out of lime, without a next hop
//! ```

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use heddle_mem::Instant;
use heddle_nat::filter::{
    Chain, Limit, Matches, Meter, Negatable, NetworkNumber, Protocols, Ranges, Rejection, Rule,
    RuleId, RuleSet, Scope, State, States, Verdict,
};
use heddle_nat::{Filtering, Publication, Published, Zone};
use heddle_switch::endpoint::{Endpoint, MemoryPeer, memory_pair};
use heddle_switch::leg::{Leg, NoLeg, PortLeg};
use heddle_switch::{
    Config, ConfigParts, Driver, GATEWAY_LINK_LOCAL, Identity, LegId, Network, NetworkId, Options,
    Port, PortId, Role, StaticRoute, StormControl, Switch, Worker, fdb,
};
use heddle_wire::{Address, MacAddr, Protocol};

use super::place::{self, gateway_mac, port_mac};

/// Ports, legs included.
pub(crate) const PORTS: usize = 9;
/// The leg of most networks.
pub(crate) const WAN: usize = 7;
/// The leg of lime.
pub(crate) const LAN: usize = 8;

/// Frames a second that a port of blue may flood.
const FLOODED: NonZeroU32 = NonZeroU32::new(16).unwrap();

/// Sessions in all, and of one owner.
pub(crate) const SESSIONS: heddle_nat::Limits = heddle_nat::Limits {
    sessions_per_owner: 16,
    half_open_per_owner: 6,
    ..heddle_nat::Limits::undivided(24)
};

/// Stations that are learned.
pub(crate) const STATIONS: fdb::Limits = fdb::Limits {
    port: 6,
    network: 8,
    guaranteed: 2,
};

/// When it begins.
const START: Instant = Instant::from_micros(3_600_000_000);

/// What each port is in: a network by number, or a way out.
const HOMES: [Result<u16, u16>; PORTS] = [
    Ok(0),
    Ok(0),
    Ok(0),
    Ok(1),
    Ok(2),
    Ok(3),
    Ok(4),
    Err(0),
    Err(1),
];

const NAMES: [&str; PORTS] = ["a", "b", "c", "d", "e", "f", "g", "wan", "lan"];

/// Frames that a link holds. That of b is short.
const QUEUES: [usize; PORTS] = [256, 8, 256, 256, 256, 256, 256, 256, 256];

/// Longest packets that ports are set to.
const MTUS: [u16; 4] = [1500, 1280, 9000, 576];

/// One port, plugged or not.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) port: Arc<Port>,
    pub(crate) peer: MemoryPeer,
    pub(crate) is_plugged: bool,
    pub(crate) is_secure: bool,
    /// Whether its frames are read after each action.
    pub(crate) is_read: bool,
    mtu: u16,
}

impl Slot {
    fn new(index: usize, is_secure: bool, mtu: u16) -> Slot {
        let (end, peer) = memory_pair(QUEUES[index], takes_offloads(index));
        let role = match HOMES[index] {
            Ok(network) => Role::Member {
                network: NetworkId(network),
                identity: Identity::new(
                    vec![port_mac(index)],
                    place::given(index).to_vec(),
                    is_secure,
                ),
            },
            Err(leg) => Role::Leg(LegId(leg)),
        };
        let port = Port::new(
            number(index),
            NAMES[index].to_owned(),
            role,
            mtu,
            Endpoint::Memory(end),
            2,
        );
        Slot {
            port: Arc::new(port),
            peer,
            is_plugged: true,
            is_secure,
            is_read: true,
            mtu,
        }
    }

    /// Who may speak at a member port.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        match &self.port.role {
            Role::Member { identity, .. } => Some(identity),
            Role::Leg(_) => None,
        }
    }
}

/// Whether the link of a port carries virtio-net headers. That of d does not.
pub(crate) fn takes_offloads(index: usize) -> bool {
    index != 3
}

/// The network of a member port.
pub(crate) fn home(index: usize) -> Option<u16> {
    HOMES[index].ok()
}

fn number(index: usize) -> PortId {
    PortId(u16::try_from(index).expect("few ports"))
}

/// The switch, its ports and its clock.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) switch: Switch,
    workers: Vec<Worker>,
    pub(crate) first: usize,
    pub(crate) now: Instant,
    pub(crate) slots: Vec<Slot>,
    published: u8,
    filtering: Filtering,
    pub(crate) reaches: bool,
    pub(crate) routes: bool,
    uplinks: bool,
    /// Which rules there are.
    rules: u8,
}

impl World {
    pub(crate) fn new() -> World {
        let options = Options {
            workers: 2,
            sessions: SESSIONS,
            stations: STATIONS,
            seed: Some(7),
            now: START,
            on_event: Box::new(|_| {}),
        };
        let (switch, workers) = Switch::new(options).expect("a poller is all it needs");
        let world = World {
            switch,
            workers,
            first: 0,
            now: START,
            slots: (0..PORTS)
                .map(|index| Slot::new(index, index != 2, 1500))
                .collect(),
            published: 1,
            filtering: Filtering::Address,
            reaches: true,
            routes: true,
            uplinks: true,
            rules: 0,
        };
        world.publish();
        world
    }

    /// Changes one part of the configuration.
    pub(crate) fn configure(&mut self, part: u8, value: u8) {
        let index = usize::from(value) % PORTS;
        let (secure, mtu) = (self.slots[index].is_secure, self.slots[index].mtu);
        match part % 10 {
            0 => self.published = value % 3,
            1 => {
                let mtu = MTUS[usize::from(value) / PORTS % MTUS.len()];
                self.slots[index] = Slot::new(index, secure, mtu);
            }
            2 => {
                let kinds = [
                    Filtering::Address,
                    Filtering::Endpoint,
                    Filtering::AddressPort,
                ];
                self.filtering = kinds[usize::from(value) % kinds.len()];
            }
            3 => self.reaches = value.is_multiple_of(2),
            4 => self.slots[index] = Slot::new(index, !secure, mtu),
            5 => self.slots[index].is_plugged = false,
            6 => self.slots[index] = Slot::new(index, secure, mtu),
            7 => self.routes = value.is_multiple_of(2),
            8 => self.uplinks = value.is_multiple_of(2),
            _ => self.rules = value % 4,
        }
        self.publish();
    }

    fn publish(&self) {
        let config = Config::new(self.parts()).expect("the world does not contradict itself");
        let published = self.switch.publish(config, self.now);
        published.expect("memory endpoints need no poller and workers are asleep");
    }

    fn parts(&self) -> ConfigParts {
        let legs: Vec<Arc<PortLeg>> = [WAN, LAN]
            .into_iter()
            .filter(|&index| self.slots[index].is_plugged)
            .map(|index| Arc::new(self.leg(index)))
            .collect();
        let networks = (0..5).map(|id| Arc::new(self.network(id, &legs))).collect();
        let plugged = self.slots.iter().filter(|slot| slot.is_plugged);
        ConfigParts {
            ports: plugged.map(|slot| slot.port.clone()).collect(),
            networks,
            legs,
            published: Published::new(publications(self.published)).expect("they do not overlap"),
            rules: rules(self.rules),
        }
    }

    fn leg(&self, index: usize) -> PortLeg {
        let is_wan = index == WAN;
        let prefixes: &[&str] = if is_wan {
            &["192.0.2.2/24", "2001:db8:2::2/64"]
        } else {
            &["192.0.3.2/24"]
        };
        let gateways: &[&str] = if is_wan {
            &["192.0.2.1", "2001:db8:2::1"]
        } else {
            &[]
        };
        PortLeg {
            id: LegId(u16::from(!is_wan)),
            port: number(index),
            mac: port_mac(index),
            addresses: prefixes
                .iter()
                .map(|prefix| prefix.parse().expect("a prefix"))
                .collect(),
            gateways: gateways.iter().map(|text| place::address(text)).collect(),
            filtering: self.filtering,
        }
    }

    fn network(&self, id: u16, legs: &[Arc<PortLeg>]) -> Network {
        let third = id + 1;
        let mut subnets = vec![format!("10.{third}.0.0/24")];
        let mut gateways = vec![place::address(&format!("10.{third}.0.1"))];
        if id != 3 {
            subnets.push(format!("fd00:{third}::/64"));
            gateways.push(place::address(&format!("fd00:{third}::1")));
            gateways.push(GATEWAY_LINK_LOCAL);
        }
        let wanted = match id {
            3 => None,
            4 => Some(number(LAN)),
            _ => Some(number(WAN)),
        };
        let leg = legs
            .iter()
            .find(|leg| self.uplinks && Some(leg.port) == wanted);
        let uplink: Arc<dyn Leg> = match leg {
            Some(leg) => leg.clone(),
            None => Arc::new(NoLeg),
        };
        let routes = [
            ("10.200.0.0/16", "10.1.0.3"),
            ("fd00:200::/48", "fd00:1::3"),
        ];
        let routes = routes.map(|(destination, via)| StaticRoute {
            destination: destination.parse().expect("a prefix"),
            via: place::address(via),
        });
        let members = (0..PORTS).filter(|&index| home(index) == Some(id));
        Network {
            id: NetworkId(id),
            name: ["blue", "green", "red", "grey", "lime"][usize::from(id)].to_owned(),
            driver: if id == 2 { Driver::L3 } else { Driver::Bridge },
            mtu: 1500,
            gateway_mac: gateway_mac(id),
            gateways,
            subnets: subnets
                .iter()
                .map(|text| text.parse().expect("a prefix"))
                .collect(),
            routes: if id == 0 && self.routes {
                routes.to_vec()
            } else {
                Vec::new()
            },
            reaches: match id {
                0 if self.reaches => vec![NetworkId(1)],
                1 if self.reaches => vec![NetworkId(0)],
                _ => Vec::new(),
            },
            uplink,
            ports: members
                .filter(|&index| self.slots[index].is_plugged)
                .map(number)
                .collect(),
            storm_control: if id == 0 {
                StormControl::frames(FLOODED)
            } else {
                StormControl::default()
            },
            ageing: fdb::AGEING_TIME,
        }
    }

    /// Each worker once, beginning with the chosen one.
    pub(crate) fn turn(&mut self) {
        for offset in 0..self.workers.len() {
            let worker = (self.first + offset) % self.workers.len();
            self.workers[worker].turn(self.now);
        }
    }

    /// When the next timer is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.workers.iter().filter_map(Worker::next_deadline).min()
    }
}

/// What is published: nothing; web servers, one of them twice; every UDP port that there is.
fn publications(which: u8) -> Vec<Publication> {
    let publish = |protocol, side: [&str; 2], outside_port, inside_port, count| Publication {
        zone: Zone(1),
        protocol,
        outside: place::address(side[0]),
        outside_port,
        inside: place::address(side[1]),
        inside_port,
        count,
    };
    let sides = [["192.0.2.2", "10.1.0.3"], ["2001:db8:2::2", "fd00:1::3"]];
    let both = |side: [&'static str; 2]| match which {
        0 => Vec::new(),
        1 => vec![
            publish(Protocol::TCP, side, 80, 80, 1),
            publish(Protocol::TCP, side, 81, 80, 1),
            publish(Protocol::UDP, side, 80, 80, 1),
            publish(Protocol::UDP, side, 81, 80, 1),
        ],
        _ => vec![publish(Protocol::UDP, side, 1, 1, u16::MAX)],
    };
    sides.into_iter().flat_map(both).collect()
}

/// The rules: none; for what is routed; for what stays inside blue; both.
fn rules(which: u8) -> RuleSet {
    let scoped = |scope: Scope| {
        let matches = || Matches {
            scope,
            ..Matches::default()
        };
        let to_port = |port| Matches {
            destination_port: Some(Negatable::of(Ranges::new([(port, port)]))),
            ..matches()
        };
        let known = Matches {
            states: Some(Negatable::of(States::new(&[
                State::Established,
                State::Related,
            ]))),
            ..matches()
        };
        let tcp = Matches {
            protocol: Some(Negatable::of(Protocols(vec![Protocol::TCP]))),
            ..to_port(9)
        };
        let limit = Limit {
            interval: Duration::from_secs(1),
            burst: 4,
        };
        [
            (known, None, Verdict::Accept),
            (to_port(7), None, Verdict::Drop),
            (tcp, None, Verdict::Reject(Rejection::Reset)),
            (
                to_port(9),
                None,
                Verdict::Reject(Rejection::PortUnreachable),
            ),
            (matches(), Some(limit), Verdict::Log { sample: 2 }),
        ]
    };
    let chain = |scope| {
        let rules = scoped(scope).into_iter().zip(1..);
        let rules = rules.map(|((matches, limit, verdict), number)| Rule {
            id: RuleId(number),
            matches,
            limit,
            verdict,
            meter: Arc::new(Meter::new(2)),
        });
        Arc::new(Chain::new(rules.collect()).expect("few rules"))
    };
    let routed = (which & 1 != 0).then(|| chain(Scope::Routed));
    let inside = (which & 2 != 0).then(|| (NetworkNumber(0), chain(Scope::Inside)));
    RuleSet::new(routed, inside.into_iter().collect(), Arc::default())
}

/// Whether an address is in a network of this world, by the world's own numbers.
pub(crate) fn network_of(address: Address) -> Option<u16> {
    let third = match address.to_ip() {
        std::net::IpAddr::V4(address) => match address.octets() {
            [10, third, 0, _] => u16::from(third),
            _ => return None,
        },
        std::net::IpAddr::V6(address) => match address.segments() {
            [0xfd00, third, 0, 0, ..] => third,
            _ => return None,
        },
    };
    let id = third.checked_sub(1).filter(|&id| id < 5)?;
    (address.is_ipv4() || id != 3).then_some(id)
}

/// The MAC address of the leg at a port.
pub(crate) fn leg_mac(index: usize) -> MacAddr {
    port_mac(index)
}
