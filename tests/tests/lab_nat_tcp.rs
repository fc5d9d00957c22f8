//! TCP through the translation: connections from SYN to the end of memory (RFC 5382, RFC 7857).

#![expect(clippy::unwrap_used, reason = "a panic is how a case fails")]

use std::time::Duration;

use heddle_nat::Zone;
use heddle_nat::tcp::{CLOSING_TIMEOUT, ESTABLISHED_TIMEOUT, OPENING_TIMEOUT};
use heddle_switch::Cause;
use heddle_tests::lab::{
    Connection, FIN_ACK, Lab, SIDES, SYN_ACK, Side, Step, Told, campus_online, campus_online_with,
};
use heddle_wire::builder::{TcpHeader, offload};
use heddle_wire::{Family, Gso, Protocol, TcpFlags};

const SECOND: Duration = Duration::from_secs(1);
const ACK: TcpFlags = TcpFlags::ACK;
const SYN: TcpFlags = TcpFlags::SYN;
const RST: TcpFlags = TcpFlags::RST;
const RST_ACK: TcpFlags = RST.union(ACK);

fn connection(lab: &Lab, side: &Side) -> Connection {
    Connection::new(lab, side, "a", [4000, 4000], (side.server, 80))
}

/// A campus with an open connection.
fn connected(side: &Side) -> (Lab, Connection) {
    let mut lab = campus_online();
    let mut connection = connection(&lab, side);
    connection.open(&mut lab);
    (lab, connection)
}

/// So much time passes that nobody remembers the next hop.
fn pass(lab: &mut Lab, span: Duration) -> Step<'_> {
    SIDES.iter().fold(lab.advance(span), |step, side| {
        step.forgets_neighbour("wan", side.next_hop)
    })
}

fn ports_in_use(lab: &Lab, side: &Side) -> u32 {
    let leg = side.leg.parse().unwrap();
    lab.switch().nat().ports_in_use(Zone(1), leg, Protocol::TCP)
}

/// The connection is remembered for `span` more, and not longer; nothing is left of it then.
fn assert_ends_after(lab: &mut Lab, side: &Side, span: Duration) {
    pass(lab, span - SECOND);
    assert_eq!(ports_in_use(lab, side), 1);
    lab.advance(SECOND * 2).ends(1).mappings(-1);
    assert_eq!(ports_in_use(lab, side), 0);
    assert_eq!(lab.switch().nat().session_count(), 0);
}

#[test]
fn a_connection_opens_talks_and_closes_and_nothing_is_left() {
    for side in &SIDES {
        let (mut lab, mut connection) = connected(side);
        connection.out(&mut lab, ACK, b"GET /").moves(1);
        connection.back(&mut lab, ACK, &[7; 1400]).moves(1);
        connection.close(&mut lab);
        assert_ends_after(&mut lab, side, CLOSING_TIMEOUT);
        let [late, _] = connection.segment_back(ACK, b"late");
        lab.send("wan", &late).drops("wan", Cause::Unsolicited);
    }
}

#[test]
fn an_open_connection_may_be_silent_for_two_hours_and_four_minutes() {
    for side in &SIDES {
        let (mut lab, _) = connected(side);
        assert_ends_after(&mut lab, side, ESTABLISHED_TIMEOUT);
    }
}

#[test]
fn a_connection_that_nobody_answers_is_forgotten_after_four_minutes() {
    for side in &SIDES {
        let mut lab = campus_online();
        let mut connection = connection(&lab, side);
        connection.out(&mut lab, SYN, b"").opens(1).mappings(1);
        assert_ends_after(&mut lab, side, OPENING_TIMEOUT);
    }
}

#[test]
fn a_half_closed_connection_lives_as_long_as_an_open_one() {
    for side in &SIDES {
        let (mut lab, mut connection) = connected(side);
        connection.out(&mut lab, FIN_ACK, b"").moves(1);
        pass(&mut lab, Duration::from_secs(3600));
        connection
            .back(&mut lab, ACK, b"there is more to say")
            .moves(1);
        lab.advance(ESTABLISHED_TIMEOUT - SECOND);
        lab.advance(SECOND * 2).ends(1).mappings(-1);
    }
}

#[test]
fn simultaneous_open_is_an_open() {
    for side in &SIDES {
        let mut lab = campus_online();
        let mut connection = connection(&lab, side);
        connection.out(&mut lab, SYN, b"").opens(1).mappings(1);
        let [sent, arrived] = connection.segment_back(SYN, b"");
        lab.send("wan", &sent).arrives("a", &arrived).moves(1);
        connection.skip_back(1);
        let [sent, left] = connection.segment_out(ACK, b"");
        lab.send("a", &sent).arrives("wan", &left).moves(1);
        connection.back(&mut lab, ACK, b"hello").moves(1);
    }
}

