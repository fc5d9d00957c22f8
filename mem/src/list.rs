//! Doubly linked lists of slots, first in first out, without memory of their own per list.
//!
//! The links of all slots stand side by side in one [`Links`]; a [`List`] is two numbers and lies where
//! its owner likes, in a record if need be. A slot is in one list of a `Links` at a time. What it is good
//! for: "the oldest unreplied session of this endpoint" when each endpoint has a list, and any session
//! leaves it at any time.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::segments::Segments;

/// Slots in the first chunk of links, one page of them.
const FIRST_CHUNK: u32 = 512;

/// Stands for "the slot before" where the slot is the first of its list.
const FIRST_OF_LIST: u32 = u32::MAX;

/// A slot or none, in four bytes. Zero is none, so that a fresh record refers to nothing.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct MaybeSlot(u32);

impl MaybeSlot {
    /// No slot.
    pub const NONE: Self = Self(0);

    /// This slot. The one number that cannot be said is `u32::MAX`; it comes out as none.
    #[must_use]
    pub const fn some(slot: u32) -> Self {
        Self(slot.wrapping_add(1))
    }

    /// The slot, if there is one.
    #[must_use]
    pub const fn get(self) -> Option<u32> {
        self.0.checked_sub(1)
    }
}

/// The head of one list: which slot is first, which last. All zeros is the empty list.
///
/// Copying it does not copy the list: of two copies only one may be changed on.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct List {
    first: MaybeSlot,
    last: MaybeSlot,
}

impl List {
    /// The empty list.
    pub const EMPTY: Self = Self {
        first: MaybeSlot::NONE,
        last: MaybeSlot::NONE,
    };

    /// The slot that has been in the list for longest.
    #[must_use]
    pub fn front(&self) -> Option<u32> {
        self.first.get()
    }

    /// The slot that came last.
    #[must_use]
    pub fn back(&self) -> Option<u32> {
        self.last.get()
    }

    /// Whether there is no slot in the list.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first == MaybeSlot::NONE
    }
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[cfg_attr(loom, derive(Default))]
#[repr(C)]
struct Link {
    /// Zero if the slot is in no list, [`FIRST_OF_LIST`] or one more than the slot before it if it is.
    previous: u32,
    next: MaybeSlot,
}

/// The links of all slots: eight bytes for each, up to the highest that was ever in a list.
#[derive(Debug)]
pub struct Links {
    links: Segments<Link>,
}

impl Links {
    /// No slot is in a list.
    #[must_use]
    pub fn new() -> Self {
        Self {
            links: Segments::new(FIRST_CHUNK),
        }
    }

    /// Puts `slot` at the end of `list`. Nothing changes if it is in a list already.
    ///
    /// # Aborts
    ///
    /// As a `Vec` does, if the system refuses the memory. `slot` must be below `u32::MAX - 1`.
    pub fn push_back(&mut self, list: &mut List, slot: u32) {
        if self.contains(slot) {
            debug_assert!(
                false,
                "slot {slot} is put into a list but is in one already"
            );
            return;
        }
        let previous = match list.last.get() {
            Some(last) => {
                self.link(last).next = MaybeSlot::some(slot);
                last + 1
            }
            None => {
                list.first = MaybeSlot::some(slot);
                FIRST_OF_LIST
            }
        };
        list.last = MaybeSlot::some(slot);
        *self.link(slot) = Link {
            previous,
            next: MaybeSlot::NONE,
        };
    }

    /// Takes `slot` out of `list`, in which it must be if it is in any. Returns whether it was in one.
    pub fn remove(&mut self, list: &mut List, slot: u32) -> bool {
        if !self.contains(slot) {
            return false;
        }
        let Link { previous, next } = std::mem::replace(
            self.link(slot),
            Link {
                previous: 0,
                next: MaybeSlot::NONE,
            },
        );
        match next.get() {
            Some(next) => self.link(next).previous = previous,
            None => {
                debug_assert_eq!(list.last.get(), Some(slot), "the slot is in another list");
                list.last = match previous {
                    FIRST_OF_LIST => MaybeSlot::NONE,
                    _ => MaybeSlot(previous),
                };
            }
        }
        match previous {
            FIRST_OF_LIST => {
                debug_assert_eq!(list.first.get(), Some(slot), "the slot is in another list");
                list.first = next;
            }
            _ => self.link(previous - 1).next = next,
        }
        true
    }

