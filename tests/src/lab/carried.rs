//! The first packet of a flow and its answer, in every protocol that has ports or something like them.

use heddle_wire::builder::{Packet, TcpHeader};
use heddle_wire::{Family, Protocol, TcpFlags};

use super::{SYN_ACK, Side};

/// A protocol whose flows are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// ICMP echo, whose identifier stands for the port of whoever asks.
    Query,
}

impl Carried {
    /// All of them.
    pub const ALL: [Carried; 3] = [Carried::Udp, Carried::Tcp, Carried::Query];

    /// Those with ports.
    pub const WITH_PORTS: [Carried; 2] = [Carried::Udp, Carried::Tcp];

    /// Its number in a family.
    #[must_use]
    pub fn protocol(self, side: &Side) -> Protocol {
        match (self, side.family) {
            (Carried::Udp, _) => Protocol::UDP,
            (Carried::Tcp, _) => Protocol::TCP,
            (Carried::Query, Family::V4) => Protocol::ICMP,
            (Carried::Query, Family::V6) => Protocol::ICMPV6,
        }
    }

    /// The first packet of a flow between two ports.
    #[must_use]
    pub fn first(self, side: &Side, packet: &Packet, from: u16, to: u16) -> Vec<u8> {
        match self {
            Carried::Udp => packet.udp(from, to, b"question"),
            Carried::Tcp => packet.tcp(&header(from, to, TcpFlags::SYN), b""),
            Carried::Query => packet.icmp(side.echo().0, 0, word(from), b"question"),
        }
    }

    /// The answer to it, from the port that was asked.
    #[must_use]
    pub fn answer(self, side: &Side, packet: &Packet, from: u16, to: u16) -> Vec<u8> {
        match self {
            Carried::Udp => packet.udp(from, to, b"answer"),
            Carried::Tcp => packet.tcp(&header(from, to, SYN_ACK), b""),
            Carried::Query => packet.icmp(side.echo().1, 0, word(to), b"answer"),
        }
    }
}

fn header(from: u16, to: u16, flags: TcpFlags) -> TcpHeader {
    let (sequence, acknowledgement) = if flags == SYN_ACK {
        (7000, 1001)
    } else {
        (1000, 0)
    };
    TcpHeader {
        source_port: from,
        destination_port: to,
        sequence,
        acknowledgement,
        flags,
        ..TcpHeader::default()
    }
}

/// Identifier and sequence number of an echo.
fn word(id: u16) -> u32 {
    u32::from(id) << 16 | 1
}
