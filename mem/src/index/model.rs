//! Loom's view of readers against the writer: every interleaving, every value a load may return.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p heddle-mem --release --lib model`
//!
//! Hashes are made by hand: the low bits choose the bucket, and the bits above them are the tag.

use loom::thread;

use super::{Index, IndexWriter, LOAD, bucket::LANES};

/// Switches of threads that are not forced by waiting: what loom's authors found enough for nearly all
/// bugs. The searches here are too long to try all.
const PREEMPTIONS: usize = 3;

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.max_branches = 100_000;
    builder.check(model);
}

/// An index of two buckets where `entries` are, each under its own value as hash.
fn index_of(entries: impl IntoIterator<Item = u32>) -> (Index, IndexWriter) {
    let (index, mut writer) = Index::new(2);
    for entry in entries {
        writer.insert(u64::from(entry), entry);
    }
    (index, writer)
}

fn finds(index: &Index, entry: u32) -> bool {
    index
        .find(u64::from(entry), |value| (value == entry).then_some(()))
        .is_some()
}

/// A reader looks for `entry`, which is there all the time, while the writer does `change`.
fn never_missed(
    entries: &'static [u32],
    entry: u32,
    change: impl Fn(&mut IndexWriter) + Copy + Send + Sync + 'static,
) {
    check(move || {
        let (index, mut writer) = index_of(entries.iter().copied());
        let reader = thread::spawn(move || assert!(finds(&index, entry), "missed {entry}"));
        change(&mut writer);
        reader.join().unwrap();
    });
}

/// Twelve entries fill two buckets to their load: the next insertion splits bucket 0 and moves 2 and 6
/// to bucket 2. 4 and 8 stay.
const BEFORE_SPLIT: &[u32] = &[0, 2, 4, 6, 8, 1, 3, 5, 7, 9, 11, 13];

const _: () = assert!(BEFORE_SPLIT.len() == 2 * LOAD);

#[test]
fn an_entry_that_a_split_moves_is_not_missed() {
    never_missed(BEFORE_SPLIT, 6, |writer| writer.insert(15, 15));
}

#[test]
fn an_entry_that_a_split_leaves_is_not_missed() {
    never_missed(BEFORE_SPLIT, 8, |writer| writer.insert(15, 15));
}

/// Eleven entries in bucket 0: two are in its continuation. The split moves 2, 6, 10, 14 and 18, so the
/// others close up, and the continuation returns to the pool.
const BEFORE_SPLIT_OF_CHAIN: &[u32] = &[2, 6, 10, 14, 18, 0, 4, 8, 12, 16, 20, 1];

#[test]
fn an_entry_that_closes_up_in_a_split_is_not_missed() {
    const { assert!(BEFORE_SPLIT_OF_CHAIN.len() == LANES + 3) };
    never_missed(BEFORE_SPLIT_OF_CHAIN, 20, |writer| writer.insert(3, 3));
}

/// Ten entries in bucket 0: the last is in its continuation.
const CHAIN: &[u32] = &[0, 2, 4, 6, 8, 10, 12, 14, 16, 18];

#[test]
fn an_entry_that_fills_the_place_of_one_removed_is_not_missed() {
    never_missed(CHAIN, 18, |writer| assert!(writer.remove(0, 0)));
}

#[test]
fn an_entry_beside_the_place_of_one_removed_is_not_missed() {
    never_missed(CHAIN, 16, |writer| assert!(writer.remove(0, 0)));
}

#[test]
fn a_continuation_reused_by_another_chain_misleads_nobody() {
    // The continuation of bucket 0 is given up and becomes that of bucket 1 under the reader's feet.
    const TWO_CHAINS: &[u32] = &[0, 2, 4, 6, 8, 10, 12, 14, 16, 18];
    check(|| {
        let (index, mut writer) = Index::new(2);
        writer.max_buckets = 2;
        for &entry in TWO_CHAINS.iter().chain(&[1, 3, 5, 7, 9, 11, 13, 15, 17]) {
            writer.insert(u64::from(entry), entry);
        }
        let reader = thread::spawn(move || assert!(finds(&index, 16)));
        assert!(writer.remove(18, 18));
        writer.insert(19, 19);
        reader.join().unwrap();
    });
}

#[test]
fn whoever_sees_a_tag_sees_its_value() {
    check(|| {
        let (index, mut writer) = index_of([]);
        let reader = thread::spawn(move || assert!(matches!(index.candidate(14), None | Some(14))));
        writer.insert(14, 14);
        reader.join().unwrap();
    });
}

#[test]
fn what_was_inserted_before_the_reader_was_told_is_found() {
    check(|| {
        let (index, mut writer) = index_of(BEFORE_SPLIT.iter().copied());
        let told = loom::sync::Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let reader = thread::spawn({
            let told = told.clone();
            move || {
                if told.load(loom::sync::atomic::Ordering::Acquire) {
                    assert!(finds(&index, 14), "the insertion was over");
                }
            }
        });
        // Inserts and splits.
        writer.insert(14, 14);
        told.store(true, loom::sync::atomic::Ordering::Release);
        reader.join().unwrap();
    });
}

#[test]
fn what_was_removed_before_the_reader_was_told_is_not_found() {
    check(|| {
        let (index, mut writer) = index_of(CHAIN.iter().copied());
        let told = loom::sync::Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let reader = thread::spawn({
            let told = told.clone();
            move || {
                if told.load(loom::sync::atomic::Ordering::Acquire) {
                    assert!(!finds(&index, 0));
                }
            }
        });
        assert!(writer.remove(0, 0));
        told.store(true, loom::sync::atomic::Ordering::Release);
        reader.join().unwrap();
    });
}
