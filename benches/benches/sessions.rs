//! Sessions in memory, on one core: packets of established ones in random order over all of them, and
//! the opening of new ones.
//!
//! A burst is parsed, its sessions are looked up, advanced, and the frames rewritten; the clock runs
//! only meanwhile. What comes out is compared with what was arranged for each session.

#![expect(clippy::unwrap_used, reason = "a measurement that fails is none")]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use heddle_mem::Instant;
use heddle_nat::{
    Destination, Direction, Limits, Nat, Opening, Packet, Published, Side, Source, Tuple, Zone,
};
use heddle_sys::clock::monotonic;
use heddle_wire::builder::Link;
use heddle_wire::{Address, Family, MacAddr, Protocol, Rewrite, Summary, rewrite};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const BURST: usize = 64;

/// Sessions that one mapping carries.
const PER_MAPPING: u32 = 64;

/// Mappings that one endpoint has.
const PER_HOST: u32 = 256;

/// Where all sessions lead: the leg's zone and side.
const OUTSIDE: Zone = Zone(1);
const LEG: Side = Side(1_000);

/// Destination ports of sessions that are there already, and of new ones.
const FIRST_OLD: u16 = 1_000;
const FIRST_NEW: u16 = 10_000;

/// New sessions opened while the clock runs once.
const NEW: u16 = 1_024;

const NOW: Instant = Instant::from_micros(3_600_000_000);

/// How many sessions there are: large only where somebody measures.
fn sizes() -> [u32; 2] {
    let measured = std::env::args().any(|argument| argument == "--bench");
    [1 << 10, if measured { 1 << 20 } else { 1 << 12 }]
}

/// A table with sessions that are known by number.
struct Table {
    nat: Nat,
    family: Family,
    published: Published,
    random: StdRng,
    sessions: u32,
}

impl Table {
    fn new(family: Family, sessions: u32) -> Table {
        let limits = Limits::undivided(sessions + u32::from(NEW));
        let table = Table {
            nat: Nat::new(limits, [7; 64], NOW),
            family,
            published: Published::default(),
            random: StdRng::seed_from_u64(1),
            sessions,
        };
        for number in 0..sessions {
            let tuple = table.tuple(number);
            table.open(tuple);
            // The answer makes it an established one.
            let hit = table.nat.lookup(&table.reply(&tuple)).unwrap();
            table.nat.commit(hit, &packet(), NOW).unwrap();
        }
        assert_eq!(table.nat.session_count(), sessions);
        table
    }

    fn address(&self, v4: [u8; 4], v6: u16) -> Address {
        match self.family {
            Family::V4 => Address::from(std::net::IpAddr::from(v4)),
            Family::V6 => {
                let [.., high, low] = v4;
                let last = u16::from_be_bytes([high, low]);
                Address::from(std::net::IpAddr::from([v6, 0xdb8, 0, 0, 0, 0, 0, last]))
            }
        }
    }

    fn outside(&self) -> Address {
        self.address([192, 0, 2, 1], 0x2001)
    }

    fn tuple(&self, number: u32) -> Tuple {
        let mapping = number / PER_MAPPING;
        let [_, _, high, low] = (mapping / PER_HOST + 2).to_be_bytes();
        // Everywhere another port, so that all of them are kept outside.
        let source_port = u16::try_from(mapping).unwrap() + 20_000;
        Tuple {
            source: self.address([10, 0, high, low], 0xfd00),
            destination: self.address([198, 51, 100, 7], 0x2001),
            source_port,
            destination_port: FIRST_OLD + u16::try_from(number % PER_MAPPING).unwrap(),
            protocol: Protocol::UDP,
            zone: Zone::INSIDE,
        }
    }

    fn reply(&self, tuple: &Tuple) -> Tuple {
        Tuple {
            destination: self.outside(),
            ..tuple.inverse(OUTSIDE)
        }
    }

    fn open(&self, tuple: Tuple) -> Rewrite {
        let opening = Opening {
            tuple,
            sides: [Side(tuple.source_port / 256), LEG],
            destination: Destination::AsIs,
            source: Source::Masquerade(OUTSIDE, self.outside()),
            reply_zone: OUTSIDE,
            packet: packet(),
            published: &self.published,
            random: 1,
        };
        self.nat.open(&opening, NOW).unwrap()
    }

