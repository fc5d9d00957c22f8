//! Where a whole connection stands (RFC 6146 §3.5.2.2), and what a segment asks of it.

use std::time::Duration;

use heddle_wire::TcpFlags;

use crate::tuple::Direction;

/// Idle time of a connection that is still opening (RFC 5382 §5 REQ-5; RFC 7857 §2.1 separates it
/// from closing).
pub const OPENING_TIMEOUT: Duration = Duration::from_secs(4 * 60);

/// Idle time of an open connection, half-closed ones included (RFC 5382 §5 REQ-5).
pub const ESTABLISHED_TIMEOUT: Duration = Duration::from_secs(2 * 3600 + 4 * 60);

/// How long a connection is remembered after both FINs, or after an exact RST (RFC 7857 §2.2).
pub const CLOSING_TIMEOUT: Duration = Duration::from_secs(4 * 60);

/// State of a whole connection (RFC 6146 §3.5.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Nothing seen, or all of it over.
    Closed = 0,
    /// The original side has sent a SYN and not yet acknowledged an answer.
    OriginalInit = 1,
    /// The same of the reply side, on a tuple that had been in use.
    ReplyInit = 2,
    /// Whoever began has acknowledged the answer.
    Established = 3,
    /// The original side has sent its FIN; the reply side may send for hours.
    OriginalFin = 4,
    /// The reply side has sent its FIN; the original side may send for hours.
    ReplyFin = 5,
    /// Both sides have sent their FIN.
    BothFin = 6,
    /// An exact RST was seen; a segment that proves the connection alive brings it back.
    Transitory = 7,
}

impl State {
    /// Every state, in the order of their numbers.
    pub const ALL: [State; 8] = [
        State::Closed,
        State::OriginalInit,
        State::ReplyInit,
        State::Established,
        State::OriginalFin,
        State::ReplyFin,
        State::BothFin,
        State::Transitory,
    ];

    /// The state a record holds as a byte; an unknown number reads as closed.
    #[inline]
    #[must_use]
    pub fn from_byte(byte: u8) -> State {
        State::ALL
            .get(usize::from(byte))
            .copied()
            .unwrap_or(State::Closed)
    }

    /// The byte a record holds.
    #[inline]
    #[must_use]
    pub fn to_byte(self) -> u8 {
        match self {
            State::Closed => 0,
            State::OriginalInit => 1,
            State::ReplyInit => 2,
            State::Established => 3,
            State::OriginalFin => 4,
            State::ReplyFin => 5,
            State::BothFin => 6,
            State::Transitory => 7,
        }
    }

    /// How long a connection may be silent in this state.
    #[inline]
    #[must_use]
    pub fn timeout(self) -> Duration {
        match self {
            State::OriginalInit | State::ReplyInit => OPENING_TIMEOUT,
            State::Established | State::OriginalFin | State::ReplyFin => ESTABLISHED_TIMEOUT,
            State::Closed | State::BothFin | State::Transitory => CLOSING_TIMEOUT,
        }
    }

    /// The next state after `input` from `side`, as a table. Whether the segment may count at all
    /// (its window) has been decided before.
    #[inline]
    #[must_use]
    pub fn next(self, side: Direction, input: Input) -> State {
        use Input::{Fin, Other, Rst, Syn, SynAck};
        match (self, input) {
            // A new connection on a tuple that was free or is being given up.
            (State::Closed | State::BothFin | State::Transitory, Syn) => State::opening(side),
            (State::Closed, _) => State::Closed,

            (State::OriginalInit | State::ReplyInit, Other) if self.opener() == Some(side) => {
                State::Established
            }
            (State::OriginalInit | State::ReplyInit, Syn | SynAck | Other) => self,
            (State::OriginalInit | State::ReplyInit | State::Established, Fin) => {
                State::half_closed(side)
            }

            (State::OriginalFin, Fin) if side == Direction::Reply => State::BothFin,
            (State::ReplyFin, Fin) if side == Direction::Original => State::BothFin,
            // Both have said all they had to say: a RST after that ends nothing.
            (State::BothFin, _) => State::BothFin,
            (_, Rst) => State::Transitory,
            (State::Established | State::OriginalFin | State::ReplyFin, _) => self,
            (State::Transitory, Fin) => State::half_closed(side),
            (State::Transitory, Other) => State::Established,
            // The answer to a SYN that is late: the SYN would have begun something new.
            (State::Transitory, SynAck) => self,
        }
    }

    /// Who waits for an answer to its SYN, or has not yet acknowledged it.
    #[inline]
    pub(super) fn opener(self) -> Option<Direction> {
        match self {
            State::OriginalInit => Some(Direction::Original),
            State::ReplyInit => Some(Direction::Reply),
            _ => None,
        }
    }

    /// The state after the first SYN, from `side`.
    pub(super) fn opening(side: Direction) -> State {
        match side {
            Direction::Original => State::OriginalInit,
            Direction::Reply => State::ReplyInit,
        }
    }

    fn half_closed(side: Direction) -> State {
        match side {
            Direction::Original => State::OriginalFin,
            Direction::Reply => State::ReplyFin,
        }
    }

    /// Whether a SYN finds a tuple that is free or is being given up.
    pub(super) fn is_over(self) -> bool {
        matches!(self, State::Closed | State::BothFin | State::Transitory)
    }
}

/// What a segment asks of the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// SYN without ACK.
    Syn,
    /// SYN with ACK.
    SynAck,
    /// FIN.
    Fin,
    /// RST with exactly the expected sequence number.
    Rst,
    /// Data, acknowledgements, anything else.
    Other,
}

impl Input {
    /// Every input, for tables.
    pub const ALL: [Input; 5] = [
        Input::Syn,
        Input::SynAck,
        Input::Fin,
        Input::Rst,
        Input::Other,
    ];

    #[inline]
    pub(super) fn of(flags: TcpFlags) -> Input {
        if !flags.intersects(TcpFlags::RST | TcpFlags::SYN | TcpFlags::FIN) {
            Input::Other
        } else if flags.contains(TcpFlags::RST) {
            Input::Rst
        } else if flags.contains(TcpFlags::SYN) {
            if flags.contains(TcpFlags::ACK) {
                Input::SynAck
            } else {
                Input::Syn
            }
        } else {
            Input::Fin
        }
    }
}

/// Whether a connection whose state is this byte is open, half-closed or not: it waits
/// [`ESTABLISHED_TIMEOUT`], and what is [`Input::Other`] leaves it as it is.
#[inline]
pub(crate) fn is_open(state: u8) -> bool {
    const {
        assert!(State::OriginalFin as u8 == State::Established as u8 + 1);
        assert!(State::ReplyFin as u8 == State::Established as u8 + 2);
    }
    state.wrapping_sub(State::Established as u8) <= 2
}
