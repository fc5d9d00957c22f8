//! The bridge: learning, ageing, flooding, and what is not forwarded (IEEE 802.1Q §8.6, §8.8).

use std::time::Duration;

use heddle_switch::{Cause, fdb};
use heddle_tests::lab::{Lab, SIDES, campus};
use heddle_wire::builder::{Link, TcpHeader, offload};
use heddle_wire::{EtherType, Gso, MacAddr};

const STRANGER: MacAddr = MacAddr::new([0x02, 0x55, 0, 0, 0, 1]);
const OTHER_STRANGER: MacAddr = MacAddr::new([0x02, 0x55, 0, 0, 0, 2]);

/// Three ports without port security, each perhaps with many stations behind it.
fn open_lab() -> Lab {
    Lab::new(|plan| {
        plan.network("open")
            .subnet("10.1.0.0/24")
            .subnet("fd00:1::/64");
        for (name, v4, v6) in [
            ("x", "10.1.0.2", "fd00:1::2"),
            ("y", "10.1.0.3", "fd00:1::3"),
            ("z", "10.1.0.4", "fd00:1::4"),
        ] {
            plan.host(name, "open").address(v4).address(v6).insecure();
        }
        plan.network("elsewhere").subnet("10.2.0.0/24");
        plan.host("far", "elsewhere").address("10.2.0.2").insecure();
    })
}

fn from(mac: MacAddr, to: MacAddr) -> Vec<u8> {
    Link::new(mac, to).frame(EtherType(0x88b5), b"any content will do")
}

#[test]
fn a_given_station_gets_its_frames_and_nobody_else_does() {
    for side in &SIDES {
        let mut lab = campus();
        let frame = lab.link("a", "b").ip(side.a, side.b).udp(1, 2, b"hello");
        lab.send("a", &frame).arrives("b", &frame);
        let answer = lab
            .link("b", "a")
            .ip(side.b, side.a)
            .udp(2, 1, b"hello you");
        lab.send("b", &answer).arrives("a", &answer);
    }
}

#[test]
fn an_unknown_station_is_flooded_for_and_found_when_it_answers() {
    let mut lab = open_lab();
    let (x, y) = (lab.mac("x"), lab.mac("y"));
    let question = from(x, y);
    lab.send("x", &question)
        .arrives_everywhere(&["y", "z"], &question)
        .learns("open", x, "x");
    let answer = from(y, x);
    lab.send("y", &answer)
        .arrives("x", &answer)
        .learns("open", y, "y");
    lab.send("x", &question).arrives("y", &question);
}

#[test]
fn broadcast_and_multicast_go_to_all_others_of_the_network_and_not_back() {
    for side in &SIDES {
        let mut lab = campus();
        for group in [
            MacAddr::BROADCAST,
            MacAddr::new([0x01, 0, 0x5e, 0, 0, 0xfb]),
            MacAddr::new([0x33, 0x33, 0, 0, 0, 0xfb]),
        ] {
            let to = match side.family {
                heddle_wire::Family::V4 => "224.0.0.251",
                heddle_wire::Family::V6 => "ff02::fb",
            };
            let frame = Link::new(lab.mac("a"), group)
                .ip(side.a, to)
                .udp(5353, 5353, b"?");
            lab.send("a", &frame)
                .arrives_everywhere(&["b", "c"], &frame);
        }
    }
}

#[test]
fn a_station_is_forgotten_after_300_silent_seconds_and_not_before() {
    let mut lab = open_lab();
    let x = lab.mac("x");
    lab.send("x", &from(x, x))
        .learns("open", x, "x")
        .drops("x", Cause::SamePort);
    lab.advance(Duration::from_secs(299));
    // Heard again: another 300 seconds.
    lab.send("x", &from(x, x)).drops("x", Cause::SamePort);
    lab.advance(Duration::from_secs(299));
    // To be heard of prolongs nothing.
    let to = from(STRANGER, x);
    lab.send("y", &to)
        .arrives("x", &to)
        .learns("open", STRANGER, "y");
    lab.advance(Duration::from_secs(2)).forgets("open", x);
    lab.send("y", &to).arrives_everywhere(&["x", "z"], &to);
    lab.advance(Duration::from_secs(302))
        .forgets("open", STRANGER);
}

#[test]
fn a_station_that_moves_is_found_at_its_new_port_at_once() {
    let mut lab = open_lab();
    let (x, y) = (lab.mac("x"), lab.mac("y"));
    let hello = from(STRANGER, x);
    lab.send("x", &from(x, y))
        .learns("open", x, "x")
        .arrives_everywhere(&["y", "z"], &from(x, y));
    lab.send("y", &hello)
        .arrives("x", &hello)
        .learns("open", STRANGER, "y");
    let to = from(x, STRANGER);
    lab.send("x", &to).arrives("y", &to);
    lab.send("z", &hello)
        .arrives("x", &hello)
        .learns("open", STRANGER, "z");
    lab.send("x", &to).arrives("z", &to);
}

