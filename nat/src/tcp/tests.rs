//! One rule at a time; [`super::simulation`] has whole connections.

use std::fmt::Write;

use heddle_wire::TcpFlags;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::{ACK_WINDOW, Input, MAX_WINDOW, Segment, State, Tracking, Verdict, Window};
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

    /// The verdict; that only an accepted segment changes anything is checked on the way.
    fn see(&mut self, side: Direction, segment: Segment) -> Verdict {
        let before = *self;
        let (state, verdict) = self.tracking.update(self.state, side, &segment);
        self.state = state;
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
fn a_handshake_is_complete_when_the_opener_acknowledges() {
    let mut talk = Talk::new();
    talk.accept(Original, syn(CLIENT));
    assert_eq!(talk.state, State::OriginalInit);
    talk.accept(Reply, syn_ack(SERVER, CLIENT + 1));
    assert_eq!(talk.state, State::OriginalInit, "only half of it");
    talk.accept(Original, ack(CLIENT + 1, SERVER + 1));
    assert_eq!(talk.state, State::Established);
}

#[test]
fn only_who_has_seen_the_answer_can_complete_a_handshake() {
    let mut talk = Talk::from_outside();
    talk.accept(Original, syn(CLIENT));
    talk.accept(Reply, syn_ack(SERVER, CLIENT + 1));
    // A forged source that sees nothing of the answer. In an open connection old acknowledgements
    // would do.
    talk.drop(Original, ack(CLIENT + 1, SERVER));
    talk.drop(Original, ack(CLIENT + 1, SERVER.wrapping_sub(60_000)));
    talk.drop(Original, ack(CLIENT + 1, SERVER + 2));
    talk.drop(Original, segment(TcpFlags::PSH, CLIENT + 1, 0).carrying(1));
    assert_eq!(talk.state, State::OriginalInit);
    talk.accept(Original, ack(CLIENT + 1, SERVER + 1));
    assert_eq!(talk.state, State::Established);
}

#[test]
fn without_a_syn_there_is_no_connection() {
    for segment in [
        ack(1, 1),
        syn_ack(1, 1),
        fin(1, 1),
        rst(1),
        rst_ack(0, 0),
        segment(TcpFlags(0), 0, 0),
    ] {
        Talk::new().drop(Original, segment);
        Talk::new().drop(Reply, segment);
        assert!(!segment.is_opening());
    }
    assert!(syn(1).is_opening());
}

#[test]
fn an_answer_acknowledges_the_syn_or_it_is_for_the_opener_to_judge() {
    for wrong in [CLIENT, CLIENT + 2, CLIENT - 1, 0] {
        let mut talk = Talk::new();
        talk.accept(Original, syn(CLIENT));
        // RFC 9293 §3.5.1, figure 9: an answer to an older SYN. The opener resets it.
        talk.pass(Reply, syn_ack(SERVER, wrong));
        talk.pass(Original, rst(wrong));
        talk.accept(Reply, syn_ack(SERVER, CLIENT + 1));
    }
}

#[test]
fn a_retransmitted_syn_changes_nothing() {
    let mut talk = Talk::new();
    talk.accept(Original, syn(CLIENT).shift(7));
    let before = talk.tracking;
    talk.accept(Original, syn(CLIENT).shift(7));
    assert_eq!(talk.tracking, before);
    talk.accept(Reply, syn_ack(SERVER, CLIENT + 1).shift(7));
    let before = talk.tracking;
    // It crossed the answer.
    talk.pass(Original, syn(CLIENT).shift(7));
    talk.pass(Reply, syn_ack(SERVER, CLIENT + 1).shift(7));
    talk.accept(Original, ack(CLIENT + 1, SERVER + 1));
    talk.pass(Original, syn(CLIENT).shift(7));
    talk.pass(Reply, syn_ack(SERVER, CLIENT + 1).shift(7));
    assert_eq!(talk.tracking.shifts, before.shifts);
    assert_eq!(talk.state, State::Established);
}

#[test]
fn an_unanswered_syn_may_be_followed_by_another_one() {
    for other in [
        CLIENT + 1,
        CLIENT + 70_000,
        CLIENT - 1,
        CLIENT ^ 0x8000_0000,
    ] {
        let mut talk = Talk::from_outside();
        talk.accept(Original, syn(CLIENT).shift(3));
        talk.accept(Original, syn(other));
        assert_eq!(talk.tracking.shifts, [Tracking::NO_SHIFT, 0]);
        talk.pass(Reply, syn_ack(SERVER, CLIENT + 1).window(1));
        talk.accept(Reply, syn_ack(SERVER, other.wrapping_add(1)));
        talk.accept(Original, ack(other.wrapping_add(1), SERVER + 1));
        assert_eq!(talk.state, State::Established);
    }
}

#[test]
fn a_server_without_memory_may_answer_twice() {
    // RFC 4987 §3.6: the number is computed anew for each SYN. Of two answers the first was lost
    // behind us.
    let mut talk = Talk::new();
    talk.accept(Original, syn(CLIENT).shift(7));
    talk.accept(Reply, syn_ack(SERVER, CLIENT + 1).shift(2));
    talk.pass(Original, syn(CLIENT).shift(7));
    let other = SERVER + 1_000_000;
    talk.accept(Reply, syn_ack(other, CLIENT + 1).shift(2));
    talk.accept(Original, ack(CLIENT + 1, other + 1));
    assert_eq!(talk.state, State::Established);
    // Now it is too late.
    talk.pass(Reply, syn_ack(SERVER, CLIENT + 1));
    talk.drop(Original, ack(CLIENT + 1, SERVER + 1));
}

#[test]
fn both_may_open_at_once() {
    let mut talk = Talk::new();
    talk.accept(Original, syn(CLIENT).shift(7));
    talk.accept(Reply, syn(SERVER).shift(2));
    assert_eq!(talk.tracking.windows[0].acknowledged, SERVER);
    assert_eq!(talk.tracking.windows[1].acknowledged, CLIENT);
    talk.pass(Reply, syn_ack(SERVER, CLIENT + 1).shift(2));
    talk.pass(Original, syn_ack(CLIENT, SERVER + 1).shift(7));
    talk.accept(Reply, ack(SERVER + 1, CLIENT + 1));
    talk.accept(Original, ack(CLIENT + 1, SERVER + 1).window(8));
    assert_eq!(talk.state, State::Established);
    assert_eq!(talk.tracking.windows[0].window, 8 << 7);
    talk.accept(Reply, ack(SERVER + 1, CLIENT + 1).carrying(512));
}

#[test]
fn a_forged_syn_does_not_keep_the_real_answer_out() {
    let mut talk = Talk::new();
    talk.accept(Original, syn(CLIENT));
    // Looks like a simultaneous open.
    talk.accept(Reply, syn(77));
    talk.accept(Reply, syn_ack(SERVER, CLIENT + 1));
    talk.accept(Original, ack(CLIENT + 1, SERVER + 1));
    assert_eq!(talk.state, State::Established);
}

#[test]
fn data_on_a_syn_is_acknowledged_wholly_partly_or_not() {
    // RFC 7413. Without a valid cookie the server takes the SYN alone.
    for taken in [0, 1, 99, 100] {
        let mut talk = Talk::new();
        talk.accept(Original, syn(CLIENT).carrying(100));
        talk.pass(Reply, syn_ack(SERVER, CLIENT));
        talk.pass(Reply, syn_ack(SERVER, CLIENT + 102));
        let expected = CLIENT + 1 + taken;
        talk.accept(Reply, syn_ack(SERVER, expected));
        // The server need not wait for the ACK of its answer.
        talk.accept(Reply, ack(SERVER + 1, expected).carrying(1_000));
        talk.accept(Original, ack(expected, SERVER + 1).carrying(100 - taken));
        assert_eq!(talk.state, State::Established);
    }
}

#[test]
fn data_on_a_syn_counts_even_if_the_syn_is_repeated_without() {
    let mut talk = Talk::new();
    talk.accept(Original, syn(CLIENT).carrying(100));
    // RFC 7413 §4.1.3: the first one seems lost, but only its answer is late.
    talk.accept(Original, syn(CLIENT));
    talk.accept(Reply, syn_ack(SERVER, CLIENT + 101));
    talk.accept(Original, ack(CLIENT + 101, SERVER + 1));

    let mut talk = Talk::new();
    talk.accept(Original, syn(CLIENT));
    talk.accept(Original, syn(CLIENT).carrying(10));
    talk.accept(Reply, rst_ack(0, CLIENT + 11));
}

#[test]
fn a_server_may_be_done_before_the_handshake_is() {
    let mut talk = Talk::new();
    talk.accept(Original, syn(CLIENT).carrying(100));
    talk.accept(Reply, syn_ack(SERVER, CLIENT + 101));
    talk.accept(Reply, fin(SERVER + 1, CLIENT + 101).carrying(500));
    assert_eq!(talk.state, State::ReplyFin);
    talk.accept(Original, ack(CLIENT + 101, SERVER + 502));
    assert_eq!(talk.state, State::ReplyFin);
    talk.accept(Original, fin(CLIENT + 101, SERVER + 502));
    assert_eq!(talk.state, State::BothFin);
}

#[test]
fn each_inequality_is_needed() {
    // Windows of 1,000 on both sides; each end has sent 500 octets that were acknowledged.
    let mut open = Talk::new().established();
    open.accept(Original, ack(CLIENT + 1, SERVER + 1).carrying(500));
    open.accept(Reply, ack(SERVER + 1, CLIENT + 501).carrying(500));
    open.accept(Original, ack(CLIENT + 501, SERVER + 501));
    let (sequence, acknowledgement) = (CLIENT + 501, SERVER + 501);

    // I: up to the edge, not beyond.
    let edge = sequence + 1_000;
    open.clone_and(|talk| talk.accept(Original, ack(edge, acknowledgement).carrying(9)));
    open.clone_and(|talk| talk.drop(Original, ack(edge + 1, acknowledgement).carrying(9)));
    // II: back to one window before the end, not further.
    let oldest = sequence.wrapping_sub(1_000);
    open.clone_and(|talk| talk.accept(Original, ack(oldest, acknowledgement)));
    open.clone_and(|talk| talk.drop(Original, ack(oldest.wrapping_sub(1), acknowledgement)));
    open.clone_and(|talk| talk.accept(Original, ack(oldest - 1, acknowledgement).carrying(1)));
    // III: nothing that was not sent.
    open.clone_and(|talk| talk.drop(Original, ack(sequence, acknowledgement + 1)));
    // IV: not too far behind what has been acknowledged.
    let ancient = acknowledgement.wrapping_sub(ACK_WINDOW);
    open.clone_and(|talk| talk.accept(Original, ack(sequence, ancient)));
    open.clone_and(|talk| talk.drop(Original, ack(sequence, ancient.wrapping_sub(1))));
    // Without the flag the number means nothing.
    let mut unflagged = segment(TcpFlags::PSH, sequence, 12_345_678);
    unflagged.payload_len = 3;
    open.clone_and(|talk| talk.accept(Original, unflagged));
}

impl Talk {
    fn clone_and(&self, act: impl FnOnce(&mut Talk)) {
        let mut talk = *self;
        act(&mut talk);
    }
}

#[test]
fn the_inequalities_hold_around_the_end_of_the_sequence_space() {
    for start in [u32::MAX - 700, u32::MAX, 0, 1 << 31, (1 << 31) - 1] {
        let mut talk = Talk::new();
        talk.accept(Original, syn(start));
        talk.accept(Reply, syn_ack(start, start.wrapping_add(1)));
        let next = start.wrapping_add(1);
        talk.accept(Original, ack(next, next).carrying(900));
        let after = next.wrapping_add(900);
        talk.accept(Reply, ack(next, after).carrying(900));
        talk.accept(Original, ack(after, after));
        talk.drop(Original, ack(after.wrapping_add(1_001), after).carrying(1));
        talk.drop(Original, ack(after, after.wrapping_add(1)));
        talk.drop(Original, ack(after.wrapping_sub(1_001), after));
        talk.accept(Reply, fin(after, after));
        assert_eq!(talk.state, State::ReplyFin);
    }
}

#[test]
fn a_window_is_scaled_if_both_offer_it() {
    let scaled = |client: Option<u8>, server: Option<u8>| {
        let mut talk = Talk::new();
        talk.accept(
            Original,
            Segment {
                window_shift: client,
                ..syn(CLIENT).window(u16::MAX)
            },
        );
        talk.accept(
            Reply,
            Segment {
                window_shift: server,
                ..syn_ack(SERVER, CLIENT + 1).window(u16::MAX)
            },
        );
        assert_eq!(
            talk.tracking.windows.map(|window| window.window),
            [65_535; 2],
            "SYN: unscaled"
        );
        talk.accept(Original, ack(CLIENT + 1, SERVER + 1).window(u16::MAX));
        talk.accept(Reply, ack(SERVER + 1, CLIENT + 1).window(u16::MAX));
        talk.tracking.windows.map(|window| window.window)
    };
    let unscaled = u32::from(u16::MAX);
    assert_eq!(scaled(None, None), [unscaled; 2]);
    assert_eq!(scaled(Some(7), None), [unscaled; 2]);
    assert_eq!(scaled(None, Some(7)), [unscaled; 2]);
    assert_eq!(scaled(Some(7), Some(0)), [unscaled << 7, unscaled]);
    assert_eq!(scaled(Some(0), Some(3)), [unscaled, unscaled << 3]);
    assert_eq!(scaled(Some(14), Some(14)), [unscaled << 14; 2]);
    // RFC 7323 §2.3: more than 14 means 14.
    assert_eq!(scaled(Some(15), Some(255)), [unscaled << 14; 2]);
}

#[test]
fn a_closed_window_may_be_probed() {
    let mut talk = Talk::new().established();
    talk.accept(Original, ack(CLIENT + 1, SERVER + 1).carrying(1_000));
    talk.accept(Reply, ack(SERVER + 1, CLIENT + 1_001).window(0));
    let full = CLIENT + 1_001;
    // Linux asks with nothing below the window, BSD with an octet above it.
    talk.accept(Original, ack(full - 1, SERVER + 1));
    talk.accept(Original, ack(full, SERVER + 1).carrying(1));
    talk.accept(Reply, ack(SERVER + 1, full).window(0));
    talk.accept(Original, ack(full, SERVER + 1).carrying(1));
    // Which the other end may have taken.
    talk.accept(Reply, ack(SERVER + 1, full + 1).window(0));
    talk.drop(Original, ack(full + 100, SERVER + 1).carrying(1));
    talk.accept(Reply, ack(SERVER + 1, full + 1).window(500));
    talk.accept(Original, ack(full + 1, SERVER + 1).carrying(500));
}

#[test]
fn a_window_that_begins_closed_is_known() {
    let mut talk = Talk::new();
    talk.accept(Original, syn(CLIENT).window(0));
    talk.accept(Reply, syn_ack(SERVER, CLIENT + 1).window(0));
    talk.accept(Original, ack(CLIENT + 1, SERVER + 1).window(0));
    talk.accept(Reply, ack(SERVER + 1, CLIENT + 1).window(100));
    talk.accept(
        Original,
        ack(CLIENT + 1, SERVER + 1).carrying(100).window(0),
    );
}

#[test]
fn a_fin_behind_a_closed_window_may_be_followed_by_acknowledgements() {
    let mut talk = Talk::new().established();
    talk.accept(Original, ack(CLIENT + 1, SERVER + 1).carrying(1_000));
    talk.accept(Reply, ack(SERVER + 1, CLIENT + 1_001).window(0));
    talk.accept(Original, fin(CLIENT + 1_001, SERVER + 1).carrying(1));
    assert_eq!(talk.state, State::OriginalFin);
    talk.accept(
        Reply,
        ack(SERVER + 1, CLIENT + 1_001).window(0).carrying(700),
    );
    talk.accept(Original, ack(CLIENT + 1_003, SERVER + 701));
}

#[test]
fn a_sender_beyond_the_edge_may_repeat_all_it_has_sent() {
    let mut talk = Talk::new().established();
    talk.accept(Original, ack(CLIENT + 1, SERVER + 1).carrying(1_000));
    // 64 KiB from the edge on, by somebody who does not care, and once more behind it.
    talk.accept(Original, ack(CLIENT + 1_001, SERVER + 1).carrying(65_000));
    talk.accept(Original, ack(CLIENT + 66_001, SERVER + 1).carrying(65_000));
    assert_eq!(talk.tracking.windows[1].window, 1_000 + 130_000);
    talk.accept(Original, ack(CLIENT + 1, SERVER + 1).carrying(1_000));
}

#[test]
fn no_overshoot_makes_a_window_larger_than_there_can_be() {
    let mut talk = Talk::new().established();
    let mut sequence = CLIENT + 1;
    for _ in 0..40_000 {
        talk.accept(Original, ack(sequence, SERVER + 1).carrying(65_000));
        sequence = sequence.wrapping_add(65_000);
    }
    assert_eq!(talk.tracking.windows[1].window, MAX_WINDOW);
    talk.accept(
        Original,
        ack(sequence.wrapping_sub(65_000), SERVER + 1).carrying(65_000),
    );
}

#[test]
fn a_super_frame_is_one_long_segment() {
    let mut talk = Talk::new();
    talk.accept(Original, syn(CLIENT).shift(14));
    talk.accept(Reply, syn_ack(SERVER, CLIENT + 1).shift(14));
    talk.accept(Original, ack(CLIENT + 1, SERVER + 1));
    talk.accept(Reply, ack(SERVER + 1, CLIENT + 1));
    let mut sequence = CLIENT + 1;
    for _ in 0..100 {
        talk.accept(Original, ack(sequence, SERVER + 1).carrying(65_483));
        sequence += 65_483;
    }
    talk.accept(Reply, ack(SERVER + 1, sequence));
    assert_eq!(talk.tracking.windows[0].end, sequence);
    assert_eq!(talk.tracking.windows[1].acknowledged, sequence);
    assert_eq!(
        talk.tracking.windows[1].window,
        1_000 << 14,
        "none of it is overshoot"
    );
}

#[test]
fn a_keep_alive_passes_and_restarts_the_timer() {
    for octets in [0, 1] {
        let mut talk = Talk::new().established();
        talk.accept(Original, ack(CLIENT, SERVER + 1).carrying(octets));
        talk.accept(Reply, ack(SERVER + 1, CLIENT + 1));
        talk.accept(Reply, ack(SERVER, CLIENT + 1).carrying(octets));
        assert_eq!(talk.state, State::Established);
    }
}

#[test]
fn one_end_may_go_on_for_hours_after_the_other_is_done() {
    for (done, going, half) in [
        (Original, Reply, State::OriginalFin),
        (Reply, Original, State::ReplyFin),
    ] {
        let mut talk = Talk::new().established();
        let mut next = [CLIENT + 1, SERVER + 1];
        talk.accept(done, fin(next[done.index()], next[going.index()]));
        next[done.index()] += 1;
        for _ in 0..10 {
            let data = ack(next[going.index()], next[done.index()]).carrying(900);
            talk.accept(going, data);
            next[going.index()] += 900;
            talk.accept(done, ack(next[done.index()], next[going.index()]));
            assert_eq!(talk.state, half);
        }
        // The same FIN again is no second one.
        talk.accept(done, fin(next[done.index()] - 1, next[going.index()]));
        assert_eq!(talk.state, half);
        talk.accept(going, fin(next[going.index()], next[done.index()]));
        assert_eq!(talk.state, State::BothFin);
        talk.accept(done, ack(next[done.index()], next[going.index()] + 1));
        assert_eq!(talk.state, State::BothFin);
    }
}

#[test]
fn an_exact_reset_ends_a_connection() {
    // The client has sent 300 octets of which 100 were acknowledged.
    let mut open = Talk::new().established();
    open.accept(Original, ack(CLIENT + 1, SERVER + 1).carrying(300));
    open.accept(Reply, ack(SERVER + 1, CLIENT + 101));
    for exact in [CLIENT + 301, CLIENT + 101] {
        for reset in [rst(exact), rst_ack(exact, SERVER + 1), rst_ack(exact, 0)] {
            let mut talk = open;
            talk.accept(Original, reset);
            assert_eq!(talk.state, State::Transitory);
            // A second one does no harm.
            talk.accept(Original, reset);
            assert_eq!(talk.state, State::Transitory);
        }
    }
    let mut talk = open;
    talk.accept(Reply, rst(SERVER + 1));
    assert_eq!(talk.state, State::Transitory);
}

#[test]
fn a_reset_that_is_not_exact_ends_nothing() {
    let mut talk = Talk::new().established();
    talk.accept(Original, ack(CLIENT + 1, SERVER + 1));
    // In the window it may still be meant, and the end decides (RFC 5961 §3).
    talk.pass(Reply, rst(SERVER + 2));
    talk.pass(Reply, rst(SERVER + 1_001));
    talk.pass(Reply, rst_ack(SERVER + 500, CLIENT + 1));
    // Outside it is forged.
    talk.drop(Reply, rst(SERVER + 1_002));
    talk.drop(Reply, rst(0));
    talk.drop(Reply, rst_ack(SERVER + 1, CLIENT + 2));
    talk.drop(Reply, rst_ack(0, CLIENT + 1));
    assert_eq!(talk.state, State::Established);
}

#[test]
fn no_reset_is_exact_before_anything_was_acknowledged_unless_it_knows_the_number() {
    // Nothing has been acknowledged by the client: zero must not pass for the number it expects.
    let mut talk = Talk::new();
    talk.accept(Original, syn(CLIENT));
    talk.drop(Reply, rst(0));
    talk.accept(Reply, syn_ack(SERVER + (1 << 30), CLIENT + 1));
    talk.drop(Reply, rst(0));
    assert_eq!(talk.state, State::OriginalInit);

    let mut talk = Talk::new();
    talk.accept(Original, syn(CLIENT + (1 << 30)));
    talk.accept(Reply, syn(SERVER + (1 << 30)));
    talk.drop(Reply, rst(0));
    talk.accept(Reply, rst(SERVER + (1 << 30) + 1));
    assert_eq!(talk.state, State::Transitory);
}

#[test]
fn a_refusal_acknowledges_the_syn() {
    for wrong in [CLIENT, CLIENT + 2, 0] {
        let mut talk = Talk::new();
        talk.accept(Original, syn(CLIENT));
        talk.drop(Reply, rst_ack(0, wrong));
        talk.drop(Reply, rst(0));
        talk.drop(Reply, rst(CLIENT + 1));
        talk.accept(Reply, rst_ack(0, CLIENT + 1));
        assert_eq!(talk.state, State::Transitory);
        // Refused is not open, whatever comes now.
        talk.drop(Reply, ack(SERVER, CLIENT + 1));
        talk.drop(Reply, syn_ack(SERVER, CLIENT + 1));
        talk.drop(Original, ack(CLIENT + 1, 0));
        talk.drop(Original, segment(TcpFlags::PSH, CLIENT + 1, 0));
        assert_eq!(talk.state, State::Transitory);
        // The next try is.
        talk.accept(Original, syn(CLIENT + 99));
        talk.accept(Reply, syn_ack(SERVER, CLIENT + 100));
        talk.accept(Original, ack(CLIENT + 100, SERVER + 1));
        assert_eq!(talk.state, State::Established);
    }
}

#[test]
fn what_is_not_over_comes_back() {
    let mut talk = Talk::new().established();
    talk.accept(Reply, rst(SERVER + 1));
    assert_eq!(talk.state, State::Transitory);
    talk.drop(Reply, ack(SERVER + 1_000_000, CLIENT + 1));
    assert_eq!(talk.state, State::Transitory);
    talk.accept(Reply, ack(SERVER + 1, CLIENT + 1));
    assert_eq!(
        talk.state,
        State::Established,
        "the reset was forged or lost"
    );

    talk.accept(Reply, rst(SERVER + 1));
    talk.accept(Original, fin(CLIENT + 1, SERVER + 1));
    assert_eq!(talk.state, State::OriginalFin);
}

#[test]
fn a_reset_after_both_fins_does_not_make_the_connection_come_back() {
    let mut talk = Talk::new().established();
    talk.accept(Original, fin(CLIENT + 1, SERVER + 1));
    talk.accept(Reply, fin(SERVER + 1, CLIENT + 2));
    talk.accept(Original, rst(CLIENT + 2));
    talk.accept(Reply, ack(SERVER + 2, CLIENT + 2));
    assert_eq!(talk.state, State::BothFin);
}

#[test]
fn ports_are_reused_as_soon_as_a_connection_is_over() {
    for side in Direction::BOTH {
        let mut closed = Talk::new().established();
        closed.accept(Original, fin(CLIENT + 1, SERVER + 1));
        closed.accept(Reply, fin(SERVER + 1, CLIENT + 2));
        let mut reset = Talk::new().established();
        reset.accept(Original, rst(CLIENT + 1));
        for mut talk in [closed, reset] {
            let (other, mine, theirs) = (side.inverse(), 1 << 30, 7);
            talk.accept(side, syn(mine).shift(1));
            assert_eq!(talk.state, State::opening(side));
            // The other end is still closing the old connection and says so.
            talk.pass(other, ack(SERVER + 2, CLIENT + 2));
            talk.pass(side, rst(CLIENT + 2));
            talk.accept(side, syn(mine).shift(1));
            talk.accept(other, syn_ack(theirs, mine + 1).shift(2));
            talk.accept(side, ack(mine + 1, theirs + 1));
            assert_eq!(talk.state, State::Established);
        }
    }
}

#[test]
fn a_syn_inside_a_connection_is_for_the_other_end_to_question() {
    let mut talk = Talk::new().established();
    // From outside anybody may have sent it; from inside it lies in the window.
    talk.pass(Reply, syn(1 << 30));
    talk.pass(Original, syn(CLIENT + 1));
    talk.pass(Original, syn(CLIENT + 500));
    // RFC 5961 §4: the challenge, and what a host answers that sent the SYN indeed.
    talk.accept(Reply, ack(SERVER + 1, CLIENT + 1));
    talk.accept(Original, rst(CLIENT + 1));
    assert_eq!(talk.state, State::Transitory);
    talk.accept(Original, syn(CLIENT + 500));
    assert_eq!(talk.state, State::OriginalInit);
}

#[test]
fn an_inside_client_that_was_reset_connects_again() {
    // Its peer remembers the connection, is even sending.
    let mut talk = Talk::new().established();
    talk.accept(Original, syn(1 << 30));
    assert_eq!(talk.state, State::OriginalInit);
    talk.pass(Reply, ack(SERVER + 1, CLIENT + 1).carrying(100));
    talk.pass(Original, rst(CLIENT + 1));
    talk.accept(Original, syn(1 << 30));
    talk.accept(Reply, syn_ack(77, (1 << 30) + 1));
    talk.accept(Original, ack((1 << 30) + 1, 78));
    assert_eq!(talk.state, State::Established);

    // Its peer was reset as well.
    let mut talk = Talk::new().established();
    talk.accept(Original, syn(1 << 30));
    talk.accept(Reply, syn_ack(77, (1 << 30) + 1));
    talk.accept(Original, ack((1 << 30) + 1, 78));
    assert_eq!(talk.state, State::Established);

    // Its peer was reset and does not listen.
    let mut talk = Talk::new().established();
    talk.accept(Original, syn(1 << 30));
    talk.accept(Reply, rst_ack(0, (1 << 30) + 1));
    assert_eq!(talk.state, State::Transitory);
}

#[test]
fn an_outside_client_that_was_reset_connects_again() {
    let again = 1_u32 << 30;
    // The server remembers the connection.
    let mut talk = Talk::from_outside().established();
    talk.pass(Original, syn(again));
    talk.accept(Reply, ack(SERVER + 1, CLIENT + 1));
    talk.accept(Original, rst(CLIENT + 1));
    talk.accept(Original, syn(again));
    assert_eq!(talk.state, State::OriginalInit);

    // The server was reset as well.
    for shift in [None, Some(5)] {
        let mut talk = Talk::from_outside().established();
        let offer = |segment: Segment| Segment {
            window_shift: shift,
            ..segment
        };
        talk.pass(Original, offer(syn(again)));
        talk.accept(Reply, offer(syn_ack(77, again + 1)));
        assert_eq!(talk.state, State::OriginalInit);
        talk.drop(Original, ack(CLIENT + 1, SERVER + 1));
        talk.drop(Original, ack(again + 1, 77));
        talk.accept(Original, ack(again + 1, 78).carrying(1_000));
        assert_eq!(talk.state, State::Established);
        talk.accept(Reply, ack(78, again + 1_001).carrying(1_000));
        talk.drop(Original, rst(again + 600_000));
        talk.accept(Original, rst(again + 1_001));
        assert_eq!(talk.state, State::Transitory);
    }

    // The server was reset and does not listen: the refusal must reach the client.
    let mut talk = Talk::from_outside().established();
    talk.pass(Original, syn(again));
    talk.pass(Reply, rst_ack(0, again + 1));
    assert_eq!(talk.state, State::Established);
}

#[test]
fn an_answer_from_outside_starts_nothing_over() {
    let mut talk = Talk::new().established();
    talk.pass(Reply, syn_ack(1 << 30, CLIENT + 1));
    talk.accept(Reply, ack(SERVER + 1, CLIENT + 1).carrying(1));
    // And one from inside only if it has nothing to do with the connection.
    let mut talk = Talk::from_outside().established();
    talk.pass(Reply, syn_ack(SERVER, CLIENT + 1));
    talk.accept(Original, fin(CLIENT + 1, SERVER + 1));
    talk.accept(Reply, fin(SERVER + 1, CLIENT + 2));
    talk.pass(Reply, syn_ack(1 << 30, CLIENT + 1));
    assert_eq!(talk.state, State::BothFin);
}

#[test]
fn a_window_of_zero_means_unknown() {
    assert!(!Window::default().is_known());
    assert!(Window::from_syn(&syn(1).window(0)).is_known());
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
