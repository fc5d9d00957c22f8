//! The life of a frame, from top to bottom.
//!
//! ```text
//! endpoint ─ receive ─┬─ security ─ bridge ─┬─ another port
//!            (parse)  │                     └─ gateway address ─ gateway
//!                     │                         │      router ─┬─ inside: (filter) another endpoint
//!                     │                         └──────────────┴─ leg: translate ─ filter ─ egress
//!                     └─ from a leg: outside ─ translate ─ filter ─ egress
//!
//! translate, gateway ─ a fragment: reassemble ─ the whole datagram: security or outside, as above
//! ```
//!
//! A walk runs to completion on one thread: it allocates nothing, holds no lock over a system call,
//! and ends in exactly one of: sent, consumed by the gateway, held for a neighbour, or dropped for one
//! [`DropReason`]. Stages return `Err` to end a frame; what the sender is told travels with the
//! reason ([`Refused`]).

mod answer;
mod bridge;
mod egress;
mod filter;
mod gateway;
mod neighbours;
mod outside;
mod reassemble;
mod router;
mod routers;
mod security;
mod translate;
mod within;

use heddle_mem::Instant;
use heddle_nat::{Nat, Packet, Published, Refusal};
use heddle_wire::{Address, Ip, Malformed, Summary};

pub use answer::Answer;
pub(crate) use router::host_unknown;

use crate::config::{Config, Network};
use crate::drop::{Cause, DropReason};
use crate::frame::{Frame, HeldFrame};
use crate::leg::PortLeg;
use crate::port::{Identity, Port, PortId, Role};
use crate::switch::Tables;
use crate::worker::Local;

/// Why a frame ends, and what its sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub(crate) reason: DropReason,
    pub(crate) answer: Answer,
}

impl Refused {
    /// An end of which the sender is told.
    pub(crate) fn with(cause: Cause, answer: Answer) -> Refused {
        Refused {
            reason: cause.into(),
            answer,
        }
    }
}

impl From<Cause> for Refused {
    fn from(cause: Cause) -> Refused {
        Refused {
            reason: cause.into(),
            answer: Answer::Silence,
        }
    }
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Refused {
        Refused {
            reason: malformed.into(),
            answer: Answer::Silence,
        }
    }
}

impl From<Refusal> for Refused {
    /// At limits the sender is told "administratively prohibited" (RFC 5508 §9 REQ-8), unsolicited
    /// packets from outside get no answer (RFC 5382 §4.3 REQ-4 a).
    fn from(refusal: Refusal) -> Refused {
        match refusal {
            Refusal::NotSyn => Refused::with(Cause::NotSyn, Answer::Reset),
            Refusal::OutOfWindow => Cause::OutOfWindow.into(),
            Refusal::Unsolicited => Cause::Unsolicited.into(),
            Refusal::Filtered => Cause::Filtered.into(),
            Refusal::PortsExhausted => Refused::with(Cause::PortsExhausted, Answer::Prohibited),
            Refusal::SessionsExhausted => {
                Refused::with(Cause::SessionsExhausted, Answer::Prohibited)
            }
            Refusal::OwnerQuota => Refused::with(Cause::EndpointQuota, Answer::Prohibited),
            Refusal::Conflict => Refused::with(Cause::FlowConflict, Answer::Prohibited),
            Refusal::ErrorUnmatched => Cause::ErrorUnmatched.into(),
        }
    }
}

/// One worker's view of the switch while it processes frames.
#[derive(Debug)]
pub struct Walk<'w> {
    pub(crate) config: &'w Config,
    pub(crate) tables: &'w Tables,
    pub(crate) local: &'w mut Local,
    pub(crate) now: Instant,
}

impl<'w> Walk<'w> {
    /// Processes a burst of frames from one port, virtio-net header first.
    pub(crate) fn receive(&mut self, ingress: &Port, burst: &mut crate::endpoint::Burst<'_>) {
        let counters = ingress.counters(self.local.worker);
        let octets = |bytes: &&mut [u8]| bytes.len().saturating_sub(heddle_wire::VNET_HEADER_LEN);
        counters.received_frames.add(count(burst.len()));
        counters
            .received_bytes
            .add(count(burst.iter().map(octets).sum()));
        match Origin::of(self.config, ingress) {
            Origin::Member(network, identity) => {
                self.receive_each(ingress, burst, |walk, frame| {
                    walk.receive_from_member(ingress, network, identity, frame)
                })
            }
            Origin::Leg(leg) => self.receive_each(ingress, burst, |walk, frame| {
                walk.receive_from_leg(ingress, leg, frame)
            }),
            Origin::Nowhere => {
                self.receive_each(ingress, burst, |_, _| Err(Cause::PortGone.into()));
            }
        }
    }

