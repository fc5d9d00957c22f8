//! One end of a connection, as RFC 9293 and RFC 5961 say that it behaves.

use std::cmp::Reverse;

use heddle_wire::TcpFlags;

use crate::tcp::Segment;

/// Times that the answer to a SYN is repeated. A few with real hosts; here links are that much worse.
const PERSISTENCE: u32 = 40;

/// How an end behaves.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    pub(super) first_number: u32,
    pub(super) window_shift: Option<u8>,
    /// Octets it has room for.
    pub(super) room: i64,
    /// Octets it has to say.
    pub(super) speech: i64,
    /// Octets it puts into one segment at most; segmentation offload makes that up to 64 KiB.
    pub(super) unit: i64,
    /// Whether it sends, and takes, data on a SYN (RFC 7413).
    pub(super) fast_open: bool,
    /// Whether it probes a closed window with an octet beyond it, or with nothing at all.
    pub(super) probes_with_data: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    Listening,
    SynSent,
    SynReceived,
    Open,
}

/// One end. Positions in its streams are counted from the SYN, which is number 0; the wire has them
/// plus the first number, modulo 2^32.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) habits: Habits,
    /// Whether it connects, again and again, or listens.
    connects: bool,
    phase: Phase,
    first_number: u32,
    unacknowledged: i64,
    next: i64,
    allowed: i64,
    widest: i64,
    peer_number: u32,
    expected: i64,
    /// Pieces of the other stream that came too early.
    early: Vec<(i64, i64)>,
    fin_at: Option<i64>,
    unread: i64,
    scaling: Option<(u8, u8)>,
    stalled: bool,
    /// How many times it has repeated its answer to a SYN.
    repetitions: u32,
    /// Whether something that is not acceptable has been answered since the end woke: as hosts do it,
    /// so that two that disagree do not flood each other.
    challenged: bool,
}

impl End {
    pub(super) fn new(habits: Habits, connects: bool) -> End {
        let first_number = habits.first_number;
        let phase = if connects {
            Phase::Closed
        } else {
            Phase::Listening
        };
        End {
            habits,
            connects,
            phase,
            first_number,
            unacknowledged: 0,
            next: 0,
            allowed: 0,
            widest: 0,
            peer_number: 0,
            expected: 0,
            early: Vec::new(),
            fin_at: None,
            unread: 0,
            scaling: None,
            stalled: false,
            repetitions: 0,
            challenged: false,
        }
    }

    /// Begins from nothing, as after a power failure, with another first number.
    pub(super) fn forget(&mut self) {
        let mut habits = self.habits.clone();
        habits.first_number = self.first_number.wrapping_add(0x1234_5679);
        *self = End::new(habits, self.connects);
    }

    /// Position behind the last octet and the FIN.
    fn fin_end(&self) -> i64 {
        self.habits.speech + 2
    }

    fn is_synchronised(&self) -> bool {
        matches!(self.phase, Phase::SynReceived | Phase::Open)
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_synchronised()
            && self.unacknowledged == self.fin_end()
            && self.fin_at.is_some_and(|fin| self.expected > fin)
    }

    fn room(&self) -> i64 {
        self.habits.room - self.unread
    }

    /// A segment of `len` octets of the stream, SYN and FIN included where they lie.
    fn segment(&self, from: i64, len: i64) -> Segment {
        let to = from + len;
        let mut flags = TcpFlags::ACK;
        let mut payload = len;
        if from == 0 && len > 0 {
            flags = flags | TcpFlags::SYN;
            payload -= 1;
        }
        if to == self.fin_end() && len > 0 {
            flags = flags | TcpFlags::FIN;
            payload -= 1;
        }
        let is_syn = flags.contains(TcpFlags::SYN);
        if self.phase == Phase::SynSent {
            flags = flags.without(TcpFlags::ACK);
        }
        let shift = self.scaling.filter(|_| !is_syn).map_or(0, |(own, _)| own);
        Segment {
            flags,
            sequence: wire(self.first_number, from),
            acknowledgement: wire(self.peer_number, self.expected),
            window: u16::try_from(self.room() >> shift).unwrap_or(u16::MAX),
            payload_len: u32::try_from(payload).unwrap(),
            window_shift: self
                .habits
                .window_shift
                .filter(|_| is_syn && (self.phase == Phase::SynSent || self.scaling.is_some())),
        }
    }

