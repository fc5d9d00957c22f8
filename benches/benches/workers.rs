//! Two workers against one, on one table of sessions, in memory.
//!
//! Half of the packets belong to flows that cross: one worker has their questions, the other one their
//! answers, as it is when each serves one end. The other half belong to flows that a worker has to
//! itself. One worker alone has all of it. Each worker stays on a processor of its own; rounds of one and
//! of two follow each other, and the median of their ratios counts.

#![expect(clippy::unwrap_used, reason = "a measurement that fails is none")]

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use heddle_benches::flows::{Flows, START, packet};
use heddle_nat::{Direction, Tuple};
use heddle_sys::clock::monotonic;
use heddle_wire::Family;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

const BURST: usize = 64;

/// How much is done.
struct Size {
    flows: &'static [u32],
    /// Packets of each worker in a round.
    packets: usize,
    rounds: usize,
}

fn size() -> Size {
    if std::env::args().any(|argument| argument == "--bench") {
        Size {
            flows: &[1_000, 100_000, 1_000_000],
            packets: 64 << 14,
            rounds: 15,
        }
    } else {
        Size {
            flows: &[1_000],
            packets: 64 << 4,
            rounds: 3,
        }
    }
}

fn main() {
    let size = size();
    let processors = processors();
    for &count in size.flows {
        let flows = Flows::established(Family::V4, count, 0);
        let mut ratios = Vec::new();
        let mut alone = Vec::new();
        for round in 0..size.rounds {
            let seed = u64::try_from(round).unwrap();
            let one = run(&flows, &processors[..1], size.packets, seed);
            let two = run(&flows, &processors, size.packets, seed);
            ratios.push(2.0 * one.as_secs_f64() / two.as_secs_f64());
            alone.push(one);
        }
        let passed = u64::try_from(size.rounds * size.packets * 3).unwrap();
        verify(&flows, passed);
        ratios.sort_by(f64::total_cmp);
        alone.sort();
        let packets = f64::from(u32::try_from(size.packets).unwrap());
        println!(
            "workers/{count}: {:.2} times one worker ({:.2} to {:.2}), which passes {:.1} million a second",
            ratios[size.rounds / 2],
            ratios[0],
            ratios[size.rounds - 1],
            packets / alone[size.rounds / 2].as_secs_f64() / 1e6,
        );
    }
}

/// Two processors to run on, the same twice where there is only one.
fn processors() -> [usize; 2] {
    let allowed = sched_getaffinity(None).unwrap();
    let mut allowed = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    let first = allowed.next().unwrap();
    [first, allowed.next().unwrap_or(first)]
}

/// Every worker has its packets pass; the time of the slowest.
fn run(flows: &Flows, processors: &[usize], packets: usize, seed: u64) -> Duration {
    let barrier = Barrier::new(processors.len());
    thread::scope(|scope| {
        let workers: Vec<_> = (processors.iter().enumerate())
            .map(|(worker, &processor)| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let mut set = CpuSet::new();
                    set.set(processor);
                    sched_setaffinity(None, &set).unwrap();
                    let tuples = arrivals(flows, worker, packets, seed);
                    barrier.wait();
                    let begin = monotonic();
                    for burst in tuples.chunks_exact(BURST) {
                        process(flows, burst);
                    }
                    monotonic() - begin
                })
            })
            .collect();
        let times = workers.into_iter().map(|worker| worker.join().unwrap());
        times.max().unwrap()
    })
}

/// What arrives at a worker.
fn arrivals(flows: &Flows, worker: usize, packets: usize, seed: u64) -> Vec<Tuple> {
    let own = u32::try_from(worker).unwrap();
    let mut random = StdRng::seed_from_u64(seed << 1 | u64::from(own));
    (0..packets)
        .map(|_| {
            let draw = random.next_u32();
            let number = (draw >> 1) % flows.count();
            let crosses = draw & 1 == 0;
            // Of the flows that do not cross, the even ones are the first worker's.
            let number = if crosses { number } else { number & !1 | own };
            let tuple = flows.tuple(number.min(flows.count() - 1));
            if crosses && own == 1 {
                flows.reply(&tuple)
            } else {
                tuple
            }
        })
        .collect()
}

/// What a worker does with a burst, its frames apart.
fn process(flows: &Flows, burst: &[Tuple]) {
    let mut hashes = [0; BURST];
    for (hash, tuple) in hashes.iter_mut().zip(burst) {
        *hash = flows.nat.hash(tuple);
    }
    flows.nat.prefetch_burst(&hashes);
    for (tuple, hash) in burst.iter().zip(hashes) {
        let hit = flows.nat.lookup_hashed(tuple, hash).unwrap();
        let to = flows.nat.commit(hit, &packet(), START).unwrap();
        assert_eq!(to.source_port, tuple.source_port);
    }
}

/// Every packet was counted in its session, whoever had it pass.
fn verify(flows: &Flows, passed: u64) {
    let mut counted = 0;
    flows.nat.for_each(|session| {
        for direction in Direction::BOTH {
            counted += session.traffic(direction).0;
        }
    });
    // The question and the answer that began each.
    assert_eq!(counted, passed + 2 * u64::from(flows.count()));
}
