//! What hosts say to routers alone: which groups they listen to, and that they look for a router.
//!
//! A bridge forwards membership reports only to ports behind which a multicast router is, which it
//! knows by its queries (RFC 4541 §2.1.1 1, §3). Every interface that comes up sends some of them; in
//! a network of a thousand endpoints flooding them would be thousands of frames for nobody. Router
//! solicitations are the same, because no endpoint with port security can be a router (RFC 4861 §4.1).
//! Where there is no port security anything may be behind a port.

use heddle_wire::{Family, Ip, Network as Content, Protocol, Transport, icmp};

use super::security::{
    MULTICAST_LISTENER_DONE, MULTICAST_LISTENER_REPORT, MULTICAST_LISTENER_REPORT_V2,
};
use crate::frame::Frame;
use crate::port::Port;

/// Multicast listener query (RFC 2710 §3, RFC 3810 §5.1).
pub(super) const MULTICAST_LISTENER_QUERY: u8 = 130;

/// Membership query of IGMP (RFC 2236 §2.1, RFC 3376 §4.1); all its other messages are for routers.
const MEMBERSHIP_QUERY: u8 = 0x11;

/// Who a group-addressed frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// All stations of the network.
    Everybody,
    /// The same, and whoever sent it is a multicast router.
    EverybodyFromRouter,
    /// Routers alone.
    Routers,
}

impl Audience {
    /// Who a frame is for. What is in a VLAN or in fragments is not looked into.
    pub(super) fn of(frame: &Frame<'_>) -> Audience {
        match &frame.summary.network {
            Content::Ip(ip) if frame.summary.tags == 0 && ip.destination.is_multicast() => {
                match ip.family() {
                    Family::V4 => of_igmp(frame, ip),
                    Family::V6 => of_icmp(ip),
                }
            }
            _ => Audience::Everybody,
        }
    }

    /// Whether a port is to have it.
    pub(super) fn includes(self, port: &Port) -> bool {
        self != Audience::Routers || port.may_be_router()
    }
}

fn of_igmp(frame: &Frame<'_>, ip: &Ip) -> Audience {
    if ip.protocol != Protocol::IGMP || ip.fragment.is_part() {
        return Audience::Everybody;
    }
    match ip.payload(frame.ethernet()).and_then(<[u8]>::first) {
        Some(&MEMBERSHIP_QUERY) => Audience::EverybodyFromRouter,
        Some(_) => Audience::Routers,
        None => Audience::Everybody,
    }
}

fn of_icmp(ip: &Ip) -> Audience {
    let Transport::Icmp(message) = &ip.transport else {
        return Audience::Everybody;
    };
    match message.kind {
        MULTICAST_LISTENER_QUERY => Audience::EverybodyFromRouter,
        MULTICAST_LISTENER_REPORT
        | MULTICAST_LISTENER_DONE
        | MULTICAST_LISTENER_REPORT_V2
        | icmp::v6::ROUTER_SOLICITATION => Audience::Routers,
        _ => Audience::Everybody,
    }
}