    /// Frames of random sessions, and what they must read afterwards.
    fn burst(&mut self, frames: &mut [Vec<u8>]) -> Vec<Rewrite> {
        let mut expected = Vec::with_capacity(frames.len());
        for frame in frames {
            let number = self.random.next_u32() % self.sessions;
            let tuple = self.tuple(number);
            let summary = Summary::parse(frame).unwrap();
            let to = |source| Rewrite {
                source,
                source_port: tuple.source_port,
                destination: tuple.destination,
                destination_port: tuple.destination_port,
            };
            rewrite(frame, summary.ip().unwrap(), false, &to(tuple.source));
            expected.push(to(self.outside()));
        }
        expected
    }

    /// What a worker does with a burst.
    fn process(&self, frames: &mut [Vec<u8>]) {
        let mut parsed = [const { None }; BURST];
        for (frame, parsed) in frames.iter().zip(&mut parsed) {
            let summary = Summary::parse(frame).unwrap();
            let tuple = Tuple::of(summary.ip().unwrap(), Zone::INSIDE).unwrap();
            let hash = self.nat.hash(&tuple);
            self.nat.prefetch(hash);
            *parsed = Some((summary, tuple, hash));
        }
        for (_, _, hash) in parsed.iter().flatten() {
            self.nat.prefetch_session(*hash);
        }
        for (frame, (summary, tuple, hash)) in frames.iter_mut().zip(parsed.iter().flatten()) {
            let hit = self.nat.lookup_hashed(tuple, *hash).unwrap();
            let to = self.nat.commit(hit, &packet(), NOW).unwrap();
            rewrite(frame, summary.ip().unwrap(), false, &to);
        }
    }
}

fn packet() -> Packet {
    Packet {
        len: 46,
        segment: None,
    }
}

fn established(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session/established");
    group.throughput(Throughput::Elements(BURST.try_into().unwrap()));
    for sessions in sizes() {
        for family in [Family::V4, Family::V6] {
            let mut table = Table::new(family, sessions);
            let inside = table.tuple(0);
            let mac = MacAddr([2, 0, 0, 0, 0, 1]);
            let template = Link::new(mac, mac)
                .ip(inside.source, inside.destination)
                .udp(1, 1, &[7; 18]);
            let mut frames = vec![template; BURST];
            let id = BenchmarkId::new(format!("{family:?}"), sessions);
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|rounds| {
                    let mut time = Duration::ZERO;
                    for _ in 0..rounds {
                        let expected = table.burst(&mut frames);
                        let begin = monotonic();
                        table.process(&mut frames);
                        time += monotonic() - begin;
                        verify(&frames, &expected);
                    }
                    time
                });
            });
            assert_eq!(table.nat.session_count(), sessions);
            eprintln!(
                "{} octets a session",
                table.nat.memory() / usize::try_from(sessions).unwrap()
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
    for sessions in sizes() {
        for family in [Family::V4, Family::V6] {
            let mut table = Table::new(family, sessions);
            let id = BenchmarkId::new(format!("{family:?}"), sessions);
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|rounds| (0..rounds).map(|_| open_new(&mut table)).sum());
            });
        }
    }
    group.finish();
}

/// Opens new sessions through mappings that are there, and ends them again.
fn open_new(table: &mut Table) -> Duration {
    let tuples: Vec<Tuple> = (0..NEW)
        .map(|number| {
            let old = table.random.next_u32() % table.sessions;
            Tuple {
                destination_port: FIRST_NEW + number,
                ..table.tuple(old)
            }
        })
        .collect();
    let begin = monotonic();
    for &tuple in &tuples {
        let to = table.open(tuple);
        assert_eq!(to.source_port, tuple.source_port);
    }
    let time = monotonic() - begin;
    let ended = table.nat.flush(NOW, |session| {
        session.tuple(Direction::Original).destination_port >= FIRST_NEW
    });
    assert_eq!(ended, u32::from(NEW));
    time
}

criterion_group!(benches, established, new);
criterion_main!(benches);
