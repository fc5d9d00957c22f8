use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Barrier,
    thread,
};

use proptest::prelude::*;
use zerocopy::{FromZeros, Immutable, IntoBytes, KnownLayout};

use super::{Record, Slab, Slot};
use crate::prefetch::CACHE_LINE;

/// As long as a session's record: with its lock it fills a slot of 160 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromZeros, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Session {
    key: u64,
    rest: [u64; 18],
}

impl Record for Session {}

#[derive(Clone, Copy, FromZeros, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Bytes<const N: usize>([u8; N]);

impl<const N: usize> Record for Bytes<N> {}

impl Session {
    fn new(key: u64) -> Self {
        Self {
            key,
            rest: [key; 18],
        }
    }
}

#[test]
fn a_record_is_put_into_a_slot_in_one_go() {
    let slab = Slab::new(2);
    let slots = [5, 6].map(|key| slab.insert(&Session::new(key)).unwrap());
    assert_eq!(slots.map(|slot| *slab.lock(slot)), [5, 6].map(Session::new));
    assert_eq!(slab.insert(&Session::new(7)), None, "there is a limit");
    slab.free(slots[0]);
    assert_eq!(slab.insert(&Session::new(8)), Some(slots[0]));
    assert_eq!((slab.len(), *slab.lock(slots[0])), (2, Session::new(8)));
}

#[test]
fn a_record_keeps_what_is_written_until_it_is_freed() {
    let slab = Slab::<Session>::new(10);
    let slot = slab.allocate().unwrap();
    assert_eq!(*slab.lock(slot), Session::new(0), "a fresh record is zero");
    *slab.lock(slot) = Session::new(7);
    slab.lock(slot).rest[3] += 1;
    assert_eq!(slab.lock(slot).key, 7);
    assert_eq!(slab.lock(slot).rest[3], 8);
    slab.free(slot);
    assert_eq!(
        *slab.lock(slot),
        Session::new(0),
        "no key matches a freed record"
    );
}

#[test]
fn no_more_records_than_the_limit() {
    let slab = Slab::<Session>::new(3);
    let slots: Vec<u32> = std::iter::from_fn(|| slab.allocate()).collect();
    assert_eq!(slots, [0, 1, 2]);
    assert_eq!((slab.len(), slab.limit(), slab.extent()), (3, 3, 3));
    slab.free(1);
    assert_eq!(slab.len(), 2);
    assert_eq!(slab.allocate(), Some(1), "and no fewer");
    assert_eq!(slab.allocate(), None);
}

#[test]
fn a_slab_without_room_has_none() {
    let slab = Slab::<Session>::new(0);
    assert_eq!(slab.allocate(), None);
    assert!(slab.is_empty());
}

#[test]
fn the_slot_freed_last_is_used_first() {
    let slab = Slab::<Session>::new(10);
    for _ in 0..5 {
        slab.allocate().unwrap();
    }
    slab.free(1);
    slab.free(3);
    assert_eq!(
        (slab.allocate(), slab.allocate(), slab.allocate()),
        (Some(3), Some(1), Some(5))
    );
}

#[test]
fn only_one_holds_a_record() {
    let slab = Slab::<Session>::new(2);
    let slot = slab.allocate().unwrap();
    let guard = slab.lock(slot);
    thread::scope(|scope| {
        scope.spawn(|| assert!(slab.try_lock(slot).is_none()));
    });
    drop(guard);
    assert!(slab.try_lock(slot).is_some());
}

#[test]
fn a_stale_number_locks_the_empty_record() {
    let slab = Slab::<Session>::new(2);
    let slot = slab.allocate().unwrap();
    slab.lock(slot).key = 1;
    slab.free(slot);
    let stale = slab.try_lock(slot).unwrap();
    assert_eq!(stale.key, 0);
    drop(stale);
    assert_eq!(slab.allocate(), Some(slot));
}

#[test]
fn memory_counts_what_was_ever_in_use() {
    let slab = Slab::<Session>::new(1_000);
    let empty = slab.memory();
    let slots = [slab.allocate().unwrap(), slab.allocate().unwrap()];
    assert_eq!(slab.memory() - empty, 2 * size_of::<Slot<Session>>());
    slots.into_iter().for_each(|slot| slab.free(slot));
    assert_eq!(slab.memory() - empty, 2 * size_of::<Slot<Session>>());
}

#[test]
fn the_lock_takes_the_place_of_one_alignment() {
    assert_eq!(size_of::<Slot<Session>>(), 160);
    assert_eq!(size_of::<Slot<Bytes<31>>>(), 32);
    assert_eq!(std::mem::offset_of!(Slot<Session>, lock), 0);
}

/// For every place in a line where a slot may begin, the lines asked for are those it touches.
fn assert_all_lines_are_prefetched<const N: usize>() {
    let size = size_of::<Slot<Bytes<N>>>();
    for slot in 0..CACHE_LINE {
        let start = slot * size;
        let mut asked: BTreeSet<usize> = (0..Slot::<Bytes<N>>::LINES_FROM_START)
            .map(|line| (start + line * CACHE_LINE) / CACHE_LINE)
            .collect();
        if Slot::<Bytes<N>>::ENDS_IN_ANOTHER_LINE {
            asked.insert((start + size - 1) / CACHE_LINE);
        }
        for line in start / CACHE_LINE..=(start + size - 1) / CACHE_LINE {
            assert!(
                asked.contains(&line),
                "line {line} of slot {slot} of {size} bytes"
            );
        }
    }
}

