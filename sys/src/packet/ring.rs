//! The receive ring: memory shared with the kernel, in which frames are read where they arrive.
//!
//! # Theory of operation
//!
//! The ring is a row of slots of equal size. A slot's first word says whose it is: *kernel* (zero)
//! or *user*. The kernel fills slots in order, handing each over by setting that word last; the
//! reader follows in the same order and hands them back. When the kernel comes to a slot that was
//! not handed back, it drops the frame and counts it.
//!
//! A slot, with the offsets that the kernel chooses on every architecture:
//!
//! ```text
//! 0        32          52      80           90              104
//! | header | sockaddr  | (free) | virtio-net | Ethernet head | packet ...
//!                        ^ 4 of these take the VLAN tag
//! ```
//!
//! Frames come in two sizes: a packet of the MTU, or a super-frame of up to 64 KiB. Slots for the
//! latter waste memory and thus hold few of the former; this is how it is solved:
//!
//! - [`Layout::Short`]: slots of 2 KiB, 1,024 a block. A longer frame takes a slot as its token and
//!   waits in the socket's own queue (`PACKET_COPY_THRESH`), from where it is copied into a buffer
//!   of this process's (`long.rs`). The queue holds what the socket's receive buffer allows: 4 MiB
//!   without privileges where the host allows it, as Linux 6.18 does, and 208 KiB where it is older.
//! - [`Layout::Long`]: slots of 66 KiB, 31 a block, where that queue would hold too little.
//!
//! Medians of five rounds on two busy x86-64 cores, Linux 6.18 (`cargo bench -p heddle-sys --bench
//! relay veth`); one TCP stream fares the same with all of them:
//!
//! | ring | memory | 64-byte frames, as fast as possible | lost of bursts of 500 |
//! |---|---|---|---|
//! | 1 block of short slots | 2 MiB | 93,000 a second arrive, 17 % lost | 7 % |
//! | 2 blocks of short slots | 4 MiB | 97,000, 3 % | 4 % |
//! | 2 blocks of long slots | 4 MiB | 31,000, 81 % | 78 % |
//! | 8 blocks of long slots | 16 MiB | 59,000, 65 % | 48 % |
//!
//! Rejected: version 3 of the ring, which packs frames of any length into blocks but hands a block
//! over when it is full or a timer of at least a millisecond fires; two sockets for the two sizes,
//! which would put the frames of one flow out of order.
//!
//! A block of 2 MiB, because the kernel allocates a block as one power of two of pages: a long slot
//! as a block of its own would take 128 KiB. If memory is fragmented the kernel falls back to single
//! pages.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::long::{self, LongFrames};
use super::uapi::{
    PACKET_RX_RING, RingRequest, SLOT_HEADER_LENGTH, SlotHeader, TP_STATUS_COPY, TP_STATUS_KERNEL,
    TP_STATUS_USER, VlanTag,
};
use crate::sockopt;
use crate::tap::{MAX_FRAME_LENGTH, VNET_HEADER_LENGTH};

/// Bytes of memory that a block of slots takes.
pub const BLOCK_SIZE: u32 = 2 << 20;

/// The most blocks of one ring.
const MAX_BLOCKS: u32 = 64;

/// Bytes asked for in front of a frame besides those the kernel leaves anyway. With 14 the packet
/// begins at offset 104, on an eight-byte boundary, and the VLAN tag has room on any kernel.
pub(super) const RESERVE: libc::c_int = 14;

const ETHERNET_ADDRESSES: usize = 12;
pub(super) const VLAN_TAG_LENGTH: usize = 4;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: `csum_start` means something.
const NEEDS_CHECKSUM: u8 = 1;
// Offsets within the virtio-net header.
const FLAGS: usize = 0;
const GSO_TYPE: usize = 1;
const HEADER_LENGTH: usize = 2;
const CHECKSUM_START: usize = 6;

/// How a ring's memory is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Slots for packets of an ordinary MTU; longer frames wait in the socket's queue.
    Short,
    /// Slots for super-frames.
    Long,
}

impl Layout {
    /// Slots of one block.
    #[must_use]
    pub const fn slots_per_block(self) -> u32 {
        match self {
            Self::Short => 1024,
            Self::Long => 31,
        }
    }

    /// Bytes of a slot, a multiple of `TPACKET_ALIGNMENT` (16).
    const fn slot_size(self) -> u32 {
        BLOCK_SIZE / self.slots_per_block() / 16 * 16
    }
}

