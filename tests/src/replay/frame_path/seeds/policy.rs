//! Frames that are well-formed and not allowed, or lead nowhere.

use heddle_wire::builder::{Link, TcpHeader};
use heddle_wire::{EtherType, Family, MacAddr, Protocol, TcpFlags};

use super::{A, B, C, D, E, F, G, SERVERS, Seed, WAN, from, link, link_to, own, raw, seed};
use crate::replay::frame_path::action::{Action, LinkEvent, Packet, Speak};
use crate::replay::frame_path::place;

const V4: &str = SERVERS[0];

/// A sender's place: the server outside, where zero would stand for oneself.
const SERVER: u8 = 64;

pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds = security();
    seeds.extend(bridge());
    seeds.extend(outside());
    seeds.extend(router());
    seeds.extend(nowhere());
    seeds.extend(gateway());
    seeds.extend(untranslated());
    seeds.extend(links());
    seeds
}

fn packet(name: &str, packet: Packet) -> Seed {
    seed(name, vec![Action::Packet(packet)])
}

fn speak(name: &str, port: u8, kind: u8, mac: u8, sender: u8, target: u8) -> Seed {
    let speak = Speak {
        port,
        kind,
        mac,
        sender,
        target,
        ..Speak::default()
    };
    let to_all = Speak {
        destination_mac: if kind < 2 { 10 } else { 11 },
        ..speak
    };
    seed(name, vec![Action::Speak(speak), Action::Speak(to_all)])
}

fn security() -> Vec<Seed> {
    let udp = Packet {
        protocol: 1,
        ..Packet::default()
    };
    let snap = [
        0xaa, 0xaa, 0x03, 0, 0, 0, 0x08, 0x00, 0x45, 0, 0, 20, 0, 0, 0, 0,
    ];
    let length = EtherType(u16::try_from(snap.len()).expect("it is 16"));
    let discovery = from(A, "fd00:1::1")
        .hop_limit(255)
        .fragment(1, 0, false)
        .icmp(135, 0, 0, &place::address("fd00:1::1").bits().to_be_bytes());
    vec![
        packet(
            "source-mac-invalid",
            Packet {
                source_mac: 11,
                ..udp
            },
        ),
        packet(
            "source-mac-spoofed",
            Packet {
                source_mac: 2,
                ..udp
            },
        ),
        packet("address-spoofed", Packet { source: 2, ..udp }),
        packet(
            "address-spoofed-v6",
            Packet {
                source: 2,
                destination: Packet::V6,
                ..udp
            },
        ),
        packet(
            "address-spoofed-insecure",
            Packet {
                port: C,
                source: 2,
                ..udp
            },
        ),
        speak("arp-spoofed", A, 0, 0, 2, 3),
        speak("neighbour-spoofed", A, 3, 0, 1, 2),
        speak("neighbour-solicited", A, 2, 0, 1, 2),
        speak("router-impersonated", A, 5, 0, 1, 2),
        speak("gateway-asked", A, 0, 0, 0, 10),
        speak("gateway-asked-v6", A, 2, 0, 0, 10),
        seed("neighbour-fragmented", vec![raw(A, &discovery)]),
        packet(
            "dhcp-server-impersonated",
            Packet {
                destination: 2,
                destination_port: 5,
                ..udp
            },
        ),
        seed(
            "snap-encapsulated",
            vec![raw(A, &link(A).frame(length, &snap))],
        ),
        packet(
            "family-disabled",
            Packet {
                port: F,
                destination: Packet::V6,
                source: 1,
                ..udp
            },
        ),
    ]
}

