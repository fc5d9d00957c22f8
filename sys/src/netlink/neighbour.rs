//! Static entries of the neighbour table.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

use super::address::family_of;
use super::{Netlink, NetlinkError};

impl Netlink {
    /// Says once and for all that `ip` has `mac`, so that nobody asks. Replaces what was known.
    pub fn add_neighbour(
        &mut self,
        interface: u32,
        ip: IpAddr,
        mac: [u8; 6],
    ) -> Result<(), NetlinkError> {
        let mut message = message(interface, ip);
        message.header.state = NeighbourState::Permanent;
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        let message = RouteNetlinkMessage::NewNeighbour(message);
        let result = self.execute(message, NLM_F_CREATE | NLM_F_REPLACE);
        result.map_err(|failure| {
            let name = self.name_of(interface);
            failure.during(format!("adding the neighbour {ip} to {name}"))
        })
    }

    /// Forgets a neighbour.
    pub fn delete_neighbour(&mut self, interface: u32, ip: IpAddr) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelNeighbour(message(interface, ip));
        let result = self.execute(message, 0);
        result.map_err(|failure| {
            let name = self.name_of(interface);
            failure.during(format!("removing the neighbour {ip} from {name}"))
        })
    }
}

fn message(interface: u32, ip: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family_of(ip);
    message.header.ifindex = interface;
    message
        .attributes
        .push(NeighbourAttribute::Destination(match ip {
            IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
            IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
        }));
    message
}