    fn reset(&self, sequence: u32) -> Segment {
        Segment {
            flags: TcpFlags::RST,
            sequence,
            acknowledgement: 0,
            window: 0,
            payload_len: 0,
            window_shift: None,
        }
    }

    /// What RFC 9293 §3.10.7.1 answers to a segment for no connection.
    fn refusal(&self, segment: &Segment) -> Vec<Segment> {
        if segment.flags.contains(TcpFlags::RST) {
            vec![]
        } else if segment.flags.contains(TcpFlags::ACK) {
            vec![self.reset(segment.acknowledgement)]
        } else {
            vec![Segment {
                flags: TcpFlags::RST | TcpFlags::ACK,
                acknowledgement: segment.end(),
                ..self.reset(0)
            }]
        }
    }

    fn give_up(&mut self) {
        self.forget();
    }

    /// Everything that the window allows.
    fn send(&mut self) -> Vec<Segment> {
        let mut sent = Vec::new();
        while self.phase == Phase::Open && self.next < self.fin_end() {
            let limit = self.allowed.min(self.fin_end());
            let len = (limit - self.next).min(self.habits.unit);
            if len <= 0 {
                break;
            }
            sent.push(self.segment(self.next, len));
            self.next += len;
        }
        sent
    }

    fn acknowledge(&self) -> Segment {
        self.segment(self.next, 0)
    }

    /// Time passes: the application reads, what seems lost is sent again, what is closed is probed.
    pub(super) fn wake(&mut self, appetite: i64) -> Vec<Segment> {
        self.challenged = false;
        match self.phase {
            Phase::Closed => {
                self.phase = Phase::SynSent;
                let data = if self.habits.fast_open {
                    self.habits.speech.min(500)
                } else {
                    0
                };
                self.next = 1 + data;
                return vec![self.segment(0, 1 + data)];
            }
            Phase::Listening => return vec![],
            Phase::SynSent => return vec![self.segment(0, 1)],
            Phase::SynReceived => {
                self.repetitions += 1;
                if self.repetitions > PERSISTENCE {
                    self.give_up();
                    return vec![];
                }
                return vec![self.segment(0, 1)];
            }
            Phase::Open => {}
        }
        let was_closed = self.acknowledge().window == 0;
        self.unread -= appetite.min(self.unread);
        let mut sent = Vec::new();
        if was_closed && self.room() > 0 {
            sent.push(self.acknowledge());
        }
        if self.unacknowledged < self.next {
            if self.stalled {
                let len = (self.next - self.unacknowledged).min(self.habits.unit);
                sent.push(self.segment(self.unacknowledged, len));
            }
            self.stalled = true;
        } else if self.next < self.fin_end() && self.allowed <= self.next {
            if self.habits.probes_with_data {
                sent.push(self.segment(self.next, 1));
                self.next += 1;
            } else {
                sent.push(self.segment(self.unacknowledged - 1, 0));
            }
        } else if self.next == self.fin_end() && !self.is_done() {
            // A keep-alive.
            sent.push(self.segment(self.unacknowledged - 1, 0));
        }
        sent.extend(self.send());
        sent
    }

    pub(super) fn receive(&mut self, segment: &Segment) -> Vec<Segment> {
        match self.phase {
            Phase::Closed => self.refusal(segment),
            Phase::Listening => self.listen(segment),
            Phase::SynSent => self.receive_answer(segment),
            Phase::SynReceived | Phase::Open => self.receive_in_order(segment),
        }
    }