/// Where the packet behind an untagged Ethernet header begins in a slot.
const PACKET_OFFSET: u32 = 104;

const _: () =
    assert!(PACKET_OFFSET as usize + MAX_FRAME_LENGTH <= Layout::Long.slot_size() as usize);
const _: () = assert!(PACKET_OFFSET + 1500 + 8 <= Layout::Short.slot_size());

/// A ring and the mapping of it into this process.
#[derive(Debug)]
pub(super) struct Ring {
    memory: NonNull<SlotHeader>,
    layout: Layout,
    blocks: u32,
    /// The slot that the kernel hands over next.
    next: Place,
    /// Frames that the kernel had to cut, since there was no room for the rest.
    cut: u64,
}

/// A slot: its block, and its number there. Kept apart because a block's slots need not fill it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    block: u32,
    slot: u32,
}

// SAFETY: the mapping belongs to the process, not to a thread, and `Ring` is its only owner.
unsafe impl Send for Ring {}

impl Ring {
    /// Gives the socket a ring and maps it. The socket must have none.
    ///
    /// The kernel waits for an RCU grace period here (8 to 20 ms on an idle machine).
    pub(super) fn build(socket: BorrowedFd<'_>, layout: Layout, blocks: u32) -> io::Result<Self> {
        let blocks = blocks.clamp(1, MAX_BLOCKS);
        let request = RingRequest {
            block_size: BLOCK_SIZE,
            block_count: blocks,
            slot_size: layout.slot_size(),
            slot_count: blocks * layout.slots_per_block(),
        };
        sockopt::set(socket, libc::SOL_PACKET, PACKET_RX_RING, &request)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use. Its
        // length is what the ring has; the kernel refuses any other. `unsafe` is needed because
        // reading in place means pointers into memory that somebody else writes.
        let memory = unsafe {
            mmap(
                std::ptr::null_mut(),
                mapping_length(blocks),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                socket,
                0,
            )
        }?;
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let next = Place { block: 0, slot: 0 };
        Ok(Self {
            memory,
            layout,
            blocks,
            next,
            cut: 0,
        })
    }

    /// Takes the ring away from the socket. EBUSY while any process has it mapped.
    pub(super) fn tear_down(socket: BorrowedFd<'_>) -> io::Result<()> {
        let nothing = RingRequest {
            block_size: 0,
            block_count: 0,
            slot_size: 0,
            slot_count: 0,
        };
        sockopt::set(socket, libc::SOL_PACKET, PACKET_RX_RING, &nothing)
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    pub(super) fn slots(&self) -> u32 {
        self.blocks * self.layout.slots_per_block()
    }

    pub(super) fn cut(&self) -> u64 {
        self.cut
    }

    /// Where a slot begins.
    fn header(&self, Place { block, slot }: Place) -> NonNull<SlotHeader> {
        let offset =
            widen(block) * widen(BLOCK_SIZE) + widen(slot) * widen(self.layout.slot_size());
        // SAFETY: a `Place` is only made by `build` and `after`, which keep it below the numbers of
        // blocks and slots, so that it lies within the mapping.
        unsafe { self.memory.byte_add(offset) }
    }

    fn after(&self, Place { block, slot }: Place) -> Place {
        if slot + 1 < self.layout.slots_per_block() {
            Place {
                block,
                slot: slot + 1,
            }
        } else if block + 1 < self.blocks {
            Place {
                block: block + 1,
                slot: 0,
            }
        } else {
            Place { block: 0, slot: 0 }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `build`, with its length. Every slice into it borrowed this
        // ring and is gone. Failure is impossible for a whole mapping and would only leak it.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), mapping_length(self.blocks)) };
    }
}

/// Frames of one burst, read where they arrived.
///
/// [`iter_mut`](Self::iter_mut) walks the slots that the kernel has handed over and takes them one
/// by one. All slices may be held together, and are writable; each begins with the virtio-net
/// header, directly followed by the Ethernet frame. Dropping this value gives every slot that was
/// taken back to the kernel, in order. Slots not taken keep their frames for the next burst.
#[derive(Debug)]
pub struct Frames<'ring> {
    ring: &'ring mut Ring,
    long: &'ring mut LongFrames,
    socket: BorrowedFd<'ring>,
    /// The slot after the last one taken.
    head: Place,
    /// How many slots are ours: those from `ring.next` up to `head`.
    taken: u32,
}

impl<'ring> Frames<'ring> {
    pub(super) fn new(
        ring: &'ring mut Ring,
        long: &'ring mut LongFrames,
        socket: BorrowedFd<'ring>,
    ) -> Self {
        let head = ring.next;
        Self {
            ring,
            long,
            socket,
            head,
            taken: 0,
        }
    }

