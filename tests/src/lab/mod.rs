//! A switch in memory, with a clock that only the test moves.
//!
//! In the order in which a test meets them:
//!
//! 1. [`Plan`] — networks, hosts and legs, said fluently; [`campus()`] is the one that most tests use,
//!    and [`SIDES`] are its addresses in both families.
//! 2. [`Lab`] — the switch under a plan: send frames, let time pass, change the plan.
//! 3. [`Step`] — what one of these did, held against what the test says it must have done. **Everything
//!    that is not named must not have moved**: counters, drops, stations, neighbours, sessions,
//!    mappings, waiting frames, events, and frames at every host.
//! 4. [`Side::outward`], [`Side::inward`], [`Carried`] and [`Connection`]: packets through the translation,
//!    as they are sent and as they arrive.
//! 5. [`fragments()`] and [`Step::arrives_renumbered`]: datagrams in pieces, and those that get another
//!    identification on their way.
//! 6. [`SmolHost`] — a host with a whole TCP/IP stack of other people's making, on a link that may lose,
//!    repeat and reorder frames ([`Impairment`]).

mod campus;
mod carried;
mod describe;
mod fragments;
mod impairment;
mod outside;
mod plan;
mod rules;
mod smol;
mod state;
mod step;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use heddle_mem::Instant;
use heddle_switch::endpoint::{MemoryPeer, TransmitError};
use heddle_switch::{Event, Options, Switch, Worker};
use heddle_wire::builder::Link;
use heddle_wire::{MacAddr, VnetHeader};

pub use campus::{
    NEXT_HOP_MAC, SIDES, Side, Told, campus, campus_online, campus_online_with, go_online,
};
pub use carried::Carried;
pub use describe::describe;
pub use fragments::{fragments, identification};
pub use impairment::Impairment;
pub use outside::{Connection, FIN_ACK, SYN_ACK};
pub use plan::{HostPlan, LegPlan, NetworkPlan, Plan};
pub use rules::{RulePlan, addresses, rule};
pub use smol::SmolHost;
pub use state::{PortState, SessionState, State, StationState, Traffic};
pub use step::Step;

/// The name of a port, network or leg.
pub type Name = &'static str;

/// When a lab begins: far enough from zero that nothing is "at the start" by accident.
const START: Instant = Instant::from_micros(3_600_000_000);

/// A switch, its workers and the other ends of its links.
#[derive(Debug)]
pub struct Lab {
    switch: Switch,
    workers: Vec<Worker>,
    /// Which worker turns first.
    first: usize,
    now: Instant,
    plan: Plan,
    events: Arc<Mutex<Vec<Event>>>,
    /// Ports whose frames somebody else takes.
    taken: Vec<Name>,
    /// Everything as it stood after the last step.
    verified: State,
}

impl Lab {
    /// A lab with a plan.
    ///
    /// # Panics
    ///
    /// If the plan contradicts itself.
    #[must_use]
    pub fn new(make: impl FnOnce(&mut Plan)) -> Lab {
        let mut plan = Plan::new();
        make(&mut plan);
        let events = Arc::new(Mutex::new(Vec::new()));
        let log = events.clone();
        let options = Options {
            workers: plan.workers,
            sessions: plan.sessions,
            stations: plan.stations,
            seed: Some(plan.seed),
            now: START,
            on_event: Box::new(move |event| {
                log.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(event);
            }),
        };
        let (switch, workers) = Switch::new(options).expect("a lab needs a poller, no more");
        let mut lab = Lab {
            switch,
            workers,
            first: 0,
            now: START,
            plan,
            events,
            taken: Vec::new(),
            verified: State::default(),
        };
        lab.publish();
        lab.verified = lab.observe();
        lab
    }

    fn publish(&mut self) {
        let config = self.plan.config();
        self.switch
            .publish(config, self.now)
            .expect("memory endpoints need no poller and workers are asleep");
    }

