//! Which outside address and port an inside one has, in every protocol: the same for all peers, kept
//! where it is free, nobody else's, and not to be foreseen where it is not (RFC 4787 §4, RFC 5382 §4,
//! RFC 5508 §3, RFC 6888 §3, RFC 7857).

use std::collections::BTreeSet;

use heddle_nat::Filtering;
use heddle_switch::Cause;
use heddle_tests::lab::{
    Carried, Connection, Lab, Name, Plan, SIDES, SYN_ACK, Side, Told, campus_online,
    campus_online_with,
};
use heddle_wire::{Protocol, TcpFlags};

/// A host asks a server outside, by a port that is free and kept; a mapping is new or not.
fn ask(
    lab: &mut Lab,
    side: &Side,
    carried: Carried,
    host: (Name, u16),
    to: (&str, u16),
    new: bool,
) {
    let [sent, left] = side.outward(lab, host.0, to.0);
    let frame = carried.first(side, &sent, host.1, to.1);
    lab.send(host.0, &frame)
        .arrives("wan", &carried.first(side, &left, host.1, to.1))
        .opens(1)
        .mappings(i64::from(new));
}

/// A host asks by a port that is not free; the outside port that it has instead.
fn ask_displaced(lab: &mut Lab, side: &Side, carried: Carried, (host, port): (Name, u16)) -> u16 {
    let [sent, _] = side.outward(lab, host, side.server);
    let frame = carried.first(side, &sent, port, 53);
    lab.send(host, &frame).busy("wan").opens(1).mappings(1);
    let other = lab.outside_port(carried.protocol(side), side.host(host), port);
    assert_ne!(other, port, "{carried:?}");
    other
}

/// A server outside answers at an outside port; a host must get it at its own.
fn answered(
    lab: &mut Lab,
    side: &Side,
    carried: Carried,
    from: (&str, u16),
    ports: (Name, [u16; 2]),
) {
    let (host, [own, outside]) = ports;
    let [sent, arrived] = side.inward(lab, from.0, host);
    lab.send("wan", &carried.answer(side, &sent, from.1, outside))
        .arrives(host, &carried.answer(side, &arrived, from.1, own))
        .moves(1);
}

#[test]
fn a_displaced_port_is_the_same_for_every_peer() {
    for side in &SIDES {
        for carried in Carried::ALL {
            let mut lab = campus_online();
            ask(
                &mut lab,
                side,
                carried,
                ("a", 4000),
                (side.server, 53),
                true,
            );
            let other = ask_displaced(&mut lab, side, carried, ("d", 4000));
            let peers = match carried {
                // A query has no port at the other end.
                Carried::Query => &[(side.other_server, 53)][..],
                _ => &[
                    (side.server, 54),
                    (side.other_server, 53),
                    (side.other_server, 1),
                ],
            };
            for &(peer, port) in peers {
                let [sent, left] = side.outward(&lab, "d", peer);
                lab.send("d", &carried.first(side, &sent, 4000, port))
                    .arrives("wan", &carried.first(side, &left, other, port))
                    .opens(1);
                answered(&mut lab, side, carried, (peer, port), ("d", [4000, other]));
                // The one who came first is not moved by it.
                ask(&mut lab, side, carried, ("a", 4000), (peer, port), false);
                answered(&mut lab, side, carried, (peer, port), ("a", [4000, 4000]));
            }
        }
    }
}

#[test]
fn one_identifier_or_port_is_one_outside_whoever_is_asked() {
    for side in &SIDES {
        for carried in Carried::ALL {
            let mut lab = campus_online();
            ask(
                &mut lab,
                side,
                carried,
                ("a", 4000),
                (side.server, 80),
                true,
            );
            ask(
                &mut lab,
                side,
                carried,
                ("a", 4000),
                (side.other_server, 80),
                false,
            );
            for server in [side.server, side.other_server] {
                answered(&mut lab, side, carried, (server, 80), ("a", [4000, 4000]));
            }
        }
    }
}

