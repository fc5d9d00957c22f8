//! Which segments belong to an open connection.

use heddle_wire::TcpFlags;

use super::{CLIENT, SERVER, Talk, ack, fin, segment, syn, syn_ack};
use crate::tcp::window::ACK_WINDOW;
use crate::tcp::{MAX_WINDOW, Segment, State, Window};
use crate::tuple::Direction::{Original, Reply};

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
    // II: back to one window and an octet before the end, not further.
    let oldest = sequence.wrapping_sub(1_001);
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
        talk.drop(Original, ack(after.wrapping_sub(1_002), after));
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
fn a_window_of_zero_means_unknown() {
    assert!(!Window::default().is_known());
    assert!(Window::from_syn(&syn(1).window(0)).is_known());
}
