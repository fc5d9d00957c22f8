//! Port security: an endpoint speaks only for itself, and every host may still do what hosts do.

#![expect(clippy::unwrap_used, reason = "a panic is how a case fails")]

use heddle_switch::{Cause, link_local};
use heddle_tests::lab::{Lab, SIDES, campus};
use heddle_wire::builder::{Link, Packet};
use heddle_wire::{Address, Arp, EtherType, Family, MacAddr, Malformed, Protocol};

const V6: usize = 1;

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn arp(operation: u16, sender: (MacAddr, &str), target: (MacAddr, &str)) -> Arp {
    Arp {
        operation,
        sender_mac: sender.0,
        sender: sender.1.parse().unwrap(),
        target_mac: target.0,
        target: target.1.parse().unwrap(),
    }
}

/// The body of a neighbour solicitation or advertisement with link-layer options of these kinds.
fn discovery(target: &str, options: &[(u8, MacAddr)]) -> Vec<u8> {
    let mut body = address(target).bits().to_be_bytes().to_vec();
    for (kind, mac) in options {
        body.extend([*kind, 1]);
        body.extend(mac.0);
    }
    body
}

/// A packet in every disguise that a frame can wear and port security must see through: VLAN tags, and
/// for IPv6 extension headers.
fn disguises(link: &Link, packet: impl Fn(&Link) -> Packet) -> Vec<Packet> {
    let links = [
        link.clone(),
        link.clone().vlan(0),
        link.clone().vlan(0x0123),
        link.clone().service_tag(5).vlan(6),
    ];
    let mut packets = Vec::new();
    for link in links {
        let plain = packet(&link);
        packets.push(plain.clone());
        if Summary::of(&plain) == Family::V6 {
            let padding = [0, 1, 4, 0, 0, 0, 0];
            packets.push(
                plain
                    .clone()
                    .extension(Protocol::DESTINATION_OPTIONS, &padding),
            );
            packets.push(
                plain
                    .extension(Protocol::HOP_BY_HOP, &padding)
                    .extension(Protocol::ROUTING, &[0, 4, 0, 0, 0, 0, 0])
                    .extension(Protocol::DESTINATION_OPTIONS, &padding),
            );
        }
    }
    packets
}

/// The family of a packet to be.
struct Summary;

impl Summary {
    fn of(packet: &Packet) -> Family {
        let frame = packet.frame(Protocol::GRE, &[]);
        let summary = heddle_wire::Summary::parse(&frame).unwrap();
        summary.ip().unwrap().family()
    }
}

#[test]
fn a_mac_address_of_somebody_else_is_refused() {
    for side in &SIDES {
        let mut lab = campus();
        let stolen = [
            lab.mac("b"),
            // Of another network, of nobody, and the gateway's.
            lab.mac("d"),
            MacAddr::new([2, 0x55, 0, 0, 0, 1]),
            lab.plan().gateway_mac("a"),
        ];
        for mac in stolen {
            let frame = Link::new(mac, lab.mac("c"))
                .ip(side.a, side.c)
                .udp(1, 2, b"");
            lab.send("a", &frame).drops("a", Cause::SourceMacSpoofed);
        }
    }
}

#[test]
fn without_port_security_given_mac_addresses_are_still_their_owners() {
    for side in &SIDES {
        let mut lab = Lab::new(|plan| {
            plan.network("n")
                .subnet("10.1.0.0/24")
                .subnet("fd00:1::/64");
            plan.host("a", "n").address("10.1.0.2").address("fd00:1::2");
            plan.host("x", "n")
                .address("10.1.0.3")
                .address("fd00:1::3")
                .insecure();
        });
        for mac in [lab.mac("a"), lab.plan().gateway_mac("a")] {
            let frame = Link::new(mac, MacAddr::BROADCAST)
                .ip(side.b, side.a)
                .udp(1, 2, b"");
            lab.send("x", &frame).drops("x", Cause::SourceMacSpoofed);
        }
        let frame = lab.link("x", "a").ip(side.b, side.a).udp(1, 2, b"");
        let x = lab.mac("x");
        lab.send("x", &frame)
            .arrives("a", &frame)
            .learns("n", x, "x");
    }
}

