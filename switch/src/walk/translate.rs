//! Packets that belong to a session, begin one, or are about one.

use heddle_nat::{Hit, Opening, Packet, Refusal, Zone, quoted, tcp};
use heddle_wire::{
    Address, Embedded, Family, Icmp, Ip, IpOptions, TcpFlags, TcpOption, TcpOptions, Transport,
    clamp_mss, embedded, icmp, rewrite_embedded, transport_checksum_is_valid,
};

use super::egress::NextHop;
use super::router::require_hops;
use super::{Answer, Refused, Walk};
use crate::drop::Cause;
use crate::frame::Frame;
use crate::port::{Port, PortId};

impl Walk<'_> {
    /// A fragment of a datagram that is to be translated: only the whole of it shows its ports.
    pub(crate) fn reassemble_to_translate(
        &mut self,
        ingress: &Port,
        frame: &Frame<'_>,
        ip: &Ip,
    ) -> Result<(), Refused> {
        require_unbound(ip)?;
        self.reassemble(ingress, frame, ip)
    }

    /// A packet of a known session: every check, then the session moves, then the packet goes.
    pub(crate) fn established(
        &mut self,
        ingress: &Port,
        frame: &mut Frame<'_>,
        ip: &Ip,
        hit: Hit<'_>,
    ) -> Result<(), Refused> {
        if hit.ingress().0 != ingress.id.0 {
            // The right addresses in the wrong place: inner addresses are valid only from their own
            // port (CVE-2019-14899).
            return Err(Cause::Unsolicited.into());
        }
        require_hops(ip)?;
        require_translatable(ip)?;
        let to = hit.rewrite();
        let egress = self
            .config
            .port(PortId(hit.egress().0))
            .ok_or(Cause::PortGone)?;
        self.require_fit(egress, frame, ip)?;
        let hop = self.next_hop(egress, to.destination)?;
        if let Some(rules) = self.config.rules() {
            self.filter_known(rules, (ingress, egress), frame, ip, &hit, hop)?;
        }
        match hop {
            NextHop::Known(destination, source) => {
                let to = self.nat().commit(hit, &packet_of(frame, ip), self.now)?;
                limit_segments(ingress, egress, frame, ip);
                self.emit_rewritten(ingress, egress, frame, ip, (destination, source), &to)
            }
            NextHop::Unknown(link, address) => {
                drop(hit);
                self.hold(ingress, frame, link, address)
            }
        }
    }

    /// The first packet of a session: as above, but only what is sent makes a session. It goes out at
    /// `egress`, to the address and port `to`.
    pub(crate) fn open(
        &mut self,
        ingress: &Port,
        frame: &mut Frame<'_>,
        ip: &Ip,
        opening: &Opening<'_>,
        egress: PortId,
        to: (Address, u16),
    ) -> Result<(), Refused> {
        require_hops(ip)?;
        if let Err(refused) = may_open(ip, opening) {
            return Err(self.filter_invalid(ingress, Some(egress), ip, refused));
        }
        let egress = self.config.port(egress).ok_or(Cause::PortGone)?;
        self.require_fit(egress, frame, ip)?;
        let hop = self.next_hop(egress, ip.destination)?;
        if let Some(rules) = self.config.rules() {
            self.filter_new(rules, (ingress, egress), ip, &opening.tuple, to, hop)?;
        }
        match hop {
            NextHop::Known(destination, source) => {
                let to = self.nat().open(opening, self.now)?;
                limit_segments(ingress, egress, frame, ip);
                self.emit_rewritten(ingress, egress, frame, ip, (destination, source), &to)
                    .inspect_err(|_| self.nat().retract(&opening.tuple, self.now))
            }
            NextHop::Unknown(link, address) => self.hold(ingress, frame, link, address),
        }
    }

    /// A packet without a tuple: an ICMP error, which belongs to the session it is about; else it
    /// cannot be translated, and what cannot be translated is not forwarded. `egress` is where it would
    /// go out, if it is not for us.
    pub(crate) fn untracked(
        &mut self,
        ingress: &Port,
        frame: &mut Frame<'_>,
        ip: &Ip,
        zone: Zone,
        egress: Option<PortId>,
    ) -> Result<(), Refused> {
        let refused = match &ip.transport {
            Transport::Icmp(message) if is_error_about_packet(message, ip.family()) => {
                return self.translate_error(ingress, frame, ip, zone, egress);
            }
            Transport::Icmp(_) | Transport::Absent => Cause::ProtocolUntranslatable.into(),
            _ => Refused::with(Cause::ProtocolUntranslatable, Answer::ProtocolUnreachable),
        };
        Err(self.filter_invalid(ingress, egress, ip, refused))
    }

    fn translate_error(
        &mut self,
        ingress: &Port,
        frame: &mut Frame<'_>,
        ip: &Ip,
        zone: Zone,
        outward: Option<PortId>,
    ) -> Result<(), Refused> {
        require_hops(ip)?;
        require_translatable(ip)?;
        require_checksum(frame, ip)?;
        let quote = embedded(frame.ethernet(), ip)?;
        require_plausible_mtu(ip)?;
        let unmatched = Err(Refusal::ErrorUnmatched);
        let error = if self.was_sent_to(ingress, &quote, zone) {
            self.nat().translate_error(ip.source, &quote, zone)
        } else {
            unmatched
        };
        let error =
            error.map_err(|refusal| self.filter_invalid(ingress, outward, ip, refusal.into()))?;
        let egress = self
            .config
            .port(PortId(error.egress.0))
            .ok_or(Cause::PortGone)?;
        let hop = self.next_hop(egress, error.destination)?;
        if let Some(rules) = self.config.rules() {
            self.filter_related(rules, (ingress, egress), ip, &error, hop)?;
        }
        match hop {
            NextHop::Known(destination, source) => {
                // The quote's part in the checksum can only be changed in a whole one.
                frame.complete_checksum();
                let bytes = frame.ethernet_mut();
                rewrite_embedded(bytes, ip, &error.quote, error.source, error.destination)?;
                self.renumber(frame, ip, error.source, error.destination);
                self.emit(ingress, egress, frame, ip, destination, source)
            }
            NextHop::Unknown(link, address) => self.hold(ingress, frame, link, address),
        }
    }

    /// Whether the packet that an error quotes went out where the error came in. Nobody else can have
    /// met trouble with it: an endpoint must not end its neighbour's flows.
    pub(super) fn was_sent_to(&self, ingress: &Port, quote: &Embedded, zone: Zone) -> bool {
        quoted(quote, zone)
            .and_then(|sent| self.nat().lookup(&sent.inverse(zone)))
            .is_some_and(|hit| hit.ingress().0 == ingress.id.0)
    }
}