    /// Changes the plan and puts it in force.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut Plan)) -> Step<'_> {
        change(&mut self.plan);
        self.publish();
        self.turn();
        Step::new(self)
    }

    /// A finished frame from a host.
    pub fn send(&mut self, from: Name, frame: &[u8]) -> Step<'_> {
        self.send_with(from, &VnetHeader::NONE, frame)
    }

    /// A frame from a host that leaves something to do.
    pub fn send_with(&mut self, from: Name, header: &VnetHeader, frame: &[u8]) -> Step<'_> {
        self.send_raw(from, &[&header.emit(), frame].concat())
    }

    /// Several finished frames from a host in one burst.
    pub fn send_all<F: AsRef<[u8]>>(&mut self, from: Name, frames: &[F]) -> Step<'_> {
        for frame in frames {
            let bytes = [&VnetHeader::NONE.emit(), frame.as_ref()].concat();
            self.put(from, &bytes);
        }
        self.turn();
        let mut step = Step::new(self);
        for frame in frames {
            step.expect_received(from, frame.as_ref().len());
        }
        step
    }

    /// Bytes from a host, virtio-net header or not.
    pub fn send_raw(&mut self, from: Name, bytes: &[u8]) -> Step<'_> {
        self.put(from, bytes);
        self.turn();
        let mut step = Step::new(self);
        step.expect_received(from, bytes.len().saturating_sub(VNET_LEN));
        step
    }

    /// Puts a frame on a host's link; the switch takes it in the next step.
    fn put(&self, from: Name, bytes: &[u8]) {
        let sent = self.plan.peer(from).send(bytes);
        sent.expect("a test overfills a link with `overfill`");
    }

    /// Lets time pass, timer by timer.
    ///
    /// # Panics
    ///
    /// If a timer never has enough.
    pub fn advance(&mut self, span: Duration) -> Step<'_> {
        self.pass(span);
        Step::new(self)
    }

    /// Lets time pass, and compares nothing.
    ///
    /// # Panics
    ///
    /// If a timer never has enough.
    pub fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        let mut idle = 0;
        while let Some(deadline) = self.next_deadline().filter(|&deadline| deadline <= end) {
            idle = if deadline > self.now { 0 } else { idle + 1 };
            assert!(idle < 10_000, "a deadline at {deadline:?} stays for ever");
            self.now = self.now.max(deadline);
            self.turn();
        }
        self.now = end;
        self.turn();
    }

    /// Lets the workers look at their ports and timers at the present time.
    pub fn settle(&mut self) -> Step<'_> {
        self.turn();
        Step::new(self)
    }

    /// Each worker once, beginning with the chosen one, until nobody has anything.
    pub(crate) fn turn(&mut self) {
        let count = self.workers.len();
        for offset in 0..count {
            self.workers[(self.first + offset) % count].turn(self.now);
        }
    }

    /// Chooses the worker that looks first, and so does all the work of a step.
    pub fn work_with(&mut self, worker: usize) {
        assert!(worker < self.workers.len(), "there is no worker {worker}");
        self.first = worker;
    }

    /// When the next timer is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.workers.iter().filter_map(Worker::next_deadline).min()
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The switch itself.
    #[must_use]
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// The plan in force.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The other end of a port's link, for what no step can say.
    #[must_use]
    pub fn peer(&self, port: Name) -> &MemoryPeer {
        self.plan.peer(port)
    }

    /// Sends more frames from a host than its link holds; `lost` of them find it full. The switch takes
    /// the others in the next step, which has to say that it received them.
    ///
    /// # Panics
    ///
    /// If the link holds another number than the plan says.
    pub fn overfill(&mut self, port: Name, frame: &[u8], lost: usize) -> usize {
        let bytes = [&VnetHeader::NONE.emit(), frame].concat();
        let queue = self.plan.queue(port);
        for _ in 0..queue {
            self.put(port, &bytes);
        }
        for _ in 0..lost {
            assert_eq!(self.plan.peer(port).send(&bytes), Err(TransmitError::Full));
        }
        queue
    }

    /// The MAC address of a host or leg.
    #[must_use]
    pub fn mac(&self, port: Name) -> MacAddr {
        self.plan.mac(port)
    }

    /// A link from one host to another of its network.
    #[must_use]
    pub fn link(&self, from: Name, to: Name) -> Link {
        Link::new(self.mac(from), self.mac(to))
    }

    /// A link from a host to all others of its network.
    #[must_use]
    pub fn to_all(&self, from: Name) -> Link {
        Link::new(self.mac(from), MacAddr::BROADCAST)
    }

    /// A link from a host to its gateway.
    #[must_use]
    pub fn to_gateway(&self, host: Name) -> Link {
        Link::new(self.mac(host), self.plan.gateway_mac(host))
    }

    /// A link from its gateway to a host.
    #[must_use]
    pub fn from_gateway(&self, host: Name) -> Link {
        Link::new(self.plan.gateway_mac(host), self.mac(host))
    }

    /// Ends every session, quietly: for the end of a test's preparations.
    ///
    /// # Panics
    ///
    /// If frames lie uncollected.
    pub fn end_sessions(&mut self) {
        self.switch.flush_sessions(self.now, |_| true);
        self.accept();
    }

    /// Takes everything as it stands for granted from now on.
    ///
    /// # Panics
    ///
    /// If frames lie uncollected.
    pub fn accept(&mut self) {
        let uncollected: BTreeMap<_, _> = self.collect();
        assert!(uncollected.is_empty(), "uncollected: {uncollected:?}");
        self.verified = self.observe();
        self.take_events();
    }

    /// The frames at every host, removed from there; only hosts that have some.
    pub(crate) fn collect(&self) -> BTreeMap<Name, Vec<Vec<u8>>> {
        let ports = self.plan.ports().filter(|port| !self.taken.contains(port));
        ports
            .map(|port| (port, self.drain(port)))
            .filter(|(_, frames)| !frames.is_empty())
            .collect()
    }

    /// The frames at a host, removed from there.
    pub fn drain(&self, port: Name) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.plan.peer(port).receive()).collect()
    }

    pub(crate) fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything that a step compares.
    #[must_use]
    pub fn observe(&self) -> State {
        State::observe(&self.switch, &self.plan)
    }

    /// Hands a port's link to somebody else: its frames are not looked at from now on.
    pub(crate) fn take(&mut self, port: Name) -> MemoryPeer {
        self.taken.push(port);
        self.plan.peer(port).clone()
    }

    /// Takes the lab apart, for tests with threads of their own.
    #[must_use]
    pub fn into_parts(self) -> (Switch, Vec<Worker>, Plan) {
        (self.switch, self.workers, self.plan)
    }
}

/// Octets of the header in front of each frame.
const VNET_LEN: usize = heddle_wire::VNET_HEADER_LEN;