#[test]
fn a_source_of_somebody_else_is_refused_in_every_disguise() {
    for side in &SIDES {
        let mut lab = campus();
        let stolen = match side.family {
            Family::V4 => [
                "10.1.0.3",
                "10.1.0.1",
                "0.0.0.0",
                "127.0.0.1",
                "10.1.0.255",
                "8.8.8.8",
            ],
            Family::V6 => [
                "fd00:1::3",
                "fd00:1::1",
                "::",
                "::1",
                "fe80::1",
                "2001:db8::5",
            ],
        };
        for source in stolen {
            for to in ["b", "gateway"] {
                let link = match to {
                    "b" => lab.link("a", "b"),
                    _ => lab.to_gateway("a"),
                };
                for packet in disguises(&link, |link| link.ip(source, side.b)) {
                    for frame in [
                        packet.udp(1, 2, b"mine?"),
                        packet.icmp(side.echo().0, 0, 7, b""),
                        packet.frame(Protocol::GRE, b"tunnel"),
                    ] {
                        lab.send("a", &frame).drops("a", Cause::AddressSpoofed);
                    }
                }
            }
        }
    }
}

#[test]
fn later_fragments_are_held_to_their_source_too() {
    for side in &SIDES {
        let mut lab = campus();
        let later = |source| {
            let packet = lab.link("a", "b").ip(source, side.b);
            packet.fragment(7, 64, true).frame(Protocol::UDP, &[0; 64])
        };
        let (stolen, own) = (later(side.c), later(side.a));
        lab.send("a", &stolen).drops("a", Cause::AddressSpoofed);
        lab.send("a", &own).arrives("b", &own);
    }
}

#[test]
fn arp_speaks_only_for_its_sender() {
    let mut lab = campus();
    let side = &SIDES[0];
    let (a, b, zero) = (lab.mac("a"), lab.mac("b"), MacAddr::ZERO);
    let forged = [
        // Somebody else's address at the own station, and the own address at somebody else's.
        arp(Arp::REPLY, (a, side.b), (zero, side.c)),
        arp(Arp::REQUEST, (a, side.b), (zero, side.b)),
        arp(Arp::REPLY, (b, side.a), (zero, side.c)),
        arp(Arp::REPLY, (b, side.b), (zero, side.c)),
        // The gateway's.
        arp(Arp::REPLY, (a, side.gateway), (b, side.b)),
        arp(Arp::REQUEST, (a, side.gateway), (zero, side.gateway)),
        // A probe claims what it asks for (RFC 5227 §1.1).
        arp(Arp::REQUEST, (a, "0.0.0.0"), (zero, side.b)),
        arp(Arp::REPLY, (a, "0.0.0.0"), (zero, side.b)),
        arp(Arp::REQUEST, (b, "0.0.0.0"), (zero, side.a)),
    ];
    for message in forged {
        for link in [
            lab.to_all("a"),
            lab.link("a", "b"),
            lab.to_all("a").vlan(9),
            lab.to_gateway("a"),
        ] {
            let frame = link.arp(&message);
            lab.send("a", &frame).drops("a", Cause::ArpSpoofed);
        }
    }
    let honest = [
        arp(Arp::REQUEST, (a, side.a), (zero, side.b)),
        arp(Arp::REPLY, (a, side.a), (b, side.b)),
        // Probe and announcement of the own address.
        arp(Arp::REQUEST, (a, "0.0.0.0"), (zero, side.a)),
        arp(Arp::REQUEST, (a, side.a), (zero, side.a)),
    ];
    for message in honest {
        let frame = lab.to_all("a").arp(&message);
        lab.send("a", &frame)
            .arrives_everywhere(&["b", "c"], &frame);
    }
}

