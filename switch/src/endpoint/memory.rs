//! A link in memory: two bounded queues of frames, for tests, benches and fuzzing.
//!
//! It can do what a real link can: be full, refuse frames, and go away.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Arena, Burst, Drained, TransmitError, transmit_plain};

/// One direction of the link.
#[derive(Debug)]
struct Queue {
    frames: Mutex<Frames>,
    capacity: usize,
    /// Frames that found it full.
    lost: AtomicU64,
    /// Whether frames are refused that there is room for.
    refuses: AtomicBool,
    /// Whether one of the ends is gone.
    is_gone: AtomicBool,
}

/// Frames on their way, and the memory of those that have arrived: a link does not allocate once it has
/// been full, or it would cost more than what is at its ends.
#[derive(Debug, Default)]
struct Frames {
    waiting: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl Frames {
    fn push(&mut self, frame: &[u8]) {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(frame);
        self.waiting.push_back(bytes);
    }

    /// Shows the first and takes it away.
    fn pop<T>(&mut self, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let bytes = self.waiting.pop_front()?;
        let seen = look(&bytes);
        self.spare.push(bytes);
        Some(seen)
    }
}

impl Queue {
    fn new(capacity: usize) -> Arc<Queue> {
        Arc::new(Queue {
            frames: Mutex::default(),
            capacity,
            lost: AtomicU64::new(0),
            refuses: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, frame: &[u8]) -> Result<(), TransmitError> {
        if self.is_gone.load(Ordering::Relaxed) {
            return Err(TransmitError::Gone);
        }
        if self.refuses.load(Ordering::Relaxed) {
            return Err(TransmitError::Failed);
        }
        let mut frames = self.lock();
        if frames.waiting.len() >= self.capacity {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return Err(TransmitError::Full);
        }
        frames.push(frame);
        Ok(())
    }
}

/// The switch's end of a link in memory.
#[derive(Debug)]
pub struct MemoryEndpoint {
    incoming: Arc<Queue>,
    outgoing: Arc<Queue>,
    /// Whether the other end takes super-frames and partial checksums.
    takes_offloads: bool,
    /// The one worker that reads it, as with a packet socket; all of them if there is none.
    reader: Option<usize>,
}

/// The other end.
#[derive(Clone, Debug)]
pub struct MemoryPeer {
    incoming: Arc<Queue>,
    outgoing: Arc<Queue>,
}

/// A link whose queues hold `capacity` frames each. Frames carry a virtio-net header in both
/// directions; if the peer does not take offloads, it is always empty on the way out.
#[must_use]
pub fn memory_pair(capacity: usize, takes_offloads: bool) -> (MemoryEndpoint, MemoryPeer) {
    let (incoming, outgoing) = (Queue::new(capacity), Queue::new(capacity));
    let peer = MemoryPeer {
        incoming: outgoing.clone(),
        outgoing: incoming.clone(),
    };
    (
        MemoryEndpoint {
            incoming,
            outgoing,
            takes_offloads,
            reader: None,
        },
        peer,
    )
}

impl MemoryPeer {
    /// Hands the switch a frame, virtio-net header first.
    ///
    /// # Errors
    ///
    /// [`TransmitError::Full`] if the switch has not taken the ones before; it counts the frame as
    /// lost in its receive ring.
    pub fn send(&self, frame: &[u8]) -> Result<(), TransmitError> {
        self.outgoing.push(frame)
    }

    /// The next frame from the switch, virtio-net header first.
    #[must_use]
    pub fn receive(&self) -> Option<Vec<u8>> {
        self.incoming.lock().waiting.pop_front()
    }

    /// Shows the next frame from the switch, virtio-net header first, and takes it away.
    pub fn look<T>(&self, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.incoming.lock().pop(look)
    }

    /// Refuses frames from the switch from now on, as a kernel does that finds fault with them, or
    /// takes them again.
    pub fn refuse(&self, refuses: bool) {
        self.incoming.refuses.store(refuses, Ordering::Relaxed);
    }

    /// Goes away, as a sandbox does that ends. The switch still reads what was sent before.
    pub fn hang_up(&self) {
        self.incoming.is_gone.store(true, Ordering::Relaxed);
        self.outgoing.is_gone.store(true, Ordering::Relaxed);
    }
}

impl MemoryEndpoint {
    /// Has one worker read it, or all: then frames that two workers take at once may pass each other.
    pub fn read_by(&mut self, reader: Option<usize>) {
        self.reader = reader;
    }

    pub(super) fn receive(
        &self,
        worker: usize,
        arena: &mut Arena,
        process: &mut dyn FnMut(&mut Burst<'_>),
    ) -> Drained {
        if self.reader.is_some_and(|reader| reader != worker) {
            return Drained::Yes;
        }
        let mut incoming = self.incoming.lock();
        let mut burst = Burst::new();
        let ended = arena.fill(&mut burst, |space| {
            incoming.pop(|frame| {
                // Longer than any frame can be: cut, like a descriptor would.
                let len = frame.len().min(space.len());
                space[..len].copy_from_slice(&frame[..len]);
                len
            })
        });
        // A frame may be answered to the very port it came from.
        drop(incoming);
        if !burst.is_empty() {
            process(&mut burst);
        }
        if !ended {
            Drained::No
        } else if self.incoming.is_gone.load(Ordering::Relaxed) {
            Drained::Gone
        } else {
            Drained::Yes
        }
    }

    pub(super) fn transmit(&self, frame: &[u8]) -> Result<(), TransmitError> {
        if self.takes_offloads {
            return self.outgoing.push(frame);
        }
        transmit_plain(frame, |plain| {
            let mut bytes = vec![0; heddle_wire::VNET_HEADER_LEN];
            bytes.extend_from_slice(plain);
            self.outgoing.push(&bytes)
        })
    }

    /// Frames of the peer that found its queue full.
    pub(super) fn lost(&self) -> u64 {
        self.incoming.lost.load(Ordering::Relaxed)
    }
}
