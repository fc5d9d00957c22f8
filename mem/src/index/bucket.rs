//! One cache line of the index: nine entries and a link.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Entries in a bucket.
pub(super) const LANES: usize = 9;

/// Bits of the hash that an entry keeps.
pub(super) const TAG_BITS: u32 = 20;

/// Words that hold the tags, three each.
const WORDS: usize = 3;

/// Bits a tag takes in its word: the bits of the hash, and above them one that says "occupied".
const FIELD_BITS: u32 = TAG_BITS + 1;

const FIELD: u64 = (1 << FIELD_BITS) - 1;

/// The lowest bit of every field in a word.
const LOWEST: u64 = 1 | 1 << FIELD_BITS | 1 << (2 * FIELD_BITS);

/// The highest bit, "occupied", of every field in a word.
const HIGHEST: u64 = LOWEST << TAG_BITS;

/// What an entry keeps of its hash, with the bit that says that there is an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(u64);

impl Tag {
    /// The tag made of the lowest [`TAG_BITS`] of `bits`.
    #[inline(always)]
    pub(super) fn new(bits: u64) -> Self {
        Self(bits & (FIELD >> 1) | 1 << TAG_BITS)
    }

    /// Bit `number` of the hash bits.
    pub(super) fn bit(self, number: u32) -> bool {
        self.0 >> number & 1 == 1
    }
}

/// Nine entries, tag and value each, and the link to the next bucket of the chain.
///
/// Three tags of 21 bits share a word, so that three loads and some fifteen instructions compare all
/// nine. Lane `n` has its tag in word `n % 3`, field `n / 3`. All zero is the empty bucket.
///
/// One thread at a time writes, any number read meanwhile: a tag is stored last and with `Release`, so
/// whoever sees the tag sees the value, or a later one.
#[cfg_attr(not(loom), derive(zerocopy::FromZeros))]
#[cfg_attr(loom, derive(Default))]
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Bucket {
    tags: [AtomicU64; WORDS],
    values: [AtomicU32; LANES],
    /// One more than the number of the overflow bucket that continues this one; zero ends the chain.
    next: AtomicU32,
}

impl Bucket {
    /// The lanes whose tag is `tag`. Above such a lane in the same word, one whose tag differs in the
    /// lowest bit only may be among them: the price of comparing with a subtraction that borrows. The
    /// caller looks at the value anyway.
    #[inline(always)]
    pub(super) fn matching(&self, tag: Tag) -> Lanes {
        let wanted = tag.0 * LOWEST;
        self.lanes(|word| {
            let difference = word ^ wanted;
            difference.wrapping_sub(LOWEST) & !difference & HIGHEST
        })
    }

    /// The lanes that hold an entry.
    pub(super) fn occupied(&self) -> Lanes {
        self.lanes(|word| word & HIGHEST)
    }

    /// The lanes whose entry has bit `number` of its hash bits set. For the writer.
    #[inline(always)]
    pub(super) fn with_bit(&self, number: u32) -> Lanes {
        self.lanes(|word| have_bit(word, number))
    }

    /// Empties the lanes of [`with_bit`](Self::with_bit), all of a word at once. For the writer.
    #[inline(always)]
    pub(super) fn clear_with_bit(&self, number: u32) {
        for word in &self.tags {
            let tags = word.load(Ordering::Relaxed);
            let gone = (have_bit(tags, number) >> TAG_BITS) * FIELD;
            // Release: as in `clear`.
            word.store(tags & !gone, Ordering::Release);
        }
    }

    /// A lane without an entry.
    #[inline(always)]
    pub(super) fn vacant(&self) -> Option<usize> {
        self.lanes(|word| !word & HIGHEST).next()
    }

    #[inline(always)]
    fn lanes(&self, select: impl Fn(u64) -> u64) -> Lanes {
        let [first, second, third] = &self.tags;
        // Acquire: the values behind the tags, and for a reader that finds an entry gone, the mark that
        // entries are on the move (see `Table::find`).
        let first = select(first.load(Ordering::Acquire));
        let second = select(second.load(Ordering::Acquire));
        let third = select(third.load(Ordering::Acquire));
        Lanes(first | second >> 1 | third >> 2)
    }

    /// The value in `lane`.
    #[inline(always)]
    pub(super) fn value(&self, lane: usize) -> u32 {
        // Relaxed: ordered by the tag that led here.
        self.values[lane].load(Ordering::Relaxed)
    }

    /// The tag in `lane`, if there is an entry. For the writer.
    #[inline(always)]
    pub(super) fn tag(&self, lane: usize) -> Option<Tag> {
        let (word, shift) = self.field(lane);
        let tag = word.load(Ordering::Relaxed) >> shift & FIELD;
        (tag >> TAG_BITS == 1).then_some(Tag(tag))
    }

    /// Puts an entry into `lane`. For the writer.
    #[inline(always)]
    pub(super) fn set(&self, lane: usize, tag: Tag, value: u32) {
        self.values[lane].store(value, Ordering::Relaxed);
        let (word, shift) = self.field(lane);
        let others = word.load(Ordering::Relaxed) & !(FIELD << shift);
        word.store(others | tag.0 << shift, Ordering::Release);
    }

