//! A packet socket: the switch's end of a veth pair, or a host interface.
//!
//! The ring has one reader, worker 0 unless told otherwise; every worker sends.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use heddle_sys::packet::{PacketError, PacketFault, PacketSender, PacketSocket};

use super::{BURST_BYTES, Burst, Drained, TransmitError};

/// A packet socket that one worker reads and all workers write.
#[derive(Debug)]
pub struct PacketEndpoint {
    owner: usize,
    sender: PacketSender,
    /// Only the owner takes this lock while frames flow; the control plane takes it to count losses.
    socket: Mutex<PacketSocket>,
}

impl PacketEndpoint {
    /// An endpoint over a bound socket, read by worker `owner`.
    ///
    /// # Errors
    ///
    /// Out of file descriptors: sending uses one of its own.
    pub fn new(socket: PacketSocket, owner: usize) -> Result<PacketEndpoint, PacketError> {
        let sender = socket.sender()?;
        Ok(PacketEndpoint {
            owner,
            sender,
            socket: Mutex::new(socket),
        })
    }

    /// The socket's descriptor.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.sender.as_fd()
    }

    pub(super) fn readable(&self, worker: usize) -> Option<BorrowedFd<'_>> {
        (worker == self.owner).then(|| self.sender.as_fd())
    }

    pub(super) fn receive(
        &self,
        worker: usize,
        process: &mut dyn FnMut(&mut Burst<'_>),
    ) -> Drained {
        if worker != self.owner {
            return Drained::Yes;
        }
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let mut frames = socket.frames();
        let mut burst = Burst::new();
        let mut bytes = 0;
        let mut end = Drained::Yes;
        for frame in frames.iter_mut() {
            bytes += frame.len();
            burst.push(frame);
            if burst.is_full() || bytes >= BURST_BYTES {
                end = Drained::No;
                break;
            }
        }
        if !burst.is_empty() {
            process(&mut burst);
            return end;
        }
        drop(burst);
        drop(frames);
        // Ready without a frame: the interface was set down, or is gone.
        match socket.take_fault() {
            Ok(Some(PacketFault::Gone)) | Err(_) => Drained::Gone,
            Ok(Some(PacketFault::Down)) => Drained::Down,
            Ok(None) => Drained::Yes,
        }
    }

    pub(super) fn transmit(&self, frame: &[u8]) -> Result<(), TransmitError> {
        match self.sender.send(frame) {
            Ok(_) => Ok(()),
            Err(error) => Err(TransmitError::from(error)),
        }
    }

    pub(super) fn lost(&self) -> u64 {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.dropped()
    }
}
