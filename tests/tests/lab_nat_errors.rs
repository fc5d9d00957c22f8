//! ICMP errors through the translation, as they really come: cut short, with options in the quote,
//! with more than a quote, in numbers (RFC 5508 §4 to §7, RFC 4884, RFC 4890, RFC 5927).

use heddle_nat::Limits;
use heddle_switch::Cause;
use heddle_tests::lab::{
    Carried, Connection, Lab, SIDES, SYN_ACK, Side, Told, campus, campus_online, campus_online_with,
};
use heddle_wire::builder::Packet;
use heddle_wire::{Family, Protocol, Summary, TcpFlags};

/// Every error that says what became of a packet.
const ERRORS: [Told; 7] = [
    Told::TimeExceeded,
    Told::NetworkUnreachable,
    Told::HostUnreachable,
    Told::Prohibited,
    Told::PortUnreachable,
    Told::ProtocolUnreachable(6),
    Told::TooBig(1280),
];

/// Octets in front of a quote's upper layer: of Ethernet, and of IP without options.
const ETHERNET: usize = 14;

fn ip_len(side: &Side) -> usize {
    match side.family {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

/// What `a` has sent, as a router behind heddle has seen it and would quote it to `a`.
fn as_quoted(frame: &[u8]) -> Vec<u8> {
    let mut quoted = frame.to_vec();
    let summary = Summary::parse(&quoted).expect("a test sends what is well-formed");
    let ip = *summary.ip().expect("a test sends IP");
    heddle_wire::decrement_hop_limit(&mut quoted, &ip);
    quoted[ETHERNET..].to_vec()
}

/// `a` sends a datagram made of this packet through a new mapping: as `a` will find it quoted, and as
/// a router outside quotes it.
fn datagram(lab: &mut Lab, side: &Side, change: impl Fn(Packet) -> Packet) -> [Vec<u8>; 2] {
    let [sent, left] = side.outward(lab, "a", side.server).map(change);
    let frames = [
        sent.udp(4000, 5000, &[7; 40]),
        left.udp(4000, 5000, &[7; 40]),
    ];
    lab.send("a", &frames[0])
        .arrives("wan", &frames[1])
        .opens(1)
        .mappings(1);
    [as_quoted(&frames[0]), frames[1][ETHERNET..].to_vec()]
}

/// A router outside sends an error with these octets behind its header; `a` gets it with those.
fn tell(lab: &mut Lab, side: &Side, told: Told, [here, there]: [&[u8]; 2]) {
    let (kind, code, word) = told.message(side.family);
    tell_with(lab, side, (kind, code, word), [here, there]);
}

fn tell_with(lab: &mut Lab, side: &Side, message: (u8, u8, u32), [here, there]: [&[u8]; 2]) {
    let (kind, code, word) = message;
    let [sent, arrived] = side.inward(lab, side.other_server, "a");
    lab.send("wan", &sent.icmp(kind, code, word, there))
        .arrives("a", &arrived.icmp(kind, code, word, here));
}

#[test]
fn a_quote_may_have_options() {
    for side in &SIDES {
        let mut lab = campus_online();
        let quotes = datagram(&mut lab, side, |packet| match side.family {
            // A recorded route; destination options of nothing but padding.
            Family::V4 => packet.options(&[7, 7, 4, 0, 0, 0, 0, 0]),
            Family::V6 => packet.extension(Protocol::DESTINATION_OPTIONS, &[0, 1, 4, 0, 0, 0, 0]),
        });
        for told in ERRORS {
            tell(&mut lab, side, told, [&quotes[0], &quotes[1]]);
        }
    }
}

#[test]
fn a_quote_may_be_cut_behind_eight_octets() {
    for side in &SIDES {
        for carried in Carried::ALL {
            let mut lab = campus_online();
            let frames = side
                .outward(&lab, "a", side.server)
                .map(|packet| carried.first(side, &packet, 4000, 5000));
            lab.send("a", &frames[0])
                .arrives("wan", &frames[1])
                .opens(1)
                .mappings(1);
            let len = ip_len(side) + 8;
            let quotes = [as_quoted(&frames[0]), frames[1][ETHERNET..].to_vec()];
            for told in ERRORS {
                tell(&mut lab, side, told, [&quotes[0][..len], &quotes[1][..len]]);
            }
            // With less nobody can say whom it is about.
            let (kind, code, word) = Told::PortUnreachable.message(side.family);
            let [sent, _] = side.inward(&lab, side.other_server, "a");
            let frame = sent.icmp(kind, code, word, &quotes[1][..len - 1]);
            lab.send("wan", &frame)
                .drops("wan", heddle_wire::Malformed::EmbeddedTruncated);
        }
    }
}

#[test]
fn a_quotes_transport_checksum_is_not_looked_at() {
    for side in &SIDES {
        let mut lab = campus_online();
        let mut quotes = datagram(&mut lab, side, |packet| packet);
        // Corrupted on the way, in the same octet of both.
        for quote in &mut quotes {
            *quote.last_mut().expect("it has data") ^= 0x55;
        }
        for told in ERRORS {
            tell(&mut lab, side, told, [&quotes[0], &quotes[1]]);
        }
    }
}

#[test]
fn what_stands_behind_a_quote_is_passed_on() {
    // An extension structure with one object of unknown class: version 2, checksum, length, class, type.
    const EXTENSION: [u8; 12] = [0x20, 0, 0, 0, 0, 8, 0xf7, 1, 0xde, 0xad, 0xbe, 0xef];
    for side in &SIDES {
        let mut lab = campus_online();
        let quotes = datagram(&mut lab, side, |packet| packet);
        // The quote is filled up to 128 octets and its length given, in words of four octets or eight
        // (RFC 4884 §3).
        let word = match side.family {
            Family::V4 => (128 / 4) << 16,
            Family::V6 => (128 / 8) << 24,
        };
        let extended = quotes.map(|mut quote| {
            quote.resize(128, 0);
            quote.extend(EXTENSION);
            quote
        });
        for told in [Told::TimeExceeded, Told::PortUnreachable] {
            let (kind, code, _) = told.message(side.family);
            let content = [&extended[0][..], &extended[1][..]];
            tell_with(&mut lab, side, (kind, code, word), content);
        }
    }
}

#[test]
fn an_error_about_what_may_be_cut_quotes_the_number_that_it_left_with() {
    let (side, mut lab) = (&SIDES[0], campus_online());
    let [sent, left] = side
        .outward(&lab, "a", side.server)
        .map(Packet::may_fragment);
    lab.send("a", &sent.udp(4000, 5000, &[7; 40]))
        .arrives_renumbered("wan", &[left.udp(4000, 5000, &[7; 40])])
        .opens(1)
        .mappings(1);
    // Whatever that was: nothing is remembered of it, and nobody looks for it in a quote.
    let quotes = [sent, left].map(|packet| packet.id(0x9999).udp(4000, 5000, &[7; 40]));
    let quotes = [as_quoted(&quotes[0]), quotes[1][ETHERNET..].to_vec()];
    for told in ERRORS {
        tell(&mut lab, side, told, [&quotes[0], &quotes[1]]);
    }
}

#[test]
fn an_error_comes_from_whichever_router_met_it() {
    for side in &SIDES {
        let mut lab = campus_online();
        let [here, there] = datagram(&mut lab, side, |packet| packet);
        let (kind, code, word) = Told::TimeExceeded.message(side.family);
        for router in [side.next_hop, side.on_link, side.server, side.other_server] {
            let [sent, arrived] = side.inward(&lab, router, "a");
            lab.send("wan", &sent.icmp(kind, code, word, &there))
                .arrives("a", &arrived.icmp(kind, code, word, &here));
        }
    }
}

#[test]
fn no_packet_too_big_is_held_back_however_many_there_are() {
    for side in &SIDES {
        let mut lab = campus_online();
        let [here, there] = datagram(&mut lab, side, |packet| packet);
        let (kind, code, word) = Told::TooBig(1400).message(side.family);
        let [sent, arrived] = side.inward(&lab, side.other_server, "a");
        let frame = sent.icmp(kind, code, word, &there);
        let arrived = arrived.icmp(kind, code, word, &here);
        // All at one moment: no rate that could be exceeded.
        let step = lab.send_all("wan", &vec![frame; 1000]);
        drop((0..1000).fold(step, |step, _| step.arrives("a", &arrived)));
    }
}

#[test]
fn an_error_about_a_connection_ends_nothing_opening_or_open() {
    for side in &SIDES {
        for told in ERRORS {
            let mut lab = campus_online();
            let ports = [4000, 4000];
            let mut connection = Connection::new(&lab, side, "a", ports, (side.server, 80));
            // About the SYN: it is answered all the same.
            let [sent, left] = connection.segment_out(TcpFlags::SYN, b"");
            connection
                .out(&mut lab, TcpFlags::SYN, b"")
                .opens(1)
                .mappings(1);
            let quotes = [as_quoted(&sent), left[ETHERNET..].to_vec()];
            tell(&mut lab, side, told, [&quotes[0], &quotes[1]]);
            connection.back(&mut lab, SYN_ACK, b"").moves(1);
            connection.out(&mut lab, TcpFlags::ACK, b"").moves(1);
            // About data in flight: it is acknowledged all the same.
            let [sent, left] = connection.segment_out(TcpFlags::ACK, b"data");
            connection.out(&mut lab, TcpFlags::ACK, b"data").moves(1);
            let quotes = [as_quoted(&sent), left[ETHERNET..].to_vec()];
            tell(&mut lab, side, told, [&quotes[0], &quotes[1]]);
            connection.back(&mut lab, TcpFlags::ACK, b"got it").moves(1);
            connection.out(&mut lab, TcpFlags::ACK, b"fine").moves(1);
            // About what was acknowledged: nobody met it any more.
            let (kind, code, word) = told.message(side.family);
            let [router, _] = side.inward(&lab, side.other_server, "a");
            let old = router.icmp(kind, code, word, &quotes[1]);
            connection.back(&mut lab, TcpFlags::ACK, b"").moves(1);
            lab.send("wan", &old).drops("wan", Cause::ErrorUnmatched);
        }
    }
}

#[test]
fn an_error_about_a_connection_by_the_outside_address_arrives() {
    for side in &SIDES {
        let mut lab = campus_online_with(|plan| {
            for side in &SIDES {
                plan.publish("wan", Protocol::TCP, (side.leg, 8080), (side.d, 80));
            }
        });
        let sent = lab.to_gateway("a").ip(side.a, side.leg);
        let sent = Carried::Tcp.first(side, &sent, 4000, 8080);
        let arrived = lab.from_gateway("d").ip(side.leg, side.d).hop_limit(63);
        let arrived = Carried::Tcp.first(side, &arrived, 4000, 80);
        lab.send("a", &sent)
            .arrives("d", &arrived)
            .opens(1)
            .mappings(1);
        for told in ERRORS {
            let (kind, code, word) = told.message(side.family);
            let refused = lab.to_gateway("d").ip(side.d, side.leg);
            let there = lab.from_gateway("a").ip(side.leg, side.a).hop_limit(63);
            let about = as_quoted(&sent);
            lab.send("d", &refused.icmp(kind, code, word, &arrived[ETHERNET..]))
                .arrives("a", &there.icmp(kind, code, word, &about));
        }
    }
}

#[test]
fn a_query_that_finds_no_room_is_refused() {
    for side in &SIDES {
        let mut lab = campus_online_with(|plan| {
            plan.sessions(Limits {
                sessions_per_owner: 2,
                ..Limits::undivided(100)
            });
        });
        for id in [1, 2] {
            let [sent, left] = side.outward(&lab, "a", side.server);
            lab.send("a", &Carried::Query.first(side, &sent, id, 0))
                .arrives("wan", &Carried::Query.first(side, &left, id, 0))
                .opens(1)
                .mappings(1);
            let [sent, arrived] = side.inward(&lab, side.server, "a");
            lab.send("wan", &Carried::Query.answer(side, &sent, 0, id))
                .arrives("a", &Carried::Query.answer(side, &arrived, 0, id))
                .moves(1);
        }
        let [sent, _] = side.outward(&lab, "a", side.server);
        let frame = Carried::Query.first(side, &sent, 3, 0);
        let told = side.told(
            &lab.from_gateway("a"),
            side.gateway,
            side.a,
            Told::Prohibited,
            &frame,
        );
        lab.send("a", &frame)
            .arrives("a", &told)
            .drops("a", Cause::EndpointQuota);
        // Others still ask.
        let [sent, left] = side.outward(&lab, "b", side.server);
        lab.send("b", &Carried::Query.first(side, &sent, 3, 0))
            .arrives("wan", &Carried::Query.first(side, &left, 3, 0))
            .opens(1)
            .mappings(1);
    }
}

#[test]
fn an_error_quotes_as_much_as_it_may_and_no_more() {
    for side in &SIDES {
        let mut lab = campus();
        let packet = lab.to_gateway("a").ip(side.a, side.nobody);
        let frame = packet.udp(1, 2, &[7; 1400]);
        let told = side.told(
            &lab.from_gateway("a"),
            side.gateway,
            side.a,
            Told::HostUnreachable,
            &frame,
        );
        // RFC 1812 §4.3.2.3, RFC 4443 §2.4 c.
        let most = match side.family {
            Family::V4 => 576,
            Family::V6 => 1280,
        };
        assert_eq!(told.len() - ETHERNET, most);
        lab.send("a", &frame)
            .arrives("a", &told)
            .drops("a", Cause::HostUnknown);
    }
}