#[test]
fn the_same_mac_address_in_two_networks_is_two_stations() {
    let mut lab = open_lab();
    let frame = from(STRANGER, OTHER_STRANGER);
    lab.send("x", &frame)
        .arrives_everywhere(&["y", "z"], &frame)
        .learns("open", STRANGER, "x");
    lab.send("far", &frame)
        .drops("far", Cause::NobodyElse)
        .learns("elsewhere", STRANGER, "far");
    let to = from(OTHER_STRANGER, STRANGER);
    lab.send("y", &to)
        .arrives("x", &to)
        .learns("open", OTHER_STRANGER, "y");
}

#[test]
fn a_frame_for_a_station_behind_its_own_port_ends_there() {
    let mut lab = open_lab();
    let frame = from(STRANGER, MacAddr::BROADCAST);
    lab.send("x", &frame)
        .arrives_everywhere(&["y", "z"], &frame)
        .learns("open", STRANGER, "x");
    lab.send("x", &from(OTHER_STRANGER, STRANGER))
        .drops("x", Cause::SamePort)
        .learns("open", OTHER_STRANGER, "x");
}

#[test]
fn a_broadcast_of_somebody_alone_has_nobody_to_go_to() {
    for side in &SIDES {
        let mut lab = campus();
        let frame = lab.to_all("e").ip(side.e, side.nobody).udp(1, 2, b"");
        lab.send("e", &frame).drops("e", Cause::NobodyElse);
    }
}

#[test]
fn control_addresses_of_the_link_are_not_forwarded() {
    let mut lab = open_lab();
    let x = lab.mac("x");
    for last in 0..=0x0f {
        let frame = from(x, MacAddr::new([0x01, 0x80, 0xc2, 0, 0, last]));
        let step = lab.send("x", &frame).drops("x", Cause::LinkLocalControl);
        if last == 0 {
            step.learns("open", x, "x");
        }
    }
    // The next one is a group like any other.
    let frame = from(x, MacAddr::new([0x01, 0x80, 0xc2, 0, 0, 0x10]));
    lab.send("x", &frame)
        .arrives_everywhere(&["y", "z"], &frame);
}

#[test]
fn no_station_has_a_group_address_or_none() {
    let mut lab = open_lab();
    let y = lab.mac("y");
    for source in [
        MacAddr::ZERO,
        MacAddr::BROADCAST,
        MacAddr::new([0x01, 0, 0x5e, 0, 0, 1]),
    ] {
        lab.send("x", &from(source, y))
            .drops("x", Cause::SourceMacInvalid);
    }
}

#[test]
fn vlan_tags_pass_untouched() {
    for side in &SIDES {
        let mut lab = campus();
        for tagged in [
            lab.link("a", "b").vlan(0x2064),
            lab.link("a", "b").vlan(0),
            lab.link("a", "b").service_tag(7).vlan(0xe042),
        ] {
            let frame = tagged.ip(side.a, side.b).udp(1, 2, b"tagged");
            lab.send("a", &frame).arrives("b", &frame);
            let broadcast = tagged.frame(EtherType(0x88b5), b"tagged");
            lab.send("a", &broadcast).arrives("b", &broadcast);
        }
    }
}

#[test]
fn jumbo_frames_and_padding_pass_as_they_came() {
    for side in &SIDES {
        let mut lab = campus();
        for len in [0, 1, 17, 1472, 8972, 65_000] {
            let mut frame = lab
                .link("a", "b")
                .ip(side.a, side.b)
                .udp(1, 2, &vec![7; len]);
            lab.send("a", &frame).arrives("b", &frame);
            frame.extend([0x5a; 20]);
            lab.send("a", &frame).arrives("b", &frame);
        }
    }
}

#[test]
fn super_frames_and_partial_checksums_pass_as_they_came() {
    for side in &SIDES {
        let mut lab = campus();
        let packet = lab.link("a", "b").ip(side.a, side.b);
        let header = TcpHeader::default();
        let gso = match side.family {
            heddle_wire::Family::V4 => Gso::TcpV4,
            heddle_wire::Family::V6 => Gso::TcpV6,
        };
        for (mut frame, gso) in [
            (packet.tcp(&header, &[1; 100]), None),
            (packet.tcp(&header, &[2; 60_000]), Some((gso, 1400))),
            (packet.udp(1, 2, &[3; 100]), None),
            (packet.udp(1, 2, &[4; 30_000]), Some((Gso::Udp, 1200))),
        ] {
            let vnet = offload(&mut frame, gso);
            lab.send_with("a", &vnet, &frame)
                .arrives_with("b", &vnet, &frame);
        }
    }
}

