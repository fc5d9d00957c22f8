//! Out: the next hop's MAC address, the MTU, and the endpoint.

use heddle_wire::{
    Address, Family, Ip, MacAddr, Rewrite, Summary, VNET_HEADER_LEN, VnetHeader, allow_fragments,
    decrement_hop_limit, ethernet, fragment_ipv4, fragment_ipv6, rewrite_hop, segment,
};

use super::{Answer, Refused, Walk};
use crate::drop::Cause;
use crate::endpoint::{FRAME_SPACE, TransmitError};
use crate::frame::{Frame, HeldFrame};
use crate::leg::Hop;
use crate::neighbour::{Hold, Link};
use crate::port::{Port, Role};

/// What the Ethernet header of a packet to be sent needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextHop {
    /// Destination and source.
    Known(MacAddr, MacAddr),
    /// The neighbour must be asked for first.
    Unknown(Link, Address),
}

impl From<TransmitError> for Cause {
    #[cold]
    #[inline(never)]
    fn from(error: TransmitError) -> Cause {
        match error {
            TransmitError::Full => Cause::TransmitQueueFull,
            TransmitError::Gone => Cause::PortGone,
            TransmitError::Failed => Cause::TransmitFailed,
        }
    }
}

impl Walk<'_> {
    /// The MAC addresses for a packet to `destination` through `egress`. Neither sends nor waits.
    #[inline(always)]
    pub(super) fn next_hop(
        &mut self,
        egress: &Port,
        destination: Address,
    ) -> Result<NextHop, Refused> {
        let leg = match &egress.role {
            Role::Member { .. } => {
                let (destination, source) = self.member_macs(egress)?;
                return Ok(NextHop::Known(destination, source));
            }
            Role::Leg(leg) => self.config.leg(*leg).ok_or(Cause::PortGone)?,
        };
        let Hop::Neighbour(address) = leg.hop(destination) else {
            return Err(Refused::with(Cause::NoRoute, Answer::NetworkUnreachable));
        };
        let link = Link::Leg(leg.id);
        Ok(match self.local.neighbours.find(link, address) {
            Some(mac) => NextHop::Known(mac, leg.mac),
            None => NextHop::Unknown(link, address),
        })
    }

    /// Destination and source for a packet to an endpoint. Endpoints are never asked: their MAC
    /// addresses are configuration.
    pub(super) fn member_macs(&self, egress: &Port) -> Result<(MacAddr, MacAddr), Refused> {
        let Role::Member { network, identity } = &egress.role else {
            return Err(Cause::PortGone.into());
        };
        let network = self.config.network(*network).ok_or(Cause::PortGone)?;
        let mac = identity.macs.first().ok_or(Cause::HostUnknown)?;
        Ok((*mac, network.gateway_mac))
    }

    /// Lets a frame wait until its next hop is known. It is kept as it arrived and walks again from
    /// the start then, so whatever has changed meanwhile is taken into account.
    pub(super) fn hold(
        &mut self,
        ingress: &Port,
        frame: &Frame<'_>,
        link: Link,
        address: Address,
    ) -> Result<(), Refused> {
        let tables = self.tables;
        let copy = || HeldFrame::new(ingress.id, frame, tables.held.take()?);
        let neighbours = &tables.neighbours;
        match neighbours.hold(link, address, ingress.id, copy, self.now) {
            Hold::Waiting => Ok(()),
            Hold::Replaced(frames) => {
                let counters = ingress.counters(self.local.worker);
                counters.dropped_many(Cause::NeighbourQueueFull.into(), frames);
                Ok(())
            }
            Hold::Ask => {
                self.ask_neighbour(link, address, None);
                Ok(())
            }
            // The answer came between our two looks. The sender's retransmission will find it; to
            // go round again here could go round for ever.
            Hold::Full | Hold::Known => Err(Cause::NeighbourQueueFull.into()),
        }
    }

    /// Whether a packet fits the link of `egress`, whole or in fragments.
    pub(super) fn require_fit(
        &self,
        egress: &Port,
        frame: &Frame<'_>,
        ip: &Ip,
    ) -> Result<(), Refused> {
        let fits = frame.largest_packet_len() <= usize::from(egress.mtu);
        if fits || !ip.dont_fragment {
            return Ok(());
        }
        Err(Refused::with(
            Cause::PacketTooBig,
            Answer::TooBig(egress.mtu),
        ))
    }

    /// Sends a routed packet, rewritten first if `to` says so. The hop limit has been checked.
    #[inline]
    pub(super) fn emit_rewritten(
        &mut self,
        ingress: &Port,
        egress: &Port,
        frame: &mut Frame<'_>,
        ip: &Ip,
        macs: (MacAddr, MacAddr),
        to: &Rewrite,
    ) -> Result<(), Refused> {
        let partial = frame.has_partial_checksum();
        rewrite_hop(frame.ethernet_mut(), ip, partial, to);
        self.renumber(frame, ip, to.source, to.destination);
        self.emit_forwarded(ingress, egress, frame, macs)
    }

    /// Several hosts may send under the addresses that a datagram has got, and number theirs alike. Where
    /// the number matters, in what is or may be cut, it is replaced (RFC 6864 §5.3.1).
    #[inline]
    pub(super) fn renumber(
        &self,
        frame: &mut Frame<'_>,
        ip: &Ip,
        source: Address,
        destination: Address,
    ) {
        if ip.dont_fragment && frame.parts().is_none() {
            return;
        }
        let id = self.identify(ip, source, destination, frame.packets());
        frame.renumber(ip, id);
    }

    /// The first of `count` identifications for datagrams between two addresses.
    #[cold]
    fn identify(&self, ip: &Ip, source: Address, destination: Address, count: u32) -> u32 {
        let identifications = &self.tables.identifications;
        identifications.next(source, destination, ip.protocol, count)
    }

    /// Sends a routed packet. The hop limit has been checked, and that it may be fragmented if it
    /// does not fit.
    pub(super) fn emit(
        &mut self,
        ingress: &Port,
        egress: &Port,
        frame: &mut Frame<'_>,
        ip: &Ip,
        destination: MacAddr,
        source: MacAddr,
    ) -> Result<(), Refused> {
        decrement_hop_limit(frame.ethernet_mut(), ip);
        self.emit_forwarded(ingress, egress, frame, (destination, source))
    }

    /// Sends a packet that has lost a hop.
    #[inline(always)]
    fn emit_forwarded(
        &mut self,
        ingress: &Port,
        egress: &Port,
        frame: &mut Frame<'_>,
        (destination, source): (MacAddr, MacAddr),
    ) -> Result<(), Refused> {
        ethernet::set_macs(frame.ethernet_mut(), destination, source);
        if frame.parts().is_some() {
            return self.transmit_parts(ingress, egress, frame);
        }
        if frame.largest_packet_len() > usize::from(egress.mtu) {
            return self.transmit_fragments(ingress, egress, frame);
        }
        self.transmit(egress, frame)
    }

    /// Sends a datagram in the fragments that it came in, of which some may have to be cut further. If
    /// none of them is taken, the datagram was not sent.
    #[cold]
    fn transmit_parts(
        &mut self,
        ingress: &Port,
        egress: &Port,
        frame: &Frame<'_>,
    ) -> Result<(), Refused> {
        let Some(parts) = frame.parts() else {
            return self.transmit(egress, frame);
        };
        let mut built = self.local.take_scratch();
        let mut pieces = Pieces::default();
        for number in 0..parts.count() {
            if parts.as_it_leaves(number, frame.ethernet(), &mut built) {
                let link = VNET_HEADER_LEN + ethernet::HEADER_LEN;
                if built.len() <= link + usize::from(egress.mtu) {
                    pieces.take_note(self.transmit_bytes(egress, &built));
                } else {
                    self.transmit_piece(egress, &built[VNET_HEADER_LEN..], None, &mut pieces);
                }
            }
        }
        self.local.give_back_scratch(built);
        self.end_of(ingress, &pieces)
    }

    /// Sends an answer of our own to what came in fragments, in as many as the link needs.
    #[cold]
    pub(super) fn transmit_own(
        &mut self,
        ingress: &Port,
        frame: &mut Frame<'_>,
        ip: &Ip,
    ) -> Result<(), Refused> {
        let id = self.identify(ip, ip.destination, ip.source, 1);
        let [.., high, low] = id.to_be_bytes();
        allow_fragments(frame.ethernet_mut(), ip, u16::from_be_bytes([high, low]));
        let mut pieces = Pieces::default();
        self.transmit_piece(ingress, frame.ethernet(), Some(id), &mut pieces);
        self.end_of(ingress, &pieces)
    }

    /// What became of a packet that left in pieces: of those that were not taken each is counted by
    /// itself, unless none was.
    fn end_of(&self, ingress: &Port, pieces: &Pieces) -> Result<(), Refused> {
        let Some(refused) = pieces.refused else {
            return Ok(());
        };
        if pieces.sent == 0 {
            return Err(refused);
        }
        let counters = ingress.counters(self.local.worker);
        counters.dropped_many(refused.reason, pieces.lost);
        Ok(())
    }

    /// Sends a frame as it is.
    #[inline(always)]
    pub(super) fn transmit(&mut self, egress: &Port, frame: &Frame<'_>) -> Result<(), Refused> {
        self.transmit_bytes(egress, frame.as_sent())
    }

    /// Sends bytes, virtio-net header first.
    #[inline(always)]
    pub(super) fn transmit_bytes(&mut self, egress: &Port, bytes: &[u8]) -> Result<(), Refused> {
        self.local.transmitted += 1;
        if let Err(error) = egress.endpoint.transmit(self.local.worker, bytes) {
            return Err(Cause::from(error).into());
        }
        let counters = egress.counters(self.local.worker);
        counters.sent_frames.add(1);
        let octets = bytes.len().saturating_sub(VNET_HEADER_LEN);
        counters.sent_bytes.add(u64::try_from(octets).unwrap_or(0));
        Ok(())
    }

    /// Cuts a packet that does not fit and need not be kept whole (RFC 791 §3.2, RFC 4787 §10
    /// REQ-13). Rare: hosts find out the path's MTU. So the copies are made on the heap.
    #[cold]
    fn transmit_fragments(
        &mut self,
        ingress: &Port,
        egress: &Port,
        frame: &mut Frame<'_>,
    ) -> Result<(), Refused> {
        let mut pieces = Pieces::default();
        if frame.header.gso().is_none() {
            frame.complete_checksum();
            self.transmit_piece(egress, frame.ethernet(), None, &mut pieces);
            return self.end_of(ingress, &pieces);
        }
        let mut segments: Vec<Vec<u8>> = Vec::new();
        let mut keep = |segment: &[u8]| segments.push(segment.to_vec());
        let (bytes, summary) = (frame.ethernet(), frame.summary);
        let mut scratch = vec![0; FRAME_SPACE];
        segment(bytes, summary, &frame.header, &mut scratch, &mut keep)
            .map_err(|_| Cause::PacketTooBig)?;
        for segment in segments {
            self.transmit_piece(egress, &segment, None, &mut pieces);
        }
        self.end_of(ingress, &pieces)
    }

    /// Sends a packet, cut if it is too long: under the identification `own` if it is one of ours, else
    /// as only IPv4 is cut on the way. One that cannot be cut is lost.
    fn transmit_piece(
        &mut self,
        egress: &Port,
        packet: &[u8],
        own: Option<u32>,
        pieces: &mut Pieces,
    ) {
        let mtu = usize::from(egress.mtu);
        let mut scratch = vec![0; ethernet::HEADER_LEN + mtu];
        let mut send = |fragment: &[u8]| {
            let bytes = [&VnetHeader::NONE.emit(), fragment].concat();
            pieces.take_note(self.transmit_bytes(egress, &bytes));
        };
        let cut = match Summary::parse(packet) {
            Ok(summary) => match (own, summary.ip().map(Ip::family)) {
                (Some(id), Some(Family::V6)) => {
                    fragment_ipv6(packet, &summary, mtu, id, &mut scratch, &mut send)
                }
                _ => fragment_ipv4(packet, &summary, mtu, &mut scratch, &mut send),
            },
            Err(malformed) => return pieces.take_note(Err(malformed.into())),
        };
        if cut.is_err() {
            pieces.take_note(Err(Cause::PacketTooBig.into()));
        }
    }
}

/// What became of the pieces of a packet.
#[derive(Debug, Default)]
struct Pieces {
    sent: usize,
    lost: usize,
    /// Why the last of those was not taken.
    refused: Option<Refused>,
}

impl Pieces {
    fn take_note(&mut self, end: Result<(), Refused>) {
        match end {
            Ok(()) => self.sent += 1,
            Err(refused) => {
                self.lost += 1;
                self.refused = Some(refused);
            }
        }
    }
}
