//! Why there is no TAP, in the user's terms.

use std::io;

use super::{DEVICE_NODE, MAX_NAME_LENGTH, MAX_QUEUES};

/// Why there is no TAP.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The device node does not exist.
    #[error("{DEVICE_NODE} does not exist")]
    DeviceMissing,
    /// The device node exists but may not be opened.
    #[error("{DEVICE_NODE} may not be opened by this user")]
    DeviceForbidden,
    /// The device node leads to no driver.
    #[error("the kernel has no TUN/TAP driver")]
    NoDriver,
    /// No `CAP_NET_ADMIN` over the network namespace, or the TAP has another owner.
    #[error("not permitted to make the TAP {name} in this network namespace")]
    NotPermitted {
        /// The name asked for.
        name: String,
    },
    /// The name cannot be an interface's name.
    #[error(
        "{name:?} cannot be an interface name: 1 to {MAX_NAME_LENGTH} bytes, no slash, colon, \
         percent sign or white space"
    )]
    NameInvalid {
        /// The name asked for.
        name: String,
    },
    /// An interface of that name exists.
    #[error("an interface named {name} already exists in this network namespace")]
    NameTaken {
        /// The name asked for.
        name: String,
    },
    /// There is no persistent TAP of that name.
    #[error("there is no persistent TAP named {name} in this network namespace")]
    Absent {
        /// The name asked for.
        name: String,
    },
    /// The interface is no TAP, or one of another make.
    #[error("the interface {name} is not a TAP of heddle's make")]
    Mismatch {
        /// The name asked for.
        name: String,
    },
    /// More queues than one TAP can have.
    #[error("a TAP has 1 to {MAX_QUEUES} queues, not {asked}")]
    TooManyQueues {
        /// The number asked for.
        asked: u16,
    },
    /// The descriptor is a TUN interface without Ethernet header, or another kind of file.
    #[error("the descriptor is not a TAP")]
    NotTap,
    /// The descriptor is an open device node on which no interface was made yet.
    #[error("the TAP descriptor is not attached to an interface")]
    NotAttached,
    /// Anything else that the kernel answered.
    #[error("{action}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl TapError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::DeviceMissing => Some(
                "load the tun module (modprobe tun) and let udev or systemd-tmpfiles make the node, \
                 or attach through a veth pair, which needs no device node",
            ),
            Self::DeviceForbidden => Some(
                "the node is usually 0666 (systemd-tmpfiles --create makes it so); or attach \
                 through a veth pair, which needs no device node",
            ),
            Self::NoDriver => Some("attach through a veth pair, which needs no TAP driver"),
            Self::NotPermitted { .. } => {
                Some("enter the user namespace that owns the network namespace first")
            }
            Self::NameTaken { .. } => {
                Some("choose another interface name, or remove that interface")
            }
            Self::Mismatch { .. } => Some("remove that interface, or choose another name"),
            Self::NameInvalid { .. }
            | Self::Absent { .. }
            | Self::TooManyQueues { .. }
            | Self::NotTap
            | Self::NotAttached
            | Self::Io { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_that_a_user_can_act_upon_has_a_hint() {
        let name = || "eth0".to_owned();
        for error in [
            TapError::DeviceMissing,
            TapError::DeviceForbidden,
            TapError::NoDriver,
            TapError::NotPermitted { name: name() },
            TapError::NameTaken { name: name() },
            TapError::Mismatch { name: name() },
        ] {
            assert!(error.hint().is_some(), "{error}");
        }
    }
}
