//! A course: frames that go through a switch in memory again and again, and what must come out.
//!
//! The links in memory allocate and copy, which is no work of the switch. So every course can also be
//! run through a bare relay over the same kind of links, with the same frames, the same changes to
//! them and the same checks; the difference is the switch.

use heddle_mem::Instant;
use heddle_nat::Limits;
use heddle_switch::endpoint::{Arena, Endpoint, MemoryPeer, memory_pair};
use heddle_switch::{Switch, Worker};
use heddle_tests::lab::{Lab, NEXT_HOP_MAC, Plan, SIDES, Side, campus_online_with};
use heddle_wire::builder::{Link, TcpHeader};
use heddle_wire::{Family, Protocol, TcpFlags, VNET_HEADER_LEN, VnetHeader};

/// Frames that are sent before the switch looks.
pub const BURST: usize = 64;

/// Octets of an Ethernet header (IEEE 802.3 §3.1.1).
const ETHERNET_LEN: usize = 14;

/// Ports of the flow that established frames belong to.
const INSIDE_PORT: u16 = 40_000;
const OUTSIDE_PORT: u16 = 443;

/// The published port, and what it leads to.
const PUBLISHED_PORT: u16 = 80;
const SERVER_PORT: u16 = 8_080;

/// The first number of a new session's port.
const FIRST_PORT: u16 = 1_024;

/// New sessions that a course can make.
pub const NEW_SESSIONS: u16 = 30_000;

/// Where the frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To a neighbour on the bridge.
    Bridge,
    /// To an endpoint of another network.
    Routed,
    /// From inside to outside, in an established session.
    Out,
    /// From outside to inside, in an established session.
    In,
    /// From inside to outside, each the first of its session, from a port without a mapping.
    NewMapping,
    /// From inside to outside, each the first of its session, from a port with a mapping.
    NewSession,
    /// From outside to a published port, each the first of its session.
    Published,
}

/// What the frames carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// UDP with 18 octets.
    Udp,
    /// TCP; a SYN where a session is new.
    Tcp,
}

/// Frames of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Where they go.
    pub way: Way,
    /// What they carry.
    pub carried: Carried,
    /// Over what.
    pub family: Family,
}

impl Load {
    /// What goes on all day long, in both families: on the bridge, between networks, out and in.
    #[must_use]
    pub fn mixture() -> Vec<Load> {
        let mut loads = Vec::new();
        for way in [Way::Bridge, Way::Routed, Way::Out, Way::In] {
            for carried in [Carried::Udp, Carried::Tcp] {
                for family in [Family::V4, Family::V6] {
                    loads.push(Load {
                        way,
                        carried,
                        family,
                    });
                }
            }
        }
        loads
    }
}

/// What is between the two ends of a course.
#[derive(Debug)]
enum Between {
    /// The switch, and the worker that does everything.
    Switch(Box<(Switch, Worker)>),
    /// Read, write, nothing else.
    Relay(Box<(Arena, Endpoint, Endpoint)>),
}

/// A course.
#[derive(Debug)]
pub struct Course {
    between: Between,
    now: Instant,
    /// Whose turn it is with each frame, one after the other.
    lanes: Vec<Lane>,
}

/// The way of one kind of frames.
#[derive(Debug)]
struct Lane {
    from: MemoryPeer,
    to: MemoryPeer,
    /// With virtio-net header.
    frame: Vec<u8>,
    /// What `frame` must have become.
    expected: Vec<u8>,
    /// Where each frame differs from the one before.
    number: Option<Number>,
}

/// A port that counts, and the place of its complement, with which the checksum stays what it is
/// (RFC 1071 §2: a word and its complement add nothing).
#[derive(Clone, Debug)]
struct Number {
    port: usize,
    complement: usize,
    /// Of the next frame that is sent, and of the next one that must arrive.
    sent: u16,
    arrived: u16,
}

impl Number {
    fn write(&self, frame: &mut [u8], number: u16) {
        frame[self.port..self.port + 2].copy_from_slice(&number.to_be_bytes());
        frame[self.complement..self.complement + 2].copy_from_slice(&(!number).to_be_bytes());
    }
}

impl Lane {
    fn send(&mut self) {
        if let Some(number) = &mut self.number {
            number.write(&mut self.frame, number.sent);
            number.sent += 1;
        }
        self.from.send(&self.frame).expect("the link holds a burst");
    }

    fn check(&mut self, place: usize) {
        let arrived = self.to.receive();
        let arrived = arrived.unwrap_or_else(|| panic!("frame {place} is missing"));
        if let Some(number) = &mut self.number {
            number.write(&mut self.expected, number.arrived);
            number.arrived += 1;
        }
        assert!(
            arrived == self.expected,
            "frame {place} is\n{arrived:02x?}, not\n{:02x?}",
            self.expected
        );
    }
}

