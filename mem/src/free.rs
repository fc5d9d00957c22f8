//! Numbers handed out and taken back: the lowest never used one, or the last one returned.

use std::io;

use crate::segments::Segments;

/// Returned numbers in the first chunk of the stack, one page of them.
const FIRST_CHUNK: u32 = 1_024;

/// The numbers below [`extent`](Self::extent) that nobody holds, last returned on top: its memory is
/// the likeliest to be in a cache.
///
/// A stack beside the things numbered, not a list through them: a thing that is free keeps all its
/// bytes zero, and a reader that still stands in it finds no link to follow. Four bytes a number, and
/// only for as many as were ever free at once.
#[derive(Debug)]
pub(crate) struct FreeList {
    stack: Segments<u32>,
    free: u32,
    extent: u32,
}

impl FreeList {
    pub(crate) fn new() -> Self {
        Self {
            stack: Segments::new(FIRST_CHUNK),
            free: 0,
            extent: 0,
        }
    }

    /// Numbers ever handed out: all are below this.
    pub(crate) fn extent(&self) -> u32 {
        self.extent
    }

    /// Numbers now in somebody's hands.
    pub(crate) fn held(&self) -> u32 {
        self.extent - self.free
    }

    /// A number returned before.
    pub(crate) fn reuse(&mut self) -> Option<u32> {
        let top = self.free.checked_sub(1)?;
        self.free = top;
        self.stack.get(top).copied()
    }

    /// A number never handed out before. Memory to take it back later is set aside now, so that giving
    /// back cannot fail.
    pub(crate) fn extend(&mut self) -> io::Result<u32> {
        let number = self.extent;
        self.stack.ensure(number)?;
        self.extent = number.checked_add(1).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(number)
    }

    /// Takes `number` back. The caller hands back only what it was given, once.
    pub(crate) fn give_back(&mut self, number: u32) {
        debug_assert!(
            self.free < self.extent,
            "more numbers came back than went out"
        );
        if let Some(top) = self.stack.get_mut(self.free) {
            *top = number;
            self.free += 1;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::FreeList;

    #[test]
    fn the_last_number_returned_is_the_first_reused() {
        let mut list = FreeList::new();
        let numbers: Vec<u32> = (0..3).map(|_| list.extend().unwrap()).collect();
        assert_eq!(numbers, [0, 1, 2]);
        list.give_back(0);
        list.give_back(2);
        assert_eq!((list.held(), list.extent()), (1, 3));
        assert_eq!(list.reuse(), Some(2));
        assert_eq!(list.reuse(), Some(0));
        assert_eq!(list.reuse(), None);
        assert_eq!(list.extend().unwrap(), 3);
    }
}
