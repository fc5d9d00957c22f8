//! Every way a frame can end without being sent.
//!
//! One list: the reason is a value that travels up from where the frame ended, each has a counter at
//! the port the frame came from, a name for machines and a sentence for people. Being dropped is a
//! result, not an error. A test shows that each reason can occur.

use heddle_wire::{Malformed, VnetError};

/// Why a frame ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The bytes are not the packet they claim to be.
    Malformed(Malformed),
    /// The virtio-net header does not fit the packet.
    Offload(VnetError),
    /// Something that needs no more than this crate to explain.
    Cause(Cause),
}

/// Ends inside the switch, in the order in which a frame meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cause {
    // Port security.
    /// No station has this address. Each reason has its sentence in the table below.
    SourceMacInvalid,
    /// Not the MAC address the endpoint was given.
    SourceMacSpoofed,
    /// ARP sender is somebody else.
    ArpSpoofed,
    /// IP source is somebody else.
    AddressSpoofed,
    /// ND speaks for somebody else.
    NeighbourSpoofed,
    /// ND in fragments.
    NeighbourFragmented,
    /// Router advertisement or redirect from an endpoint.
    RouterImpersonated,
    /// DHCP server message from an endpoint.
    DhcpServerImpersonated,
    /// IP or ARP behind LLC/SNAP.
    SnapEncapsulated,
    /// Family that the network does not carry.
    FamilyDisabled,
    // Bridge.
    /// 01:80:C2:00:00:0X.
    LinkLocalControl,
    /// Destination is behind the port it came from.
    SamePort,
    /// Flooded, but nobody else is there.
    NobodyElse,
    /// Flooded more than storm control permits.
    StormControl,
    /// An l3 network carries only routed unicast.
    NotRouted,
    // Leg.
    /// Not for the leg's MAC address.
    NotForLeg,
    /// Outside claims to be inside, or asks for an inside address.
    InsideFromOutside,
    // Router.
    /// IPv4 header checksum.
    HeaderChecksum,
    /// Source that nobody can have.
    MartianSource,
    /// Destination that nobody can have.
    MartianDestination,
    /// IPv4 source route, IPv6 routing header type 0.
    SourceRouted,
    /// Broadcast is not routed.
    BroadcastNotRouted,
    /// Multicast is not routed.
    MulticastNotRouted,
    /// TTL or hop limit used up.
    HopLimitExceeded,
    /// Other network, not routed to.
    NetworkIsolated,
    /// Nobody has this address.
    HostUnknown,
    /// No way out.
    NoRoute,
    /// Longer than the next link carries.
    PacketTooBig,
    // Gateway.
    /// Nothing listens on our own address.
    GatewayRefused,
    /// Something for us that has no answer.
    GatewayIgnored,
    /// Transport checksum, where we must rely on it.
    MessageChecksum,
    // NAT.
    /// Protocol without ports.
    ProtocolUntranslatable,
    /// Fragments that overlap or contradict each other.
    FragmentOverlap,
    /// Fragment that is there already.
    FragmentDuplicate,
    /// Too many fragments of one datagram.
    FragmentsTooMany,
    /// Share of memory for fragments used up.
    FragmentQuota,
    /// The other fragments did not come in time.
    FragmentIncomplete,
    /// Port 0.
    PortZero,
    /// TCP without a connection.
    NotSyn,
    /// Outside the TCP window.
    OutOfWindow,
    /// Unsolicited from outside.
    Unsolicited,
    /// Known mapping, but not this peer.
    Filtered,
    /// ICMP error about nothing we sent.
    ErrorUnmatched,
    /// ICMP error with an MTU that no path has.
    PathMtuImplausible,
    /// The leg has no address of this family.
    NoOutsideAddress,
    /// No outside port is free.
    PortsExhausted,
    /// Session table full.
    SessionsExhausted,
    /// This endpoint's share of sessions is used up.
    EndpointQuota,
    /// The translated flow would be mistaken for another one.
    FlowConflict,
    // Filter.
    /// A rule drops it.
    FilterDropped,
    /// A rule rejects it.
    FilterRejected,
    // Neighbours.
    /// Too many frames wait for a MAC address.
    NeighbourQueueFull,
    /// Next hop does not answer ARP or ND.
    NeighbourUnreachable,
    // Egress.
    /// The port went away.
    PortGone,
    /// The port takes no more.
    TransmitQueueFull,
    /// The kernel refused the frame.
    TransmitFailed,
    /// The receiving side was too slow; counted by the kernel.
    ReceiveRingFull,
}

