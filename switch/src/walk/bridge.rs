//! From an endpoint: who is it, whom does it want, where is that.
//!
//! The forwarding rules of a learning bridge (IEEE 802.1Q §8.6, §8.8), within one network:
//!
//! 1. The source must be a station address, and with port security the endpoint's own. Where there is
//!    no port security it must be nobody else's, and is learned.
//! 2. Link-local control addresses are not forwarded.
//! 3. What is for the gateway goes to the gateway, and only there.
//! 4. A known station's frames go to its port, unless they came from there.
//! 5. Everything else goes to all other ports, as far as storm control lets it.
//!
//! VLAN tags are content: a frame keeps its own, stations are told apart by their MAC address alone. The
//! gateway is in no VLAN. A frame for it whose tag says only a priority (VLAN 0, IEEE 802.1Q §6.9.1) is
//! untagged there; one of a VLAN is not for it.
//!
//! A network with the l3 driver has no bridge: every IP packet goes to the router whatever its
//! Ethernet destination, everything else ends.

use heddle_wire::{Address, EtherType, Family, Network as Content, Transport, icmp};

use super::gateway::{Station, is_discovery};
use super::security;
use super::{Answer, Refused, Walk};
use crate::config::{Driver, Network};
use crate::drop::Cause;
use crate::fdb::Learned;
use crate::frame::Frame;
use crate::port::{Identity, Port};

impl Walk<'_> {
    /// A frame of an endpoint.
    pub(super) fn receive_from_member(
        &mut self,
        ingress: &Port,
        network: &Network,
        identity: &Identity,
        frame: &mut Frame<'_>,
    ) -> Result<(), Refused> {
        let source = frame.summary.source;
        if !source.is_unicast() {
            return Err(Cause::SourceMacInvalid.into());
        }
        if network.driver == Driver::L3 {
            if identity.secure && !identity.macs.contains(&source) {
                return Err(Cause::SourceMacSpoofed.into());
            }
            return self.receive_from_routed(ingress, network, identity, frame);
        }
        let fdb = &self.tables.fdb;
        let hash = fdb.hash(network.id, source);
        if identity.secure {
            // Given addresses are fixed entries, so one lookup says whose address it is and where.
            let own = fdb
                .find(network.id, source, hash)
                .is_some_and(|station| station.fixed && station.port == ingress.id);
            if !own {
                return Err(Cause::SourceMacSpoofed.into());
            }
            check_content(network, identity, frame)?;
        } else {
            check_content(network, identity, frame)?;
            let learned = || fdb.learn(network.id, source, hash, ingress.id, self.now);
            if source == network.gateway_mac || learned() == Learned::Fixed {
                return Err(Cause::SourceMacSpoofed.into());
            }
        }
        self.bridge(ingress, network, identity, frame)
    }

    /// Rules 2 to 5.
    fn bridge(
        &mut self,
        ingress: &Port,
        network: &Network,
        identity: &Identity,
        frame: &mut Frame<'_>,
    ) -> Result<(), Refused> {
        let destination = frame.summary.destination;
        if destination == network.gateway_mac {
            return self.for_gateway(ingress, network, identity, frame);
        }
        if destination.is_multicast() {
            if destination.is_link_local_control() {
                return Err(Cause::LinkLocalControl.into());
            }
            if asks_for_gateway(network, frame) {
                return self.resolve_gateway(ingress, network, frame);
            }
            return self.flood(ingress, network, frame);
        }
        let fdb = &self.tables.fdb;
        let hash = fdb.hash(network.id, destination);
        match fdb.find(network.id, destination, hash) {
            Some(station) if station.port == ingress.id => Err(Cause::SamePort.into()),
            Some(station) => {
                let egress = self.config.port(station.port).ok_or(Cause::PortGone)?;
                match self.rules_inside(network) {
                    None => self.transmit(egress, frame),
                    Some(rules) => self.bridge_filtered(rules, (ingress, egress), frame),
                }
            }
            None => self.flood(ingress, network, frame),
        }
    }

    /// To every other port of the network. A port that takes no more loses its copy, and that is
    /// counted; the others get theirs.
    fn flood(
        &mut self,
        ingress: &Port,
        network: &Network,
        frame: &Frame<'_>,
    ) -> Result<(), Refused> {
        if !ingress.flooded.permits(network.storm_control, self.now) {
            return Err(Cause::StormControl.into());
        }
        let mut others = 0_usize;
        let rules = self.rules_inside(network);
        for &id in network.ports.iter().filter(|&&id| id != ingress.id) {
            others += 1;
            let sent = match (self.config.port(id), rules) {
                (Some(egress), None) => self.transmit(egress, frame),
                (Some(egress), Some(rules)) => self.flood_filtered(rules, (ingress, egress), frame),
                (None, _) => Err(Cause::PortGone.into()),
            };
            if let Err(refused) = sent {
                ingress.counters(self.local.worker).dropped(refused.reason);
            }
        }
        if others == 0 {
            Err(Cause::NobodyElse.into())
        } else {
            Ok(())
        }
    }

    /// A frame for the gateway's MAC address.
    fn for_gateway(
        &mut self,
        ingress: &Port,
        network: &Network,
        identity: &Identity,
        frame: &mut Frame<'_>,
    ) -> Result<(), Refused> {
        frame.remove_priority_tag();
        // The gateway is a station of the network itself, not of a VLAN inside it.
        if frame.summary.tags != 0 {
            return Err(Cause::GatewayIgnored.into());
        }
        match frame.summary.network {
            Content::Arp(_) => self.resolve_gateway(ingress, network, frame),
            Content::Ip(ip) if is_discovery(&ip) => self.resolve_gateway(ingress, network, frame),
            Content::Ip(ip) => self.route(ingress, network, identity, frame, &ip),
            Content::Malformed(malformed) => Err(malformed.into()),
            Content::Other => Err(Cause::GatewayIgnored.into()),
        }
    }

    /// A packet of an endpoint in an l3 network.
    fn receive_from_routed(
        &mut self,
        ingress: &Port,
        network: &Network,
        identity: &Identity,
        frame: &mut Frame<'_>,
    ) -> Result<(), Refused> {
        frame.remove_priority_tag();
        match frame.summary.network {
            Content::Ip(ip)
                if !frame.summary.destination.is_multicast() && frame.summary.tags == 0 =>
            {
                check_content(network, identity, frame)?;
                self.route(ingress, network, identity, frame, &ip)
            }
            Content::Malformed(malformed) => Err(malformed.into()),
            _ => Err(Cause::NotRouted.into()),
        }
    }

    /// A question for the gateway's MAC address, or an answer to the gateway's own.
    fn resolve_gateway(
        &mut self,
        ingress: &Port,
        network: &Network,
        frame: &Frame<'_>,
    ) -> Result<(), Refused> {
        let station = Station::gateway(network);
        let owns = |address| network.gateways.contains(&address);
        match &frame.summary.network {
            Content::Arp(arp) => self.resolve_arp(ingress, arp, station, owns),
            Content::Ip(ip) => self.resolve_discovery(ingress, frame, ip, station, owns),
            _ => Err(Cause::GatewayIgnored.into()),
        }
    }
}

