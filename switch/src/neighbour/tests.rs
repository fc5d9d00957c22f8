use std::time::Duration;

use heddle_mem::BufferPool;

use super::entry::{PROBES, REACHABLE_TIME, RETRANSMIT, UNUSED_TIME};
use super::*;

const LINK: Link = Link::Leg(LegId(1));
const START: Instant = Instant::from_micros(1_000_000_000);
const A: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 0xa]);
const B: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 0xb]);

/// A neighbour of either family.
fn address(number: u32) -> Address {
    let base = if number.is_multiple_of(2) {
        0xffff_c000_0200
    } else {
        0x2001_0db8 << 96
    };
    Address::from_bits(base + u128::from(number))
}

/// Neighbours, and frames that wait for them.
struct Bench {
    neighbours: Neighbours,
    pool: BufferPool,
    now: Instant,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            neighbours: Neighbours::new(),
            pool: BufferPool::new(4096, 16),
            now: START,
        }
    }

    fn hold(&self, number: u32, port: u16) -> Hold {
        self.hold_on(LINK, number, port)
    }

    fn hold_on(&self, link: Link, number: u32, port: u16) -> Hold {
        let frame = || {
            let buffer = self.pool.take()?;
            Some(HeldFrame::empty(PortId(port), buffer))
        };
        let (neighbours, port) = (&self.neighbours, PortId(port));
        neighbours.hold(link, address(number), port, frame, self.now)
    }

    fn hear(&self, number: u32, mac: Option<MacAddr>, solicited: bool, overrides: bool) -> usize {
        let heard = Heard {
            mac,
            solicited,
            overrides,
        };
        let neighbours = &self.neighbours;
        let frames = neighbours.hear(LINK, address(number), heard, self.now);
        frames.len()
    }

    fn find(&self, number: u32) -> Option<MacAddr> {
        self.neighbours.find(LINK, address(number))
    }

    fn state(&self, number: u32) -> Option<NeighbourState> {
        let listed = self.neighbours.list();
        let of = |listed: &ListedNeighbour| listed.address == address(number);
        listed.into_iter().find(of).map(|listed| listed.state)
    }

    /// Lets time pass and everything happen that is due: questions, to whom, and frames given up.
    fn pass(&mut self, span: Duration) -> (Vec<Option<MacAddr>>, usize) {
        let end = self.now + span;
        let (mut questions, mut frames) = (Vec::new(), 0);
        let mut idle = 0;
        while let Some(deadline) = self.neighbours.next_deadline().filter(|&at| at <= end) {
            idle = if deadline > self.now { 0 } else { idle + 1 };
            assert!(idle < 10, "a deadline that stays");
            self.now = self.now.max(deadline);
            for due in self.neighbours.tick(self.now) {
                match due {
                    Due::Ask(_, _, mac) => questions.push(mac),
                    Due::GaveUp(waiting) => frames += waiting.len(),
                }
            }
        }
        self.now = end;
        (questions, frames)
    }

    /// A neighbour that was asked for and has answered.
    fn known(&self, number: u32) {
        assert_eq!(self.hold(number, 1), Hold::Ask);
        assert_eq!(self.hear(number, Some(A), true, true), 1);
    }

    fn waiting(&self) -> usize {
        4096 - self.pool.available()
    }
}

#[test]
fn a_neighbour_is_asked_for_once_and_all_who_waited_go() {
    for number in [0, 1] {
        let bench = Bench::new();
        assert_eq!(bench.hold(number, 1), Hold::Ask);
        assert_eq!(bench.hold(number, 1), Hold::Waiting);
        assert_eq!(bench.hold(number, 2), Hold::Waiting);
        assert_eq!(bench.find(number), None);
        assert_eq!(bench.state(number), Some(NeighbourState::Incomplete));
        assert_eq!(bench.hear(number, Some(A), true, true), 3);
        assert_eq!(bench.find(number), Some(A));
        assert_eq!(bench.state(number), Some(NeighbourState::Reachable));
        assert_eq!(bench.hold(number, 1), Hold::Known);
        assert_eq!(bench.waiting(), 0);
    }
}

