//! What the sender of a refused packet is told (RFC 792, RFC 1812 §4.3, RFC 4443, RFC 9293 §3.5.2).

use std::borrow::Cow;

use heddle_wire::builder::{Link, TcpHeader};
use heddle_wire::{
    Address, Family, Fragment, Ip, Protocol, Summary, Tcp, TcpFlags, Transport, VnetHeader, icmp,
};

use super::Walk;
use super::router::is_broadcast_of;
use super::translate::require_checksum;
use crate::config::{GATEWAY_LINK_LOCAL, Network};
use crate::frame::Frame;
use crate::port::{Port, Role};

/// Octets of the fixed IPv6 header, and where in it the next header is named (RFC 8200 §3).
const IPV6_HEADER_LEN: usize = 40;
const IPV6_NEXT_HEADER: usize = 6;

/// What the sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Nothing.
    Silence,
    /// The hop limit was used up.
    TimeExceeded,
    /// The other fragments did not come in time (ICMP 11/1, ICMPv6 3/1).
    ReassemblyTimeExceeded,
    /// No route (ICMP 3/0, ICMPv6 1/0).
    NetworkUnreachable,
    /// Nobody there (ICMP 3/1, ICMPv6 1/3).
    HostUnreachable,
    /// Not permitted (ICMP 3/13, ICMPv6 1/1).
    Prohibited,
    /// The source address is not one to be used here (ICMPv6 1/5; of IPv4 nobody is told, RFC 1812
    /// §5.3.8).
    SourceRefused,
    /// Nothing listens (ICMP 3/3, ICMPv6 1/4).
    PortUnreachable,
    /// Unknown protocol (ICMP 3/2; ICMPv6 parameter problem 4/1).
    ProtocolUnreachable,
    /// Longer than this MTU (ICMP 3/4, RFC 1191; ICMPv6 2/0).
    TooBig(u16),
    /// TCP RST, in the name of the destination.
    Reset,
}

/// Type, code and the four octets behind the checksum of an ICMP error.
type Message = (u8, u8, u32);

impl Answer {
    /// The ICMP message for a packet; `None` for answers that are not ICMP.
    fn message(self, frame: &Frame<'_>, ip: &Ip) -> Option<Message> {
        let v4 = |code| Some((icmp::v4::DESTINATION_UNREACHABLE, code, 0));
        let v6 = |code| Some((icmp::v6::DESTINATION_UNREACHABLE, code, 0));
        match (self, ip.family()) {
            (Answer::Silence | Answer::Reset, _) | (Answer::SourceRefused, Family::V4) => None,
            (Answer::SourceRefused, Family::V6) => v6(5),
            (Answer::TimeExceeded, Family::V4) => Some((icmp::v4::TIME_EXCEEDED, 0, 0)),
            (Answer::TimeExceeded, Family::V6) => Some((icmp::v6::TIME_EXCEEDED, 0, 0)),
            (Answer::ReassemblyTimeExceeded, Family::V4) => Some((icmp::v4::TIME_EXCEEDED, 1, 0)),
            (Answer::ReassemblyTimeExceeded, Family::V6) => Some((icmp::v6::TIME_EXCEEDED, 1, 0)),
            (Answer::NetworkUnreachable, Family::V4) => v4(0),
            (Answer::NetworkUnreachable, Family::V6) => v6(0),
            (Answer::HostUnreachable, Family::V4) => v4(1),
            (Answer::HostUnreachable, Family::V6) => v6(3),
            (Answer::Prohibited, Family::V4) => v4(13),
            (Answer::Prohibited, Family::V6) => v6(1),
            (Answer::PortUnreachable, Family::V4) => v4(3),
            (Answer::PortUnreachable, Family::V6) => v6(4),
            (Answer::ProtocolUnreachable, Family::V4) => v4(2),
            (Answer::ProtocolUnreachable, Family::V6) => {
                let pointer = last_next_header(frame.ethernet(), ip);
                Some((icmp::v6::PARAMETER_PROBLEM, 1, pointer))
            }
            (Answer::TooBig(mtu), Family::V4) => {
                Some((icmp::v4::DESTINATION_UNREACHABLE, 4, u32::from(mtu)))
            }
            (Answer::TooBig(mtu), Family::V6) => {
                Some((icmp::v6::PACKET_TOO_BIG, 0, u32::from(mtu)))
            }
        }
    }
}