/// Name and sentence of each [`Cause`], in its order.
const TABLE: [(Cause, &str, &str); 57] = [
    (
        Cause::SourceMacInvalid,
        "source-mac-invalid",
        "the Ethernet source is a multicast address or zero",
    ),
    (
        Cause::SourceMacSpoofed,
        "source-mac-spoofed",
        "the Ethernet source is not the MAC address the endpoint was given",
    ),
    (
        Cause::ArpSpoofed,
        "arp-spoofed",
        "the ARP sender is not an address the endpoint was given",
    ),
    (
        Cause::AddressSpoofed,
        "address-spoofed",
        "the IP source is not an address the endpoint may use",
    ),
    (
        Cause::NeighbourSpoofed,
        "neighbour-spoofed",
        "neighbour discovery speaks for an address or MAC the endpoint was not given",
    ),
    (
        Cause::NeighbourFragmented,
        "neighbour-fragmented",
        "neighbour discovery in fragments cannot be checked (RFC 6980)",
    ),
    (
        Cause::RouterImpersonated,
        "router-impersonated",
        "an endpoint sent a router advertisement or redirect",
    ),
    (
        Cause::DhcpServerImpersonated,
        "dhcp-server-impersonated",
        "an endpoint speaks to a DHCP client's port, as only a server does",
    ),
    (
        Cause::SnapEncapsulated,
        "snap-encapsulated",
        "IP or ARP behind an LLC/SNAP header hides from port security",
    ),
    (
        Cause::FamilyDisabled,
        "family-disabled",
        "the network has no subnet of this IP version",
    ),
    (
        Cause::LinkLocalControl,
        "link-local-control",
        "01:80:C2:00:00:0X is never forwarded (IEEE 802.1Q)",
    ),
    (
        Cause::SamePort,
        "same-port",
        "the destination is behind the port the frame came from",
    ),
    (
        Cause::NobodyElse,
        "nobody-else",
        "nobody else in its network is who a flooded frame is for",
    ),
    (
        Cause::StormControl,
        "storm-control",
        "the endpoint sends more broadcasts, multicasts and frames for unknown stations than storm \
         control permits",
    ),
    (
        Cause::NotRouted,
        "not-routed",
        "an l3 network carries no ARP, no broadcast and nothing but IP",
    ),
    (
        Cause::NotForLeg,
        "not-for-leg",
        "the frame from outside is for another station",
    ),
    (
        Cause::InsideFromOutside,
        "inside-from-outside",
        "a packet from outside has an inside address as source or destination",
    ),
    (
        Cause::HeaderChecksum,
        "header-checksum",
        "the IPv4 header checksum is wrong",
    ),
    (
        Cause::MartianSource,
        "martian-source",
        "no host can have this source address",
    ),
    (
        Cause::MartianDestination,
        "martian-destination",
        "no host can have this destination address",
    ),
    (
        Cause::SourceRouted,
        "source-routed",
        "source routes and routing header type 0 are refused (RFC 7126, RFC 5095)",
    ),
    (
        Cause::BroadcastNotRouted,
        "broadcast-not-routed",
        "broadcasts are not routed (RFC 2644)",
    ),
    (
        Cause::MulticastNotRouted,
        "multicast-not-routed",
        "multicast is not routed",
    ),
    (
        Cause::HopLimitExceeded,
        "hop-limit-exceeded",
        "the TTL or hop limit was used up; the sender was told",
    ),
    (
        Cause::NetworkIsolated,
        "network-isolated",
        "the destination is in a network that this one is not routed to; the sender was told",
    ),
    (
        Cause::HostUnknown,
        "host-unknown",
        "no endpoint has the destination address; the sender was told",
    ),
    (
        Cause::NoRoute,
        "no-route",
        "no route leads to the destination; the sender was told",
    ),
    (
        Cause::PacketTooBig,
        "packet-too-big",
        "the packet is longer than the next link's MTU and must not be fragmented; the sender was told",
    ),
    (
        Cause::GatewayRefused,
        "gateway-refused",
        "nothing listens on this port or protocol of the gateway; the sender was told",
    ),
    (
        Cause::GatewayIgnored,
        "gateway-ignored",
        "a packet for the gateway that has no answer",
    ),
    (
        Cause::MessageChecksum,
        "message-checksum",
        "the checksum of a message that the gateway answers or translates is wrong",
    ),
    (
        Cause::ProtocolUntranslatable,
        "protocol-untranslatable",
        "only TCP, UDP and ICMP queries and errors can be translated",
    ),
    (
        Cause::FragmentOverlap,
        "fragment-overlap",
        "fragments of one datagram overlap or contradict each other, so all of it goes (RFC 5722)",
    ),
    (
        Cause::FragmentDuplicate,
        "fragment-duplicate",
        "the same fragment waits already",
    ),
    (
        Cause::FragmentsTooMany,
        "fragments-too-many",
        "a datagram came in more fragments than any link makes necessary",
    ),
    (
        Cause::FragmentQuota,
        "fragment-quota",
        "the endpoint has used up its share of memory for fragments, and its oldest went",
    ),
    (
        Cause::FragmentIncomplete,
        "fragment-incomplete",
        "the other fragments of the datagram did not come in time",
    ),
    (Cause::PortZero, "port-zero", "port 0 cannot be answered"),
    (
        Cause::NotSyn,
        "not-syn",
        "a TCP segment belongs to no known connection and does not open one",
    ),
    (
        Cause::OutOfWindow,
        "out-of-window",
        "a TCP segment is outside the window of its connection",
    ),
    (
        Cause::Unsolicited,
        "unsolicited",
        "nobody on the other side has asked for this packet",
    ),
    (
        Cause::Filtered,
        "filtered",
        "the mapping exists, but its endpoint has not spoken to this sender",
    ),
    (
        Cause::ErrorUnmatched,
        "error-unmatched",
        "an ICMP error is about a packet that was not sent through here",
    ),
    (
        Cause::PathMtuImplausible,
        "path-mtu-implausible",
        "an ICMP error claims an MTU below what any path carries (576 for IPv4, 1280 for IPv6)",
    ),
    (
        Cause::NoOutsideAddress,
        "no-outside-address",
        "the uplink has no address of this IP version; the sender was told",
    ),
    (
        Cause::PortsExhausted,
        "ports-exhausted",
        "no port of the outside address is free; the sender was told",
    ),
    (
        Cause::SessionsExhausted,
        "sessions-exhausted",
        "the session table is full; the sender was told",
    ),
    (
        Cause::EndpointQuota,
        "endpoint-quota",
        "the endpoint has used up its share of sessions; the sender was told",
    ),
    (
        Cause::FlowConflict,
        "flow-conflict",
        "the translated flow could not be told from an existing one",
    ),
    (
        Cause::FilterDropped,
        "filter-dropped",
        "a filter rule drops the packet",
    ),
    (
        Cause::FilterRejected,
        "filter-rejected",
        "a filter rule rejects the packet; the sender was told",
    ),
    (
        Cause::NeighbourQueueFull,
        "neighbour-queue-full",
        "too many frames wait for a next hop's MAC address",
    ),
    (
        Cause::NeighbourUnreachable,
        "neighbour-unreachable",
        "the next hop does not answer ARP or neighbour discovery; the sender was told",
    ),
    (
        Cause::PortGone,
        "port-gone",
        "the port to send on was removed",
    ),
    (
        Cause::TransmitQueueFull,
        "transmit-queue-full",
        "the port to send on takes no more frames",
    ),
    (
        Cause::TransmitFailed,
        "transmit-failed",
        "the kernel refused the frame",
    ),
    (
        Cause::ReceiveRingFull,
        "receive-ring-full",
        "the endpoint sent faster than the switch read; counted by the kernel",
    ),
];