#[test]
fn discovery_speaks_only_for_its_sender() {
    let mut lab = campus();
    let side = &SIDES[V6];
    let (a, b) = (lab.mac("a"), lab.mac("b"));
    let link = lab.to_all("a");
    let nodes = "ff02::1";
    for (source, kind, body) in [
        // An advertisement of somebody else's address, or of the own one elsewhere.
        (side.a, 136, discovery(side.b, &[(2, a)])),
        (side.a, 136, discovery(side.gateway, &[(2, a)])),
        (side.a, 136, discovery("fe80::1", &[(2, a)])),
        (side.a, 136, discovery(side.a, &[(2, b)])),
        // Two options, of which a host may believe the other.
        (side.a, 136, discovery(side.a, &[(2, a), (2, b)])),
        (side.a, 136, discovery(side.a, &[(2, a), (2, a)])),
        (side.a, 136, discovery(side.a, &[(1, b)])),
        // A solicitation that says the sender is somewhere else.
        (side.a, 135, discovery(side.b, &[(1, b)])),
        (side.a, 133, vec![1, 1, 2, 0xaa, 0, 0, 0, 1]),
        // Duplicate address detection for somebody else's address.
        ("::", 135, discovery(side.b, &[])),
        // Not even a target, an option of no length, an option beyond the end, half an option.
        (side.a, 135, vec![0; 8]),
        (
            side.a,
            136,
            [discovery(side.a, &[]), vec![2, 0, 0, 0, 0, 0, 0, 0]].concat(),
        ),
        (
            side.a,
            136,
            [discovery(side.a, &[]), vec![2, 2, 0, 0, 0, 0, 0, 0]].concat(),
        ),
        (side.a, 136, [discovery(side.a, &[]), vec![2]].concat()),
    ] {
        for packet in disguises(&link, |link| link.ip(source, nodes).hop_limit(255)) {
            let frame = packet.icmp(kind, 0, 0x2000_0000, &body);
            lab.send("a", &frame).drops("a", Cause::NeighbourSpoofed);
        }
    }
}

#[test]
fn nobody_plays_the_router() {
    let mut lab = campus();
    for side in &SIDES {
        let (kinds, nodes): (&[u8], _) = match side.family {
            // Redirect and router advertisement (RFC 792, RFC 1256).
            Family::V4 => (&[5, 9], "224.0.0.1"),
            // Router advertisement and redirect (RFC 4861 §4.2, §4.5).
            Family::V6 => (&[134, 137], "ff02::1"),
        };
        for kind in kinds {
            for link in [lab.to_all("a"), lab.link("a", "b"), lab.to_gateway("a")] {
                for packet in disguises(&link, |link| link.ip(side.a, nodes).hop_limit(255)) {
                    let frame = packet.icmp(*kind, 0, 0, &[0; 40]);
                    lab.send("a", &frame).drops("a", Cause::RouterImpersonated);
                }
            }
        }
    }
}

#[test]
fn discovery_does_not_hide_in_fragments() {
    let mut lab = campus();
    let side = &SIDES[V6];
    for kind in 133..=137 {
        let packet = lab.to_all("a").ip(side.a, "ff02::1").hop_limit(255);
        let message = packet.icmp_message(kind, 0, 0, &discovery(side.a, &[]));
        // A first fragment, an atomic one (RFC 6946), one behind another header.
        let padding = [0, 1, 4, 0, 0, 0, 0];
        for packet in [
            packet.clone().fragment(1, 0, true),
            packet.clone().fragment(1, 0, false),
            packet
                .clone()
                .extension(Protocol::DESTINATION_OPTIONS, &padding)
                .fragment(1, 0, true),
        ] {
            let frame = packet.frame(Protocol::ICMPV6, &message);
            lab.send("a", &frame).drops("a", Cause::NeighbourFragmented);
        }
    }
    // Nor does a header that comes in the second fragment (RFC 7112).
    let packet = lab.to_all("a").ip(side.a, "ff02::1").hop_limit(255);
    let frame = packet
        .fragment(1, 0, true)
        .frame(Protocol::DESTINATION_OPTIONS, &[58, 1, 1, 4, 0, 0, 0, 0]);
    lab.send("a", &frame)
        .drops("a", Malformed::FirstFragmentIncomplete);
}

#[test]
fn nobody_plays_the_dhcp_server() {
    let mut lab = campus();
    for side in &SIDES {
        let (client, servers) = match side.family {
            Family::V4 => (68, [67, 68, 1067]),
            Family::V6 => (546, [547, 546, 1547]),
        };
        for server in servers {
            for packet in disguises(&lab.link("a", "b"), |link| link.ip(side.a, side.b)) {
                let frame = packet.udp(server, client, b"offer");
                lab.send("a", &frame)
                    .drops("a", Cause::DhcpServerImpersonated);
                let whole = packet.udp_segment(server, client, &[0; 64]);
                let first = packet
                    .clone()
                    .fragment(3, 0, true)
                    .frame(Protocol::UDP, &whole);
                lab.send("a", &first)
                    .drops("a", Cause::DhcpServerImpersonated);
            }
        }
        // To ask is not to answer.
        let frame = lab
            .link("a", "b")
            .ip(side.a, side.b)
            .udp(client, client - 1, b"request");
        lab.send("a", &frame).arrives("b", &frame);
    }
}

