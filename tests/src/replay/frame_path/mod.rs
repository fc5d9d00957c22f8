//! Any bytes as a list of actions on a whole switch over links in memory, under a clock that only the
//! actions move.
//!
//! After every action:
//!
//! - no frame left at a port of another network, at an endpoint that it is not for, or for another one
//!   than it says it is from; outside, everything is from the leg;
//! - every frame that came in has left, was dropped for a reason, waits, or was an answer to a question
//!   of the gateway's; the ports' counters say how many came and went;
//! - tables stay within their bounds, and hold nothing of ports that are gone;
//! - as long as every frame that came in was right, every frame that left is right;
//! - routed packets fit the link.
//!
//! And when at the end every time-out has passed, nothing is left.

mod action;
mod craft;
mod place;
pub mod seeds;
mod watch;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use heddle_nat::SessionState;
use heddle_nat::tcp::State;
use heddle_switch::{Cause, DropReason};
use heddle_wire::VNET_HEADER_LEN;

pub use action::{Action, Complain, LinkEvent, Packet, Reply, Speak};
use watch::{Injected, Totals};
use world::{PORTS, World, takes_offloads};

/// How long time may pass at once, in milliseconds.
const SPANS: [u64; 10] = [
    1, 1_000, 4_000, 31_000, 61_000, 121_000, 241_000, 301_000, 3_600_000, 7_500_000,
];

/// Longer than any time-out: that of established connections (RFC 5382 §5 REQ-5), which the last
/// packet may just have begun, and then that of ports at rest.
const ALL_TIMEOUTS: Duration = Duration::from_secs(3 * 3600);

/// Turns in a row without time passing, beyond which a timer is taken to be stuck.
const IDLE: usize = 1000;

/// What an input came by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Names of the reasons that frames were dropped for.
    pub drops: BTreeSet<String>,
    /// Bytes of the states that TCP sessions were in.
    pub states: BTreeSet<u8>,
}

impl Reached {
    /// Adds what another input came by.
    pub fn join(&mut self, other: Reached) {
        self.drops.extend(other.drops);
        self.states.extend(other.states);
    }
}

/// Lets the actions that the bytes stand for happen.
///
/// # Panics
///
/// If something does not hold that must.
pub fn frame_path(data: &[u8]) -> Reached {
    let mut run = Run::new();
    for action in Action::list(data) {
        run.act(&action);
    }
    run.finish()
}

struct Run {
    world: World,
    /// Whether frames pile up.
    piles: bool,
    /// Frames that the switch has not taken yet.
    injected: Vec<Injected>,
    /// The frames that each port got with the last action that it got any.
    got: Vec<Vec<Vec<u8>>>,
    counted: [Counted; PORTS],
    /// Whether every frame was right so far.
    is_sound: bool,
    reached: Reached,
}

/// What the other end of a link has counted.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    taken: u64,
    refused: u64,
    got: u64,
}

impl Run {
    fn new() -> Run {
        Run {
            world: World::new(),
            piles: false,
            injected: Vec::new(),
            got: vec![Vec::new(); PORTS],
            counted: [Counted::default(); PORTS],
            is_sound: true,
            reached: Reached::default(),
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Raw(port, bytes) => self.inject(usize::from(*port), bytes.clone()),
            Action::Packet(packet) => {
                for bytes in craft::packets(packet) {
                    self.inject(usize::from(packet.port), bytes);
                }
            }
            Action::Speak(speak) => self.inject(usize::from(speak.port), craft::speech(speak)),
            Action::Reply(reply) => {
                for got in self.last(reply.port, reply.all != 0) {
                    if let Some(bytes) = craft::reply(reply, &got) {
                        self.inject(usize::from(reply.port), bytes);
                    }
                }
            }
            Action::Complain(complain) => {
                self.is_sound &= complain.broken_by == 0;
                for got in self.last(complain.port, false) {
                    if let Some(bytes) = craft::complaint(complain, &got) {
                        self.inject(usize::from(complain.port), bytes);
                    }
                }
            }
            Action::Wait(span) => {
                self.turn();
                let millis = SPANS[usize::from(*span) % SPANS.len()];
                self.pass(Duration::from_millis(millis));
            }
            Action::Link(port, event) => self.link(usize::from(*port) % PORTS, *event),
            Action::Configure(part, value) => {
                self.turn();
                self.configure(*part, *value);
            }
            Action::Worker(value) => {
                self.world.first = usize::from(value & 1);
                self.piles = value & 2 != 0;
            }
        }
        if !self.piles {
            self.turn();
        }
    }

    /// The last frames that a port got.
    fn last(&self, port: u8, all: bool) -> Vec<Vec<u8>> {
        let got = &self.got[usize::from(port) % PORTS];
        if all {
            got.clone()
        } else {
            got.last().cloned().into_iter().collect()
        }
    }

    fn inject(&mut self, port: usize, bytes: Vec<u8>) {
        let port = port % PORTS;
        let slot = &self.world.slots[port];
        if !slot.is_plugged {
            return;
        }
        let full = heddle_switch::endpoint::TransmitError::Full;
        match slot.peer.send(&bytes) {
            Ok(()) => {
                self.counted[port].taken += 1;
                self.is_sound &= watch::is_sound(&bytes);
                self.injected.push((port, bytes));
            }
            Err(error) if error == full => self.counted[port].refused += 1,
            // It has hung up.
            Err(_) => {}
        }
    }