impl DropReason {
    /// How many reasons there are: the size of an array of counters.
    pub const COUNT: usize = Malformed::ALL.len() + VnetError::ALL.len() + TABLE.len();

    /// Position in an array of [`Self::COUNT`] counters.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            DropReason::Malformed(malformed) => malformed.index(),
            DropReason::Offload(error) => Malformed::ALL.len() + error.index(),
            DropReason::Cause(cause) => {
                Malformed::ALL.len() + VnetError::ALL.len() + usize::from(cause as u8)
            }
        }
    }

    /// Every reason, in the order of [`Self::index`].
    pub fn all() -> impl Iterator<Item = DropReason> {
        let malformed = Malformed::ALL.iter().copied().map(DropReason::Malformed);
        let offload = VnetError::ALL.iter().copied().map(DropReason::Offload);
        let causes = TABLE.iter().map(|&(cause, _, _)| DropReason::Cause(cause));
        malformed.chain(offload).chain(causes)
    }

    /// A short name in kebab case: stable, for listings and metrics.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            DropReason::Malformed(malformed) => kebab("malformed", &format!("{malformed:?}")),
            DropReason::Offload(error) => kebab("offload", &format!("{error:?}")),
            DropReason::Cause(cause) => TABLE[usize::from(cause as u8)].1.to_owned(),
        }
    }

    /// What happened, as a sentence without capital and full stop.
    #[must_use]
    pub fn sentence(self) -> String {
        match self {
            DropReason::Malformed(malformed) => malformed.to_string(),
            DropReason::Offload(error) => error.to_string(),
            DropReason::Cause(cause) => TABLE[usize::from(cause as u8)].2.to_owned(),
        }
    }
}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> DropReason {
        DropReason::Malformed(malformed)
    }
}

