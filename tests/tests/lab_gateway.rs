//! The gateway's own voice: ARP, neighbour discovery, echo, and refusals.

#![expect(clippy::unwrap_used, reason = "a panic is how a case fails")]

use heddle_switch::{Cause, GATEWAY_LINK_LOCAL, link_local};
use heddle_tests::lab::{Lab, SIDES, Side, Told, campus};
use heddle_wire::builder::{Link, TcpHeader, offload};
use heddle_wire::{Address, Arp, EtherType, Family, MacAddr, Protocol, TcpFlags};

const V4: &Side = &SIDES[0];
const V6: &Side = &SIDES[1];

const ALL_NODES_MAC: MacAddr = MacAddr::new([0x33, 0x33, 0, 0, 0, 1]);

fn arp(operation: u16, sender: (MacAddr, &str), target: (MacAddr, &str)) -> Arp {
    Arp {
        operation,
        sender_mac: sender.0,
        sender: sender.1.parse().unwrap(),
        target_mac: target.0,
        target: target.1.parse().unwrap(),
    }
}

/// A network without port security.
fn open_lab() -> Lab {
    Lab::new(|plan| {
        plan.network("n")
            .subnet("10.1.0.0/24")
            .subnet("fd00:1::/64");
        plan.host("a", "n")
            .address("10.1.0.2")
            .address("fd00:1::2")
            .insecure();
        plan.host("b", "n")
            .address("10.1.0.3")
            .address("fd00:1::3")
            .insecure();
        plan.host("c", "n").address("10.1.0.4").address("fd00:1::4");
    })
}

#[test]
fn the_gateway_answers_arp_and_nobody_else_hears_the_question() {
    let mut lab = campus();
    let (a, gateway) = (lab.mac("a"), lab.plan().gateway_mac("a"));
    let question = arp(Arp::REQUEST, (a, V4.a), (MacAddr::ZERO, V4.gateway));
    let answer = arp(Arp::REPLY, (gateway, V4.gateway), (a, V4.a));
    let answer = lab.from_gateway("a").arp(&answer);
    for link in [lab.to_all("a"), lab.to_gateway("a")] {
        lab.send("a", &link.arp(&question)).arrives("a", &answer);
    }
    // Neither for others, nor in a VLAN, nor to what is no question.
    let other = arp(Arp::REQUEST, (a, V4.a), (MacAddr::ZERO, V4.b));
    let frame = lab.to_gateway("a").arp(&other);
    lab.send("a", &frame).drops("a", Cause::GatewayIgnored);
    let frame = lab.to_all("a").vlan(4).arp(&question);
    lab.send("a", &frame)
        .arrives_everywhere(&["b", "c"], &frame);
    let frame = lab.to_gateway("a").vlan(4).arp(&question);
    lab.send("a", &frame).drops("a", Cause::GatewayIgnored);
    let odd = arp(3, (a, V4.a), (MacAddr::ZERO, V4.gateway));
    let frame = lab.to_all("a").arp(&odd);
    lab.send("a", &frame).drops("a", Cause::GatewayIgnored);
}

#[test]
fn the_gateway_answers_solicitations_for_each_of_its_addresses() {
    let mut lab = campus();
    let a = lab.mac("a");
    for (source, target) in [
        (V6.a.parse().unwrap(), V6.gateway.parse().unwrap()),
        (link_local(a), GATEWAY_LINK_LOCAL),
        (link_local(a), V6.gateway.parse().unwrap()),
    ] {
        let [.., x, y, z] = target.bits().to_be_bytes();
        let group =
            Address::from_bits(0xff02_u128 << 112 | 0x1_ff00_0000 | target.bits() & 0xff_ffff);
        let group_mac = MacAddr::new([0x33, 0x33, 0xff, x, y, z]);
        // Router, solicited, override.
        let answer =
            lab.from_gateway("a")
                .neighbour_advertisement(target, source, target, 0xe000_0000);
        let to_group = Link::new(a, group_mac).neighbour_solicitation(source, group, target);
        lab.send("a", &to_group).arrives("a", &answer);
        let probe = lab
            .to_gateway("a")
            .neighbour_solicitation(source, target, target);
        lab.send("a", &probe).arrives("a", &answer);
    }
    // Not for others (RFC 4861 §7.2.3).
    let frame = lab.to_gateway("a").neighbour_solicitation(V6.a, V6.b, V6.b);
    lab.send("a", &frame).drops("a", Cause::GatewayIgnored);
}

