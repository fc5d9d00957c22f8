//! What claims to be something else, or is nothing at all.

use heddle_switch::Cause;
use heddle_tests::lab::{
    Connection, Lab, NEXT_HOP_MAC, SIDES, Side, Told, campus_online, campus_online_with,
};
use heddle_wire::builder::{Link, Packet, TcpHeader};
use heddle_wire::{Arp, Family, MacAddr, Protocol, TcpFlags};

use super::{Bystander, all_dropped, dropped, flood, sent_to_others};

/// How often each forgery is sent.
const TIMES: usize = 300;

/// Everything that `a` could say in the name of somebody else.
fn lies(lab: &Lab, side: &Side) -> Vec<Vec<u8>> {
    let (a, gateway) = (lab.mac("a"), lab.plan().gateway_mac("a"));
    let (to_b, to_gateway, to_all) = (lab.link("a", "b"), lab.to_gateway("a"), lab.to_all("a"));
    let mut lies = vec![
        Link::new(lab.mac("b"), lab.mac("c"))
            .ip(side.b, side.c)
            .udp(1, 2, b""),
        Link::new(gateway, lab.mac("b"))
            .ip(side.gateway, side.b)
            .udp(1, 2, b""),
    ];
    for source in [side.b, side.d, side.gateway, side.server, side.leg] {
        lies.push(to_b.ip(source, side.b).udp(1, 2, b""));
        lies.push(to_gateway.ip(source, side.server).udp(1, 2, b""));
    }
    match side.family {
        Family::V4 => {
            for claimed in [side.b, side.gateway] {
                for (link, operation) in [(&to_b, Arp::REPLY), (&to_all, Arp::REQUEST)] {
                    lies.push(link.arp(&Arp {
                        operation,
                        sender_mac: a,
                        sender: claimed.parse().expect("an address"),
                        target_mac: MacAddr::ZERO,
                        target: side.c.parse().expect("an address"),
                    }));
                }
            }
            lies.push(to_b.ip(side.a, side.b).icmp(5, 1, 0, &[0; 28]));
            lies.push(to_b.ip(side.a, side.b).icmp(9, 0, 0, &[0; 8]));
            lies.push(to_all.ip(side.a, "255.255.255.255").udp(67, 68, &[2; 240]));
        }
        Family::V6 => {
            for claimed in [side.b, side.gateway, "fe80::1"] {
                lies.push(to_b.neighbour_advertisement(side.a, side.b, claimed, 0x6000_0000));
                // Duplicate address detection of what is somebody else's.
                lies.push(to_b.neighbour_solicitation("::", side.b, claimed));
            }
            lies.push(
                to_b.ip(side.a, side.b)
                    .hop_limit(255)
                    .icmp(134, 0, 0, &[0; 8]),
            );
            lies.push(
                to_b.ip(side.a, side.b)
                    .hop_limit(255)
                    .icmp(137, 0, 0, &[0; 32]),
            );
            lies.push(to_b.ip(side.a, side.b).udp(547, 546, &[2; 40]));
        }
    }
    lies
}

#[test]
fn storms_of_forgeries_end_where_they_begin() {
    for side in &SIDES {
        let mut lab = campus_online();
        let mut other = Bystander::new(&mut lab, side, "b", 5_000);
        let before = sent_to_others(&lab, "a");
        let lies = lies(&lab, side);
        let count = lies.len() * TIMES;
        flood(&mut lab, "a", lies.iter().cycle().take(count).cloned());
        let all = u64::try_from(count).expect("a small number");
        assert_eq!(all_dropped(&lab, "a"), all);
        assert_eq!(sent_to_others(&lab, "a"), before);
        // The truth is heard as before.
        let frame = lab.link("a", "b").ip(side.a, side.b).udp(1, 2, b"true");
        lab.send("a", &frame).arrives("b", &frame);
        let frame = lab.link("b", "c").ip(side.b, side.c).udp(1, 2, b"hi");
        lab.send("b", &frame).arrives("c", &frame);
        other.is_unharmed(&mut lab, side);
    }
}

#[test]
fn errors_about_what_was_never_sent_reach_nobody_and_end_nothing() {
    for side in &SIDES {
        let mut lab = campus_online();
        let mut other = Bystander::new(&mut lab, side, "d", 5_000);
        let [_, left] = side.outward(&lab, "d", side.server);
        let segment = |source_port, destination_port, sequence| {
            let header = TcpHeader {
                source_port,
                destination_port,
                sequence,
                flags: TcpFlags::ACK,
                ..TcpHeader::default()
            };
            left.tcp(&header, b"quoted")
        };
        let elsewhere = lab.from_wan().ip(side.leg, side.other_server);
        let quotes = [
            // Another port, another peer, another protocol, a sequence number that is not in flight.
            segment(5_001, 80, 1_001),
            segment(5_000, 81, 1_001),
            elsewhere.tcp(&super::syn(5_000, 80), b""),
            left.udp(5_000, 80, b"quoted"),
            segment(5_000, 80, 0x7000_0000),
        ];
        let to_wan = lab.to_wan();
        let lies: Vec<_> = quotes
            .iter()
            .flat_map(|quote| {
                [
                    Told::PortUnreachable,
                    Told::HostUnreachable,
                    Told::TooBig(1_280),
                ]
                .map(|told| side.told(&to_wan, side.server, side.leg, told, quote))
            })
            .collect();
        let count = lies.len() * TIMES;
        let before = sent_to_others(&lab, "wan");
        flood(&mut lab, "wan", lies.iter().cycle().take(count).cloned());
        let all = u64::try_from(count).expect("a small number");
        assert_eq!(dropped(&lab, "wan", Cause::ErrorUnmatched), all);
        assert_eq!(sent_to_others(&lab, "wan"), before);
        // Nor may a neighbour say so, who knows the ports.
        let about = segment(5_000, 80, 1_001);
        let told = Told::PortUnreachable;
        let lie = side.told(&lab.to_gateway("a"), side.a, side.server, told, &about);
        flood(&mut lab, "a", vec![lie; TIMES]);
        assert!(all_dropped(&lab, "a") >= u64::try_from(TIMES).expect("a small number"));
        other.is_unharmed(&mut lab, side);
    }
}

