//! The router between networks: where packets lead, what is refused, and who is told.

use std::time::Duration;

use heddle_switch::{Cause, link_local};
use heddle_tests::lab::{Lab, SIDES, Side, Told, campus};
use heddle_wire::builder::{Link, TcpHeader, offload};
use heddle_wire::{Family, MacAddr, Protocol, Summary, VnetError, VnetHeader};

const V4: &Side = &SIDES[0];
const V6: &Side = &SIDES[1];

#[test]
fn a_packet_to_a_network_that_is_routed_to_arrives_one_hop_later() {
    for side in &SIDES {
        let mut lab = campus();
        let frame = lab
            .to_gateway("a")
            .ip(side.a, side.d)
            .traffic_class(0xb8)
            .udp(1, 2, b"hello");
        let there = lab
            .from_gateway("d")
            .ip(side.a, side.d)
            .traffic_class(0xb8)
            .hop_limit(63);
        lab.send("a", &frame)
            .arrives("d", &there.udp(1, 2, b"hello"));
        let frame = lab
            .to_gateway("d")
            .ip(side.d, side.a)
            .udp(2, 1, b"hello you");
        let there = lab.from_gateway("a").ip(side.d, side.a).hop_limit(63);
        lab.send("d", &frame)
            .arrives("a", &there.udp(2, 1, b"hello you"));
    }
}

#[test]
fn a_packet_to_the_own_network_may_go_through_the_gateway() {
    for side in &SIDES {
        let mut lab = campus();
        let frame = lab.to_gateway("a").ip(side.a, side.b).udp(1, 2, b"");
        let there = lab.from_gateway("b").ip(side.a, side.b).hop_limit(63);
        lab.send("a", &frame).arrives("b", &there.udp(1, 2, b""));
    }
}

#[test]
fn a_network_that_is_not_routed_to_is_isolated_and_the_sender_told() {
    for side in &SIDES {
        let mut lab = campus();
        for to in [side.e, side.red_gateway] {
            let frame = lab.to_gateway("a").ip(side.a, to).udp(1, 2, b"");
            let told = side.told(
                &lab.from_gateway("a"),
                side.gateway,
                side.a,
                Told::Prohibited,
                &frame,
            );
            lab.send("a", &frame)
                .arrives("a", &told)
                .drops("a", Cause::NetworkIsolated);
        }
        let frame = lab.to_gateway("e").ip(side.e, side.a).udp(1, 2, b"");
        let told = side.told(
            &lab.from_gateway("e"),
            side.red_gateway,
            side.e,
            Told::Prohibited,
            &frame,
        );
        lab.send("e", &frame)
            .arrives("e", &told)
            .drops("e", Cause::NetworkIsolated);
        // Not by its MAC address either: that is another network's.
        let frame = lab.link("a", "e").ip(side.a, side.e).udp(1, 2, b"");
        lab.send("a", &frame)
            .arrives_everywhere(&["b", "c"], &frame);
    }
}

#[test]
fn reaching_is_one_way_unless_both_say_so() {
    for side in &SIDES {
        let mut lab = Lab::new(|plan| {
            plan.network("blue")
                .subnet("10.1.0.0/24")
                .subnet("fd00:1::/64")
                .reaches("green");
            plan.network("green")
                .subnet("10.2.0.0/24")
                .subnet("fd00:2::/64");
            plan.host("a", "blue")
                .address("10.1.0.2")
                .address("fd00:1::2");
            plan.host("d", "green")
                .address("10.2.0.2")
                .address("fd00:2::2");
        });
        let frame = lab.to_gateway("a").ip(side.a, side.d).udp(1, 2, b"");
        let there = lab
            .from_gateway("d")
            .ip(side.a, side.d)
            .hop_limit(63)
            .udp(1, 2, b"");
        lab.send("a", &frame).arrives("d", &there);
        let frame = lab.to_gateway("d").ip(side.d, side.a).udp(1, 2, b"");
        let told = side.told(
            &lab.from_gateway("d"),
            side.green_gateway,
            side.d,
            Told::Prohibited,
            &frame,
        );
        lab.send("d", &frame)
            .arrives("d", &told)
            .drops("d", Cause::NetworkIsolated);
    }
}