impl Walk<'_> {
    /// Tells the sender of a frame, within the limits there are for telling.
    pub(super) fn answer(&mut self, ingress: &Port, frame: &Frame<'_>, answer: Answer) {
        if answer == Answer::Silence {
            return;
        }
        let Some(ip) = frame.ip() else { return };
        // A damaged segment may name the wrong connection (RFC 9293 §3.10.7.4 sees none such).
        let damaged = answer == Answer::Reset && require_checksum(frame, ip).is_err();
        if damaged || !may_be_answered(frame, ip) || self.is_broadcast(ip.destination) {
            return;
        }
        let Some((mac, source)) = self.own_addresses(ingress, ip) else {
            return;
        };
        let random = self.random();
        let port = ingress.id.index();
        if !self.local.limiter.permits(port, random, self.now) {
            return;
        }
        let link = Link::new(mac, frame.summary.source);
        let bytes = match (answer, &ip.transport) {
            (Answer::Reset, Transport::Tcp(tcp)) => reset(tcp).map(|header| {
                let packet = link.ip(ip.destination, ip.source);
                packet.id(0).dont_fragment().tcp(&header, &[])
            }),
            _ => answer.message(frame, ip).map(|(kind, code, word)| {
                // What is not to be cut needs no identification (RFC 6864 §4.1).
                let packet = link.ip(source, ip.source).id(0).dont_fragment();
                packet.icmp_error(kind, code, word, &quoted(frame))
            }),
        };
        if let Some(bytes) = bytes {
            self.originate(ingress, &bytes);
        }
    }

    /// Whether an address is the broadcast address of a link that we know.
    fn is_broadcast(&self, address: Address) -> bool {
        let subnet = self.config.subnet_of(address);
        subnet.is_some_and(|(subnet, _)| is_broadcast_of(subnet, address))
            || self.config.legs().any(|leg| leg.is_broadcast(address))
    }

    /// Sends a frame of our own. If it cannot be sent, that is counted where it was to go.
    pub(super) fn originate(&mut self, egress: &Port, frame: &[u8]) {
        let bytes = [&VnetHeader::NONE.emit(), frame].concat();
        if let Err(refused) = self.transmit_bytes(egress, &bytes) {
            egress.counters(self.local.worker).dropped(refused.reason);
        }
    }

    /// The MAC and IP address with which we speak to the sender of a packet: the address it spoke to
    /// where that is ours, else the gateway's or the leg's.
    fn own_addresses(&self, ingress: &Port, ip: &Ip) -> Option<(heddle_wire::MacAddr, Address)> {
        match &ingress.role {
            Role::Member { network, .. } => {
                let network = self.config.network(*network)?;
                let own = if self.is_own_address(network, ip.destination) {
                    Some(ip.destination)
                } else {
                    network
                        .gateways
                        .iter()
                        .copied()
                        .find(|&own| own.family() == ip.family() && own != GATEWAY_LINK_LOCAL)
                };
                Some((network.gateway_mac, own?))
            }
            Role::Leg(leg) => {
                let leg = self.config.leg(*leg)?;
                let own = if leg.owns(ip.destination) {
                    Some(ip.destination)
                } else {
                    leg.address(ip.family())
                };
                Some((leg.mac, own?))
            }
        }
    }

    /// Whether an address is one of ours as seen from `network`: its gateway's, that of a network it is
    /// routed to, or a leg's.
    pub(super) fn is_own_address(&self, network: &Network, address: Address) -> bool {
        let is_gateway = |network: &Network| network.gateways.contains(&address);
        let other = self.config.subnet_of(address);
        let other = other.filter(|&(_, id)| network.reaches(id));
        let other = other.and_then(|(_, id)| self.config.network(id));
        is_gateway(network)
            || other.is_some_and(|other| is_gateway(other))
            || self.config.legs().any(|leg| leg.owns(address))
    }
}