#[test]
fn a_refused_connection_ends_in_four_minutes() {
    for side in &SIDES {
        let mut lab = campus_online();
        let mut connection = connection(&lab, side);
        connection.out(&mut lab, SYN, b"").opens(1).mappings(1);
        connection.back(&mut lab, RST_ACK, b"").moves(1);
        assert_ends_after(&mut lab, side, CLOSING_TIMEOUT);
    }
}

#[test]
fn an_exact_reset_ends_the_connection_in_four_minutes() {
    for side in &SIDES {
        let (mut lab, mut connection) = connected(side);
        connection.back(&mut lab, RST, b"").moves(1);
        assert_ends_after(&mut lab, side, CLOSING_TIMEOUT);
        let (mut lab, mut connection) = connected(side);
        connection.out(&mut lab, RST, b"").moves(1);
        assert_ends_after(&mut lab, side, CLOSING_TIMEOUT);
    }
}

#[test]
fn a_reset_that_is_only_plausible_passes_and_shortens_nothing() {
    for side in &SIDES {
        let (mut lab, mut connection) = connected(side);
        connection.skip_back(100);
        connection.back(&mut lab, RST, b"").moves(1);
        assert_ends_after(&mut lab, side, ESTABLISHED_TIMEOUT);
    }
}

#[test]
fn a_reset_from_nowhere_is_dropped_and_so_is_data() {
    for side in &SIDES {
        for flags in [RST, ACK] {
            let (mut lab, mut connection) = connected(side);
            connection.skip_back(1 << 30);
            let [sent, _] = connection.segment_back(flags, b"x");
            lab.send("wan", &sent).drops("wan", Cause::OutOfWindow);
            assert_ends_after(&mut lab, side, ESTABLISHED_TIMEOUT);
        }
    }
}

#[test]
fn a_connection_that_goes_on_after_a_reset_lives_on() {
    for side in &SIDES {
        let (mut lab, mut connection) = connected(side);
        connection.back(&mut lab, RST, b"").moves(1);
        // Whoever is alive says so (RFC 7857 §2.2).
        connection.out(&mut lab, ACK, b"still here").moves(1);
        assert_ends_after(&mut lab, side, ESTABLISHED_TIMEOUT);
    }
}

#[test]
fn the_same_ports_may_be_used_again_at_once() {
    for side in &SIDES {
        let (mut lab, mut connection) = connected(side);
        connection.close(&mut lab);
        connection.restart();
        connection.out(&mut lab, SYN, b"").moves(1);
        connection.back(&mut lab, SYN_ACK, b"").moves(1);
        connection.out(&mut lab, ACK, b"again").moves(1);
        assert_ends_after(&mut lab, side, ESTABLISHED_TIMEOUT);
    }
}

#[test]
fn an_echo_of_the_connection_before_does_not_disturb_the_one_that_has_its_ports() {
    for side in &SIDES {
        let (mut lab, mut connection) = connected(side);
        connection.close(&mut lab);
        let before = connection.clone();
        connection.restart();
        connection.out(&mut lab, SYN, b"").moves(1);
        // The server acknowledges the host's FIN once more. That is no answer to the SYN, so the host
        // refuses it (RFC 9293 §3.10.7.3), by a number that is of no use to anybody.
        let [sent, arrived] = before.segment_back(ACK, b"");
        lab.send("wan", &sent).arrives("a", &arrived).moves(1);
        let [sent, left] = before.segment_out(RST, b"");
        lab.send("a", &sent).arrives("wan", &left).moves(1);
        connection.back(&mut lab, SYN_ACK, b"").moves(1);
        connection.out(&mut lab, ACK, b"question").moves(1);
        connection.back(&mut lab, ACK, b"answer").moves(1);
        connection.close(&mut lab);
    }
}

