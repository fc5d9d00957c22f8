//! Port security: an endpoint speaks only for itself.
//!
//! On by default, because a switch that is shared by strangers is no switch without it: ARP and ND
//! spoofing, stolen source addresses, rogue routers and DHCP servers all end here (CVE-2020-10749,
//! CVE-2020-13401, CVE-2021-32575; RFC 2827, RFC 6105). The IP summary has looked behind extension
//! headers and VLAN tags, what could not be parsed is refused, and so is IP in an encapsulation that
//! some hosts look into and the parser does not (CVE-2021-27853, CVE-2021-27854): there is nothing to
//! hide behind (RFC 7113).

use heddle_wire::{
    Address, Arp, EtherType, Family, Icmp, Ip, IpOptions, MacAddr, Protocol, Transport, icmp,
};
use heddle_wire::{Network as Content, Summary};

use crate::config::Network;
use crate::drop::{Cause, DropReason};
use crate::frame::Frame;
use crate::port::Identity;

/// ICMP router advertisement (RFC 1256 §3).
const V4_ROUTER_ADVERTISEMENT: u8 = 9;

// Multicast listener discovery (RFC 2710 §3, RFC 3810 §5.2).
pub(super) const MULTICAST_LISTENER_REPORT: u8 = 131;
pub(super) const MULTICAST_LISTENER_DONE: u8 = 132;
pub(super) const MULTICAST_LISTENER_REPORT_V2: u8 = 143;

// Ports of DHCP clients (RFC 2131 §4.1, RFC 8415 §7.2). A server's source port is its own choice, and
// clients do not look at it.
const DHCP_CLIENT: u16 = 68;
const DHCPV6_CLIENT: u16 = 546;

/// Port of DHCP servers (RFC 2131 §4.1).
const DHCP_SERVER: u16 = 67;

/// Below this the field is a length, and LLC follows (IEEE 802.3 §3.2.6).
const ETHER_TYPE_MIN: u16 = 0x0600;

/// LLC for SNAP, and the organisations whose protocol number is an EtherType (RFC 1042, IEEE 802.1H).
const SNAP: [[u8; 6]; 2] = [
    [0xaa, 0xaa, 0x03, 0x00, 0x00, 0x00],
    [0xaa, 0xaa, 0x03, 0x00, 0x00, 0xf8],
];

/// Checks that a frame of an endpoint speaks for nobody else. Its Ethernet source has been checked.
#[inline(always)]
pub(super) fn check(
    network: &Network,
    identity: &Identity,
    frame: &Frame<'_>,
) -> Result<(), DropReason> {
    match &frame.summary.network {
        Content::Ip(ip) => check_ip(network, identity, frame, ip),
        other => check_other(network, identity, frame, other),
    }
}

#[inline(never)]
fn check_other(
    network: &Network,
    identity: &Identity,
    frame: &Frame<'_>,
    content: &Content,
) -> Result<(), DropReason> {
    match content {
        Content::Arp(arp) => check_arp(network, identity, arp).map_err(Into::into),
        Content::Malformed(malformed) => Err((*malformed).into()),
        Content::Other if is_snap(frame.summary, frame.ethernet()) => {
            Err(Cause::SnapEncapsulated.into())
        }
        Content::Other | Content::Ip(_) => Ok(()),
    }
}

/// Whether a frame is ARP, IP or a VLAN tag behind LLC/SNAP. Nobody on Ethernet sends these so, but
/// some hosts would take them.
pub(super) fn is_snap(summary: &Summary, frame: &[u8]) -> bool {
    let content = frame.get(usize::from(summary.network_offset)..);
    let Some([llc @ .., high, low]) = content.and_then(|content| content.first_chunk::<8>()) else {
        return false;
    };
    let carried = EtherType(u16::from_be_bytes([*high, *low]));
    let is_ip = matches!(carried, EtherType::IPV4 | EtherType::IPV6 | EtherType::ARP);
    summary.ether_type.0 < ETHER_TYPE_MIN
        && SNAP.iter().any(|snap| snap == llc)
        && (is_ip || carried.is_tag())
}

fn check_arp(network: &Network, identity: &Identity, arp: &Arp) -> Result<(), Cause> {
    let sender = Address::from(arp.sender);
    // A probe has no sender yet (RFC 5227 §1.1); what it asks for, it claims.
    let claimed = if sender.is_unspecified() {
        Address::from(arp.target)
    } else {
        sender
    };
    // Linux asks in the name of the packet's source, even of one that it has on another interface.
    let is_own = identity.owns(claimed) || is_behind(network, identity, claimed);
    if identity.macs.contains(&arp.sender_mac) && is_own {
        Ok(())
    } else {
        Err(Cause::ArpSpoofed)
    }
}

