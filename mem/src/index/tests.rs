use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

use proptest::prelude::*;

use super::{
    Index, IndexWriter, LOAD, State,
    bucket::{Bucket, LANES},
};

/// A smaller load where every instruction is interpreted.
const SCALE: u32 = if cfg!(miri) { 200 } else { 200_000 };

/// Numbers in disorder: the finaliser of SplitMix64.
fn hash(number: u32) -> u64 {
    let number = u64::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

fn hashes(count: u32) -> Vec<u64> {
    (0..count).map(hash).collect()
}

/// Everything a search offers.
fn offered(index: &Index, hash: u64) -> Vec<u32> {
    let mut values = Vec::new();
    let none: Option<()> = index.find(hash, |value| {
        values.push(value);
        None
    });
    assert_eq!(none, None);
    values
}

impl IndexWriter {
    /// Asserts what must be true between any two calls, and returns the length of the longest chain.
    fn check(&self) -> usize {
        let state = self.table.state();
        assert!(state.is_settled());
        let (mut entries, mut continuations, mut longest) = (0, 0, 0);
        for number in 0..state.buckets() {
            let mut bucket = self.table.bucket(number);
            let mut length = 1;
            loop {
                let occupied = bucket.occupied().count();
                entries += occupied;
                if length > 1 {
                    assert!(occupied > 0, "an empty continuation is given up");
                }
                let Some(next) = self.table.continuation(bucket) else {
                    break;
                };
                assert_eq!(
                    occupied, LANES,
                    "only the last bucket of a chain has vacant lanes"
                );
                length += 1;
                bucket = next;
            }
            continuations += length - 1;
            longest = longest.max(length);
        }
        assert_eq!(entries, self.len());
        assert_eq!(
            continuations,
            self.overflow.held() as usize,
            "no bucket of the pool is lost"
        );
        longest
    }
}

#[test]
fn a_value_is_found_under_its_hash_until_it_is_removed() {
    let (index, mut writer) = Index::new(4);
    writer.insert(hash(1), 10);
    writer.insert(hash(2), 20);
    assert_eq!(index.find(hash(1), Some), Some(10));
    assert_eq!(index.candidate(hash(2)), Some(20));
    assert_eq!(writer.find(hash(2), Some), Some(20));
    assert_eq!(index.find(hash(3), Some), None);
    assert!(writer.remove(hash(1), 10));
    assert!(!writer.remove(hash(1), 10), "it is gone");
    assert!(!writer.remove(hash(2), 10), "the value was never there");
    assert_eq!(index.find(hash(1), Some), None);
    assert_eq!(writer.len(), 1);
}

#[test]
fn several_values_share_a_hash_and_the_caller_chooses() {
    let (index, mut writer) = Index::new(4);
    for value in 0..30 {
        writer.insert(hash(7), value);
    }
    let wanted = index.find(hash(7), |value| (value == 23).then_some("it"));
    assert_eq!(wanted, Some("it"));
    let mut values = offered(&index, hash(7));
    values.sort_unstable();
    assert_eq!(values, (0..30).collect::<Vec<_>>());
    writer.check();
}

#[test]
fn every_value_of_32_bits_is_kept() {
    let (index, mut writer) = Index::new(2);
    for value in [0, 1, u32::MAX - 1, u32::MAX] {
        writer.insert(u64::from(value), value);
        assert_eq!(
            index.find(u64::from(value), |found| (found == value).then_some(())),
            Some(())
        );
    }
}

#[test]
fn prefetching_touches_nothing() {
    let (index, mut writer) = Index::new(2);
    index.prefetch(u64::MAX);
    writer.insert(u64::MAX, 5);
    index.prefetch(u64::MAX);
    assert_eq!(offered(&index, u64::MAX), [5]);
}

#[test]
fn the_bucket_of_a_hash_is_always_one_there_is() {
    for buckets in 2..if cfg!(miri) { 20 } else { 300 } {
        for hash in 0..if cfg!(miri) { 32 } else { 1_024_u64 } {
            let bucket = State::new(buckets).bucket_of(hash << 32 | hash);
            assert!(bucket < buckets);
            // One more bucket moves a hash only to that one.
            let later = State::new(buckets + 1).bucket_of(hash);
            assert!(
                later == bucket || later == buckets,
                "{hash}: {bucket} -> {later}"
            );
        }
    }
}

#[test]
fn growing_by_one_bucket_at_a_time_keeps_all_entries() {
    let (index, mut writer) = Index::new(16);
    let hashes = hashes(SCALE);
    let mut longest = 0;
    for (value, &hash) in (0..).zip(&hashes) {
        let before = writer.table.state().buckets();
        writer.insert(hash, value);
        assert!(writer.table.state().buckets() - before <= 1);
        assert!(writer.len() <= writer.table.state().buckets() as usize * LOAD);
        if value.is_power_of_two() {
            longest = longest.max(writer.check());
        }
    }
    longest = longest.max(writer.check());
    assert!(longest <= 5, "a chain of {longest} buckets");
    for (value, &hash) in (0..).zip(&hashes) {
        assert_eq!(
            index.find(hash, |found| (found == value).then_some(found)),
            Some(value)
        );
    }
}

#[test]
fn an_entry_takes_less_than_thirteen_bytes_at_any_size() {
    let (_, mut writer) = Index::new(1_024);
    for (count, hash) in (1..).zip(hashes(SCALE)) {
        writer.insert(hash, 0);
        if count > 20_000 && count % 1_000 == 0 {
            let memory = writer.memory();
            assert!(memory < 13 * count, "{memory} bytes for {count} entries");
        }
    }
}

#[test]
fn replacing_entries_for_ever_does_not_use_up_memory() {
    let (_, mut writer) = Index::new(64);
    let hashes = hashes(SCALE);
    let lasting = SCALE / 20;
    let live = lasting as usize;
    for (value, &hash) in (0..).zip(&hashes[..live]) {
        writer.insert(hash, value);
    }
    let buckets = writer.table.state().buckets();
    for (value, pair) in (0..).zip(hashes.windows(live + 1)) {
        assert!(writer.remove(pair[0], value));
        writer.insert(pair[live], value + lasting);
    }
    writer.check();
    assert!(writer.table.state().buckets() <= buckets + 1);
    let most = buckets / 4;
    assert!(
        writer.overflow.held() < most,
        "{} of {buckets}",
        writer.overflow.held()
    );
}

#[test]
fn an_emptied_index_gives_all_continuations_back() {
    let (index, mut writer) = Index::new(2);
    let hashes = hashes(SCALE);
    for (value, &hash) in (0..).zip(&hashes) {
        writer.insert(hash, value);
    }
    assert!(writer.overflow.held() > 0);
    for (value, &hash) in (0..).zip(&hashes).collect::<Vec<_>>().into_iter().rev() {
        assert!(writer.remove(hash, value));
    }
    assert!(writer.is_empty());
    assert_eq!(writer.overflow.held(), 0);
    writer.check();
    assert!(hashes.iter().all(|&hash| offered(&index, hash).is_empty()));
}

#[test]
fn an_index_that_used_up_its_bits_lives_on_with_longer_chains() {
    let (index, mut writer) = Index::new(2);
    writer.max_buckets = 8;
    for value in 0..SCALE.min(1_000) {
        writer.insert(hash(value), value);
    }
    assert_eq!(writer.table.state().buckets(), 8);
    writer.check();
    for value in 0..SCALE.min(1_000) {
        assert!(offered(&index, hash(value)).contains(&value));
    }
}

#[test]
fn as_many_buckets_as_asked_for_and_a_power_of_two() {
    for (asked, made) in [(0, 2), (2, 2), (3, 4), (1_000, 1_024)] {
        assert_eq!(Index::new(asked).0.table.state().buckets(), made);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, u32),
    Remove(u64, u32),
}

/// Hashes that differ in few bits: low ones that choose buckets, and others that do not.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let hash = (0..8_u64, 0..3_u64).prop_map(|(low, middle)| low | middle << 5);
    let step = prop_oneof![
        3 => (hash.clone(), 0..6_u32).prop_map(|(hash, value)| Step::Insert(hash, value)),
        2 => (hash, 0..6_u32).prop_map(|(hash, value)| Step::Remove(hash, value)),
    ];
    prop::collection::vec(step, 0..if cfg!(miri) { 60 } else { 500 })
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: if cfg!(miri) { 2 } else { 200 },
        ..ProptestConfig::default()
    })]

    #[test]
    fn an_index_is_a_map_from_hash_to_many_values(steps in steps()) {
        let (index, mut writer) = Index::new(2);
        let mut model: HashMap<u64, Vec<u32>> = HashMap::new();
        for step in steps {
            match step {
                Step::Insert(hash, value) => {
                    writer.insert(hash, value);
                    model.entry(hash).or_default().push(value);
                }
                Step::Remove(hash, value) => {
                    let values = model.entry(hash).or_default();
                    let position = values.iter().position(|&other| other == value);
                    prop_assert_eq!(writer.remove(hash, value), position.is_some());
                    position.map(|position| values.swap_remove(position));
                }
            }
            writer.check();
            prop_assert_eq!(writer.len(), model.values().map(Vec::len).sum::<usize>());
            for (&hash, values) in &model {
                let offers = offered(&index, hash);
                for value in values {
                    let count = |list: &[u32]| list.iter().filter(|&other| other == value).count();
                    prop_assert!(count(&offers) >= count(values));
                }
            }
        }
    }
}