#[test]
fn who_does_not_answer_three_times_is_given_up() {
    let mut bench = Bench::new();
    bench.hold(0, 1);
    bench.hold(0, 2);
    let (questions, gone) = bench.pass(RETRANSMIT * 10);
    // The caller has asked once.
    assert_eq!(questions, [None; PROBES as usize - 1]);
    assert_eq!(gone, 2);
    assert_eq!(bench.state(0), None);
    assert_eq!(bench.waiting(), 0);
    assert_eq!(bench.neighbours.next_deadline(), None);
    // And may be asked for again, with a whole share.
    assert_eq!(bench.hold(0, 1), Hold::Ask);
}

#[test]
fn nobody_is_known_who_was_not_asked_for() {
    let bench = Bench::new();
    assert_eq!(bench.hear(0, Some(A), true, true), 0);
    assert_eq!(bench.hear(1, Some(A), false, true), 0);
    assert_eq!((bench.find(0), bench.find(1)), (None, None));
    assert_eq!(bench.neighbours.list(), []);
}

#[test]
fn an_answer_without_a_mac_address_is_none_for_who_has_none() {
    let bench = Bench::new();
    bench.hold(1, 1);
    assert_eq!(bench.hear(1, None, true, true), 0);
    assert_eq!(bench.state(1), Some(NeighbourState::Incomplete));
}

#[test]
fn a_neighbour_that_is_used_is_probed_and_one_that_is_not_is_forgotten() {
    let mut bench = Bench::new();
    bench.known(0);
    bench.known(1);
    assert_eq!(bench.pass(REACHABLE_TIME), (vec![], 0));
    assert_eq!(bench.state(0), Some(NeighbourState::Stale));
    // A frame is sent, and wants to know.
    assert_eq!(bench.find(0), Some(A));
    let (questions, _) = bench.pass(RETRANSMIT);
    assert_eq!(questions, [Some(A)]);
    assert_eq!(bench.state(0), Some(NeighbourState::Probe));
    // An answer to a question that was for it alone may leave its address out.
    bench.hear(0, None, true, false);
    assert_eq!(bench.state(0), Some(NeighbourState::Reachable));
    bench.pass(UNUSED_TIME);
    assert_eq!(bench.state(1), None);
    assert_eq!(bench.find(1), None);
}

#[test]
fn a_neighbour_that_stops_answering_is_forgotten_while_it_is_used() {
    let mut bench = Bench::new();
    bench.known(0);
    bench.pass(REACHABLE_TIME);
    assert_eq!(bench.find(0), Some(A));
    let (questions, _) = bench.pass(RETRANSMIT * 5);
    assert_eq!(questions, [Some(A); PROBES as usize]);
    assert_eq!(bench.find(0), None);
}

#[test]
fn what_was_not_asked_for_is_used_but_proves_nothing() {
    let bench = Bench::new();
    bench.hold(0, 1);
    assert_eq!(bench.hear(0, Some(A), false, true), 1);
    assert_eq!(bench.find(0), Some(A));
    assert_eq!(bench.state(0), Some(NeighbourState::Stale));
}

#[test]
fn a_mac_address_stands_for_a_second_and_yields_only_to_one_that_overrides() {
    let mut bench = Bench::new();
    bench.known(0);
    bench.hear(0, Some(B), true, true);
    assert_eq!(bench.find(0), Some(A));
    bench.pass(Duration::from_secs(2));
    bench.hear(0, Some(B), true, false);
    assert_eq!(bench.find(0), Some(A));
    // But it is doubted now (RFC 4861 §7.2.5).
    assert_eq!(bench.state(0), Some(NeighbourState::Stale));
    bench.hear(0, Some(B), false, true);
    assert_eq!(bench.find(0), Some(B));
}

#[test]
fn a_port_that_waits_too_much_loses_its_own_oldest_and_nobody_elses() {
    let bench = Bench::new();
    assert_eq!(bench.hold(0, 2), Hold::Ask);
    for _ in 0..NEIGHBOUR_SHARE {
        assert_eq!(bench.hold(0, 1), Hold::Waiting);
    }
    for _ in 0..10 {
        assert_eq!(bench.hold(0, 1), Hold::Replaced(1));
    }
    assert_eq!(bench.waiting(), NEIGHBOUR_SHARE + 1);
    assert_eq!(bench.hear(0, Some(A), true, true), NEIGHBOUR_SHARE + 1);
}

