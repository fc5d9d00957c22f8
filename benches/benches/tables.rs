//! The table of flows beside others: `dashmap`, with its own hash and with ours, and the standard library's
//! map (`hashbrown`) in shards behind a mutex or a lock for readers and writers.
//!
//! The same load for all: a key of 40 octets, a state of 112, which every packet changes. Established
//! flows in random order over all of them, in bursts; filling; and the longest single insertion meanwhile, the
//! least of three times, so that what is left is the table's own and not the machine's.

#![expect(clippy::unwrap_used, reason = "a measurement that fails is none")]

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use dashmap::DashMap;
use heddle_mem::{Index, IndexWriter, KeyedHash, Record, Slab};
use heddle_sys::clock::monotonic;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const BURST: usize = 64;

/// Shards of the maps in shards: as many as `dashmap` makes for two processors.
const SHARDS: usize = 8;

/// What tells flows apart.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Key([u64; 5]);

impl Hash for Key {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for &word in &self.0 {
            hasher.write_u64(word);
        }
    }
}

/// What moves with the packets: the first word counts them.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct State([u64; 14]);

impl State {
    fn advance(&mut self) -> u64 {
        self.0[0] += 1;
        self.0[7] ^= self.0[0];
        self.0[13] = self.0[13].wrapping_add(46);
        self.0[0]
    }
}

/// A key by its number, as of flows from one subnet to one service.
fn key(number: u32) -> Key {
    let number = u64::from(number);
    Key([
        0,
        0xffff_0a00_0000 | number >> 16,
        0,
        0xffff_c633_6407,
        (number & 0xffff) << 48 | 443 << 32 | 17,
    ])
}

/// A table of flows that workers share.
trait Flows {
    fn empty() -> Self;
    fn insert(&self, key: Key);
    /// A packet of each; how many packets their flows have had.
    fn advance(&self, burst: &[Key; BURST]) -> u64;
}

/// Ours, as `heddle-nat` uses it.
struct Ours {
    hash: KeyedHash,
    index: Index,
    writer: Mutex<IndexWriter>,
    slab: Slab<Flow>,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Flow {
    key: Key,
    state: State,
}

impl Record for Flow {}

impl Flows for Ours {
    fn empty() -> Ours {
        let (index, writer) = Index::new(1 << 10);
        Ours {
            hash: KeyedHash::new([7; 64]),
            index,
            writer: Mutex::new(writer),
            slab: Slab::new(1 << 23),
        }
    }

    fn insert(&self, key: Key) {
        let mut writer = self.writer.lock().unwrap();
        let state = State([0; 14]);
        let slot = self.slab.insert(&Flow { key, state }).unwrap();
        writer.insert(self.hash.hash(&key.0), slot);
    }

    fn advance(&self, burst: &[Key; BURST]) -> u64 {
        let hashes = burst.map(|key| self.hash.hash(&key.0));
        for hash in hashes {
            self.index.prefetch(hash);
        }
        for hash in hashes {
            if let Some(slot) = self.index.candidate(hash) {
                self.slab.prefetch(slot);
            }
        }
        let advance = |(key, hash): (&Key, u64)| {
            let found = self.index.find(hash, |slot| {
                let mut flow = self.slab.lock(slot);
                (flow.key == *key).then(|| flow.state.advance())
            });
            found.unwrap()
        };
        burst.iter().zip(hashes).map(advance).sum()
    }
}

/// Our hash for other people's maps.
#[derive(Clone)]
struct Keyed(KeyedHash);

impl Default for Keyed {
    fn default() -> Keyed {
        Keyed(KeyedHash::new([7; 64]))
    }
}

impl BuildHasher for Keyed {
    type Hasher = KeyedHasher;

    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher {
            hash: self.0.clone(),
            words: [0; 5],
            count: 0,
        }
    }
}

struct KeyedHasher {
    hash: KeyedHash,
    words: [u64; 5],
    count: usize,
}

impl Hasher for KeyedHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a key is written word by word");
    }

    fn write_u64(&mut self, word: u64) {
        self.words[self.count] = word;
        self.count += 1;
    }

    fn finish(&self) -> u64 {
        self.hash.hash(&self.words)
    }
}

impl<S: BuildHasher + Clone + Default> Flows for DashMap<Key, State, S> {
    fn empty() -> Self {
        DashMap::with_capacity_and_hasher_and_shard_amount(0, S::default(), SHARDS)
    }

    fn insert(&self, key: Key) {
        DashMap::insert(self, key, State([0; 14]));
    }

