//! Whole connections between two ends that behave as RFC 9293 and RFC 5961 say, over links that lose,
//! repeat and reorder, with the tracker in the middle. Two things must hold: the tracker never drops
//! what the end behind it would have taken, and the connection gets to its end.
//!
//! The first is not promised after an end has forgotten the connection, nor after a SYN from inside
//! that is later than the last FIN: both look like a new connection. The second always is.

use std::collections::BTreeMap;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};

mod end;

use self::end::{End, Habits};
use super::{Segment, State, Tracking, Verdict};
use crate::tuple::Direction;

/// Events after which a connection that is not over never will be.
const PATIENCE: u32 = 20_000;

/// What the links do to segments.
#[derive(Clone, Debug)]
struct Links {
    /// In a thousand.
    lost: u64,
    repeated: u64,
    /// How far one segment may fall behind another.
    jitter: u64,
}

/// What happens next.
#[derive(Clone, Debug)]
enum Event {
    /// A segment from this side reaches the tracker.
    Middle(Direction, Segment),
    /// A segment from this side reaches the other end. It may be one that the tracker dropped.
    Arrival(Direction, Segment, Verdict),
    Wake(Direction),
    Forget(Direction),
}

/// Two ends, a tracker, and all that is under way.
struct Lab {
    ends: [End; 2],
    tracking: Tracking,
    state: State,
    links: Links,
    events: BTreeMap<(u64, u64), Event>,
    now: u64,
    random: u64,
    /// Whether dropped segments are followed to where they would have arrived. Not after an end has
    /// forgotten: then old segments are still about that nobody should have.
    follows: bool,
    /// How many times an end will still forget.
    forgetting: usize,
    /// Whether a SYN came from inside, later than the last FIN. It is taken for a new one. The tracker
    /// finds back into the connection, but may drop a few segments on the way.
    reopened: bool,
    dropped: u32,
}

impl Lab {
    fn new(habits: [Habits; 2], inside: [bool; 2], links: Links, seed: u64) -> Lab {
        let [mut client, mut server] = habits;
        // Not more than some dozens of windows: patience is counted in events.
        client.speech = client.speech.min(40 * server.room);
        server.speech = server.speech.min(40 * client.room);
        let mut lab = Lab {
            ends: [End::new(client, true), End::new(server, false)],
            tracking: Tracking {
                inside,
                ..Tracking::default()
            },
            state: State::Closed,
            links,
            events: BTreeMap::new(),
            now: 0,
            random: seed,
            follows: true,
            forgetting: 0,
            reopened: false,
            dropped: 0,
        };
        for side in Direction::BOTH {
            lab.plan(0, Event::Wake(side));
        }
        lab
    }

    /// The next of a sequence that depends on the seed alone.
    fn draw(&mut self, below: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below.max(1)
    }

    fn plan(&mut self, delay: u64, event: Event) {
        let tie = self.draw(1 << 30);
        self.events.insert((self.now + delay, tie), event);
    }

    /// One link: the copies of a segment that come out, each with its delay.
    fn travel(&mut self) -> Vec<u64> {
        if self.draw(1_000) < self.links.lost {
            return vec![];
        }
        let copies = 1 + usize::from(self.draw(1_000) < self.links.repeated);
        (0..copies)
            .map(|_| 10 + self.draw(self.links.jitter + 1))
            .collect()
    }

    fn emit(&mut self, side: Direction, segments: Vec<Segment>) {
        for segment in segments {
            for delay in self.travel() {
                self.plan(delay, Event::Middle(side, segment));
            }
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Middle(side, segment) => {
                self.reopened |= segment.is_opening()
                    && self.state == State::BothFin
                    && self.tracking.inside[side.index()];
                let (state, verdict) = self.tracking.update(self.state, side, &segment);
                self.state = state;
                if verdict == Verdict::OutOfWindow {
                    self.dropped += 1;
                    self.plan(10, Event::Arrival(side, segment, verdict));
                } else {
                    for delay in self.travel() {
                        self.plan(delay, Event::Arrival(side, segment, verdict));
                    }
                }
            }
            Event::Arrival(side, segment, verdict) => {
                let end = &mut self.ends[side.inverse().index()];
                if verdict == Verdict::OutOfWindow {
                    assert!(
                        !self.follows || self.reopened || !end.would_take(&segment),
                        "dropped, but wanted: {segment:?} from {side:?}\nby {end:#?}\n{:#?} {:?}",
                        self.tracking,
                        self.state
                    );
                    return;
                }
                let answers = end.receive(&segment);
                self.emit(side.inverse(), answers);
            }
            Event::Wake(side) => {
                let room = u64::try_from(self.ends[side.index()].habits.room).unwrap();
                let appetite = i64::try_from(self.draw(2 * room)).unwrap();
                let segments = self.ends[side.index()].wake(appetite);
                self.emit(side, segments);
                let pause = 50 + 2 * self.links.jitter + self.draw(100);
                self.plan(pause, Event::Wake(side));
            }
            Event::Forget(side) => {
                self.follows = false;
                self.forgetting -= 1;
                self.ends[side.index()].forget();
            }
        }
    }

