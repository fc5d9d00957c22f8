//! Ends that have forgotten the connection, and segments of one that they have forgotten.

use heddle_wire::TcpFlags;

use super::{CLIENT, SERVER, Talk, ack, fin, rst, rst_ack, segment, syn, syn_ack};
use crate::tcp::{SYN_WINDOW, Segment, State};
use crate::tuple::Direction::{Original, Reply};

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
        talk.pass(Original, ack(CLIENT + 1, SERVER + 1));
        talk.pass(Original, ack(again + 1, 77));
        talk.accept(Original, ack(again + 1, 78).carrying(1_000));
        assert_eq!(talk.state, State::Established);
        talk.accept(Reply, ack(78, again + 1_001).carrying(1_000));
        talk.drop(Original, rst(again + 600_000));
        talk.accept(Original, rst(again + 1_001));
        assert_eq!(talk.state, State::Transitory);
    }

    // The server was reset as well, and a late reset of the connection overtakes its answer.
    let mut talk = Talk::from_outside().established();
    talk.pass(Original, syn(again));
    talk.accept(Original, rst(CLIENT + 1));
    assert_eq!(talk.state, State::Transitory);
    talk.accept(Reply, syn_ack(77, again + 1));
    talk.accept(Original, ack(again + 1, 78));
    assert_eq!(talk.state, State::Established);

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
    talk.accept(Reply, ack(SERVER + 1, CLIENT + 1).carrying(1));
}

#[test]
fn between_ends_that_have_not_agreed_a_reset_passes_whatever_its_number() {
    // The server answers a late SYN after it has forgotten; the client is open with the number that
    // the server had before.
    let mut talk = Talk::new();
    talk.accept(Original, syn(CLIENT));
    talk.accept(Reply, syn_ack(1 << 30, CLIENT + 1));
    talk.pass(Original, ack(CLIENT + 1, SERVER + 1));
    talk.pass(Reply, rst(SERVER + 1));
    assert_eq!(talk.state, State::OriginalInit);
    // Once they agree, it is forged.
    talk.accept(Original, ack(CLIENT + 1, (1 << 30) + 1));
    talk.drop(Reply, rst(SERVER + 1));
}

#[test]
fn an_outsider_that_seemed_to_wait_for_an_answer_may_get_the_reset_that_helps() {
    // Only a late SYN was seen; its sender is open already, with a server that has forgotten.
    let mut talk = Talk::from_outside();
    talk.accept(Original, syn(CLIENT));
    talk.pass(Original, ack(CLIENT + 1, SERVER + 1).carrying(100));
    talk.pass(Reply, rst(SERVER + 1));
    assert_eq!(talk.state, State::OriginalInit);
    // What acknowledges nothing cannot have seen an answer.
    talk.drop(Original, segment(TcpFlags::PSH, CLIENT + 1, 0).carrying(1));
}

#[test]
fn a_late_syn_from_outside_does_not_reopen_what_is_closing() {
    let mut closing = Talk::from_outside().established();
    closing.accept(Original, fin(CLIENT + 1, SERVER + 1).carrying(100));
    closing.accept(Reply, fin(SERVER + 1, CLIENT + 1));
    assert_eq!(closing.state, State::BothFin);

    let mut talk = closing;
    talk.pass(Original, syn(CLIENT));
    // The challenge, and what was lost, once more.
    talk.accept(Reply, ack(SERVER + 2, CLIENT + 1));
    talk.accept(Original, fin(CLIENT + 1, SERVER + 2).carrying(100));
    assert_eq!(talk.state, State::BothFin);

    // One that lies ahead is a new one (RFC 6191).
    let mut talk = closing;
    talk.accept(Original, syn(CLIENT + 102));
    assert_eq!(talk.state, State::OriginalInit);

    // One that lies behind as well, if the server says so.
    let mut talk = closing;
    let again = CLIENT.wrapping_sub(100_000);
    talk.pass(Original, syn(again));
    talk.accept(Reply, syn_ack(1 << 30, again.wrapping_add(1)));
    assert_eq!(talk.state, State::OriginalInit);
    talk.accept(Original, ack(again.wrapping_add(1), (1 << 30) + 1));
    assert_eq!(talk.state, State::Established);
}

#[test]
fn who_is_followed_out_of_a_closing_connection_is_open() {
    let mut closing = Talk::new().established();
    closing.accept(Original, fin(CLIENT + 1, SERVER + 1));
    closing.accept(Reply, fin(SERVER + 1, CLIENT + 2));
    for (segment, state) in [
        (ack(1 << 30, 1 << 29), State::Established),
        (fin(1 << 30, 1 << 29), State::OriginalFin),
    ] {
        let mut talk = closing;
        talk.accept(Original, segment);
        assert_eq!(talk.state, state);
        // An outsider is not.
        let mut talk = closing;
        talk.drop(Reply, segment);
        assert_eq!(talk.state, State::BothFin);
    }
}

#[test]
fn a_window_of_a_gigabyte_does_not_make_everything_near() {
    // The client, inside, uses the largest window there is, and so does its peer.
    let mut talk = Talk::new();
    talk.accept(Original, syn(CLIENT).shift(14));
    talk.accept(Reply, syn_ack(SERVER, CLIENT + 1).shift(14));
    let wide = |segment: Segment| segment.window(u16::MAX);
    talk.accept(Original, wide(ack(CLIENT + 1, SERVER + 1)));
    talk.accept(Reply, wide(ack(SERVER + 1, CLIENT + 1)));
    talk.accept(Original, syn(CLIENT + SYN_WINDOW + 2));
    assert_eq!(talk.state, State::OriginalInit);
}

#[test]
fn who_is_followed_may_repeat_a_window_that_was_not_seen() {
    let mut talk = Talk::new();
    talk.accept(Original, syn(CLIENT));
    // Open already, with another server than the one that this SYN will find, and with a million
    // octets on their way.
    let next = CLIENT + 1 + 1_000_000;
    talk.accept(Original, ack(next, SERVER + 1).carrying(1));
    assert_eq!(talk.state, State::Established);
    talk.accept(Original, ack(CLIENT + 1, SERVER + 1).carrying(1_000));
    talk.accept(Reply, ack(SERVER + 1, CLIENT + 1_001));
}

#[test]
fn who_is_followed_may_acknowledge_what_passed_before() {
    // A SYN that is later than the last FIN, and then an old segment: but the server has sent 500
    // octets and a FIN, and sends only the first of them again.
    let mut talk = Talk::new().established();
    talk.accept(Original, fin(CLIENT + 1, SERVER + 1).carrying(500));
    talk.accept(Reply, fin(SERVER + 1, CLIENT + 1).carrying(500));
    talk.accept(Original, syn(CLIENT));
    talk.accept(Original, ack(CLIENT + 1, SERVER + 1).carrying(100));
    talk.accept(Reply, ack(SERVER + 1, CLIENT + 502).carrying(100));
    talk.accept(Original, ack(CLIENT + 502, SERVER + 502));
}
