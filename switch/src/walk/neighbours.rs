//! Asking for neighbours, and what follows from their answers.

use heddle_wire::builder::Link as Wire;
use heddle_wire::{Address, Arp, Family, Ip, MacAddr, Summary};

use super::router::{host_unknown, require_hops};
use super::{Answer, Refused, Walk};
use crate::config::{Driver, Network};
use crate::drop::Cause;
use crate::frame::{Frame, HeldFrame};
use crate::neighbour::{Due, Heard, Link};
use crate::port::{Port, link_local};

impl Walk<'_> {
    /// Takes note of what a neighbour said of itself; frames that waited for it walk again. None of
    /// those is discovery, so no walk leads back here.
    pub(super) fn neighbour_heard(&mut self, link: Link, address: Address, heard: Heard) {
        let neighbours = &self.tables.neighbours;
        for held in neighbours.hear(link, address, heard, self.now) {
            self.resume(held);
        }
    }

    /// Does what the passing of time asks for.
    pub(crate) fn neighbours_due(&mut self) {
        for due in self.tables.neighbours.tick(self.now) {
            match due {
                Due::Ask(link, address, mac) => self.ask_neighbour(link, address, mac),
                Due::GaveUp(waiting) => {
                    for held in waiting {
                        self.give_up(held);
                    }
                }
            }
        }
    }

    /// Ends a frame whose next hop does not answer.
    fn give_up(&mut self, mut held: HeldFrame) {
        let Some(ingress) = self.config.port(held.ingress) else {
            return;
        };
        held.for_each(|bytes| {
            ingress
                .counters(self.local.worker)
                .dropped(Cause::NeighbourUnreachable.into());
            let mut summary = Summary::EMPTY;
            if let Ok(frame) = Frame::parse(bytes, &mut summary) {
                self.answer(ingress, &frame, Answer::HostUnreachable);
            }
        });
    }

    /// Asks for the MAC address of a neighbour: all who might have it, or the one who had it.
    pub(super) fn ask_neighbour(&mut self, link: Link, address: Address, had: Option<MacAddr>) {
        match link {
            Link::Leg(id) => {
                let Some(leg) = self.config.leg(id) else {
                    return;
                };
                let Some(port) = self.config.port(leg.port) else {
                    return;
                };
                let own = match address.family() {
                    Family::V4 => leg.address_towards(address),
                    Family::V6 => Some(link_local(leg.mac)),
                };
                if let Some(own) = own {
                    self.originate(port, &question(leg.mac, own, address, had));
                }
            }
            Link::Network(id) => {
                let Some(network) = self.config.network(id) else {
                    return;
                };
                let Some(own) = network.gateway_towards(address) else {
                    return;
                };
                let frame = question(network.gateway_mac, own, address, had);
                for port in network
                    .ports
                    .iter()
                    .filter_map(|&port| self.config.port(port))
                {
                    if port.may_hide_hosts() {
                        self.originate(port, &frame);
                    }
                }
            }
        }
    }

    /// Forwards a packet to an address of one of our subnets that no endpoint was given. Only a
    /// network without port security can have such a host, and it is asked for like on any link.
    pub(super) fn forward_unknown(
        &mut self,
        ingress: &Port,
        frame: &mut Frame<'_>,
        ip: &Ip,
        target: &Network,
    ) -> Result<(), Refused> {
        let hides_hosts = target.driver == Driver::Bridge
            && target
                .ports
                .iter()
                .filter_map(|&id| self.config.port(id))
                .any(|port| port.may_hide_hosts());
        if !hides_hosts {
            return Err(host_unknown());
        }
        require_hops(ip)?;
        let link = Link::Network(target.id);
        let Some(mac) = self.local.neighbours.find(link, ip.destination) else {
            return self.hold(ingress, frame, link, ip.destination);
        };
        let hash = self.tables.fdb.hash(target.id, mac);
        let station = self
            .tables
            .fdb
            .find(target.id, mac, hash)
            .ok_or_else(host_unknown)?;
        let egress = self.config.port(station.port).ok_or(Cause::PortGone)?;
        self.require_fit(egress, frame, ip)?;
        self.emit(ingress, egress, frame, ip, mac, target.gateway_mac)
    }
}

/// An ARP request or neighbour solicitation, to everybody or to the one who had the address
/// (RFC 4861 §7.2.2, §7.3.3).
fn question(own_mac: MacAddr, own: Address, wanted: Address, had: Option<MacAddr>) -> Vec<u8> {
    if let (std::net::IpAddr::V4(sender), std::net::IpAddr::V4(target)) =
        (own.to_ip(), wanted.to_ip())
    {
        let request = Arp {
            operation: Arp::REQUEST,
            sender_mac: own_mac,
            sender,
            target_mac: MacAddr::ZERO,
            target,
        };
        return Wire::new(own_mac, had.unwrap_or(MacAddr::BROADCAST)).arp(&request);
    }
    let (mac, to) = match had {
        Some(mac) => (mac, wanted),
        None => solicited_node(wanted),
    };
    Wire::new(own_mac, mac).neighbour_solicitation(own, to, wanted)
}

/// The group of all nodes whose address ends like `address` (RFC 4291 §2.7.1), and its MAC address
/// (RFC 2464 §7).
fn solicited_node(address: Address) -> (MacAddr, Address) {
    let group = 0xff02_u128 << 112 | 0x1_ff00_0000 | address.bits() & 0xff_ffff;
    let [.., a, b, c] = group.to_be_bytes();
    (
        MacAddr::new([0x33, 0x33, 0xff, a, b, c]),
        Address::from_bits(group),
    )
}
