//! Fragments of datagrams that somebody must see whole.
//!
//! Nothing here asks who: whoever needs the whole datagram hands its fragments over and returns. When
//! the last one is there, the datagram walks from the start, as if it had come in one frame.

use heddle_wire::{Ip, Part, Summary, VNET_HEADER_LEN, VnetHeader};

use super::{Answer, Refused, Walk};
use crate::drop::Cause;
use crate::frame::Frame;
use crate::port::{Port, PortId, Role};
use crate::reassembly::{Assembly, Fragment, Outcome, Share};

impl Walk<'_> {
    /// Takes over a fragment. It waits until the others are there; then all of them walk from the start
    /// as one frame, which leaves in the fragments that it came in.
    pub(crate) fn reassemble(
        &mut self,
        ingress: &Port,
        frame: &Frame<'_>,
        ip: &Ip,
    ) -> Result<(), Refused> {
        let part = Part::of(frame.ethernet(), ip).ok_or(Cause::FragmentIncomplete)?;
        let share = match ingress.role {
            Role::Member { .. } => Share::MEMBER,
            Role::Leg(_) => Share::LEG,
        };
        let fragment = Fragment {
            port: ingress.id,
            share,
            frame: frame.ethernet(),
            ip,
            part,
        };
        let (config, worker) = (self.config, self.local.worker);
        let mut evicted = |port: PortId, fragments| {
            if let Some(port) = config.port(port) {
                let reason = Cause::FragmentQuota.into();
                port.counters(worker).dropped_many(reason, fragments);
            }
        };
        let mut assembly = self.local.take_assembly();
        let reassembly = &self.tables.reassembly;
        let outcome = reassembly.add(&fragment, &mut assembly, self.now, &mut evicted);
        let end = match outcome {
            Outcome::Waits => Ok(()),
            Outcome::Whole => {
                self.receive_whole(ingress, &mut assembly);
                Ok(())
            }
            Outcome::Refused(reason, others) => {
                ingress.counters(worker).dropped_many(reason, others);
                Err(Refused {
                    reason,
                    answer: Answer::Silence,
                })
            }
        };
        self.local.give_back_assembly(assembly);
        end
    }

    /// A datagram that has become whole.
    fn receive_whole(&mut self, ingress: &Port, assembly: &mut Assembly) {
        let (_, parts) = assembly.split();
        let fragments = parts.count();
        let mut summary = Summary::EMPTY;
        match Frame::assembled(assembly, &mut summary) {
            Ok(mut frame) => self.receive_again(ingress, &mut frame),
            Err(reason) => {
                let counters = ingress.counters(self.local.worker);
                counters.dropped_many(reason, fragments);
            }
        }
    }

    /// Gives up datagrams that did not come together in time, `budget` of them at most.
    pub(crate) fn fragments_due(&mut self, budget: usize) {
        let mut assembly = self.local.take_assembly();
        for _ in 0..budget {
            let reassembly = &self.tables.reassembly;
            let Some(expired) = reassembly.expire(self.now, &mut assembly) else {
                break;
            };
            // What came from a port that is gone has been forgotten.
            let Some(ingress) = self.config.port(expired.port) else {
                continue;
            };
            let reason = Cause::FragmentIncomplete.into();
            let counters = ingress.counters(self.local.worker);
            counters.dropped_many(reason, expired.fragments);
            if expired.has_first {
                self.tell_incomplete(ingress, &mut assembly);
            }
        }
        self.local.give_back_assembly(assembly);
    }

    /// Tells the sender that its datagram did not come together. This is for the host that it was sent
    /// to (RFC 792, RFC 1122 §3.2.2.4, RFC 8200 §4.5), so only where that is us; for others we are on the
    /// way, and they have not missed anything yet.
    fn tell_incomplete(&mut self, ingress: &Port, assembly: &mut Assembly) {
        let (bytes, parts) = assembly.split();
        let mut first = VnetHeader::NONE.emit().to_vec();
        let whole = bytes.get(VNET_HEADER_LEN..).unwrap_or_default();
        parts.as_they_came(whole, &mut Vec::new(), |fragment| {
            first.extend_from_slice(fragment);
        });
        let mut summary = Summary::EMPTY;
        let Ok(frame) = Frame::parse(&mut first, &mut summary) else {
            return;
        };
        let Some(ip) = frame.ip() else { return };
        let is_own = match &ingress.role {
            Role::Member { network, .. } => {
                let network = self.config.network(*network);
                network.is_some_and(|network| self.is_own_address(network, ip.destination))
            }
            Role::Leg(leg) => {
                let leg = self.config.leg(*leg);
                leg.is_some_and(|leg| leg.owns(ip.destination))
            }
        };
        if is_own {
            self.answer(ingress, &frame, Answer::ReassemblyTimeExceeded);
        }
    }
}