    fn advance(&self, burst: &[Key; BURST]) -> u64 {
        let advance = |key| self.get_mut(key).unwrap().advance();
        burst.iter().map(advance).sum()
    }
}

/// A map in shards.
struct Sharded<L> {
    hash: Keyed,
    shards: [L; SHARDS],
}

type Shard = HashMap<Key, State, Keyed>;

/// The lock of a shard.
trait Lock: Default {
    fn with<T>(&self, change: impl FnOnce(&mut Shard) -> T) -> T;
}

impl Lock for Mutex<Shard> {
    fn with<T>(&self, change: impl FnOnce(&mut Shard) -> T) -> T {
        change(&mut self.lock().unwrap())
    }
}

impl Lock for RwLock<Shard> {
    // Every packet changes the state, so all are writers.
    fn with<T>(&self, change: impl FnOnce(&mut Shard) -> T) -> T {
        change(&mut self.write().unwrap())
    }
}

impl<L: Lock> Sharded<L> {
    fn shard(&self, key: &Key) -> &L {
        let hash = self.hash.hash_one(key);
        // Not the bits that the map looks at.
        &self.shards[usize::try_from(hash >> 40).unwrap() % SHARDS]
    }
}

impl<L: Lock> Flows for Sharded<L> {
    fn empty() -> Self {
        Sharded {
            hash: Keyed::default(),
            shards: Default::default(),
        }
    }

    fn insert(&self, key: Key) {
        self.shard(&key)
            .with(|shard| shard.insert(key, State([0; 14])));
    }

    fn advance(&self, burst: &[Key; BURST]) -> u64 {
        let advance = |key| {
            self.shard(key)
                .with(|shard| shard.get_mut(key).unwrap().advance())
        };
        burst.iter().map(advance).sum()
    }
}

/// How many flows there are: many only where somebody measures.
fn sizes() -> &'static [u32] {
    let measured = std::env::args().any(|argument| argument == "--bench");
    if measured {
        &[1_000, 100_000, 1_000_000, 4_000_000]
    } else {
        &[1_000]
    }
}

fn full<F: Flows>(count: u32) -> F {
    let flows = F::empty();
    (0..count).for_each(|number| flows.insert(key(number)));
    flows
}

fn each<F: Flows>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str) {
    for &count in sizes() {
        let flows: F = full(count);
        let mut random = StdRng::seed_from_u64(1);
        let (mut seen, mut times) = (0, Vec::new());
        group.bench_function(BenchmarkId::new(name, count), |bencher| {
            bencher.iter_custom(|rounds| {
                let before = times.len();
                for _ in 0..rounds {
                    let burst = [(); BURST].map(|()| key(random.next_u32() % count));
                    let begin = monotonic();
                    seen += flows.advance(&burst);
                    times.push(monotonic() - begin);
                }
                times[before..].iter().sum()
            });
        });
        // Every packet found its flow: each adds at least itself.
        assert!(seen >= (times.len() * BURST) as u64);
        drop(flows);
        times.sort_unstable();
        let median = times[times.len() / 2] / 64;
        let (fill, longest) = longest_insertion::<F>(count);
        let each = fill / count;
        eprintln!("{name}/{count}: {median:?} a packet in the median burst");
        eprintln!("{name}/{count}: {each:?} an insertion, {longest:?} the longest");
    }
}

/// How long it takes to fill a table, and the longest insertion: of three times the least each.
fn longest_insertion<F: Flows>(count: u32) -> (Duration, Duration) {
    let mut least = vec![Duration::MAX; usize::try_from(count).unwrap()];
    let mut fill = Duration::MAX;
    for _ in 0..3 {
        let flows = F::empty();
        let mut total = Duration::ZERO;
        for (number, least) in (0..count).zip(&mut least) {
            let begin = monotonic();
            flows.insert(key(number));
            let time = monotonic() - begin;
            total += time;
            *least = time.min(*least);
        }
        fill = fill.min(total);
    }
    (fill, least.into_iter().max().unwrap())
}

fn tables(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table/established");
    group.throughput(Throughput::Elements(BURST as u64));
    group.sample_size(20);
    each::<Ours>(&mut group, "heddle");
    each::<DashMap<Key, State, RandomState>>(&mut group, "dashmap");
    each::<DashMap<Key, State, Keyed>>(&mut group, "dashmap-keyed");
    each::<Sharded<Mutex<Shard>>>(&mut group, "hashbrown-mutex");
    each::<Sharded<RwLock<Shard>>>(&mut group, "hashbrown-rwlock");
    group.finish();
}

criterion_group!(benches, tables);
criterion_main!(benches);
