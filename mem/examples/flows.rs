//! A million flows in these structures, measured.
//!
//! `cargo run --release -p heddle-mem --example flows -- [SESSIONS] [THREADS]` builds a table the way a
//! session table is built, a record of 160 bytes with its lock, two index entries and the links of a timer
//! and of a list for each session, and prints what it costs: rate of growth, bytes of resident memory a
//! session, time of a lookup with and without prefetched bursts, in random order over all sessions.
//! Every lookup verifies its key and writes the record, as a packet does.

use std::{
    hint::black_box,
    sync::{Barrier, Mutex},
    time::{Duration, Instant as Clock},
};

use heddle_mem::{Index, IndexWriter, Instant, KeyedHash, Links, List, Record, Slab, Wheel};
use zerocopy::{FromZeros, Immutable, IntoBytes, KnownLayout};

type Key = [u64; 5];

const BURST: usize = 32;

#[derive(Clone, Copy, FromZeros, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Session {
    keys: [Key; 2],
    packets: [u64; 2],
    bytes: [u64; 2],
    seen: u64,
    rest: [u64; 4],
}

impl Record for Session {}

struct Table {
    hash: KeyedHash,
    slab: Slab<Session>,
    index: Index,
    writer: Mutex<Writer>,
}

struct Writer {
    index: IndexWriter,
    wheel: Wheel,
    links: Links,
    list: List,
}

impl Table {
    fn new(limit: u32) -> Self {
        let (index, writer) = Index::new(1 << 12);
        let wheel = Wheel::new(Instant::ZERO, Duration::from_millis(250));
        let writer = Writer {
            index: writer,
            wheel,
            links: Links::new(),
            list: List::EMPTY,
        };
        Self {
            hash: KeyedHash::new([42; 64]),
            slab: Slab::new(limit),
            index,
            writer: Mutex::new(writer),
        }
    }

    fn create(&self, number: u64) -> Option<u32> {
        let keys = [key(number, false), key(number, true)];
        let slot = self.slab.allocate()?;
        self.slab.lock(slot).keys = keys;
        let mut writer = self.writer.lock().expect("no panic under it");
        let Writer {
            index,
            wheel,
            links,
            list,
        } = &mut *writer;
        for (side, key) in (0..).zip(&keys) {
            index.insert(self.hash.hash(key), slot << 1 | side);
        }
        wheel.schedule(slot, Instant::from_micros(number % 7_000 * 1_000_000));
        links.push_back(list, slot);
        Some(slot)
    }

    #[inline]
    fn touch(&self, key: &Key, value: u32) -> Option<u32> {
        let (slot, side) = (value >> 1, value as usize & 1);
        let mut session = self.slab.lock(slot);
        if session.keys[side] != *key {
            return None;
        }
        session.packets[side] += 1;
        session.bytes[side] += 64;
        Some(slot)
    }

    fn single(&self, keys: &[Key]) -> u64 {
        let found = keys.iter().filter_map(|key| {
            self.index
                .find(self.hash.hash(key), |value| self.touch(key, value))
        });
        found.map(|_| 1).sum()
    }

    fn bursts(&self, keys: &[Key]) -> u64 {
        let mut found = 0;
        let (mut hashes, mut candidates) = ([0; BURST], [None; BURST]);
        for burst in keys.chunks(BURST) {
            for (hash, key) in hashes.iter_mut().zip(burst) {
                *hash = self.hash.hash(key);
                self.index.prefetch(*hash);
            }
            for (candidate, &hash) in candidates.iter_mut().zip(&hashes[..burst.len()]) {
                *candidate = self.index.candidate(hash);
                if let Some(value) = *candidate {
                    self.slab.prefetch(value >> 1);
                }
            }
            for ((&hash, &candidate), key) in hashes.iter().zip(&candidates).zip(burst) {
                let slot = candidate
                    .and_then(|value| self.touch(key, value))
                    .or_else(|| self.index.find(hash, |value| self.touch(key, value)));
                found += u64::from(slot.is_some());
            }
        }
        found
    }
}

fn key(number: u64, reply: bool) -> Key {
    let (inside, outside) = (0x0a00_0000 + number / 50_000, 0xc633_6400 + number % 200);
    let ports = if reply {
        443 << 16 | number % 50_000
    } else {
        (number % 50_000) << 16 | 443
    };
    let (from, to) = if reply {
        (outside, inside)
    } else {
        (inside, outside)
    };
    [
        0xffff << 32 | from,
        0,
        0xffff << 32 | to,
        0,
        ports << 16 | 6,
    ]
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|field| field.parse().ok())
        .expect("statm");
    pages * 4_096
}

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn clock() -> Clock {
    Clock::now()
}

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|argument| argument.parse::<u32>());
    let sessions = arguments.next().and_then(Result::ok).unwrap_or(1_000_000);
    let threads = arguments.next().and_then(Result::ok).unwrap_or(2) as usize;
    let before = resident();
    let table = Table::new(sessions);
    let started = clock();
    for number in 0..u64::from(sessions) {
        assert!(table.create(number).is_some());
    }
    let took = started.elapsed().as_secs_f64();
    println!(
        "created {:.2} million sessions a second",
        f64::from(sessions) / took / 1e6
    );
    println!(
        "{:.1} bytes resident a session",
        (resident() - before) as f64 / f64::from(sessions)
    );
    println!(
        "{:.2} bytes an index entry",
        table.writer.lock().unwrap().index.memory() as f64 / f64::from(sessions) / 2.0
    );
    let lookups = 8_000_000;
    let mut state = 1_u64;
    let keys: Vec<Key> = (0..lookups)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            key((state >> 33) % u64::from(sessions), state >> 32 & 1 == 1)
        })
        .collect();
    for (name, run) in [
        ("single", Table::single as fn(&Table, &[Key]) -> u64),
        ("bursts", Table::bursts),
    ] {
        let mut times: Vec<f64> = keys
            .chunks(200_000)
            .map(|keys| {
                let started = clock();
                assert_eq!(black_box(run(&table, keys)), keys.len() as u64);
                started.elapsed().as_nanos() as f64 / keys.len() as f64
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!(
            "{name}: best {:.1} median {:.1} ns a lookup",
            times[0],
            times[times.len() / 2]
        );
    }
    let mut rates = Vec::new();
    for count in [1, threads, 1, threads] {
        let barrier = Barrier::new(count);
        let part = keys.len() / count;
        let nanos = std::thread::scope(|scope| {
            let handles: Vec<_> = keys
                .chunks(part)
                .take(count)
                .map(|keys| {
                    scope.spawn(|| {
                        barrier.wait();
                        let started = clock();
                        for _ in 0..4 {
                            assert_eq!(table.bursts(keys), keys.len() as u64);
                        }
                        started.elapsed().as_nanos() as f64
                    })
                })
                .collect();
            handles
                .into_iter()
                .map(|handle| handle.join().unwrap())
                .fold(0.0, f64::max)
        });
        rates.push(4.0 * lookups as f64 / nanos * 1e3);
        println!(
            "{count} threads: {:.2} million lookups a second",
            rates.last().unwrap()
        );
    }
}
