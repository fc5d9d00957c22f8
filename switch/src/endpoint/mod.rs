//! Endpoints: what frames come from and go to.
//!
//! All kinds look alike to the worker: a frame is a virtio-net header directly followed by the
//! Ethernet frame, in memory that may be written. Where the other side speaks no such header, the
//! endpoint puts an empty one in front on the way in and finishes checksums and segmentation on the
//! way out.
//!
//! A burst is handed to a closure instead of being returned, because its memory belongs to
//! the endpoint's ring or the worker's arena and is gone after the burst.

mod arena;
mod memory;
mod packet;
mod tap;

use std::io;
use std::os::fd::BorrowedFd;

use arrayvec::ArrayVec;
use heddle_wire::{Summary, VnetHeader, complete_checksum, segment};

pub use arena::Arena;
pub use memory::{MemoryEndpoint, MemoryPeer, memory_pair};
pub use packet::PacketEndpoint;
pub use tap::TapEndpoint;

/// Frames of one burst at most. Enough to hide memory latency behind each other's prefetches; more would only
/// make the first one wait.
pub const BURST_FRAMES: usize = 64;

/// Octets of one burst at most: what still lies in the second-level cache when it is sent.
pub const BURST_BYTES: usize = 256 << 10;

/// The longest frame an endpoint hands over: Ethernet header, two VLAN tags, IPv6 header and its
/// largest payload, virtio-net header included.
pub const FRAME_SPACE: usize = 10 + 14 + 8 + 40 + 65_535;

/// The frames of a burst, each with its virtio-net header.
pub type Burst<'b> = ArrayVec<&'b mut [u8], BURST_FRAMES>;

/// Whether a port may have more frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// All were taken; readiness will tell of new ones.
    Yes,
    /// The burst was full; ask again without waiting.
    No,
    /// The interface was set down. It may be about to be removed, of which readiness will not tell:
    /// ask again in a while.
    Down,
    /// The endpoint is gone and will never be readable again.
    Gone,
}

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransmitError {
    /// No room at the moment.
    Full,
    /// The endpoint is gone.
    Gone,
    /// Refused for another reason.
    Failed,
}

impl From<io::Error> for TransmitError {
    fn from(error: io::Error) -> TransmitError {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => TransmitError::Full,
            // A TAP whose namespace died, or that was set down; an interface that was removed.
            Some(libc::EBADFD | libc::ENODEV | libc::ENXIO | libc::EIO | libc::ENETDOWN) => {
                TransmitError::Gone
            }
            _ => TransmitError::Failed,
        }
    }
}

/// One end of a link.
#[derive(Debug)]
pub enum Endpoint {
    /// A TAP interface in a namespace.
    Tap(TapEndpoint),
    /// A packet socket, on the switch's end of a veth pair or on a host interface.
    Packet(PacketEndpoint),
    /// Two queues in memory.
    Memory(MemoryEndpoint),
}

impl Endpoint {
    /// The descriptor whose readiness tells `worker` of frames; `None` where another worker reads
    /// the endpoint, or where there is no descriptor.
    #[must_use]
    pub fn readable(&self, worker: usize) -> Option<BorrowedFd<'_>> {
        match self {
            Endpoint::Tap(tap) => tap.readable(worker),
            Endpoint::Packet(packet) => packet.readable(worker),
            Endpoint::Memory(_) => None,
        }
    }

    /// Takes waiting frames and shows them to `process`, all at once.
    pub fn receive(
        &self,
        worker: usize,
        arena: &mut Arena,
        process: &mut dyn FnMut(&mut Burst<'_>),
    ) -> Drained {
        match self {
            Endpoint::Tap(tap) => tap.receive(worker, arena, process),
            Endpoint::Packet(packet) => packet.receive(worker, process),
            Endpoint::Memory(memory) => memory.receive(worker, arena, process),
        }
    }

    /// Sends one frame, virtio-net header first.
    ///
    /// # Errors
    ///
    /// [`TransmitError`]; the frame is lost then.
    pub fn transmit(&self, worker: usize, frame: &[u8]) -> Result<(), TransmitError> {
        match self {
            Endpoint::Tap(tap) => tap.transmit(worker, frame),
            Endpoint::Packet(packet) => packet.transmit(frame),
            Endpoint::Memory(memory) => memory.transmit(frame),
        }
    }

    /// Frames that were lost on the way to us so far, because we were too slow.
    #[must_use]
    pub fn lost(&self) -> u64 {
        match self {
            Endpoint::Packet(packet) => packet.lost(),
            Endpoint::Memory(memory) => memory.lost(),
            // A TAP counts them as its own drops, in its namespace.
            Endpoint::Tap(_) => 0,
        }
    }

    /// What the endpoint is, for people: kind and offloads.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Endpoint::Tap(tap) => tap.describe(),
            Endpoint::Packet(_) => "packet".to_owned(),
            Endpoint::Memory(_) => "memory".to_owned(),
        }
    }
}

/// Sends a frame to an endpoint without virtio-net header: checksums complete, super-frames cut.
///
/// Off the fast path on purpose: it copies into memory of its own. All endpoints that we make
/// ourselves speak the header.
fn transmit_plain(
    frame: &[u8],
    mut send: impl FnMut(&[u8]) -> Result<(), TransmitError>,
) -> Result<(), TransmitError> {
    let Some((header, bytes)) = VnetHeader::split(frame) else {
        return Err(TransmitError::Failed);
    };
    if header.gso().is_none() {
        if !header.needs_checksum() {
            return send(bytes);
        }
        let mut copy = bytes.to_vec();
        complete_checksum(&mut copy, &header);
        return send(&copy);
    }
    let summary = Summary::parse(bytes).map_err(|_| TransmitError::Failed)?;
    let mut scratch = vec![0; FRAME_SPACE];
    let mut result = Ok(());
    let cut = segment(bytes, &summary, &header, &mut scratch, &mut |piece| {
        if result.is_ok() {
            result = send(piece);
        }
    });
    cut.map_err(|_| TransmitError::Failed)?;
    result
}
