//! A small world for tests: two endpoints inside, one leg to the outside, three peers there.

use std::cell::Cell;
use std::time::Duration;

use heddle_mem::Instant;
use heddle_wire::{Address, Family, Protocol, Rewrite, TcpFlags};

use crate::limits::Limits;
use crate::mapping::Filtering;
use crate::open::{Destination, Opening, Source};
use crate::published::Published;
use crate::session::{Packet, Side};
use crate::table::{Nat, Refusal};
use crate::tcp::Segment;
use crate::tuple::{Tuple, Zone};

/// The zone of the leg.
pub(crate) const OUTSIDE: Zone = Zone(1);

/// The side of the leg.
pub(crate) const LEG: Side = Side(9);

/// Room enough for every test that is not about room.
pub(crate) const ROOMY: Limits = Limits {
    sessions: 4_096,
    sessions_per_owner: 4_096,
    half_open_per_owner: 4_096,
    mappings_per_owner: 4_096,
    guaranteed_per_owner: 64,
};

/// An address and a port.
pub(crate) type Endpoint = (Address, u16);

/// Everything that a test needs.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) nat: Nat,
    pub(crate) now: Instant,
    pub(crate) published: Published,
    pub(crate) inside: [Address; 2],
    pub(crate) outside: Address,
    pub(crate) peers: [Address; 3],
    /// Protocol and request kind of an echo.
    pub(crate) echo: (Protocol, u16),
    random: Cell<u64>,
}

impl World {
    /// The same world in IPv4 and in IPv6.
    pub(crate) fn both(limits: Limits) -> [World; 2] {
        let four = ["10.1.0.2", "10.1.0.3", "198.51.100.1"];
        let four_peers = ["203.0.113.1", "203.0.113.2", "203.0.113.3"];
        let six = ["fd00::2", "fd00::3", "2001:db8::1"];
        let six_peers = ["2001:db8:1::1", "2001:db8:1::2", "2001:db8:2::1"];
        [
            World::new(limits, four, four_peers, (Protocol::ICMP, 8)),
            World::new(limits, six, six_peers, (Protocol::ICMPV6, 128)),
        ]
    }

    fn new(limits: Limits, ours: [&str; 3], peers: [&str; 3], echo: (Protocol, u16)) -> World {
        let [first, second, outside] = ours.map(|text| text.parse().unwrap());
        let now = Instant::from_micros(1_000_000_000);
        World {
            nat: Nat::new(limits, [7; 64], now),
            now,
            published: Published::default(),
            inside: [first, second],
            outside,
            peers: peers.map(|text| text.parse().unwrap()),
            echo,
            random: Cell::new(1),
        }
    }

    /// The port of the switch that an endpoint is at: 1 or 2.
    pub(crate) fn owner(&self, address: Address) -> Side {
        let is_second = address == self.inside[1];
        Side(1 + u16::from(is_second))
    }

    fn draw(&self) -> u64 {
        let next = self.random.get().wrapping_mul(6_364_136_223_846_793_005);
        self.random
            .set(next.wrapping_add(1_442_695_040_888_963_407));
        self.random.get()
    }