/// Errors that say what became of a packet. Not a source quench (RFC 6633 §5) and not a redirect,
/// which is about a link that the other side does not know. Of IPv6 also those yet unknown, of which
/// the parser then says that they quote nothing it could find.
pub(super) fn is_error_about_packet(message: &Icmp, family: Family) -> bool {
    message.is_error(family)
        && !(family == Family::V4
            && matches!(message.kind, icmp::v4::SOURCE_QUENCH | icmp::v4::REDIRECT))
}

/// What can begin a session that is translated.
fn may_open(ip: &Ip, opening: &Opening<'_>) -> Result<(), Refused> {
    require_translatable(ip)?;
    if answers_nothing(ip) {
        return Err(Cause::Unsolicited.into());
    }
    let segment = opening.packet.segment.as_ref();
    if segment.is_some_and(|segment| !segment.is_opening()) {
        return Err(Refusal::NotSyn.into());
    }
    Ok(())
}

/// Links carry more than this (RFC 8201 §4 has hosts discard what says less). For IPv4 it is what every
/// host takes whole (RFC 791 §3.1); somebody who says less wants a connection cut to pieces (RFC 5927 §7).
/// Zero is a router from before RFC 1191.
const SMALLEST_PATH_MTU: [u32; 2] = [576, 1280];

/// Whether what an error says about the path's MTU, if anything, can be true.
fn require_plausible_mtu(ip: &Ip) -> Result<(), Refused> {
    let Transport::Icmp(message) = &ip.transport else {
        return Ok(());
    };
    let [v4, v6] = SMALLEST_PATH_MTU;
    let implausible = match (ip.family(), message.kind, message.code) {
        (Family::V4, icmp::v4::DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED) => {
            (1..v4).contains(&(message.word & 0xffff))
        }
        (Family::V6, icmp::v6::PACKET_TOO_BIG, _) => message.word < v6,
        _ => false,
    };
    if implausible {
        Err(Cause::PathMtuImplausible.into())
    } else {
        Ok(())
    }
}

