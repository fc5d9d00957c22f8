//! Namespaces: found, checked, entered, made.
//!
//! # Theory of operation
//!
//! - A namespace is opened *once* and then used by its descriptor only: a path that is resolved
//!   twice may lead to two places, and a process may die and its number be given to another.
//! - Configuring a network namespace takes capabilities in the user namespace that owns it
//!   ([`Namespace::owner`]). Whoever created that user namespace has all capabilities in it once
//!   inside, and no way back: entering is for a forked child or a command at its start.
//! - The kernel lets only a single-threaded process enter or make a user namespace.
//! - A process that changes its user namespace also loses its parent-death signal, since its
//!   credentials changed (tried); set it afterwards.
//! - Sockets and TAPs opened inside keep the network namespace alive after its last process.

mod id_map;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, ioctl, opcode};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

pub use id_map::{IdMapError, IdRange, Maps, write_id_maps};

use crate::process;

// Requests of `linux/nsfs.h` and `linux/sockios.h`.
const NS_GET_USERNS: Opcode = opcode::none(0xb7, 1);
const NS_GET_NSTYPE: Opcode = opcode::none(0xb7, 3);
const NS_GET_OWNER_UID: Opcode = opcode::none(0xb7, 4);
const SIOCGSKNS: Opcode = 0x894c;

/// A namespace, held open.
#[derive(Debug)]
pub struct Namespace {
    fd: OwnedFd,
    kind: NamespaceKind,
}

/// The kinds of namespace that heddle deals with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceKind {
    /// Interfaces, addresses, routes, sockets.
    Network,
    /// User and group numbers, capabilities.
    User,
    /// Mounts.
    Mount,
    /// Process numbers.
    Pid,
}

/// Why a namespace cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The process does not exist, or has ended.
    #[error("no process {pid}")]
    NoProcess {
        /// The process asked for.
        pid: u32,
    },
    /// Another user's process, or one with more privileges.
    #[error("process {pid} belongs to another user or has more privileges than this one")]
    ForeignProcess {
        /// The process asked for.
        pid: u32,
    },
    /// There is nothing at that path.
    #[error("{path} does not exist")]
    NoPath {
        /// The path asked for.
        path: String,
    },
    /// The path may not be opened.
    #[error("{path} may not be opened by this user")]
    ForeignPath {
        /// The path asked for.
        path: String,
    },
    /// The file is something else.
    #[error("{what} is not a namespace")]
    NotNamespace {
        /// What was asked for.
        what: String,
    },
    /// A namespace of another kind.
    #[error("this is a {found} namespace, not a {wanted} namespace")]
    WrongKind {
        /// What is needed.
        wanted: NamespaceKind,
        /// What it is.
        found: NamespaceKind,
    },
    /// The namespace that this process is in itself.
    #[error("this is heddle's own {kind} namespace")]
    Own {
        /// Its kind.
        kind: NamespaceKind,
    },
    /// The owner is out of sight: a user namespace that is not below this process's own.
    #[error("the owner of this {kind} namespace is outside of this user namespace")]
    OwnerOutOfReach {
        /// Its kind.
        kind: NamespaceKind,
    },
    /// Entering was refused.
    #[error("not permitted to enter this {kind} namespace")]
    EnterRefused {
        /// Its kind.
        kind: NamespaceKind,
    },
    /// Making was refused.
    #[error("not permitted to make a {kind} namespace")]
    MakeRefused {
        /// Its kind.
        kind: NamespaceKind,
    },
    /// A limit of `/proc/sys/user` is reached.
    #[error("the limit of namespaces is reached")]
    TooMany,
    /// The process has several threads.
    #[error("a process with several threads cannot enter or make a user namespace")]
    MultiThreaded,
    /// Anything else that the kernel answered.
    #[error("{action}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl NamespaceError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::ForeignProcess { .. } | Self::ForeignPath { .. } | Self::EnterRefused { .. } => {
                Some(
                    "run the command as that user, or let a process inside open the TAP and pass it",
                )
            }
            Self::Own { .. } => Some("name another process or namespace"),
            Self::MakeRefused {
                kind: NamespaceKind::User,
            } => Some("unprivileged user namespaces are switched off on this host"),
            Self::TooMany => Some("raise user.max_net_namespaces or user.max_user_namespaces"),
            _ => None,
        }
    }
}

