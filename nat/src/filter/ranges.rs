//! Sets of numbers as ranges.

/// A set of numbers: ranges that neither overlap nor touch, in order, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges<K>(Vec<(K, K)>);

/// A number that an axis can be made of.
pub trait Key: Copy + Ord {
    /// The lowest number.
    const FIRST: Self;

    /// The next number, if there is one.
    fn next(self) -> Option<Self>;
}

impl Key for u16 {
    const FIRST: u16 = 0;

    fn next(self) -> Option<u16> {
        self.checked_add(1)
    }
}

impl Key for u32 {
    const FIRST: u32 = 0;

    fn next(self) -> Option<u32> {
        self.checked_add(1)
    }
}

impl Key for u128 {
    const FIRST: u128 = 0;

    fn next(self) -> Option<u128> {
        self.checked_add(1)
    }
}

impl<K: Key> Ranges<K> {
    /// The union of ranges, first and last number of each; one that ends before it begins is empty.
    #[must_use]
    pub fn new(ranges: impl IntoIterator<Item = (K, K)>) -> Ranges<K> {
        let mut ranges: Vec<(K, K)> = ranges
            .into_iter()
            .filter(|(first, last)| first <= last)
            .collect();
        ranges.sort_unstable();
        let mut merged: Vec<(K, K)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if end.next().is_none_or(|behind| first <= behind) => {
                    *end = last.max(*end);
                }
                _ => merged.push((first, last)),
            }
        }
        Ranges(merged)
    }

    /// Whether a number is in the set.
    #[must_use]
    pub fn contains(&self, key: K) -> bool {
        let behind = self.0.partition_point(|&(first, _)| first <= key);
        self.0[..behind]
            .last()
            .is_some_and(|&(_, last)| key <= last)
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = (K, K)> {
        self.0.iter().copied()
    }

    /// How many ranges there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
