//! The gateway's own voice: ARP (RFC 826), neighbour discovery (RFC 4861), echo (RFC 1812 §4.3.3.6,
//! RFC 4443 §4.2), and a refusal for everything else.
//!
//! The same code speaks for the gateway of a network and for the address of a leg.

use heddle_wire::builder::Link as Wire;
use heddle_wire::{Address, Arp, Family, Ip, MacAddr, Transport, echo_reply, ethernet, icmp};

use super::security::{DISCOVERY_LEN, LinkLayer, discovery_target, is_fragmented};
use super::translate::require_checksum;
use super::{Answer, Refused, Walk};
use crate::config::Network;
use crate::drop::Cause;
use crate::frame::Frame;
use crate::neighbour::{Heard, Link};
use crate::port::Port;

/// Flags of a neighbour advertisement (RFC 4861 §4.4).
const ROUTER: u32 = 1 << 31;
const SOLICITED: u32 = 1 << 30;
const OVERRIDE: u32 = 1 << 29;

/// All nodes on the link (RFC 4291 §2.7.1), and their MAC address (RFC 2464 §7).
const ALL_NODES: Address = Address::from_bits(0xff02 << 112 | 1);
const ALL_NODES_MAC: MacAddr = MacAddr::new([0x33, 0x33, 0, 0, 0, 1]);

/// Who is speaking for us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Station {
    pub(super) mac: MacAddr,
    pub(super) link: Link,
    /// Whether advertisements say that we route.
    pub(super) routes: bool,
}

impl Station {
    pub(super) fn gateway(network: &Network) -> Station {
        Station {
            mac: network.gateway_mac,
            link: Link::Network(network.id),
            routes: true,
        }
    }
}

impl Walk<'_> {
    /// An ARP message that concerns `station`, which has the addresses that `owns` says.
    pub(super) fn resolve_arp(
        &mut self,
        ingress: &Port,
        arp: &Arp,
        station: Station,
        owns: impl Fn(Address) -> bool,
    ) -> Result<(), Refused> {
        let sender = Address::from(arp.sender);
        if owns(sender) || !arp.sender_mac.is_unicast() {
            // Somebody else uses our address, or is nobody.
            return Err(Cause::GatewayIgnored.into());
        }
        let asks = arp.operation == Arp::REQUEST && owns(arp.target.into());
        let answers = arp.operation == Arp::REPLY;
        if !asks && !answers {
            return Err(Cause::GatewayIgnored.into());
        }
        let heard = Heard {
            mac: Some(arp.sender_mac),
            solicited: answers,
            overrides: true,
        };
        self.neighbour_heard(station.link, sender, heard);
        if asks {
            let reply = Arp {
                operation: Arp::REPLY,
                sender_mac: station.mac,
                sender: arp.target,
                target_mac: arp.sender_mac,
                target: arp.sender,
            };
            self.originate(ingress, &Wire::new(station.mac, arp.sender_mac).arp(&reply));
        }
        Ok(())
    }

    /// A neighbour solicitation or advertisement that concerns `station`.
    pub(super) fn resolve_discovery(
        &mut self,
        ingress: &Port,
        frame: &Frame<'_>,
        ip: &Ip,
        station: Station,
        owns: impl Fn(Address) -> bool,
    ) -> Result<(), Refused> {
        let message = Discovery::parse(frame, ip).ok_or(Cause::GatewayIgnored)?;
        require_checksum(frame, ip)?;
        let target = message.target;
        match message.advertised {
            None if owns(target) => {
                if message.link_layer.source.is_some() {
                    let heard = Heard {
                        mac: message.link_layer.source,
                        solicited: false,
                        overrides: true,
                    };
                    self.neighbour_heard(station.link, ip.source, heard);
                }
                self.advertise(ingress, frame, ip, station, target);
                Ok(())
            }
            Some(flags) if !owns(target) => {
                let heard = Heard {
                    mac: message.link_layer.target,
                    solicited: flags & SOLICITED != 0,
                    overrides: flags & OVERRIDE != 0,
                };
                self.neighbour_heard(station.link, target, heard);
                Ok(())
            }
            _ => Err(Cause::GatewayIgnored.into()),
        }
    }

    /// Answers a solicitation (RFC 4861 §7.2.4). One from nobody is duplicate address detection: the
    /// answer goes to all nodes, of which the one that asked is the only one behind its port.
    fn advertise(
        &mut self,
        ingress: &Port,
        frame: &Frame<'_>,
        ip: &Ip,
        station: Station,
        target: Address,
    ) {
        let router = if station.routes { ROUTER } else { 0 };
        let (mac, to, flags) = if ip.source.is_unspecified() {
            (ALL_NODES_MAC, ALL_NODES, router | OVERRIDE)
        } else {
            (
                frame.summary.source,
                ip.source,
                router | SOLICITED | OVERRIDE,
            )
        };
        let advertisement =
            Wire::new(station.mac, mac).neighbour_advertisement(target, to, target, flags);
        self.originate(ingress, &advertisement);
    }

    /// A packet to an address of our own.
    pub(crate) fn deliver_to_gateway(
        &mut self,
        ingress: &Port,
        frame: &mut Frame<'_>,
        ip: &Ip,
    ) -> Result<(), Refused> {
        if ip.fragment.is_part() {
            return self.reassemble(ingress, frame, ip);
        }
        let request = match ip.family() {
            Family::V4 => icmp::v4::ECHO_REQUEST,
            Family::V6 => icmp::v6::ECHO_REQUEST,
        };
        match &ip.transport {
            Transport::Icmp(message) if message.kind == request => {
                require_checksum(frame, ip)?;
                self.echo(ingress, frame, ip)
            }
            Transport::Icmp(_) | Transport::Absent => Err(Cause::GatewayIgnored.into()),
            Transport::Tcp(_) => {
                require_checksum(frame, ip)?;
                Err(Refused::with(Cause::GatewayRefused, Answer::Reset))
            }
            Transport::Udp(_) => {
                require_checksum(frame, ip)?;
                Err(Refused::with(
                    Cause::GatewayRefused,
                    Answer::PortUnreachable,
                ))
            }
            Transport::Other => Err(Refused::with(
                Cause::GatewayRefused,
                Answer::ProtocolUnreachable,
            )),
        }
    }

    /// Turns an echo request round, in place.
    fn echo(&mut self, ingress: &Port, frame: &mut Frame<'_>, ip: &Ip) -> Result<(), Refused> {
        let own = frame.summary.destination;
        let asker = frame.summary.source;
        let partial = frame.has_partial_checksum();
        echo_reply(frame.ethernet_mut(), ip, partial);
        ethernet::set_macs(frame.ethernet_mut(), asker, own);
        if frame.parts().is_some() {
            return self.transmit_own(ingress, frame, ip);
        }
        self.transmit(ingress, frame)
    }
}

