//! What a translator must know of a TCP connection: is it opening, open, half closed, closing, and
//! which sequence numbers may its two ends use.
//!
//! # Theory of operation
//!
//! The state is that of the *whole* connection as RFC 6146 §3.5.2.2 draws it (eight states), with
//! the RFC's IPv6 and IPv4 side replaced by our *original* and *reply* direction. A state alone
//! would let anybody who guesses addresses and ports close a connection with a forged RST (RFC 7857
//! §2.2, RFC 5961), so each direction also keeps a [`Window`], after Guido van Rooij, "Real Stateful
//! TCP Packet Filtering in IP Filter" (2001), §3. A segment of `sequence .. end` that acknowledges
//! `ack` is inside when
//!
//! - **I** `sequence <= max(sender.edge, sender.end)`: not beyond what the receiver has allowed, or
//!   else right behind what has passed already;
//! - **II** `end >= sender.end - receiver.window - 1`: not older than one receive window and the octet
//!   before it, where keep-alives and probes lie;
//! - **III** `ack <= receiver.end`: acknowledges nothing that was not sent;
//! - **IV** `ack >= sender.acknowledged - max(ACK_WINDOW, 2 * sender.window)`: acknowledges nothing
//!   ancient.
//!
//! I, II and IV are wider than the paper's, which is stricter there than the hosts themselves. A FIN may
//! lie behind a closed window and be followed by acknowledgements. Hosts take acknowledgements one
//! window back from the last one they have got (RFC 5961 §5.2), which may be a window older than the
//! last one that has passed here. What a host would take must not be dropped on its way.
//!
//! Super-frames (segmentation offload) are one long segment here; all four hold for them as well,
//! because I looks only at where a segment begins.
//!
//! # Ends that have forgotten
//!
//! A host that was reset knows nothing of its connections, and sooner or later uses the same ports
//! again. RFC 9293 §3.5.1 has the ends sort that out with SYN, a challenge ACK (RFC 5961 §4) and RST;
//! the tracker must let them, and follow. Whoever is *outside* could be anybody: an outsider's segment
//! that has nothing to do with the connection changes nothing, and unless it is a SYN, is dropped. An
//! *inside* end is who it says it is (its address is pinned to its port) and knows best: tracking
//! starts over from its SYN or its SYN-ACK, and even in the middle, should it turn out that a SYN was
//! only a late one and the connection goes on.
//!
//! Ends that have not agreed on a connection yet get whatever they send each other: they can tell an
//! answer from nonsense better than we can, and what is nonsense to them makes them send the RST that
//! helps. Only what makes sense to us moves the state.
//!
//! # Departures
//!
//! - A connection is opening until its opener has acknowledged the answer, as RFC 5382 §5 counts it;
//!   RFC 6146 ends that state with the answer. The difference is what a flood of SYNs with forged
//!   sources leaves behind: sessions that can be given up, not sessions that stay for hours.
//! - A RST counts as exact when it carries either the highest sequence number its sender has used
//!   or the highest one its receiver has acknowledged. The first is what an aborting host sends
//!   while data is in flight, the second is RFC 5961's RCV.NXT.
//! - A SYN in a closing state begins a new connection on the same tuple at once (RFC 6191): clients
//!   reuse ports long before [`CLOSING_TIMEOUT`] is over. One from outside that may be a late one of
//!   the connection itself only passes; the answer from inside tells which it was. One from inside
//!   is believed. Should it be late, the connection goes on where its inside end says that it is, but
//!   a few segments may have to be sent again, and the session may stay for the hours of an open one.

#[cfg(test)]
mod simulation;
mod state;
#[cfg(test)]
mod tests;
mod window;

use heddle_wire::TcpFlags;

pub(crate) use self::state::is_open;
pub use self::state::{CLOSING_TIMEOUT, ESTABLISHED_TIMEOUT, Input, OPENING_TIMEOUT, State};
pub use self::window::Window;
pub(crate) use self::window::follows;
use self::window::{
    MAX_WINDOW, MAX_WINDOW_SHIFT, acknowledge, is_after, is_between, is_recent, may_acknowledge,
    move_forward, scaled,
};
use crate::tuple::Direction;

