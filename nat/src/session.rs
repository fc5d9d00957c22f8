//! The record of one flow.
//!
//! # Theory of operation
//!
//! A session is found under two keys, its original and its reply [`Tuple`]. Both stay as they are
//! from commit to removal; they say everything about translation. The rest of the record is what
//! moves with the packets: state, deadline, counters, TCP windows. It is guarded by the record's own
//! lock (see [`heddle_mem::Slab`]), so any worker may process any packet of any flow.
//!
//! The record is plain bytes without pointers and 152 of them, so that with its lock byte it lies in
//! three cache lines: millions of records are kept, and one day handed to a successor. That explains
//! the packing: addresses as words, both window shifts in one byte, frame counts of 48 bits.

use std::time::Duration;

use heddle_mem::{Instant, Record, Stamp};
use heddle_wire::{Address, Protocol, Rewrite};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::mapping::Found;
use crate::owner::Origin;
use crate::tcp::{self, Tracking, Window};
use crate::tuple::{Direction, Tuple, Zone, high, low};

/// Idle time of a UDP flow: the default that RFC 4787 §4.3 REQ-5 recommends. The same before and
/// after the first answer, because REQ-5 makes no difference.
pub const UDP_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Idle time of a UDP flow to port 53 (RFC 4787 §4.3 REQ-5 a). One question, one answer, and a
/// new source port for the next (RFC 5452 §9.2): at [`UDP_TIMEOUT`] and with the rest of ports after
/// it, an outside address would be out of ports at 150 questions a second.
pub const DNS_TIMEOUT: Duration = Duration::from_secs(30);

/// The port of domain name servers (RFC 1035 §4.2.1).
const DNS_PORT: u16 = 53;

/// Idle time of an ICMP query (RFC 5508 §3.2 REQ-2).
pub const ICMP_TIMEOUT: Duration = Duration::from_secs(60);

/// Who a flow is charged to and which way its packets leave: an opaque number, the switch's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Side(pub u16);

/// A session as it lies in memory.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Session {
    /// Original source and destination, reply source and destination; the higher half first.
    addresses: [[u64; 2]; 4],
    /// Original source and destination port, reply source and destination port.
    ports: [u16; 4],
    /// Where original and reply packets arrive.
    zones: [u16; 2],
    /// Upper-layer protocol; zero in a record that nobody uses.
    protocol: u8,
    /// [`tcp::State`] as a byte, or one of [`UNREPLIED`] and [`REPLIED`].
    state: u8,
    /// Which mappings the session holds, [`PERMITS`], and the class the session is filed under;
    /// changed only by the holder of the table's mutex.
    flags: u8,
    /// Window scale shifts of TCP, that of the original side in the lower half.
    shifts: u8,
    /// Where original and reply packets come from, and so where their answers go.
    sides: [u16; 2],
    /// When the session ends if it stays silent.
    deadline: Stamp,
    /// Dynamic mapping that the session holds, the source's if it holds two; see [`Held`].
    mapping: u32,
    /// Frames by direction.
    frames: [Count48; 2],
    /// Octets of IP by direction.
    bytes: [u64; 2],
    /// TCP windows by direction.
    windows: [Window; 2],
}

const _: () = assert!(size_of::<Session>() == 152);

impl Record for Session {}

/// State of a flow without handshake: nobody has answered.
const UNREPLIED: u8 = 0;

/// State of a flow without handshake: both sides have spoken.
const REPLIED: u8 = 1;

/// Flag: the session holds the dynamic mapping of its original source.
const HOLDS_SOURCE: u8 = 1;

/// Flag: the session holds the dynamic mapping of its original destination.
const HOLDS_DESTINATION: u8 = 1 << 1;

/// Flag: the original destination has spoken, so its mapping lets the other end's address in.
const PERMITS: u8 = 1 << 2;

/// Flags: the class the session is filed under.
const FILED_MASK: u8 = 0b11 << 3;
const FILED_UNREPLIED: u8 = 0b00 << 3;
const FILED_OPEN: u8 = 0b01 << 3;
const FILED_CLOSING: u8 = 0b10 << 3;
const FILED_HALF_OPEN: u8 = 0b11 << 3;

