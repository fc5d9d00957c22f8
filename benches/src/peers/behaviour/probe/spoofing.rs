//! Whom a host can pretend to be in front of its neighbours and of the outside (RFC 2827, RFC 6105,
//! RFC 7113; CVE-2020-10749, CVE-2020-13401, CVE-2021-32575).
//!
//! Host B misuses the names of host C, and of the gateway.

use heddle_switch::link_local;
use heddle_wire::builder::Link;
use heddle_wire::{Address, Arp, Family, MacAddr, Network, icmp};

use super::super::heard::Heard;
use super::super::places::{Station, gateway, server};
use super::super::scene::{Scene, neighbour};
use super::super::verdict::{Outcome, fail, require};
use crate::problem::Problem;

const PORT: u16 = 3_478;

/// Whether host A hears one of the frames of host B.
fn reaches_neighbour(
    scene: &mut Scene<'_>,
    frames: &[Vec<u8>],
    is_it: impl Fn(&Heard) -> bool,
) -> Result<bool, Problem> {
    let path = (Station::B, Station::A);
    Ok(scene
        .hear(path, frames, |heard| is_it(heard).then_some(()))?
        .is_some())
}

/// With C's IP address, to A.
pub(super) fn address(scene: &mut Scene<'_>) -> Outcome {
    let [a, c] = [Station::A, Station::C].map(|station| station.address(scene.family));
    let frame = scene
        .direct(Station::B, Station::A)
        .ip(c, a)
        .udp(PORT, PORT, b"I am C");
    let seen = reaches_neighbour(scene, &[frame], |heard| heard.is_between(c, a))?;
    require(!seen, "a neighbour sees it")
}

/// With C's IP address, out.
pub(super) fn address_outward(scene: &mut Scene<'_>) -> Outcome {
    let port = scene.port();
    let (c, far) = (Station::C.address(scene.family), server(scene.family));
    let frame = scene
        .to_router(Station::B)
        .ip(c, far)
        .udp(port, PORT, b"I am C");
    let path = (Station::B, Station::Outside);
    let left = scene.hear(path, &[frame], |heard| {
        let ip = heard.any_ip()?;
        (ip.destination == far).then_some(())
    })?;
    require(left.is_none(), "it goes out")
}

/// With C's Ethernet address: seen by A, or believed by the switch, which then sends C's frames to B.
pub(super) fn mac(scene: &mut Scene<'_>) -> Outcome {
    let [a, b, c] = Station::INSIDE.map(|station| station.address(scene.family));
    let forged = Link::new(scene.mac(Station::C), scene.mac(Station::A));
    let frame = forged.ip(b, a).udp(PORT, PORT, b"from C's card");
    if reaches_neighbour(scene, &[frame], |heard| heard.is_between(b, a))? {
        return fail("a neighbour sees it");
    }
    let frame = scene
        .direct(Station::A, Station::C)
        .ip(a, c)
        .udp(PORT, PORT, b"for C");
    let path = (Station::A, Station::C);
    let came = scene.hear(path, &[frame], |heard| heard.is_between(a, c).then_some(()))?;
    require(came.is_some(), "frames for the owner go astray")
}

/// "This address is at my Ethernet address", said to A.
fn claim(scene: &mut Scene<'_>, claimed: Address) -> Outcome {
    let mac = scene.mac(Station::B);
    let link = scene.direct(Station::B, Station::A);
    let a = Station::A.address(scene.family);
    let frame = match (claimed.to_ip(), a.to_ip()) {
        (std::net::IpAddr::V4(sender), std::net::IpAddr::V4(target)) => link.arp(&Arp {
            operation: Arp::REPLY,
            sender_mac: mac,
            sender,
            target_mac: scene.mac(Station::A),
            target,
        }),
        // Solicited and to override what is known (RFC 4861 §4.4).
        _ => link.neighbour_advertisement(claimed, a, claimed, 0x6000_0000),
    };
    let seen = reaches_neighbour(scene, &[frame], |heard| match &heard.summary.network {
        Network::Arp(arp) => Address::from(arp.sender) == claimed && arp.sender_mac == mac,
        _ => neighbour(heard, icmp::v6::NEIGHBOUR_ADVERTISEMENT) == Some(claimed),
    })?;
    require(!seen, "a neighbour hears the claim")
}

pub(super) fn neighbour_claim(scene: &mut Scene<'_>) -> Outcome {
    claim(scene, Station::C.address(scene.family))
}

pub(super) fn gateway_claim(scene: &mut Scene<'_>) -> Outcome {
    claim(scene, gateway(scene.family))
}

/// "I am your router" (RFC 4861 §4.2), or "I am your DHCP server" (RFC 2131 §4.1).
pub(super) fn router(scene: &mut Scene<'_>) -> Outcome {
    let mac = scene.mac(Station::B);
    match scene.family {
        Family::V4 => {
            let own = Station::B.address(Family::V4);
            let everybody = Address::from_ipv4_bits(u32::MAX);
            let link = Link::new(mac, MacAddr::BROADCAST);
            let offer = link.ip(own, everybody).udp(67, 68, &[2; 240]);
            let seen =
                reaches_neighbour(scene, &[offer], |heard| heard.is_between(own, everybody))?;
            require(!seen, "neighbours hear a DHCP offer")
        }
        Family::V6 => {
            let own = link_local(mac);
            let all_nodes = Address::from_bits(0xff02 << 112 | 1);
            let link = Link::new(mac, MacAddr([0x33, 0x33, 0, 0, 0, 1]));
            let packet = link.ip(own, all_nodes).hop_limit(255);
            // 64 hops, half an hour as the default router.
            let word = 0x4000_0708;
            let advertisement = packet.icmp(icmp::v6::ROUTER_ADVERTISEMENT, 0, word, &[0; 8]);
            let seen = reaches_neighbour(scene, &[advertisement], |heard| {
                heard.icmp().is_some_and(|message| {
                    message.kind == icmp::v6::ROUTER_ADVERTISEMENT
                        && heard.is_between(own, all_nodes)
                })
            })?;
            require(!seen, "neighbours hear a router advertisement")
        }
    }
}