/// How far a SYN may lie behind what its sender has sent since and still be taken for a late one of
/// the same connection, and how far ahead for one in its window. No link holds a segment back for
/// longer; one new connection in 256 is not recognised at its SYN, but at what follows.
const SYN_WINDOW: u32 = 1 << 24;

/// The parts of a segment that tracking looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Control bits.
    pub flags: TcpFlags,
    /// Sequence number of the first octet.
    pub sequence: u32,
    /// Acknowledgement number; meaningless without ACK.
    pub acknowledgement: u32,
    /// Window field as it stands in the header.
    pub window: u16,
    /// Octets of payload.
    pub payload_len: u32,
    /// Shift of the window scale option, on a SYN that carries one (RFC 7323 §2.2).
    pub window_shift: Option<u8>,
}

impl Segment {
    /// Sequence number behind the segment; SYN and FIN count one each (RFC 9293 §3.4).
    #[inline]
    fn end(&self) -> u32 {
        let control = u32::from(self.flags.contains(TcpFlags::SYN))
            + u32::from(self.flags.contains(TcpFlags::FIN));
        self.sequence
            .wrapping_add(self.payload_len)
            .wrapping_add(control)
    }

    /// Whether the segment asks for a new connection (RFC 9293 §3.5): SYN and neither ACK nor RST.
    #[must_use]
    pub fn is_opening(&self) -> bool {
        Input::of(self.flags) == Input::Syn
    }

    /// Whether the segment belongs to a connection that is open, as far as one can see.
    #[must_use]
    pub fn is_in_the_middle(&self) -> bool {
        Input::of(self.flags) == Input::Other && self.acknowledges()
    }

    /// Whether the acknowledgement number says anything: not without the ACK bit, nor in a
    /// RST of a stack that sets the bit but leaves the number zero.
    #[inline]
    fn acknowledges(&self) -> bool {
        self.flags.contains(TcpFlags::ACK)
            && !(self.flags.contains(TcpFlags::RST) && self.acknowledgement == 0)
    }
}

/// Whether a segment may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to the connection: forward it and restart the timer of the state it led to.
    Accept,
    /// It may pass, but proves nothing: forward it and leave state and timer alone.
    AcceptWithoutRefresh,
    /// It is outside the window: drop it.
    OutOfWindow,
}

/// Windows of a connection, the original direction first, and their scale shifts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracking {
    /// [`Window`] by direction.
    pub windows: [Window; 2],
    /// Window scale shift by direction; [`Self::NO_SHIFT`] where the option was not offered.
    pub shifts: [u8; 2],
    /// Which ends are inside, and so believed when they say that the connection is gone.
    pub inside: [bool; 2],
}

impl Tracking {
    /// Stands for "this end did not offer window scaling".
    pub const NO_SHIFT: u8 = 15;

    /// Takes `segment` from `side` into account and returns the new state and the verdict.
    ///
    /// Nothing changes unless the verdict is [`Verdict::Accept`].
    #[inline]
    pub fn update(&mut self, state: State, side: Direction, segment: &Segment) -> (State, Verdict) {
        let input = Input::of(segment.flags);
        match input {
            Input::Other | Input::Fin => match self.segment(state, side, segment) {
                (state, Verdict::Accept) => (state.next(side, input), Verdict::Accept),
                strange => strange,
            },
            Input::Syn => self.syn(state, side, segment),
            Input::SynAck => self.syn_ack(state, side, segment),
            Input::Rst => match self.reset(state, side, segment) {
                Verdict::Accept => (state.next(side, input), Verdict::Accept),
                verdict => (state, verdict),
            },
        }
    }

    /// Everything that is neither SYN nor RST, and the state that it finds.
    #[inline]
    fn segment(&mut self, state: State, side: Direction, segment: &Segment) -> (State, Verdict) {
        let known = self.sender(side).is_known() && self.receiver(side).is_known();
        let belongs = known
            && self.contains(side, segment)
            && (state.opener() != Some(side) || self.answers(side, segment));
        if belongs {
            self.advance(side, segment);
            (state, Verdict::Accept)
        } else {
            self.strange_segment(state, side, segment)
        }
    }

