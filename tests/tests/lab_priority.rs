//! Frames with a tag that says a priority and no VLAN (IEEE 802.1Q §6.9.1), and frames of a VLAN, where they
//! are for us.

use heddle_switch::Cause;
use heddle_tests::lab::{Connection, Lab, NEXT_HOP_MAC, SIDES, Side, campus, campus_online};
use heddle_wire::builder::{Link, TcpHeader, offload};
use heddle_wire::{Gso, TcpFlags};

/// A priority of five, VLAN 0.
const PRIORITY: u16 = 5 << 13;

/// The header for data behind its first octet.
fn data(side: usize) -> TcpHeader {
    TcpHeader {
        source_port: 4000 + u16::try_from(side).expect("a small number"),
        destination_port: 80,
        sequence: 1001,
        acknowledgement: 0xffff_fff1,
        flags: TcpFlags::ACK,
        ..TcpHeader::default()
    }
}

/// What the gateway answers to somebody who asks for it.
fn advertisement(lab: &Lab, side: &Side) -> Vec<u8> {
    let (own, asker) = (lab.plan().gateway_mac("a"), lab.mac("a"));
    match side.family {
        heddle_wire::Family::V4 => side.answer(own, asker, side.gateway, side.a),
        heddle_wire::Family::V6 => {
            let address: heddle_wire::Address = side.gateway.parse().expect("an address");
            let to = heddle_switch::link_local(asker);
            Link::new(own, asker).neighbour_advertisement(address, to, address, 0xe000_0000)
        }
    }
}

/// The same frame with a tag behind its addresses.
fn tagged(frame: &[u8], control: u16) -> Vec<u8> {
    let [high, low] = control.to_be_bytes();
    [&frame[..12], &[0x81, 0x00, high, low], &frame[12..]].concat()
}

#[test]
fn the_gateway_answers_what_has_only_a_priority() {
    for side in &SIDES {
        let mut lab = campus();
        let question = side.question(lab.mac("a"), side.a, side.gateway);
        let answer = advertisement(&lab, side);
        lab.send("a", &tagged(&question, PRIORITY))
            .arrives("a", &answer);
        let (request, reply) = side.echo();
        let echo = lab.to_gateway("a").ip(side.a, side.gateway);
        let answer = lab.from_gateway("a").ip(side.gateway, side.a);
        lab.send("a", &tagged(&echo.icmp(request, 0, 7, b"echo"), PRIORITY))
            .arrives("a", &answer.icmp(reply, 0, 7, b"echo"));
    }
}

#[test]
fn what_is_routed_leaves_without_its_priority_tag() {
    for side in &SIDES {
        let mut lab = campus_online();
        let [sent, left] = side.outward(&lab, "a", side.server);
        lab.send("a", &tagged(&sent.udp(4000, 53, b"question"), PRIORITY))
            .arrives("wan", &left.udp(4000, 53, b"question"))
            .opens(1)
            .mappings(1);
        let [sent, arrived] = side.inward(&lab, side.server, "a");
        lab.send("wan", &tagged(&sent.udp(53, 4000, b"answer"), PRIORITY))
            .arrives("a", &arrived.udp(53, 4000, b"answer"))
            .moves(1);
        let inside = lab.to_gateway("a").ip(side.a, side.d).udp(1, 2, b"");
        let routed = lab.from_gateway("d").ip(side.a, side.d).hop_limit(63);
        lab.send("a", &tagged(&inside, 0))
            .arrives("d", &routed.udp(1, 2, b""));
    }
}

#[test]
fn what_a_super_frame_leaves_to_be_done_stays_right_without_the_tag() {
    for (number, side) in SIDES.iter().enumerate() {
        let mut lab = campus_online();
        let ports = [data(number).source_port; 2];
        let mut connection = Connection::new(&lab, side, "a", ports, (side.server, 80));
        connection.open(&mut lab);
        let [sent, left] = side.outward(&lab, "a", side.server);
        let payload = [7; 5_000];
        for gso in [
            None,
            Some((if number == 0 { Gso::TcpV4 } else { Gso::TcpV6 }, 1_200)),
        ] {
            let payload = if gso.is_some() {
                &payload[..]
            } else {
                b"little"
            };
            let header = data(number);
            let (mut plain, mut leaves) = (sent.tcp(&header, payload), left.tcp(&header, payload));
            let vnet = offload(&mut leaves, gso);
            let _ = offload(&mut plain, gso);
            let mut with_tag = vnet;
            with_tag.header_len += 4;
            with_tag.checksum_start += 4;
            lab.send_with("a", &with_tag, &tagged(&plain, PRIORITY))
                .arrives_with("wan", &vnet, &leaves)
                .moves(1);
        }
    }
}

#[test]
fn an_l3_endpoint_may_say_a_priority_as_well() {
    for side in &SIDES {
        let mut lab = Lab::new(|plan| {
            plan.network("routed")
                .subnet("10.1.0.0/24")
                .subnet("fd00:1::/64")
                .l3();
            plan.host("a", "routed")
                .address("10.1.0.2")
                .address("fd00:1::2");
            plan.host("b", "routed")
                .address("10.1.0.3")
                .address("fd00:1::3");
        });
        let frame = lab.to_gateway("a").ip(side.a, side.b).udp(1, 2, b"hi");
        let routed = lab.from_gateway("b").ip(side.a, side.b).hop_limit(63);
        lab.send("a", &tagged(&frame, PRIORITY))
            .arrives("b", &routed.udp(1, 2, b"hi"));
        lab.send("a", &tagged(&frame, 7))
            .drops("a", Cause::NotRouted);
    }
}

#[test]
fn the_gateway_is_in_no_vlan_and_behind_no_second_tag() {
    for side in &SIDES {
        let mut lab = campus_online();
        let echo = lab.to_gateway("a").ip(side.a, side.gateway);
        let frame = echo.icmp(side.echo().0, 0, 7, b"echo");
        for tags in [&[3][..], &[PRIORITY | 3], &[0, 3], &[3, 0], &[0, 0]] {
            let frame = tags
                .iter()
                .rev()
                .fold(frame.clone(), |frame, &tag| tagged(&frame, tag));
            lab.send("a", &frame).drops("a", Cause::GatewayIgnored);
        }
        let frame = Link::new(NEXT_HOP_MAC, lab.mac("wan"))
            .ip(side.server, side.leg)
            .icmp(side.echo().0, 0, 7, b"echo");
        lab.send("wan", &tagged(&frame, 3))
            .drops("wan", Cause::NotForLeg);
    }
}
