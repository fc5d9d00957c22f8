//! Packets on their way through the translation: as they are sent, and as they arrive.

use heddle_nat::Direction;
use heddle_wire::builder::{Link, Packet, TcpHeader};
use heddle_wire::{Address, Protocol, TcpFlags};

use super::{Lab, NEXT_HOP_MAC, Name, Side, Step};

impl Lab {
    /// A link from the leg `wan` to its next hop.
    #[must_use]
    pub fn from_wan(&self) -> Link {
        Link::new(self.mac("wan"), NEXT_HOP_MAC)
    }

    /// A link from the next hop to the leg `wan`.
    #[must_use]
    pub fn to_wan(&self) -> Link {
        Link::new(NEXT_HOP_MAC, self.mac("wan"))
    }

    /// The outside port of the session that an inside address and port has begun.
    ///
    /// # Panics
    ///
    /// If there is no such session.
    #[must_use]
    pub fn outside_port(&self, protocol: Protocol, inside: &str, port: u16) -> u16 {
        let inside: Address = inside.parse().expect("a test names addresses");
        let mut found = None;
        self.switch().nat().for_each(|session| {
            let original = session.tuple(Direction::Original);
            let is_it = (original.protocol, original.source, original.source_port)
                == (protocol, inside, port);
            if is_it {
                found = Some(session.tuple(Direction::Reply).destination_port);
            }
        });
        found.expect("a test asks for a session that there is")
    }
}

impl Side {
    /// The address of a host of the campus.
    ///
    /// # Panics
    ///
    /// If it has no such host.
    #[must_use]
    pub fn host(&self, name: Name) -> &'static str {
        match name {
            "a" => self.a,
            "b" => self.b,
            "c" => self.c,
            "d" => self.d,
            "e" => self.e,
            _ => panic!("no host of the campus is called {name}"),
        }
    }

    /// A packet from a host to somebody outside: as it is sent, and as it leaves.
    #[must_use]
    pub fn outward(&self, lab: &Lab, host: Name, to: &str) -> [Packet; 2] {
        let left = lab.from_wan().ip(self.leg, to).hop_limit(63);
        [lab.to_gateway(host).ip(self.host(host), to), left]
    }

    /// A packet from somebody outside to the leg's address: as it is sent, and as a host gets it.
    #[must_use]
    pub fn inward(&self, lab: &Lab, from: &str, host: Name) -> [Packet; 2] {
        let arrived = lab.from_gateway(host).ip(from, self.host(host));
        [lab.to_wan().ip(from, self.leg), arrived.hop_limit(63)]
    }
}

/// A TCP connection between a host of the campus and a server outside, whoever opens it.
#[derive(Clone, Debug)]
pub struct Connection {
    host: Name,
    out: [Packet; 2],
    back: [Packet; 2],
    /// The host's port as it knows it, and as the outside does.
    ports: [u16; 2],
    server_port: u16,
    /// The next sequence numbers of the host and of the server.
    next: [u32; 2],
}

impl Connection {
    /// A connection of which nothing has been sent. `ports` are the host's own and its outside one.
    #[must_use]
    pub fn new(
        lab: &Lab,
        side: &Side,
        host: Name,
        ports: [u16; 2],
        server: (&str, u16),
    ) -> Connection {
        Connection {
            host,
            out: side.outward(lab, host, server.0),
            back: side.inward(lab, server.0, host),
            ports,
            server_port: server.1,
            next: [1000, 0xffff_fff0],
        }
    }

    /// The header of the host's next segment, at its own port or at its outside one.
    fn header_out(&self, place: usize, flags: TcpFlags) -> TcpHeader {
        TcpHeader {
            source_port: self.ports[place],
            destination_port: self.server_port,
            sequence: self.next[0],
            acknowledgement: acknowledgement(flags, self.next[1]),
            flags,
            ..TcpHeader::default()
        }
    }

    /// The header of the server's next segment.
    fn header_back(&self, place: usize, flags: TcpFlags) -> TcpHeader {
        TcpHeader {
            source_port: self.server_port,
            destination_port: self.ports[1 - place],
            sequence: self.next[1],
            acknowledgement: acknowledgement(flags, self.next[0]),
            flags,
            ..TcpHeader::default()
        }
    }

    /// The host's next segment: as it is sent, and as it leaves.
    #[must_use]
    pub fn segment_out(&self, flags: TcpFlags, data: &[u8]) -> [Vec<u8>; 2] {
        [0, 1].map(|place| self.out[place].tcp(&self.header_out(place, flags), data))
    }

    /// The server's next segment: as it is sent, and as it arrives.
    #[must_use]
    pub fn segment_back(&self, flags: TcpFlags, data: &[u8]) -> [Vec<u8>; 2] {
        [0, 1].map(|place| self.back[place].tcp(&self.header_back(place, flags), data))
    }

    /// The host sends a segment, which leaves.
    pub fn out<'lab>(&mut self, lab: &'lab mut Lab, flags: TcpFlags, data: &[u8]) -> Step<'lab> {
        let [sent, left] = self.segment_out(flags, data);
        self.next[0] = behind(self.next[0], flags, data);
        lab.send(self.host, &sent).arrives("wan", &left)
    }

    /// The server sends a segment, which arrives.
    pub fn back<'lab>(&mut self, lab: &'lab mut Lab, flags: TcpFlags, data: &[u8]) -> Step<'lab> {
        let [sent, arrived] = self.segment_back(flags, data);
        self.next[1] = behind(self.next[1], flags, data);
        lab.send("wan", &sent).arrives(self.host, &arrived)
    }

    /// The host opens the connection through a new mapping.
    pub fn open(&mut self, lab: &mut Lab) {
        self.out(lab, TcpFlags::SYN, b"").opens(1).mappings(1);
        self.back(lab, SYN_ACK, b"").moves(1);
        self.out(lab, TcpFlags::ACK, b"").moves(1);
    }

    /// Both ends close the connection, the host first.
    pub fn close(&mut self, lab: &mut Lab) {
        self.out(lab, FIN_ACK, b"").moves(1);
        self.back(lab, FIN_ACK, b"").moves(1);
        self.out(lab, TcpFlags::ACK, b"").moves(1);
    }

    /// Both ends begin again at other sequence numbers.
    pub fn restart(&mut self) {
        self.next = self.next.map(|next| next.wrapping_add(0x1000_0000));
    }

    /// The host's next segment is this far ahead of the one that would be right.
    pub fn skip_out(&mut self, octets: u32) {
        self.next[0] = self.next[0].wrapping_add(octets);
    }

    /// The server's next segment is this far ahead of the one that would be right.
    pub fn skip_back(&mut self, octets: u32) {
        self.next[1] = self.next[1].wrapping_add(octets);
    }
}

/// SYN and ACK.
pub const SYN_ACK: TcpFlags = TcpFlags::SYN.union(TcpFlags::ACK);

/// FIN and ACK.
pub const FIN_ACK: TcpFlags = TcpFlags::FIN.union(TcpFlags::ACK);

/// The number stands for nothing without the flag.
fn acknowledgement(flags: TcpFlags, next: u32) -> u32 {
    if flags.contains(TcpFlags::ACK) {
        next
    } else {
        0
    }
}

/// The sequence number behind a segment.
fn behind(sequence: u32, flags: TcpFlags, data: &[u8]) -> u32 {
    let control = u32::from(flags.intersects(TcpFlags::SYN.union(TcpFlags::FIN)));
    let data = u32::try_from(data.len()).expect("a segment is shorter than 4 GiB");
    sequence.wrapping_add(control).wrapping_add(data)
}
