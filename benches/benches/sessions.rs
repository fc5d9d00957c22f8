//! Sessions in memory, on one core: packets of established ones in random order over all of them, and
//! the opening of new ones.
//!
//! A burst is parsed, its sessions are looked up, advanced, and the frames rewritten; the clock runs
//! only meanwhile. What comes out is compared with what was arranged for each session.

#![expect(clippy::unwrap_used, reason = "a measurement that fails is none")]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use heddle_benches::flows::{FIRST_FREE_PEER_PORT, Flows, START, packet};
use heddle_nat::{Direction, Tuple, Zone};
use heddle_sys::clock::monotonic;
use heddle_wire::builder::Link;
use heddle_wire::{Family, MacAddr, Rewrite, Summary, rewrite};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const BURST: usize = 64;

/// New sessions opened while the clock runs once.
const NEW: u16 = 1_024;

/// How many sessions there are: many only where somebody measures.
fn sizes() -> &'static [u32] {
    let measured = std::env::args().any(|argument| argument == "--bench");
    if measured {
        &[1_000, 100_000, 1_000_000, 4_000_000]
    } else {
        &[1_000]
    }
}

/// Frames of random sessions, and what they must read afterwards.
fn burst(flows: &Flows, random: &mut StdRng, frames: &mut [Vec<u8>]) -> Vec<Rewrite> {
    let mut expected = Vec::with_capacity(frames.len());
    for frame in frames {
        let tuple = flows.tuple(random.next_u32() % flows.count());
        let summary = Summary::parse(frame).unwrap();
        let to = |source| Rewrite {
            source,
            source_port: tuple.source_port,
            destination: tuple.destination,
            destination_port: tuple.destination_port,
        };
        rewrite(frame, summary.ip().unwrap(), false, &to(tuple.source));
        expected.push(to(flows.outside()));
    }
    expected
}

/// What a worker does with a burst.
fn process(flows: &Flows, frames: &mut [Vec<u8>]) {
    let mut parsed = [const { None }; BURST];
    let mut hashes = [0; BURST];
    let places = parsed.iter_mut().zip(&mut hashes);
    for (frame, (parsed, hash)) in frames.iter().zip(places) {
        let summary = Summary::parse(frame).unwrap();
        let tuple = Tuple::of(summary.ip().unwrap(), Zone::INSIDE).unwrap();
        *hash = flows.nat.hash(&tuple);
        *parsed = Some((summary, tuple));
    }
    flows.nat.prefetch_burst(&hashes);
    let parsed = parsed.iter().flatten().zip(hashes);
    for (frame, ((summary, tuple), hash)) in frames.iter_mut().zip(parsed) {
        let hit = flows.nat.lookup_hashed(tuple, hash).unwrap();
        let to = flows.nat.commit(hit, &packet(), START).unwrap();
        rewrite(frame, summary.ip().unwrap(), false, &to);
    }
}

fn established(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session/established");
    group.throughput(Throughput::Elements(BURST.try_into().unwrap()));
    for &sessions in sizes() {
        for family in [Family::V4, Family::V6] {
            let flows = Flows::established(family, sessions, 0);
            let mut random = StdRng::seed_from_u64(1);
            let inside = flows.tuple(0);
            let mac = MacAddr([2, 0, 0, 0, 0, 1]);
            let template = Link::new(mac, mac)
                .ip(inside.source, inside.destination)
                .udp(1, 1, &[7; 18]);
            let mut frames = vec![template; BURST];
            let id = BenchmarkId::new(format!("{family:?}"), sessions);
            let mut times = Vec::new();
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|rounds| {
                    let before = times.len();
                    for _ in 0..rounds {
                        let expected = burst(&flows, &mut random, &mut frames);
                        let begin = monotonic();
                        process(&flows, &mut frames);
                        times.push(monotonic() - begin);
                        verify(&frames, &expected);
                    }
                    times[before..].iter().sum()
                });
            });
            assert_eq!(flows.nat.session_count(), sessions);
            // On a machine that has other things to do as well, the median is the table's own.
            times.sort_unstable();
            eprintln!(
                "{:.1} million a second in the median burst; {} octets a session",
                64.0 / times[times.len() / 2].as_secs_f64() / 1e6,
                flows.nat.memory() / usize::try_from(sessions).unwrap()
            );
        }
    }
    group.finish();
}

fn verify(frames: &[Vec<u8>], expected: &[Rewrite]) {
    for (frame, to) in frames.iter().zip(expected) {
        let summary = Summary::parse(frame).unwrap();
        let tuple = Tuple::of(summary.ip().unwrap(), Zone::INSIDE).unwrap();
        let (source, destination) = (tuple.source, tuple.destination);
        assert_eq!((source, destination), (to.source, to.destination));
        assert_eq!(tuple.source_port, to.source_port);
        assert_eq!(tuple.destination_port, to.destination_port);
    }
}

fn new(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session/new");
    group.throughput(Throughput::Elements(NEW.into()));
    group.sample_size(10);
    for &sessions in sizes() {
        for family in [Family::V4, Family::V6] {
            let flows = Flows::established(family, sessions, NEW.into());
            let mut random = StdRng::seed_from_u64(1);
            let id = BenchmarkId::new(format!("{family:?}"), sessions);
            group.bench_function(id, |bencher| {
                bencher
                    .iter_custom(|rounds| (0..rounds).map(|_| open_new(&flows, &mut random)).sum());
            });
        }
    }
    group.finish();
}

/// Opens new sessions through mappings that are there, and ends them again.
fn open_new(flows: &Flows, random: &mut StdRng) -> Duration {
    let tuples: Vec<Tuple> = (0..NEW)
        .map(|number| Tuple {
            destination_port: FIRST_FREE_PEER_PORT + number,
            ..flows.tuple(random.next_u32() % flows.count())
        })
        .collect();
    let begin = monotonic();
    for &tuple in &tuples {
        flows.open(tuple, START);
    }
    let time = monotonic() - begin;
    let ended = flows.nat.flush(START, |session| {
        session.tuple(Direction::Original).destination_port >= FIRST_FREE_PEER_PORT
    });
    assert_eq!(ended, u32::from(NEW));
    time
}

criterion_group!(benches, established, new);
criterion_main!(benches);
