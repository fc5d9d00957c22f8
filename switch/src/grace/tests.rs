use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use super::{Grace, Progress, published};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_worker_that_sleeps_or_is_new_enough_has_passed() {
    let progress = Progress::asleep();
    assert!(progress.has_passed(7));
    progress.wake();
    assert!(!progress.has_passed(1));
    progress.at(6);
    assert!(progress.has_passed(6) && !progress.has_passed(7));
    progress.sleep();
    assert!(progress.has_passed(7));
}

#[test]
fn waiting_for_a_stuck_worker_ends() {
    let (grace, progress) = (Grace::new(), Progress::asleep());
    progress.wake();
    progress.at(1);
    assert!(!grace.wait(Duration::from_millis(1), 2, [&progress].into_iter()));
}

/// What loom proves of three turns, tried on the real machine with many.
#[test]
fn no_worker_is_seen_in_a_generation_that_has_ended() {
    const ROUNDS: u64 = 2_000;
    let grace = Arc::new(Grace::new());
    let newest = Arc::new(AtomicU64::new(1));
    // Everything below this has ended.
    let ended = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let seats: Arc<Vec<Progress>> = Arc::new((0..3).map(|_| Progress::asleep()).collect());
    let start = Arc::new(Barrier::new(seats.len() + 1));
    let workers: Vec<_> = (0..seats.len())
        .map(|index| {
            let (grace, newest, ended) = (grace.clone(), newest.clone(), ended.clone());
            let (seats, stop, start) = (seats.clone(), stop.clone(), start.clone());
            thread::spawn(move || {
                start.wait();
                let mut turns = 0_u64;
                loop {
                    let seat = &seats[index];
                    seat.wake();
                    let generation = newest.load(Ordering::Relaxed);
                    seat.at(generation);
                    grace.moved();
                    for _ in 0..turns % 7 {
                        assert!(ended.load(Ordering::Relaxed) <= generation);
                    }
                    seat.sleep();
                    grace.moved();
                    turns += 1;
                    if stop.load(Ordering::Relaxed) {
                        return turns;
                    }
                }
            })
        })
        .collect();
    start.wait();
    for generation in 2..ROUNDS {
        newest.store(generation, Ordering::Relaxed);
        published();
        let passed = grace.wait(PATIENCE, generation, seats.iter());
        assert!(passed, "a wake-up was lost");
        ended.store(generation, Ordering::Relaxed);
    }
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        assert!(worker.join().unwrap() > 0);
    }
}