/// A count of 48 bits, the lowest 16 first: enough for a million a second over nine years.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
struct Count48([u16; 3]);

impl Count48 {
    fn get(self) -> u64 {
        let [low, middle, high] = self.0.map(u64::from);
        low | middle << 16 | high << 32
    }

    #[inline]
    fn increment(&mut self) {
        let [low, middle, high] = &mut self.0;
        *low = low.wrapping_add(1);
        if *low == 0 {
            *middle = middle.wrapping_add(1);
            if *middle == 0 {
                *high = high.wrapping_add(1);
            }
        }
    }
}

/// What a session is to whoever must choose one to give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Over, kept only for late packets.
    Closing,
    /// One side has spoken, the other has not answered. Also what comes back by itself: see
    /// [`Session::class`].
    Unreplied,
    /// A connection of which the handshake is not complete.
    HalfOpen,
    /// In use.
    Open,
}

/// The dynamic mappings that a session holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// None: nothing is translated, or by publication.
    Nothing,
    /// That of the original source.
    Source(u32),
    /// That of the original destination.
    Destination(u32),
    /// Both (hairpinning). Named is the source's; the other one is at the original destination, in
    /// the same zone.
    Both(u32),
}

/// How a session stands, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// A TCP connection.
    Tcp(tcp::State),
    /// UDP or ICMP, nobody has answered.
    Unreplied,
    /// UDP or ICMP, both sides have spoken.
    Replied,
}

/// The parts of a packet that move a session.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Octets of IP.
    pub len: u32,
    /// The segment, for TCP.
    pub segment: Option<tcp::Segment>,
}

/// What a packet did to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The class is what it was; at most the deadline moved away.
    Same,
    /// The session has another class now, and another deadline.
    Reclassified,
    /// The packet does not belong: it must be dropped and has changed nothing.
    OutOfWindow,
}

impl Session {
    /// The session that a first packet with tuple `original` begins, answered by packets of `reply`.
    pub(crate) fn new(original: &Tuple, reply: &Tuple, sides: [Side; 2], held: Held) -> Session {
        let words = |address: Address| [high(address.bits()), low(address.bits())];
        let (mapping, flags) = match held {
            Held::Nothing => (0, 0),
            Held::Source(id) => (id, HOLDS_SOURCE),
            Held::Destination(id) => (id, HOLDS_DESTINATION),
            Held::Both(id) => (id, HOLDS_SOURCE | HOLDS_DESTINATION),
        };
        Session {
            addresses: [
                words(original.source),
                words(original.destination),
                words(reply.source),
                words(reply.destination),
            ],
            ports: [
                original.source_port,
                original.destination_port,
                reply.source_port,
                reply.destination_port,
            ],
            zones: [original.zone.0, reply.zone.0],
            protocol: original.protocol.0,
            state: UNREPLIED,
            flags,
            shifts: 0,
            sides: sides.map(|side| side.0),
            deadline: Stamp::default(),
            mapping,
            frames: [Count48::default(); 2],
            bytes: [0; 2],
            windows: [Window::default(); 2],
        }
    }

    /// Whether the record is in use.
    pub(crate) fn is_live(&self) -> bool {
        self.protocol != 0
    }

    /// Whether packets of `direction` have this tuple.
    #[inline]
    pub(crate) fn matches(&self, direction: Direction, tuple: &Tuple) -> bool {
        let first = direction.index() * 2;
        let words = |address: Address| [high(address.bits()), low(address.bits())];
        let ([a, b], [c, d]) = (self.addresses[first], self.addresses[first + 1]);
        let ([e, f], [g, h]) = (words(tuple.source), words(tuple.destination));
        // All of it at once: which part of a wrong candidate differs cannot be foreseen.
        let addresses = (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h);
        let ports = (self.ports[first] ^ tuple.source_port)
            | (self.ports[first + 1] ^ tuple.destination_port)
            | (self.zones[direction.index()] ^ tuple.zone.0)
            | u16::from(self.protocol ^ tuple.protocol.0);
        addresses | u64::from(ports) == 0
    }