#[test]
fn the_last_hop_is_used_up_and_the_sender_told() {
    for side in &SIDES {
        let mut lab = campus();
        for to in [side.d, side.b, side.server] {
            for hops in [0, 1] {
                let frame = lab
                    .to_gateway("a")
                    .ip(side.a, to)
                    .hop_limit(hops)
                    .udp(1, 2, b"trace");
                let told = side.told(
                    &lab.from_gateway("a"),
                    side.gateway,
                    side.a,
                    Told::TimeExceeded,
                    &frame,
                );
                lab.send("a", &frame)
                    .arrives("a", &told)
                    .drops("a", Cause::HopLimitExceeded);
            }
        }
        // A bridge is no hop.
        let frame = lab
            .link("a", "b")
            .ip(side.a, side.b)
            .hop_limit(0)
            .udp(1, 2, b"");
        lab.send("a", &frame).arrives("b", &frame);
    }
}

#[test]
fn an_address_that_nobody_has_is_unreachable() {
    for side in &SIDES {
        let mut lab = campus();
        let frame = lab.to_gateway("a").ip(side.a, side.nobody).udp(1, 2, b"");
        let told = side.told(
            &lab.from_gateway("a"),
            side.gateway,
            side.a,
            Told::HostUnreachable,
            &frame,
        );
        lab.send("a", &frame)
            .arrives("a", &told)
            .drops("a", Cause::HostUnknown);
    }
}

#[test]
fn without_a_way_out_the_rest_of_the_world_is_unreachable() {
    for side in &SIDES {
        let mut lab = Lab::new(|plan| {
            plan.network("n")
                .subnet("10.1.0.0/24")
                .subnet("fd00:1::/64");
            plan.host("a", "n").address("10.1.0.2").address("fd00:1::2");
        });
        let frame = lab.to_gateway("a").ip(side.a, side.server).udp(1, 2, b"");
        let told = side.told(
            &lab.from_gateway("a"),
            side.gateway,
            side.a,
            Told::NetworkUnreachable,
            &frame,
        );
        lab.send("a", &frame)
            .arrives("a", &told)
            .drops("a", Cause::NoRoute);
    }
}

#[test]
fn a_reset_by_the_router_is_never_for_a_damaged_segment() {
    for side in &SIDES {
        let mut lab = campus();
        let mut frame = lab
            .to_gateway("a")
            .ip(side.a, side.server)
            .tcp(&TcpHeader::default(), b"data");
        *frame.last_mut().unwrap() ^= 1;
        lab.send("a", &frame).drops("a", Cause::NotSyn);
    }
}

/// A host without port security, so that the router is all that stands in its way.
fn open_lab() -> Lab {
    let mut lab = Lab::new(|plan| {
        plan.network("blue")
            .subnet("10.1.0.0/24")
            .subnet("fd00:1::/64")
            .reaches("green");
        plan.network("green")
            .subnet("10.2.0.0/24")
            .subnet("fd00:2::/64")
            .reaches("blue");
        plan.host("a", "blue")
            .address("10.1.0.2")
            .address("fd00:1::2")
            .insecure();
        plan.host("b", "blue")
            .address("10.1.0.3")
            .address("fd00:1::3");
        plan.host("d", "green")
            .address("10.2.0.2")
            .address("fd00:2::2");
    });
    let hello = lab.to_all("a").frame(heddle_wire::EtherType(0x88b5), b"");
    let a = lab.mac("a");
    lab.send("a", &hello)
        .arrives("b", &hello)
        .learns("blue", a, "a");
    lab
}

