//! What keeper and daemon say to each other: JSON, one message a datagram, with descriptors.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use heddle_sys::fdpass;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::api::ApiError;
use crate::plumb::{Job, Manifest};

/// Octets of the longest message.
const MESSAGE_SPACE: usize = 128 << 10;

/// What a set of held descriptors is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// Its name: one that is held again replaces the one before.
    pub key: String,
    /// What the descriptors are.
    pub manifest: Manifest,
    /// What the daemon wants to know again.
    pub record: serde_json::Value,
}

/// From the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Do this in a child, and answer [`Reply::Done`] with the number.
    Run {
        /// Number of the request.
        number: u64,
        /// What to do.
        job: Job,
    },
    /// Hold the descriptors that come with this.
    Hold(Note),
    /// Let go of what is held under this key.
    Release(String),
    /// The daemon has started well.
    Ready,
    /// The daemon is about to end on purpose.
    Goodbye,
}

/// From the keeper, or from one of its children.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Reply {
    /// What became of a job; descriptors come with it.
    Done {
        /// Number of the request.
        number: u64,
        /// What they are, or why there are none.
        outcome: Result<Manifest, ApiError>,
    },
    /// Something that a former daemon left behind; descriptors come with it.
    Held(Note),
    /// That was all.
    HeldAll,
}

/// Something that a former daemon left behind.
#[derive(Debug)]
pub struct Held {
    /// What it is.
    pub note: Note,
    /// Its descriptors.
    pub descriptors: Vec<OwnedFd>,
}

/// Sends a message.
pub(crate) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    fdpass::send(socket, &serde_json::to_vec(message)?, descriptors)?;
    Ok(())
}

/// Receives a message; `None` at the end of the conversation.
///
/// A message whose descriptors this process has no room for comes without any. How many there should
/// be is in its manifest.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut space = vec![0; MESSAGE_SPACE];
    let received = fdpass::receive(socket, &mut space, fdpass::MAX_FDS)?;
    if received.len == 0 {
        return Ok(None);
    }
    if received.truncated {
        let problem = "a message was cut off";
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    let message = serde_json::from_slice(&space[..received.len])?;
    let descriptors = if received.fds_truncated {
        Vec::new()
    } else {
        received.fds
    };
    Ok(Some((message, descriptors)))
}
