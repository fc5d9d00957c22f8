use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;

use super::{BUCKETS, HORIZON, Instant, Wheel};

const TICK: Duration = Duration::from_millis(250);

const HOUR: Duration = Duration::from_secs(60 * 60);

/// More than there are timers.
const ALL: usize = usize::MAX;

fn at(span: Duration) -> Instant {
    Instant::ZERO + span
}

fn seconds(seconds: u64) -> Instant {
    at(Duration::from_secs(seconds))
}

/// The slots that fire when the wheel comes to `now`.
fn fire(wheel: &mut Wheel, now: Instant) -> Vec<u32> {
    let mut fired = Vec::new();
    let more = wheel.advance(now, ALL, |slot| {
        fired.push(slot);
        None
    });
    assert!(!more);
    fired
}

#[test]
fn a_timer_fires_at_its_deadline_and_once() {
    let mut wheel = Wheel::new(Instant::ZERO, TICK);
    wheel.schedule(7, seconds(2));
    assert!(wheel.is_scheduled(7));
    assert_eq!(fire(&mut wheel, at(Duration::from_millis(1_999))), []);
    assert_eq!(fire(&mut wheel, seconds(2)), [7]);
    assert!(!wheel.is_scheduled(7) && wheel.is_empty());
    assert_eq!(fire(&mut wheel, seconds(100)), []);
}

#[test]
fn a_deadline_between_two_ticks_fires_at_the_later() {
    let mut wheel = Wheel::new(Instant::ZERO, TICK);
    wheel.schedule(1, at(Duration::from_millis(251)));
    assert_eq!(fire(&mut wheel, at(Duration::from_millis(499))), []);
    assert_eq!(fire(&mut wheel, at(Duration::from_millis(500))), [1]);
}

#[test]
fn a_cancelled_timer_does_not_fire() {
    let mut wheel = Wheel::new(Instant::ZERO, TICK);
    for slot in 0..3 {
        wheel.schedule(slot, seconds(1));
    }
    assert!(wheel.cancel(1));
    assert!(!wheel.cancel(1), "it is not running");
    assert!(!wheel.cancel(1_000_000), "it never was");
    let mut fired = fire(&mut wheel, seconds(1));
    fired.sort_unstable();
    assert_eq!(fired, [0, 2]);
}

#[test]
fn a_timer_set_anew_keeps_the_last_deadline_only() {
    let mut wheel = Wheel::new(Instant::ZERO, TICK);
    wheel.schedule(1, seconds(1));
    wheel.schedule(1, seconds(500));
    wheel.schedule(1, seconds(3));
    assert_eq!(wheel.len(), 1);
    assert_eq!(fire(&mut wheel, seconds(2)), []);
    assert_eq!(fire(&mut wheel, seconds(600)), [1]);
}

#[test]
fn a_deadline_that_has_passed_fires_at_the_next_call() {
    let mut wheel = Wheel::new(seconds(5), TICK);
    assert_eq!(fire(&mut wheel, seconds(100)), []);
    wheel.schedule(1, seconds(1));
    wheel.schedule(2, seconds(99));
    let mut fired = fire(&mut wheel, seconds(100));
    fired.sort_unstable();
    assert_eq!(fired, [1, 2]);
}

#[test]
#[cfg_attr(miri, ignore = "too many seconds to interpret")]
fn a_busy_session_is_asked_once_per_timeout() {
    let mut wheel = Wheel::new(Instant::ZERO, TICK);
    let timeout = Duration::from_secs(300);
    wheel.schedule(1, at(timeout));
    let mut asked = 0;
    for second in 0..3_600 {
        let now = seconds(second);
        // A packet came just now.
        wheel.advance(now, ALL, |_| {
            asked += 1;
            Some(now + timeout)
        });
    }
    assert_eq!(asked, 11);
    assert!(wheel.is_scheduled(1));
}

#[test]
fn a_callback_that_names_the_past_is_asked_again_at_the_next_tick() {
    let mut wheel = Wheel::new(Instant::ZERO, TICK);
    wheel.schedule(1, seconds(1));
    let mut asked = 0;
    let more = wheel.advance(seconds(1), ALL, |_| {
        asked += 1;
        Some(Instant::ZERO)
    });
    assert!(!more);
    assert_eq!(asked, 1);
    assert_eq!(fire(&mut wheel, seconds(1) + TICK), [1]);
}

