//! Out: the next hop's MAC address, the MTU, and the endpoint.

use heddle_wire::{
    Address, Ip, MacAddr, Rewrite, Summary, VNET_HEADER_LEN, VnetHeader, decrement_hop_limit,
    ethernet, fragment_ipv4, rewrite, segment,
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

impl Walk<'_> {
    /// The MAC addresses for a packet to `destination` through `egress`. Neither sends nor waits.
    pub(super) fn next_hop(&self, egress: &Port, destination: Address) -> Result<NextHop, Refused> {
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
        Ok(match self.tables.neighbours.find(link, address) {
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
        let copy = || {
            let mut bytes = tables.held.take()?;
            bytes.copy_from(frame.as_sent()).then_some(HeldFrame {
                ingress: ingress.id,
                bytes,
            })
        };
        let neighbours = &tables.neighbours;
        match neighbours.hold(link, address, ingress.id, copy, self.now) {
            Hold::Waiting => Ok(()),
            Hold::Replaced => {
                let counters = ingress.counters(self.local.worker);
                counters.dropped(Cause::NeighbourQueueFull.into());
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
        let fits = frame.header.largest_segment_len(&frame.summary) <= usize::from(egress.mtu);
        if fits || !ip.dont_fragment {
            return Ok(());
        }
        Err(Refused::with(
            Cause::PacketTooBig,
            Answer::TooBig(egress.mtu),
        ))
    }

    /// Sends a routed packet, rewritten first if `to` says so. The hop limit has been checked.
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
        rewrite(frame.ethernet_mut(), ip, partial, to);
        self.emit(ingress, egress, frame, ip, macs.0, macs.1)
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
        ethernet::set_macs(frame.ethernet_mut(), destination, source);
        if frame.header.largest_segment_len(&frame.summary) > usize::from(egress.mtu) {
            return self.transmit_fragments(ingress, egress, frame);
        }
        self.transmit(egress, frame)
    }

    /// Sends a frame as it is.
    #[inline]
    pub(super) fn transmit(&mut self, egress: &Port, frame: &Frame<'_>) -> Result<(), Refused> {
        self.transmit_bytes(egress, frame.as_sent())
    }

    /// Sends bytes, virtio-net header first.
    #[inline]
    pub(super) fn transmit_bytes(&mut self, egress: &Port, bytes: &[u8]) -> Result<(), Refused> {
        self.local.transmitted += 1;
        match egress.endpoint.transmit(self.local.worker, bytes) {
            Ok(()) => {
                let counters = egress.counters(self.local.worker);
                counters.sent_frames.add(1);
                let octets = bytes.len().saturating_sub(VNET_HEADER_LEN);
                counters.sent_bytes.add(u64::try_from(octets).unwrap_or(0));
                Ok(())
            }
            Err(TransmitError::Full) => Err(Cause::TransmitQueueFull.into()),
            Err(TransmitError::Gone) => Err(Cause::PortGone.into()),
            Err(TransmitError::Failed) => Err(Cause::TransmitFailed.into()),
        }
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
        let mut scratch = vec![0; FRAME_SPACE];
        if frame.header.gso().is_none() {
            frame.complete_checksum();
            return self.transmit_piece(ingress, egress, frame.ethernet(), &mut scratch);
        }
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        let mut keep = |piece: &[u8]| pieces.push(piece.to_vec());
        let (bytes, summary) = (frame.ethernet(), &frame.summary);
        segment(bytes, summary, &frame.header, &mut scratch, &mut keep)
            .map_err(|_| Cause::PacketTooBig)?;
        for piece in pieces {
            self.transmit_piece(ingress, egress, &piece, &mut scratch)?;
        }
        Ok(())
    }

    /// Sends a packet that may be too long, cut if it is. Of fragments that are not taken, each is
    /// counted by itself; the others are sent all the same, so that the count is right.
    fn transmit_piece(
        &mut self,
        ingress: &Port,
        egress: &Port,
        piece: &[u8],
        scratch: &mut [u8],
    ) -> Result<(), Refused> {
        let summary = Summary::parse(piece)?;
        let mut send = |fragment: &[u8]| {
            let bytes = [&VnetHeader::NONE.emit(), fragment].concat();
            if let Err(refused) = self.transmit_bytes(egress, &bytes) {
                ingress.counters(self.local.worker).dropped(refused.reason);
            }
        };
        fragment_ipv4(piece, &summary, usize::from(egress.mtu), scratch, &mut send)
            .map_err(|_| Cause::PacketTooBig)?;
        Ok(())
    }
}
