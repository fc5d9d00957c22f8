//! Frames too long for a slot: from the socket's queue into buffers of this process.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::slice;

use super::ring::{VLAN_TAG_LENGTH, with_tag};
use super::uapi::{AuxiliaryData, PACKET_AUXDATA};
use crate::tap::MAX_FRAME_LENGTH;

/// How many long frames one burst can hold: half a megabyte, twice what a worker takes from a port
/// before it looks at the others.
const BUFFERS: usize = 8;

const BUFFER_SIZE: usize = VLAN_TAG_LENGTH + MAX_FRAME_LENGTH;

/// The buffers of one socket, each made when it is first needed: most ports never see as many long
/// frames at once.
#[derive(Debug, Default)]
pub(super) struct LongFrames([Buffer; BUFFERS]);

#[derive(Debug, Default)]
pub(super) struct Buffer(Option<Box<[u8]>>);

/// The buffers not yet used in a walk.
pub(super) type Buffers<'burst> = slice::IterMut<'burst, Buffer>;

impl LongFrames {
    /// All buffers. What an earlier walk left in them nobody holds any more, or else they could not
    /// be borrowed again.
    pub(super) fn iter_mut(&mut self) -> Buffers<'_> {
        self.0.iter_mut()
    }
}

impl Buffer {
    /// Takes the next frame from the socket's queue, virtio-net header first, the VLAN tag in its
    /// place. Nothing if it was longer than any.
    ///
    /// Two processors may put their slots and their frames into different orders, so that this need
    /// not be the frame of the slot that announced it; nothing but the number of them is taken from
    /// the slots. The frames of one flow come through one processor.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> Option<&mut [u8]> {
        let buffer = self
            .0
            .get_or_insert_with(|| vec![0; BUFFER_SIZE].into_boxed_slice());
        let mut control = Control([0; CONTROL_SIZE]);
        let mut part = libc::iovec {
            iov_base: buffer[VLAN_TAG_LENGTH..].as_mut_ptr().cast(),
            iov_len: BUFFER_SIZE - VLAN_TAG_LENGTH,
        };
        // SAFETY: all zero is a valid `msghdr` without address, parts and control data. It cannot be
        // written out because some C libraries have private padding in it.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = CONTROL_SIZE;
        // SAFETY: the message names one part, the rest of `buffer`, and `control`, both with their
        // lengths; all of them outlive the call. `unsafe` because no wrapper hands over control data
        // of this kind.
        let length =
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        let length = usize::try_from(length).ok()?;
        if message.msg_flags & libc::MSG_TRUNC != 0 {
            return None;
        }
        let tag = control.auxiliary_data().and_then(AuxiliaryData::vlan_tag);
        with_tag(&mut buffer[..VLAN_TAG_LENGTH + length], tag)
    }
}

/// Bytes of one control message with auxiliary data: a header of 16 and 20 of content, aligned to 8.
const CONTROL_SIZE: usize = 40;

/// Room for one control message.
#[repr(C, align(8))]
struct Control([u8; CONTROL_SIZE]);

impl Control {
    /// The auxiliary data, if that is what came. `struct cmsghdr` is a length, a level and a type.
    fn auxiliary_data(&self) -> Option<AuxiliaryData> {
        let field =
            |place: usize| i32::from_ne_bytes([0, 1, 2, 3].map(|byte| self.0[place + byte]));
        if field(8) != libc::SOL_PACKET || field(12) != PACKET_AUXDATA {
            return None;
        }
        AuxiliaryData::parse(&self.0[16..])
    }
}
