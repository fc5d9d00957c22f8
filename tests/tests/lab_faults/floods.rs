//! Too much of what is allowed.

use std::time::Duration;

use heddle_nat::Limits;
use heddle_switch::Cause;
use heddle_tests::lab::{Lab, Plan, SIDES, SYN_ACK, Side, Step, campus_online, campus_online_with};
use heddle_wire::builder::{Link, TcpHeader};
use heddle_wire::{EtherType, MacAddr, Protocol, TcpFlags};

use super::{
    Bystander, all_dropped, assert_bounded, flood, held_by, recovers, stranger, syn, wait,
};

/// Bounds that a test reaches in a moment.
fn tight(plan: &mut Plan) {
    plan.sessions(Limits {
        sessions_per_owner: 64,
        half_open_per_owner: 16,
        ..Limits::default()
    });
}

#[test]
fn a_flood_of_syns_from_inside_costs_only_its_own_half_open_connections() {
    for side in &SIDES {
        let mut lab = campus_online_with(tight);
        let mut other = Bystander::new(&mut lab, side, "d", 5_000);
        let mut own = Bystander::new(&mut lab, side, "a", 4_000);
        let [sent, _] = side.outward(&lab, "a", side.server);
        let frames = (10_000..30_000).map(|port| sent.tcp(&syn(port, 80), b""));
        flood(&mut lab, "a", frames);
        let held = held_by(&lab, "a");
        assert_eq!((held.half_open, held.sessions), ([16, 0], 17));
        assert_eq!(all_dropped(&lab, "a"), 0);
        other.is_unharmed(&mut lab, side);
        own.goes_on(&mut lab);
        assert_bounded(&lab);
        // Half-open connections last four minutes.
        wait(&mut lab, Duration::from_secs(241));
        let held = held_by(&lab, "a");
        assert_eq!((held.half_open, held.sessions), ([0, 0], 1));
        recovers(&mut lab, side, Duration::from_secs(1));
    }
}

/// A connection of somebody honest to a port that `a` has published: 80 outside, 8080 inside.
struct Visitor<'s> {
    side: &'s Side,
    /// The next sequence numbers of the visitor and of the server.
    next: [u32; 2],
}

impl Visitor<'_> {
    const PORTS: [u16; 2] = [80, 8080];

    fn header(&self, own: usize, ports: [u16; 2], flags: TcpFlags) -> TcpHeader {
        let acknowledges = flags.contains(TcpFlags::ACK);
        TcpHeader {
            source_port: ports[0],
            destination_port: ports[1],
            sequence: self.next[own],
            acknowledgement: if acknowledges { self.next[1 - own] } else { 0 },
            flags,
            ..TcpHeader::default()
        }
    }

    fn comes<'lab>(&mut self, lab: &'lab mut Lab, flags: TcpFlags, data: &[u8]) -> Step<'lab> {
        let [sent, arrived] = self.side.inward(lab, self.side.other_server, "a");
        let [outside, inside] = Self::PORTS.map(|port| self.header(0, [7, port], flags));
        self.advance(0, flags, data);
        lab.send("wan", &sent.tcp(&outside, data))
            .arrives("a", &arrived.tcp(&inside, data))
    }

    fn is_answered<'lab>(
        &mut self,
        lab: &'lab mut Lab,
        flags: TcpFlags,
        data: &[u8],
    ) -> Step<'lab> {
        let [sent, left] = self.side.outward(lab, "a", self.side.other_server);
        let [outside, inside] = Self::PORTS.map(|port| self.header(1, [port, 7], flags));
        self.advance(1, flags, data);
        lab.send("a", &sent.tcp(&inside, data))
            .arrives("wan", &left.tcp(&outside, data))
    }

    fn advance(&mut self, own: usize, flags: TcpFlags, data: &[u8]) {
        let data = u32::try_from(data.len()).expect("a short text");
        self.next[own] += data + u32::from(flags.contains(TcpFlags::SYN));
    }
}

#[test]
fn a_flood_of_syns_from_outside_costs_no_more_than_who_has_not_finished_knocking() {
    for side in &SIDES {
        let mut lab = campus_online_with(|plan| {
            tight(plan);
            plan.publish("wan", Protocol::TCP, (side.leg, 80), (side.a, 8080));
        });
        let mut other = Bystander::new(&mut lab, side, "d", 5_000);
        let mut own = Bystander::new(&mut lab, side, "a", 4_000);
        let frames: Vec<_> = (0..20_000)
            .map(|number| {
                let [sent, _] = side.inward(&lab, &stranger(side, number), "a");
                sent.tcp(&syn(9, 80), b"")
            })
            .collect();
        flood(&mut lab, "wan", frames.clone());
        let held = held_by(&lab, "a");
        assert_eq!((held.half_open, held.sessions), ([0, 16], 17));
        // The server hears of everybody: it may have SYN cookies.
        assert_eq!(all_dropped(&lab, "wan"), 0);
        other.is_unharmed(&mut lab, side);
        own.is_unharmed(&mut lab, side);
        // Somebody honest comes in, and stays when the flood goes on.
        let mut visitor = Visitor {
            side,
            next: [500, 900],
        };
        visitor.comes(&mut lab, TcpFlags::SYN, b"").opens(1).ends(1);
        visitor.is_answered(&mut lab, SYN_ACK, b"").moves(1);
        visitor.comes(&mut lab, TcpFlags::ACK, b"").moves(1);
        flood(&mut lab, "wan", frames);
        visitor.comes(&mut lab, TcpFlags::ACK, b"a page").moves(1);
        visitor
            .is_answered(&mut lab, TcpFlags::ACK, b"here")
            .moves(1);
        other.is_unharmed(&mut lab, side);
        own.is_unharmed(&mut lab, side);
        assert_bounded(&lab);
        wait(&mut lab, Duration::from_secs(241));
        let held = held_by(&lab, "a");
        assert_eq!((held.half_open, held.from_outside), ([0, 0], 1));
        recovers(&mut lab, side, Duration::from_secs(60));
    }
}

