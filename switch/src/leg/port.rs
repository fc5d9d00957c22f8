//! A leg with a port: a TAP in another namespace, or a packet socket on a host interface.
//!
//! To the outside it is one station: one MAC address, the leg's own addresses, answers to ARP and
//! neighbour discovery for these and nothing else. What leaves has the leg's address as its source
//! (RFC 3022 §2.2), what comes in is for a session, a published port, or the gateway itself.

use heddle_nat::{Destination, Filtering, Opening, Refusal, Side, Source, Tuple, Zone};
use heddle_wire::{Address, Family, Ip, MacAddr, Transport, icmp};
use ipnet::IpNet;

use super::Leg;
use crate::drop::Cause;
use crate::frame::Frame;
use crate::port::{LegId, Port, PortId, link_local};
use crate::prefix;
use crate::walk::{Answer, Refused, Walk, host_unknown};

/// A leg with a port.
#[derive(Debug)]
pub struct PortLeg {
    /// Its number.
    pub id: LegId,
    /// Its port.
    pub port: PortId,
    /// Its MAC address.
    pub mac: MacAddr,
    /// Its addresses with the prefix of the link they are on; the first of a family is the source of
    /// what leaves.
    pub addresses: Vec<IpNet>,
    /// Next hops for everything that is not on the link, one a family.
    pub gateways: Vec<Address>,
    /// Whom dynamic mappings let in.
    pub filtering: Filtering,
}

/// Who gets a packet next on a leg's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// This neighbour.
    Neighbour(Address),
    /// Nobody: not on the link, and there is no gateway.
    NoRoute,
}

impl PortLeg {
    /// The zone of tuples that arrive here: each leg its own, behind [`Zone::INSIDE`].
    #[inline]
    #[must_use]
    pub fn zone(&self) -> Zone {
        Zone(self.id.0 + 1)
    }

    /// Whether an address is the leg's, its link-local one included.
    #[inline]
    #[must_use]
    pub fn owns(&self, address: Address) -> bool {
        self.addresses
            .iter()
            .any(|own| prefix::is_host(own, address))
            || address.is_link_local() && address == link_local(self.mac)
    }

    /// The source of what leaves.
    #[must_use]
    pub fn address(&self, family: Family) -> Option<Address> {
        self.addresses
            .iter()
            .map(|own| Address::from(own.addr()))
            .find(|address| address.family() == family)
    }

    /// The address that a neighbour on the link would see as its own neighbour: the one in its
    /// prefix, else the source of what leaves.
    #[must_use]
    pub fn address_towards(&self, neighbour: Address) -> Option<Address> {
        let address = neighbour.to_ip();
        self.addresses
            .iter()
            .find(|own| own.contains(&address))
            .map(|own| Address::from(own.addr()))
            .or_else(|| self.address(neighbour.family()))
    }

    /// Who gets a packet for `destination` next.
    #[inline]
    #[must_use]
    pub fn hop(&self, destination: Address) -> Hop {
        if (self.addresses.iter()).any(|own| prefix::contains(own, destination)) {
            return Hop::Neighbour(destination);
        }
        let family = destination.family();
        self.gateways
            .iter()
            .find(|gateway| gateway.family() == family)
            .map_or(Hop::NoRoute, |&gateway| Hop::Neighbour(gateway))
    }

    /// Whether an address is the broadcast address of the leg's link (RFC 919).
    #[must_use]
    pub fn is_broadcast(&self, address: Address) -> bool {
        self.addresses.iter().any(|own| match own {
            IpNet::V4(own) => own.prefix_len() < 31 && Address::from(own.broadcast()) == address,
            IpNet::V6(_) => false,
        })
    }
}

impl Leg for PortLeg {
    fn outward(
        &self,
        walk: &mut Walk<'_>,
        ingress: &Port,
        frame: &mut Frame<'_>,
    ) -> Result<(), Refused> {
        let Some(ip) = frame.ip() else {
            return Err(Cause::GatewayIgnored.into());
        };
        if ip.fragment.is_part() {
            return walk.reassemble_to_translate(ingress, frame, ip);
        }
        let Some(tuple) = Tuple::of(ip, Zone::INSIDE) else {
            return walk.untracked(ingress, frame, ip, Zone::INSIDE, Some(self.port));
        };
        let hash = walk.nat().hash(&tuple);
        if let Some(hit) = walk.nat().lookup_hashed(&tuple, hash) {
            return walk.established(ingress, frame, ip, hit);
        }
        if self.owns(ip.destination) {
            return self.hairpin(walk, ingress, frame, ip, &tuple);
        }
        if self.is_broadcast(ip.destination) {
            return Err(Cause::BroadcastNotRouted.into());
        }
        let Some(source) = self.address(ip.family()) else {
            return Err(Refused::with(
                Cause::NoOutsideAddress,
                Answer::NetworkUnreachable,
            ));
        };
        let opening = Opening {
            tuple,
            sides: [side(ingress.id), side(self.port)],
            destination: Destination::AsIs,
            source: Source::Masquerade(self.zone(), source),
            reply_zone: self.zone(),
            packet: walk.packet(frame, ip),
            published: walk.published(),
            random: walk.random(),
        };
        let to = (tuple.destination, tuple.destination_port);
        walk.open(ingress, frame, ip, &opening, self.port, to)
    }
}

