//! Every way a frame can end, made to happen: a reason that nothing can bring about would be a counter
//! that lies.

#![expect(clippy::unwrap_used, reason = "a panic is how a case fails")]

mod fragments;
mod frames;

use std::collections::BTreeSet;
use std::time::Duration;

use heddle_nat::Limits;
use heddle_nat::filter::{Rejection, Verdict};
use heddle_switch::{Cause, DropReason, Event, NeighbourState};
use heddle_tests::lab::{
    Connection, Lab, Name, SIDES, Side, campus, campus_online, campus_online_with, rule,
};
use heddle_wire::builder::{Packet, TcpHeader};
use heddle_wire::{Arp, EtherType, MacAddr, Protocol, TcpFlags, VnetHeader};

const V4: &Side = &SIDES[0];
const V6: &Side = &SIDES[1];

/// The reasons that have occurred.
#[derive(Debug, Default)]
struct Ends(BTreeSet<String>);

impl Ends {
    /// A frame of a host ends for this reason; the step checks that it does, and for no other.
    fn frame(&mut self, lab: Lab, from: Name, frame: &[u8], reason: impl Into<DropReason>) {
        self.frame_with(lab, from, &VnetHeader::NONE, frame, reason);
    }

    fn frame_with(
        &mut self,
        mut lab: Lab,
        from: Name,
        header: &VnetHeader,
        frame: &[u8],
        reason: impl Into<DropReason>,
    ) {
        let reason = reason.into();
        // Whoever sent it may be told, which other tests look at.
        lab.send_with(from, header, frame)
            .busy(from)
            .drops(from, reason);
        self.seen(reason);
    }

    fn seen(&mut self, reason: impl Into<DropReason>) {
        self.0.insert(reason.into().name());
    }
}

#[test]
fn every_reason_of_the_table_occurs() {
    let mut ends = Ends::default();
    frames::malformed(&mut ends);
    frames::offloads(&mut ends);
    forgeries(&mut ends);
    bridge(&mut ends);
    router(&mut ends);
    nowhere(&mut ends);
    gateway(&mut ends);
    leg(&mut ends);
    translation(&mut ends);
    fragments::all(&mut ends);
    exhaustion(&mut ends);
    conflict(&mut ends);
    filter(&mut ends);
    neighbours(&mut ends);
    links(&mut ends);
    let table: BTreeSet<String> = DropReason::all().map(DropReason::name).collect();
    let missing: Vec<_> = table.difference(&ends.0).collect();
    assert!(missing.is_empty(), "never seen: {missing:?}");
    assert_eq!(table, ends.0);
}

/// A packet from `a` to `b`.
fn packet(side: &Side) -> Packet {
    campus().link("a", "b").ip(side.a, side.b)
}

/// A frame with some of its bytes changed.
fn changed(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

fn forgeries(ends: &mut Ends) {
    let lab = campus();
    let (a, b) = (lab.mac("a"), lab.mac("b"));
    let link = lab.link("a", "b");
    let from = |mac| heddle_wire::builder::Link::new(mac, b).frame(EtherType(0x88b5), b"");
    let claim = Arp {
        operation: Arp::REPLY,
        sender_mac: a,
        sender: V4.c.parse().unwrap(),
        target_mac: b,
        target: V4.b.parse().unwrap(),
    };
    let atomic = link.ip(V6.a, V6.b).hop_limit(255).fragment(1, 0, false);
    let snap = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0, 0x45, 0];
    let cases = [
        (from(MacAddr::BROADCAST), Cause::SourceMacInvalid),
        (from(lab.mac("c")), Cause::SourceMacSpoofed),
        (link.arp(&claim), Cause::ArpSpoofed),
        (link.ip(V4.c, V4.b).udp(1, 2, b""), Cause::AddressSpoofed),
        (link.ip(V6.c, V6.b).udp(1, 2, b""), Cause::AddressSpoofed),
        (
            link.neighbour_advertisement(V6.a, V6.b, V6.c, 0),
            Cause::NeighbourSpoofed,
        ),
        (atomic.icmp(135, 0, 0, &[0; 16]), Cause::NeighbourFragmented),
        (
            link.ip(V6.a, V6.b).icmp(134, 0, 0, &[0; 8]),
            Cause::RouterImpersonated,
        ),
        (
            link.ip(V4.a, V4.b).icmp(9, 0, 0, &[0; 8]),
            Cause::RouterImpersonated,
        ),
        (
            link.ip(V4.a, V4.b).udp(67, 68, b""),
            Cause::DhcpServerImpersonated,
        ),
        (
            link.ip(V6.a, V6.b).udp(547, 546, b""),
            Cause::DhcpServerImpersonated,
        ),
        (link.frame(EtherType(10), &snap), Cause::SnapEncapsulated),
    ];
    for (frame, reason) in cases {
        ends.frame(campus(), "a", &frame, reason);
    }
}