/// Options of TCP whose length is zero, or leads out of the header.
const LOOPS: [&[u8]; 8] = [
    &[2, 0, 0, 0],
    &[2, 1, 2, 1],
    &[3, 0, 3, 0],
    &[8, 255, 1, 1],
    &[254, 0, 254, 0],
    &[1, 1, 1, 2],
    &[2, 4, 0, 0],
    &[0, 2, 0, 2],
];

/// Packets of `a` with options of every kind that do not end as they should.
fn endless(lab: &Lab, side: &Side, sent: &Packet) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for (port, options) in (20_000..).zip(LOOPS) {
        for length in [4, 20, 40] {
            let options = options.iter().copied().cycle().take(length).collect();
            let header = TcpHeader {
                options,
                ..super::syn(port, 80)
            };
            frames.push(sent.tcp(&header, b""));
        }
    }
    match side.family {
        Family::V4 => {
            for options in [
                &[7, 0, 0, 0][..],
                &[131, 1, 0, 0],
                &[68, 255, 1, 1],
                &[148, 0, 0, 0],
            ] {
                frames.push(sent.clone().options(options).udp(1, 2, b""));
            }
        }
        Family::V6 => {
            for option in [
                [1, 255, 0, 0, 0, 0, 0],
                [5, 0, 5, 0, 5, 0, 5],
                [194, 4, 0, 0, 0, 0, 0],
            ] {
                for kind in [Protocol::HOP_BY_HOP, Protocol::DESTINATION_OPTIONS] {
                    let packet = sent.clone().extension(kind, &option);
                    frames.push(packet.udp(1, 2, b""));
                }
            }
            let many = (0..40).fold(sent.clone(), |packet, _| {
                packet.extension(Protocol::DESTINATION_OPTIONS, &[0, 1, 4, 0, 0, 0, 0])
            });
            frames.push(many.udp(1, 2, b""));
            let link = lab.link("a", "b").ip(side.a, side.b).hop_limit(255);
            let target: [u8; 16] = side
                .b
                .parse::<std::net::Ipv6Addr>()
                .expect("an address")
                .octets();
            for option in [
                [1, 0, 0, 0, 0, 0, 0, 0],
                [1, 255, 0, 0, 0, 0, 0, 0],
                [14, 0, 0, 0, 0, 0, 0, 0],
            ] {
                let body = [&target[..], &option].concat();
                frames.push(link.icmp(135, 0, 0, &body));
                frames.push(link.icmp(136, 0, 0x6000_0000, &body));
                frames.push(
                    lab.to_gateway("a")
                        .ip(side.a, side.gateway)
                        .hop_limit(255)
                        .icmp(135, 0, 0, &body),
                );
            }
        }
    }
    frames
}

#[test]
fn options_that_never_end_are_read_once() {
    for side in &SIDES {
        // A leg of another MTU, so that the segment size is looked for.
        let mut lab = campus_online_with(|plan| {
            plan.leg("wan")
                .address("192.0.2.2/24")
                .address("2001:db8:2::2/64")
                .gateway(SIDES[0].next_hop)
                .gateway(SIDES[1].next_hop)
                .mtu(1_400);
        });
        let [sent, _] = side.outward(&lab, "a", side.server);
        let frames = endless(&lab, side, &sent);
        let count = frames.len() * 20;
        flood(&mut lab, "a", frames.iter().cycle().take(count).cloned());
        let outside = Link::new(NEXT_HOP_MAC, lab.mac("wan")).ip(side.server, side.leg);
        let answers = LOOPS.iter().map(|options| {
            let header = TcpHeader {
                options: options.to_vec(),
                ..super::syn(80, 20_000)
            };
            outside.tcp(&header, b"")
        });
        flood(&mut lab, "wan", answers.collect::<Vec<_>>());
        lab.end_sessions();
        // The clamp of the segment size changes every SYN on this leg, so only what follows is compared.
        let mut connection = Connection::new(&lab, side, "b", [5_000; 2], (side.server, 80));
        let [question, _] = connection.segment_out(TcpFlags::SYN, b"");
        lab.send("b", &question).busy("wan").opens(1).mappings(1);
        connection.skip_out(1);
        connection
            .back(&mut lab, heddle_tests::lab::SYN_ACK, b"")
            .moves(1);
        connection.out(&mut lab, TcpFlags::ACK, b"").moves(1);
    }
}