impl NamespaceKind {
    /// The name below `/proc/PID/ns`.
    const fn file_name(self) -> &'static str {
        match self {
            Self::Network => "net",
            Self::User => "user",
            Self::Mount => "mnt",
            Self::Pid => "pid",
        }
    }

    const fn link_type(self) -> LinkNameSpaceType {
        match self {
            Self::Network => LinkNameSpaceType::Network,
            Self::User => LinkNameSpaceType::User,
            Self::Mount => LinkNameSpaceType::Mount,
            Self::Pid => LinkNameSpaceType::ProcessID,
        }
    }

    const fn flag(self) -> UnshareFlags {
        match self {
            Self::Network => UnshareFlags::NEWNET,
            Self::User => UnshareFlags::NEWUSER,
            Self::Mount => UnshareFlags::NEWNS,
            Self::Pid => UnshareFlags::NEWPID,
        }
    }

    fn from_flag(flag: i32) -> Option<Self> {
        let flag = UnshareFlags::from_bits(u32::try_from(flag).ok()?)?;
        [Self::Network, Self::User, Self::Mount, Self::Pid]
            .into_iter()
            .find(|kind| kind.flag() == flag)
    }
}

impl std::fmt::Display for NamespaceKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Network => "network",
            Self::User => "user",
            Self::Mount => "mount",
            Self::Pid => "process",
        })
    }
}

impl Namespace {
    /// The namespace of process `pid`.
    ///
    /// The number may belong to another process by the time this returns. Whoever holds a pidfd of
    /// the process asks afterwards whether it still runs ([`process::has_ended`]): if so, this was
    /// its namespace.
    pub fn open_pid(pid: u32, kind: NamespaceKind) -> Result<Self, NamespaceError> {
        let path = format!("/proc/{pid}/ns/{}", kind.file_name());
        let fd = open(path.as_ref(), OFlags::RDONLY).map_err(|errno| match errno {
            // A zombie still has its directory, but no namespaces in it.
            Errno::NOENT | Errno::SRCH => NamespaceError::NoProcess { pid },
            Errno::ACCESS | Errno::PERM => NamespaceError::ForeignProcess { pid },
            source => failed("opening the process's namespace", source),
        })?;
        Ok(Self { fd, kind })
    }

    /// The namespace that this process is in.
    pub fn current(kind: NamespaceKind) -> Result<Self, NamespaceError> {
        let path = format!("/proc/thread-self/ns/{}", kind.file_name());
        let fd = open(path.as_ref(), OFlags::RDONLY)
            .map_err(|source| failed("opening the own namespace", source))?;
        Ok(Self { fd, kind })
    }