    fn listen(&mut self, segment: &Segment) -> Vec<Segment> {
        if !segment.is_opening() {
            return self.refusal(segment);
        }
        self.learn_syn(segment);
        self.phase = Phase::SynReceived;
        if self.habits.fast_open {
            let taken = i64::from(segment.payload_len).min(self.room() / 2);
            self.expected += taken;
            self.unread += taken;
        }
        self.next = 1;
        vec![self.segment(0, 1)]
    }

    fn learn_syn(&mut self, segment: &Segment) {
        self.peer_number = segment.sequence;
        self.expected = 1;
        self.scaling = self
            .habits
            .window_shift
            .zip(segment.window_shift)
            .map(|(own, peer)| (own.min(14), peer.min(14)));
        self.allowed = self.unacknowledged.max(1) + i64::from(segment.window);
        self.widest = i64::from(segment.window);
    }

    fn receive_answer(&mut self, segment: &Segment) -> Vec<Segment> {
        let acknowledged = i64::from(segment.acknowledgement.wrapping_sub(self.first_number));
        let has_ack = segment.flags.contains(TcpFlags::ACK);
        let acceptable = has_ack && (1..=self.next).contains(&acknowledged);
        if segment.flags.contains(TcpFlags::RST) {
            if acceptable {
                self.give_up();
            }
            return vec![];
        }
        if has_ack && !acceptable {
            return vec![self.reset(segment.acknowledgement)];
        }
        if !segment.flags.contains(TcpFlags::SYN) {
            return vec![];
        }
        self.unacknowledged = if acceptable { acknowledged } else { 0 };
        self.learn_syn(segment);
        if !acceptable {
            self.phase = Phase::SynReceived;
            return vec![self.segment(0, 1)];
        }
        self.phase = Phase::Open;
        // What the SYN carried and was not taken is sent again.
        self.next = acknowledged;
        let mut sent = vec![self.acknowledge()];
        sent.extend(self.send());
        sent
    }

    /// RFC 9293 §3.10.7.4: is any of it in the window?
    fn is_acceptable(&self, segment: &Segment) -> bool {
        let from = self.position(segment.sequence);
        let to = from + i64::from(segment.end().wrapping_sub(segment.sequence));
        let edge = self.expected + self.room();
        if from == to {
            from == self.expected || (self.expected..edge).contains(&from)
        } else {
            to > self.expected && from < edge
        }
    }

    /// RFC 5961 §5.2.
    fn is_acknowledgement_acceptable(&self, segment: &Segment) -> bool {
        let acknowledged = self.acknowledged_by(segment);
        segment.flags.contains(TcpFlags::ACK)
            && (self.unacknowledged - self.widest..=self.next).contains(&acknowledged)
    }

    /// Whether it acknowledges something that this end has sent, as RFC 9293 §3.10.7.4 asks for
    /// before a connection is open.
    fn acknowledges_syn(&self, segment: &Segment) -> bool {
        segment.flags.contains(TcpFlags::ACK)
            && (1..=self.next).contains(&self.acknowledged_by(segment))
    }

    /// Where a sequence number of the other end lies.
    fn position(&self, sequence: u32) -> i64 {
        let ahead = sequence.wrapping_sub(wire(self.peer_number, self.expected));
        self.expected + i64::from(ahead.cast_signed())
    }

    fn acknowledged_by(&self, segment: &Segment) -> i64 {
        let ahead = segment
            .acknowledgement
            .wrapping_sub(wire(self.first_number, self.next));
        self.next + i64::from(ahead.cast_signed())
    }

    /// Whether the segment would make a difference here.
    pub(super) fn would_take(&self, segment: &Segment) -> bool {
        let is_reset = segment.flags.contains(TcpFlags::RST);
        match self.phase {
            Phase::Closed => false,
            Phase::Listening => segment.is_opening(),
            Phase::SynSent => segment.flags.contains(TcpFlags::SYN) && !is_reset,
            Phase::SynReceived | Phase::Open if is_reset => {
                self.position(segment.sequence) == self.expected
            }
            Phase::SynReceived => {
                !segment.flags.contains(TcpFlags::SYN)
                    && self.is_acceptable(segment)
                    && self.acknowledges_syn(segment)
            }
            Phase::Open => {
                !segment.flags.contains(TcpFlags::SYN)
                    && self.is_acceptable(segment)
                    && self.is_acknowledgement_acceptable(segment)
            }
        }
    }