/// A neighbour solicitation or advertisement that is valid (RFC 4861 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Discovery {
    target: Address,
    link_layer: LinkLayer,
    /// The flags of an advertisement, nothing for a solicitation.
    advertised: Option<u32>,
}

impl Discovery {
    fn parse(frame: &Frame<'_>, ip: &Ip) -> Option<Discovery> {
        let Transport::Icmp(message) = &ip.transport else {
            return None;
        };
        // Only what was sent on this link counts, and only whole.
        if ip.hop_limit != 255 || message.code != 0 || is_fragmented(ip) {
            return None;
        }
        let body = ip.payload(frame.ethernet())?;
        let target = discovery_target(body)?;
        let link_layer = LinkLayer::parse(body.get(DISCOVERY_LEN..)?).ok()?;
        // A group is no station: what is sent to it, everybody on the link would read.
        let macs = [link_layer.source, link_layer.target];
        if target.is_multicast() || macs.iter().flatten().any(|mac| !mac.is_unicast()) {
            return None;
        }
        let advertised = match message.kind {
            icmp::v6::NEIGHBOUR_ADVERTISEMENT => Some(message.word),
            _ => None,
        };
        let valid = match advertised {
            Some(flags) => flags & SOLICITED == 0 || !ip.destination.is_multicast(),
            None if ip.source.is_unspecified() => {
                ip.destination.is_multicast() && link_layer.source.is_none()
            }
            None => true,
        };
        valid.then_some(Discovery {
            target,
            link_layer,
            advertised,
        })
    }
}

/// Whether a packet is neighbour discovery proper.
pub(super) fn is_discovery(ip: &Ip) -> bool {
    matches!(&ip.transport, Transport::Icmp(message) if ip.family() == Family::V6
    && matches!(
        message.kind,
        icmp::v6::NEIGHBOUR_SOLICITATION | icmp::v6::NEIGHBOUR_ADVERTISEMENT
    ))
}