#[inline(always)]
fn check_ip(
    network: &Network,
    identity: &Identity,
    frame: &Frame<'_>,
    ip: &Ip,
) -> Result<(), DropReason> {
    if !identity.owns(ip.source) && !may_speak(network, identity, ip) {
        return Err(Cause::AddressSpoofed.into());
    }
    match &ip.transport {
        Transport::Icmp(message) => check_icmp(identity, frame, ip, message)?,
        Transport::Udp(udp) => {
            let to_client = match udp.destination_port {
                DHCP_CLIENT => ip.family() == Family::V4,
                DHCPV6_CLIENT => ip.family() == Family::V6,
                _ => false,
            };
            if to_client {
                return Err(Cause::DhcpServerImpersonated.into());
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether the packet may have another source than its endpoint's own.
#[cold]
fn may_speak(network: &Network, identity: &Identity, ip: &Ip) -> bool {
    may_have_no_source(ip) || is_behind(network, identity, ip.source)
}

/// Whether the packet is one that a host sends before it has an address: a DHCP client (RFC 2131
/// §4.1), duplicate address detection, router solicitation (RFC 4861 §4.1, §4.3), multicast listener
/// reports (RFC 3590).
fn may_have_no_source(ip: &Ip) -> bool {
    if !ip.source.is_unspecified() {
        return false;
    }
    match &ip.transport {
        Transport::Udp(udp) => {
            (udp.source_port, udp.destination_port) == (DHCP_CLIENT, DHCP_SERVER)
        }
        Transport::Icmp(message) if ip.protocol == Protocol::ICMPV6 => matches!(
            message.kind,
            icmp::v6::NEIGHBOUR_SOLICITATION
                | icmp::v6::ROUTER_SOLICITATION
                | MULTICAST_LISTENER_REPORT
                | MULTICAST_LISTENER_DONE
                | MULTICAST_LISTENER_REPORT_V2
        ),
        _ => false,
    }
}

/// Whether packets to `source` would be routed to the endpoint: then it may also send for it (strict
/// reverse path forwarding, RFC 3704 §2.2).
fn is_behind(network: &Network, identity: &Identity, source: Address) -> bool {
    network
        .route_to(source)
        .is_some_and(|route| identity.owns(route.via))
}

#[inline(never)]
fn check_icmp(
    identity: &Identity,
    frame: &Frame<'_>,
    ip: &Ip,
    message: &Icmp,
) -> Result<(), Cause> {
    if ip.protocol == Protocol::ICMP {
        return match message.kind {
            icmp::v4::REDIRECT | V4_ROUTER_ADVERTISEMENT => Err(Cause::RouterImpersonated),
            _ => Ok(()),
        };
    }
    let is_discovery = (icmp::v6::ROUTER_SOLICITATION..=icmp::v6::REDIRECT).contains(&message.kind);
    if !is_discovery {
        return Ok(());
    }
    if is_fragmented(ip) {
        return Err(Cause::NeighbourFragmented);
    }
    let body = ip.payload(frame.ethernet()).unwrap_or_default();
    match message.kind {
        icmp::v6::ROUTER_ADVERTISEMENT | icmp::v6::REDIRECT => Err(Cause::RouterImpersonated),
        icmp::v6::NEIGHBOUR_ADVERTISEMENT => {
            let target = discovery_target(body).ok_or(Cause::NeighbourSpoofed)?;
            claims(identity, body, DISCOVERY_LEN, identity.owns(target))
        }
        icmp::v6::NEIGHBOUR_SOLICITATION => {
            let target = discovery_target(body).ok_or(Cause::NeighbourSpoofed)?;
            // Without a source it is duplicate address detection: what it asks for, it claims.
            let rightful = !ip.source.is_unspecified() || identity.owns(target);
            claims(identity, body, DISCOVERY_LEN, rightful)
        }
        _ => claims(identity, body, ROUTER_SOLICITATION_LEN, true),
    }
}

/// Neighbour discovery is never sent in fragments, not even in an atomic one (RFC 6980 §5).
pub(super) fn is_fragmented(ip: &Ip) -> bool {
    ip.fragment.is_part() || ip.options.contains(IpOptions::FRAGMENT_HEADER)
}

/// Octets of a neighbour solicitation or advertisement before its options (RFC 4861 §4.3, §4.4).
pub(super) const DISCOVERY_LEN: usize = 24;

/// Octets of a router solicitation before its options (RFC 4861 §4.1).
const ROUTER_SOLICITATION_LEN: usize = 8;

/// The target address of a neighbour solicitation or advertisement.
pub(super) fn discovery_target(body: &[u8]) -> Option<Address> {
    let target: [u8; 16] = body.get(8..DISCOVERY_LEN)?.try_into().ok()?;
    Some(Address::from_bits(u128::from_be_bytes(target)))
}

/// Whether a discovery message is rightful and its link-layer address options, if any, are ours.
fn claims(identity: &Identity, body: &[u8], options: usize, rightful: bool) -> Result<(), Cause> {
    let options = body.get(options..).unwrap_or_default();
    let own = LinkLayer::parse(options).is_ok_and(|LinkLayer { source, target }| {
        let mut macs = source.into_iter().chain(target);
        macs.all(|mac| identity.macs.contains(&mac))
    });
    if rightful && own {
        Ok(())
    } else {
        Err(Cause::NeighbourSpoofed)
    }
}

/// The link-layer addresses among the options of a discovery message (RFC 4861 §4.6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkLayer {
    pub(super) source: Option<MacAddr>,
    pub(super) target: Option<MacAddr>,
}

/// The options of a discovery message are not a list of options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadOptions;

impl LinkLayer {
    /// An option of length zero or beyond the end makes the whole message invalid (RFC 4861 §6.1,
    /// §7.1); so do here two of one kind, of which we would see one and a host perhaps the other.
    pub(super) fn parse(mut options: &[u8]) -> Result<LinkLayer, BadOptions> {
        let mut found = LinkLayer::default();
        while let [kind, units, ..] = options {
            let len = usize::from(*units) * 8;
            if len == 0 || len > options.len() {
                return Err(BadOptions);
            }
            let (option, rest) = options.split_at(len);
            let place = match kind {
                1 => Some(&mut found.source),
                2 => Some(&mut found.target),
                _ => None,
            };
            if let Some(place) = place {
                let mac = option.get(2..).and_then(<[u8]>::first_chunk);
                let mac = MacAddr::new(*mac.ok_or(BadOptions)?);
                if place.replace(mac).is_some() {
                    return Err(BadOptions);
                }
            }
            options = rest;
        }
        if options.is_empty() {
            Ok(found)
        } else {
            Err(BadOptions)
        }
    }
}

#[cfg(test)]
mod tests;
