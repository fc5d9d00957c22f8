//! The memory of one burst.

use super::{BURST_BYTES, Burst, FRAME_SPACE};

/// A worker's receive memory, filled from the front by one burst and empty again after it.
///
/// Frames lie behind each other instead of in slots of the largest size, so that a burst of
/// small ones stays within a few pages.
#[derive(Debug)]
pub struct Arena {
    bytes: Box<[u8]>,
}

/// Frames begin at multiples of this from the first, a cache line: so the headers of each lie in one or
/// two lines, and the IP header, behind a virtio-net header of 10 and an Ethernet header of 14 octets,
/// stands at a multiple of 8.
const ALIGNMENT: usize = 64;

impl Arena {
    /// Memory for one burst. It takes address space; pages are touched as frames need them.
    #[must_use]
    pub fn new() -> Arena {
        Arena {
            bytes: vec![0; BURST_BYTES + FRAME_SPACE].into_boxed_slice(),
        }
    }

    /// Lets `read` fill space after space, each large enough for any frame, until it returns `None`
    /// or the burst is full. `read` returns how many octets it has written.
    ///
    /// Fills `burst`, which is empty before, with the frames. Returns whether `read` ended it.
    pub fn fill<'a>(
        &'a mut self,
        burst: &mut Burst<'a>,
        mut read: impl FnMut(&mut [u8]) -> Option<usize>,
    ) -> bool {
        let mut rest = &mut self.bytes[..];
        while rest.len() >= FRAME_SPACE && !burst.is_full() {
            let Some(len) = read(&mut rest[..FRAME_SPACE]) else {
                return true;
            };
            let (frame, behind) =
                rest.split_at_mut(len.next_multiple_of(ALIGNMENT).min(rest.len()));
            rest = behind;
            burst.push(&mut frame[..len]);
        }
        false
    }
}

impl Default for Arena {
    fn default() -> Arena {
        Arena::new()
    }
}