/// Readers look for entries that stay while the writer inserts and removes others around them. As the
/// contract has it: who misses asks under the lock.
#[test]
fn readers_find_what_stays_while_the_writer_grows_and_shrinks() {
    const STAYING: u32 = if cfg!(miri) { 30 } else { 3_000 };
    let (index, mut writer) = Index::new(2);
    let hashes = hashes(if cfg!(miri) { 120 } else { 60_000 });
    for (value, &hash) in (0..STAYING).zip(&hashes) {
        writer.insert(hash, value);
    }
    let writer = Mutex::new(writer);
    let done = AtomicBool::new(false);
    let looked = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for (value, &hash) in (0..STAYING).zip(&hashes) {
                        let accept = |found| (found == value).then_some(());
                        let found = index.find(hash, accept);
                        let found = found.or_else(|| writer.lock().unwrap().find(hash, accept));
                        assert_eq!(found, Some(()), "entry {value}");
                    }
                    looked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let coming_and_going = || (0..).zip(&hashes).skip(STAYING as usize);
        for _ in 0..if cfg!(miri) { 1 } else { 5 } {
            for (value, &hash) in coming_and_going() {
                writer.lock().unwrap().insert(hash, value);
            }
            for (value, &hash) in coming_and_going() {
                assert!(writer.lock().unwrap().remove(hash, value));
            }
        }
        while looked.load(Ordering::Relaxed) < 2 {
            thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(writer.lock().unwrap().len(), STAYING as usize);
    writer.lock().unwrap().check();
}

#[test]
fn the_shared_part_may_be_shared() {
    fn shared<T: Send + Sync>() {}
    shared::<Index>();
    shared::<IndexWriter>();
    shared::<Bucket>();
}