#[test]
fn ip_does_not_hide_behind_llc() {
    let mut lab = campus();
    for organisation in [[0, 0, 0], [0, 0, 0xf8]] {
        for carried in [0x0800_u16, 0x0806, 0x86dd, 0x8100, 0x88a8] {
            for link in [lab.to_all("a"), lab.to_all("a").vlan(3)] {
                let mut content = vec![0xaa, 0xaa, 3];
                content.extend(organisation);
                content.extend(carried.to_be_bytes());
                content.extend([0x45; 40]);
                let frame = link.frame(EtherType(48), &content);
                lab.send("a", &frame).drops("a", Cause::SnapEncapsulated);
            }
        }
    }
    // Spanning tree and everything else that speaks LLC is none of our business.
    let frame = lab.to_all("a").frame(EtherType(48), &[0x42; 48]);
    lab.send("a", &frame)
        .arrives_everywhere(&["b", "c"], &frame);
    let frame = lab
        .to_all("a")
        .frame(EtherType(8), &[0xaa, 0xaa, 3, 0, 0, 0, 0x80, 0x9b]);
    lab.send("a", &frame)
        .arrives_everywhere(&["b", "c"], &frame);
    let frame = lab.to_all("a").frame(EtherType(2), &[0xaa, 0xaa]);
    lab.send("a", &frame)
        .arrives_everywhere(&["b", "c"], &frame);
}

#[test]
fn what_cannot_be_read_cannot_be_checked() {
    for side in &SIDES {
        let mut lab = campus();
        let frame = lab.link("a", "b").ip(side.a, side.b).udp(1, 2, b"");
        let (cut, reason) = match side.family {
            Family::V4 => (&frame[..30], Malformed::Ipv4Truncated),
            Family::V6 => (&frame[..50], Malformed::Ipv6Truncated),
        };
        lab.send("a", cut).drops("a", reason);
    }
}

#[test]
fn a_host_may_find_its_address_and_its_router() {
    let mut lab = campus();
    let side = &SIDES[V6];
    let a = lab.mac("a");
    let own = link_local(a);
    let node =
        |last: u32| Address::from_bits(0xff02_u128 << 112 | 0x1_ff00_0000 | u128::from(last));
    let hops = |packet: Packet| packet.hop_limit(255);
    let option = discovery("::", &[(1, a)])[16..].to_vec();
    for frame in [
        // Duplicate address detection (RFC 4862 §5.4.2), of the given and of the link-local address.
        hops(lab.to_all("a").ip(Address::UNSPECIFIED, node(2))).icmp(
            135,
            0,
            0,
            &discovery(side.a, &[]),
        ),
        hops(lab.to_all("a").ip(Address::UNSPECIFIED, node(1))).icmp(
            135,
            0,
            0,
            &own.bits().to_be_bytes(),
        ),
        // Asking for a neighbour, answering one.
        hops(lab.to_all("a").ip(own, node(3))).icmp(135, 0, 0, &discovery(side.b, &[(1, a)])),
        hops(lab.to_all("a").ip(side.a, "ff02::1")).icmp(136, 0, 0, &discovery(side.a, &[(2, a)])),
    ] {
        lab.send("a", &frame)
            .arrives_everywhere(&["b", "c"], &frame);
    }
    // What is for routers alone nobody else hears.
    for frame in [
        // Router solicitation before and after there is an address (RFC 4861 §4.1).
        hops(lab.to_all("a").ip("::", "ff02::2")).icmp(133, 0, 0, &[]),
        hops(lab.to_all("a").ip(own, address("ff02::2"))).icmp(133, 0, 0, &option),
        // Multicast listener reports with and without an address (RFC 3590).
        lab.to_all("a")
            .ip("::", "ff02::16")
            .hop_limit(1)
            .extension(Protocol::HOP_BY_HOP, &[0, 5, 2, 0, 0, 1, 0])
            .icmp(143, 0, 1, &[0; 20]),
        lab.to_all("a")
            .ip(own, address("ff02::16"))
            .hop_limit(1)
            .extension(Protocol::HOP_BY_HOP, &[0, 5, 2, 0, 0, 1, 0])
            .icmp(143, 0, 1, &[0; 20]),
    ] {
        lab.send("a", &frame).drops("a", Cause::NobodyElse);
    }
}

