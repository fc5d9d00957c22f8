//! What must hold after every action, said without asking the switch: by the world's own numbers.

use heddle_switch::{Cause, DropReason, GATEWAY_LINK_LOCAL, Identity, PortId, link_local};
use heddle_wire::{Address, MacAddr, Network, Summary, Transport, VNET_HEADER_LEN, VnetHeader};

use super::place::{address, gateway_mac, port_mac};
use super::world::{LAN, PORTS, SESSIONS, STATIONS, WAN, World, home, leg_mac, network_of};
use crate::replay::parse::oracle::{Soundness, partial_sum};

/// Frames that wait for a neighbour: the bound that the switch promises.
const HELD: usize = 256;
/// Fragments that wait for others, of a member port and of a leg.
const FRAGMENTS: [usize; 2] = [512, 4096];
/// Neighbours.
const NEIGHBOURS: usize = 1024;

/// A frame that came in at a port.
pub(super) type Injected = (usize, Vec<u8>);

/// Sums over all ports.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    sent: u64,
    drops: Vec<(DropReason, u64)>,
    held: usize,
    sessions: u32,
}

impl Totals {
    pub(super) fn of(world: &World) -> Totals {
        let mut totals = Totals {
            held: world.switch.held_frames(),
            sessions: world.switch.nat().session_count(),
            ..Totals::default()
        };
        for slot in &world.slots {
            let statistics = slot.port.statistics();
            totals.sent += statistics.sent_frames;
            totals.drops.extend(statistics.drops);
        }
        totals
    }

    pub(super) fn held(&self) -> usize {
        self.held
    }

    fn dropped(&self, counts: impl Fn(DropReason) -> bool) -> u64 {
        let counted = self.drops.iter().filter(|(reason, _)| counts(*reason));
        counted.map(|(_, frames)| frames).sum()
    }
}

/// Every frame that was taken has an end that somebody counted: it left, it was dropped, it waits, or
/// it was an answer that the gateway was waiting for.
pub(super) fn every_frame_has_an_end(
    before: &Totals,
    after: &Totals,
    injected: &[Injected],
    swallowed: usize,
) {
    let lost = DropReason::from(Cause::ReceiveRingFull);
    let ended = |totals: &Totals| totals.dropped(|reason| reason != lost) + totals.sent;
    let count = |frames: usize| u64::try_from(frames).expect("few frames");
    let began = count(injected.len() + before.held);
    let ended = ended(after) - ended(before) + count(after.held + swallowed);
    assert!(
        began <= ended,
        "{began} frames came in or waited, {ended} have an end"
    );
    // What the switch refused for what it is has left no session behind.
    let refused = |totals: &Totals| totals.dropped(|reason| !is_of_egress(reason));
    let all_refused = refused(after) - refused(before) == count(injected.len());
    if all_refused && before.held == 0 && injected.len() == 1 {
        assert!(
            after.sessions <= before.sessions,
            "a dropped frame left a session"
        );
    }
}

/// Reasons that end one copy, or one of several frames.
fn is_of_egress(reason: DropReason) -> bool {
    let causes = [
        Cause::PortGone,
        Cause::TransmitQueueFull,
        Cause::TransmitFailed,
        Cause::ReceiveRingFull,
        Cause::NeighbourQueueFull,
        Cause::NeighbourUnreachable,
    ];
    causes.iter().any(|&cause| reason == cause.into())
}

/// Nothing grows beyond its bound.
pub(super) fn everything_is_bounded(world: &World) {
    let nat = world.switch.nat();
    assert!(nat.session_count() <= SESSIONS.sessions);
    assert!(nat.mapping_count() <= nat.session_count() * 2);
    for index in 0..PORTS {
        let owner = heddle_nat::Side(u16::try_from(index).expect("few ports"));
        assert!(nat.sessions_of(owner) <= SESSIONS.sessions_per_owner);
        let learned = learned(world, |port| usize::from(port.0) == index);
        assert!(learned <= STATIONS.port as usize, "port {index}: {learned}");
    }
    let fragments = 7 * FRAGMENTS[0] + 2 * FRAGMENTS[1];
    // One that waits for a neighbour may have come in fragments.
    assert!(world.switch.held_frames() <= HELD * 128 + fragments);
    assert!(world.switch.neighbours().list().len() <= NEIGHBOURS);
    nat.for_each(|session| {
        for direction in heddle_nat::Direction::BOTH {
            let side = usize::from(session.ingress(direction).0);
            assert!(
                world.slots[side].is_plugged,
                "a session of port {side}, which is gone"
            );
        }
    });
}