    /// The loop over a burst: all that comes from one port goes one way at first.
    #[inline(always)]
    fn receive_each(
        &mut self,
        ingress: &Port,
        burst: &mut crate::endpoint::Burst<'_>,
        mut receive: impl FnMut(&mut Self, &mut Frame<'_>) -> Result<(), Refused>,
    ) {
        let mut summary = Summary::EMPTY;
        for bytes in burst {
            match Frame::parse(bytes, &mut summary) {
                Ok(mut frame) => {
                    if let Err(refused) = receive(self, &mut frame) {
                        self.end(ingress, &frame, refused);
                    }
                }
                Err(reason) => ingress.counters(self.local.worker).dropped(reason),
            }
        }
    }

    /// Counts the end of a frame and tells its sender.
    #[inline(never)]
    fn end(&mut self, ingress: &Port, frame: &Frame<'_>, refused: Refused) {
        let counters = ingress.counters(self.local.worker);
        counters.dropped_many(refused.reason, frame.count());
        self.answer(ingress, frame, refused.answer);
    }

    /// Walks a frame from the start that has been counted as received.
    fn receive_again(&mut self, ingress: &Port, frame: &mut Frame<'_>) {
        let end = match Origin::of(self.config, ingress) {
            Origin::Member(network, identity) => {
                self.receive_from_member(ingress, network, identity, frame)
            }
            Origin::Leg(leg) => self.receive_from_leg(ingress, leg, frame),
            Origin::Nowhere => Err(Cause::PortGone.into()),
        };
        if let Err(refused) = end {
            self.end(ingress, frame, refused);
        }
    }

    /// Walks a frame that has waited once more, from the start. It has been counted as received. One
    /// that came in fragments comes together again: nothing may have changed under it unseen.
    pub(crate) fn resume(&mut self, mut held: HeldFrame) {
        let Some(ingress) = self.config.port(held.ingress) else {
            return;
        };
        // Checked when it first arrived, but under another configuration.
        held.for_each(|bytes| {
            let mut summary = Summary::EMPTY;
            if let Ok(mut frame) = Frame::parse(bytes, &mut summary) {
                self.receive_again(ingress, &mut frame);
            }
        });
    }

    pub(crate) fn nat(&self) -> &'w Nat {
        &self.tables.nat
    }

    pub(crate) fn published(&self) -> &'w Published {
        self.config.published()
    }

    /// 64 unpredictable bits.
    pub(crate) fn random(&mut self) -> u64 {
        self.local.random()
    }

    /// The endpoint that has an address.
    pub(crate) fn host(&self, address: Address) -> Option<PortId> {
        self.config.host(address)
    }

    /// Whether an endpoint may speak to an address of another one directly.
    pub(crate) fn reaches(&self, from: &Port, to: Address) -> bool {
        let network = from.network().and_then(|id| self.config.network(id));
        let other = self.host(to).and_then(|id| self.config.port(id)?.network());
        network
            .zip(other)
            .is_some_and(|(network, other)| network.reaches(other))
    }

    /// Whether what an endpoint sends to an address would be routed to another one, and so never go
    /// out.
    pub(crate) fn routes_inside(&self, endpoint: PortId, address: Address) -> bool {
        let network = self.config.port(endpoint).and_then(|port| port.network());
        let network = network.and_then(|id| self.config.network(id));
        network.is_some_and(|network| network.route_to(address).is_some())
    }

    /// What tracking looks at.
    pub(crate) fn packet(&self, frame: &Frame<'_>, ip: &Ip) -> Packet {
        translate::packet_of(frame, ip)
    }
}

/// What a port belongs to: looked up once for a burst.
#[derive(Clone, Copy, Debug)]
enum Origin<'c> {
    Member(&'c Network, &'c Identity),
    Leg(&'c PortLeg),
    /// To nothing that there is.
    Nowhere,
}

impl<'c> Origin<'c> {
    fn of(config: &'c Config, port: &'c Port) -> Origin<'c> {
        match &port.role {
            Role::Member { network, identity } => config
                .network(*network)
                .map_or(Origin::Nowhere, |network| Origin::Member(network, identity)),
            Role::Leg(leg) => config
                .leg(*leg)
                .map_or(Origin::Nowhere, |leg| Origin::Leg(leg)),
        }
    }
}

/// A number of frames or octets as it is counted.
fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