#[test]
fn a_port_that_is_free_is_kept_odd_or_even_high_or_low() {
    for side in &SIDES {
        for carried in Carried::ALL {
            let mut lab = campus_online();
            for port in [1, 2, 1023, 1024, 4001, 49_152, 65_535] {
                ask(
                    &mut lab,
                    side,
                    carried,
                    ("a", port),
                    (side.server, 53),
                    true,
                );
            }
        }
    }
}

#[test]
fn towards_different_servers_too_a_port_is_one_hosts() {
    for side in &SIDES {
        for carried in Carried::ALL {
            let mut lab = campus_online();
            ask(
                &mut lab,
                side,
                carried,
                ("a", 4000),
                (side.server, 53),
                true,
            );
            // By its peer the answer could be told from the first one's; the port is not shared all the same.
            let [sent, _] = side.outward(&lab, "b", side.other_server);
            let frame = carried.first(side, &sent, 4000, 7000);
            lab.send("b", &frame).busy("wan").opens(1).mappings(1);
            let other = lab.outside_port(carried.protocol(side), side.b, 4000);
            assert_ne!(other, 4000, "{carried:?}");
        }
    }
}

#[test]
fn a_displaced_system_port_is_a_system_port_and_another_is_none() {
    for side in &SIDES {
        for carried in Carried::WITH_PORTS {
            for port in [1, 500, 1023, 1024, 4000, 65_535] {
                let mut lab = campus_online();
                ask(
                    &mut lab,
                    side,
                    carried,
                    ("a", port),
                    (side.server, 53),
                    true,
                );
                let other = ask_displaced(&mut lab, side, carried, ("d", port));
                assert_eq!(other < 1024, port < 1024, "{carried:?} {other}");
                assert_ne!(other, 0);
            }
        }
    }
}

/// The ports that `count` displaced flows of `d` get under a seed.
fn displaced(side: &Side, carried: Carried, seed: u64, count: u16) -> Vec<u16> {
    let mut lab = campus_online_with(|plan| plan.seed(seed));
    let frames = |lab: &Lab, host| -> Vec<Vec<u8>> {
        let [sent, _] = side.outward(lab, host, side.server);
        let ports = 5000..5000 + count;
        ports
            .map(|port| carried.first(side, &sent, port, 53))
            .collect()
    };
    for host in ["a", "d"] {
        let frames = frames(&lab, host);
        lab.send_all(host, &frames)
            .busy("wan")
            .opens(usize::from(count))
            .mappings(i64::from(count));
    }
    (5000..5000 + count)
        .map(|port| lab.outside_port(carried.protocol(side), side.d, port))
        .collect()
}

#[test]
fn ports_on_contention_are_spread_over_all_there_are() {
    const COUNT: u16 = 256;
    const PARTS: usize = 8;
    for side in &SIDES {
        for carried in Carried::WITH_PORTS {
            let ports = displaced(side, carried, 7, COUNT);
            let different: BTreeSet<u16> = ports.iter().copied().collect();
            assert_eq!(different.len(), ports.len());
            // Chi squared over eighths of the range, seven degrees of freedom: above 24.3 once in a thousand.
            let mut parts = [0_u32; PARTS];
            for port in &ports {
                let part = usize::from(port - 1024) * PARTS / (65_536 - 1024);
                parts[part] += 1;
            }
            let expected = f64::from(COUNT) / 8.0;
            let chi: f64 = parts
                .iter()
                .map(|&found| (f64::from(found) - expected).powi(2) / expected)
                .sum();
            assert!(chi < 24.3, "{carried:?}: {parts:?}");
            // The next port does not follow from the last one: no step is more usual than others.
            let steps: BTreeSet<u16> = ports
                .windows(2)
                .map(|pair| pair[1].wrapping_sub(pair[0]))
                .collect();
            assert!(steps.len() > 240, "{carried:?}: {}", steps.len());
            // Nor from the inside one: parity is left to chance (RFC 7857 §8). Four standard deviations.
            let kept = (5000..)
                .zip(&ports)
                .filter(|(own, port)| (own ^ *port) & 1 == 0);
            let kept = kept.count();
            assert!((96..=160).contains(&kept), "{carried:?}: {kept}");
        }
    }
}