#[test]
fn a_segment_without_a_connection_is_refused_by_a_reset() {
    for side in &SIDES {
        let mut lab = campus_online();
        let connection = connection(&lab, side);
        // RFC 9293 §3.5.2: what acknowledges is answered at that number, the rest acknowledged.
        for (flags, answered) in [
            (ACK, (RST, 0xffff_fff0, 0)),
            (SYN_ACK, (RST, 0xffff_fff0, 0)),
            (FIN_ACK, (RST, 0xffff_fff0, 0)),
            (TcpFlags(0), (RST_ACK, 0, 1004)),
            (TcpFlags::FIN, (RST_ACK, 0, 1005)),
        ] {
            let [sent, _] = connection.segment_out(flags, b"data");
            let (flags, sequence, acknowledgement) = answered;
            let reset = TcpHeader {
                source_port: 80,
                destination_port: 4000,
                sequence,
                acknowledgement,
                flags,
                window: 0,
                options: Vec::new(),
            };
            let link = lab.from_gateway("a");
            let answer = link.ip(side.server, side.a).id(0).dont_fragment();
            lab.send("a", &sent)
                .drops("a", Cause::NotSyn)
                .arrives("a", &answer.tcp(&reset, b""));
        }
        // Not a reset, which is never answered.
        let [sent, _] = connection.segment_out(RST, b"");
        lab.send("a", &sent).drops("a", Cause::NotSyn);
    }
}

#[test]
fn a_connection_from_outside_is_not_let_in() {
    for side in &SIDES {
        let mut lab = campus_online();
        let connection = connection(&lab, side);
        for flags in [SYN, ACK, SYN_ACK, RST, FIN_ACK] {
            let [sent, _] = connection.segment_back(flags, b"");
            lab.send("wan", &sent).drops("wan", Cause::Unsolicited);
        }
    }
}

#[test]
fn a_server_that_one_has_spoken_to_may_connect_by_default() {
    for side in &SIDES {
        let (mut lab, _) = connected(side);
        // Active FTP and its like (RFC 5382 §4.3 REQ-3): the same address, another port.
        let ports = [4000, 4000];
        let mut second = Connection::new(&lab, side, "a", ports, (side.server, 20));
        second.back(&mut lab, SYN, b"").opens(1);
        second.out(&mut lab, SYN_ACK, b"").moves(1);
        second.back(&mut lab, ACK, b"").moves(1);
        // But not by a segment that opens nothing.
        let third = Connection::new(&lab, side, "a", ports, (side.server, 21));
        let [sent, _] = third.segment_back(ACK, b"");
        let reset = lab.from_wan().ip(side.leg, side.server);
        let reset = reset.id(0).dont_fragment().tcp(
            &TcpHeader {
                source_port: 4000,
                destination_port: 21,
                sequence: 1000,
                acknowledgement: 0,
                flags: RST,
                window: 0,
                options: Vec::new(),
            },
            b"",
        );
        lab.send("wan", &sent)
            .drops("wan", Cause::NotSyn)
            .arrives("wan", &reset);
    }
}

/// A campus where `a` is on a link of 9000 octets and the way out on one of 1500.
fn wide() -> Lab {
    campus_online_with(|plan| {
        plan.host("a", "blue")
            .address(SIDES[0].a)
            .address(SIDES[1].a)
            .mtu(9000);
    })
}

fn headers(side: &Side) -> u16 {
    match side.family {
        Family::V4 => 40,
        Family::V6 => 60,
    }
}

#[test]
fn where_two_links_differ_a_syn_promises_no_more_than_both_carry() {
    for side in &SIDES {
        let mut lab = wide();
        let largest = 1500 - headers(side);
        let syn = |ports: (u16, u16), flags: TcpFlags, mss: u16| TcpHeader {
            source_port: ports.0,
            destination_port: ports.1,
            sequence: if flags == SYN { 1000 } else { 7000 },
            acknowledgement: if flags == SYN { 0 } else { 1001 },
            flags,
            options: [&[2, 4][..], &mss.to_be_bytes()].concat(),
            ..TcpHeader::default()
        };
        let [sent, left] = side.outward(&lab, "a", side.server);
        lab.send("a", &sent.tcp(&syn((4000, 80), SYN, 8960), b""))
            .arrives("wan", &left.tcp(&syn((4000, 80), SYN, largest), b""))
            .opens(1)
            .mappings(1);
        let [sent, arrived] = side.inward(&lab, side.server, "a");
        lab.send("wan", &sent.tcp(&syn((80, 4000), SYN_ACK, 8960), b""))
            .arrives("a", &arrived.tcp(&syn((80, 4000), SYN_ACK, largest), b""))
            .moves(1);
        // A smaller promise is kept.
        let [sent, left] = side.outward(&lab, "a", side.server);
        lab.send("a", &sent.tcp(&syn((4001, 80), SYN, 600), b""))
            .arrives("wan", &left.tcp(&syn((4001, 80), SYN, 600), b""))
            .opens(1)
            .mappings(1);
    }
}