    /// The namespace bound to `path`, as `ip netns add` and container engines leave them.
    pub fn open_path(path: &Path) -> Result<Self, NamespaceError> {
        let shown = || path.display().to_string();
        let refused = |errno| match errno {
            Errno::NOENT | Errno::NOTDIR => NamespaceError::NoPath { path: shown() },
            Errno::ACCESS | Errno::PERM => NamespaceError::ForeignPath { path: shown() },
            source => failed("opening the namespace's path", source),
        };
        // First without opening what is there: opening a pipe may block, a device may do anything.
        let place = open(path, OFlags::PATH).map_err(refused)?;
        if !is_namespace_file(place.as_fd()) {
            return Err(NamespaceError::NotNamespace { what: shown() });
        }
        // The same inode, not the path again.
        let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&place));
        let fd = open(own.as_ref(), OFlags::RDONLY).map_err(refused)?;
        Self::from_checked(fd, shown)
    }

    /// A descriptor from another process.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, NamespaceError> {
        let what = || "the descriptor".to_owned();
        if !is_namespace_file(fd.as_fd()) {
            return Err(NamespaceError::NotNamespace { what: what() });
        }
        Self::from_checked(fd, what)
    }

    /// The network namespace to which a socket belongs, or in which a TAP descriptor was opened.
    /// Needs `CAP_NET_ADMIN` over it.
    pub fn of_socket(socket: BorrowedFd<'_>) -> Result<Self, NamespaceError> {
        // SAFETY: SIOCGSKNS takes no argument and returns a new descriptor.
        let fd =
            unsafe { ioctl(socket, NewDescriptor::<SIOCGSKNS>) }.map_err(|errno| match errno {
                Errno::PERM => NamespaceError::EnterRefused {
                    kind: NamespaceKind::Network,
                },
                source => failed("asking for the socket's network namespace", source),
            })?;
        Ok(Self {
            fd,
            kind: NamespaceKind::Network,
        })
    }

    fn from_checked(fd: OwnedFd, what: impl Fn() -> String) -> Result<Self, NamespaceError> {
        // SAFETY: NS_GET_NSTYPE takes no argument and returns a number.
        let flag = unsafe { ioctl(&fd, ReturnedNumber::<NS_GET_NSTYPE>) }
            .map_err(|_| NamespaceError::NotNamespace { what: what() })?;
        let kind = NamespaceKind::from_flag(flag)
            .ok_or_else(|| NamespaceError::NotNamespace { what: what() })?;
        Ok(Self { fd, kind })
    }

    /// What kind of namespace it is.
    #[must_use]
    pub fn kind(&self) -> NamespaceKind {
        self.kind
    }

    /// This namespace if it is of the kind `wanted`.
    pub fn expect_kind(self, wanted: NamespaceKind) -> Result<Self, NamespaceError> {
        if self.kind == wanted {
            Ok(self)
        } else {
            Err(NamespaceError::WrongKind {
                wanted,
                found: self.kind,
            })
        }
    }

    /// This namespace unless it is the one that this process is in: attaching the own network
    /// namespace would take the host's own traffic.
    pub fn expect_foreign(self) -> Result<Self, NamespaceError> {
        if self.is_current()? {
            Err(NamespaceError::Own { kind: self.kind })
        } else {
            Ok(self)
        }
    }

    /// The user namespace whose capabilities count here: it must be entered first.
    pub fn owner(&self) -> Result<Self, NamespaceError> {
        // SAFETY: NS_GET_USERNS takes no argument and returns a new descriptor.
        let fd =
            unsafe { ioctl(&self.fd, NewDescriptor::<NS_GET_USERNS>) }.map_err(
                |errno| match errno {
                    Errno::PERM => NamespaceError::OwnerOutOfReach { kind: self.kind },
                    source => failed("asking for the namespace's owner", source),
                },
            )?;
        Ok(Self {
            fd,
            kind: NamespaceKind::User,
        })
    }

    /// The user who made this user namespace, as this process numbers users.
    pub fn owner_uid(&self) -> Result<u32, NamespaceError> {
        // SAFETY: NS_GET_OWNER_UID writes one user number.
        unsafe { ioctl(&self.fd, Getter::<NS_GET_OWNER_UID, u32>::new()) }
            .map_err(|source| failed("asking for the user namespace's owner", source))
    }

    /// Device and inode, by which the kernel tells namespaces apart. The inode is given to another
    /// namespace once this one has ended, so compare only while both are held open.
    pub fn identity(&self) -> Result<(u64, u64), NamespaceError> {
        let status = rustix::fs::fstat(&self.fd)
            .map_err(|source| failed("asking for the namespace's identity", source))?;
        Ok((status.st_dev, status.st_ino))
    }

    /// Whether this thread is in this namespace.
    pub fn is_current(&self) -> Result<bool, NamespaceError> {
        Ok(self.identity()? == Self::current(self.kind)?.identity()?)
    }

    /// Moves the calling thread into this namespace. For a process namespace: its future children.
    ///
    /// A user namespace gives all capabilities in it and takes all others.
    pub fn enter(&self) -> Result<(), NamespaceError> {
        move_into_link_name_space(self.fd.as_fd(), Some(self.kind.link_type())).map_err(|errno| {
            match errno {
                Errno::PERM => NamespaceError::EnterRefused { kind: self.kind },
                Errno::INVAL if self.kind == NamespaceKind::User => {
                    match process::is_single_threaded() {
                        Ok(false) => NamespaceError::MultiThreaded,
                        // The other meaning: the thread is in that very namespace.
                        _ => failed("entering the user namespace", errno),
                    }
                }
                source => failed("entering the namespace", source),
            }
        })
    }

    /// Enters this namespace with whatever capabilities that takes: directly if this process has
    /// them already, as root of the host or inside the owner; else its owner first.
    pub fn enter_with_owner(&self) -> Result<(), NamespaceError> {
        match self.enter() {
            Err(NamespaceError::EnterRefused { .. }) => {}
            result => return result,
        }
        let owner = self.owner()?;
        // Already inside and still refused: there is nothing more to try.
        if owner.is_current()? {
            return Err(NamespaceError::EnterRefused { kind: self.kind });
        }
        owner.enter()?;
        self.enter()
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Namespace> for OwnedFd {
    fn from(namespace: Namespace) -> Self {
        namespace.fd
    }
}

/// Moves the calling thread into new namespaces of `kinds`. If a user namespace is among them it
/// comes first and owns the others.
pub fn unshare(kinds: &[NamespaceKind]) -> Result<(), NamespaceError> {
    let flags = kinds
        .iter()
        .fold(UnshareFlags::empty(), |flags, kind| flags | kind.flag());
    let foremost = if kinds.contains(&NamespaceKind::User) {
        NamespaceKind::User
    } else {
        kinds.first().copied().unwrap_or(NamespaceKind::Network)
    };
    // SAFETY: only namespaces are asked for, never CLONE_FILES, which is what the function's
    // contract is about.
    unsafe { unshare_unsafe(flags) }.map_err(|errno| match errno {
        Errno::PERM | Errno::ACCESS => NamespaceError::MakeRefused { kind: foremost },
        Errno::NOSPC | Errno::USERS => NamespaceError::TooMany,
        Errno::INVAL if process::is_single_threaded().is_ok_and(|single| !single) => {
            NamespaceError::MultiThreaded
        }
        source => failed("making a namespace", source),
    })
}

/// An `ioctl` without argument that returns a new descriptor.
struct NewDescriptor<const OPCODE: Opcode>;

// SAFETY: only used with the two requests of this file that take no argument and return a
// close-on-exec descriptor which nobody else owns.
unsafe impl<const OPCODE: Opcode> rustix::ioctl::Ioctl for NewDescriptor<OPCODE> {
    type Output = OwnedFd;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        OPCODE
    }

    fn as_ptr(&mut self) -> *mut libc::c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(
        returned: rustix::ioctl::IoctlOutput,
        _argument: *mut libc::c_void,
    ) -> rustix::io::Result<OwnedFd> {
        use std::os::fd::FromRawFd;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(returned) })
    }
}

/// An `ioctl` without argument that returns a number.
struct ReturnedNumber<const OPCODE: Opcode>;

// SAFETY: only used with NS_GET_NSTYPE, which takes no argument.
unsafe impl<const OPCODE: Opcode> rustix::ioctl::Ioctl for ReturnedNumber<OPCODE> {
    type Output = i32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        OPCODE
    }

    fn as_ptr(&mut self) -> *mut libc::c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(
        returned: rustix::ioctl::IoctlOutput,
        _argument: *mut libc::c_void,
    ) -> rustix::io::Result<i32> {
        Ok(returned)
    }
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
}

fn is_namespace_file(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|status| status.f_type == libc::NSFS_MAGIC)
}

fn failed(action: &'static str, source: Errno) -> NamespaceError {
    NamespaceError::Io {
        action,
        source: source.into(),
    }
}

#[cfg(test)]
mod tests;
