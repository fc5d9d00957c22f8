//! One rule at a time; [`super::simulation`] has whole connections.

mod ending;
mod forgetting;
mod handshake;
mod window;

use std::fmt::Write;

use heddle_wire::TcpFlags;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::{Input, MAX_WINDOW, Segment, State, Tracking, Verdict, Window, follows, is_open};
use crate::tuple::Direction::{self, Original, Reply};

/// Where the two ends begin in most tests.
const CLIENT: u32 = 1_000;
const SERVER: u32 = 5_000;

/// A segment that can be told by what is special about it.
fn segment(flags: TcpFlags, sequence: u32, acknowledgement: u32) -> Segment {
    Segment {
        flags,
        sequence,
        acknowledgement,
        window: 1_000,
        payload_len: 0,
        window_shift: None,
    }
}

fn syn(sequence: u32) -> Segment {
    segment(TcpFlags::SYN, sequence, 0)
}

fn syn_ack(sequence: u32, acknowledgement: u32) -> Segment {
    segment(TcpFlags::SYN | TcpFlags::ACK, sequence, acknowledgement)
}

fn ack(sequence: u32, acknowledgement: u32) -> Segment {
    segment(TcpFlags::ACK, sequence, acknowledgement)
}

fn fin(sequence: u32, acknowledgement: u32) -> Segment {
    segment(TcpFlags::FIN | TcpFlags::ACK, sequence, acknowledgement)
}

/// As hosts send it: without ACK.
fn rst(sequence: u32) -> Segment {
    segment(TcpFlags::RST, sequence, 0)
}

fn rst_ack(sequence: u32, acknowledgement: u32) -> Segment {
    segment(TcpFlags::RST | TcpFlags::ACK, sequence, acknowledgement)
}

impl Segment {
    fn carrying(self, payload_len: u32) -> Segment {
        Segment {
            payload_len,
            ..self
        }
    }

    fn window(self, window: u16) -> Segment {
        Segment { window, ..self }
    }

    fn shift(self, shift: u8) -> Segment {
        Segment {
            window_shift: Some(shift),
            ..self
        }
    }
}

/// A connection under observation.
#[derive(Clone, Copy, Debug)]
struct Talk {
    tracking: Tracking,
    state: State,
}

impl Talk {
    /// Nothing seen yet. The original side is inside.
    fn new() -> Talk {
        Talk {
            tracking: Tracking {
                inside: [true, false],
                ..Tracking::default()
            },
            state: State::Closed,
        }
    }

    /// The same of a connection that comes from outside.
    fn from_outside() -> Talk {
        let mut talk = Talk::new();
        talk.tracking.inside = [false, true];
        talk
    }

    fn established(mut self) -> Talk {
        self.accept(Original, syn(CLIENT));
        self.accept(Reply, syn_ack(SERVER, CLIENT + 1));
        self.accept(Original, ack(CLIENT + 1, SERVER + 1));
        assert_eq!(self.state, State::Established);
        self
    }

    /// The verdict; that only an accepted segment changes anything is checked on the way, and that the
    /// short way for open connections leads where the long one does.
    fn see(&mut self, side: Direction, segment: Segment) -> Verdict {
        let before = *self;
        let (state, verdict) = self.tracking.update(self.state, side, &segment);
        self.state = state;
        if is_open(before.state.to_byte()) {
            let mut windows = before.tracking.windows;
            let shifts = before.tracking.shifts;
            let known = windows.iter().all(Window::is_known);
            let usual = Input::of(segment.flags) == Input::Other
                && segment.flags.contains(TcpFlags::ACK)
                && known
                && before.tracking.contains(side, &segment);
            let follows = follows(&mut windows, shifts, side, &segment);
            assert_eq!(follows, usual, "{segment:?} after {before:?}");
            let expected = if usual { &*self } else { &before };
            assert_eq!(
                windows, expected.tracking.windows,
                "{segment:?} after {before:?}"
            );
        }
        if verdict != Verdict::Accept {
            assert_eq!(self.state, before.state, "{segment:?}");
            assert_eq!(self.tracking, before.tracking, "{segment:?}");
        }
        verdict
    }

    #[track_caller]
    fn accept(&mut self, side: Direction, segment: Segment) {
        let before = *self;
        let verdict = self.see(side, segment);
        assert_eq!(verdict, Verdict::Accept, "{segment:?} after {before:?}");
    }

    #[track_caller]
    fn pass(&mut self, side: Direction, segment: Segment) {
        let before = *self;
        let verdict = self.see(side, segment);
        assert_eq!(
            verdict,
            Verdict::AcceptWithoutRefresh,
            "{segment:?} after {before:?}"
        );
    }

    #[track_caller]
    fn drop(&mut self, side: Direction, segment: Segment) {
        let before = *self;
        let verdict = self.see(side, segment);
        assert_eq!(
            verdict,
            Verdict::OutOfWindow,
            "{segment:?} after {before:?}"
        );
    }
}