#[test]
fn super_frames_pass_the_translation_whole_and_so_do_their_answers() {
    for side in &SIDES {
        let (mut lab, connection) = connected(side);
        let kind = match side.family {
            Family::V4 => Gso::TcpV4,
            Family::V6 => Gso::TcpV6,
        };
        for gso in [None, Some((kind, 1400))] {
            let len = if gso.is_some() { 60_000 } else { 1000 };
            let data = vec![7; len];
            let [mut sent, mut left] = connection.segment_out(ACK, &data);
            let vnet = offload(&mut sent, gso);
            assert_eq!(offload(&mut left, gso), vnet);
            lab.send_with("a", &vnet, &sent)
                .arrives_with("wan", &vnet, &left)
                .moves(1);
            let [mut sent, mut arrived] = connection.segment_back(ACK, &data);
            let vnet = offload(&mut sent, gso);
            assert_eq!(offload(&mut arrived, gso), vnet);
            lab.send_with("wan", &vnet, &sent)
                .arrives_with("a", &vnet, &arrived)
                .moves(1);
        }
    }
}

#[test]
fn a_super_frame_is_too_big_when_its_segments_are() {
    for side in &SIDES {
        let mut lab = wide();
        let mut connection = connection(&lab, side);
        connection.open(&mut lab);
        let kind = match side.family {
            Family::V4 => Gso::TcpV4,
            Family::V6 => Gso::TcpV6,
        };
        let fits = 1500 - headers(side);
        let whole = |place: usize, packet: &heddle_wire::builder::Packet| {
            let header = TcpHeader {
                source_port: 4000,
                destination_port: 80,
                sequence: 1001,
                acknowledgement: 0xffff_fff1,
                ..TcpHeader::default()
            };
            let packet = packet.clone().dont_fragment();
            packet.tcp(&header, &vec![u8::try_from(place).unwrap(); 30_000])
        };
        let [sent, left] = side.outward(&lab, "a", side.server);
        let mut frame = whole(0, &sent);
        let too_big = offload(&mut frame, Some((kind, fits + 1)));
        let told = side.told(
            &lab.from_gateway("a"),
            side.gateway,
            side.a,
            Told::TooBig(1500),
            &frame,
        );
        lab.send_with("a", &too_big, &frame)
            .drops("a", Cause::PacketTooBig)
            .arrives("a", &told);
        let mut frame = whole(0, &sent);
        let vnet = offload(&mut frame, Some((kind, fits)));
        let mut there = whole(0, &left);
        assert_eq!(offload(&mut there, Some((kind, fits))), vnet);
        lab.send_with("a", &vnet, &frame)
            .arrives_with("wan", &vnet, &there)
            .moves(1);
    }
}

#[test]
fn a_leg_without_offloads_gets_finished_segments() {
    let side = &SIDES[0];
    let mut lab = campus_online_with(|plan| {
        plan.leg("wan")
            .address("192.0.2.2/24")
            .address("2001:db8:2::2/64")
            .gateway(SIDES[0].next_hop)
            .gateway(SIDES[1].next_hop)
            .plain();
    });
    let mut connection = connection(&lab, side);
    connection.open(&mut lab);
    let [mut sent, left] = connection.segment_out(ACK, &[5; 700]);
    let vnet = offload(&mut sent, None);
    lab.send_with("a", &vnet, &sent)
        .arrives_cut("wan", left.len(), &[left])
        .moves(1);
}

#[test]
fn a_syn_that_the_full_leg_loses_leaves_nothing_behind() {
    for side in &SIDES {
        let mut lab = campus_online_with(|plan| {
            plan.leg("wan")
                .address("192.0.2.2/24")
                .address("2001:db8:2::2/64")
                .gateway(SIDES[0].next_hop)
                .gateway(SIDES[1].next_hop)
                .queue(1);
        });
        let [first, left] = connection(&lab, side).segment_out(SYN, b"");
        let ports = [4001, 4001];
        let second = Connection::new(&lab, side, "a", ports, (side.server, 80));
        let [lost, _] = second.segment_out(SYN, b"");
        lab.send_all("a", &[first, lost])
            .arrives("wan", &left)
            .opens(1)
            .mappings(1)
            .drops("a", Cause::TransmitQueueFull);
        // Its port does not rest either: somebody else has it at once.
        let mut other = Connection::new(&lab, side, "b", ports, (side.server, 80));
        other.out(&mut lab, SYN, b"").opens(1).mappings(1);
    }
}
