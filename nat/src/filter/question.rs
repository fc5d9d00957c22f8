//! A packet as rules see it.

use heddle_wire::{Address, Ip, Protocol, Transport};

use super::Interface;
use super::matches::Scope;
use crate::tuple::Direction;

/// How a packet stands to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It begins one, or belongs to one that nobody has answered yet. Also what is not tracked at all.
    New,
    /// Both sides have spoken.
    Established,
    /// An ICMP error about a packet of a session.
    Related,
    /// It belongs to nothing, and can begin nothing.
    Invalid,
}

impl State {
    /// All states.
    pub const ALL: [State; 4] = [
        State::New,
        State::Established,
        State::Related,
        State::Invalid,
    ];

    pub(super) fn index(self) -> usize {
        match self {
            State::New => 0,
            State::Established => 1,
            State::Related => 2,
            State::Invalid => 3,
        }
    }
}

/// Where a packet's way lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Area {
    /// Between networks, or between a network and the outside.
    Routed,
    /// Between two endpoints of one network.
    Inside,
    /// Between two endpoints of one network, by an outside address (RFC 4787 §6): it is routed and it
    /// stays inside, so rules for either see it.
    Hairpin,
}

impl Area {
    pub(super) const ALL: [Area; 3] = [Area::Routed, Area::Inside, Area::Hairpin];

    pub(super) fn index(self) -> usize {
        match self {
            Area::Routed => 0,
            Area::Inside => 1,
            Area::Hairpin => 2,
        }
    }

    /// Whether a rule of this scope is about it.
    #[must_use]
    pub fn is_of(self, scope: Scope) -> bool {
        match self {
            Area::Routed => scope == Scope::Routed,
            Area::Inside => scope == Scope::Inside,
            Area::Hairpin => true,
        }
    }
}

/// What a packet has behind its IP header that rules can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packets {
    /// TCP or UDP: source and destination port.
    Ports(u16, u16),
    /// ICMP or ICMPv6: type and code.
    Icmp(u8, u8),
    /// Nothing: another protocol, or a fragment behind the first.
    Nothing,
}

/// A packet that rules are asked about.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Source address, before translation.
    pub source: Address,
    /// Destination address, behind translation.
    pub destination: Address,
    /// Upper-layer protocol.
    pub protocol: Protocol,
    /// Ports, or type and code; the destination port behind translation.
    pub packet: Packets,
    /// Where the first packet of its session was sent to.
    pub original: Option<(Address, u16)>,
    /// How it stands to its session.
    pub state: State,
    /// Which way of its session it goes.
    pub direction: Direction,
    /// Where its way lies.
    pub area: Area,
    /// Where it came in.
    pub ingress: Interface,
    /// Where it goes out.
    pub egress: Interface,
    /// Octets of IP.
    pub len: u32,
}

impl Question {
    /// A packet that nothing is translated of and that belongs to no session.
    #[must_use]
    pub fn plain(ip: &Ip, area: Area, ingress: Interface, egress: Interface) -> Question {
        let packet = match &ip.transport {
            Transport::Tcp(tcp) => Packets::Ports(tcp.source_port, tcp.destination_port),
            Transport::Udp(udp) => Packets::Ports(udp.source_port, udp.destination_port),
            Transport::Icmp(icmp) => Packets::Icmp(icmp.kind, icmp.code),
            Transport::Other | Transport::Absent => Packets::Nothing,
        };
        Question {
            source: ip.source,
            destination: ip.destination,
            protocol: ip.protocol,
            packet,
            original: None,
            state: State::New,
            direction: Direction::Original,
            area,
            ingress,
            egress,
            len: ip.end - u32::from(ip.header_offset),
        }
    }

    /// The same, sent on to another address and, where it has ports, to this port.
    #[must_use]
    pub fn to(self, destination: Address, port: u16) -> Question {
        let packet = match self.packet {
            Packets::Ports(source, _) => Packets::Ports(source, port),
            other => other,
        };
        Question {
            destination,
            packet,
            ..self
        }
    }
}