#[test]
fn the_transition_table() {
    let mut table = format!("{:14}{:10}", "state", "side");
    for input in Input::ALL {
        write!(table, "{:14}", format!("{input:?}")).unwrap();
    }
    for state in State::ALL {
        for side in Direction::BOTH {
            write!(
                table,
                "\n{:14}{:10}",
                format!("{state:?}"),
                format!("{side:?}")
            )
            .unwrap();
            for input in Input::ALL {
                let next = state.next(side, input);
                let shown = if next == state {
                    "-".to_owned()
                } else {
                    format!("{next:?}")
                };
                write!(table, "{shown:14}").unwrap();
            }
        }
    }
    let table: Vec<&str> = table.lines().map(str::trim_end).collect();
    insta::assert_snapshot!(table.join("\n"), @r"
    state         side      Syn           SynAck        Fin           Rst           Other
    Closed        Original  OriginalInit  -             -             -             -
    Closed        Reply     ReplyInit     -             -             -             -
    OriginalInit  Original  -             -             OriginalFin   Transitory    Established
    OriginalInit  Reply     -             -             ReplyFin      Transitory    -
    ReplyInit     Original  -             -             OriginalFin   Transitory    -
    ReplyInit     Reply     -             -             ReplyFin      Transitory    Established
    Established   Original  -             -             OriginalFin   Transitory    -
    Established   Reply     -             -             ReplyFin      Transitory    -
    OriginalFin   Original  -             -             -             Transitory    -
    OriginalFin   Reply     -             -             BothFin       Transitory    -
    ReplyFin      Original  -             -             BothFin       Transitory    -
    ReplyFin      Reply     -             -             -             Transitory    -
    BothFin       Original  OriginalInit  -             -             -             -
    BothFin       Reply     ReplyInit     -             -             -             -
    Transitory    Original  OriginalInit  -             OriginalFin   -             Established
    Transitory    Reply     ReplyInit     -             ReplyFin      -             Established
    ");
}

#[test]
fn a_state_survives_being_a_byte() {
    for state in State::ALL {
        assert_eq!(State::from_byte(state.to_byte()), state);
        assert_eq!(state as u8, state.to_byte());
    }
    assert_eq!(State::from_byte(200), State::Closed);
}

#[test]
fn each_phase_has_its_timeout() {
    let minutes = |state: State| state.timeout().as_secs() / 60;
    // RFC 5382 §5 REQ-5: 2 hours 4 minutes, 4 minutes.
    assert_eq!(
        State::ALL.map(minutes),
        [4, 4, 4, 124, 124, 124, 4, 4],
        "in the order of {:?}",
        State::ALL
    );
}

#[test]
fn the_open_states_are_those_that_wait_for_hours() {
    for state in State::ALL {
        let waits = state.timeout() == super::ESTABLISHED_TIMEOUT;
        assert_eq!(is_open(state.to_byte()), waits, "{state:?}");
    }
    assert!((8..=u8::MAX).all(|byte| !is_open(byte)));
}

proptest! {
    #[test]
    fn no_segment_is_too_strange(
        steps in proptest::collection::vec(
            (any::<bool>(), any::<u8>(), any::<[u8; 2]>(), any::<u16>(), any::<u8>()),
            0..60,
        ),
        inside in any::<[bool; 2]>(),
    ) {
        // Numbers from a few places that are interesting together.
        let places = [0, 1, CLIENT, CLIENT + 1, SERVER, SERVER + 1, 1 << 31, u32::MAX];
        let number = |byte: u8| {
            places[usize::from(byte % 8)].wrapping_add(u32::from(byte / 8) * 500)
        };
        let mut talk = Talk::new();
        talk.tracking.inside = inside;
        for (original, flags, [sequence, acknowledgement], window, rest) in steps {
            let segment = Segment {
                flags: TcpFlags(flags),
                sequence: number(sequence),
                acknowledgement: number(acknowledgement),
                window,
                payload_len: u32::from(rest) * 300,
                window_shift: (rest % 3 == 0).then_some(rest),
            };
            let side = if original { Original } else { Reply };
            // `see` checks that what is not accepted changes nothing.
            talk.see(side, segment);
            prop_assert!(talk.tracking.shifts.iter().all(|&shift| shift <= Tracking::NO_SHIFT));
            prop_assert!(talk.tracking.windows.iter().all(|end| end.window <= MAX_WINDOW));
            prop_assert_eq!(talk.tracking.inside, inside);
            let [first, second] = talk.tracking.windows.map(|end| end.is_known());
            let synchronised = matches!(
                talk.state,
                State::Established | State::OriginalFin | State::ReplyFin | State::BothFin
            );
            prop_assert!(!synchronised || first && second, "{:?}", talk);
        }
    }
}
