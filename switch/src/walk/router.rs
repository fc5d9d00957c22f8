//! The router: where a packet from inside leads.
//!
//! Checks first (RFC 1812 §5.2.2, §5.3), then one decision over the final destination: the gateway
//! itself, an endpoint of a network that this one reaches, a static route, else the way out. Other
//! networks of ours are never reached through the way out: a packet for them ends here.

use heddle_wire::{Address, Ip, IpOptions, ipv4_header_is_valid};
use ipnet::IpNet;

use super::{Answer, Refused, Walk};
use crate::config::Network;
use crate::drop::Cause;
use crate::frame::Frame;
use crate::port::{Identity, Port, PortId};

impl Walk<'_> {
    /// Routes a packet that an endpoint of `network` sent to the gateway.
    pub(super) fn route(
        &mut self,
        ingress: &Port,
        network: &Network,
        identity: &Identity,
        frame: &mut Frame<'_>,
        ip: &Ip,
    ) -> Result<(), Refused> {
        validate(frame, ip)?;
        if !identity.secure {
            self.check_source(ingress, network, ip)?;
        }
        if network.gateways.contains(&ip.destination) {
            return self.deliver_to_gateway(ingress, frame, ip);
        }
        // Valid on its own link only (RFC 4291 §2.5.6, RFC 3927 §7).
        if ip.destination.is_link_local() {
            return Err(Cause::MartianDestination.into());
        }
        if ip.source.is_link_local() {
            return Err(Cause::MartianSource.into());
        }
        // The longest prefix decides (RFC 1812 §5.2.4.3), subnet or route.
        let subnet = self.config.subnet_of(ip.destination);
        let route = network.route_to(ip.destination).filter(|route| {
            subnet.is_none_or(|(subnet, _)| route.destination.prefix_len() > subnet.prefix_len())
        });
        match (route, subnet) {
            (Some(route), _) => {
                let via = self.host(route.via).ok_or(host_unknown())?;
                self.forward_inside(ingress, network, frame, ip, via)
            }
            (None, Some((subnet, id))) => {
                let target = self.config.network(id).ok_or(Cause::HostUnknown)?;
                self.route_inside(ingress, network, frame, ip, target, subnet)
            }
            (None, None) => {
                require_hops(ip)?;
                network.uplink.outward(self, ingress, frame)
            }
        }
    }

    /// Without port security an endpoint may use any address of its network, and what it routes for
    /// others, but none that is somebody else's (RFC 2827, RFC 1812 §5.3.8). With port security this
    /// has been checked, more strictly.
    fn check_source(&self, ingress: &Port, network: &Network, ip: &Ip) -> Result<(), Refused> {
        let subnet = self.config.subnet_of(ip.source);
        // A single host is what a source must name (RFC 1812 §5.3.7).
        if subnet.is_some_and(|(subnet, _)| is_broadcast_of(subnet, ip.source)) {
            return Err(Cause::MartianSource.into());
        }
        let elsewhere = subnet.is_some_and(|(_, id)| id != network.id);
        let taken = self.host(ip.source).is_some_and(|host| host != ingress.id);
        if elsewhere || taken || self.is_own_address(network, ip.source) {
            Err(Refused::with(Cause::AddressSpoofed, Answer::SourceRefused))
        } else {
            Ok(())
        }
    }

    /// To an address in one of our own subnets.
    fn route_inside(
        &mut self,
        ingress: &Port,
        network: &Network,
        frame: &mut Frame<'_>,
        ip: &Ip,
        target: &Network,
        subnet: &IpNet,
    ) -> Result<(), Refused> {
        if is_broadcast_of(subnet, ip.destination) {
            return Err(Cause::BroadcastNotRouted.into());
        }
        if !network.reaches(target.id) {
            return Err(isolated());
        }
        if target.gateways.contains(&ip.destination) {
            return self.deliver_to_gateway(ingress, frame, ip);
        }
        match self.host(ip.destination) {
            Some(egress) => self.forward_inside(ingress, network, frame, ip, egress),
            None => self.forward_unknown(ingress, frame, ip, target),
        }
    }

    /// To an endpoint, untranslated, and untracked unless a rule asks.
    fn forward_inside(
        &mut self,
        ingress: &Port,
        network: &Network,
        frame: &mut Frame<'_>,
        ip: &Ip,
        egress: PortId,
    ) -> Result<(), Refused> {
        let egress = self.config.port(egress).ok_or(Cause::PortGone)?;
        if !egress.network().is_some_and(|id| network.reaches(id)) {
            return Err(isolated());
        }
        require_hops(ip)?;
        let (destination, source) = self.member_macs(egress)?;
        self.require_fit(egress, frame, ip)?;
        let macs = (destination, source);
        match self.config.rules() {
            None => self.emit(ingress, egress, frame, ip, destination, source),
            Some(rules) => self.forward_filtered(rules, (ingress, egress), frame, ip, macs),
        }
    }
}

/// RFC 1812 §5.2.2 and §5.3: what no router may forward.
#[inline(always)]
pub(super) fn validate(frame: &Frame<'_>, ip: &Ip) -> Result<(), Refused> {
    // A partial transport checksum says nothing of the header: Linux always completes that one.
    if ip.source.is_ipv4() && !ipv4_header_is_valid(frame.ethernet(), ip.header_offset) {
        return Err(Cause::HeaderChecksum.into());
    }
    if ip
        .options
        .intersects(IpOptions::SOURCE_ROUTE | IpOptions::ROUTING_TYPE_0)
    {
        return Err(Cause::SourceRouted.into());
    }
    if ip.source.is_routable() && ip.destination.is_routable() {
        return Ok(());
    }
    validate_special(ip)
}

/// What special addresses may still be forwarded, or answered.
#[cold]
fn validate_special(ip: &Ip) -> Result<(), Refused> {
    if is_martian(ip.source) || ip.source.is_multicast() || ip.source.is_unspecified() {
        return Err(Cause::MartianSource.into());
    }
    if ip.destination.is_multicast() {
        return Err(Cause::MulticastNotRouted.into());
    }
    if ip.destination.is_limited_broadcast() {
        return Err(Cause::BroadcastNotRouted.into());
    }
    if is_martian(ip.destination) || ip.destination.is_unspecified() {
        return Err(Cause::MartianDestination.into());
    }
    Ok(())
}

/// RFC 1812 §5.3.7: addresses that never appear on a link.
fn is_martian(address: Address) -> bool {
    address.is_loopback() || address.is_this_network() || address.is_reserved()
}

/// RFC 1812 §5.3.1, RFC 8200 §3.
pub(super) fn require_hops(ip: &Ip) -> Result<(), Refused> {
    if ip.hop_limit > 1 {
        Ok(())
    } else {
        Err(Refused::with(Cause::HopLimitExceeded, Answer::TimeExceeded))
    }
}

fn isolated() -> Refused {
    Refused::with(Cause::NetworkIsolated, Answer::Prohibited)
}

pub(crate) fn host_unknown() -> Refused {
    Refused::with(Cause::HostUnknown, Answer::HostUnreachable)
}

pub(super) fn is_broadcast_of(subnet: &IpNet, address: Address) -> bool {
    match subnet {
        IpNet::V4(subnet) => {
            subnet.prefix_len() < 31
                && (Address::from(subnet.broadcast()) == address
                    || Address::from(subnet.network()) == address)
        }
        IpNet::V6(_) => false,
    }
}