#[test]
#[cfg_attr(miri, ignore = "too many ticks to interpret")]
fn deadlines_of_all_distances_fire_in_their_tick() {
    let mut wheel = Wheel::new(Instant::ZERO, TICK);
    // Around every border between rings, and beyond the outermost.
    let ticks: Vec<u64> = [
        0, 1, 63, 64, 65, 4_095, 4_096, 4_097, 258_047, 262_143, 262_144, 300_000,
    ]
    .into_iter()
    .flat_map(|tick| [tick, tick + 37])
    .collect();
    for (slot, &tick) in (0..).zip(&ticks) {
        wheel.schedule(slot, Instant::ZERO + TICK * u32::try_from(tick).unwrap());
    }
    let mut due: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    for (slot, &tick) in (0..).zip(&ticks) {
        due.entry(tick).or_default().insert(slot);
    }
    for tick in 0..300_100 {
        let fired = fire(&mut wheel, Instant::ZERO + TICK * tick);
        let expected = due.remove(&u64::from(tick)).unwrap_or_default();
        assert_eq!(BTreeSet::from_iter(fired), expected, "tick {tick}");
    }
}

#[test]
fn a_session_of_two_hours_and_one_of_two_days_end_in_time() {
    let mut wheel = Wheel::new(seconds(12_345), TICK);
    let now = seconds(12_345);
    wheel.schedule(1, now + 2 * HOUR);
    wheel.schedule(2, now + 48 * HOUR);
    assert_eq!(fire(&mut wheel, now + (2 * HOUR - TICK)), []);
    assert_eq!(fire(&mut wheel, now + 2 * HOUR), [1]);
    assert_eq!(fire(&mut wheel, now + (48 * HOUR - TICK)), []);
    assert_eq!(fire(&mut wheel, now + 48 * HOUR), [2]);
}

#[test]
#[cfg_attr(miri, ignore = "too many turns to interpret")]
fn deadlines_beyond_the_horizon_fire_there_and_may_be_armed_again() {
    let tick = Duration::from_micros(1);
    let mut wheel = Wheel::new(Instant::ZERO, tick);
    let far = Instant::from_micros(3 * HORIZON);
    wheel.schedule(1, far);
    let mut asked = Vec::new();
    for micros in [
        HORIZON - 1,
        HORIZON,
        2 * HORIZON,
        3 * HORIZON - 1,
        3 * HORIZON,
    ] {
        let now = Instant::from_micros(micros);
        wheel.advance(now, ALL, |_| {
            asked.push(now.as_micros() / HORIZON);
            (now < far).then_some(far)
        });
    }
    assert_eq!(asked, [1, 2, 3]);
    assert!(wheel.is_empty());
}

#[test]
#[cfg_attr(miri, ignore = "too many turns to interpret")]
fn the_end_of_time_is_not_exceeded() {
    let mut wheel = Wheel::new(Instant::ZERO, Duration::ZERO);
    let end = Instant::from_micros(u64::MAX);
    wheel.schedule(1, end);
    assert_eq!(fire(&mut wheel, end), [1]);
    wheel.schedule(2, end);
    assert!(wheel.next_deadline().is_some());
    let mut wheel = Wheel::new(Instant::ZERO, Duration::MAX);
    wheel.schedule(3, end);
    assert_eq!(fire(&mut wheel, end), [3]);
}

#[test]
fn time_that_runs_backwards_fires_nothing_twice() {
    let mut wheel = Wheel::new(seconds(10), TICK);
    wheel.schedule(1, seconds(20));
    assert_eq!(fire(&mut wheel, seconds(30)), [1]);
    wheel.schedule(2, seconds(25));
    assert_eq!(fire(&mut wheel, seconds(5)), []);
    assert_eq!(fire(&mut wheel, seconds(30)), [2]);
}

#[test]
fn the_next_deadline_is_never_too_late() {
    let mut wheel = Wheel::new(Instant::ZERO, TICK);
    assert_eq!(wheel.next_deadline(), None);
    wheel.schedule(1, at(Duration::from_millis(700)));
    assert_eq!(wheel.next_deadline(), Some(at(Duration::from_millis(750))));
    wheel.schedule(2, seconds(3_000));
    wheel.cancel(1);
    let next = wheel.next_deadline().unwrap();
    assert!(next > Instant::ZERO && next <= seconds(3_000));
}

#[test]
fn waiting_for_the_next_deadline_wakes_a_few_times_only() {
    let mut wheel = Wheel::new(Instant::ZERO, TICK);
    wheel.schedule(1, Instant::ZERO + 2 * HOUR);
    let mut wakes = 0;
    while let Some(next) = wheel.next_deadline() {
        fire(&mut wheel, next);
        wakes += 1;
    }
    assert!(wakes <= 3, "{wakes} wakes for one timer in the third ring");
}