    fn link(&mut self, port: usize, event: LinkEvent) {
        let slot = &mut self.world.slots[port];
        match event {
            LinkEvent::HangUp => slot.peer.hang_up(),
            LinkEvent::Refuse => slot.peer.refuse(true),
            LinkEvent::Take => slot.peer.refuse(false),
            LinkEvent::Stall => slot.is_read = false,
            LinkEvent::Read if !slot.is_read => {
                slot.is_read = true;
                // Whose these are was to be asked when they were sent.
                let lying = std::iter::from_fn(|| slot.peer.receive()).count();
                self.counted[port].got += u64::try_from(lying).expect("few frames");
            }
            LinkEvent::Read => {}
        }
    }

    fn configure(&mut self, part: u8, value: u8) {
        let before: Vec<_> = self.ports();
        self.note();
        self.world.configure(part, value);
        for (index, before) in before.iter().enumerate() {
            let slot = &self.world.slots[index];
            // A new port counts from zero.
            if !std::ptr::eq(*before, std::sync::Arc::as_ptr(&slot.port)) {
                self.counted[index] = Counted::default();
                self.got[index].clear();
            }
        }
    }

    fn ports(&self) -> Vec<*const heddle_switch::Port> {
        let slots = self.world.slots.iter();
        slots
            .map(|slot| std::sync::Arc::as_ptr(&slot.port))
            .collect()
    }

    /// Lets time pass, timer by timer.
    fn pass(&mut self, span: Duration) {
        let end = self.world.now + span;
        let mut idle = 0;
        while let Some(deadline) = self.world.next_deadline().filter(|&due| due <= end) {
            idle = if deadline > self.world.now {
                0
            } else {
                idle + 1
            };
            assert!(idle < IDLE, "a deadline at {deadline:?} stays for ever");
            self.world.now = self.world.now.max(deadline);
            self.turn();
        }
        self.world.now = end;
        self.turn();
        (0..PORTS).for_each(|port| self.count(port));
        watch::everything_is_bounded(&self.world);
        self.note();
    }

    /// Lets the workers take what came in, and looks at what became of it.
    fn turn(&mut self) {
        if self.injected.is_empty() && self.world.switch.held_frames() == 0 {
            return self.tick();
        }
        let before = Totals::of(&self.world);
        self.world.turn();
        let after = Totals::of(&self.world);
        let injected = std::mem::take(&mut self.injected);
        let mut swallowed = injected
            .iter()
            .filter(|(_, bytes)| craft::is_resolution(bytes))
            .count();
        let for_us = injected
            .iter()
            .filter(|(_, bytes)| craft::is_fragment_for_us(bytes))
            .count();
        if for_us != 0 {
            // The others of its datagram may have waited.
            swallowed += for_us + before.held();
        }
        watch::every_frame_has_an_end(&before, &after, &injected, swallowed);
        for port in 0..PORTS {
            self.collect(port, &injected);
            self.count(port);
        }
        watch::everything_is_bounded(&self.world);
        self.note();
    }

    /// A turn for nobody's frame: at most the gateway asks for a neighbour.
    fn tick(&mut self) {
        self.world.turn();
        for port in 0..PORTS {
            self.collect(port, &[]);
        }
        assert_eq!(self.world.switch.held_frames(), 0);
    }

    /// Looks at the frames that a port got.
    fn collect(&mut self, port: usize, injected: &[Injected]) {
        let slot = &self.world.slots[port];
        if !slot.is_read {
            return;
        }
        let got: Vec<Vec<u8>> = std::iter::from_fn(|| slot.peer.receive()).collect();
        for bytes in &got {
            assert!(bytes.len() >= VNET_HEADER_LEN);
            watch::may_be_there(&self.world, injected, port, bytes);
            watch::fits(&self.world, port, bytes);
            if self.is_sound {
                assert!(
                    watch::is_sound(bytes),
                    "broke a frame for port {port}: {bytes:02x?}"
                );
            }
        }
        self.counted[port].got += u64::try_from(got.len()).expect("few frames");
        if !got.is_empty() {
            self.got[port] = got;
        }
    }

    /// The port has counted what its other end has.
    fn count(&self, port: usize) {
        let slot = &self.world.slots[port];
        if !slot.is_plugged {
            return;
        }
        let statistics = slot.port.statistics();
        let Counted {
            taken,
            refused,
            got,
        } = self.counted[port];
        assert_eq!(statistics.received_frames, taken, "port {port}");
        let full = DropReason::from(Cause::ReceiveRingFull);
        let lost = statistics.drops.iter().find(|(reason, _)| *reason == full);
        assert_eq!(lost.map_or(0, |(_, frames)| *frames), refused);
        // A super-frame is several frames on a link without offloads.
        if slot.is_read && takes_offloads(port) {
            assert_eq!(statistics.sent_frames, got, "port {port}");
        }
    }

    /// Takes note of drops and states.
    fn note(&mut self) {
        for slot in &self.world.slots {
            let drops = slot.port.statistics().drops;
            let names = drops.iter().map(|(reason, _)| reason.name());
            self.reached.drops.extend(names);
        }
        let states = &mut self.reached.states;
        self.world.switch.nat().for_each(|session| {
            if let SessionState::Tcp(state) = session.state() {
                assert_ne!(state, State::Closed, "a session that never began");
                states.insert(state.to_byte());
            }
        });
    }

    /// Lets every time-out pass; nothing is left then.
    fn finish(mut self) -> Reached {
        self.turn();
        for slot in &mut self.world.slots {
            slot.is_read = true;
        }
        for port in 0..PORTS {
            let uncollected = std::iter::from_fn(|| self.world.slots[port].peer.receive());
            self.counted[port].got += u64::try_from(uncollected.count()).expect("few frames");
        }
        self.pass(ALL_TIMEOUTS);
        watch::everything_is_over(&self.world);
        self.reached
    }
}