#[test]
fn another_seed_gives_other_ports_and_the_same_one_the_same() {
    for side in &SIDES {
        for carried in Carried::ALL {
            let first: Vec<u16> = (1..=16)
                .map(|seed| displaced(side, carried, seed, 1)[0])
                .collect();
            let different: BTreeSet<u16> = first.iter().copied().collect();
            assert!(different.len() >= 15, "{carried:?}: {first:?}");
            let again = displaced(side, carried, 3, 20);
            assert_eq!(again, displaced(side, carried, 3, 20), "{carried:?}");
        }
    }
}

#[test]
fn the_mappings_of_two_protocols_have_nothing_to_do_with_each_other() {
    for side in &SIDES {
        let mut lab = campus_online();
        // Each host has the port in one protocol only, and keeps it there.
        for (host, carried) in ["a", "b", "d"].into_iter().zip(Carried::ALL) {
            ask(
                &mut lab,
                side,
                carried,
                (host, 4000),
                (side.server, 53),
                true,
            );
        }
        for (host, carried) in ["a", "b", "d"].into_iter().zip(Carried::ALL) {
            answered(
                &mut lab,
                side,
                carried,
                (side.server, 53),
                (host, [4000, 4000]),
            );
        }
        // Nor does whom one has spoken to in one protocol let anybody in by another.
        let mut lab = campus_online();
        ask(
            &mut lab,
            side,
            Carried::Udp,
            ("a", 4000),
            (side.server, 53),
            true,
        );
        let [sent, _] = side.inward(&lab, side.server, "a");
        lab.send("wan", &Carried::Tcp.first(side, &sent, 53, 4000))
            .drops("wan", Cause::Unsolicited);
        ask(
            &mut lab,
            side,
            Carried::Tcp,
            ("a", 4000),
            (side.other_server, 53),
            true,
        );
        lab.send("wan", &Carried::Tcp.first(side, &sent, 53, 4000))
            .drops("wan", Cause::Filtered);
    }
}

/// A campus whose leg has two addresses of each family and lets in like this.
fn with_two_addresses(filtering: Filtering) -> Lab {
    campus_online_with(|plan| {
        plan.leg("wan")
            .address("192.0.2.2/24")
            .address("192.0.2.3/24")
            .address("2001:db8:2::2/64")
            .address("2001:db8:2::3/64")
            .gateway(SIDES[0].next_hop)
            .gateway(SIDES[1].next_hop)
            .filtering(filtering);
    })
}

#[test]
fn a_host_has_one_outside_address_whatever_it_speaks_and_to_whom() {
    for side in &SIDES {
        let mut lab = with_two_addresses(Filtering::default());
        for host in ["a", "b", "d"] {
            for (number, carried) in (0..).zip(Carried::ALL) {
                // Other ports for each host, so that each keeps its own.
                let port = 4000 + number + u16::from(host.as_bytes()[0]);
                ask(
                    &mut lab,
                    side,
                    carried,
                    (host, port),
                    (side.server, 53),
                    true,
                );
                ask(
                    &mut lab,
                    side,
                    carried,
                    (host, port),
                    (side.other_server, 53),
                    false,
                );
            }
        }
    }
}