#[test]
fn a_bucket_of_many_timers_is_emptied_in_portions() {
    const COUNT: u32 = if cfg!(miri) { 100 } else { 20_000 };
    let mut wheel = Wheel::new(Instant::ZERO, TICK);
    // One tick, three rings away from here: all are put further in twice and fired.
    let deadline = Instant::ZERO + TICK * 5_000;
    for slot in 0..COUNT {
        wheel.schedule(slot, deadline);
    }
    let budget = 64;
    let (mut fired, mut calls) = (0, 0);
    loop {
        let before = fired;
        let more = wheel.advance(deadline, budget, |_| {
            fired += 1;
            None
        });
        assert!(fired - before <= budget);
        calls += 1;
        if !more {
            break;
        }
    }
    assert_eq!(fired, COUNT as usize);
    assert_eq!(calls, (3 * fired).div_ceil(budget));
    assert!(wheel.is_empty());
}

#[test]
fn timers_may_come_and_go_while_a_bucket_is_being_emptied() {
    let mut wheel = Wheel::new(Instant::ZERO, TICK);
    for slot in 0..100 {
        wheel.schedule(slot, Instant::ZERO + TICK * 4_200);
    }
    let now = Instant::ZERO + TICK * 4_100;
    assert!(
        wheel.advance(now, 10, |_| None),
        "ninety are still in the outer ring"
    );
    for slot in 0..50 {
        assert!(wheel.cancel(slot));
    }
    wheel.schedule(200, now);
    wheel.schedule(201, now + TICK * BUCKETS);
    let mut fired = Vec::new();
    while wheel.advance(now + TICK * 200, 7, |slot| {
        fired.push(slot);
        None
    }) {}
    assert_eq!(fired[..2], [200, 201]);
    assert_eq!(
        BTreeSet::from_iter(fired[2..].iter().copied()),
        (50..100).collect()
    );
}

#[derive(Clone, Debug)]
enum Step {
    Schedule(u32, u64),
    Cancel(u32),
    Advance(u64, usize),
}

/// Spans in milliseconds, of all magnitudes up to some hours.
fn span() -> impl Strategy<Value = u64> {
    (0..25_u32, any::<u64>()).prop_map(|(bits, number)| number % (1 << bits))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..50_u32, span()).prop_map(|(slot, span)| Step::Schedule(slot, span)),
        1 => (0..50_u32).prop_map(Step::Cancel),
        3 => (span(), 1..20_usize).prop_map(|(span, budget)| Step::Advance(span, budget)),
    ];
    prop::collection::vec(step, 0..if cfg!(miri) { 30 } else { 150 })
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: if cfg!(miri) { 2 } else { 400 },
        ..ProptestConfig::default()
    })]

    /// The model: slot to deadline. A timer that fires is armed again once if its number is odd.
    #[test]
    fn a_wheel_is_a_map_of_deadlines(start in 0..1_u64 << 40, steps in steps()) {
        let mut now = Instant::from_micros(start);
        let mut wheel = Wheel::new(now, TICK);
        let mut model: BTreeMap<u32, Instant> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Schedule(slot, span) => {
                    let deadline = now + Duration::from_millis(span);
                    wheel.schedule(slot, deadline);
                    model.insert(slot, deadline);
                }
                Step::Cancel(slot) => {
                    prop_assert_eq!(wheel.cancel(slot), model.remove(&slot).is_some());
                }
                Step::Advance(span, budget) => {
                    now = now + Duration::from_millis(span);
                    let again = now + Duration::from_millis(span / 3 + 1);
                    let (mut fired, mut rounds) = (Vec::new(), 0);
                    while wheel.advance(now, budget, |slot| {
                        fired.push(slot);
                        (slot % 2 == 1).then_some(again)
                    }) {
                        rounds += 1;
                        prop_assert!(rounds < 1_000, "it comes to an end");
                    }
                    for slot in fired {
                        let deadline = model.remove(&slot);
                        prop_assert!(deadline.is_some_and(|deadline| deadline <= now), "never early");
                        if slot % 2 == 1 {
                            model.insert(slot, again);
                        }
                    }
                    for &deadline in model.values() {
                        prop_assert!(deadline + TICK > now, "late by a tick at most");
                    }
                }
            }
            prop_assert_eq!(wheel.len(), model.len());
            let first = model.values().min();
            prop_assert_eq!(wheel.next_deadline().is_some(), first.is_some());
            if let (Some(next), Some(&first)) = (wheel.next_deadline(), first) {
                prop_assert!(next <= first.max(now) + TICK);
            }
            for slot in 0..50 {
                prop_assert_eq!(wheel.is_scheduled(slot), model.contains_key(&slot));
            }
        }
    }
}