#[test]
fn questions_from_outside_leave_an_endpoint_room_for_its_own() {
    for side in &SIDES {
        let mut lab = campus_online_with(|plan| {
            tight(plan);
            plan.publish("wan", Protocol::UDP, (side.leg, 53), (side.a, 53));
        });
        let mut other = Bystander::new(&mut lab, side, "d", 5_000);
        let mut own = Bystander::new(&mut lab, side, "a", 4_000);
        let frames = (0..20_000).map(|number| {
            let [sent, _] = side.inward(&lab, &stranger(side, number), "a");
            sent.udp(9, 53, b"who")
        });
        let frames: Vec<_> = frames.collect();
        flood(&mut lab, "wan", frames);
        assert_eq!(held_by(&lab, "a").from_outside, 56);
        other.is_unharmed(&mut lab, side);
        own.is_unharmed(&mut lab, side);
        assert_bounded(&lab);
        recovers(&mut lab, side, Duration::from_secs(301));
    }
}

#[test]
fn forty_thousand_flows_of_one_endpoint_leave_the_others_their_ports() {
    for side in &SIDES {
        let mut lab = campus_online();
        let mut other = Bystander::new(&mut lab, side, "d", 5_000);
        let mut own = Bystander::new(&mut lab, side, "a", 4_000);
        let [sent, _] = side.outward(&lab, "a", side.server);
        let frames = (20_000..60_000).map(|port| sent.udp(port, 7_000, b""));
        flood(&mut lab, "a", frames);
        // Each got a port, the last ones that of the first ones.
        assert_eq!(all_dropped(&lab, "a"), 0);
        let held = held_by(&lab, "a");
        assert_eq!((held.mappings, held.sessions), (1 << 15, 1 << 15));
        other.is_unharmed(&mut lab, side);
        own.goes_on(&mut lab);
        assert_bounded(&lab);
        wait(&mut lab, Duration::from_secs(302));
        assert_eq!(held_by(&lab, "a").sessions, 1);
        // Its ports rest for two more minutes.
        recovers(&mut lab, side, Duration::from_secs(120));
    }
}

#[test]
fn a_flood_of_mac_addresses_pushes_out_only_its_own() {
    let mut lab = Lab::new(|plan| {
        plan.network("open")
            .subnet("10.1.0.0/24")
            .subnet("fd00:1::/64");
        plan.host("a", "open")
            .address(SIDES[0].a)
            .address(SIDES[1].a);
        plan.host("x", "open").insecure();
        plan.host("y", "open").insecure();
    });
    let [a, y] = ["a", "y"].map(|host| lab.mac(host));
    let frame = |from, to| Link::new(from, to).frame(EtherType(0x88b5), b"");
    let behind_y = MacAddr::new([2, 0x77, 0, 0, 0, 1]);
    for mac in [y, behind_y] {
        let known = frame(mac, a);
        lab.send("y", &known)
            .arrives("a", &known)
            .learns("open", mac, "y");
    }
    let frames = (0..100_000_u64).map(|number| {
        let mac = MacAddr::from_u64(0x0266_0000_0000 + number);
        frame(mac, a)
    });
    flood(&mut lab, "x", frames.collect::<Vec<_>>());
    let stations = lab.switch().fdb().list(lab.now());
    let x = lab.plan().port("x").id;
    let behind_x = stations.iter().filter(|it| it.station.port == x).count();
    assert_eq!(behind_x, 1_024);
    assert_eq!(all_dropped(&lab, "x"), 0);
    assert_bounded(&lab);
    // Nobody else's stations are forgotten, and new ones are learned.
    for mac in [y, behind_y] {
        let known = frame(a, mac);
        lab.send("a", &known).arrives("y", &known);
    }
    let new = MacAddr::new([2, 0x77, 0, 0, 0, 2]);
    let hello = frame(new, a);
    lab.send("y", &hello)
        .arrives("a", &hello)
        .learns("open", new, "y");
    wait(&mut lab, Duration::from_secs(303));
    let left = lab.switch().fdb().list(lab.now());
    assert!(left.iter().all(|it| it.station.fixed), "{left:?}");
}

#[test]
fn a_storm_of_broadcasts_stops_at_its_port() {
    for side in &SIDES {
        let mut lab = campus_online();
        let mut other = Bystander::new(&mut lab, side, "b", 5_000);
        let frame = lab.to_all("a").frame(EtherType(0x88b5), b"");
        flood(&mut lab, "a", vec![frame; 50_000]);
        assert_eq!(super::dropped(&lab, "a", Cause::StormControl), 40_000);
        let frame = lab.link("b", "c").ip(side.b, side.c).udp(1, 2, b"hi");
        lab.send("b", &frame).arrives("c", &frame);
        other.is_unharmed(&mut lab, side);
        wait(&mut lab, Duration::from_secs(1));
        let question = lab.to_all("a").frame(EtherType(0x88b5), b"again");
        lab.send("a", &question)
            .arrives_everywhere(&["b", "c"], &question);
    }
}