fn bridge() -> Vec<Seed> {
    let own_mac = place::own_mac(0);
    let neighbour = place::own_mac(1);
    let control = MacAddr::new([0x01, 0x80, 0xc2, 0, 0, 0x0e]);
    let other = |to| link_to(A, to).frame(EtherType(0x88b5), &[0; 46]);
    let alone = link_to(F, MacAddr::BROADCAST).frame(EtherType(0x88b5), &[0; 46]);
    let short = link_to(A, MacAddr::BROADCAST).frame(EtherType(0x88b5), &[]);
    let routed = link_to(E, MacAddr::BROADCAST).frame(EtherType(0x88b5), &[0; 46]);
    let hidden = Packet {
        port: C,
        source_mac: 13,
        source: 8,
        destination: 2,
        destination_mac: 2,
        protocol: 1,
        ..Packet::default()
    };
    vec![
        seed("link-local-control", vec![raw(A, &other(control))]),
        seed("same-port", vec![raw(A, &other(own_mac))]),
        seed("nobody-else", vec![raw(F, &alone)]),
        seed("storm-control", vec![raw(A, &short); 17]),
        seed("not-routed", vec![raw(E, &routed)]),
        seed("bridged", vec![raw(A, &other(neighbour))]),
        seed("flooded", vec![raw(A, &other(MacAddr::BROADCAST))]),
        seed(
            "learned",
            vec![
                Action::Packet(hidden),
                Action::Packet(Packet {
                    source_mac: 14,
                    ..hidden
                }),
                Action::Packet(Packet {
                    source_mac: 15,
                    tags: 1,
                    ..hidden
                }),
                raw(
                    B,
                    &link_to(B, MacAddr::new([0x02, 0xcc, 0, 0, 0, 0x50]))
                        .frame(EtherType(0x88b5), &[0; 46]),
                ),
            ],
        ),
    ]
}

fn outside() -> Vec<Seed> {
    let outside = |to: &str| link(WAN).ip(place::address(V4), place::address(to));
    let stranger = link_to(WAN, place::own_mac(0)).ip(V4, "192.0.2.2");
    let long = from(A, "10.2.0.2").dont_fragment().udp(1, 2, &[7; 700]);
    let cut = from(A, "10.2.0.2").may_fragment().udp(1, 2, &[7; 700]);
    vec![
        seed("not-for-leg", vec![raw(WAN, &stranger.udp(1, 2, b""))]),
        seed(
            "inside-from-outside",
            vec![raw(WAN, &outside("10.1.0.2").udp(1, 2, b""))],
        ),
        seed(
            "inside-from-outside-v6",
            vec![raw(
                WAN,
                &link(WAN).ip("fd00:1::2", "2001:db8:2::2").udp(1, 80, b""),
            )],
        ),
        seed(
            "packet-too-big",
            vec![Action::Configure(1, 3 * 9 + D), raw(A, &long), raw(A, &cut)],
        ),
    ]
}

fn router() -> Vec<Seed> {
    let udp = Packet {
        protocol: 1,
        ..Packet::default()
    };
    let broken = Packet {
        broken_at: 24,
        broken_by: 0x55,
        ..udp
    };
    let to = |destination| Packet { destination, ..udp };
    vec![
        packet("header-checksum", broken),
        packet(
            "martian-source",
            Packet {
                port: C,
                source: 27,
                ..udp
            },
        ),
        packet("martian-destination", to(27)),
        packet("martian-destination-v6", to(28 | Packet::V6)),
        packet("source-routed", Packet { shape: 4, ..udp }),
        packet(
            "source-routed-v6",
            Packet {
                shape: 4,
                destination: Packet::V6,
                ..udp
            },
        ),
        packet("routed", to(4)),
        packet("routed-v6", to(4 | Packet::V6)),
        packet(
            "routed-behind",
            Packet {
                port: D,
                destination: 2,
                ..udp
            },
        ),
        packet(
            "routed-segments",
            Packet {
                offload: 2,
                len: 120,
                protocol: 0,
                ..to(4)
            },
        ),
        packet(
            "no-outside-address",
            Packet {
                port: G,
                destination: Packet::V6,
                ..udp
            },
        ),
    ]
}

/// Where nobody is, or nobody may go.
fn nowhere() -> Vec<Seed> {
    let udp = Packet {
        protocol: 1,
        ..Packet::default()
    };
    let to = |destination| Packet { destination, ..udp };
    vec![
        packet("broadcast-not-routed", to(29)),
        packet("multicast-not-routed", to(24)),
        packet("multicast-not-routed-v6", to(24 | Packet::V6)),
        packet("hop-limit-exceeded", Packet { hops: 1, ..to(4) }),
        packet(
            "hop-limit-exceeded-v6",
            Packet {
                hops: 1,
                ..to(4 | Packet::V6)
            },
        ),
        packet("network-isolated", to(5)),
        packet("network-isolated-v6", to(5 | Packet::V6)),
        packet("host-unknown", to(9)),
        packet("no-route", Packet { port: F, ..udp }),
    ]
}

