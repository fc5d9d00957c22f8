//! The signals by which the keeper is told to end.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use heddle_sys::process::{self, Signal};
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};

/// A descriptor that is readable when a signal has come.
#[derive(Debug)]
pub(super) struct Signals {
    came: UnixStream,
    actions: Vec<SigId>,
}

impl Signals {
    /// Handles them from now on.
    pub(super) fn handle() -> io::Result<Signals> {
        let (came, from_handler) = UnixStream::pair()?;
        came.set_nonblocking(true)?;
        let actions = [SIGTERM, SIGINT]
            .into_iter()
            .map(|signal| pipe::register(signal, from_handler.try_clone()?))
            .collect::<io::Result<_>>()?;
        Ok(Signals { came, actions })
    }

    /// Whether one has come since the last time.
    pub(super) fn take(&self) -> bool {
        matches!((&self.came).read(&mut [0; 16]), Ok(1..))
    }

    /// In a daemon: the signals that it gets are its own affair, and nothing is written to the
    /// keeper any more. Until it has said what is to become of them they are ignored; their default
    /// action must not come back, or handlers that are added later would never be called.
    pub(super) fn leave_to_daemon(&mut self) {
        for action in self.actions.drain(..) {
            unregister(action);
        }
    }

    /// In a child that does a job: they end it.
    pub(super) fn end_child() {
        for signal in [Signal::TERM, Signal::INT] {
            // Fails for no signal that exists.
            let _ = process::restore_default_action(signal);
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.came.as_fd()
    }
}
