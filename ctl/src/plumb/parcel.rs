//! What a plumber sends back: descriptors, and a manifest that says what they are.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use heddle_sys::fdpass;
use heddle_sys::tap::Offloads;
use serde::{Deserialize, Serialize};

use crate::api::{ApiError, EndpointKind};

/// Octets of the largest manifest: an error with a long message.
const MANIFEST_SPACE: usize = 64 << 10;

/// What the descriptors of a parcel are, in their order: `links` queues or one packet socket, then a
/// process if there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What the link is made of.
    pub kind: EndpointKind,
    /// How many of the descriptors are the link's.
    pub links: u16,
    /// Interface that a packet socket is for.
    #[serde(default)]
    pub interface: Option<String>,
    /// Whether a pidfd follows.
    pub process: bool,
    /// Offloads of a TAP.
    #[serde(default)]
    pub offloads: OffloadFlags,
}

impl Manifest {
    /// How many descriptors there are.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::from(self.links) + usize::from(self.process)
    }
}

/// [`Offloads`] on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent capability of the kernel"
)]
pub struct OffloadFlags {
    checksum: bool,
    tso4: bool,
    tso6: bool,
    uso4: bool,
    uso6: bool,
}

impl From<Offloads> for OffloadFlags {
    fn from(offloads: Offloads) -> OffloadFlags {
        let Offloads {
            checksum,
            tso4,
            tso6,
            uso4,
            uso6,
        } = offloads;
        OffloadFlags {
            checksum,
            tso4,
            tso6,
            uso4,
            uso6,
        }
    }
}

impl From<OffloadFlags> for Offloads {
    fn from(flags: OffloadFlags) -> Offloads {
        let OffloadFlags {
            checksum,
            tso4,
            tso6,
            uso4,
            uso6,
        } = flags;
        Offloads {
            checksum,
            tso4,
            tso6,
            uso4,
            uso6,
        }
    }
}

/// The descriptors of a link.
#[derive(Debug)]
pub struct Parcel {
    /// What the link is made of.
    pub kind: EndpointKind,
    /// Queues of a TAP, or one packet socket.
    pub links: Vec<OwnedFd>,
    /// Interface that a packet socket is for.
    pub interface: Option<String>,
    /// Offloads of a TAP.
    pub offloads: Offloads,
    /// The process that the endpoint ends with.
    pub process: Option<OwnedFd>,
}

impl Parcel {
    /// What the descriptors are.
    #[must_use]
    pub fn manifest(&self) -> Manifest {
        Manifest {
            kind: self.kind,
            links: u16::try_from(self.links.len()).unwrap_or(u16::MAX),
            interface: self.interface.clone(),
            process: self.process.is_some(),
            offloads: self.offloads.into(),
        }
    }

    /// The descriptors in the order of the manifest.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.links.iter().chain(&self.process).map(AsFd::as_fd)
    }

    /// Puts a parcel together; `None` if the descriptors are not those of the manifest.
    #[must_use]
    pub fn assemble(manifest: &Manifest, mut descriptors: Vec<OwnedFd>) -> Option<Parcel> {
        if manifest.links == 0 || descriptors.len() != manifest.count() {
            return None;
        }
        let process = manifest.process.then(|| descriptors.pop()).flatten();
        Some(Parcel {
            kind: manifest.kind,
            links: descriptors,
            interface: manifest.interface.clone(),
            offloads: manifest.offloads.into(),
            process,
        })
    }
}

/// Sends the outcome of a job.
pub(super) fn send(socket: BorrowedFd<'_>, result: &Result<Parcel, ApiError>) -> io::Result<()> {
    let (message, descriptors) = encode(result)?;
    fdpass::send(socket, &message, &descriptors)?;
    Ok(())
}

/// The outcome of a job as one message and its descriptors.
pub fn encode(result: &Result<Parcel, ApiError>) -> io::Result<(Vec<u8>, Vec<BorrowedFd<'_>>)> {
    let manifest = result.as_ref().map(Parcel::manifest);
    let descriptors = result.iter().flat_map(Parcel::descriptors).collect();
    Ok((serde_json::to_vec(&manifest)?, descriptors))
}

/// Receives the outcome of a job.
pub(super) fn receive(socket: BorrowedFd<'_>) -> io::Result<Result<Parcel, ApiError>> {
    let mut space = vec![0; MANIFEST_SPACE];
    let received = fdpass::receive(socket, &mut space, fdpass::MAX_FDS)?;
    if received.len == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let manifest: Result<Manifest, ApiError> = serde_json::from_slice(&space[..received.len])?;
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "descriptors are missing");
    match manifest {
        Ok(manifest) if !received.fds_truncated => Parcel::assemble(&manifest, received.fds)
            .map(Ok)
            .ok_or_else(missing),
        Ok(_) => Err(missing()),
        Err(error) => Ok(Err(error)),
    }
}