    /// Walks on from the slot after the last one taken. Ends when no further frame has arrived, when
    /// every slot of the ring is taken, or when every buffer for long frames is in use; so that only
    /// a burst that begins with the end tells that nothing more has arrived.
    pub fn iter_mut(&mut self) -> FramesIter<'_> {
        FramesIter {
            ring: self.ring,
            long: self.long.iter_mut(),
            socket: self.socket,
            head: &mut self.head,
            taken: &mut self.taken,
        }
    }

    /// How many slots this burst holds, also those whose frame was cut.
    #[must_use]
    pub fn taken(&self) -> u32 {
        self.taken
    }
}

impl<'burst> IntoIterator for &'burst mut Frames<'_> {
    type Item = &'burst mut [u8];
    type IntoIter = FramesIter<'burst>;

    fn into_iter(self) -> FramesIter<'burst> {
        self.iter_mut()
    }
}

impl Drop for Frames<'_> {
    fn drop(&mut self) {
        for _ in 0..self.taken {
            let slot = self.ring.header(self.ring.next);
            // SAFETY: `slot` is a slot's beginning within the mapping, aligned to 16. No slice into
            // it is left: each borrowed this value.
            let status = unsafe { AtomicU32::from_ptr(&raw mut (*slot.as_ptr()).status) };
            // Release: what we wrote into the slot comes before the kernel's next use of it.
            status.store(TP_STATUS_KERNEL, Ordering::Release);
            self.ring.next = self.ring.after(self.ring.next);
        }
    }
}

/// The walk over a burst; see [`Frames::iter_mut`].
#[derive(Debug)]
pub struct FramesIter<'burst> {
    ring: &'burst mut Ring,
    long: long::Buffers<'burst>,
    socket: BorrowedFd<'burst>,
    head: &'burst mut Place,
    taken: &'burst mut u32,
}

impl<'burst> Iterator for FramesIter<'burst> {
    type Item = &'burst mut [u8];

    fn next(&mut self) -> Option<&'burst mut [u8]> {
        // A slot that we hold still says *user*, so that going round must end here.
        while *self.taken < self.ring.slots() {
            let slot = self.ring.header(*self.head);
            // SAFETY: `slot` is a slot's beginning within the mapping, aligned to 16. The kernel
            // writes this word too, hence the atomic.
            let status = unsafe { AtomicU32::from_ptr(&raw mut (*slot.as_ptr()).status) };
            // Acquire: the frame was written before the word was.
            let status = status.load(Ordering::Acquire);
            if status & TP_STATUS_USER == 0 {
                return None;
            }
            let frame = if status & TP_STATUS_COPY == 0 {
                // SAFETY: the slot was handed over and is counted as taken below. Thus nobody else
                // touches it until `Frames`, which `'burst` borrows, gives it back; and this walk
                // never comes to it again, so that the slices are disjoint.
                unsafe { frame_of(slot, status, self.ring.layout) }
            } else {
                // The slot stays for the next burst if there is no buffer.
                self.long.next()?.receive(self.socket)
            };
            *self.head = self.ring.after(*self.head);
            *self.taken += 1;
            match frame {
                Some(frame) => return Some(frame),
                None => self.ring.cut += 1,
            }
        }
        None
    }
}

/// The frame in `slot`, virtio-net header first, the VLAN tag in its place. Nothing if the kernel
/// had to cut it.
///
/// # Safety
///
/// `slot` is the beginning of a slot within a live mapping, which nobody else reads or writes during
/// `'burst`.
unsafe fn frame_of<'burst>(
    slot: NonNull<SlotHeader>,
    status: u32,
    layout: Layout,
) -> Option<&'burst mut [u8]> {
    // SAFETY: a slot begins with this header, and is ours alone by the caller's word.
    let header = unsafe { slot.read() };
    let captured = widen(header.captured);
    let link_layer = usize::from(header.link_layer);
    let begin = link_layer.checked_sub(VNET_HEADER_LENGTH + VLAN_TAG_LENGTH)?;
    let end = link_layer + captured;
    // The kernel never breaks the first two rules; they are checked because all that follows rests
    // on them.
    if begin < SLOT_HEADER_LENGTH
        || end > widen(layout.slot_size())
        || header.captured < header.length
    {
        return None;
    }
    // SAFETY: from behind the slot's header to at most the slot's end (checked above), ours alone by
    // the caller's word. Every byte is initialised: the kernel clears a ring when it makes it.
    let room =
        unsafe { slice::from_raw_parts_mut(slot.as_ptr().cast::<u8>().add(begin), end - begin) };
    let tag = VlanTag::of(status, header.vlan_tag, header.vlan_protocol);
    with_tag(room, tag)
}