fn learned(world: &World, of: impl Fn(PortId) -> bool) -> usize {
    let listed = world.switch.fdb().list(world.now);
    listed
        .iter()
        .filter(|listed| !listed.station.fixed && of(listed.station.port))
        .count()
}

/// When every time-out is over, nothing is left.
pub(super) fn everything_is_over(world: &World) {
    let nat = world.switch.nat();
    assert_eq!((nat.session_count(), nat.mapping_count()), (0, 0));
    assert_eq!(world.switch.held_frames(), 0);
    assert_eq!(learned(world, |_| true), 0);
    let neighbours = world.switch.neighbours().list();
    assert!(neighbours.is_empty(), "{neighbours:?}");
    for (zone, own) in [(1, WAN), (2, LAN)] {
        for outside in leg_addresses(own) {
            for protocol in [6, 17, 1, 58] {
                let protocol = heddle_wire::Protocol(protocol);
                let used = nat.ports_in_use(heddle_nat::Zone(zone), outside, protocol);
                assert_eq!(used, 0, "ports of {outside} {protocol}");
            }
        }
    }
}

/// The addresses that packets from a leg may have as their source.
fn leg_addresses(leg: usize) -> Vec<Address> {
    let own: &[&str] = if leg == WAN {
        &["192.0.2.2", "2001:db8:2::2"]
    } else {
        &["192.0.3.2"]
    };
    own.iter()
        .map(|text| address(text))
        .chain([link_local(leg_mac(leg))])
        .collect()
}

/// A frame that left at a port had the right to be there.
pub(super) fn may_be_there(world: &World, injected: &[Injected], port: usize, bytes: &[u8]) {
    let frame = &bytes[VNET_HEADER_LEN..];
    let summary = Summary::parse(frame).expect("what leaves is a frame");
    match home(port) {
        None => is_of_the_leg(port, &summary),
        Some(network) if summary.source == gateway_mac(network) => {
            is_routed(world, port, network, &summary);
        }
        Some(network) => is_bridged(world, injected, (port, network), frame, &summary),
    }
}

/// Outside there is only the leg: no inside address leaves, and nothing for one.
fn is_of_the_leg(leg: usize, summary: &Summary) {
    assert_eq!(summary.source, leg_mac(leg));
    match &summary.network {
        Network::Ip(ip) => {
            assert!(leg_addresses(leg).contains(&ip.source), "{ip:?} left");
            assert_eq!(network_of(ip.destination), None, "{ip:?} left");
        }
        Network::Arp(arp) => {
            assert!(leg_addresses(leg).contains(&arp.sender.into()), "{arp:?}");
            assert_eq!(arp.sender_mac, leg_mac(leg));
        }
        other => panic!("{other:?} left"),
    }
}

/// A packet from the gateway is for this endpoint, and from a network that reaches it.
fn is_routed(world: &World, port: usize, network: u16, summary: &Summary) {
    let slot = &world.slots[port];
    let all_nodes = MacAddr::new([0x33, 0x33, 0, 0, 0, 1]);
    if slot.is_secure {
        let to = summary.destination;
        assert!(to == port_mac(port) || to == all_nodes, "{summary:?}");
    }
    let ip = match &summary.network {
        Network::Ip(ip) => ip,
        Network::Arp(arp) => {
            assert_eq!(network_of(arp.sender.into()), Some(network));
            return;
        }
        other => panic!("{other:?} from the gateway"),
    };
    let identity = slot.identity().expect("a member");
    if slot.is_secure && !ip.destination.is_multicast() {
        let is_own = identity.owns(ip.destination) || is_behind(world, port, ip.destination);
        assert!(is_own, "{ip:?} at port {port}");
    }
    let of_leg = [WAN, LAN]
        .iter()
        .any(|&leg| leg_addresses(leg).contains(&ip.source));
    match network_of(ip.source) {
        Some(other) => assert!(reaches(world, other, network), "{ip:?} at port {port}"),
        // Grey has no way out: nothing comes in from there.
        None => assert!(
            network != 3 || of_leg || ip.source == GATEWAY_LINK_LOCAL,
            "{ip:?}"
        ),
    }
}