    /// What a first packet from inside to a peer asks for.
    pub(crate) fn question(&self, protocol: Protocol, from: Endpoint, to: Endpoint) -> Opening<'_> {
        Opening {
            tuple: tuple(protocol, from, to, Zone::INSIDE),
            sides: [self.owner(from.0), LEG],
            destination: Destination::AsIs,
            source: Source::Masquerade(OUTSIDE, self.outside),
            reply_zone: OUTSIDE,
            packet: packet(protocol),
            published: &self.published,
            random: self.draw(),
        }
    }

    /// A packet of a known flow; `None` if there is no such flow.
    pub(crate) fn go_on(&self, tuple: &Tuple) -> Option<Result<Rewrite, Refusal>> {
        let hit = self.nat.lookup(tuple)?;
        Some(self.nat.commit(hit, &packet(tuple.protocol), self.now))
    }

    /// A packet leaves from inside to a peer.
    pub(crate) fn leave(
        &self,
        protocol: Protocol,
        from: Endpoint,
        to: Endpoint,
    ) -> Result<Rewrite, Refusal> {
        self.go_on(&tuple(protocol, from, to, Zone::INSIDE))
            .unwrap_or_else(|| self.nat.open(&self.question(protocol, from, to), self.now))
    }

    /// The port outside that a packet from inside leaves from.
    #[track_caller]
    pub(crate) fn port_of(&self, protocol: Protocol, from: Endpoint, to: Endpoint) -> u16 {
        let rewrite = self.leave(protocol, from, to).unwrap();
        assert_eq!(rewrite.source, self.outside);
        assert_eq!((rewrite.destination, rewrite.destination_port), to);
        rewrite.source_port
    }

    /// A packet arrives from a peer at a port outside.
    pub(crate) fn arrive(
        &self,
        protocol: Protocol,
        from: Endpoint,
        port: u16,
        filtering: Filtering,
    ) -> Result<Rewrite, Refusal> {
        let tuple = tuple(protocol, from, (self.outside, port), OUTSIDE);
        if let Some(result) = self.go_on(&tuple) {
            return result;
        }
        let found = self.nat.inbound(&tuple, OUTSIDE, filtering)?;
        let opening = Opening {
            tuple,
            sides: [LEG, found.side],
            destination: Destination::Mapped(OUTSIDE),
            source: Source::AsIs,
            reply_zone: Zone::INSIDE,
            packet: packet(protocol),
            published: &self.published,
            random: self.draw(),
        };
        self.nat.open(&opening, self.now)
    }

    /// A packet arrives from a peer at a port that the first endpoint has published, the same number
    /// inside.
    pub(crate) fn knock(
        &self,
        protocol: Protocol,
        from: Endpoint,
        port: u16,
    ) -> Result<Rewrite, Refusal> {
        let tuple = tuple(protocol, from, (self.outside, port), OUTSIDE);
        if let Some(result) = self.go_on(&tuple) {
            return result;
        }
        let opening = Opening {
            tuple,
            sides: [LEG, self.owner(self.inside[0])],
            destination: Destination::Published(self.inside[0], port),
            source: Source::AsIs,
            reply_zone: Zone::INSIDE,
            packet: packet(protocol),
            published: &self.published,
            random: self.draw(),
        };
        self.nat.open(&opening, self.now)
    }

    /// A handshake from a peer at a published port is completed.
    pub(crate) fn shake(&self, from: Endpoint, port: u16) -> Result<(), Refusal> {
        self.knock(Protocol::TCP, from, port)?;
        let question = tuple(Protocol::TCP, from, (self.outside, port), OUTSIDE);
        let answer = tuple(Protocol::TCP, (self.inside[0], port), from, Zone::INSIDE);
        let segments = [
            (answer, segment(TcpFlags::SYN | TcpFlags::ACK, 70, 1_001)),
            (question, segment(TcpFlags::ACK, 1_001, 71)),
        ];
        for (tuple, segment) in segments {
            let packet = Packet {
                segment: Some(segment),
                ..packet(Protocol::TCP)
            };
            let hit = self.nat.lookup(&tuple).ok_or(Refusal::NotSyn)?;
            self.nat.commit(hit, &packet, self.now)?;
        }
        Ok(())
    }

    /// The address this far behind a peer's network, one in each.
    pub(crate) fn stranger(&self, number: u32) -> Address {
        let bits = self.peers[0].bits();
        match self.peers[0].family() {
            Family::V4 => Address::from_bits(bits - (u128::from(number) << 8)),
            Family::V6 => Address::from_bits(bits + (u128::from(number) << 80)),
        }
    }

    /// Time passes, and what is over ends.
    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        while self.nat.expire(self.now, 3) {}
    }

    /// Long silence, after which nothing must be left.
    #[track_caller]
    pub(crate) fn end(mut self) {
        self.pass(2 * 60 * 60 + 4 * 60 + 1);
        let World { nat, outside, .. } = &self;
        assert_eq!((nat.session_count(), nat.mapping_count()), (0, 0));
        assert_eq!(nat.next_deadline(), None);
        for owner in [1, 2, 9] {
            assert_eq!(nat.sessions_of(Side(owner)), 0);
        }
        for protocol in [Protocol::TCP, Protocol::UDP, self.echo.0] {
            assert_eq!(nat.ports_in_use(OUTSIDE, *outside, protocol), 0);
        }
    }
}

/// The tuple of a packet.
pub(crate) fn tuple(protocol: Protocol, from: Endpoint, to: Endpoint, zone: Zone) -> Tuple {
    Tuple {
        source: from.0,
        destination: to.0,
        source_port: from.1,
        destination_port: to.1,
        protocol,
        zone,
    }
}

/// A packet of 100 octets; with TCP a SYN, always the same.
pub(crate) fn packet(protocol: Protocol) -> Packet {
    let segment = (protocol == Protocol::TCP).then(|| segment(TcpFlags::SYN, 1_000, 0));
    Packet { len: 100, segment }
}

/// A segment without data.
pub(crate) fn segment(flags: TcpFlags, sequence: u32, acknowledgement: u32) -> Segment {
    Segment {
        flags,
        sequence,
        acknowledgement,
        window: 1_000,
        payload_len: 0,
        window_shift: None,
    }
}
