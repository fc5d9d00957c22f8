//! Who and where is who in the world: the choices behind the numbers of an action.

use heddle_switch::link_local;
use heddle_wire::{Address, Family, MacAddr};

use super::world::{LAN, PORTS, WAN, home};

/// Reads an address that this world is made of.
pub(crate) fn address(text: &str) -> Address {
    text.parse().expect("the world is made of addresses")
}

/// The MAC address of a host, or of the leg at its port.
pub(crate) fn port_mac(index: usize) -> MacAddr {
    let last = u8::try_from(index).expect("few ports");
    MacAddr::new([0x02, 0xaa, 0, 0, 0, last])
}

/// The MAC address of a network's gateway.
pub(crate) fn gateway_mac(network: u16) -> MacAddr {
    let [high, low] = network.to_be_bytes();
    MacAddr::new([0x02, 0xee, 0, 0, high, low])
}

/// The station beyond the leg at a port.
const BEYOND: MacAddr = MacAddr::new([0x02, 0x99, 0, 0, 0, 1]);

/// A station behind c that it was not given.
pub(super) const HIDDEN: MacAddr = MacAddr::new([0x02, 0xcc, 0, 0, 0, 0x50]);

/// The MAC address of who is at the other end of a port's link.
pub(crate) fn own_mac(port: usize) -> MacAddr {
    if port == WAN || port == LAN {
        BEYOND
    } else {
        port_mac(port)
    }
}

/// The MAC address that whoever is at a port speaks to first.
pub(crate) fn peer_mac(port: usize) -> MacAddr {
    home(port).map_or(port_mac(port), gateway_mac)
}

/// A choice of receiver as seen from a port: the gateway first.
pub(super) fn receiver(choice: u8, port: usize) -> MacAddr {
    let choice = usize::from(choice) % 16;
    match choice {
        0 => peer_mac(port),
        1..=9 => port_mac(choice - 1),
        10 => MacAddr::BROADCAST,
        11 => MacAddr::new([0x33, 0x33, 0, 0, 0, 1]),
        12 => MacAddr::new([0x01, 0x80, 0xc2, 0, 0, 0x0e]),
        13 => HIDDEN,
        14 => gateway_mac(0),
        _ => MacAddr::new([0x02, 0xff, 0, 0, 0, 9]),
    }
}

/// A choice of sender as seen from a port: itself first.
pub(super) fn sender(choice: u8, port: usize) -> MacAddr {
    let choice = usize::from(choice) % 16;
    match choice {
        0 => own_mac(port),
        1..=9 => port_mac(choice - 1),
        10 => gateway_mac(home(port).unwrap_or(0)),
        11 => MacAddr::new([0x03, 0, 0, 0, 0, 1]),
        12 => MacAddr::ZERO,
        13 => HIDDEN,
        // Many stations, for a table that learns.
        14 => MacAddr::new([0x02, 0xcd, 0, 0, 0, 1]),
        _ => MacAddr::new([0x02, 0xcd, 0, 0, 0, 2]),
    }
}

/// The addresses that a member was given.
const GIVEN: [[&str; 2]; 7] = [
    ["10.1.0.2", "fd00:1::2"],
    ["10.1.0.3", "fd00:1::3"],
    ["10.1.0.4", "fd00:1::4"],
    ["10.2.0.2", "fd00:2::2"],
    ["10.3.0.2", "fd00:3::2"],
    ["10.4.0.2", ""],
    ["10.5.0.2", "fd00:5::2"],
];

/// The addresses that whoever is at a port was given.
pub(crate) fn given(port: usize) -> Vec<Address> {
    let texts = GIVEN.get(port).into_iter().flatten();
    texts
        .filter(|text| !text.is_empty())
        .map(|text| address(text))
        .collect()
}

/// Places that packets come from and go to, in both families.
const PLACES: [[&str; 2]; 32] = [
    ["198.51.100.7", "2001:db8:99::7"],
    ["10.1.0.2", "fd00:1::2"],
    ["10.1.0.3", "fd00:1::3"],
    ["10.1.0.4", "fd00:1::4"],
    ["10.2.0.2", "fd00:2::2"],
    ["10.3.0.2", "fd00:3::2"],
    ["10.4.0.2", "fd00:4::2"],
    ["10.5.0.2", "fd00:5::2"],
    ["10.1.0.50", "fd00:1::50"],
    ["10.2.0.99", "fd00:2::99"],
    ["10.1.0.1", "fd00:1::1"],
    ["10.2.0.1", "fd00:2::1"],
    ["10.3.0.1", "fd00:3::1"],
    ["10.4.0.1", "fe80::1"],
    ["10.5.0.1", "fd00:5::1"],
    ["192.0.2.2", "2001:db8:2::2"],
    ["192.0.2.1", "2001:db8:2::1"],
    ["192.0.2.77", "2001:db8:2::77"],
    ["203.0.113.9", "2001:db8:98::9"],
    ["192.0.3.2", "2001:db8:3::2"],
    ["192.0.3.77", "2001:db8:3::77"],
    ["10.200.0.1", "fd00:200::1"],
    ["0.0.0.0", "::"],
    ["127.0.0.1", "::1"],
    ["224.0.0.251", "ff02::fb"],
    ["255.255.255.255", "ff02::1"],
    ["10.1.0.255", "ff05::2"],
    ["240.0.0.1", "ff02::1:ff00:1"],
    ["169.254.1.1", "fe80::99"],
    ["10.2.0.255", "ff02::1:ff00:2"],
    ["192.0.2.255", "fe80::aa:ff:fe00:0"],
    ["0.1.2.3", "::2"],
];

/// A choice of place.
pub(super) fn place(choice: u8, family: Family) -> Address {
    let [v4, v6] = PLACES[usize::from(choice) % PLACES.len()];
    address(match family {
        Family::V4 => v4,
        Family::V6 => v6,
    })
}

/// A choice of sender's place: zero for what the port is known by.
pub(super) fn sender_place(choice: u8, port: usize, family: Family) -> Address {
    if usize::from(choice) % (PLACES.len() + 1) == PLACES.len() {
        return match family {
            Family::V6 => link_local(own_mac(port)),
            Family::V4 => place(0, family),
        };
    }
    if choice != 0 {
        return place(choice, family);
    }
    let own = given(port.min(PORTS - 1));
    let own = own.into_iter().find(|address| address.family() == family);
    own.unwrap_or_else(|| place(if port == LAN { 20 } else { 0 }, family))
}

/// Whether an address is a gateway's or a leg's.
pub(super) fn is_ours(address: Address) -> bool {
    let own = PLACES[10..16].iter().chain([&PLACES[19]]).flatten();
    own.map(|text| self::address(text))
        .any(|own| own == address)
        || address.is_link_local()
}
