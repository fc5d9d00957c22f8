//! Why there is no packet socket, in the user's terms.

use std::io;

use super::filter::MAX_FILTER_ADDRESSES;

/// Why there is no packet socket.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// No `CAP_NET_RAW` over the network namespace.
    #[error("not permitted to open a packet socket in this network namespace")]
    NotPermitted,
    /// There is no such interface.
    #[error("there is no {interface} in the socket's network namespace")]
    NoInterface {
        /// The interface asked for.
        interface: String,
    },
    /// The interface that the socket was bound to is gone.
    #[error("the interface of this packet socket was removed")]
    InterfaceGone,
    /// The interface carries no Ethernet frames.
    #[error("{interface} is not an Ethernet interface")]
    NotEthernet {
        /// The interface asked for.
        interface: String,
    },
    /// The descriptor is of another kind.
    #[error("the descriptor is not a raw packet socket")]
    NotPacketSocket,
    /// Another process still has the socket's ring mapped.
    #[error("the packet socket is still in use by another process")]
    InUse,
    /// The kernel has no memory for the ring.
    #[error("not enough memory for a ring of {blocks} blocks")]
    Memory {
        /// The number of blocks asked for.
        blocks: u32,
    },
    /// More addresses than a filter holds.
    #[error("a filter holds {MAX_FILTER_ADDRESSES} addresses, not {asked}")]
    TooManyAddresses {
        /// The number asked for.
        asked: usize,
    },
    /// The kernel is too old.
    #[error("the kernel does not know the packet socket option {option}")]
    Unsupported {
        /// The option's name.
        option: &'static str,
    },
    /// Anything else that the kernel answered.
    #[error("{action}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl PacketError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotPermitted => Some(
                "CAP_NET_RAW is needed once: grant it to the command, or pass an open packet socket",
            ),
            Self::InUse => Some("end the process that was using it before"),
            Self::Memory { .. } => Some("ask for fewer blocks"),
            _ => None,
        }
    }
}

pub(super) fn failed(action: &'static str, source: io::Error) -> PacketError {
    PacketError::Io { action, source }
}
