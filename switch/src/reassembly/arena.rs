//! Memory for fragments: blocks of one size, chained by number.
//!
//! All of it is asked for at the start, as pages that the kernel gives when they are first touched. Blocks that were in use are taken before fresh ones, so an arena that is never busy stays
//! small. Freed blocks keep what was in them; a chain never shows more than was stored in it.

/// Bytes of a block: a packet of an ordinary link and its headers.
pub(super) const BLOCK: usize = 2048;

/// Stands for "no block".
pub(super) const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Arena {
    bytes: Vec<u8>,
    /// The block behind each one that was ever in use, in its chain or in the list of free ones.
    next: Vec<u32>,
    free: u32,
    /// How many could be taken.
    available: u32,
}

impl Arena {
    pub(super) fn new(blocks: u32) -> Arena {
        let count = blocks as usize;
        Arena {
            bytes: vec![0; count * BLOCK],
            next: Vec::with_capacity(count),
            free: NONE,
            available: blocks,
        }
    }

    /// Blocks that so many bytes take.
    pub(super) fn blocks_for(len: usize) -> u32 {
        u32::try_from(len.div_ceil(BLOCK)).unwrap_or(NONE)
    }

    /// One more than the highest block that was ever in use.
    pub(super) fn extent(&self) -> usize {
        self.next.len()
    }

    /// How many blocks could be taken.
    pub(super) fn available(&self) -> u32 {
        self.available
    }

    /// Keeps `header` and `data` behind each other; the first block of their chain. `None` if there are
    /// not enough blocks, or nothing to keep: then nothing has changed.
    pub(super) fn store(&mut self, header: &[u8], data: &[u8]) -> Option<u32> {
        let len = header.len() + data.len();
        if len == 0 || Arena::blocks_for(len) > self.available {
            return None;
        }
        let (mut first, mut last) = (NONE, NONE);
        let mut rest = [header, data];
        while !rest.iter().all(|part| part.is_empty()) {
            let block = self.take();
            if last == NONE {
                first = block;
            } else {
                self.next[last as usize] = block;
            }
            last = block;
            let mut space = self.block_mut(block);
            for part in &mut rest {
                let taken = part.len().min(space.len());
                let (now, later) = part.split_at(taken);
                let (place, behind) = space.split_at_mut(taken);
                place.copy_from_slice(now);
                (*part, space) = (later, behind);
            }
        }
        Some(first)
    }

    /// Shows the bytes from `skip` on of a chain, `len` of them, in pieces.
    pub(super) fn read(&self, first: u32, skip: usize, len: usize, mut show: impl FnMut(&[u8])) {
        let (mut block, mut skip, mut len) = (first, skip, len);
        while len != 0 && block != NONE {
            let bytes = self.block(block);
            let start = skip.min(bytes.len());
            let end = bytes.len().min(start + len);
            show(&bytes[start..end]);
            len -= end - start;
            skip -= start;
            block = self.next[block as usize];
        }
    }

    /// Copies bytes of a chain.
    pub(super) fn copy(&self, first: u32, skip: usize, to: &mut [u8]) {
        let mut filled = 0;
        self.read(first, skip, to.len(), |piece| {
            to[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
        });
    }

    /// Whether these bytes stand in a chain from `skip` on.
    pub(super) fn holds(&self, first: u32, skip: usize, bytes: &[u8]) -> bool {
        let (mut compared, mut same) = (0, true);
        self.read(first, skip, bytes.len(), |piece| {
            same &= bytes[compared..].starts_with(piece);
            compared += piece.len();
        });
        same && compared == bytes.len()
    }

    /// Gives a chain back.
    pub(super) fn free(&mut self, first: u32) {
        let mut block = first;
        while block != NONE {
            let next = std::mem::replace(&mut self.next[block as usize], self.free);
            self.free = block;
            self.available += 1;
            block = next;
        }
    }

    /// A block that is nobody's. The caller has seen that there is one.
    fn take(&mut self) -> u32 {
        self.available -= 1;
        let block = self.free;
        if block == NONE {
            let fresh = u32::try_from(self.next.len()).unwrap_or(NONE);
            self.next.push(NONE);
            return fresh;
        }
        self.free = std::mem::replace(&mut self.next[block as usize], NONE);
        block
    }

    fn block(&self, block: u32) -> &[u8] {
        let start = block as usize * BLOCK;
        &self.bytes[start..start + BLOCK]
    }

    fn block_mut(&mut self, block: u32) -> &mut [u8] {
        let start = block as usize * BLOCK;
        &mut self.bytes[start..start + BLOCK]
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{Arena, BLOCK, NONE};

    proptest! {
        #[test]
        fn chains_hold_what_was_stored_and_every_block_comes_back(
            actions in vec((any::<bool>(), 0_usize..60, 0_usize..5 * BLOCK, any::<u8>()), 1..60),
        ) {
            let mut arena = Arena::new(24);
            let mut kept: Vec<(u32, Vec<u8>, Vec<u8>)> = Vec::new();
            for (stores, header, data, fill) in actions {
                if stores {
                    let (header, data) = (vec![!fill; header], vec![fill; data]);
                    let need = Arena::blocks_for(header.len() + data.len());
                    let before = arena.available();
                    match arena.store(&header, &data) {
                        Some(first) => {
                            prop_assert_eq!(arena.available(), before - need);
                            kept.push((first, header, data));
                        }
                        None => {
                            prop_assert!(need == 0 || need > before);
                            prop_assert_eq!(arena.available(), before);
                        }
                    }
                } else if !kept.is_empty() {
                    let (first, ..) = kept.remove(data % kept.len());
                    arena.free(first);
                }
                for (first, header, data) in &kept {
                    prop_assert!(arena.holds(*first, 0, header));
                    prop_assert!(arena.holds(*first, header.len(), data));
                    let mut copy = vec![0; data.len()];
                    arena.copy(*first, header.len(), &mut copy);
                    prop_assert_eq!(&copy, data);
                }
            }
            for (first, ..) in kept {
                arena.free(first);
            }
            prop_assert_eq!(arena.available(), 24);
        }
    }

    #[test]
    fn other_bytes_are_not_held() {
        let mut arena = Arena::new(3);
        let data: Vec<u8> = (0..5000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let first = arena.store(&[1, 2, 3], &data).unwrap();
        assert_eq!(arena.store(&[1], &[]), None);
        assert!(arena.holds(first, 3, &data));
        for place in [0, 2044, 2045, 4999] {
            let mut other = data.clone();
            other[place] ^= 1;
            assert!(!arena.holds(first, 3, &other), "{place}");
        }
        assert!(!arena.holds(first, 4, &data));
        assert!(!arena.holds(first, 0, &[0; 3 * BLOCK + 1]));
        arena.free(first);
        assert_eq!(
            (
                arena.available(),
                arena.next.iter().filter(|&&next| next == NONE).count()
            ),
            (3, 1)
        );
    }

    #[test]
    fn what_was_in_use_is_used_first() {
        let mut arena = Arena::new(1000);
        for _ in 0..100 {
            let first = arena.store(&[], &[7; BLOCK * 2]).unwrap();
            arena.free(first);
        }
        assert_eq!(arena.extent(), 2);
    }
}
