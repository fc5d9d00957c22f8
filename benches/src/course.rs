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
use heddle_wire::{Family, TcpFlags, VNET_HEADER_LEN, VnetHeader};

/// Frames that are sent before the switch looks.
pub const BURST: usize = 64;

/// Octets of an Ethernet header (IEEE 802.3 §3.1.1).
const ETHERNET_LEN: usize = 14;

/// Ports of the flow that established frames belong to.
const INSIDE_PORT: u16 = 40_000;
const OUTSIDE_PORT: u16 = 443;

/// The first number of a new session's port.
const FIRST_PORT: u16 = 1_024;

/// New sessions that a course can make.
pub const NEW_SESSIONS: u16 = 30_000;

/// Where the frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To a neighbour on the bridge.
    Bridge,
    /// From inside to outside, in an established session.
    Out,
    /// From outside to inside, in an established session.
    In,
    /// From inside to outside, each the first of its session, from a port without a mapping.
    NewMapping,
    /// From inside to outside, each the first of its session, from a port with a mapping.
    NewSession,
}

/// What the frames carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// UDP with 18 octets.
    Udp,
    /// TCP; a SYN where a session is new.
    Tcp,
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
    from: MemoryPeer,
    to: MemoryPeer,
    now: Instant,
    /// With virtio-net header.
    frame: Vec<u8>,
    /// What `frame` must have become.
    expected: Vec<u8>,
    /// Where each frame differs from the one before.
    number: Option<Number>,
}

/// A port that counts, and the place of its complement, with which the checksum stays what it is
/// (RFC 1071 §2: a word and its complement add nothing).
#[derive(Debug)]
struct Number {
    port: usize,
    complement: usize,
    next: u16,
}

impl Number {
    fn write(&mut self, frame: &mut [u8]) {
        frame[self.port..self.port + 2].copy_from_slice(&self.next.to_be_bytes());
        frame[self.complement..self.complement + 2].copy_from_slice(&(!self.next).to_be_bytes());
        self.next += 1;
    }
}

impl Course {
    /// Through the switch.
    ///
    /// # Panics
    ///
    /// If what is prepared does not work.
    #[must_use]
    pub fn switch(way: Way, carried: Carried, family: Family) -> Course {
        Course::new(way, carried, family, false)
    }

    /// The same frames through a relay.
    ///
    /// # Panics
    ///
    /// If what is prepared does not work.
    #[must_use]
    pub fn relay(way: Way, carried: Carried, family: Family) -> Course {
        Course::new(way, carried, family, true)
    }

    fn new(way: Way, carried: Carried, family: Family, bare: bool) -> Course {
        let side = SIDES.iter().find(|side| side.family == family);
        let side = side.expect("the campus has both families");
        let lab = campus_online_with(|plan| {
            plan.sessions(Limits::undivided(1 << 16));
        });
        let (frame, expected) = frames(&lab, way, carried, side);
        let [to_member, to_leg] = ["b", "wan"].map(|port| lab.peer(port).clone());
        let (from, to) = match way {
            Way::Bridge => (lab.peer("a").clone(), to_member),
            Way::In => (to_leg, lab.peer("a").clone()),
            Way::Out | Way::NewMapping | Way::NewSession => (lab.peer("a").clone(), to_leg),
        };
        let prepared = preparation(&lab, way, carried, side);
        let now = lab.now();
        let (switch, mut workers, plan) = lab.into_parts();
        let mut worker = workers.remove(0);
        for (port, frame) in prepared {
            pass(&plan, &mut worker, port, &frame, now);
        }
        let mut course = Course {
            between: Between::Switch(Box::new((switch, worker))),
            from,
            to,
            now,
            frame,
            expected,
            number: number(way, carried, family),
        };
        if bare {
            course.make_bare();
        }
        course
    }

    fn make_bare(&mut self) {
        let (near, from) = memory_pair(BURST, true);
        let (far, to) = memory_pair(BURST, true);
        let [near, far] = [near, far].map(Endpoint::Memory);
        self.between = Between::Relay(Box::new((Arena::new(), near, far)));
        self.from = from;
        self.to = to;
        self.expected.clone_from(&self.frame);
    }

