//! Storms: what one port may flood, and what the others notice of it.

use std::time::Duration;

use heddle_switch::Cause;
use heddle_tests::lab::{Lab, SIDES};
use heddle_wire::builder::Link;
use heddle_wire::{EtherType, MacAddr};

/// Frames a second that a port may flood here.
const RATE: u32 = 8;

/// A storm: many times what is permitted.
const STORM: usize = 500;

/// Two ports with port security and two without.
fn lab() -> Lab {
    Lab::new(|plan| {
        plan.network("lan")
            .subnet("10.1.0.0/24")
            .subnet("fd00:1::/64")
            .storm_control(RATE);
        plan.host("a", "lan")
            .address("10.1.0.2")
            .address("fd00:1::2");
        plan.host("b", "lan")
            .address("10.1.0.3")
            .address("fd00:1::3");
        plan.host("c", "lan")
            .address("10.1.0.4")
            .address("fd00:1::4");
        plan.host("x", "lan").insecure();
    })
}

/// A frame that is flooded, of each of the three kinds.
fn flooded(lab: &Lab, from: &'static str) -> [Vec<u8>; 3] {
    let group = MacAddr::new([0x33, 0x33, 0, 0, 0, 0xfb]);
    let unknown = MacAddr::new([2, 0x55, 0, 0, 0, 9]);
    [MacAddr::BROADCAST, group, unknown]
        .map(|to| Link::new(lab.mac(from), to).frame(EtherType(0x88b5), b"everybody"))
}

/// `a` has flooded all that it may, and a storm more.
fn stormy(frame: &[u8]) -> Lab {
    let mut lab = lab();
    let rate = usize::try_from(RATE).expect("a small number");
    let step = lab.send_all("a", &vec![frame; STORM]);
    let lost = u64::try_from(STORM - rate).expect("a small number");
    let step = step.drops_many("a", Cause::StormControl, lost);
    drop((0..RATE).fold(step, |step, _| {
        step.arrives_everywhere(&["b", "c", "x"], frame)
    }));
    lab
}

#[test]
fn a_port_floods_no_more_than_storm_control_permits() {
    for frame in flooded(&lab(), "a") {
        let mut lab = stormy(&frame);
        // All three kinds are paid for with the same coin, and time gives more of it.
        for other in flooded(&lab, "a") {
            lab.send("a", &other).drops("a", Cause::StormControl);
        }
        lab.advance(Duration::from_millis(125));
        lab.send("a", &frame)
            .arrives_everywhere(&["b", "c", "x"], &frame);
        lab.send("a", &frame).drops("a", Cause::StormControl);
    }
}

#[test]
fn a_storm_of_one_port_costs_nobody_else_a_frame() {
    for side in &SIDES {
        let [frame, ..] = flooded(&lab(), "a");
        let mut lab = stormy(&frame);
        // Others ask for each other, and for the gateway.
        let question = side.question(lab.mac("b"), side.b, side.c);
        lab.send("b", &question)
            .arrives_everywhere(&["a", "c", "x"], &question);
        let question = side.question(lab.mac("b"), side.b, side.gateway);
        let gateway = lab.plan().gateway_mac("b");
        let answer = side.answer(gateway, lab.mac("b"), side.gateway, side.b);
        let answer = match side.family {
            heddle_wire::Family::V4 => answer,
            heddle_wire::Family::V6 => {
                let own: heddle_wire::Address = side.gateway.parse().expect("an address");
                let to = heddle_switch::link_local(lab.mac("b"));
                // A router says that it is one.
                Link::new(gateway, lab.mac("b")).neighbour_advertisement(own, to, own, 0xe000_0000)
            }
        };
        lab.send("b", &question).arrives("b", &answer);
        // And speak to each other, and with the one that storms.
        for (from, to, addresses) in [("b", "c", [side.b, side.c]), ("c", "a", [side.c, side.a])] {
            let [source, destination] = addresses;
            let frame = lab.link(from, to).ip(source, destination).udp(1, 2, b"hi");
            lab.send(from, &frame).arrives(to, &frame);
        }
        // Which may still speak to whom it knows.
        let frame = lab.link("a", "b").ip(side.a, side.b).udp(1, 2, b"hi");
        lab.send_all("a", &vec![&frame; 100])
            .arrives_many("b", &frame, 100);
        let question = side.question(lab.mac("a"), side.a, side.gateway);
        lab.send("a", &question).busy("a");
    }
}

#[test]
fn without_port_security_a_storm_of_unknown_stations_is_one_as_well() {
    let mut lab = lab();
    let x = lab.mac("x");
    let frames: Vec<Vec<u8>> = (0..STORM)
        .map(|number| {
            let number = u64::try_from(number).expect("a small number");
            let to = MacAddr::from_u64(0x0266_0000_0000 + number);
            Link::new(x, to).frame(EtherType(0x88b5), b"")
        })
        .collect();
    let rate = usize::try_from(RATE).expect("a small number");
    let lost = u64::try_from(STORM - rate).expect("a small number");
    let step =
        lab.send_all("x", &frames)
            .learns("lan", x, "x")
            .drops_many("x", Cause::StormControl, lost);
    drop(frames[..rate].iter().fold(step, |step, frame| {
        step.arrives_everywhere(&["a", "b", "c"], frame)
    }));
}

#[test]
fn what_hosts_ask_by_broadcast_is_far_below_the_usual_limit() {
    let mut lab = Lab::new(|plan| {
        plan.network("lan").subnet("10.1.0.0/16");
        plan.host("a", "lan").address("10.1.0.2");
        plan.host("b", "lan").address("10.1.0.3");
    });
    let a = lab.mac("a");
    // Somebody looks for two thousand neighbours in one instant.
    let questions: Vec<Vec<u8>> = (0..2_000)
        .map(|number| {
            SIDES[0].question(
                a,
                "10.1.0.2",
                &format!("10.1.{}.{}", 1 + number / 250, number % 250),
            )
        })
        .collect();
    let step = lab.send_all("a", &questions);
    drop(
        questions
            .iter()
            .fold(step, |step, question| step.arrives("b", question)),
    );
}
