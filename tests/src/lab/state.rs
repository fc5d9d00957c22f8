//! Everything that a step compares.

use std::collections::BTreeMap;
use std::fmt;

use heddle_mem::Instant;
use heddle_nat::{Direction, Session, Tuple, Zone};
use heddle_switch::{Link, NeighbourState, Switch};
use heddle_wire::{Address, MacAddr};

use super::{Name, Plan};

/// A switch at one moment, in the names of its plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// What the ports counted.
    pub ports: BTreeMap<Name, PortState>,
    /// The forwarding database, by network and MAC address.
    pub stations: BTreeMap<(String, MacAddr), StationState>,
    /// The neighbours, by link and address.
    pub neighbours: BTreeMap<(String, Address), (Option<MacAddr>, NeighbourState)>,
    /// The sessions, by original tuple.
    pub sessions: BTreeMap<String, SessionState>,
    /// How many dynamic mappings there are.
    pub mappings: i64,
    /// How many frames wait.
    pub held: i64,
    /// How many packets each filter rule has counted.
    pub rules: BTreeMap<u32, u64>,
}

/// What a port counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortState {
    /// From the endpoint.
    pub received: Traffic,
    /// To the endpoint.
    pub sent: Traffic,
    /// Frames from the endpoint that ended, by the name of the reason.
    pub drops: BTreeMap<String, u64>,
}

/// Frames and octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames.
    pub frames: u64,
    /// Octets, Ethernet header included.
    pub bytes: u64,
}

/// A station.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StationState {
    /// The port it is behind.
    pub port: String,
    /// Whether it was given and not learned.
    pub fixed: bool,
}

/// A session, with everything that a packet could move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionState {
    /// The tuple of its answers.
    pub reply: String,
    /// How it stands, in words.
    pub state: String,
    /// Frames and octets by direction, windows, deadline.
    pub moving: String,
}

impl State {
    pub(super) fn observe(switch: &Switch, plan: &Plan) -> State {
        let mut sessions = BTreeMap::new();
        switch.nat().for_each(|session| {
            let original = show(&session.tuple(Direction::Original), plan);
            sessions.insert(original, SessionState::of(session, plan));
        });
        State {
            ports: plan
                .ports()
                .map(|name| (name, PortState::of(plan, name)))
                .collect(),
            stations: stations(switch, plan),
            neighbours: neighbours(switch, plan),
            sessions,
            mappings: i64::from(switch.nat().mapping_count()),
            held: i64::try_from(switch.held_frames()).unwrap_or(i64::MAX),
            rules: plan.all_counted(),
        }
    }
}

impl PortState {
    fn of(plan: &Plan, name: Name) -> PortState {
        let statistics = plan.port(name).statistics();
        let drops = statistics.drops.iter();
        PortState {
            received: Traffic {
                frames: statistics.received_frames,
                bytes: statistics.received_bytes,
            },
            sent: Traffic {
                frames: statistics.sent_frames,
                bytes: statistics.sent_bytes,
            },
            drops: drops
                .map(|(reason, count)| (reason.name(), *count))
                .collect(),
        }
    }
}

impl SessionState {
    fn of(session: &Session, plan: &Plan) -> SessionState {
        let traffic = Direction::BOTH.map(|direction| session.traffic(direction));
        // As far from the start as the deadline is: exact, whenever it is read.
        let deadline = session.deadline(Instant::ZERO);
        let windows = session.windows();
        SessionState {
            reply: show(&session.tuple(Direction::Reply), plan),
            state: format!("{:?}", session.state()),
            moving: format!("{traffic:?} {windows:?} until {deadline:?}"),
        }
    }
}

fn stations(switch: &Switch, plan: &Plan) -> BTreeMap<(String, MacAddr), StationState> {
    let listed = switch.fdb().list(Instant::ZERO).into_iter();
    listed
        .map(|listed| {
            let network = match plan.network_name(listed.network) {
                Some(name) => name.to_owned(),
                None => format!("{:?}", listed.network),
            };
            let port = match plan.port_name(listed.station.port) {
                Some(name) => name.to_owned(),
                None => format!("{:?}", listed.station.port),
            };
            let fixed = listed.station.fixed;
            ((network, listed.mac), StationState { port, fixed })
        })
        .collect()
}

fn neighbours(
    switch: &Switch,
    plan: &Plan,
) -> BTreeMap<(String, Address), (Option<MacAddr>, NeighbourState)> {
    let listed = switch.neighbours().list().into_iter();
    listed
        .map(|listed| {
            let link = match listed.link {
                Link::Leg(id) => plan.leg_name(id),
                Link::Network(id) => plan.network_name(id),
            };
            let link = link.map_or(format!("{:?}", listed.link), str::to_owned);
            ((link, listed.address), (listed.mac, listed.state))
        })
        .collect()
}

fn show(tuple: &Tuple, plan: &Plan) -> String {
    let Tuple {
        source,
        destination,
        source_port,
        destination_port,
        protocol,
        zone,
    } = tuple;
    let place = match zone.0.checked_sub(1) {
        None => "inside".to_owned(),
        Some(_) if *zone == Zone::WITHIN => "within".to_owned(),
        Some(leg) => plan
            .leg_name(heddle_switch::LegId(leg))
            .map_or(format!("{:?}", Zone(leg + 1)), str::to_owned),
    };
    format!("{place}: {protocol} [{source}]:{source_port} > [{destination}]:{destination_port}")
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.lines() {
            writeln!(formatter, "{line}")?;
        }
        Ok(())
    }
}

impl State {
    /// One fact a line, in an order that does not depend on the facts: two states compare line by
    /// line.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, port) in &self.ports {
            let Traffic { frames, bytes } = port.received;
            lines.push(format!("{name} received {frames} frames, {bytes} octets"));
            let Traffic { frames, bytes } = port.sent;
            lines.push(format!("{name} sent {frames} frames, {bytes} octets"));
            for (reason, count) in &port.drops {
                lines.push(format!("{name} drops {reason}: {count}"));
            }
        }
        for ((network, mac), StationState { port, fixed }) in &self.stations {
            let how = if *fixed { "fixed" } else { "learned" };
            lines.push(format!("station {mac} in {network} behind {port}, {how}"));
        }
        for ((link, address), (mac, state)) in &self.neighbours {
            let mac = mac.map_or("?".to_owned(), |mac| mac.to_string());
            lines.push(format!("neighbour {address} on {link} is {mac}, {state:?}"));
        }
        for (original, session) in &self.sessions {
            let SessionState {
                reply,
                state,
                moving,
            } = session;
            lines.push(format!("session {original} | {reply} | {state} {moving}"));
        }
        lines.push(format!("mappings {}", self.mappings));
        lines.push(format!("held frames {}", self.held));
        for (number, packets) in &self.rules {
            lines.push(format!("rule {number} counted {packets} packets"));
        }
        lines
    }
}