fn bridge(ends: &mut Ends) {
    let mut stormy = Lab::new(|plan| {
        plan.network("n").subnet("10.1.0.0/24").storm_control(1);
        plan.host("a", "n").address(V4.a);
        plan.host("b", "n").address(V4.b);
    });
    let frame = stormy.to_all("a").frame(EtherType(0x88b5), b"");
    stormy.send("a", &frame).arrives("b", &frame);
    ends.frame(stormy, "a", &frame, Cause::StormControl);
    let only_v4 = Lab::new(|plan| {
        plan.network("n").subnet("10.1.0.0/24");
        plan.host("a", "n").address(V4.a);
    });
    let frame = packet(V6).udp(1, 2, b"");
    ends.frame(only_v4, "a", &frame, Cause::FamilyDisabled);
    let routed = Lab::new(|plan| {
        plan.network("n").subnet("10.1.0.0/24").l3();
        plan.host("a", "n").address(V4.a);
    });
    let frame = routed.to_all("a").frame(EtherType(0x88b5), b"");
    ends.frame(routed, "a", &frame, Cause::NotRouted);
    let lab = campus();
    let control = MacAddr::new([0x01, 0x80, 0xc2, 0, 0, 2]);
    let control = heddle_wire::builder::Link::new(lab.mac("a"), control);
    let frame = control.frame(EtherType(0x88b5), b"");
    ends.frame(lab, "a", &frame, Cause::LinkLocalControl);
    let lab = campus();
    let frame = lab.link("a", "a").frame(EtherType(0x88b5), b"");
    ends.frame(lab, "a", &frame, Cause::SamePort);
    let lab = campus();
    let frame = lab.to_all("e").frame(EtherType(0x88b5), b"");
    ends.frame(lab, "e", &frame, Cause::NobodyElse);
}

/// Packets that no router may forward.
fn router(ends: &mut Ends) {
    let lab = campus();
    let out = lab.to_gateway("a");
    let to_d = |side: &Side| out.ip(side.a, side.d);
    let type_0 = [&[2, 0, 1, 0, 0, 0, 0][..], &[0; 16]].concat();
    let cases = [
        (
            changed(to_d(V4).udp(1, 2, b""), 24, &[0xde, 0xad]),
            Cause::HeaderChecksum,
        ),
        (
            out.ip(heddle_switch::link_local(lab.mac("a")), "fd00:2::2")
                .udp(1, 2, b""),
            Cause::MartianSource,
        ),
        (
            out.ip(V4.a, "127.0.0.1").udp(1, 2, b""),
            Cause::MartianDestination,
        ),
        (
            out.ip(V6.a, "::1").udp(1, 2, b""),
            Cause::MartianDestination,
        ),
        (
            to_d(V4)
                .options(&[131, 7, 4, 10, 2, 0, 2, 0])
                .udp(1, 2, b""),
            Cause::SourceRouted,
        ),
        (
            to_d(V6)
                .extension(Protocol::ROUTING, &type_0)
                .udp(1, 2, b""),
            Cause::SourceRouted,
        ),
        (
            out.ip(V4.a, "10.2.0.255").udp(1, 2, b""),
            Cause::BroadcastNotRouted,
        ),
        (
            out.ip(V4.a, "239.1.2.3").udp(1, 2, b""),
            Cause::MulticastNotRouted,
        ),
        (
            out.ip(V6.a, "ff0e::1").udp(1, 2, b""),
            Cause::MulticastNotRouted,
        ),
        (
            to_d(V4).hop_limit(1).udp(1, 2, b""),
            Cause::HopLimitExceeded,
        ),
        (
            to_d(V6).hop_limit(1).udp(1, 2, b""),
            Cause::HopLimitExceeded,
        ),
        (
            to_d(V4).dont_fragment().udp(1, 2, &[0; 1500]),
            Cause::PacketTooBig,
        ),
        (to_d(V6).udp(1, 2, &[0; 1500]), Cause::PacketTooBig),
    ];
    for (frame, reason) in cases {
        ends.frame(campus(), "a", &frame, reason);
    }
}

