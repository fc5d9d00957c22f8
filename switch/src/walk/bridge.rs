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

use heddle_wire::{
    Address, EtherType, Family, MacAddr, Network as Content, Summary, Transport, icmp,
};

use super::gateway::{Station, is_discovery};
use super::routers::Audience;
use super::security;
use super::{Answer, Refused, Walk};
use crate::config::{Driver, Network};
use crate::drop::Cause;
use crate::fdb::Learned;
use crate::frame::Frame;
use crate::port::{Identity, Port};

impl Walk<'_> {
    /// A frame of an endpoint.
    #[inline(always)]
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
            if identity.secure && !identity.is_station(source) {
                return Err(Cause::SourceMacSpoofed.into());
            }
            return self.receive_from_routed(ingress, network, identity, frame);
        }
        if identity.secure {
            // Its addresses are given, and fixed in the FDB: there is nothing to learn.
            if !identity.is_station(source) {
                return Err(Cause::SourceMacSpoofed.into());
            }
            check_content(network, identity, frame)?;
        } else {
            check_content(network, identity, frame)?;
            if source == network.gateway_mac || self.learn(ingress, network, source) {
                return Err(Cause::SourceMacSpoofed.into());
            }
        }
        self.bridge(ingress, network, identity, frame)
    }

    /// Learns where a station is; whether its address is somebody else's.
    #[inline(never)]
    fn learn(&mut self, ingress: &Port, network: &Network, source: MacAddr) -> bool {
        let (fdb, cache) = (&self.tables.fdb, &mut self.local.stations);
        fdb.learn_again(cache, network.id, source, ingress.id, self.now) == Learned::Fixed
    }

    /// Rules 2 to 5.
    #[inline(always)]
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
            return self.for_group(ingress, network, frame);
        }
        let (fdb, cache) = (&self.tables.fdb, &mut self.local.stations);
        match fdb.find_again(cache, network.id, destination) {
            Some(station) if station.port == ingress.id => Err(Cause::SamePort.into()),
            Some(station) => {
                let egress = self.config.port(station.port).ok_or(Cause::PortGone)?;
                match self.rules_inside(network) {
                    None => self.transmit(egress, frame),
                    Some(rules) => self.bridge_filtered(rules, (ingress, egress), frame),
                }
            }
            None => self.flood(ingress, network, frame, Audience::Everybody),
        }
    }

    /// A frame for more than one station.
    #[inline(never)]
    fn for_group(
        &mut self,
        ingress: &Port,
        network: &Network,
        frame: &Frame<'_>,
    ) -> Result<(), Refused> {
        if frame.summary.destination.is_link_local_control() {
            Err(Cause::LinkLocalControl.into())
        } else if asks_for_gateway(network, frame) {
            self.resolve_gateway(ingress, network, frame)
        } else {
            let audience = Audience::of(frame);
            if audience == Audience::EverybodyFromRouter {
                ingress.mark_router();
            }
            self.flood(ingress, network, frame, audience)
        }
    }

    /// To every other port of the network that a frame is for. A port that takes no more loses its copy,
    /// and that is counted; the others get theirs.
    #[inline(never)]
    fn flood(
        &mut self,
        ingress: &Port,
        network: &Network,
        frame: &Frame<'_>,
        audience: Audience,
    ) -> Result<(), Refused> {
        if !ingress.flooded.permits(network.storm_control, self.now) {
            return Err(Cause::StormControl.into());
        }
        let mut others = 0_usize;
        let rules = self.rules_inside(network);
        for &id in network.ports.iter().filter(|&&id| id != ingress.id) {
            let egress = self.config.port(id);
            if !egress.is_none_or(|egress| audience.includes(egress)) {
                continue;
            }
            others += 1;
            let sent = match (egress, rules) {
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
    #[inline(never)]
    fn for_gateway(
        &mut self,
        ingress: &Port,
        network: &Network,
        identity: &Identity,
        frame: &mut Frame<'_>,
    ) -> Result<(), Refused> {
        if frame.is_priority_tagged() {
            return self.receive_untagged(ingress, frame, |walk, frame| {
                walk.for_gateway(ingress, network, identity, frame)
            });
        }
        // The gateway is a station of the network itself, not of a VLAN inside it.
        if frame.summary.tags != 0 {
            return Err(Cause::GatewayIgnored.into());
        }
        let summary = frame.summary;
        match &summary.network {
            Content::Ip(ip) if !is_discovery(ip) => {
                self.route(ingress, network, identity, frame, ip)
            }
            Content::Arp(_) | Content::Ip(_) => self.resolve_gateway(ingress, network, frame),
            Content::Malformed(malformed) => Err((*malformed).into()),
            Content::Other => Err(Cause::GatewayIgnored.into()),
        }
    }

    /// A frame that has only a priority tag goes on as an untagged one, and ends as such.
    #[cold]
    pub(super) fn receive_untagged(
        &mut self,
        ingress: &Port,
        frame: &mut Frame<'_>,
        receive: impl FnOnce(&mut Self, &mut Frame<'_>) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let mut summary = Summary::EMPTY;
        let mut frame = frame
            .without_tag(&mut summary)
            .ok_or(Cause::GatewayIgnored)?;
        if let Err(refused) = receive(self, &mut frame) {
            self.end(ingress, &frame, refused);
        }
        Ok(())
    }

    /// A packet of an endpoint in an l3 network.
    #[inline(never)]
    fn receive_from_routed(
        &mut self,
        ingress: &Port,
        network: &Network,
        identity: &Identity,
        frame: &mut Frame<'_>,
    ) -> Result<(), Refused> {
        if frame.is_priority_tagged() {
            return self.receive_untagged(ingress, frame, |walk, frame| {
                walk.receive_from_routed(ingress, network, identity, frame)
            });
        }
        let summary = frame.summary;
        match &summary.network {
            Content::Ip(ip) if !summary.destination.is_multicast() && summary.tags == 0 => {
                check_content(network, identity, frame)?;
                self.route(ingress, network, identity, frame, ip)
            }
            Content::Malformed(malformed) => Err((*malformed).into()),
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
#[inline(always)]
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
    match security::check(network, identity, frame) {
        Err(reason) if !probes_gateway(network, identity, frame) => Err(Refused {
            reason,
            answer: Answer::Silence,
        }),
        _ => Ok(()),
    }
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