    /// What does not lie in the connection.
    #[cold]
    fn strange_segment(
        &mut self,
        state: State,
        side: Direction,
        segment: &Segment,
    ) -> (State, Verdict) {
        let (sender, receiver) = (*self.sender(side), *self.receiver(side));
        let is_elsewhere = match (sender.is_known(), receiver.is_known()) {
            (true, true) => {
                !self.is_near(side, segment) && !self.acknowledgement_is_inside(side, segment)
            }
            // From an end that seemed to wait for an answer.
            (true, false) => state.opener() == Some(side),
            _ => false,
        };
        if is_elsewhere && self.inside[side.index()] && segment.acknowledges() {
            self.follow(side, segment);
            // Nothing that was seen before is a word about this connection, no FIN either.
            return (State::Transitory, Verdict::Accept);
        }
        // Between ends that have not agreed yet: one of them still has an older connection. The other
        // one answers with a RST, which ends that.
        if state.opener().is_some() && segment.acknowledges() {
            return (state, Verdict::AcceptWithoutRefresh);
        }
        (state, Verdict::OutOfWindow)
    }

    /// What can be known of a connection between two inside ends that is taken up in the middle, by a
    /// segment from `side`.
    pub(crate) fn take_up(side: Direction, segment: &Segment) -> (Tracking, State) {
        let mut tracking = Tracking {
            inside: [true; 2],
            ..Tracking::default()
        };
        tracking.follow(side, segment);
        (tracking, State::Transitory)
    }

    /// Starts over in the middle of a connection, where an inside end says that it is.
    fn follow(&mut self, side: Direction, segment: &Segment) {
        // How wide the windows are, nobody says here. As wide as what is near: there is nothing then
        // that neither belongs to the connection nor starts it over.
        self.shifts = [MAX_WINDOW_SHIFT; 2];
        let window = self.announced_window(side, segment).max(SYN_WINDOW);
        let acknowledged = segment.acknowledgement;
        // Nor how much more than this segment shows the ends have sent each other before.
        let [end, other_end] =
            [segment.end(), acknowledged].map(|number| number.wrapping_add(SYN_WINDOW / 2));
        let [sender, receiver] = self.pair_mut(side);
        *sender = Window {
            end,
            edge: end.wrapping_add(SYN_WINDOW),
            window,
            acknowledged,
        };
        *receiver = Window {
            end: other_end,
            edge: acknowledged.wrapping_add(window),
            window: SYN_WINDOW,
            acknowledged: segment.sequence,
        };
    }

    /// Whether the opener's segment acknowledges the other end's SYN. Only who has seen the answer
    /// knows its number, so there is no tolerance here as in IV.
    fn answers(&self, side: Direction, segment: &Segment) -> bool {
        segment.acknowledges() && is_after(segment.acknowledgement, self.sender(side).acknowledged)
    }

    #[cold]
    fn syn(&mut self, state: State, side: Direction, segment: &Segment) -> (State, Verdict) {
        if state.is_over() && !self.is_for_the_answer_to_tell(side, segment) {
            return self.begin(side, segment);
        }
        match (self.sender(side).is_known(), self.receiver(side).is_known()) {
            // Once more from the end that has not been answered.
            (true, false) => {
                let [sender, _] = self.pair_mut(side);
                if segment.sequence.wrapping_add(1) != sender.edge {
                    return self.begin(side, segment);
                }
                // The same SYN; perhaps without the data it had before (RFC 7413 §4.1.3), which may
                // be acknowledged all the same.
                if is_after(segment.end(), sender.end) {
                    sender.end = segment.end();
                }
                (state, Verdict::Accept)
            }
            // Simultaneous open: it acknowledges nothing, so there is nothing to check.
            (false, true) => {
                self.learn(side, segment);
                (state, Verdict::Accept)
            }
            _ if self.has_forgotten(side, segment) => self.begin(side, segment),
            _ => (state, Verdict::AcceptWithoutRefresh),
        }
    }