    /// Sends a burst, has it carried, and checks what arrives.
    ///
    /// # Panics
    ///
    /// If anything else arrives than what must.
    pub fn run(&mut self) {
        let first = self.number.as_ref().map(|number| number.next);
        for _ in 0..BURST {
            if let Some(number) = &mut self.number {
                number.write(&mut self.frame);
            }
            self.from.send(&self.frame).expect("the link holds a burst");
        }
        match &mut self.between {
            Between::Switch(both) => both.1.turn(self.now),
            Between::Relay(parts) => relay(parts),
        }
        if let (Some(number), Some(first)) = (&mut self.number, first) {
            number.next = first;
        }
        for place in 0..BURST {
            let arrived = self.to.receive();
            let arrived = arrived.unwrap_or_else(|| panic!("frame {place} is missing"));
            if let Some(number) = &mut self.number {
                number.write(&mut self.expected);
            }
            assert!(
                arrived == self.expected,
                "frame {place} is\n{arrived:02x?}, not\n{:02x?}",
                self.expected
            );
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

fn relay((arena, near, far): &mut (Arena, Endpoint, Endpoint)) {
    near.receive(0, arena, &mut |burst| {
        for frame in burst.drain(..) {
            far.transmit(0, frame).expect("the link holds a burst");
        }
    });
}

fn number(way: Way, carried: Carried, family: Family) -> Option<Number> {
    let ip_len = match family {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    let transport = VNET_HEADER_LEN + ETHERNET_LEN + ip_len;
    let port = match way {
        Way::NewMapping => transport,
        Way::NewSession => transport + 2,
        _ => return None,
    };
    let complement = match carried {
        // The first word of the payload; the lower half of the sequence number.
        Carried::Udp => transport + 8,
        Carried::Tcp => transport + 6,
    };
    Some(Number {
        port,
        complement,
        next: FIRST_PORT,
    })
}

/// A frame and what it becomes.
fn frames(lab: &Lab, way: Way, carried: Carried, side: &Side) -> (Vec<u8>, Vec<u8>) {
    let inside = lab.to_gateway("a").ip(side.a, side.server);
    let outside = Link::new(lab.mac("wan"), NEXT_HOP_MAC)
        .ip(side.leg, side.server)
        .hop_limit(63);
    let ports = (INSIDE_PORT, OUTSIDE_PORT);
    let (before, after) = match way {
        Way::Bridge => {
            let frame = lab.link("a", "b").ip(side.a, side.b);
            (frame.clone(), frame)
        }
        Way::Out | Way::NewMapping | Way::NewSession => (inside, outside),
        Way::In => (
            Link::new(NEXT_HOP_MAC, lab.mac("wan")).ip(side.server, side.leg),
            lab.from_gateway("a").ip(side.server, side.a).hop_limit(63),
        ),
    };
    let is_new = matches!(way, Way::NewMapping | Way::NewSession);
    let ports = match way {
        Way::In => (ports.1, ports.0),
        // The complement of zero is in the other place.
        Way::NewMapping => (0, ports.1),
        Way::NewSession => (ports.0, 0),
        _ => ports,
    };
    let make = |packet: &heddle_wire::builder::Packet| {
        let frame = match carried {
            Carried::Udp => {
                let mut payload = [7; 18];
                payload[..2].copy_from_slice(&[0xff; 2]);
                packet.udp(ports.0, ports.1, &payload)
            }
            Carried::Tcp => packet.tcp(&header(ports, is_new), b""),
        };
        [&VnetHeader::NONE.emit(), frame.as_slice()].concat()
    };
    (make(&before), make(&after))
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
fn preparation(lab: &Lab, way: Way, carried: Carried, side: &Side) -> Vec<(&'static str, Vec<u8>)> {
    if matches!(way, Way::Bridge | Way::NewMapping) {
        return Vec::new();
    }
    let out = lab.to_gateway("a").ip(side.a, side.server);
    let back = Link::new(NEXT_HOP_MAC, lab.mac("wan")).ip(side.server, side.leg);
    match carried {
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
                    (Way::Out, 1),
                    (Way::In, 1),
                    (Way::NewMapping, 2 * burst),
                    (Way::NewSession, 1 + 2 * burst),
                ] {
                    let mut switch = Course::switch(way, carried, family);
                    let mut relay = Course::relay(way, carried, family);
                    for _ in 0..2 {
                        switch.run();
                        relay.run();
                    }
                    let label = format!("{way:?} {carried:?} {family:?}");
                    assert_eq!(switch.sessions(), Some(sessions), "{label}");
                    assert_eq!(relay.sessions(), None, "{label}");
                }
            }
        }
    }
}
