//! Where packets come in and go out.

use crate::session::Side;

/// Number of a network, as the switch knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkNumber(pub u16);

/// Where a packet comes in or goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interface {
    /// The port.
    pub side: Side,
    /// The network it is in; none for a way out.
    pub network: Option<NetworkNumber>,
}

/// A set of places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// Single ports, each with the network it is in.
    pub ports: Vec<Interface>,
    /// All ports of these networks.
    pub networks: Vec<NetworkNumber>,
}

impl Interfaces {
    /// Whether a place is in the set.
    #[must_use]
    pub fn contains(&self, interface: Interface) -> bool {
        let by_port = self.ports.iter().any(|port| port.side == interface.side);
        by_port || (interface.network).is_some_and(|network| self.networks.contains(&network))
    }

    pub(super) fn len(&self) -> usize {
        self.ports.len() + self.networks.len()
    }
}