fn gateway() -> Vec<Seed> {
    let udp = Packet {
        protocol: 1,
        destination: 10,
        ..Packet::default()
    };
    let echo = Packet { protocol: 2, ..udp };
    let v6 = 10 | Packet::V6;
    vec![
        packet("gateway-refused", udp),
        packet(
            "gateway-refused-tcp",
            Packet {
                protocol: 0,
                flags: 2,
                ..udp
            },
        ),
        packet(
            "gateway-refused-protocol",
            Packet {
                protocol: 3,
                destination: v6,
                ..udp
            },
        ),
        packet("gateway-ignored", Packet { flags: 13, ..echo }),
        packet("gateway-echo", echo),
        packet(
            "gateway-echo-v6",
            Packet {
                destination: v6,
                ..echo
            },
        ),
        packet(
            "message-checksum",
            Packet {
                broken_at: 36,
                broken_by: 1,
                ..echo
            },
        ),
    ]
}

/// What cannot be translated, or was not asked for.
fn untranslated() -> Vec<Seed> {
    let udp = Packet {
        protocol: 1,
        destination: 10,
        ..Packet::default()
    };
    vec![
        packet(
            "protocol-untranslatable",
            Packet {
                protocol: 3,
                ..Packet::default()
            },
        ),
        packet(
            "port-zero",
            Packet {
                destination_port: 3,
                protocol: 1,
                ..Packet::default()
            },
        ),
        packet(
            "not-syn",
            Packet {
                flags: 16,
                ..Packet::default()
            },
        ),
        seed(
            "unsolicited",
            vec![raw(WAN, &from(WAN, "192.0.2.2").udp(1, 9999, b""))],
        ),
        seed(
            "leg-echo",
            vec![raw(WAN, &from(WAN, "192.0.2.2").icmp(8, 0, 1, b"ping"))],
        ),
        packet(
            "server-spoofed",
            Packet {
                source: SERVER,
                ..udp
            },
        ),
        seed(
            "source-routed-outside",
            vec![raw(
                WAN,
                &from(WAN, "192.0.2.2")
                    .options(&[131, 7, 4, 10, 0, 0, 1, 0])
                    .udp(1, 80, b""),
            )],
        ),
    ]
}

/// Links that are full, refuse, or are gone.
fn links() -> Vec<Seed> {
    let to_b = Packet {
        destination_mac: 2,
        destination: 2,
        protocol: 1,
        ..Packet::default()
    };
    let many = Packet { more: 30, ..to_b };
    let from_b = Packet {
        port: B,
        destination_mac: 1,
        destination: 1,
        protocol: 1,
        more: 30,
        ..Packet::default()
    };
    let syn = TcpHeader {
        flags: TcpFlags::SYN,
        ..TcpHeader::default()
    };
    let direct =
        Link::new(place::own_mac(0), place::own_mac(1)).ip(own(A, Family::V4), own(B, Family::V4));
    vec![
        seed(
            "port-gone",
            vec![Action::Link(B, LinkEvent::HangUp), Action::Packet(to_b)],
        ),
        seed(
            "port-back",
            vec![
                Action::Configure(5, B),
                Action::Packet(to_b),
                Action::Configure(6, B),
                Action::Packet(to_b),
            ],
        ),
        seed("transmit-queue-full", vec![Action::Packet(many)]),
        seed(
            "transmit-failed",
            vec![
                Action::Link(B, LinkEvent::Refuse),
                Action::Packet(to_b),
                Action::Link(B, LinkEvent::Take),
                Action::Packet(to_b),
            ],
        ),
        seed(
            "receive-ring-full",
            vec![Action::Worker(3), Action::Packet(from_b), Action::Worker(0)],
        ),
        seed(
            "stalled",
            vec![
                Action::Link(B, LinkEvent::Stall),
                raw(A, &direct.tcp(&syn, b"")),
                Action::Link(B, LinkEvent::Read),
            ],
        ),
        seed(
            "other-protocol",
            vec![raw(A, &direct.frame(Protocol(132), &[1; 8]))],
        ),
    ]
}