/// Puts a VLAN tag back where the kernel took it from, and returns the frame with its virtio-net
/// header. `room` is that frame with four free bytes in front.
///
/// Header and addresses move into the free bytes, and the virtio-net header's offsets grow by as
/// much: the kernel counts them from the frame's beginning.
pub(super) fn with_tag(room: &mut [u8], tag: Option<VlanTag>) -> Option<&mut [u8]> {
    const MOVED: usize = VNET_HEADER_LENGTH + ETHERNET_ADDRESSES;
    let Some(VlanTag { protocol, tag }) = tag else {
        return room.get_mut(VLAN_TAG_LENGTH..);
    };
    if room.len() < VLAN_TAG_LENGTH + MOVED {
        return None;
    }
    room.copy_within(VLAN_TAG_LENGTH..VLAN_TAG_LENGTH + MOVED, 0);
    room[MOVED..MOVED + 2].copy_from_slice(&protocol.to_be_bytes());
    room[MOVED + 2..MOVED + 4].copy_from_slice(&tag.to_be_bytes());
    if room[FLAGS] & NEEDS_CHECKSUM != 0 {
        grow(&mut room[CHECKSUM_START..CHECKSUM_START + 2]);
    }
    if room[GSO_TYPE] != 0 {
        grow(&mut room[HEADER_LENGTH..HEADER_LENGTH + 2]);
    }
    Some(room)
}

/// Adds the tag's length to a field in the kernel's byte order.
fn grow(field: &mut [u8]) {
    let value = u16::from_ne_bytes([field[0], field[1]]);
    let grown = value.saturating_add(4);
    field.copy_from_slice(&grown.to_ne_bytes());
}

fn mapping_length(blocks: u32) -> usize {
    widen(blocks) * widen(BLOCK_SIZE)
}

fn widen(number: u32) -> usize {
    usize::try_from(number).expect("a pointer has at least 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: VlanTag = VlanTag {
        protocol: 0x88a8,
        tag: 0x6123,
    };

    #[test]
    fn a_restored_tag_stands_behind_the_addresses_and_shifts_the_offsets() {
        let mut room = vec![0xee; VLAN_TAG_LENGTH];
        // NEEDS_CSUM, TCPv4, header length 54, size 1448, checksum at 34 + 16.
        room.extend([1, 1]);
        for field in [54_u16, 1448, 34, 16] {
            room.extend(field.to_ne_bytes());
        }
        room.extend((1..=12).chain([0x08, 0x00, 0x45]));

        let frame = with_tag(&mut room, Some(TAG)).unwrap();

        assert_eq!(frame[..2], [1, 1]);
        for (place, field) in [(2, 58_u16), (4, 1448), (6, 38), (8, 16)] {
            assert_eq!(frame[place..place + 2], field.to_ne_bytes());
        }
        let ethernet: Vec<u8> = (1..=12)
            .chain([0x88, 0xa8, 0x61, 0x23, 0x08, 0x00, 0x45])
            .collect();
        assert_eq!(frame[10..], ethernet);
    }

    #[test]
    fn offsets_that_mean_nothing_are_left_alone() {
        let mut room = [0_u8; VLAN_TAG_LENGTH + VNET_HEADER_LENGTH + 14];
        let frame = with_tag(&mut room, Some(TAG)).unwrap();
        assert_eq!(frame[..VNET_HEADER_LENGTH], [0; VNET_HEADER_LENGTH]);
        assert_eq!(frame[22..26], [0x88, 0xa8, 0x61, 0x23]);
    }

    #[test]
    fn without_a_tag_nothing_moves() {
        let mut room: Vec<u8> = (0..40).collect();
        let frame = with_tag(&mut room, None).unwrap();
        assert_eq!(*frame, (4..40).collect::<Vec<u8>>());
    }

    #[test]
    fn a_frame_too_short_for_a_tag_is_none() {
        let mut room = [0; VLAN_TAG_LENGTH + VNET_HEADER_LENGTH + ETHERNET_ADDRESSES - 1];
        assert!(with_tag(&mut room, Some(TAG)).is_none());
        assert!(with_tag(&mut room[..3], None).is_none());
    }
}