#[test]
fn a_peer_without_offloads_gets_finished_packets_from_the_bridge() {
    for side in &SIDES {
        let mut lab = Lab::new(|plan| {
            plan.network("n")
                .subnet("10.1.0.0/24")
                .subnet("fd00:1::/64");
            plan.host("a", "n").address("10.1.0.2").address("fd00:1::2");
            plan.host("b", "n")
                .address("10.1.0.3")
                .address("fd00:1::3")
                .plain();
        });
        let packet = lab.link("a", "b").ip(side.a, side.b).dont_fragment().id(7);
        let partial = packet.udp(1, 2, b"one");
        let mut frame = partial.clone();
        let vnet = offload(&mut frame, None);
        lab.send_with("a", &vnet, &frame)
            .arrives_cut("b", frame.len(), &[partial]);

        let data: Vec<u8> = (0..3000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let mut frame = packet.udp(1, 2, &data);
        let vnet = offload(&mut frame, Some((Gso::Udp, 1000)));
        let pieces: Vec<_> = (0..3_u16)
            .map(|index| {
                let start = usize::from(index) * 1000;
                packet
                    .clone()
                    .id(7 + index)
                    .udp(1, 2, &data[start..start + 1000])
            })
            .collect();
        lab.send_with("a", &vnet, &frame)
            .arrives_cut("b", frame.len(), &pieces);
    }
}

#[test]
fn a_port_full_of_stations_replaces_its_own_and_nobody_elses() {
    let mut lab = Lab::new(|plan| {
        plan.network("open").subnet("10.1.0.0/24");
        for name in ["x", "y"] {
            plan.host(name, "open").insecure();
        }
        plan.stations(fdb::Limits {
            port: 3,
            network: 100,
            guaranteed: 1,
        });
    });
    let mac = |number: u8| MacAddr::new([0x02, 0x55, 0, 0, 1, number]);
    lab.send("y", &from(STRANGER, STRANGER))
        .learns("open", STRANGER, "y")
        .drops("y", Cause::SamePort);
    for number in 0..3 {
        let frame = from(mac(number), STRANGER);
        lab.send("x", &frame)
            .arrives("y", &frame)
            .learns("open", mac(number), "x");
    }
    for number in 3..9 {
        let frame = from(mac(number), STRANGER);
        lab.send("x", &frame)
            .arrives("y", &frame)
            .forgets("open", mac(number - 3))
            .learns("open", mac(number), "x");
    }
}

#[test]
fn in_a_full_network_everybody_still_learns_the_guaranteed_few() {
    let mut lab = Lab::new(|plan| {
        plan.network("open").subnet("10.1.0.0/24");
        for name in ["x", "y"] {
            plan.host(name, "open").insecure();
        }
        plan.stations(fdb::Limits {
            port: 100,
            network: 4,
            guaranteed: 2,
        });
    });
    let mac = |port: u8, number: u8| MacAddr::new([0x02, 0x55, 0, 0, port, number]);
    for number in 0..4 {
        let frame = from(mac(0, number), MacAddr::BROADCAST);
        lab.send("x", &frame)
            .arrives("y", &frame)
            .learns("open", mac(0, number), "x");
    }
    // Full: the one that filled it pays for its next one.
    let frame = from(mac(0, 4), MacAddr::BROADCAST);
    lab.send("x", &frame)
        .arrives("y", &frame)
        .forgets("open", mac(0, 0))
        .learns("open", mac(0, 4), "x");
    // The other one has its guarantee, and then pays as well.
    for number in 0..2 {
        let frame = from(mac(1, number), MacAddr::BROADCAST);
        lab.send("y", &frame)
            .arrives("x", &frame)
            .learns("open", mac(1, number), "y");
    }
    let frame = from(mac(1, 2), MacAddr::BROADCAST);
    lab.send("y", &frame)
        .arrives("x", &frame)
        .forgets("open", mac(1, 0))
        .learns("open", mac(1, 2), "y");
}

#[test]
fn what_a_full_port_loses_of_a_broadcast_the_others_still_get() {
    let mut lab = Lab::new(|plan| {
        plan.network("n").subnet("10.1.0.0/24");
        plan.host("a", "n");
        plan.host("b", "n").queue(1);
        plan.host("c", "n");
    });
    let frame = from(lab.mac("a"), MacAddr::BROADCAST);
    lab.send("a", &frame)
        .arrives_everywhere(&["b", "c"], &frame);
    let to_b = from(lab.mac("a"), lab.mac("b"));
    lab.send_all("a", &[&to_b, &frame, &frame])
        .arrives("b", &to_b)
        .arrives("c", &frame)
        .arrives("c", &frame)
        .drops_many("a", Cause::TransmitQueueFull, 2);
}

#[test]
fn stations_of_a_port_end_with_it() {
    let mut lab = open_lab();
    let frame = from(STRANGER, MacAddr::BROADCAST);
    lab.send("x", &frame)
        .arrives_everywhere(&["y", "z"], &frame)
        .learns("open", STRANGER, "x");
    lab.send("y", &from(OTHER_STRANGER, STRANGER))
        .arrives("x", &from(OTHER_STRANGER, STRANGER))
        .learns("open", OTHER_STRANGER, "y");
    lab.reconfigure(|plan| plan.remove("x"))
        .forgets("open", STRANGER);
}
