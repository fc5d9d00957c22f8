//! Loom's view of the record lock.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p heddle-mem --release --lib model`

use loom::{sync::Arc, thread};
use zerocopy::{FromZeros, Immutable, IntoBytes, KnownLayout};

use super::{Record, Slab};

#[derive(Clone, Copy, Debug, PartialEq, Eq, FromZeros, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Pair {
    key: u64,
    count: u64,
}

impl Record for Pair {}

fn slab_with_one() -> (Arc<Slab<Pair>>, u32) {
    let slab = Slab::<Pair>::new(2);
    let slot = slab.allocate().unwrap();
    slab.lock(slot).key = 7;
    (Arc::new(slab), slot)
}

#[test]
fn two_threads_never_hold_one_record() {
    loom::model(|| {
        let (slab, slot) = slab_with_one();
        let other = thread::spawn({
            let slab = slab.clone();
            move || slab.lock(slot).count += 1
        });
        slab.lock(slot).count += 1;
        other.join().unwrap();
        assert_eq!(slab.lock(slot).count, 2);
    });
}

#[test]
fn a_try_sees_all_of_a_holders_work_or_fails() {
    loom::model(|| {
        let (slab, slot) = slab_with_one();
        let other = thread::spawn({
            let slab = slab.clone();
            move || {
                let mut record = slab.lock(slot);
                record.key = 8;
                record.count = 8;
            }
        });
        if let Some(record) = slab.try_lock(slot) {
            assert!(matches!((record.key, record.count), (7, 0) | (8, 8)));
        }
        other.join().unwrap();
    });
}

#[test]
fn a_stale_number_finds_the_record_the_next_or_nothing() {
    // A reader took the number from the index before it was removed there.
    loom::model(|| {
        let (slab, slot) = slab_with_one();
        let reader = thread::spawn({
            let slab = slab.clone();
            move || {
                let record = *slab.lock(slot);
                assert!([(7, 0), (0, 0), (9, 9)].contains(&(record.key, record.count)));
            }
        });
        slab.free(slot);
        let again = slab.allocate().unwrap();
        assert_eq!(again, slot);
        *slab.lock(again) = Pair { key: 9, count: 9 };
        reader.join().unwrap();
        assert_eq!(slab.len(), 1);
        // The reader's unlocking did not undo the allocation.
        slab.free(again);
        assert!(slab.is_empty());
    });
}

#[test]
fn two_threads_never_get_one_slot() {
    loom::model(|| {
        let (slab, first) = slab_with_one();
        let other = thread::spawn({
            let slab = slab.clone();
            move || slab.allocate()
        });
        slab.free(first);
        let mine = slab.allocate();
        let others = other.join().unwrap();
        assert!(mine.is_some() && others.is_some());
        assert_ne!(mine, others);
    });
}
