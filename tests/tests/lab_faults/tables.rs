//! Tables of every kind, full.

use std::time::Duration;

use heddle_nat::Limits;
use heddle_switch::{Cause, NeighbourState};
use heddle_tests::lab::{Lab, SIDES, Side, campus_online, campus_online_with};
use heddle_wire::Family;

use super::{Bystander, assert_bounded, dropped, flood, held_by, recovers, wait};

/// A host asks many servers something from many ports.
fn ask(lab: &mut Lab, side: &Side, host: &'static str, ports: std::ops::Range<u16>) {
    let [sent, _] = side.outward(lab, host, side.server);
    let frames = ports.map(|port| sent.udp(port, 7_000, b""));
    flood(lab, host, frames.collect::<Vec<_>>());
}

#[test]
fn a_full_session_table_has_room_for_those_who_have_little() {
    for side in &SIDES {
        let mut lab = campus_online_with(|plan| {
            plan.sessions(Limits {
                sessions: 1_024,
                sessions_per_owner: 512,
                guaranteed_per_owner: 32,
                ..Limits::default()
            });
        });
        let mut other = Bystander::new(&mut lab, side, "d", 5_000);
        for host in ["a", "b", "c"] {
            ask(&mut lab, side, host, 20_000..21_000);
        }
        // The last one had little at first, and got what is guaranteed.
        assert_eq!(lab.switch().nat().session_count(), 1_024 - 128 + 32);
        other.is_unharmed(&mut lab, side);
        // Whoever has much goes on at its own cost.
        let before = held_by(&lab, "c");
        ask(&mut lab, side, "c", 30_000..30_100);
        let after = held_by(&lab, "c");
        assert_eq!(
            (after.sessions, after.evicted),
            (before.sessions, before.evicted + 100)
        );
        assert_bounded(&lab);
        recovers(&mut lab, side, Duration::from_secs(302));
    }
}

#[test]
fn the_ports_of_an_address_are_not_all_for_those_who_have_many() {
    for side in &SIDES {
        let mut lab = campus_online();
        for host in ["a", "b", "c"] {
            ask(&mut lab, side, host, 10_000..50_000);
        }
        let user_ports = 65_536 - 1_024;
        let leg = side.leg.parse().expect("an address");
        let used =
            lab.switch()
                .nat()
                .ports_in_use(heddle_nat::Zone(1), leg, heddle_wire::Protocol::UDP);
        assert_eq!(
            used,
            user_ports - user_ports / 8 + held_by(&lab, "c").mappings
        );
        // Somebody new gets one, if perhaps another one than it has inside.
        let [sent, _] = side.outward(&lab, "d", side.server);
        for port in 10_000..10_003 {
            lab.send("d", &sent.udp(port, 53, b""))
                .busy("wan")
                .opens(1)
                .mappings(1);
        }
        assert_bounded(&lab);
        wait(&mut lab, Duration::from_secs(302));
        recovers(&mut lab, side, Duration::from_secs(120));
    }
}

#[test]
fn who_looks_for_everybody_on_the_link_outside_keeps_nobody_from_finding_one() {
    for side in &SIDES {
        let mut lab = campus_online();
        let mut other = Bystander::new(&mut lab, side, "d", 5_000);
        let frames: Vec<_> = (3..253)
            .map(|number| {
                let to = match side.family {
                    Family::V4 => format!("192.0.2.{number}"),
                    Family::V6 => format!("2001:db8:2::1:{number:x}"),
                };
                lab.to_gateway("a").ip(side.a, &*to).udp(9, 9, b"")
            })
            .collect();
        flood(&mut lab, "a", frames);
        assert_eq!(lab.switch().held_frames(), 32);
        assert_eq!(dropped(&lab, "a", Cause::NeighbourQueueFull), 250 - 32);
        other.is_unharmed(&mut lab, side);
        // Another one asks for somebody, and finds it.
        let wanted = match side.family {
            Family::V4 => "192.0.2.254",
            Family::V6 => "2001:db8:2::fe",
        };
        let [sent, _] = side.outward(&lab, "b", wanted);
        let frame = sent.udp(6_000, 9, b"hello");
        let question = side.question(lab.mac("wan"), side.leg, wanted);
        lab.send("b", &frame)
            .holds(1)
            .neighbour("wan", wanted, None, NeighbourState::Incomplete)
            .arrives("wan", &question);
        let mac = heddle_wire::MacAddr::new([2, 0x99, 0, 0, 0, 0xfe]);
        let left = heddle_wire::builder::Link::new(lab.mac("wan"), mac)
            .ip(side.leg, wanted)
            .hop_limit(63)
            .udp(6_000, 9, b"hello");
        let answer = side.answer(mac, lab.mac("wan"), wanted, side.leg);
        lab.send("wan", &answer)
            .holds(-1)
            .neighbour("wan", wanted, Some(mac), NeighbourState::Reachable)
            .arrives("wan", &left)
            .opens(1)
            .mappings(1);
        assert!(lab.switch().memory_bound() > 0);
        wait(&mut lab, Duration::from_secs(4));
        assert_eq!(lab.switch().held_frames(), 0);
        recovers(&mut lab, side, Duration::from_secs(200));
    }
}