#[test]
fn sources_that_nobody_can_have_are_not_routed() {
    for side in &SIDES {
        let mut lab = open_lab();
        let sources: &[&str] = match side.family {
            Family::V4 => &[
                "0.0.0.0",
                "0.1.2.3",
                "127.0.0.1",
                "224.0.0.1",
                "240.0.0.1",
                "255.255.255.255",
                "169.254.1.1",
            ],
            Family::V6 => &["::", "::1", "ff02::1", "ff0e::1", "fe80::77"],
        };
        for source in sources {
            let frame = lab.to_gateway("a").ip(*source, side.d).udp(1, 2, b"");
            lab.send("a", &frame).drops("a", Cause::MartianSource);
        }
    }
}

#[test]
fn destinations_that_nobody_can_have_are_not_routed() {
    for side in &SIDES {
        let mut lab = open_lab();
        let destinations: &[&str] = match side.family {
            Family::V4 => &[
                "0.0.0.0",
                "0.1.2.3",
                "127.0.0.1",
                "240.0.0.1",
                "169.254.169.254",
            ],
            Family::V6 => &["::", "::1", "fe80::77"],
        };
        for destination in destinations {
            let frame = lab.to_gateway("a").ip(side.a, *destination).udp(1, 2, b"");
            lab.send("a", &frame).drops("a", Cause::MartianDestination);
        }
        let group = match side.family {
            Family::V4 => "239.1.2.3",
            Family::V6 => "ff0e::1",
        };
        let frame = lab.to_gateway("a").ip(side.a, group).udp(1, 2, b"");
        lab.send("a", &frame).drops("a", Cause::MulticastNotRouted);
    }
}

#[test]
fn broadcasts_are_not_routed() {
    let mut lab = open_lab();
    for destination in ["255.255.255.255", "10.1.0.255", "10.2.0.255", "10.2.0.0"] {
        let frame = lab.to_gateway("a").ip(V4.a, destination).udp(1, 2, b"");
        lab.send("a", &frame).drops("a", Cause::BroadcastNotRouted);
    }
}

#[test]
fn without_port_security_no_address_of_somebody_else_is_routed_for() {
    for side in &SIDES {
        let mut lab = open_lab();
        // A neighbour's, another network's, the gateways'.
        for stolen in [side.b, side.d, side.gateway, side.green_gateway] {
            let frame = lab.to_gateway("a").ip(stolen, side.d).udp(1, 2, b"");
            // Over IPv6 the sender is told that its address is the reason (RFC 4443 §3.1, code 5); over
            // IPv4 nobody is (RFC 1812 §5.3.8).
            let told = lab
                .from_gateway("a")
                .ip(side.gateway, stolen)
                .id(0)
                .icmp_error(1, 5, 0, &frame);
            let step = lab.send("a", &frame).drops("a", Cause::AddressSpoofed);
            if side.family == Family::V6 {
                step.arrives("a", &told);
            }
        }
        // A free address of its own network may well be behind it.
        let frame = lab.to_gateway("a").ip(side.nobody, side.d).udp(1, 2, b"");
        let there = lab
            .from_gateway("d")
            .ip(side.nobody, side.d)
            .hop_limit(63)
            .udp(1, 2, b"");
        lab.send("a", &frame).arrives("d", &there);
    }
}

#[test]
fn a_broadcast_address_is_nobodys_source() {
    let mut lab = open_lab();
    for source in ["10.1.0.255", "10.1.0.0", "10.2.0.255"] {
        let frame = lab.to_gateway("a").ip(source, V4.d).udp(1, 2, b"");
        lab.send("a", &frame).drops("a", Cause::MartianSource);
    }
}

#[test]
fn a_header_with_a_wrong_checksum_is_not_routed() {
    let mut lab = campus();
    let mut frame = lab.to_gateway("a").ip(V4.a, V4.d).udp(1, 2, b"");
    frame[14 + 10] ^= 1;
    lab.send("a", &frame).drops("a", Cause::HeaderChecksum);
    // Even if the sender says that checksums need not be looked at.
    let valid = VnetHeader {
        flags: 2,
        ..VnetHeader::NONE
    };
    lab.send_with("a", &valid, &frame)
        .drops("a", Cause::HeaderChecksum);
}