fn reaches(world: &World, one: u16, other: u16) -> bool {
    one == other || world.reaches && one < 2 && other < 2
}

/// Whether an address is behind the endpoint at a port, by the route of blue.
fn is_behind(world: &World, port: usize, address: Address) -> bool {
    let is_routed = match address.to_ip() {
        std::net::IpAddr::V4(address) => address.octets()[..2] == [10, 200],
        std::net::IpAddr::V6(address) => address.segments()[..2] == [0xfd00, 0x200],
    };
    port == 1 && world.routes && is_routed
}

/// A frame of somebody else in the same network, who was who it says.
fn is_bridged(
    world: &World,
    injected: &[Injected],
    (port, network): (usize, u16),
    frame: &[u8],
    summary: &Summary,
) {
    assert_ne!(network, 2, "an l3 network bridges nothing: {summary:?}");
    let may_be_of = |(from, bytes): &&Injected| {
        home(*from) == Some(network)
            && *from != port
            && bytes.get(VNET_HEADER_LEN..VNET_HEADER_LEN + 12) == Some(&frame[..12])
            && speaks_for_itself(world, *from, summary)
    };
    let found = injected.iter().find(may_be_of);
    assert!(found.is_some(), "nobody sent {summary:?} to port {port}");
}

fn speaks_for_itself(world: &World, from: usize, summary: &Summary) -> bool {
    let slot = &world.slots[from];
    let Some(identity) = slot.identity().filter(|_| slot.is_secure) else {
        return true;
    };
    let owns = |identity: &Identity, address: Address| {
        identity.owns(address) || address.is_unspecified() || is_behind(world, from, address)
    };
    summary.source == port_mac(from)
        && match &summary.network {
            Network::Ip(ip) => owns(identity, ip.source),
            Network::Arp(arp) => {
                arp.sender_mac == port_mac(from) && owns(identity, arp.sender.into())
            }
            Network::Malformed(_) => false,
            Network::Other => true,
        }
}

/// Whether nothing is wrong with a frame: its checksums are right, or left open as they should be.
pub(super) fn is_sound(bytes: &[u8]) -> bool {
    let Some((header, frame)) = VnetHeader::split(bytes) else {
        return true;
    };
    let Ok(summary) = Summary::parse(frame) else {
        return true;
    };
    if header.check(frame.len(), &summary).is_err() {
        return false;
    }
    let Some(ip) = summary.ip() else { return true };
    let soundness = Soundness::of(frame, ip);
    if !header.needs_checksum() {
        return soundness.is_right();
    }
    let place = usize::from(header.checksum_start) + usize::from(header.checksum_offset);
    let field = u16::from_be_bytes([frame[place], frame[place + 1]]);
    let is_whole = match &ip.transport {
        Transport::Udp(udp) => udp.payload_len as usize + 8 == ip.payload_len(),
        _ => true,
    };
    soundness.header != Some(false)
        && is_whole
        && ip.end as usize == frame.len()
        && field % 0xffff == partial_sum(ip, ip.payload_len())
}

/// A routed packet fits the link that it left on. Messages of the gateway's own are as long as what
/// they answer, or no longer than any link carries.
pub(super) fn fits(world: &World, port: usize, bytes: &[u8]) {
    let Some((header, frame)) = VnetHeader::split(bytes) else {
        return;
    };
    let summary = Summary::parse(frame).expect("what leaves is a frame");
    let is_routed = match home(port) {
        Some(network) => summary.source == gateway_mac(network),
        None => true,
    };
    let is_message = summary
        .ip()
        .is_some_and(|ip| matches!(ip.transport, Transport::Icmp(_)));
    if is_routed && !is_message {
        let mtu = usize::from(world.slots[port].port.mtu);
        let len = header.largest_segment_len(&summary);
        assert!(len <= mtu, "{len} octets at port {port} with MTU {mtu}");
    }
}