/// The network must carry the packet's family, and with port security the packet must be well-formed
/// and its sender's own.
#[inline]
fn check_content(network: &Network, identity: &Identity, frame: &Frame<'_>) -> Result<(), Refused> {
    // By its type, not by its content: what claims to be IPv6 is none of ours even where it is broken.
    let family = match frame.summary.ether_type {
        EtherType::IPV4 | EtherType::ARP => Some(Family::V4),
        EtherType::IPV6 => Some(Family::V6),
        _ => None,
    };
    if family.is_some_and(|family| !network.carries(family)) {
        return Err(Cause::FamilyDisabled.into());
    }
    if !identity.secure {
        return Ok(());
    }
    security::check(network, identity, frame)
        .or_else(|reason| {
            if probes_gateway(network, identity, frame) {
                Ok(())
            } else {
                Err(reason)
            }
        })
        .map_err(|reason| Refused {
            reason,
            answer: Answer::Silence,
        })
}

/// Whether a group-addressed frame asks for the MAC address of the gateway: nobody else has the
/// answer, so nobody else needs to hear the question.
fn asks_for_gateway(network: &Network, frame: &Frame<'_>) -> bool {
    if frame.summary.tags != 0 && !frame.is_priority_tagged() {
        return false;
    }
    match &frame.summary.network {
        Content::Arp(arp) => network.gateways.contains(&Address::from(arp.target)),
        Content::Ip(ip) => match &ip.transport {
            Transport::Icmp(message)
                if ip.family() == Family::V6
                    && message.kind == icmp::v6::NEIGHBOUR_SOLICITATION =>
            {
                ip.payload(frame.ethernet())
                    .and_then(security::discovery_target)
                    .is_some_and(|target| network.gateways.contains(&target))
            }
            _ => false,
        },
        _ => false,
    }
}

/// Whether a frame that port security refuses is an endpoint about to find out that the gateway's
/// address is taken (RFC 5227 §2.1.1, RFC 4862 §5.4): the gateway hears it, and nobody else.
#[cold]
fn probes_gateway(network: &Network, identity: &Identity, frame: &Frame<'_>) -> bool {
    let is_probe = match &frame.summary.network {
        Content::Arp(arp) => {
            arp.operation == heddle_wire::Arp::REQUEST
                && arp.sender.is_unspecified()
                && identity.macs.contains(&arp.sender_mac)
        }
        Content::Ip(ip) => ip.source.is_unspecified() && !security::is_fragmented(ip),
        _ => false,
    };
    is_probe && frame.summary.destination.is_multicast() && asks_for_gateway(network, frame)
}