#[test]
fn a_dhcp_client_may_ask_before_it_has_an_address() {
    let mut lab = campus();
    let link = lab.to_all("a");
    let frame = link
        .ip("0.0.0.0", "255.255.255.255")
        .udp(68, 67, b"discover");
    lab.send("a", &frame)
        .arrives_everywhere(&["b", "c"], &frame);
    // But that is all it may do.
    let frame = link.ip("0.0.0.0", "255.255.255.255").udp(68, 53, b"");
    lab.send("a", &frame).drops("a", Cause::AddressSpoofed);
    let own = link_local(lab.mac("a"));
    let frame = link.ip(own, address("ff02::1:2")).udp(546, 547, b"solicit");
    lab.send("a", &frame)
        .arrives_everywhere(&["b", "c"], &frame);
    let frame = link.ip("::", "ff02::1:2").udp(546, 547, b"solicit");
    lab.send("a", &frame).drops("a", Cause::AddressSpoofed);
}

#[test]
fn a_network_carries_only_the_families_it_has() {
    for (only, other) in [(&SIDES[0], &SIDES[1]), (&SIDES[1], &SIDES[0])] {
        for secure in [true, false] {
            let mut lab = Lab::new(|plan| {
                let subnet = match only.family {
                    Family::V4 => "10.1.0.0/24",
                    Family::V6 => "fd00:1::/64",
                };
                plan.network("n").subnet(subnet);
                for (name, address) in [("a", only.a), ("b", only.b)] {
                    let host = plan.host(name, "n").address(address);
                    if !secure {
                        host.insecure();
                    }
                }
            });
            let link = lab.link("a", "b");
            let whole = link.ip(other.a, other.b).udp(1, 2, b"");
            // Broken or not, tagged or not: the type says what it claims to be.
            let broken = whole[..20].to_vec();
            let tagged = link.vlan(5).ip(other.a, other.b).udp(1, 2, b"");
            for frame in [whole, broken, tagged] {
                lab.send("a", &frame).drops("a", Cause::FamilyDisabled);
            }
            if only.family == Family::V6 {
                let (a, zero) = (lab.mac("a"), MacAddr::ZERO);
                let question = arp(Arp::REQUEST, (a, "10.1.0.2"), (zero, "10.1.0.3"));
                let frame = lab.to_all("a").arp(&question);
                lab.send("a", &frame).drops("a", Cause::FamilyDisabled);
            }
        }
    }
}

#[test]
fn an_endpoint_with_several_addresses_may_use_each() {
    for side in &SIDES {
        let mut lab = Lab::new(|plan| {
            plan.network("n")
                .subnet("10.1.0.0/24")
                .subnet("fd00:1::/64");
            let host = plan.host("a", "n");
            host.other_mac(MacAddr::new([2, 0x77, 0, 0, 0, 1]));
            for last in 2..9 {
                let (v4, v6) = (format!("10.1.0.{last}"), format!("fd00:1::{last}"));
                host.address(v4.leak()).address(v6.leak());
            }
            plan.host("z", "n")
                .address("10.1.0.99")
                .address("fd00:1::99");
        });
        let z = lab.mac("z");
        for mac in [lab.mac("a"), MacAddr::new([2, 0x77, 0, 0, 0, 1])] {
            for source in [side.a, side.b, side.c] {
                let frame = Link::new(mac, z).ip(source, side.nobody).udp(1, 2, b"");
                lab.send("a", &frame).arrives("z", &frame);
            }
        }
        let frame = lab
            .link("a", "z")
            .ip(side.gateway, side.nobody)
            .udp(1, 2, b"");
        lab.send("a", &frame).drops("a", Cause::AddressSpoofed);
    }
}