#[test]
fn the_sender_does_not_choose_the_way() {
    let mut lab = campus();
    for kind in [131, 137] {
        let route = [kind, 7, 4, 10, 2, 0, 2, 0];
        let frame = lab
            .to_gateway("a")
            .ip(V4.a, V4.d)
            .options(&route)
            .udp(1, 2, b"");
        lab.send("a", &frame).drops("a", Cause::SourceRouted);
    }
    let type_0 = [2, 0, 1, 0, 0, 0, 0]
        .into_iter()
        .chain([0; 16])
        .collect::<Vec<u8>>();
    let frame = lab
        .to_gateway("a")
        .ip(V6.a, V6.d)
        .extension(Protocol::ROUTING, &type_0)
        .udp(1, 2, b"");
    lab.send("a", &frame).drops("a", Cause::SourceRouted);
    // Other options pass.
    let record = [7, 7, 4, 0, 0, 0, 0, 0];
    let frame = lab
        .to_gateway("a")
        .ip(V4.a, V4.d)
        .options(&record)
        .udp(1, 2, b"");
    let there = lab
        .from_gateway("d")
        .ip(V4.a, V4.d)
        .options(&record)
        .hop_limit(63)
        .udp(1, 2, b"");
    lab.send("a", &frame).arrives("d", &there);
}

#[test]
fn link_local_packets_stay_on_their_link() {
    let mut lab = campus();
    let own = link_local(lab.mac("a"));
    let frame = lab.to_gateway("a").ip(own, V6.d).udp(1, 2, b"");
    lab.send("a", &frame).drops("a", Cause::MartianSource);
    let other = link_local(lab.mac("b"));
    let frame = lab.to_gateway("a").ip(own, other).udp(1, 2, b"");
    lab.send("a", &frame).drops("a", Cause::MartianDestination);
    let frame = lab.link("a", "b").ip(own, other).udp(1, 2, b"");
    lab.send("a", &frame).arrives("b", &frame);
}

#[test]
fn errors_are_not_answered_by_errors() {
    for side in &SIDES {
        let mut lab = campus();
        let about = lab.from_gateway("a").ip(side.d, side.a).udp(1, 2, b"");
        for told in [
            Told::PortUnreachable,
            Told::TimeExceeded,
            Told::TooBig(1280),
            Told::ProtocolUnreachable(0),
        ] {
            let (kind, code, word) = told.message(side.family);
            let frame = lab
                .to_gateway("a")
                .ip(side.a, side.nobody)
                .icmp_error(kind, code, word, &about);
            lab.send("a", &frame).drops("a", Cause::HostUnknown);
        }
        // Nor is anything that is behind the first fragment, or was sent to many.
        let frame = lab
            .to_gateway("a")
            .ip(side.a, side.nobody)
            .fragment(1, 64, false);
        lab.send("a", &frame.frame(Protocol::UDP, &[0; 8]))
            .drops("a", Cause::HostUnknown);
        // But a query is.
        let frame = lab
            .to_gateway("a")
            .ip(side.a, side.nobody)
            .icmp(side.echo().0, 0, 1, b"");
        let told = side.told(
            &lab.from_gateway("a"),
            side.gateway,
            side.a,
            Told::HostUnreachable,
            &frame,
        );
        lab.send("a", &frame)
            .arrives("a", &told)
            .drops("a", Cause::HostUnknown);
    }
}

#[test]
fn errors_are_rationed_by_port_and_nobody_pays_for_others() {
    for side in &SIDES {
        let mut lab = campus();
        let frame = lab.to_gateway("a").ip(side.a, side.nobody).udp(1, 2, b"");
        let told = side.told(
            &lab.from_gateway("a"),
            side.gateway,
            side.a,
            Told::HostUnreachable,
            &frame,
        );
        lab.send_all("a", &vec![&frame; 1000])
            .drops_many("a", Cause::HostUnknown, 1000)
            .busy("a");
        // Used up.
        lab.send_all("a", &[&frame; 10])
            .drops_many("a", Cause::HostUnknown, 10);
        let other = lab.to_gateway("b").ip(side.b, side.nobody).udp(1, 2, b"");
        let told_other = side.told(
            &lab.from_gateway("b"),
            side.gateway,
            side.b,
            Told::HostUnreachable,
            &other,
        );
        lab.send("b", &other)
            .arrives("b", &told_other)
            .drops("b", Cause::HostUnknown);
        // And there again after a while.
        lab.advance(Duration::from_millis(100));
        lab.send("a", &frame)
            .arrives("a", &told)
            .drops("a", Cause::HostUnknown);
    }
}

