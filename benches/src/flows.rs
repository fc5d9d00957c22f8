//! Flows that are known by number, and the table of their sessions.

use std::net::IpAddr;

use heddle_mem::Instant;
use heddle_nat::{
    Destination, Limits, Nat, Opening, Packet, Publication, Published, Side, Source, Tuple, Zone,
};
use heddle_wire::{Address, Family, Protocol, Rewrite};

/// Where all sessions lead: the leg's zone and side.
const OUTSIDE: Zone = Zone(1);
const LEG: Side = Side(1_000);

/// Sessions that one mapping carries at least, and how many mappings there are at most: all of them are
/// at one outside address.
const PER_MAPPING: u32 = 64;
const MAPPINGS: u32 = 40_000;

/// The first port of an endpoint.
const FIRST_PORT: u16 = 20_000;

/// Ports of the other end: those of the flows with a number, and of further ones.
const FIRST_PEER_PORT: u16 = 1_000;
/// The first port of the other end that no flow with a number uses.
pub const FIRST_FREE_PEER_PORT: u16 = 10_000;

/// When the sessions begin.
pub const START: Instant = Instant::from_micros(3_600_000_000);

/// Flows from inside to outside: UDP, all through one outside address, each mapping with sessions to many
/// ports of one peer.
#[derive(Debug)]
pub struct Flows {
    /// Their sessions.
    pub nat: Nat,
    family: Family,
    published: Published,
    per_mapping: u32,
    count: u32,
}

impl Flows {
    /// Flows of which none has a session yet, in a table that has room for `further` ones.
    #[must_use]
    pub fn new(family: Family, count: u32, further: u32) -> Flows {
        Flows {
            nat: Nat::new(Limits::undivided(count + further), [7; 64], START),
            family,
            published: Published::default(),
            per_mapping: count.div_ceil(MAPPINGS).max(PER_MAPPING),
            count,
        }
    }

    /// The same, each with a session that has been answered.
    ///
    /// # Panics
    ///
    /// If a session cannot be made.
    #[must_use]
    pub fn established(family: Family, count: u32, further: u32) -> Flows {
        let flows = Flows::new(family, count, further);
        for number in 0..count {
            let tuple = flows.tuple(number);
            flows.open(tuple, START);
            flows.pass(&flows.reply(&tuple), START);
        }
        assert_eq!(flows.nat.session_count(), count);
        flows
    }

    /// Publishes ports from now on.
    ///
    /// # Panics
    ///
    /// If they cannot be.
    pub fn publish(&mut self, ports: impl Iterator<Item = u16>) {
        let publication = |port| Publication {
            zone: OUTSIDE,
            protocol: Protocol::UDP,
            outside: self.outside(),
            outside_port: port,
            inside: self.address([10, 0, 0, 9], 0xfd00),
            inside_port: port,
            count: 1,
        };
        let published = Published::new(ports.map(publication).collect());
        self.published = published.expect("every port once");
    }

    /// How many flows have a number.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    fn address(&self, v4: [u8; 4], v6: u16) -> Address {
        let [_, _, high, low] = v4;
        Address::from(match self.family {
            Family::V4 => IpAddr::from(v4),
            Family::V6 => {
                let last = u16::from_be_bytes([high, low]);
                IpAddr::from([v6, 0xdb8, 0, 0, 0, 0, 0, last])
            }
        })
    }

    /// The address that all of them have outside.
    #[must_use]
    pub fn outside(&self) -> Address {
        self.address([192, 0, 2, 1], 0x2001)
    }

    /// The tuple of a flow's packets from inside.
    ///
    /// # Panics
    ///
    /// If there are more flows than ports.
    #[must_use]
    pub fn tuple(&self, number: u32) -> Tuple {
        let (mapping, peer) = (number / self.per_mapping, number % self.per_mapping);
        let [_, _, high, low] = (mapping / 256 + 2).to_be_bytes();
        let [mapping, peer] = [mapping, peer].map(|n| u16::try_from(n).expect("a port"));
        Tuple {
            source: self.address([10, 0, high, low], 0xfd00),
            destination: self.address([198, 51, 100, 7], 0x2001),
            // Everywhere another port, so that all of them are kept outside.
            source_port: FIRST_PORT + mapping,
            destination_port: FIRST_PEER_PORT + peer,
            protocol: Protocol::UDP,
            zone: Zone::INSIDE,
        }
    }

    /// The tuple of the answers.
    #[must_use]
    pub fn reply(&self, tuple: &Tuple) -> Tuple {
        Tuple {
            destination: self.outside(),
            ..tuple.inverse(OUTSIDE)
        }
    }

    /// What the first packet of a flow asks for.
    #[must_use]
    pub fn opening(&self, tuple: Tuple) -> Opening<'_> {
        Opening {
            tuple,
            sides: [Side(tuple.source_port / 256), LEG],
            destination: Destination::AsIs,
            source: Source::Masquerade(OUTSIDE, self.outside()),
            reply_zone: OUTSIDE,
            packet: packet(),
            published: &self.published,
            random: 1,
        }
    }

    /// The first packet of a flow passes; what it reads then.
    ///
    /// # Panics
    ///
    /// If it is refused.
    pub fn open(&self, tuple: Tuple, now: Instant) -> Rewrite {
        let rewrite = self.nat.open(&self.opening(tuple), now);
        let rewrite = rewrite.expect("there is room");
        assert_eq!(rewrite.source_port, tuple.source_port);
        rewrite
    }

    /// A packet of a session passes.
    ///
    /// # Panics
    ///
    /// If there is no such session.
    pub fn pass(&self, tuple: &Tuple, now: Instant) -> Rewrite {
        let hit = self.nat.lookup(tuple).expect("it has been opened");
        self.nat
            .commit(hit, &packet(), now)
            .expect("UDP has no window")
    }
}

/// What is taken into account of a frame with 18 octets of payload.
#[must_use]
pub fn packet() -> Packet {
    Packet {
        len: 46,
        segment: None,
    }
}
