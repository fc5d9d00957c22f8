//! A set of numbers kept as disjoint inclusive ranges.
//!
//! The free addresses of a subnet are such a set: a bitmap of an IPv6 /64 would not fit any memory,
//! while the ranges number at most one more than the addresses that were ever taken. Every
//! operation costs a logarithm of that count.
//!
//! Invariant: ranges neither overlap nor touch, and `count` is the sum of their sizes.

use std::collections::BTreeMap;

/// Disjoint inclusive ranges; see the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RangeSet {
    /// First number of a range to its last.
    ranges: BTreeMap<u128, u128>,
    count: u128,
}

impl RangeSet {
    /// The set of `first..=last`. The full range of `u128`, whose size is no `u128`, cannot occur:
    /// no subnet is that large.
    pub(crate) fn from_range(first: u128, last: u128) -> Self {
        Self {
            ranges: BTreeMap::from([(first, last)]),
            count: last - first + 1,
        }
    }

    /// How many numbers are in the set.
    pub(crate) const fn count(&self) -> u128 {
        self.count
    }

    /// Whether the number is in the set.
    pub(crate) fn contains(&self, number: u128) -> bool {
        self.range_of(number).is_some()
    }

    /// The smallest member that is `from` or above.
    pub(crate) fn first_from(&self, from: u128) -> Option<u128> {
        if self.contains(from) {
            return Some(from);
        }
        self.ranges.range(from..).next().map(|(first, _)| *first)
    }

    /// Puts one number in; `false` if it was there already.
    pub(crate) fn insert(&mut self, number: u128) -> bool {
        if self.contains(number) {
            return false;
        }
        let below = number.checked_sub(1).and_then(|below| self.range_of(below));
        let above = number.checked_add(1).and_then(|above| self.range_of(above));
        let first = below.map_or(number, |(first, _)| first);
        let last = above.map_or(number, |(_, last)| last);
        if let Some((start, _)) = above {
            self.ranges.remove(&start);
        }
        self.ranges.insert(first, last);
        self.count += 1;
        true
    }

    /// Takes one number out; `false` if it was not there.
    pub(crate) fn remove(&mut self, number: u128) -> bool {
        let present = self.contains(number);
        self.remove_range(number, number);
        present
    }

    /// Takes every number of `first..=last` out, whether it is there or not.
    pub(crate) fn remove_range(&mut self, first: u128, last: u128) {
        while let Some((start, end)) = self.last_range_up_to(last).filter(|(_, end)| *end >= first)
        {
            self.ranges.remove(&start);
            // The range is cut to what lies inside before it is counted out again.
            self.count -= end.min(last) - start.max(first) + 1;
            if start < first {
                self.ranges.insert(start, first - 1);
            }
            if end > last {
                self.ranges.insert(last + 1, end);
            }
        }
    }

    fn range_of(&self, number: u128) -> Option<(u128, u128)> {
        self.last_range_up_to(number)
            .filter(|(_, last)| *last >= number)
    }

    /// The range that starts last among those that start at `number` or below.
    fn last_range_up_to(&self, number: u128) -> Option<(u128, u128)> {
        self.ranges
            .range(..=number)
            .next_back()
            .map(|(first, last)| (*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{Strategy, any, prop_oneof, proptest};

    use super::*;

    #[derive(Clone, Debug)]
    enum Action {
        Insert(u128),
        Remove(u128),
        RemoveRange(u128, u128),
    }

    fn actions() -> impl Strategy<Value = Vec<Action>> {
        let number = || any::<u8>().prop_map(u128::from);
        let action = prop_oneof![
            3 => number().prop_map(Action::Insert),
            3 => number().prop_map(Action::Remove),
            1 => (number(), number()).prop_map(|(a, b)| Action::RemoveRange(a.min(b), a.max(b))),
        ];
        proptest::collection::vec(action, 0..200)
    }

    #[test]
    fn numbers_at_both_ends_of_the_type_are_members_like_others() {
        let mut set = RangeSet::from_range(u128::MAX - 1, u128::MAX);
        assert!(set.remove(u128::MAX));
        assert!(!set.remove(u128::MAX));
        assert!(set.insert(u128::MAX));
        assert!(set.insert(0));
        assert_eq!(set.first_from(1), Some(u128::MAX - 1));
        assert_eq!(set.count(), 3);
        set.remove_range(0, u128::MAX);
        assert_eq!(set, RangeSet::default());
    }

    proptest! {
        #[test]
        fn the_set_agrees_with_a_plain_set_of_numbers(actions in actions(), probe in 0u128..260) {
            let mut set = RangeSet::from_range(20, 240);
            let mut model: BTreeSet<u128> = (20..=240).collect();
            for action in actions {
                match action {
                    Action::Insert(number) => assert_eq!(set.insert(number), model.insert(number)),
                    Action::Remove(number) => assert_eq!(set.remove(number), model.remove(&number)),
                    Action::RemoveRange(first, last) => {
                        set.remove_range(first, last);
                        model.retain(|number| !(first..=last).contains(number));
                    }
                }
                assert_eq!(set.count(), model.len() as u128);
                assert_eq!(set.contains(probe), model.contains(&probe));
                assert_eq!(set.first_from(probe), model.range(probe..).next().copied());
                let ranges: Vec<(u128, u128)> = set.ranges.iter().map(|(a, b)| (*a, *b)).collect();
                for pair in ranges.windows(2) {
                    assert!(pair[0].1 + 1 < pair[1].0, "ranges touch: {ranges:?}");
                }
            }
        }
    }
}
