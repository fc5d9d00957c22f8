//! What a rule is about.

use heddle_wire::{Family, Protocol};

use super::Interfaces;
use super::question::State;
use super::ranges::Ranges;
use crate::tuple::Direction;

/// A match and whether it is the opposite that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negatable<T> {
    /// Everything but the set.
    pub negated: bool,
    /// The set.
    pub set: T,
}

impl<T> Negatable<T> {
    /// What is in the set.
    pub fn of(set: T) -> Negatable<T> {
        let negated = false;
        Negatable { negated, set }
    }

    /// What is not.
    pub fn not(set: T) -> Negatable<T> {
        let negated = true;
        Negatable { negated, set }
    }
}

/// Which traffic a rule is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Between networks, and between a network and the outside.
    #[default]
    Routed,
    /// Between the endpoints of one network.
    Inside,
}

/// A set of session states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct States(u8);

impl States {
    /// The set of some states.
    #[must_use]
    pub fn new(states: &[State]) -> States {
        let bits = states.iter().map(|state| 1 << state.index());
        States(bits.fold(0, |set, bit: u8| set | bit))
    }

    /// Whether a state is in the set.
    #[must_use]
    pub fn contains(self, state: State) -> bool {
        self.0 & 1 << state.index() != 0
    }
}

/// A set of upper-layer protocols.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protocols(pub Vec<Protocol>);

/// A set of ICMP messages, by type and code as one number, the type first. Which ICMP it is, the
/// protocol says.
pub type IcmpKinds = Ranges<u16>;

/// What a rule is about: everything that is said must be true of a packet. What a packet does not have
/// (ports where there are none, a session's first destination where there is no session) is neither in
/// a set nor outside it: a rule that asks for it does not match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// Which traffic.
    pub scope: Scope,
    /// IPv4 or IPv6 only.
    pub family: Option<Family>,
    /// Source address, as [`heddle_wire::Address::bits`].
    pub source: Option<Negatable<Ranges<u128>>>,
    /// Destination address behind the translation.
    pub destination: Option<Negatable<Ranges<u128>>>,
    /// Destination address that the session's first packet was sent to.
    pub original_destination: Option<Negatable<Ranges<u128>>>,
    /// Destination port that the session's first packet was sent to.
    pub original_port: Option<Negatable<Ranges<u16>>>,
    /// Upper-layer protocol.
    pub protocol: Option<Negatable<Protocols>>,
    /// Source port of TCP and UDP.
    pub source_port: Option<Negatable<Ranges<u16>>>,
    /// Destination port of TCP and UDP behind the translation.
    pub destination_port: Option<Negatable<Ranges<u16>>>,
    /// ICMP type and code.
    pub icmp: Option<Negatable<IcmpKinds>>,
    /// State of the session.
    pub states: Option<Negatable<States>>,
    /// Way of the session's first packet, or of its answers.
    pub direction: Option<Direction>,
    /// Where it came in.
    pub ingress: Option<Negatable<Interfaces>>,
    /// Where it goes out.
    pub egress: Option<Negatable<Interfaces>>,
}

impl Matches {
    /// How many ranges and names it is made of.
    pub(super) fn pieces(&self) -> usize {
        let addresses = [&self.source, &self.destination, &self.original_destination];
        let ports = [
            &self.original_port,
            &self.source_port,
            &self.destination_port,
            &self.icmp,
        ];
        let addresses = addresses.into_iter().flatten().map(|it| it.set.len());
        let ports = ports.into_iter().flatten().map(|it| it.set.len());
        let interfaces = [&self.ingress, &self.egress].into_iter().flatten();
        let interfaces = interfaces.map(|it| it.set.len());
        addresses.chain(ports).chain(interfaces).sum()
    }
}