    /// The tuple of packets of `direction` as they arrive.
    #[must_use]
    pub fn tuple(&self, direction: Direction) -> Tuple {
        let first = direction.index() * 2;
        Tuple {
            source: self.address(first),
            destination: self.address(first + 1),
            source_port: self.ports[first],
            destination_port: self.ports[first + 1],
            protocol: Protocol(self.protocol),
            zone: Zone(self.zones[direction.index()]),
        }
    }

    #[inline]
    fn address(&self, position: usize) -> Address {
        let [high, low] = self.addresses[position];
        Address::from_bits(u128::from(high) << 64 | u128::from(low))
    }

    /// What a packet of `direction` reads when it leaves: the question to the opposite answer.
    #[inline]
    #[must_use]
    pub fn rewrite(&self, direction: Direction) -> Rewrite {
        let opposite = direction.inverse().index() * 2;
        Rewrite {
            source: self.address(opposite + 1),
            source_port: self.ports[opposite + 1],
            destination: self.address(opposite),
            destination_port: self.ports[opposite],
        }
    }

    /// Where packets of `direction` come from.
    #[must_use]
    pub fn ingress(&self, direction: Direction) -> Side {
        Side(self.sides[direction.index()])
    }

    /// Where packets of `direction` go to.
    #[inline]
    #[must_use]
    pub fn egress(&self, direction: Direction) -> Side {
        Side(self.sides[direction.inverse().index()])
    }

    /// Who the session is charged to: the inside, and where both are, whoever began.
    #[must_use]
    pub fn owner(&self) -> Side {
        Side(self.sides[usize::from(!self.is_from_inside(Direction::Original))])
    }

    /// Who has begun it.
    #[must_use]
    pub fn origin(&self) -> Origin {
        if self.is_from_inside(Direction::Original) {
            Origin::Inside
        } else {
            Origin::Outside
        }
    }

    /// Whether packets of `direction` come from inside.
    #[inline]
    fn is_from_inside(&self, direction: Direction) -> bool {
        Zone(self.zones[direction.index()]).is_inside()
    }

    /// The dynamic mappings that the session holds.
    pub(crate) fn held(&self) -> Held {
        match (
            self.flags & HOLDS_SOURCE != 0,
            self.flags & HOLDS_DESTINATION != 0,
        ) {
            (false, false) => Held::Nothing,
            (true, false) => Held::Source(self.mapping),
            (false, true) => Held::Destination(self.mapping),
            (true, true) => Held::Both(self.mapping),
        }
    }

    /// Whom the inside of `mapping` speaks to in this session, by the address it uses; `None` if the
    /// session does not go through that mapping.
    pub(crate) fn peer_through(&self, mapping: &Found) -> Option<Address> {
        if Protocol(self.protocol) != mapping.protocol {
            return None;
        }
        let original = self.tuple(Direction::Original);
        let reply = self.tuple(Direction::Reply);
        let inside = (mapping.inside, mapping.inside_port);
        let outside = (mapping.outside, mapping.outside_port);
        let there = |zone| zone == mapping.zone || zone == Zone::INSIDE;
        if (original.source, original.source_port) == inside
            && (reply.destination, reply.destination_port) == outside
            && there(reply.zone)
        {
            Some(original.destination)
        } else if (reply.source, reply.source_port) == inside
            && (original.destination, original.destination_port) == outside
            && there(original.zone)
        {
            Some(reply.destination)
        } else {
            None
        }
    }

    /// Whether the original destination has spoken for the first time, so that its mapping must let
    /// the other end's address in from now on. Whoever was let in by somebody else's permission does
    /// not prolong it: filtering is about whom the inside has spoken to.
    pub(crate) fn earns_permission(&self) -> bool {
        self.flags & (HOLDS_DESTINATION | PERMITS) == HOLDS_DESTINATION
            && self.frames[Direction::Reply.index()].get() > 0
    }

    /// Whether the original destination's mapping lets the other end's address in for this session.
    pub(crate) fn permits(&self) -> bool {
        self.flags & PERMITS != 0
    }

    /// Notes that it does.
    pub(crate) fn set_permits(&mut self) {
        self.flags |= PERMITS;
    }