#[test]
fn a_port_that_asks_for_a_whole_subnet_uses_up_its_share() {
    let mut bench = Bench::new();
    for number in 0..1000 {
        let expected = if usize::try_from(number).unwrap() < PORT_SHARE {
            Hold::Ask
        } else {
            Hold::Full
        };
        assert_eq!(bench.hold(number, 1), expected);
    }
    assert_eq!(bench.hold(2000, 2), Hold::Ask);
    // Once the first are given up it may go on.
    let (_, gone) = bench.pass(RETRANSMIT * 4);
    assert_eq!(gone, PORT_SHARE + 1);
    assert_eq!(bench.hold(5000, 1), Hold::Ask);
}

#[test]
fn a_port_that_joins_the_questions_of_others_has_no_more_than_its_share_either() {
    let bench = Bench::new();
    let share = u32::try_from(PORT_SHARE).unwrap();
    for number in 0..2 * share {
        let port = if number < share { 10 } else { 11 };
        assert_eq!(bench.hold(number, port), Hold::Ask);
    }
    for number in 0..2 * share {
        let expected = if number < share {
            Hold::Waiting
        } else {
            Hold::Full
        };
        assert_eq!(bench.hold(number, 1), expected);
    }
    assert_eq!(bench.waiting(), 3 * PORT_SHARE);
}

#[test]
fn idle_neighbours_give_way_and_used_ones_do_not() {
    let mut bench = Bench::new();
    let limit = u32::try_from(LIMIT).unwrap();
    for number in 0..limit {
        bench.known(number);
    }
    // All are reachable: nobody goes for a new one.
    assert_eq!(bench.hold(limit, 1), Hold::Full);
    bench.pass(REACHABLE_TIME);
    for number in 1..limit {
        assert_eq!(bench.find(number), Some(A));
    }
    assert_eq!(bench.hold(limit, 1), Hold::Ask);
    assert_eq!(bench.find(0), None);
    assert_eq!(bench.find(1), Some(A));
    assert_eq!(bench.neighbours.list().len(), LIMIT);
}

#[test]
fn without_a_buffer_nothing_waits_and_nobody_is_asked_for() {
    let bench = Bench::new();
    let neighbours = &bench.neighbours;
    let held = neighbours.hold(LINK, address(0), PortId(1), || None, START);
    assert_eq!(held, Hold::Full);
    assert_eq!(neighbours.list(), []);
    bench.hold(0, 1);
    let held = neighbours.hold(LINK, address(0), PortId(1), || None, START);
    assert_eq!(held, Hold::Full);
    assert_eq!(bench.hear(0, Some(A), true, true), 1);
}

#[test]
fn a_link_that_goes_takes_its_neighbours_along_and_gives_up_who_waited() {
    let mut bench = Bench::new();
    let other = Link::Network(NetworkId(1));
    bench.known(0);
    bench.hold(1, 1);
    bench.hold_on(other, 1, 1);
    bench.neighbours.flush(LINK, bench.now);
    assert_eq!(bench.find(0), None);
    let (_, gone) = bench.pass(Duration::ZERO);
    assert_eq!(gone, 1);
    let left = bench.neighbours.list();
    assert_eq!(left.iter().map(|it| it.link).collect::<Vec<_>>(), [other]);
    assert_eq!(bench.waiting(), 1);
}

#[test]
fn frames_of_a_port_that_goes_are_forgotten_and_its_share_is_whole_again() {
    let bench = Bench::new();
    for number in 0..u32::try_from(PORT_SHARE).unwrap() {
        bench.hold(number, 1);
        bench.hold(number, 2);
    }
    bench
        .neighbours
        .forget_waiting(|held| held.ingress == PortId(1));
    assert_eq!(bench.waiting(), PORT_SHARE);
    assert_eq!(bench.hold(5000, 2), Hold::Full);
    assert_eq!(bench.hold(5000, 1), Hold::Ask);
}