    fn receive_in_order(&mut self, segment: &Segment) -> Vec<Segment> {
        if segment.flags.contains(TcpFlags::RST) {
            if self.position(segment.sequence) == self.expected && !self.is_done() {
                self.give_up();
                return vec![];
            }
            return if self.is_acceptable(segment) {
                self.challenge()
            } else {
                vec![]
            };
        }
        let again = self.phase == Phase::SynReceived
            && segment.is_opening()
            && segment.sequence == self.peer_number;
        if again {
            return vec![self.segment(0, 1)];
        }
        let is_ahead = self.position(segment.sequence) >= self.expected;
        if self.is_done() && !self.connects && segment.is_opening() && is_ahead {
            // RFC 6191: a new connection may follow a closed one at once; its number is higher.
            self.forget();
            return self.listen(segment);
        }
        let simultaneous = self.phase == Phase::SynReceived
            && segment.flags.contains(TcpFlags::SYN | TcpFlags::ACK)
            && segment.sequence == self.peer_number;
        let is_wrong = segment.flags.contains(TcpFlags::SYN) || !self.is_acceptable(segment);
        if is_wrong && !simultaneous {
            return self.challenge();
        }
        if self.phase == Phase::SynReceived && !self.acknowledges_syn(segment) {
            // RFC 9293 §3.10.7.4: meant for a connection that is no more.
            return self.refusal(segment);
        }
        if !self.is_acknowledgement_acceptable(segment) {
            return self.challenge();
        }
        self.take_acknowledgement(segment);
        let before = (self.expected, self.early.len());
        self.take_data(segment);
        let mut sent = self.send();
        let has_data = segment.end() != segment.sequence;
        if has_data || before != (self.expected, self.early.len()) {
            sent.push(self.acknowledge());
        }
        sent
    }

    fn challenge(&mut self) -> Vec<Segment> {
        if std::mem::replace(&mut self.challenged, true) {
            vec![]
        } else {
            vec![self.acknowledge()]
        }
    }

    fn take_acknowledgement(&mut self, segment: &Segment) {
        let acknowledged = self.acknowledged_by(segment);
        if acknowledged > self.unacknowledged {
            self.unacknowledged = acknowledged;
            self.stalled = false;
        }
        if acknowledged >= 1 {
            self.phase = Phase::Open;
        }
        let is_syn = segment.flags.contains(TcpFlags::SYN);
        let shift = self.scaling.filter(|_| !is_syn).map_or(0, |(_, peer)| peer);
        let window = i64::from(segment.window) << shift;
        self.widest = self.widest.max(window);
        self.allowed = self.allowed.max(acknowledged + window);
    }

    fn take_data(&mut self, segment: &Segment) {
        let from = self.position(segment.sequence).max(1);
        let to = self.position(segment.end());
        if segment.flags.contains(TcpFlags::FIN) {
            self.fin_at = Some(to - 1);
        }
        let edge = self.expected + self.room();
        self.early.push((from, to.min(edge + 1)));
        self.early.sort_by_key(|&piece| Reverse(piece));
        self.early.dedup();
        while let Some(&(from, to)) = self.early.last() {
            if from > self.expected {
                break;
            }
            self.early.pop();
            if to > self.expected {
                let data_end = self.fin_at.map_or(to, |fin| to.min(fin));
                let fits = data_end.min(self.expected + self.room());
                self.unread += (fits - self.expected).max(0);
                let takes_fin = self.fin_at == Some(fits) && to > fits;
                self.expected = fits.max(self.expected) + i64::from(takes_fin);
            }
        }
    }
}

fn wire(first: u32, position: i64) -> u32 {
    let offset = u32::try_from(position.rem_euclid(1 << 32)).unwrap();
    first.wrapping_add(offset)
}
