//! Who takes part, and under which addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use heddle_wire::{Address, Family};

use crate::ground::{GATEWAY, OUTSIDE, OUTSIDE_SERVER, inside, of};

/// Where a frame is sent or heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Station {
    /// A host inside.
    A,
    /// Another one in the same network.
    B,
    /// The one whose names are misused.
    C,
    /// The next hop outside, which plays everybody behind it.
    Outside,
}

impl Station {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Station; 4] = [Station::A, Station::B, Station::C, Station::Outside];

    /// The hosts inside.
    pub(crate) const INSIDE: [Station; 3] = [Station::A, Station::B, Station::C];

    /// Its place in tables.
    pub(crate) fn index(self) -> usize {
        match self {
            Station::A => 0,
            Station::B => 1,
            Station::C => 2,
            Station::Outside => 3,
        }
    }

    /// Its own addresses.
    pub(crate) const fn addresses(self) -> [IpAddr; 2] {
        match self {
            Station::A => inside(2),
            Station::B => inside(3),
            Station::C => inside(4),
            Station::Outside => OUTSIDE_SERVER,
        }
    }

    /// Its own address of a family.
    pub(crate) fn address(self, family: Family) -> Address {
        of(self.addresses(), family).into()
    }
}

/// The translator's address inside.
pub(super) fn gateway(family: Family) -> Address {
    of(GATEWAY, family).into()
}

/// The translator's address outside.
pub(super) fn outside(family: Family) -> Address {
    of(OUTSIDE, family).into()
}

/// Two servers, far away.
pub(super) fn server(family: Family) -> Address {
    of(far(7), family).into()
}

/// The other one.
pub(super) fn other_server(family: Family) -> Address {
    of(far(8), family).into()
}

/// A router on the way to them.
pub(super) fn router(family: Family) -> Address {
    of(far(3), family).into()
}

/// Whom only markers are sent to.
pub(super) fn marker_server(family: Family) -> Address {
    of(far(99), family).into()
}

/// Addresses of RFC 5737 and RFC 3849.
const fn far(host: u8) -> [IpAddr; 2] {
    [
        IpAddr::V4(Ipv4Addr::new(198, 51, 100, host)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, host as u16)),
    ]
}

/// The longest packet on the link outside, and inside. They differ, so that something can be too long.
pub(crate) const OUTSIDE_MTU: u16 = 1400;
pub(crate) const INSIDE_MTU: u16 = 1500;

/// A UDP port that leads from the outside address to host A.
pub(crate) const PUBLISHED: u16 = 8053;
