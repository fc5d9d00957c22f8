//! A TCP connection between host A and a server outside, segment by segment.

use heddle_wire::builder::TcpHeader;
use heddle_wire::{Address, TcpFlags};

use super::heard::Heard;
use super::places::{Station, server};
use super::scene::Scene;
use crate::problem::Problem;

/// The server's port.
const SERVER_PORT: u16 = 80;

pub(super) const SYN_ACK: TcpFlags = TcpFlags::SYN.union(TcpFlags::ACK);
pub(super) const FIN_ACK: TcpFlags = TcpFlags::FIN.union(TcpFlags::ACK);
pub(super) const RST_ACK: TcpFlags = TcpFlags::RST.union(TcpFlags::ACK);

/// A connection as both ends see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) server: Address,
    pub(super) server_port: u16,
    /// The host's port, as it knows it and as the outside does.
    pub(super) port: u16,
    pub(super) outside_port: u16,
    /// The next sequence numbers of the host and of the server.
    pub(super) next: [u32; 2],
}

impl Connection {
    /// One of which nothing has been sent. Its outside port becomes known with the first segment.
    pub(super) fn new(scene: &mut Scene<'_>) -> Connection {
        Connection {
            server: server(scene.family),
            server_port: SERVER_PORT,
            port: scene.port(),
            outside_port: 0,
            next: [100_000, 0x9000_0000],
        }
    }

    /// One that is open; `None` if the translator does not let it be opened.
    pub(super) fn open(scene: &mut Scene<'_>) -> Result<Option<Connection>, Problem> {
        let mut connection = Connection::new(scene);
        let opened = connection.handshake(scene)?;
        Ok(opened.then_some(connection))
    }

    /// The three segments that open it; whether all of them pass.
    pub(super) fn handshake(&mut self, scene: &mut Scene<'_>) -> Result<bool, Problem> {
        Ok(self.out(scene, TcpFlags::SYN, b"")?
            && self.back(scene, SYN_ACK, b"")?
            && self.out(scene, TcpFlags::ACK, b"")?)
    }

    /// The host sends its next segment; whether it leaves.
    pub(super) fn out(
        &mut self,
        scene: &mut Scene<'_>,
        flags: TcpFlags,
        data: &[u8],
    ) -> Result<bool, Problem> {
        let header = self.header_out(flags);
        self.next[0] = behind(self.next[0], flags, data);
        self.send_out(scene, &header, data)
    }

    /// The server sends its next segment; whether it arrives.
    pub(super) fn back(
        &mut self,
        scene: &mut Scene<'_>,
        flags: TcpFlags,
        data: &[u8],
    ) -> Result<bool, Problem> {
        let header = self.header_back(flags);
        self.next[1] = behind(self.next[1], flags, data);
        Ok(self.send_back(scene, &header, data)?.is_some())
    }

    /// The header of the host's next segment.
    pub(super) fn header_out(&self, flags: TcpFlags) -> TcpHeader {
        TcpHeader {
            source_port: self.port,
            destination_port: self.server_port,
            sequence: self.next[0],
            acknowledgement: acknowledgement(flags, self.next[1]),
            flags,
            ..TcpHeader::default()
        }
    }

    /// The header of the server's next segment.
    pub(super) fn header_back(&self, flags: TcpFlags) -> TcpHeader {
        TcpHeader {
            source_port: self.server_port,
            destination_port: self.outside_port,
            sequence: self.next[1],
            acknowledgement: acknowledgement(flags, self.next[0]),
            flags,
            ..TcpHeader::default()
        }
    }

    /// The host sends a segment; whether it leaves as it is, from one outside port.
    pub(super) fn send_out(
        &mut self,
        scene: &mut Scene<'_>,
        header: &TcpHeader,
        data: &[u8],
    ) -> Result<bool, Problem> {
        let heard = scene.send_out(Station::A, self.server, |packet| packet.tcp(header, data))?;
        let Some(tcp) = heard.as_ref().and_then(Heard::tcp) else {
            return Ok(false);
        };
        let is_first = self.outside_port == 0;
        if is_first {
            self.outside_port = tcp.source_port;
        }
        Ok(tcp.source_port == self.outside_port
            && tcp.destination_port == header.destination_port
            && (tcp.sequence, tcp.flags) == (header.sequence, header.flags))
    }

    /// The server sends a segment; as it arrives, if it does.
    pub(super) fn send_back(
        &self,
        scene: &mut Scene<'_>,
        header: &TcpHeader,
        data: &[u8],
    ) -> Result<Option<Heard>, Problem> {
        let heard = scene.send_in(self.server, Station::A, |packet| packet.tcp(header, data))?;
        Ok(heard.filter(|heard| {
            heard.tcp().is_some_and(|tcp| {
                (tcp.source_port, tcp.destination_port) == (self.server_port, self.port)
                    && (tcp.sequence, tcp.flags) == (header.sequence, header.flags)
            })
        }))
    }

    /// Whether data passes in both directions.
    pub(super) fn is_alive(&mut self, scene: &mut Scene<'_>) -> Result<bool, Problem> {
        let data = TcpFlags::ACK.union(TcpFlags::PSH);
        Ok(self.back(scene, data, b"are you there?")? && self.out(scene, data, b"yes")?)
    }

    /// Both ends close, the host first; whether it all passes.
    pub(super) fn close(&mut self, scene: &mut Scene<'_>) -> Result<bool, Problem> {
        Ok(self.out(scene, FIN_ACK, b"")?
            && self.back(scene, FIN_ACK, b"")?
            && self.out(scene, TcpFlags::ACK, b"")?)
    }
}

/// The number stands for nothing without the flag.
fn acknowledgement(flags: TcpFlags, next: u32) -> u32 {
    if flags.contains(TcpFlags::ACK) {
        next
    } else {
        0
    }
}

/// The sequence number behind a segment (RFC 9293 §3.4).
fn behind(sequence: u32, flags: TcpFlags, data: &[u8]) -> u32 {
    let control = u32::from(flags.intersects(TcpFlags::SYN.union(TcpFlags::FIN)));
    let data = u32::try_from(data.len()).unwrap_or(u32::MAX);
    sequence.wrapping_add(control).wrapping_add(data)
}