#[test]
fn without_a_port_at_its_address_a_host_gets_none_at_another() {
    for side in &SIDES {
        for carried in Carried::WITH_PORTS {
            let mut lab = with_two_addresses(Filtering::default());
            let [sent, _] = side.outward(&lab, "a", side.server);
            let frames: Vec<_> = (1..1024)
                .map(|port| carried.first(side, &sent, port, 53))
                .collect();
            lab.send_all("a", &frames)
                .busy("wan")
                .opens(1023)
                .mappings(1023);
            let [sent, _] = side.outward(&lab, "b", side.server);
            let frame = carried.first(side, &sent, 500, 53);
            let told = side.told(
                &lab.from_gateway("b"),
                side.gateway,
                side.b,
                Told::Prohibited,
                &frame,
            );
            lab.send("b", &frame)
                .arrives("b", &told)
                .drops("b", Cause::PortsExhausted);
            // Its other ports are not what is used up.
            ask(
                &mut lab,
                side,
                carried,
                ("b", 5000),
                (side.server, 53),
                true,
            );
        }
    }
}

#[test]
fn who_may_connect_is_a_matter_of_filtering() {
    use Filtering::{Address, AddressPort, Endpoint};
    for side in &SIDES {
        for filtering in [Endpoint, Address, AddressPort] {
            let mut lab = with_two_addresses(filtering);
            let ports = [4000, 4000];
            let mut connection = Connection::new(&lab, side, "a", ports, (side.server, 80));
            connection.open(&mut lab);
            for (from, port, let_in) in [
                (side.server, 81, filtering != AddressPort),
                (side.other_server, 80, filtering == Endpoint),
                (side.other_server, 81, filtering == Endpoint),
            ] {
                let mut other = Connection::new(&lab, side, "a", ports, (from, port));
                if let_in {
                    other.back(&mut lab, TcpFlags::SYN, b"").opens(1);
                    other.out(&mut lab, SYN_ACK, b"").moves(1);
                    other.back(&mut lab, TcpFlags::ACK, b"hello").moves(1);
                } else {
                    let [sent, _] = other.segment_back(TcpFlags::SYN, b"");
                    lab.send("wan", &sent).drops("wan", Cause::Filtered);
                }
                // Another port of the same host is another matter.
                let [sent, _] = side.inward(&lab, from, "a");
                lab.send("wan", &Carried::Tcp.first(side, &sent, port, 4001))
                    .drops("wan", Cause::Unsolicited);
            }
        }
    }
}

#[test]
fn neither_mapping_nor_filtering_changes_with_the_load() {
    for side in &SIDES {
        for carried in Carried::WITH_PORTS {
            let mut lab = campus_online();
            let knock = |lab: &mut Lab| {
                let [sent, _] = side.inward(lab, side.other_server, "a");
                lab.send("wan", &carried.first(side, &sent, 53, 4000))
                    .drops("wan", Cause::Filtered);
            };
            ask(
                &mut lab,
                side,
                carried,
                ("a", 4000),
                (side.server, 53),
                true,
            );
            knock(&mut lab);
            for (host, first) in [("b", 10_000), ("d", 10_001), ("a", 20_000)] {
                let [sent, _] = side.outward(&lab, host, side.server);
                let frames: Vec<_> = (first..first + 500)
                    .map(|port| carried.first(side, &sent, port, 53))
                    .collect();
                lab.send_all(host, &frames)
                    .busy("wan")
                    .opens(500)
                    .mappings(500);
                knock(&mut lab);
                ask(
                    &mut lab,
                    side,
                    carried,
                    ("a", 4000),
                    (side.server, first),
                    false,
                );
            }
            // Nor when all of that has ended.
            let inside = side.a.parse().unwrap();
            let now = lab.now();
            lab.switch().flush_sessions(now, |session| {
                let original = session.tuple(heddle_nat::Direction::Original);
                (original.source, original.source_port) != (inside, 4000)
            });
            lab.accept();
            knock(&mut lab);
            ask(
                &mut lab,
                side,
                carried,
                ("a", 4000),
                (side.server, 1),
                false,
            );
        }
    }
}

/// A campus on which `d` serves a TCP port that is published.
fn serving() -> Lab {
    campus_online_with(|plan: &mut Plan| {
        for side in &SIDES {
            plan.publish("wan", Protocol::TCP, (side.leg, 8080), (side.d, 80));
        }
    })
}