/// Packets that lead nowhere.
fn nowhere(ends: &mut Ends) {
    for side in &SIDES {
        let out = campus().to_gateway("a");
        for (to, reason) in [
            (side.e, Cause::NetworkIsolated),
            (side.nobody, Cause::HostUnknown),
        ] {
            let frame = out.ip(side.a, to).udp(1, 2, b"");
            ends.frame(campus(), "a", &frame, reason);
        }
        for (address, reason) in [(None, Cause::NoRoute), (Some(()), Cause::NoOutsideAddress)] {
            let lab = Lab::new(|plan| {
                let network = plan.network("n");
                network.subnet("10.1.0.0/24").subnet("fd00:1::/64");
                if address.is_some() {
                    network.uplink("wan");
                    // Of neither family.
                    plan.leg("wan");
                }
                plan.host("a", "n").address(V4.a).address(V6.a);
            });
            let frame = lab.to_gateway("a").ip(side.a, side.server).udp(1, 2, b"");
            ends.frame(lab, "a", &frame, reason);
        }
    }
}

fn gateway(ends: &mut Ends) {
    for side in &SIDES {
        let own = campus().to_gateway("a").ip(side.a, side.gateway);
        let mut corrupt = own.udp(1, 2, b"data");
        *corrupt.last_mut().unwrap() ^= 1;
        let cases = [
            (own.udp(1, 2, b""), Cause::GatewayRefused),
            (own.icmp(side.echo().1, 0, 1, b""), Cause::GatewayIgnored),
            (corrupt, Cause::MessageChecksum),
        ];
        for (frame, reason) in cases {
            ends.frame(campus(), "a", &frame, reason);
        }
    }
}

fn leg(ends: &mut Ends) {
    for side in &SIDES {
        let to_wan = campus().to_wan();
        for (from, to, reason) in [
            (side.server, side.other_server, Cause::NotForLeg),
            (side.server, side.a, Cause::InsideFromOutside),
            (side.a, side.leg, Cause::InsideFromOutside),
        ] {
            let frame = to_wan.ip(from, to).udp(1, 2, b"");
            ends.frame(campus(), "wan", &frame, reason);
        }
    }
}

fn translation(ends: &mut Ends) {
    for side in &SIDES {
        let lab = campus_online();
        let [out, _] = side.outward(&lab, "a", side.server);
        let [back, _] = side.inward(&lab, side.server, "a");
        let (kind, code, word) = heddle_tests::lab::Told::PortUnreachable.message(side.family);
        let small = heddle_tests::lab::Told::TooBig(575).message(side.family);
        let stranger = lab.from_wan().ip(side.leg, side.server).udp(1, 2, b"");
        let cases = [
            (
                "a",
                out.frame(Protocol::SCTP, &[0; 12]),
                Cause::ProtocolUntranslatable,
            ),
            ("a", out.udp(0, 2, b""), Cause::PortZero),
            ("a", out.tcp(&TcpHeader::default(), b""), Cause::NotSyn),
            ("wan", back.udp(1, 2, b""), Cause::Unsolicited),
            (
                "wan",
                back.icmp_error(kind, code, word, &stranger),
                Cause::ErrorUnmatched,
            ),
            (
                "wan",
                back.icmp_error(small.0, small.1, small.2, &stranger),
                Cause::PathMtuImplausible,
            ),
        ];
        for (from, frame, reason) in cases {
            ends.frame(campus_online(), from, &frame, reason);
        }

        let mut lab = campus_online();
        let mut connection = Connection::new(&lab, side, "a", [4000, 4000], (side.server, 80));
        connection.open(&mut lab);
        connection.skip_back(1 << 30);
        let [frame, _] = connection.segment_back(TcpFlags::ACK, b"");
        ends.frame(lab, "wan", &frame, Cause::OutOfWindow);

        let lab = asked(campus_online(), side, 4000);
        let [back, _] = side.inward(&lab, side.other_server, "a");
        let frame = back.udp(7000, 4000, b"");
        ends.frame(lab, "wan", &frame, Cause::Filtered);
    }
}

/// `a` has asked the server something from a port, and was answered.
fn asked(mut lab: Lab, side: &Side, port: u16) -> Lab {
    let [sent, left] = side.outward(&lab, "a", side.server);
    lab.send("a", &sent.udp(port, 7000, b""))
        .arrives("wan", &left.udp(port, 7000, b""))
        .opens(1)
        .mappings(1);
    let [sent, arrived] = side.inward(&lab, side.server, "a");
    lab.send("wan", &sent.udp(7000, port, b""))
        .arrives("a", &arrived.udp(7000, port, b""))
        .moves(1);
    lab
}