    #[cold]
    fn syn_ack(&mut self, state: State, side: Direction, segment: &Segment) -> (State, Verdict) {
        let awaited = state.opener() == Some(side.inverse());
        let (sender, receiver) = (*self.sender(side), *self.receiver(side));
        if !receiver.is_known() {
            return (state, Verdict::OutOfWindow);
        }
        if !sender.is_known() {
            if !awaited {
                return (state, Verdict::OutOfWindow);
            }
            if !is_between(receiver.edge, segment.acknowledgement, receiver.end) {
                // An answer to an earlier SYN from the same port.
                return (state, Verdict::AcceptWithoutRefresh);
            }
            self.learn(side, segment);
            return (state, Verdict::Accept);
        }
        if self.is_near(side, segment) && self.acknowledgement_is_inside(side, segment) {
            return (state, Verdict::AcceptWithoutRefresh);
        }
        // Another answer to the same SYN: a server without memory (RFC 4987 §3.6) may use another
        // sequence number each time, and only the last one may have arrived.
        if awaited && is_between(sender.acknowledged, segment.acknowledgement, receiver.end) {
            self.learn(side, segment);
            return (state, Verdict::Accept);
        }
        if self.inside[side.index()] {
            self.learn_from_answer(side, segment);
            return (State::opening(side.inverse()), Verdict::Accept);
        }
        (state, Verdict::AcceptWithoutRefresh)
    }

    /// RFC 7857 §2.2 with RFC 5961 §3: exact ends the connection, merely plausible passes without
    /// effect, everything else is dropped.
    #[cold]
    fn reset(&self, state: State, side: Direction, segment: &Segment) -> Verdict {
        let (sender, receiver) = (*self.sender(side), *self.receiver(side));
        match (sender.is_known(), receiver.is_known()) {
            // Refusal of a SYN: the sequence number is zero and the ACK is all the proof there is
            // (RFC 9293 §3.10.7.3).
            (false, true) => {
                let refuses = segment.acknowledges()
                    && is_between(receiver.edge, segment.acknowledgement, receiver.end);
                return if refuses {
                    Verdict::Accept
                } else if self.inside[side.index()] {
                    // Of what else has passed, by an end that has forgotten.
                    Verdict::AcceptWithoutRefresh
                } else {
                    Verdict::OutOfWindow
                };
            }
            // From an end that waits for an answer: it has got one that is none.
            (true, false) => return Verdict::AcceptWithoutRefresh,
            (false, false) => return Verdict::OutOfWindow,
            (true, true) => {}
        }
        let plausible = !segment.acknowledges() || self.acknowledgement_is_inside(side, segment);
        let exact = segment.sequence == sender.end || segment.sequence == receiver.acknowledged;
        if plausible && exact {
            return Verdict::Accept;
        }
        // An inside end that has forgotten refuses what belongs to the connection. An end that is
        // opening refuses an acknowledgement of something else, whatever its number (RFC 9293
        // §3.10.7.4).
        let is_plausible = plausible && self.data_is_inside(side, segment);
        if is_plausible || self.inside[side.index()] || state.opener().is_some() {
            Verdict::AcceptWithoutRefresh
        } else {
            Verdict::OutOfWindow
        }
    }

    /// Starts over from a SYN.
    fn begin(&mut self, side: Direction, segment: &Segment) -> (State, Verdict) {
        *self = Tracking {
            inside: self.inside,
            ..Tracking::default()
        };
        self.learn(side, segment);
        (State::opening(side), Verdict::Accept)
    }

    /// Whether a SYN from `side` says that this end knows nothing of the connection.
    fn has_forgotten(&self, side: Direction, segment: &Segment) -> bool {
        self.inside[side.index()] && !self.is_near(side, segment)
    }

    /// Whether a SYN from outside to a connection that is over may just as well be the one that began
    /// it, late. The end inside answers a new one with SYN and ACK, and a late one otherwise.
    fn is_for_the_answer_to_tell(&self, side: Direction, segment: &Segment) -> bool {
        let (sender, receiver) = (self.sender(side), self.receiver(side));
        sender.is_known()
            && receiver.is_known()
            && !self.inside[side.index()]
            && self.is_near(side, segment)
            && is_after(sender.end, segment.sequence)
    }