#[test]
fn a_connection_by_the_outside_address_shows_the_outside_address() {
    for side in &SIDES {
        let mut lab = serving();
        // `a` by a port that it keeps, `b` by one that it does not.
        for (host, displaced) in [("a", false), ("b", true)] {
            let sent = lab.to_gateway(host).ip(side.host(host), side.leg);
            let arrived = lab.from_gateway("d").ip(side.leg, side.d).hop_limit(63);
            let syn = Carried::Tcp.first(side, &sent, 4000, 8080);
            let outside = if displaced {
                lab.send(host, &syn).busy("d").opens(1).mappings(1);
                lab.outside_port(Protocol::TCP, side.host(host), 4000)
            } else {
                lab.send(host, &syn)
                    .arrives("d", &Carried::Tcp.first(side, &arrived, 4000, 80))
                    .opens(1)
                    .mappings(1);
                4000
            };
            assert_eq!(outside != 4000, displaced);
            let answer = lab.to_gateway("d").ip(side.d, side.leg);
            let back = lab.from_gateway(host).ip(side.leg, side.host(host));
            lab.send("d", &Carried::Tcp.answer(side, &answer, 80, outside))
                .arrives(
                    host,
                    &Carried::Tcp.answer(side, &back.hop_limit(63), 8080, 4000),
                )
                .moves(1);
            // Who is not asked by its outside address does not answer by it.
            let direct = lab.to_gateway("d").ip(side.d, side.host(host));
            let frame = Carried::Tcp.answer(side, &direct, 80, 4000);
            let shown = lab.from_gateway(host).ip(side.d, side.host(host));
            lab.send("d", &frame).arrives(
                host,
                &Carried::Tcp.answer(side, &shown.hop_limit(63), 80, 4000),
            );
        }
    }
}

#[test]
fn what_a_payload_says_is_nobodys_business() {
    for side in &SIDES {
        let address = side.a.replace('.', ",");
        let sayings = [
            (Carried::Tcp, 21, format!("PORT {address},19,137\r\n")),
            (Carried::Tcp, 21, format!("EPRT |1|{}|5001|\r\n", side.a)),
            (
                Carried::Tcp,
                6667,
                format!("PRIVMSG b :\x01DCC SEND f {} 5001\x01\r\n", side.a),
            ),
            (
                Carried::Tcp,
                554,
                "SETUP rtsp://x/ RTSP/1.0\r\nTransport: RTP/AVP;client_port=5001\r\n\r\n"
                    .to_owned(),
            ),
            (
                Carried::Udp,
                5060,
                format!(
                    "INVITE sip:b SIP/2.0\r\nContact: <sip:a@{}:5001>\r\n\r\n",
                    side.a
                ),
            ),
            (Carried::Udp, 69, "\0\x01file\0octet\0".to_owned()),
            (Carried::Udp, 137, format!("nmb {}", side.a)),
        ];
        for (carried, service, said) in sayings {
            let mut lab = campus_online();
            let said = said.as_bytes();
            if carried == Carried::Tcp {
                let ports = [4000, 4000];
                let server = (side.server, service);
                let mut connection = Connection::new(&lab, side, "a", ports, server);
                connection.open(&mut lab);
                connection.out(&mut lab, TcpFlags::ACK, said).moves(1);
                connection.back(&mut lab, TcpFlags::ACK, said).moves(1);
            } else {
                let [sent, left] = side.outward(&lab, "a", side.server);
                lab.send("a", &sent.udp(4000, service, said))
                    .arrives("wan", &left.udp(4000, service, said))
                    .opens(1)
                    .mappings(1);
            }
            // Nobody gets in where it was said that somebody would be let in.
            for (protocol, from) in [
                (Carried::Tcp, side.server),
                (Carried::Udp, side.server),
                (Carried::Udp, side.other_server),
            ] {
                let [sent, _] = side.inward(&lab, from, "a");
                lab.send("wan", &protocol.first(side, &sent, 20, 5001))
                    .drops("wan", Cause::Unsolicited);
            }
        }
    }
}
