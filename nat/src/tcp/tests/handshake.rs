//! How a connection begins.

use heddle_wire::TcpFlags;

use super::{CLIENT, SERVER, Talk, ack, fin, rst, rst_ack, segment, syn, syn_ack};
use crate::tcp::{State, Tracking};
use crate::tuple::Direction::{Original, Reply};

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
    talk.pass(Original, ack(CLIENT + 1, SERVER));
    talk.pass(Original, ack(CLIENT + 1, SERVER.wrapping_sub(60_000)));
    talk.pass(Original, ack(CLIENT + 1, SERVER + 2));
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