    /// The class the session is filed under.
    pub(crate) fn filed_under(&self) -> Class {
        match self.flags & FILED_MASK {
            FILED_CLOSING => Class::Closing,
            FILED_OPEN => Class::Open,
            FILED_HALF_OPEN => Class::HalfOpen,
            _ => Class::Unreplied,
        }
    }

    /// Notes the class that the session is filed under.
    pub(crate) fn file_under(&mut self, class: Class) {
        let filed = match class {
            Class::Closing => FILED_CLOSING,
            Class::Unreplied => FILED_UNREPLIED,
            Class::HalfOpen => FILED_HALF_OPEN,
            Class::Open => FILED_OPEN,
        };
        self.flags = self.flags & !FILED_MASK | filed;
    }

    /// Takes the first packet into account.
    pub(crate) fn begin(&mut self, packet: &Packet, now: Instant) {
        self.deadline = Stamp::from(now + self.silent_timeout());
        match &packet.segment {
            Some(segment) if !segment.is_opening() => self.take_up(segment, now),
            _ => drop(self.advance(Direction::Original, packet, now)),
        }
        self.file_under(self.class());
    }

    /// How long a flow without handshake may be silent.
    #[inline]
    fn silent_timeout(&self) -> Duration {
        if Protocol(self.protocol) != Protocol::UDP {
            ICMP_TIMEOUT
        } else if self.ports[1] == DNS_PORT {
            DNS_TIMEOUT
        } else {
            UDP_TIMEOUT
        }
    }