impl Course {
    /// Through the switch. Frames of several loads take turns.
    ///
    /// # Panics
    ///
    /// If what is prepared does not work.
    #[must_use]
    pub fn switch(loads: &[Load]) -> Course {
        let lab = campus_online_with(|plan| {
            plan.sessions(Limits::undivided(1 << 16));
            for side in &SIDES {
                for protocol in [Protocol::UDP, Protocol::TCP] {
                    let outside = (side.leg, PUBLISHED_PORT);
                    plan.publish("wan", protocol, outside, (side.a, SERVER_PORT));
                }
            }
        });
        let prepared: Vec<_> = loads
            .iter()
            .flat_map(|load| preparation(&lab, load))
            .collect();
        let lanes = loads.iter().map(|load| lane(&lab, load)).collect();
        let now = lab.now();
        let (switch, mut workers, plan) = lab.into_parts();
        let mut worker = workers.remove(0);
        for (port, frame) in prepared {
            pass(&plan, &mut worker, port, &frame, now);
        }
        Course {
            between: Between::Switch(Box::new((switch, worker))),
            now,
            lanes,
        }
    }

    /// The same frames through a relay.
    ///
    /// # Panics
    ///
    /// If what is prepared does not work.
    #[must_use]
    pub fn relay(loads: &[Load]) -> Course {
        let mut course = Course::switch(loads);
        let (near, from) = memory_pair(BURST, true);
        let (far, to) = memory_pair(BURST, true);
        let [near, far] = [near, far].map(Endpoint::Memory);
        course.between = Between::Relay(Box::new((Arena::new(), near, far)));
        for lane in &mut course.lanes {
            (lane.from, lane.to) = (from.clone(), to.clone());
            lane.expected.clone_from(&lane.frame);
        }
        course
    }

    /// Sends a burst, has it carried, and checks what arrives.
    ///
    /// # Panics
    ///
    /// If anything else arrives than what must.
    pub fn run(&mut self) {
        let lanes = self.lanes.len();
        for place in 0..BURST {
            self.lanes[place % lanes].send();
        }
        self.carry();
        for place in 0..BURST {
            self.lanes[place % lanes].check(place);
        }
    }

    /// What is measured: from the links and to the links. A function of its own, so that a profiler knows
    /// it by its name.
    #[inline(never)]
    fn carry(&mut self) {
        match &mut self.between {
            Between::Switch(both) => both.1.turn(self.now),
            Between::Relay(parts) => relay(parts),
        }
    }

    /// Sessions that the switch has.
    #[must_use]
    pub fn sessions(&self) -> Option<u32> {
        match &self.between {
            Between::Switch(both) => Some(both.0.nat().session_count()),
            Between::Relay(_) => None,
        }
    }
}

/// The way that the frames of a load take through a lab.
fn lane(lab: &Lab, load: &Load) -> Lane {
    let (from, to) = match load.way {
        Way::Bridge => ("a", "b"),
        Way::Routed => ("a", "d"),
        Way::In | Way::Published => ("wan", "a"),
        Way::Out | Way::NewMapping | Way::NewSession => ("a", "wan"),
    };
    let (frame, expected) = frames(lab, load);
    Lane {
        from: lab.peer(from).clone(),
        to: lab.peer(to).clone(),
        frame,
        expected,
        number: number(load),
    }
}

fn relay((arena, near, far): &mut (Arena, Endpoint, Endpoint)) {
    near.receive(0, arena, &mut |burst| {
        for frame in burst.drain(..) {
            far.transmit(0, frame).expect("the link holds a burst");
        }
    });
}

fn number(load: &Load) -> Option<Number> {
    let ip_len = match load.family {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    let transport = VNET_HEADER_LEN + ETHERNET_LEN + ip_len;
    let port = match load.way {
        Way::NewMapping | Way::Published => transport,
        Way::NewSession => transport + 2,
        _ => return None,
    };
    let complement = match load.carried {
        // The first word of the payload; the lower half of the sequence number.
        Carried::Udp => transport + 8,
        Carried::Tcp => transport + 6,
    };
    Some(Number {
        port,
        complement,
        sent: FIRST_PORT,
        arrived: FIRST_PORT,
    })
}

/// A frame and what it becomes.
fn frames(lab: &Lab, load: &Load) -> (Vec<u8>, Vec<u8>) {
    let side = side(load);
    let inside = lab.to_gateway("a").ip(side.a, side.server);
    let outside = Link::new(lab.mac("wan"), NEXT_HOP_MAC)
        .ip(side.leg, side.server)
        .hop_limit(63);
    let from_outside = Link::new(NEXT_HOP_MAC, lab.mac("wan")).ip(side.server, side.leg);
    let to_inside = lab.from_gateway("a").ip(side.server, side.a).hop_limit(63);
    let (before, after) = match load.way {
        Way::Bridge => {
            let frame = lab.link("a", "b").ip(side.a, side.b);
            (frame.clone(), frame)
        }
        Way::Routed => (
            lab.to_gateway("a").ip(side.a, side.d),
            lab.from_gateway("d").ip(side.a, side.d).hop_limit(63),
        ),
        Way::Out | Way::NewMapping | Way::NewSession => (inside, outside),
        Way::In | Way::Published => (from_outside, to_inside),
    };
    let ports = (INSIDE_PORT, OUTSIDE_PORT);
    // Before and behind the switch. The complement of zero is in the place of the port that counts.
    let [ports_before, ports_after] = match load.way {
        Way::In => [(ports.1, ports.0); 2],
        Way::NewMapping => [(0, ports.1); 2],
        Way::NewSession => [(ports.0, 0); 2],
        Way::Published => [(0, PUBLISHED_PORT), (0, SERVER_PORT)],
        _ => [ports; 2],
    };
    let is_new = is_new(load.way);
    let make = |packet: &heddle_wire::builder::Packet, ports: (u16, u16)| {
        let frame = match load.carried {
            Carried::Udp => {
                let mut payload = [7; 18];
                payload[..2].copy_from_slice(&[0xff; 2]);
                packet.udp(ports.0, ports.1, &payload)
            }
            Carried::Tcp => packet.tcp(&header(ports, is_new), b""),
        };
        [&VnetHeader::NONE.emit(), frame.as_slice()].concat()
    };
    (make(&before, ports_before), make(&after, ports_after))
}

fn side(load: &Load) -> &'static Side {
    let side = SIDES.iter().find(|side| side.family == load.family);
    side.expect("the campus has both families")
}