    /// Whether a segment could be a late one of the connection, or else lies in its window, where
    /// the other end will question it if it is a SYN (RFC 5961 §4). A window may span a quarter of
    /// all numbers; that far ahead, something else is more likely.
    fn is_near(&self, side: Direction, segment: &Segment) -> bool {
        let end = self.sender(side).end;
        let (oldest, newest) = (end.wrapping_sub(SYN_WINDOW), end.wrapping_add(SYN_WINDOW));
        is_between(oldest, segment.sequence, newest) && self.is_allowed(side, segment)
    }

    #[inline]
    fn contains(&self, side: Direction, segment: &Segment) -> bool {
        self.data_is_inside(side, segment)
            && (!segment.acknowledges() || self.acknowledgement_is_inside(side, segment))
    }

    /// Inequalities I and II.
    #[inline]
    fn data_is_inside(&self, side: Direction, segment: &Segment) -> bool {
        let (sender, receiver) = (self.sender(side), self.receiver(side));
        sender.allows(segment.sequence) && is_recent(sender, receiver, segment.end())
    }

    /// Inequality I.
    #[inline]
    fn is_allowed(&self, side: Direction, segment: &Segment) -> bool {
        self.sender(side).allows(segment.sequence)
    }

    /// Inequalities III and IV.
    #[inline]
    fn acknowledgement_is_inside(&self, side: Direction, segment: &Segment) -> bool {
        may_acknowledge(
            self.sender(side),
            self.receiver(side),
            segment.acknowledgement,
        )
    }

    /// Moves both windows forward by an accepted segment.
    #[inline]
    fn advance(&mut self, side: Direction, segment: &Segment) {
        let announced = self.announced_window(side, segment);
        let [sender, receiver] = self.pair_mut(side);
        move_forward(sender, receiver, segment.end(), announced);
        if segment.acknowledges() {
            acknowledge(sender, receiver, segment.acknowledgement, announced);
        }
    }

    #[inline]
    fn announced_window(&self, side: Direction, segment: &Segment) -> u32 {
        scaled(segment.window, self.shifts, side)
    }

    /// Starts the window of `side` from its SYN, and once both ends are known, opens both edges.
    fn learn(&mut self, side: Direction, segment: &Segment) {
        self.shifts[side.index()] = segment
            .window_shift
            .map_or(Self::NO_SHIFT, |shift| shift.min(MAX_WINDOW_SHIFT));
        let [sender, receiver] = self.pair_mut(side);
        *sender = Window::from_syn(segment);
        if !receiver.is_known() {
            return;
        }
        let allowed_from = if segment.acknowledges() {
            sender.acknowledged = segment.acknowledgement;
            segment.acknowledgement
        } else {
            sender.acknowledged = receiver.edge.wrapping_sub(1);
            receiver.end
        };
        // Data on the SYN (RFC 7413) was not bounded by a window, and may have to be sent again.
        let refused = receiver.end.wrapping_sub(allowed_from);
        sender.window = sender.window.max(refused.min(MAX_WINDOW));
        sender.edge = sender.end.wrapping_add(receiver.window);
        receiver.edge = allowed_from.wrapping_add(sender.window);
        receiver.acknowledged = segment.sequence;
    }

    /// Starts over from the answer to a SYN that was forwarded but not taken into account. What the
    /// answer does not tell of the opener is assumed at its widest.
    fn learn_from_answer(&mut self, side: Direction, segment: &Segment) {
        let opener = side.inverse().index();
        self.windows[opener] = Window {
            end: segment.acknowledgement,
            edge: segment.acknowledgement,
            window: u32::from(u16::MAX),
            acknowledged: segment.sequence,
        };
        // Offered in the answer, so offered before.
        self.shifts[opener] = segment
            .window_shift
            .map_or(Self::NO_SHIFT, |_| MAX_WINDOW_SHIFT);
        self.learn(side, segment);
    }

    #[inline]
    fn sender(&self, side: Direction) -> &Window {
        &self.windows[side.index()]
    }

    #[inline]
    fn receiver(&self, side: Direction) -> &Window {
        &self.windows[side.inverse().index()]
    }

    #[inline]
    fn pair_mut(&mut self, side: Direction) -> [&mut Window; 2] {
        let [original, reply] = &mut self.windows;
        match side {
            Direction::Original => [original, reply],
            Direction::Reply => [reply, original],
        }
    }
}