    /// When the session ends if it stays silent, as seen from `now`.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Instant {
        self.deadline.near(now)
    }

    /// How the session stands.
    #[must_use]
    pub fn state(&self) -> SessionState {
        match (Protocol(self.protocol), self.state) {
            (Protocol::TCP, state) => SessionState::Tcp(tcp::State::from_byte(state)),
            (_, UNREPLIED) => SessionState::Unreplied,
            _ => SessionState::Replied,
        }
    }

    /// What the session is to whoever must choose one to give up.
    ///
    /// An exchange with a published port is never [`Class::Open`]: whichever end speaks next makes
    /// the same session again, so giving it up costs nothing, and a flood of questions with forged
    /// sources, all answered, must not use up what the endpoint may have.
    #[inline]
    #[must_use]
    pub fn class(&self) -> Class {
        use tcp::State;
        match self.state() {
            SessionState::Replied if self.is_reproducible() => Class::Unreplied,
            SessionState::Replied
            | SessionState::Tcp(State::Established | State::OriginalFin | State::ReplyFin) => {
                Class::Open
            }
            SessionState::Unreplied => Class::Unreplied,
            SessionState::Tcp(State::OriginalInit | State::ReplyInit) => Class::HalfOpen,
            SessionState::Tcp(State::Closed | State::BothFin | State::Transitory) => Class::Closing,
        }
    }

    /// From outside to a published port: translated, and by nothing that could go away.
    #[inline]
    fn is_reproducible(&self) -> bool {
        let [_, asked, answering, _] = &self.addresses;
        !self.is_from_inside(Direction::Original)
            && self.flags & HOLDS_DESTINATION == 0
            && asked != answering
    }

    /// Frames and octets that passed in `direction`.
    #[must_use]
    pub fn traffic(&self, direction: Direction) -> (u64, u64) {
        (
            self.frames[direction.index()].get(),
            self.bytes[direction.index()],
        )
    }

    /// The TCP windows, original side first.
    #[must_use]
    pub fn windows(&self) -> [Window; 2] {
        self.windows
    }

    /// Whether a packet of `direction` would be taken for one of the session.
    #[must_use]
    pub fn accepts(&self, direction: Direction, packet: &Packet) -> bool {
        let mut copy = *self;
        copy.advance(direction, packet, Instant::ZERO) != Progress::OutOfWindow
    }

    /// Takes a packet of `direction` into account.
    #[inline]
    pub(crate) fn advance(
        &mut self,
        direction: Direction,
        packet: &Packet,
        now: Instant,
    ) -> Progress {
        let progress = match &packet.segment {
            Some(segment) => self.advance_tcp(direction, segment, now),
            None => self.advance_exchange(direction, now),
        };
        if progress != Progress::OutOfWindow {
            self.frames[direction.index()].increment();
            let bytes = &mut self.bytes[direction.index()];
            *bytes = bytes.wrapping_add(u64::from(packet.len));
        }
        progress
    }

    /// Begins in the middle of a connection.
    #[cold]
    fn take_up(&mut self, segment: &tcp::Segment, now: Instant) {
        let (tracking, state) = Tracking::take_up(Direction::Original, segment);
        self.windows = tracking.windows;
        self.shifts = tracking.shifts[0] | tracking.shifts[1] << 4;
        self.state = state.to_byte();
        self.deadline = Stamp::from(now + state.timeout());
    }

    #[inline]
    fn advance_tcp(
        &mut self,
        direction: Direction,
        segment: &tcp::Segment,
        now: Instant,
    ) -> Progress {
        let shifts = self.shifts();
        if tcp::is_open(self.state) && tcp::follows(&mut self.windows, shifts, direction, segment) {
            self.deadline = Stamp::from(now + tcp::ESTABLISHED_TIMEOUT);
            return Progress::Same;
        }
        self.track(direction, segment, now)
    }

    /// A segment that does more than move the windows of an open connection forward, or else must
    /// not pass.
    #[cold]
    fn track(&mut self, direction: Direction, segment: &tcp::Segment, now: Instant) -> Progress {
        let before = self.class();
        let mut tracking = Tracking {
            windows: self.windows,
            shifts: self.shifts(),
            inside: self.zones.map(|zone| Zone(zone).is_inside()),
        };
        let state = tcp::State::from_byte(self.state);
        let (next, verdict) = tracking.update(state, direction, segment);
        match verdict {
            tcp::Verdict::OutOfWindow => Progress::OutOfWindow,
            tcp::Verdict::AcceptWithoutRefresh => Progress::Same,
            tcp::Verdict::Accept => {
                let [original, reply] = tracking.shifts;
                (self.windows, self.shifts) = (tracking.windows, original | reply << 4);
                self.state = next.to_byte();
                self.deadline = Stamp::from(now + next.timeout());
                self.progress_from(before)
            }
        }
    }

    /// Window scale shifts by direction.
    #[inline]
    fn shifts(&self) -> [u8; 2] {
        [self.shifts & 0xf, self.shifts >> 4]
    }

    /// UDP and ICMP queries: the first answer makes the flow replied; only what comes from inside
    /// keeps it alive (RFC 4787 §4.3 REQ-6), except that a published port has nobody inside who
    /// would have to speak first.
    #[inline]
    fn advance_exchange(&mut self, direction: Direction, now: Instant) -> Progress {
        let dynamic = self.flags & (HOLDS_SOURCE | HOLDS_DESTINATION) != 0;
        if self.is_from_inside(direction) || !dynamic {
            self.deadline = Stamp::from(now + self.silent_timeout());
        }
        if direction == Direction::Original || self.state == REPLIED {
            return Progress::Same;
        }
        let before = self.class();
        self.state = REPLIED;
        self.progress_from(before)
    }

    fn progress_from(&self, before: Class) -> Progress {
        if self.class() == before {
            Progress::Same
        } else {
            Progress::Reclassified
        }
    }

    /// Whether an ICMP error may be about a segment that was sent in `direction` with `sequence`
    /// (RFC 5927 §4.1): only what is in flight can meet trouble.
    #[must_use]
    pub fn is_in_flight(&self, direction: Direction, sequence: u32) -> bool {
        let sent = self.windows[direction.index()];
        let answered = self.windows[direction.inverse().index()];
        let unacknowledged = if answered.window == 0 {
            // Nothing answered yet: the SYN and what came with it (see `Window::edge`).
            sent.edge.wrapping_sub(1)
        } else {
            answered.acknowledged
        };
        let outstanding = sent.end.wrapping_sub(unacknowledged);
        sequence.wrapping_sub(unacknowledged) <= outstanding
    }
}

#[cfg(test)]
mod tests;