#[test]
fn a_thousand_refused_packets_get_about_fifty_answers() {
    for side in &SIDES {
        let mut lab = campus();
        let frame = lab.to_gateway("a").ip(side.a, side.nobody).udp(1, 2, b"");
        let before = lab.observe().ports["a"].sent.frames;
        lab.send_all("a", &vec![&frame; 1000])
            .drops_many("a", Cause::HostUnknown, 1000)
            .busy("a");
        let told = lab.observe().ports["a"].sent.frames - before;
        assert!((40..=60).contains(&told), "{told}");
    }
}

#[test]
fn a_tunnels_inner_checksum_is_completed_on_the_way() {
    for side in &SIDES {
        let mut lab = campus();
        let inner = Link::new(
            MacAddr::new([2, 0, 0, 0, 0, 8]),
            MacAddr::new([2, 0, 0, 0, 0, 9]),
        )
        .ip("172.16.0.1", "172.16.0.2")
        .tcp(&TcpHeader::default(), b"inner");
        let vxlan = [&[8, 0, 0, 0, 0, 0, 5, 0][..], &inner].concat();
        let packet = lab.to_gateway("a").ip(side.a, side.d);
        // The outer checksum is zero, as VXLAN's usually is; over IPv6 RFC 6935 allows that too.
        let outer = |packet: &heddle_wire::builder::Packet, content: &[u8]| {
            let mut segment = packet.udp_segment(4000, 4789, content);
            segment[6..8].fill(0);
            packet.frame(Protocol::UDP, &segment)
        };
        let mut open = inner.clone();
        let summary = Summary::parse(&inner).unwrap();
        let offset =
            outer(&packet, b"").len() + 8 + summary.ip().unwrap().transport_offset as usize;
        let vnet = offload(&mut open, None);
        let vnet = VnetHeader {
            checksum_start: u16::try_from(offset).unwrap(),
            ..vnet
        };
        let frame = outer(&packet, &[&[8, 0, 0, 0, 0, 0, 5, 0][..], &open].concat());
        let there = lab.from_gateway("d").ip(side.a, side.d).hop_limit(63);
        lab.send_with("a", &vnet, &frame)
            .arrives("d", &outer(&there, &vxlan));
    }
}

#[test]
fn a_checksum_is_not_completed_in_an_ethernet_header() {
    for side in &SIDES {
        let mut lab = campus();
        let frame = lab.link("a", "b").ip(side.a, side.b).udp(4000, 53, b"");
        // Of the destination, the source and the type.
        for place in [0, 6, 12] {
            let vnet = VnetHeader {
                checksum_offset: place,
                ..offload(&mut frame.clone(), None)
            };
            let vnet = VnetHeader {
                checksum_start: 0,
                ..vnet
            };
            lab.send_with("a", &vnet, &frame)
                .drops("a", VnetError::ChecksumPlace);
        }
    }
}

#[test]
fn what_is_for_everybody_on_a_link_is_never_answered() {
    // RFC 1812 §4.3.2.7: not even that its time is up, on a link that only the leg is on.
    let mut lab = campus();
    for destination in ["192.0.2.255", "10.2.0.255", "10.1.0.255"] {
        let frame = lab
            .to_gateway("a")
            .ip(V4.a, destination)
            .hop_limit(1)
            .udp(1, 2, b"");
        let cause = if destination == "192.0.2.255" {
            Cause::HopLimitExceeded
        } else {
            Cause::BroadcastNotRouted
        };
        lab.send("a", &frame).drops("a", cause);
    }
}