    /// Empties `lane`. For the writer.
    #[inline(always)]
    pub(super) fn clear(&self, lane: usize) {
        let (word, shift) = self.field(lane);
        let others = word.load(Ordering::Relaxed) & !(FIELD << shift);
        // Release: whoever misses the entry sees what was written before, above all its new place.
        word.store(others, Ordering::Release);
    }

    #[inline(always)]
    fn field(&self, lane: usize) -> (&AtomicU64, usize) {
        (&self.tags[lane % WORDS], lane / WORDS * FIELD_BITS as usize)
    }

    /// The number of the bucket that continues this one.
    #[inline(always)]
    pub(super) fn next(&self) -> Option<u32> {
        self.next.load(Ordering::Acquire).checked_sub(1)
    }

    /// Makes overflow bucket `next` the continuation, or ends the chain here. For the writer.
    pub(super) fn link(&self, next: Option<u32>) {
        self.next
            .store(next.map_or(0, |number| number + 1), Ordering::Release);
    }
}

/// The "occupied" bits of the fields of a word whose hash bits have bit `number` set.
#[inline(always)]
fn have_bit(word: u64, number: u32) -> u64 {
    word & word << (TAG_BITS - number) & HIGHEST
}

/// A set of lanes, lowest field first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes(u64);

impl Iterator for Lanes {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        // Lane 3 × field + word stands at bit 21 × field + 20 − word; ⌊bit ÷ 21⌋ by multiplication,
        // exact up to 62, the highest bit there is.
        let field = (bit * 49) >> 10;
        Some(24 * field + 20 - bit)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;
    use zerocopy::FromZeros;

    use super::{Bucket, LANES, TAG_BITS, Tag};

    #[test]
    fn a_bucket_is_one_cache_line() {
        assert_eq!(size_of::<Bucket>(), 64);
        assert_eq!(align_of::<Bucket>(), 64);
    }

    fn value_of(lane: usize) -> u32 {
        u32::try_from(lane).expect("nine lanes") + 100
    }

    #[test]
    fn every_lane_is_found_under_its_own_tag() {
        let bucket = Bucket::new_zeroed();
        for lane in 0..LANES {
            assert!(bucket.vacant().is_some(), "before lane {lane}");
            bucket.set(lane, Tag::new(lane as u64 * 0x111), value_of(lane));
        }
        assert_eq!(bucket.vacant(), None);
        for lane in 0..LANES {
            let tag = Tag::new(lane as u64 * 0x111);
            assert_eq!(bucket.tag(lane), Some(tag));
            assert_eq!(bucket.matching(tag).next(), Some(lane));
            assert_eq!(bucket.value(lane), value_of(lane));
        }
    }

    #[test]
    fn an_empty_lane_matches_no_tag() {
        let bucket = Bucket::new_zeroed();
        assert_eq!(bucket.matching(Tag::new(0)).count(), 0);
        assert_eq!(bucket.occupied().count(), 0);
    }

    #[test]
    fn links_are_followed_from_zero_upwards() {
        let bucket = Bucket::new_zeroed();
        assert_eq!(bucket.next(), None);
        bucket.link(Some(0));
        assert_eq!(bucket.next(), Some(0));
        bucket.link(None);
        assert_eq!(bucket.next(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            cases: if cfg!(miri) { 2 } else { 256 },
            ..ProptestConfig::default()
        })]

        #[test]
        fn a_bucket_is_nine_optional_pairs(
            steps in prop::collection::vec((0..LANES, prop::option::of((0_u64..16, any::<u32>()))), 0..60),
            wanted in 0_u64..16,
        ) {
            let bucket = Bucket::new_zeroed();
            let mut model = [None; LANES];
            for (lane, entry) in steps {
                model[lane] = entry;
                match entry {
                    Some((bits, value)) => bucket.set(lane, Tag::new(bits), value),
                    None => bucket.clear(lane),
                }
            }
            let occupied: Vec<usize> = bucket.occupied().collect();
            prop_assert_eq!(occupied.len(), model.iter().flatten().count());
            prop_assert_eq!(bucket.vacant().is_none(), occupied.len() == LANES);
            for number in [0, 1, 3, TAG_BITS - 1] {
                let have = |lane: &usize| bucket.tag(*lane).is_some_and(|tag| tag.bit(number));
                let mut with: Vec<usize> = bucket.with_bit(number).collect();
                with.sort_unstable();
                prop_assert_eq!(with, (0..LANES).filter(have).collect::<Vec<_>>());
            }
            let matching: Vec<usize> = bucket.matching(Tag::new(wanted)).collect();
            for (lane, entry) in model.into_iter().enumerate() {
                prop_assert_eq!(bucket.tag(lane), entry.map(|(bits, _)| Tag::new(bits)));
                match entry {
                    None => prop_assert!(!matching.contains(&lane)),
                    Some((bits, value)) => {
                        prop_assert_eq!(bucket.value(lane), value);
                        prop_assert!(occupied.contains(&lane));
                        if bits == wanted {
                            prop_assert!(matching.contains(&lane));
                        } else if matching.contains(&lane) {
                            prop_assert_eq!(bits ^ wanted, 1, "only the lowest bit may deceive");
                        }
                    }
                }
            }
            bucket.clear_with_bit(1);
            for (lane, entry) in model.into_iter().enumerate() {
                let stays = entry.map(|(bits, _)| Tag::new(bits)).filter(|tag| !tag.bit(1));
                prop_assert_eq!(bucket.tag(lane), stays);
            }
        }
    }
}
