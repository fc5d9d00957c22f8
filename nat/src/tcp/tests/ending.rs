//! How a connection ends.

use heddle_wire::TcpFlags;

use super::{CLIENT, SERVER, Talk, ack, fin, rst, rst_ack, segment, syn, syn_ack};
use crate::tcp::State;
use crate::tuple::Direction::{self, Original, Reply};

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
    talk.pass(Reply, rst(0));
    assert_eq!(talk.state, State::OriginalInit);

    let mut talk = Talk::new();
    talk.accept(Original, syn(CLIENT + (1 << 30)));
    talk.accept(Reply, syn(SERVER + (1 << 30)));
    talk.pass(Reply, rst(0));
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
