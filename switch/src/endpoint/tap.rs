//! A TAP interface in a sandbox: one queue, and so one descriptor, for each worker.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use heddle_sys::tap::{self, Offloads};
use heddle_wire::VNET_HEADER_LEN;

use super::{Arena, Burst, Drained, TransmitError, transmit_plain};

/// The queues of a TAP.
///
/// Worker *n* reads and writes queue *n*. With fewer queues than workers the others write on the
/// first one, which the kernel permits to any number of threads.
#[derive(Debug)]
pub struct TapEndpoint {
    queues: Vec<OwnedFd>,
    offloads: Offloads,
    /// Whether the descriptors carry a virtio-net header.
    has_header: bool,
}

impl TapEndpoint {
    /// An endpoint over the queues of one TAP, non-blocking. `None` without any queue.
    #[must_use]
    pub fn new(queues: Vec<OwnedFd>, offloads: Offloads, has_header: bool) -> Option<TapEndpoint> {
        (!queues.is_empty()).then_some(TapEndpoint {
            queues,
            offloads,
            has_header,
        })
    }

    /// The queues' descriptors.
    pub fn queues(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.queues.iter().map(AsFd::as_fd)
    }

    pub(super) fn readable(&self, worker: usize) -> Option<BorrowedFd<'_>> {
        self.queues.get(worker).map(AsFd::as_fd)
    }

    pub(super) fn describe(&self) -> String {
        let header = if self.has_header {
            ""
        } else {
            ", no virtio-net header"
        };
        format!(
            "tap, {} queues, offloads {}{header}",
            self.queues.len(),
            self.offloads
        )
    }

    pub(super) fn receive(
        &self,
        worker: usize,
        arena: &mut Arena,
        process: &mut dyn FnMut(&mut Burst<'_>),
    ) -> Drained {
        let Some(queue) = self.queues.get(worker) else {
            return Drained::Yes;
        };
        let mut end = Drained::Yes;
        let mut burst = Burst::new();
        let ended = arena.fill(&mut burst, |space| match self.read(queue.as_fd(), space) {
            Ok(len) => Some(len),
            Err(error) => {
                end = match error.kind() {
                    io::ErrorKind::WouldBlock => Drained::Yes,
                    // Frames may be left that no new readiness will tell of.
                    io::ErrorKind::Interrupted => Drained::No,
                    _ => Drained::Gone,
                };
                None
            }
        });
        if !ended {
            end = Drained::No;
        }
        if !burst.is_empty() {
            process(&mut burst);
        }
        end
    }

    fn read(&self, queue: BorrowedFd<'_>, space: &mut [u8]) -> io::Result<usize> {
        if self.has_header {
            return tap::read(queue, space);
        }
        let (header, frame) = space.split_at_mut(VNET_HEADER_LEN);
        header.fill(0);
        Ok(tap::read(queue, frame)? + VNET_HEADER_LEN)
    }

    pub(super) fn transmit(&self, worker: usize, frame: &[u8]) -> Result<(), TransmitError> {
        let queue = self.queues.get(worker).unwrap_or(&self.queues[0]).as_fd();
        let write = |bytes: &[u8]| match tap::write(queue, bytes) {
            Ok(_) => Ok(()),
            Err(error) => Err(TransmitError::from(error)),
        };
        if self.has_header {
            write(frame)
        } else {
            transmit_plain(frame, write)
        }
    }
}