#[test]
fn prefetching_covers_every_line_of_a_slot() {
    assert_all_lines_are_prefetched::<1>();
    assert_all_lines_are_prefetched::<31>();
    assert_all_lines_are_prefetched::<63>();
    assert_all_lines_are_prefetched::<64>();
    assert_all_lines_are_prefetched::<95>();
    assert_all_lines_are_prefetched::<127>();
    assert_all_lines_are_prefetched::<159>();
    assert_all_lines_are_prefetched::<160>();
    assert_eq!(Slot::<Session>::LINES_FROM_START, 3);
    const {
        assert!(
            !Slot::<Session>::ENDS_IN_ANOTHER_LINE,
            "three lines, never four"
        )
    };
    let slab = Slab::<Session>::new(1);
    slab.prefetch(0);
    slab.prefetch(u32::MAX);
    let slot = slab.allocate().unwrap();
    slab.prefetch(slot);
}

#[test]
#[cfg(all(debug_assertions, not(miri)))]
fn a_thread_that_locks_two_records_is_stopped() {
    let slab = Slab::<Session>::new(2);
    let slots = [slab.allocate().unwrap(), slab.allocate().unwrap()];
    let guard = slab.lock(slots[0]);
    for second in slots {
        assert!(catch_unwind(AssertUnwindSafe(|| drop(slab.lock(second)))).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| drop(slab.try_lock(second)))).is_err());
    }
    drop(guard);
    drop(slab.lock(slots[1]));
}

#[test]
#[cfg(debug_assertions)]
fn freeing_twice_is_noticed_and_harmless() {
    let slab = Slab::<Session>::new(4);
    let slot = slab.allocate().unwrap();
    slab.free(slot);
    assert!(catch_unwind(AssertUnwindSafe(|| slab.free(slot))).is_err());
    assert_eq!(slab.len(), 0);
    assert_eq!((slab.allocate(), slab.allocate()), (Some(0), Some(1)));
}

#[test]
fn a_number_that_was_never_handed_out_is_refused() {
    let slab = Slab::<Session>::new(4);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(slab.lock(1 << 20)))).is_err());
}

#[test]
fn threads_change_records_one_at_a_time() {
    const ROUNDS: u64 = if cfg!(miri) { 30 } else { 30_000 };
    let slab = Slab::<Session>::new(4);
    let slots: Vec<u32> = std::iter::from_fn(|| slab.allocate()).collect();
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (slab, slots, barrier) = (&slab, &slots, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for round in 0..ROUNDS {
                    let mut record = slab
                        .lock(slots[usize::try_from((round + thread) % 4).expect("below four")]);
                    // Not atomic, so every loss or tear of an exclusive access shows.
                    record.key += 1;
                    let key = record.key;
                    record.rest.iter_mut().for_each(|word| {
                        *word += 1;
                        assert_eq!(*word, key);
                    });
                }
            });
        }
    });
    let total: u64 = slots.iter().map(|&slot| slab.lock(slot).key).sum();
    assert_eq!(total, 4 * ROUNDS);
}

#[test]
fn threads_allocate_and_free_without_sharing_a_slot() {
    const ROUNDS: u64 = if cfg!(miri) { 20 } else { 20_000 };
    let slab = Slab::<Session>::new(8);
    thread::scope(|scope| {
        for thread in 1..=4 {
            let slab = &slab;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let Some(slot) = slab.allocate() else {
                        continue;
                    };
                    let mark = thread << 32 | round;
                    {
                        let mut record = slab.lock(slot);
                        assert_eq!(*record, Session::new(0), "somebody else's slot");
                        *record = Session::new(mark);
                    }
                    assert_eq!(*slab.lock(slot), Session::new(mark));
                    slab.free(slot);
                    // Where somebody else may be by now: a look, as from a stale index entry.
                    drop(slab.lock(slot));
                }
            });
        }
    });
    assert!(slab.is_empty() && slab.extent() <= 4);
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: if cfg!(miri) { 2 } else { 256 },
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_slab_is_a_set_of_lowest_numbers(steps in prop::collection::vec(any::<(bool, u16)>(), 0..200)) {
        let slab = Slab::<Session>::new(20);
        let mut model = BTreeSet::new();
        let mut freed = Vec::new();
        let mut extent = 0;
        for (allocate, choice) in steps {
            if allocate {
                let expected = freed.pop().or_else(|| {
                    (extent < 20).then(|| {
                        extent += 1;
                        extent - 1
                    })
                });
                prop_assert_eq!(slab.allocate(), expected);
                if let Some(slot) = expected {
                    model.insert(slot);
                    slab.lock(slot).key = u64::from(slot) + 1;
                }
            } else if let Some(&slot) = model.iter().nth(usize::from(choice) % model.len().max(1)) {
                prop_assert_eq!(slab.lock(slot).key, u64::from(slot) + 1);
                slab.free(slot);
                model.remove(&slot);
                freed.push(slot);
            }
            prop_assert_eq!(slab.len() as usize, model.len());
            prop_assert_eq!(slab.extent(), extent);
        }
    }
}