    /// Takes the first slot out of `list`.
    pub fn pop_front(&mut self, list: &mut List) -> Option<u32> {
        let slot = list.front()?;
        self.remove(list, slot);
        Some(slot)
    }

    /// The slot after `slot` in its list.
    #[must_use]
    pub fn next(&self, slot: u32) -> Option<u32> {
        self.links.get(slot)?.next.get()
    }

    /// Whether `slot` is in a list.
    #[must_use]
    pub fn contains(&self, slot: u32) -> bool {
        self.links.get(slot).is_some_and(|link| link.previous != 0)
    }

    /// The slots of `list`, the oldest first.
    pub fn iter(&self, list: &List) -> impl Iterator<Item = u32> {
        std::iter::successors(list.front(), |&slot| self.next(slot))
    }

    fn link(&mut self, slot: u32) -> &mut Link {
        self.links.demand(slot)
    }
}

impl Default for Links {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::{Links, List};

    #[test]
    fn slots_leave_in_the_order_they_came() {
        let mut links = Links::new();
        let mut list = List::EMPTY;
        for slot in [7, 3, 2_000_000] {
            links.push_back(&mut list, slot);
        }
        assert_eq!((list.front(), list.back()), (Some(7), Some(2_000_000)));
        assert_eq!(links.next(7), Some(3));
        assert_eq!(
            std::iter::from_fn(|| links.pop_front(&mut list)).collect::<Vec<_>>(),
            [7, 3, 2_000_000]
        );
        assert_eq!(list, List::EMPTY);
    }

    #[test]
    fn a_slot_that_left_may_join_another_list() {
        let mut links = Links::new();
        let (mut one, mut other) = (List::EMPTY, List::EMPTY);
        links.push_back(&mut one, 0);
        assert!(links.contains(0));
        assert!(links.remove(&mut one, 0));
        assert!(!links.contains(0) && one.is_empty());
        assert!(!links.remove(&mut one, 0), "it is in none");
        links.push_back(&mut other, 0);
        assert_eq!(other.front(), Some(0));
    }

    #[test]
    fn slots_never_seen_are_in_no_list() {
        let links = Links::new();
        assert!(!links.contains(u32::MAX));
        assert_eq!(links.next(5), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize, u32),
        Remove(u32),
        Pop(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0..3_usize, 0..40_u32).prop_map(|(list, slot)| Step::Push(list, slot)),
            2 => (0..40_u32).prop_map(Step::Remove),
            1 => (0..3_usize).prop_map(Step::Pop),
        ];
        prop::collection::vec(step, 0..if cfg!(miri) { 30 } else { 300 })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: if cfg!(miri) { 2 } else { 256 }, ..Default::default() })]

        #[test]
        fn three_lists_behave_like_three_queues(steps in steps()) {
            let mut links = Links::new();
            let mut lists = [List::EMPTY; 3];
            let mut model: [VecDeque<u32>; 3] = Default::default();
            for step in steps {
                match step {
                    Step::Push(list, slot) if !links.contains(slot) => {
                        links.push_back(&mut lists[list], slot);
                        model[list].push_back(slot);
                    }
                    Step::Push(..) => {}
                    Step::Remove(slot) => {
                        let list = model.iter().position(|queue| queue.contains(&slot));
                        prop_assert_eq!(links.remove(&mut lists[list.unwrap_or(0)], slot), list.is_some());
                        model.iter_mut().for_each(|queue| queue.retain(|&other| other != slot));
                    }
                    Step::Pop(list) => {
                        prop_assert_eq!(links.pop_front(&mut lists[list]), model[list].pop_front());
                    }
                }
                for (list, queue) in lists.iter().zip(&model) {
                    prop_assert_eq!(links.iter(list).collect::<VecDeque<_>>(), queue.clone());
                    prop_assert_eq!(list.back(), queue.back().copied());
                }
            }
        }
    }
}