impl PortLeg {
    /// From inside to the leg's own address (RFC 4787 §6 REQ-9): to whoever has the port, with the
    /// sender's outside address and port as the source.
    fn hairpin(
        &self,
        walk: &mut Walk<'_>,
        ingress: &Port,
        frame: &mut Frame<'_>,
        ip: &Ip,
        tuple: &Tuple,
    ) -> Result<(), Refused> {
        let Some(source) = self.address(ip.family()) else {
            return Err(Refused::with(
                Cause::NoOutsideAddress,
                Answer::NetworkUnreachable,
            ));
        };
        // Whom it comes from as the other end sees it: what filtering looks at.
        let outside = Tuple { source, ..*tuple };
        let inward = match self.hairpinned(walk, ingress, &outside) {
            Err(Refusal::Unsolicited) => return walk.deliver_to_gateway(ingress, frame, ip),
            inward => inward?,
        };
        let egress = walk.host(inward.address).ok_or_else(host_unknown)?;
        let opening = Opening {
            tuple: *tuple,
            sides: [side(ingress.id), side(egress)],
            destination: inward.destination,
            source: Source::Masquerade(self.zone(), source),
            reply_zone: Zone::INSIDE,
            packet: walk.packet(frame, ip),
            published: walk.published(),
            random: walk.random(),
        };
        let to = (inward.address, inward.port);
        walk.open(ingress, frame, ip, &opening, egress, to)
    }

    /// Whom a packet from inside to one of the leg's addresses is for. Filtering is against strangers:
    /// who may speak to an endpoint directly may do so this way as well. Else two endpoints of which
    /// neither lets the other in before it has spoken itself could never begin.
    fn hairpinned(
        &self,
        walk: &Walk<'_>,
        ingress: &Port,
        tuple: &Tuple,
    ) -> Result<Inward, Refusal> {
        let refused = match self.inward(walk, tuple, self.filtering) {
            Err(Refusal::Filtered) => Refusal::Filtered,
            decided => return decided,
        };
        let found = self.inward(walk, tuple, Filtering::Endpoint)?;
        if walk.reaches(ingress, found.address) {
            Ok(found)
        } else {
            Err(refused)
        }
    }

    /// Whom a packet to one of the leg's addresses is for: a published port, else a dynamic mapping
    /// that lets the sender in.
    fn inward(
        &self,
        walk: &Walk<'_>,
        tuple: &Tuple,
        filtering: Filtering,
    ) -> Result<Inward, Refusal> {
        let Tuple {
            protocol,
            destination,
            destination_port,
            ..
        } = *tuple;
        let published =
            walk.published()
                .inside_of(self.zone(), protocol, destination, destination_port);
        if let Some((address, port)) = published {
            return Ok(Inward {
                destination: Destination::Published(address, port),
                address,
                port,
            });
        }
        let inbound = walk.nat().inbound(tuple, self.zone(), filtering)?;
        Ok(Inward {
            destination: Destination::Mapped(self.zone()),
            address: inbound.address,
            port: inbound.port,
        })
    }

    /// From outside to one of the leg's addresses.
    pub(crate) fn inbound(
        &self,
        walk: &mut Walk<'_>,
        ingress: &Port,
        frame: &mut Frame<'_>,
        ip: &Ip,
    ) -> Result<(), Refused> {
        if ip.fragment.is_part() {
            return walk.reassemble_to_translate(ingress, frame, ip);
        }
        if ip.source.is_link_local() {
            return if is_echo_request(ip) {
                walk.deliver_to_gateway(ingress, frame, ip)
            } else {
                // It stays on its link, and so do answers to it (RFC 4291 §2.5.6, RFC 3927 §7).
                Err(Cause::MartianSource.into())
            };
        }
        let Some(tuple) = Tuple::of(ip, self.zone()) else {
            // What is sent to the leg itself does not pass rules.
            return walk.untracked(ingress, frame, ip, self.zone(), None);
        };
        let hash = walk.nat().hash(&tuple);
        if let Some(hit) = walk.nat().lookup_hashed(&tuple, hash) {
            return walk.established(ingress, frame, ip, hit);
        }
        let inward = match self.inward(walk, &tuple, self.filtering) {
            Err(Refusal::Unsolicited) if is_echo_request(ip) => {
                return walk.deliver_to_gateway(ingress, frame, ip);
            }
            inward => inward?,
        };
        let egress = walk.host(inward.address).ok_or_else(host_unknown)?;
        if walk.routes_inside(egress, ip.source) {
            return Err(Cause::InsideFromOutside.into());
        }
        let opening = Opening {
            tuple,
            sides: [side(ingress.id), side(egress)],
            destination: inward.destination,
            source: Source::AsIs,
            reply_zone: Zone::INSIDE,
            packet: walk.packet(frame, ip),
            published: walk.published(),
            random: walk.random(),
        };
        let to = (inward.address, inward.port);
        walk.open(ingress, frame, ip, &opening, egress, to)
    }
}

/// Whom a packet to a leg's address is for.
#[derive(Clone, Copy, Debug)]
struct Inward {
    destination: Destination,
    address: Address,
    port: u16,
}

fn side(port: PortId) -> Side {
    Side(port.0)
}

fn is_echo_request(ip: &Ip) -> bool {
    let request = match ip.family() {
        Family::V4 => icmp::v4::ECHO_REQUEST,
        Family::V6 => icmp::v6::ECHO_REQUEST,
    };
    matches!(&ip.transport, Transport::Icmp(message) if message.kind == request)
}
