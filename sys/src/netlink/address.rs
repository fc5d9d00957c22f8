//! IP addresses of interfaces.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NlasIterator, Parseable};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressMessage, AddressScope,
};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Failure, Netlink, NetlinkError, wait_until};

/// Bytes of `struct ifaddrmsg`.
const HEADER_LENGTH: usize = 8;

// Attributes of `linux/if_addr.h` that are wanted.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;

/// An address as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The number of the interface that has it.
    pub interface: u32,
    /// The address.
    pub ip: IpAddr,
    /// How many leading bits are the subnet's.
    pub prefix_len: u8,
    /// Whether the kernel still looks for duplicates, so that nothing can be sent from it yet.
    pub tentative: bool,
    /// Whether a duplicate was found.
    pub duplicate: bool,
    /// Whether it is valid on its link only (`fe80::/10`).
    pub link_local: bool,
}

impl Netlink {
    /// Gives an interface an address. With `nodad` the kernel does not look for duplicates of an IPv6
    /// address, which would make it unusable for 1 to 2 s; IPv4 knows no such thing.
    ///
    /// Even so, the kernel completes an IPv6 address in the background: see
    /// [`wait_local`](Self::wait_local).
    pub fn add_address(
        &mut self,
        interface: u32,
        ip: IpAddr,
        prefix_len: u8,
        nodad: bool,
    ) -> Result<(), NetlinkError> {
        let mut message = message(interface, ip, prefix_len);
        if let IpAddr::V4(ip) = ip {
            message
                .attributes
                .extend(broadcast(ip, prefix_len).map(AddressAttribute::Broadcast));
        } else if nodad {
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let result = self.execute(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
        );
        result.map_err(|failure| {
            let name = self.name_of(interface);
            failure.during(format!("adding {ip}/{prefix_len} to {name}"))
        })
    }

    /// Waits until the kernel takes packets for `ip` as its own, at most `patience`; `false` if it
    /// still does not.
    ///
    /// An IPv6 address that was added without the search for duplicates is listed and can be bound to
    /// at once, but what arrives for it is dropped until a background task has made its local route
    /// and joined its multicast group. A neighbour's answer lost in these milliseconds is asked for
    /// again a second later (tried: one attach in two hundred).
    pub fn wait_local(&mut self, ip: IpAddr, patience: Duration) -> Result<bool, NetlinkError> {
        wait_until(patience, || self.is_local(ip))
    }

    /// Whether a packet to `ip` would stay here.
    fn is_local(&mut self, ip: IpAddr) -> Result<bool, NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family_of(ip);
        message.header.destination_prefix_length = if ip.is_ipv4() { 32 } else { 128 };
        message
            .attributes
            .push(RouteAttribute::Destination(ip.into()));
        let answer = self.ask(RouteNetlinkMessage::GetRoute(message), |kind, payload| {
            let is_route = kind == libc::RTM_NEWROUTE;
            is_route
                .then(|| RouteHeader::parse(payload))
                .transpose()
                .map_err(Failure::from)
        });
        match answer {
            Ok(header) => Ok(header.kind == RouteType::Local),
            // No route at all.
            Err(Failure::Refused {
                errno: libc::ENETUNREACH | libc::EHOSTUNREACH,
                ..
            }) => Ok(false),
            Err(failure) => Err(failure.during(format!("looking for the way to {ip}"))),
        }
    }

    /// Takes an address from an interface.
    pub fn delete_address(
        &mut self,
        interface: u32,
        ip: IpAddr,
        prefix_len: u8,
    ) -> Result<(), NetlinkError> {
        let message = message(interface, ip, prefix_len);
        let result = self.execute(RouteNetlinkMessage::DelAddress(message), 0);
        result.map_err(|failure| {
            let name = self.name_of(interface);
            failure.during(format!("removing {ip}/{prefix_len} from {name}"))
        })
    }

    /// All addresses of the namespace.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let message = AddressMessage::default();
        self.dump(
            &RouteNetlinkMessage::GetAddress(message),
            |kind, payload, addresses| {
                addresses.extend(decode(kind, payload)?);
                Ok(())
            },
        )
        .map_err(|failure| failure.during("listing addresses"))
    }
}

fn message(interface: u32, ip: IpAddr, prefix_len: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family_of(ip);
    message.header.prefix_len = prefix_len;
    message.header.index = interface;
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}

pub(super) fn family_of(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// The subnet's broadcast address, which the kernel does not work out by itself. None where every
/// address is a host's (RFC 3021).
fn broadcast(ip: Ipv4Addr, prefix_len: u8) -> Option<Ipv4Addr> {
    if prefix_len >= 31 {
        return None;
    }
    let hosts = u32::MAX.checked_shr(prefix_len.into())?;
    Some(Ipv4Addr::from_bits(ip.to_bits() | hosts))
}

fn decode(kind: u16, payload: &[u8]) -> Result<Option<Address>, Failure> {
    if kind != libc::RTM_NEWADDR {
        return Ok(None);
    }
    let header = AddressHeader::parse(payload)?;
    let (mut address, mut local, mut flags) = (None, None, AddressFlags::empty());
    for attribute in NlasIterator::new(&payload[HEADER_LENGTH..]) {
        let attribute = attribute?;
        if ![IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS].contains(&attribute.kind()) {
            continue;
        }
        match AddressAttribute::parse(&attribute)? {
            AddressAttribute::Address(ip) => address = Some(ip),
            AddressAttribute::Local(ip) => local = Some(ip),
            AddressAttribute::Flags(found) => flags = found,
            _ => {}
        }
    }
    // On a point-to-point interface `address` is the other side's and `local` is ours; IPv6 has
    // `address` only.
    let Some(ip) = local.or(address) else {
        return Ok(None);
    };
    Ok(Some(Address {
        interface: header.index,
        ip,
        prefix_len: header.prefix_len,
        tentative: flags.contains(AddressFlags::Tentative),
        duplicate: flags.contains(AddressFlags::Dadfailed),
        link_local: header.scope == AddressScope::Link,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcast_addresses_end_their_subnet() {
        let ip = Ipv4Addr::new(10, 1, 2, 3);
        assert_eq!(broadcast(ip, 24), Some(Ipv4Addr::new(10, 1, 2, 255)));
        assert_eq!(broadcast(ip, 30), Some(Ipv4Addr::new(10, 1, 2, 3)));
        assert_eq!(broadcast(ip, 0), Some(Ipv4Addr::BROADCAST));
        assert_eq!(broadcast(ip, 31), None);
        assert_eq!(broadcast(ip, 32), None);
    }

    #[test]
    fn the_loopback_address_is_listed() {
        let mut netlink = Netlink::open().unwrap();
        let loopback = netlink.link("lo").unwrap();
        if loopback.up {
            let addresses = netlink.addresses().unwrap();
            assert!(
                addresses
                    .iter()
                    .any(|address| address.ip == Ipv4Addr::LOCALHOST
                        && address.prefix_len == 8
                        && address.interface == loopback.index)
            );
        }
    }
}
