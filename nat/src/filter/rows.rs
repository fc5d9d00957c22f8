//! Sets of rules as rows of bits, and where in them something is.
//!
//! A row has one bit a rule, in words of 64, and in front of them a *summary*: bit `n` says that word `n`
//! is not zero (the aggregated bit vectors of Baboescu and Varghese, 2001). The rules that a packet
//! matches are the intersection of one row for each of its properties; the intersection of the summaries
//! says in which words it can lie at all, so of a thousand rules hardly more is read than of ten.

use std::collections::HashMap;

/// Rules in one word.
pub(super) const WORD: usize = 64;

/// Words of a row, its summary left out.
pub(super) const WORDS: usize = 16;

/// A row: its summary, and a bit for each rule. All chains have rows of one length, so that a word of a row
/// is found without asking whether it is there.
pub(super) type Row = [u64; WORDS + 1];

/// A set of rules by position.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// No rules of `len`.
    pub(super) fn new(len: usize) -> Bits {
        Bits(vec![0; len.div_ceil(WORD)])
    }

    /// Adds a rule, or takes it away.
    pub(super) fn set(&mut self, rule: usize, is_in: bool) {
        let bit = 1 << (rule % WORD);
        if is_in {
            self.0[rule / WORD] |= bit;
        } else {
            self.0[rule / WORD] &= !bit;
        }
    }

    /// The rules that are in one of two sets and not in the other.
    pub(super) fn differing(&self, other: &Bits) -> Bits {
        let words = self.0.iter().zip(&other.0);
        Bits(words.map(|(one, other)| one ^ other).collect())
    }
}

/// Rows that something on one axis leads to; equal ones are kept once.
#[derive(Debug)]
pub(super) struct Rows(Vec<Row>);

/// Which row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowId(u32);

impl Rows {
    /// The row with this number.
    #[inline]
    pub(super) fn get(&self, RowId(at): RowId) -> &Row {
        &self.0[at as usize]
    }

    /// Octets of memory.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&self.0[..])
    }
}

/// Rows in the making.
#[derive(Debug)]
pub(super) struct RowsBuilder {
    rows: Rows,
    known: HashMap<Bits, RowId>,
}

impl RowsBuilder {
    /// No rows yet.
    pub(super) fn new() -> RowsBuilder {
        RowsBuilder {
            rows: Rows(Vec::new()),
            known: HashMap::new(),
        }
    }

    /// The row of a set of rules.
    pub(super) fn row(&mut self, bits: &Bits) -> RowId {
        if let Some(&id) = self.known.get(bits) {
            return id;
        }
        let rows = &mut self.rows.0;
        // A chain's pieces are bounded so that this fits by far.
        let id = RowId(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        let mut row = [0; WORDS + 1];
        for (number, &word) in bits.0.iter().enumerate() {
            row[number + 1] = word;
            row[0] |= u64::from(word != 0) << number;
        }
        rows.push(row);
        self.known.insert(bits.clone(), id);
        id
    }

    pub(super) fn finish(self) -> Rows {
        self.rows
    }
}
