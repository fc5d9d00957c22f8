//! Linux capabilities of the calling thread: what it may do, and giving all of it up.
//!
//! Capabilities belong to a thread, not to a process. [`drop_all`] is therefore called before the
//! first thread is started; threads inherit from the one that starts them.

use std::fmt;
use std::io;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
};

/// A capability that heddle asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Create and configure interfaces, addresses and routes.
    NetAdmin,
    /// Open packet and raw sockets.
    NetRaw,
    /// Bind ports below `net.ipv4.ip_unprivileged_port_start`.
    NetBindService,
    /// Enter namespaces, mount.
    SysAdmin,
    /// Look at other users' processes and their namespaces.
    SysPtrace,
    /// Write any group map, change groups.
    SetGid,
    /// Write any user map, change users.
    SetUid,
    /// Pass over file permissions: opens a `/dev/net/tun` of mode 0600.
    DacOverride,
}

impl Capability {
    const fn bit(self) -> CapabilitySet {
        match self {
            Self::NetAdmin => CapabilitySet::NET_ADMIN,
            Self::NetRaw => CapabilitySet::NET_RAW,
            Self::NetBindService => CapabilitySet::NET_BIND_SERVICE,
            Self::SysAdmin => CapabilitySet::SYS_ADMIN,
            Self::SysPtrace => CapabilitySet::SYS_PTRACE,
            Self::SetGid => CapabilitySet::SETGID,
            Self::SetUid => CapabilitySet::SETUID,
            Self::DacOverride => CapabilitySet::DAC_OVERRIDE,
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::NetBindService => "CAP_NET_BIND_SERVICE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SetGid => "CAP_SETGID",
            Self::SetUid => "CAP_SETUID",
            Self::DacOverride => "CAP_DAC_OVERRIDE",
        })
    }
}

/// Whether the calling thread has `capability` in effect, in its own user namespace. In the user
/// namespace of somebody else's container it may have it or not all the same.
pub fn has(capability: Capability) -> io::Result<bool> {
    Ok(capabilities(None)?.effective.contains(capability.bit()))
}

/// Gives up every capability of the calling thread for good, also for programs it will execute.
///
/// Without `CAP_SETPCAP` the bounding set cannot be narrowed; then a set-uid program could still
/// regain what it holds, which [`set_no_new_privs`](crate::process::set_no_new_privs) prevents.
pub fn drop_all() -> io::Result<()> {
    clear_ambient_capability_set()?;
    for number in 0..CapabilitySet::all().bits().count_ones() {
        let bit = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(bit) {
            Ok(true) => {}
            Ok(false) => continue,
            // One past the last capability that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
        match remove_capability_from_bounding_set(bit) {
            Ok(()) => {}
            Err(Errno::PERM) => break,
            Err(error) => return Err(error.into()),
        }
    }
    // Last: removing from the bounding set needs a capability itself.
    let none = CapabilitySet::empty();
    set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    Ok(())
}