fn exhaustion(ends: &mut Ends) {
    for side in &SIDES {
        let room_for = |sessions, sessions_per_owner| {
            let lab = campus_online_with(|plan| {
                plan.sessions(Limits {
                    sessions_per_owner,
                    ..Limits::undivided(sessions)
                });
            });
            asked(asked(lab, side, 4000), side, 4001)
        };
        for (limits, from, reason) in [
            ((9, 2), "a", Cause::EndpointQuota),
            ((2, 9), "b", Cause::SessionsExhausted),
        ] {
            let lab = room_for(limits.0, limits.1);
            let [out, _] = side.outward(&lab, from, side.server);
            let frame = out.udp(4002, 7000, b"");
            ends.frame(lab, from, &frame, reason);
        }
        // All system ports, which stand in for each other only.
        let mut lab = campus_online();
        let [out, _] = side.outward(&lab, "a", side.server);
        let frames: Vec<_> = (1..1024).map(|port| out.udp(port, 53, b"")).collect();
        lab.send_all("a", &frames)
            .busy("wan")
            .opens(1023)
            .mappings(1023);
        let [out, _] = side.outward(&lab, "b", side.server);
        let frame = out.udp(500, 53, b"");
        ends.frame(lab, "b", &frame, Cause::PortsExhausted);
    }
}

/// A server speaks to somebody, and is published only then: the question of that somebody at the
/// published port would be answered like what the server said first.
fn conflict(ends: &mut Ends) {
    for side in &SIDES {
        let mut lab = asked(campus_online(), side, 4000);
        lab.reconfigure(|plan| {
            plan.publish("wan", Protocol::UDP, (side.leg, 8053), (side.a, 4000));
        });
        let [back, _] = side.inward(&lab, side.server, "a");
        let frame = back.udp(7000, 8053, b"");
        ends.frame(lab, "wan", &frame, Cause::FlowConflict);
    }
}

fn filter(ends: &mut Ends) {
    for side in &SIDES {
        for (verdict, reason) in [
            (Verdict::Drop, Cause::FilterDropped),
            (
                Verdict::Reject(Rejection::Prohibited),
                Cause::FilterRejected,
            ),
        ] {
            let mut lab = campus();
            lab.reconfigure(|plan| plan.rules(&[rule(1, verdict)]));
            let frame = lab.to_gateway("a").ip(side.a, side.d).udp(1, 2, b"");
            lab.send("a", &frame)
                .busy("a")
                .counts(&[1])
                .drops("a", reason);
            ends.seen(reason);
        }
    }
}

fn neighbours(ends: &mut Ends) {
    for side in &SIDES {
        let mut lab = campus();
        let [out, _] = side.outward(&lab, "a", side.server);
        let frame = out.udp(1, 2, b"");
        lab.send_all("a", &[&frame; 5])
            .busy("wan")
            .holds(4)
            .neighbour("wan", side.next_hop, None, NeighbourState::Incomplete)
            .drops("a", Cause::NeighbourQueueFull);
        ends.seen(Cause::NeighbourQueueFull);
        lab.advance(Duration::from_secs(4))
            .busy("wan")
            .busy("a")
            .holds(-4)
            .forgets_neighbour("wan", side.next_hop)
            .drops_many("a", Cause::NeighbourUnreachable, 4);
        ends.seen(Cause::NeighbourUnreachable);
    }
}

fn links(ends: &mut Ends) {
    let lab = campus();
    lab.peer("b").refuse(true);
    let frame = packet(V4).udp(1, 2, b"");
    ends.frame(lab, "a", &frame, Cause::TransmitFailed);

    let tight = || {
        Lab::new(|plan| {
            plan.network("n").subnet("10.1.0.0/24");
            plan.host("a", "n").address(V4.a).queue(2);
            plan.host("b", "n").address(V4.b).queue(1);
        })
    };
    let mut lab = tight();
    lab.send_all("a", &[&frame, &frame])
        .arrives("b", &frame)
        .drops("a", Cause::TransmitQueueFull);
    ends.seen(Cause::TransmitQueueFull);

    let mut lab = tight();
    let taken = lab.overfill("a", &frame, 3);
    lab.settle()
        .receives("a", taken, &frame)
        .arrives("b", &frame)
        .drops("a", Cause::TransmitQueueFull)
        .drops_many("a", Cause::ReceiveRingFull, 3);
    ends.seen(Cause::ReceiveRingFull);

    let mut lab = tight();
    lab.peer("b").hang_up();
    let gone = Event::EndpointGone(lab.plan().port("b").id);
    lab.send("a", &frame)
        .drops("a", Cause::PortGone)
        .event(gone);
    ends.seen(Cause::PortGone);
}