#[test]
fn a_solicitation_that_is_not_valid_gets_no_answer() {
    let mut lab = open_lab();
    let a = lab.mac("a");
    let target: Address = V6.gateway.parse().unwrap();
    let body = target.bits().to_be_bytes();
    let with = |option: &[u8]| [&body[..], option].concat();
    let own_option = [&[1, 1][..], &a.0].concat();
    let packet = lab.to_gateway("a").ip(V6.a, V6.gateway).hop_limit(255);
    let message = packet.icmp_message(135, 0, 0, &with(&own_option));
    let mut corrupt = packet.icmp(135, 0, 0, &with(&own_option));
    *corrupt.last_mut().unwrap() ^= 1;
    for (frame, reason) in [
        // RFC 4861 §7.1.1, line by line.
        (
            packet
                .clone()
                .hop_limit(254)
                .icmp(135, 0, 0, &with(&own_option)),
            Cause::GatewayIgnored,
        ),
        (corrupt, Cause::MessageChecksum),
        (
            packet.icmp(135, 1, 0, &with(&own_option)),
            Cause::GatewayIgnored,
        ),
        (packet.icmp(135, 0, 0, &body[..15]), Cause::GatewayIgnored),
        (
            packet.icmp(135, 0, 0, &with(&[1, 0, 0, 0, 0, 0, 0, 0])),
            Cause::GatewayIgnored,
        ),
        (
            packet.icmp(
                135,
                0,
                0,
                &with(&[1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            ),
            Cause::GatewayIgnored,
        ),
        // RFC 6980 §5.
        (
            packet
                .clone()
                .fragment(1, 0, false)
                .frame(Protocol::ICMPV6, &message),
            Cause::GatewayIgnored,
        ),
        // From nobody to somebody, or with a station.
        (
            lab.to_gateway("a")
                .ip("::", V6.gateway)
                .hop_limit(255)
                .icmp(135, 0, 0, &body),
            Cause::GatewayIgnored,
        ),
        (
            lab.to_all("a")
                .ip("::", "ff02::1:ff00:1")
                .hop_limit(255)
                .icmp(135, 0, 0, &with(&own_option)),
            Cause::GatewayIgnored,
        ),
    ] {
        let first = lab.observe().stations.len() < 2;
        let step = lab.send("a", &frame).drops("a", reason);
        if first {
            step.learns("n", a, "a");
        }
    }
}

#[test]
fn whoever_wants_a_gateways_address_learns_that_it_is_taken() {
    for mut lab in [campus(), open_lab()] {
        let open = lab.plan().network_of("a") == "n";
        let (a, gateway) = (lab.mac("a"), lab.plan().gateway_mac("a"));
        // RFC 5227 §2.1.1
        let probe = arp(Arp::REQUEST, (a, "0.0.0.0"), (MacAddr::ZERO, V4.gateway));
        let answer = arp(Arp::REPLY, (gateway, V4.gateway), (a, "0.0.0.0"));
        let answer = lab.from_gateway("a").arp(&answer);
        let step = lab_send(&mut lab, "a", &|lab| lab.to_all("a").arp(&probe), &answer);
        assert_eq!(step, open);
        // RFC 4862 §5.4.3; the answer is for all nodes (RFC 4861 §7.2.4).
        for (taken, group) in [
            (V6.gateway.parse().unwrap(), "ff02::1:ff00:1"),
            (GATEWAY_LINK_LOCAL, "ff02::1:ff00:1"),
        ] {
            let packet = lab.to_all("a").ip("::", group).hop_limit(255);
            let probe = packet.icmp(135, 0, 0, &taken.bits().to_be_bytes());
            let answer = Link::new(gateway, ALL_NODES_MAC).neighbour_advertisement(
                taken,
                "ff02::1",
                taken,
                0xa000_0000,
            );
            lab.send("a", &probe).arrives("a", &answer);
        }
    }
}

/// Sends the first frame of a host, whose station is learned where there is no port security; whether
/// it was.
fn lab_send(
    lab: &mut Lab,
    host: &'static str,
    frame: &dyn Fn(&Lab) -> Vec<u8>,
    answer: &[u8],
) -> bool {
    let frame = frame(lab);
    let mac = lab.mac(host);
    let network = lab.plan().network_of(host);
    let known = lab
        .observe()
        .stations
        .contains_key(&(network.to_owned(), mac));
    let step = lab.send(host, &frame).arrives(host, answer);
    if !known {
        step.learns(network, mac, host);
    }
    !known
}

#[test]
fn a_probe_for_the_gateway_in_disguise_is_a_forgery() {
    let mut lab = campus();
    let (a, b) = (lab.mac("a"), lab.mac("b"));
    let probe = arp(Arp::REQUEST, (a, "0.0.0.0"), (MacAddr::ZERO, V4.gateway));
    for frame in [
        // Others would hear it.
        lab.to_all("a").vlan(2).arp(&probe),
        lab.link("a", "b").arp(&probe),
        lab.to_all("a").arp(&arp(
            Arp::REPLY,
            (a, "0.0.0.0"),
            (MacAddr::ZERO, V4.gateway),
        )),
        lab.to_all("a").arp(&arp(
            Arp::REQUEST,
            (b, "0.0.0.0"),
            (MacAddr::ZERO, V4.gateway),
        )),
    ] {
        lab.send("a", &frame).drops("a", Cause::ArpSpoofed);
    }
    let target = V6.gateway.parse::<Address>().unwrap().bits().to_be_bytes();
    for link in [lab.to_all("a").vlan(2), lab.link("a", "b")] {
        let frame = link
            .ip("::", "ff02::1:ff00:1")
            .hop_limit(255)
            .icmp(135, 0, 0, &target);
        lab.send("a", &frame).drops("a", Cause::NeighbourSpoofed);
    }
}

#[test]
fn the_gateways_claim_to_its_own_address_is_not_disputed() {
    let mut lab = open_lab();
    let a = lab.mac("a");
    let claim = arp(Arp::REQUEST, (a, V4.gateway), (MacAddr::ZERO, V4.gateway));
    let frame = lab.to_all("a").arp(&claim);
    lab.send("a", &frame)
        .drops("a", Cause::GatewayIgnored)
        .learns("n", a, "a");
    let frame = lab.to_gateway("a").neighbour_advertisement(
        V6.gateway,
        V6.gateway,
        V6.gateway,
        0x2000_0000,
    );
    lab.send("a", &frame).drops("a", Cause::GatewayIgnored);
}

#[test]
fn the_gateway_answers_echo_in_every_length() {
    for side in &SIDES {
        let mut lab = campus();
        let (request, reply) = side.echo();
        let header_len: u32 = match side.family {
            Family::V4 => 28,
            Family::V6 => 8,
        };
        for len in [0, 1, 56, 1472, 8000, 65_535 - header_len] {
            let data: Vec<u8> = (0..len).map(|at| at.to_le_bytes()[0]).collect();
            let frame = lab
                .to_gateway("a")
                .ip(side.a, side.gateway)
                .hop_limit(1)
                .icmp(request, 0, 0x1234_0007, &data);
            let answer =
                lab.from_gateway("a")
                    .ip(side.gateway, side.a)
                    .icmp(reply, 0, 0x1234_0007, &data);
            lab.send("a", &frame).arrives("a", &answer);
        }
    }
}

#[test]
fn echo_is_answered_from_every_address_that_is_the_gateways() {
    for side in &SIDES {
        let mut lab = campus();
        let (request, reply) = side.echo();
        // Its own, that of a network that is routed to, the leg's.
        for address in [side.gateway, side.green_gateway, side.leg] {
            let packet = lab.to_gateway("a").ip(side.a, address);
            let frame = packet.icmp(request, 0, 1, b"ping");
            let answer = lab
                .from_gateway("a")
                .ip(address, side.a)
                .icmp(reply, 0, 1, b"ping");
            lab.send("a", &frame).arrives("a", &answer);
        }
        // Not for a network that is not routed to.
        let frame = lab
            .to_gateway("a")
            .ip(side.a, side.red_gateway)
            .icmp(request, 0, 1, b"ping");
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
}

#[test]
fn echo_with_a_checksum_that_is_left_open_is_answered_so() {
    let mut lab = campus();
    let mut frame = lab
        .to_gateway("a")
        .ip(V6.a, V6.gateway)
        .icmp(128, 0, 1, b"ping");
    let vnet = offload(&mut frame, None);
    let mut answer = lab
        .from_gateway("a")
        .ip(V6.gateway, V6.a)
        .icmp(129, 0, 1, b"ping");
    assert_eq!(offload(&mut answer, None), vnet);
    lab.send_with("a", &vnet, &frame)
        .arrives_with("a", &vnet, &answer);
}

#[test]
fn a_corrupt_message_gets_no_answer() {
    for side in &SIDES {
        let mut lab = campus();
        let packet = lab.to_gateway("a").ip(side.a, side.gateway);
        for mut frame in [
            packet.icmp(side.echo().0, 0, 1, b"ping"),
            packet.udp(1, 2, b"data"),
            packet.tcp(&TcpHeader::default(), b"data"),
        ] {
            *frame.last_mut().unwrap() ^= 1;
            lab.send("a", &frame).drops("a", Cause::MessageChecksum);
        }
    }
}

#[test]
fn nothing_listens_on_the_gateway_and_it_says_so() {
    for side in &SIDES {
        let mut lab = campus();
        for address in [side.gateway, side.green_gateway, side.leg] {
            let packet = lab.to_gateway("a").ip(side.a, address);
            let back = lab.from_gateway("a");
            let told = |told, frame: &[u8]| side.told(&back, address, side.a, told, frame);
            let frame = packet.udp(5000, 53, b"query");
            lab.send("a", &frame)
                .arrives("a", &told(Told::PortUnreachable, &frame))
                .drops("a", Cause::GatewayRefused);
            let frame = packet.frame(Protocol::SCTP, &[0; 12]);
            let unknown = told(Told::ProtocolUnreachable(6), &frame);
            let step = lab.send("a", &frame).arrives("a", &unknown);
            if address == side.leg {
                step.drops("a", Cause::ProtocolUntranslatable);
            } else {
                step.drops("a", Cause::GatewayRefused);
            }
            // The answer to a SYN carries an ACK (RFC 9293 §3.5.2), the answer to an ACK does not.
            let syn = TcpHeader {
                source_port: 5000,
                destination_port: 80,
                sequence: 77,
                acknowledgement: 0,
                flags: TcpFlags::SYN,
                ..TcpHeader::default()
            };
            let reset = |header: &TcpHeader| TcpHeader {
                source_port: 80,
                destination_port: 5000,
                window: 0,
                ..header.clone()
            };
            let refused = reset(&TcpHeader {
                sequence: 0,
                acknowledgement: 78,
                flags: TcpFlags::RST | TcpFlags::ACK,
                ..syn.clone()
            });
            let answer = back.ip(address, side.a).id(0).dont_fragment();
            lab.send("a", &packet.tcp(&syn, b""))
                .arrives("a", &answer.tcp(&refused, b""))
                .drops("a", Cause::GatewayRefused);
            let ack = TcpHeader {
                acknowledgement: 99,
                flags: TcpFlags::ACK,
                ..syn
            };
            let refused = reset(&TcpHeader {
                sequence: 99,
                acknowledgement: 0,
                flags: TcpFlags::RST,
                ..ack.clone()
            });
            lab.send("a", &packet.tcp(&ack, b"late"))
                .arrives("a", &answer.tcp(&refused, b""))
                .drops("a", Cause::GatewayRefused);
        }
    }
}

#[test]
fn a_reset_is_never_answered() {
    for side in &SIDES {
        let mut lab = campus();
        let header = TcpHeader {
            flags: TcpFlags::RST | TcpFlags::ACK,
            ..TcpHeader::default()
        };
        let frame = lab
            .to_gateway("a")
            .ip(side.a, side.gateway)
            .tcp(&header, b"");
        lab.send("a", &frame).drops("a", Cause::GatewayRefused);
    }
}

#[test]
fn an_unknown_protocol_is_named_where_it_stands() {
    let mut lab = campus();
    let padding = [0, 1, 4, 0, 0, 0, 0];
    let packet = lab.to_gateway("a").ip(V6.a, V6.gateway);
    for (packet, pointer) in [
        (packet.clone(), 6),
        (
            packet
                .clone()
                .extension(Protocol::DESTINATION_OPTIONS, &padding),
            40,
        ),
        (
            packet
                .clone()
                .extension(Protocol::HOP_BY_HOP, &padding)
                .extension(
                    Protocol::DESTINATION_OPTIONS,
                    &[1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                ),
            48,
        ),
        (packet.fragment(9, 0, false), 40),
    ] {
        let frame = packet.frame(Protocol::GRE, b"tunnel");
        let told = Told::ProtocolUnreachable(pointer);
        let told = V6.told(&lab.from_gateway("a"), V6.gateway, V6.a, told, &frame);
        lab.send("a", &frame)
            .arrives("a", &told)
            .drops("a", Cause::GatewayRefused);
    }
}

#[test]
fn what_needs_no_answer_gets_none() {
    for side in &SIDES {
        let mut lab = campus();
        let packet = lab.to_gateway("a").ip(side.a, side.gateway);
        let about = lab
            .from_gateway("a")
            .ip(side.gateway, side.a)
            .udp(1, 2, b"");
        let mut ignored = vec![
            // An echo reply, an error, a message of no kind.
            packet.icmp(side.echo().1, 0, 1, b""),
            side.told(
                &lab.to_gateway("a"),
                side.a,
                side.gateway,
                Told::PortUnreachable,
                &about,
            ),
            packet.icmp(200, 0, 1, b""),
        ];
        if side.family == Family::V6 {
            ignored.push(packet.frame(Protocol::NO_NEXT_HEADER, b""));
        }
        for frame in ignored {
            lab.send("a", &frame).drops("a", Cause::GatewayIgnored);
        }
        // Nor does anything that is not IP, or in a VLAN.
        let frame = lab.to_gateway("a").frame(EtherType(0x88b5), b"hello");
        lab.send("a", &frame).drops("a", Cause::GatewayIgnored);
        let tagged =
            lab.to_gateway("a")
                .vlan(3)
                .ip(side.a, side.gateway)
                .icmp(side.echo().0, 0, 1, b"");
        lab.send("a", &tagged).drops("a", Cause::GatewayIgnored);
    }
}

#[test]
fn a_gateway_without_ipv6_does_not_answer_for_it() {
    let mut lab = Lab::new(|plan| {
        plan.network("n").subnet("10.1.0.0/24");
        plan.host("a", "n").address("10.1.0.2").insecure();
        plan.host("b", "n").address("10.1.0.3");
    });
    let a = lab.mac("a");
    let frame = lab.to_gateway("a").neighbour_solicitation(
        link_local(a),
        GATEWAY_LINK_LOCAL,
        GATEWAY_LINK_LOCAL,
    );
    lab.send("a", &frame).drops("a", Cause::FamilyDisabled);
}

#[test]
fn the_gateway_stays_who_it_is_when_ports_come_and_go() {
    for side in &SIDES {
        let mut lab = campus();
        let (request, reply) = side.echo();
        let before = lab.plan().gateway_mac("c");
        let is_there = |lab: &mut Lab| {
            let packet = lab.to_gateway("c").ip(side.c, side.gateway);
            let answer = lab.from_gateway("c").ip(side.gateway, side.c);
            lab.send("c", &packet.icmp(request, 0, 1, b"still you?"))
                .arrives("c", &answer.icmp(reply, 0, 1, b"still you?"));
        };
        is_there(&mut lab);
        for leaving in ["a", "b", "d"] {
            let (mac, network) = (lab.mac(leaving), lab.plan().network_of(leaving));
            lab.reconfigure(|plan| plan.remove(leaving))
                .forgets(network, mac);
            is_there(&mut lab);
        }
        // One that comes may not call itself the gateway, whatever its address sorts before.
        lab.reconfigure(|plan| {
            let host = plan.host("low", "blue").insecure();
            host.mac(MacAddr::new([0x02, 0, 0, 0, 0, 1]));
        });
        is_there(&mut lab);
        let forged = Link::new(before, MacAddr::BROADCAST).frame(EtherType(0x88b5), b"");
        lab.send("low", &forged)
            .drops("low", Cause::SourceMacSpoofed);
        is_there(&mut lab);
        assert_eq!(lab.plan().gateway_mac("c"), before);
    }
}

#[test]
fn a_host_that_asks_for_a_mapping_is_told_that_nobody_gives_any() {
    // PCP: version 2, MAP, one hour, the asker; NAT-PMP and UPnP in their own words (RFC 6887 §7.1, RFC 6886
    // §3.3).
    let pcp = [&[2, 1, 0, 0, 0, 0, 14, 16][..], &[0; 52]].concat();
    let questions = [
        (5351, pcp),
        (5351, [0, 1, 0, 0, 0x1f, 0x90, 0, 0, 0, 0, 14, 16].to_vec()),
        (1900, b"M-SEARCH * HTTP/1.1\r\n\r\n".to_vec()),
    ];
    for side in &SIDES {
        let mut lab = campus();
        for (port, question) in &questions {
            for address in [side.gateway, side.leg] {
                let packet = lab.to_gateway("a").ip(side.a, address);
                let frame = packet.udp(5350, *port, question);
                let told = side.told(
                    &lab.from_gateway("a"),
                    address,
                    side.a,
                    Told::PortUnreachable,
                    &frame,
                );
                lab.send("a", &frame)
                    .arrives("a", &told)
                    .drops("a", Cause::GatewayRefused);
            }
        }
    }
}