/// The frame that an error quotes: of a datagram that came in fragments the first one, which its sender
/// knows.
fn quoted<'f>(frame: &'f Frame<'_>) -> Cow<'f, [u8]> {
    let Some(parts) = frame.parts() else {
        return frame.ethernet().into();
    };
    let mut first = Vec::new();
    parts.as_they_came(frame.ethernet(), &mut Vec::new(), |fragment| {
        let summary = Summary::parse(fragment).ok();
        let is_later = |ip: &Ip| matches!(ip.fragment, Fragment::Later { .. });
        let ip = summary.as_ref().and_then(Summary::ip);
        if ip.is_some_and(|ip| !is_later(ip)) {
            first = fragment.to_vec();
        }
    });
    if first.is_empty() {
        return frame.ethernet().into();
    }
    first.into()
}

/// RFC 1812 §4.3.2.7, RFC 4443 §2.4 e: no errors about errors, about what was sent to many, about
/// later fragments, to those who are nobody.
fn may_be_answered(frame: &Frame<'_>, ip: &Ip) -> bool {
    let is_error = match &ip.transport {
        // A redirect is no error, but nothing to answer either.
        Transport::Icmp(message) => {
            message.is_error(ip.family())
                || ip.protocol == Protocol::ICMPV6 && message.kind == icmp::v6::REDIRECT
        }
        _ => false,
    };
    let to_many = frame.summary.destination.is_multicast()
        || ip.destination.is_multicast()
        || ip.destination.is_limited_broadcast();
    let from_nobody = ip.source.is_unspecified()
        || ip.source.is_multicast()
        || ip.source.is_loopback()
        || ip.source.is_this_network()
        || ip.source.is_reserved();
    let later = matches!(ip.fragment, Fragment::Later { .. });
    !(is_error || to_many || from_nobody || later)
}

/// Where in an IPv6 packet the field stands that names its upper layer (RFC 4443 §3.4): in the fixed
/// header, or in the last extension header, whose first octet it is.
fn last_next_header(frame: &[u8], ip: &Ip) -> u32 {
    let packet = frame
        .get(usize::from(ip.header_offset)..)
        .unwrap_or_default();
    let octet = |at: usize| packet.get(at).copied().unwrap_or_default();
    let (mut field, mut header) = (IPV6_NEXT_HEADER, IPV6_HEADER_LEN);
    // The parser has walked the same headers and found them whole and few.
    while header < ip.header_len() {
        let units = usize::from(octet(header + 1));
        let len = match Protocol(octet(field)) {
            Protocol::FRAGMENT => 8,
            Protocol::AUTHENTICATION => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        (field, header) = (header, header + len);
    }
    u32::try_from(field).unwrap_or(0)
}

/// The segment that says there is no such connection (RFC 9293 §3.5.2, group 1); never in answer to a
/// RST.
fn reset(tcp: &Tcp) -> Option<TcpHeader> {
    if tcp.flags.contains(TcpFlags::RST) {
        return None;
    }
    let ports = TcpHeader {
        source_port: tcp.destination_port,
        destination_port: tcp.source_port,
        window: 0,
        ..TcpHeader::default()
    };
    if tcp.flags.contains(TcpFlags::ACK) {
        return Some(TcpHeader {
            sequence: tcp.acknowledgement,
            acknowledgement: 0,
            flags: TcpFlags::RST,
            ..ports
        });
    }
    let control =
        u32::from(tcp.flags.contains(TcpFlags::SYN)) + u32::from(tcp.flags.contains(TcpFlags::FIN));
    Some(TcpHeader {
        sequence: 0,
        acknowledgement: tcp
            .sequence
            .wrapping_add(tcp.payload_len)
            .wrapping_add(control),
        flags: TcpFlags::RST.union(TcpFlags::ACK),
        ..ports
    })
}