/// Code of "fragmentation needed and DF set" (RFC 792).
const FRAGMENTATION_NEEDED: u8 = 4;

/// Whether the packet is the answer to a query, which cannot begin anything.
fn answers_nothing(ip: &Ip) -> bool {
    matches!(&ip.transport, Transport::Icmp(message) if message.is_reply(ip.family()))
}

/// What tracking looks at.
#[inline]
pub(super) fn packet_of(frame: &Frame<'_>, ip: &Ip) -> Packet {
    let segment = match &ip.transport {
        Transport::Tcp(tcp) => {
            let window_shift = if tcp.flags.contains(TcpFlags::SYN) {
                window_shift(frame, ip)
            } else {
                None
            };
            Some(tcp::Segment {
                flags: tcp.flags,
                sequence: tcp.sequence,
                acknowledgement: tcp.acknowledgement,
                window: tcp.window,
                payload_len: tcp.payload_len,
                window_shift,
            })
        }
        _ => None,
    };
    Packet {
        len: ip.end - u32::from(ip.header_offset),
        segment,
    }
}

/// The window scale option of a SYN (RFC 7323 §2.2).
#[cold]
fn window_shift(frame: &Frame<'_>, ip: &Ip) -> Option<u8> {
    let Transport::Tcp(tcp) = &ip.transport else {
        return None;
    };
    let options = ip
        .payload(frame.ethernet())?
        .get(TCP_FIXED_LEN..usize::from(tcp.header_len))?;
    TcpOptions::new(options)
        .find(|option| option.kind == TcpOption::WINDOW_SCALE)
        .and_then(|option| option.data.first().copied())
}

/// Octets of a TCP header before its options (RFC 9293 §3.1).
const TCP_FIXED_LEN: usize = 20;

/// Where two links differ, a SYN must not promise segments that one of them cannot carry: hosts
/// that drop "packet too big" would never find out.
fn limit_segments(ingress: &Port, egress: &Port, frame: &mut Frame<'_>, ip: &Ip) {
    let Transport::Tcp(tcp) = &ip.transport else {
        return;
    };
    if ingress.mtu == egress.mtu || !tcp.flags.contains(TcpFlags::SYN) {
        return;
    }
    let headers = match ip.family() {
        Family::V4 => 40,
        Family::V6 => 60,
    };
    let largest = ingress
        .mtu
        .min(egress.mtu)
        .saturating_sub(headers)
        .max(MIN_MSS);
    let partial = frame.has_partial_checksum();
    clamp_mss(frame.ethernet_mut(), ip, partial, largest);
}

/// No segment size is lowered below the one that any host takes (RFC 9293 §3.7.1).
const MIN_MSS: u16 = 536;

/// What cannot be translated is not forwarded: addresses that are bound, port 0. That it is a whole
/// datagram has been seen to.
fn require_translatable(ip: &Ip) -> Result<(), Refused> {
    require_unbound(ip)?;
    let zero = match &ip.transport {
        Transport::Tcp(tcp) => tcp.source_port == 0 || tcp.destination_port == 0,
        Transport::Udp(udp) => udp.source_port == 0 || udp.destination_port == 0,
        _ => false,
    };
    if zero {
        Err(Cause::PortZero.into())
    } else {
        Ok(())
    }
}

/// Addresses that the packet proves (RFC 4302), or that stand in a routing header as well, cannot be
/// rewritten.
fn require_unbound(ip: &Ip) -> Result<(), Refused> {
    let bound = IpOptions::AUTHENTICATION | IpOptions::ROUTING;
    if ip.options.intersects(bound) {
        return Err(Refused::with(
            Cause::ProtocolUntranslatable,
            Answer::Prohibited,
        ));
    }
    Ok(())
}

/// Before we answer or re-interpret a message, its checksum must be right (RFC 5508 §4.1 REQ-3 a).
pub(super) fn require_checksum(frame: &Frame<'_>, ip: &Ip) -> Result<(), Refused> {
    let vouched = frame.header.needs_checksum() || frame.header.data_valid();
    if vouched || transport_checksum_is_valid(frame.ethernet(), ip) {
        Ok(())
    } else {
        Err(Cause::MessageChecksum.into())
    }
}