    /// Where the server may forget, it may do so after all is said, and nobody will tell it again.
    fn is_done(&self) -> bool {
        let [client, server] = &self.ends;
        self.forgetting == 0 && client.is_done() && (server.is_done() || !self.follows)
    }

    #[track_caller]
    fn run(&mut self) {
        for _ in 0..PATIENCE {
            let Some((&(time, tie), _)) = self.events.first_key_value() else {
                break;
            };
            let event = self.events.remove(&(time, tie)).unwrap();
            self.now = time;
            self.step(event);
            if self.is_done() {
                return;
            }
        }
        panic!(
            "the connection is not over: {:#?}\n{:#?} {:?}",
            self.ends, self.tracking, self.state
        );
    }
}

fn any_habits() -> impl Strategy<Value = Habits> {
    let number = prop_oneof![
        Just(0),
        Just(u32::MAX),
        (0..20_000_u32).prop_map(|before| u32::MAX - before),
        (0..20_000_u32).prop_map(|before| (1 << 31) - before),
        any::<u32>(),
    ];
    let shift = prop_oneof![Just(None), (0..=15_u8).prop_map(Some)];
    let room = prop_oneof![
        1..=5_i64,
        500..=5_000_i64,
        60_000..=70_000_i64,
        Just(1_000_000)
    ];
    let unit = prop_oneof![1..=3_i64, 500..=1_460_i64, Just(65_000)];
    (number, shift, room, 0..60_i64, unit, any::<[bool; 2]>()).prop_map(
        |(first_number, window_shift, room, units, unit, [fast_open, probes_with_data])| {
            // A window that is scaled down to nothing would never open.
            let smallest = window_shift.map_or(1, |shift| 4 << shift.min(14));
            Habits {
                first_number,
                window_shift,
                room: room.max(smallest),
                speech: units * unit,
                unit,
                fast_open,
                probes_with_data,
            }
        },
    )
}

fn any_links() -> impl Strategy<Value = Links> {
    let rate = || prop_oneof![Just(0), 0..50_u64, 0..250_u64];
    let jitter = prop_oneof![Just(0), 0..30_u64, 0..500_u64];
    (rate(), rate(), jitter).prop_map(|(lost, repeated, jitter)| Links {
        lost,
        repeated,
        jitter,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_an_end_would_take_is_dropped(
        client in any_habits(),
        server in any_habits(),
        links in any_links(),
        is_from_inside in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut lab = Lab::new([client, server], [is_from_inside, !is_from_inside], links, seed);
        lab.run();
        assert!(lab.reopened || lab.state == State::BothFin, "{:?}", lab.state);
    }

    #[test]
    fn ends_that_forget_connect_again(
        client in any_habits(),
        server in any_habits(),
        links in any_links(),
        inside in prop_oneof![Just([true, false]), Just([false, true]), Just([true, true])],
        forgets in prop::collection::vec((0..5_000_u64, any::<[bool; 2]>()), 1..4),
        seed in any::<u64>(),
    ) {
        let mut lab = Lab::new([client, server], inside, links, seed);
        for (time, ends) in forgets {
            for side in Direction::BOTH.into_iter().filter(|side| ends[side.index()]) {
                lab.plan(time, Event::Forget(side));
                lab.forgetting += 1;
            }
        }
        lab.run();
    }
}

#[test]
fn without_loss_or_repetition_nothing_is_dropped_at_all() {
    let habits = |first_number, fast_open| Habits {
        first_number,
        window_shift: Some(7),
        room: 200_000,
        speech: 3_000_000,
        unit: 65_000,
        fast_open,
        probes_with_data: false,
    };
    for fast_open in [false, true] {
        for seed in 0..20 {
            let links = Links {
                lost: 0,
                repeated: 0,
                jitter: 3,
            };
            let ends = [habits(u32::MAX - 100_000, fast_open), habits(7, fast_open)];
            let mut lab = Lab::new(ends, [true, false], links, seed);
            lab.run();
            assert_eq!(lab.dropped, 0);
        }
    }
}