impl From<VnetError> for DropReason {
    fn from(error: VnetError) -> DropReason {
        DropReason::Offload(error)
    }
}

impl From<Cause> for DropReason {
    fn from(cause: Cause) -> DropReason {
        DropReason::Cause(cause)
    }
}

/// `prefix-` and the words of a CamelCase name.
fn kebab(prefix: &str, name: &str) -> String {
    name.chars().fold(prefix.to_owned(), |mut out, letter| {
        if letter.is_ascii_uppercase() {
            out.push('-');
        }
        out.push(letter.to_ascii_lowercase());
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_index_name_and_sentence() {
        let reasons: Vec<DropReason> = DropReason::all().collect();
        assert_eq!(reasons.len(), DropReason::COUNT);
        for (position, reason) in reasons.iter().enumerate() {
            assert_eq!(reason.index(), position, "{reason:?}");
            assert!(!reason.sentence().is_empty());
        }
        let mut names: Vec<String> = reasons.iter().map(|reason| reason.name()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT, "two reasons share a name");
    }

    #[test]
    fn names_are_kebab_case() {
        let name = DropReason::Cause(Cause::PortsExhausted).name();
        assert_eq!(name, "ports-exhausted");
        assert_eq!(
            kebab("malformed", "FrameTooShort"),
            "malformed-frame-too-short"
        );
    }
}