/// Whether each frame begins a session.
fn is_new(way: Way) -> bool {
    matches!(way, Way::NewMapping | Way::NewSession | Way::Published)
}

fn header((source_port, destination_port): (u16, u16), is_new: bool) -> TcpHeader {
    TcpHeader {
        source_port,
        destination_port,
        sequence: if is_new { 0xffff } else { 1 },
        acknowledgement: u32::from(!is_new),
        flags: if is_new { TcpFlags::SYN } else { TcpFlags::ACK },
        ..TcpHeader::default()
    }
}

/// What has to pass first, and from which port: the session, or the mapping.
fn preparation(lab: &Lab, load: &Load) -> Vec<(&'static str, Vec<u8>)> {
    if !matches!(load.way, Way::Out | Way::In | Way::NewSession) {
        return Vec::new();
    }
    let side = side(load);
    let out = lab.to_gateway("a").ip(side.a, side.server);
    let back = Link::new(NEXT_HOP_MAC, lab.mac("wan")).ip(side.server, side.leg);
    match load.carried {
        Carried::Udp => vec![
            ("a", out.udp(INSIDE_PORT, OUTSIDE_PORT, b"question")),
            ("wan", back.udp(OUTSIDE_PORT, INSIDE_PORT, b"answer")),
        ],
        Carried::Tcp => {
            let syn = TcpHeader {
                sequence: 0,
                ..header((INSIDE_PORT, OUTSIDE_PORT), true)
            };
            let syn_ack = TcpHeader {
                sequence: 0,
                acknowledgement: 1,
                flags: TcpFlags::SYN | TcpFlags::ACK,
                ..header((OUTSIDE_PORT, INSIDE_PORT), true)
            };
            let ack = header((INSIDE_PORT, OUTSIDE_PORT), false);
            vec![
                ("a", out.tcp(&syn, b"")),
                ("wan", back.tcp(&syn_ack, b"")),
                ("a", out.tcp(&ack, b"")),
            ]
        }
    }
}

/// Has one finished frame carried to wherever it goes.
fn pass(plan: &Plan, worker: &mut Worker, from: &'static str, frame: &[u8], now: Instant) {
    let bytes = [&VnetHeader::NONE.emit(), frame].concat();
    plan.peer(from).send(&bytes).expect("the link is empty");
    worker.turn(now);
    let to = if from == "wan" { "a" } else { "wan" };
    assert!(plan.peer(to).receive().is_some(), "it has to be carried");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_course_carries_its_frames_with_and_without_a_switch() {
        let burst = u32::try_from(BURST).unwrap();
        for family in [Family::V4, Family::V6] {
            for carried in [Carried::Udp, Carried::Tcp] {
                for (way, sessions) in [
                    (Way::Bridge, 0),
                    (Way::Routed, 0),
                    (Way::Out, 1),
                    (Way::In, 1),
                    (Way::NewMapping, 2 * burst),
                    (Way::NewSession, 1 + 2 * burst),
                    (Way::Published, 2 * burst),
                ] {
                    let load = Load {
                        way,
                        carried,
                        family,
                    };
                    run_both(&[load], sessions);
                }
            }
        }
    }

    #[test]
    fn a_mixture_is_carried_as_well() {
        run_both(&Load::mixture(), 4);
    }

    fn run_both(loads: &[Load], sessions: u32) {
        let mut switch = Course::switch(loads);
        let mut relay = Course::relay(loads);
        for _ in 0..2 {
            switch.run();
            relay.run();
        }
        assert_eq!(switch.sessions(), Some(sessions), "{loads:?}");
        assert_eq!(relay.sessions(), None, "{loads:?}");
    }
}
