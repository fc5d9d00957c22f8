//! What a measurement runs on: two containers and something that joins them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use heddle_wire::Family;

use crate::job::Job;
use crate::problem::Problem;
use crate::sandbox::{Sandbox, Setup};
use crate::traffic;

/// How the two containers are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    /// Both in one network.
    Bridge,
    /// The client inside, the server outside, the client's address translated in between.
    Nat,
}

/// Two containers that reach each other.
#[derive(Debug)]
pub(crate) struct Ground {
    /// What joins them, ended with this value: first, so that it need not notice that they end.
    pub(crate) joint: Box<dyn Joint>,
    pub(crate) client: Sandbox,
    pub(crate) server: Sandbox,
    /// Where the client finds the server.
    pub(crate) target: [IpAddr; 2],
    /// The processes that carry the frames, if the kernel does not.
    pub(crate) switch: Vec<u32>,
}

/// Whatever ends when it is dropped.
pub(crate) trait Joint: std::fmt::Debug {
    /// What it has to say for itself when a measurement has failed.
    fn account(&self) -> Option<String> {
        None
    }
}

impl Joint for Sandbox {}

impl Joint for Job<()> {}

impl Ground {
    /// Where the client finds the server.
    pub(crate) fn target(&self, family: Family) -> IpAddr {
        of(self.target, family)
    }

    /// Waits until the client reaches the server in both families.
    pub(crate) fn prove(self) -> Result<Ground, Problem> {
        for target in self.target {
            self.client.run(|| traffic::ping(target))?;
        }
        Ok(self)
    }
}

/// Addresses of the network that is inside.
pub(crate) const INSIDE: [&str; 2] = ["10.7.0.0/24", "fd07::/64"];

/// The client's, the server's where it is inside, and the gateway's.
pub(crate) const CLIENT: [IpAddr; 2] = inside(2);
pub(crate) const SERVER: [IpAddr; 2] = inside(3);
pub(crate) const GATEWAY: [IpAddr; 2] = inside(1);

/// The server's where it is outside, and the translator's (RFC 5737, RFC 3849).
pub(crate) const OUTSIDE_SERVER: [IpAddr; 2] = outside(1);
pub(crate) const OUTSIDE: [IpAddr; 2] = outside(2);

/// Lengths of all prefixes.
pub(crate) const PREFIX: [u8; 2] = [24, 64];

/// A host inside.
pub(crate) const fn inside(host: u8) -> [IpAddr; 2] {
    [
        IpAddr::V4(Ipv4Addr::new(10, 7, 0, host)),
        IpAddr::V6(Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, host as u16)),
    ]
}

const fn outside(host: u8) -> [IpAddr; 2] {
    [
        IpAddr::V4(Ipv4Addr::new(203, 0, 113, host)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host as u16)),
    ]
}

/// What a router needs besides: without it the kernel asks for no neighbours over IPv6.
const LINK_LOCAL: (IpAddr, u8) = (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)), 64);

/// The interface of a router.
pub(crate) fn router(addresses: [IpAddr; 2]) -> Setup {
    let mut setup = setup(addresses);
    setup.addresses.push(LINK_LOCAL);
    setup
}

/// An interface with these addresses.
pub(crate) fn setup(addresses: [IpAddr; 2]) -> Setup {
    Setup {
        addresses: addresses.into_iter().zip(PREFIX).collect(),
        gateways: Vec::new(),
    }
}

/// The address of a family.
pub(crate) fn of([v4, v6]: [IpAddr; 2], family: Family) -> IpAddr {
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}
