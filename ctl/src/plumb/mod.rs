//! Plumbing: the interface inside a sandbox, and the descriptors that lead to it.
//!
//! # Theory of operation
//!
//! Entering a user namespace takes a process with one thread, and there is no way back out of it. So
//! plumbing is done in a *forked child*: it enters, makes the interface, gives it its addresses and
//! routes, sets it up, sends the descriptors back and ends. The command line forks one for itself; for
//! callers of the API the keeper does ([`crate::keeper`]).
//!
//! The order inside keeps a promise: nothing flows before there is policy. The interface may be up
//! before the switch knows it, but what it sends waits in its queue, and is read only after the port was
//! published with its identity.
//!
//! Inside, the child is at the mercy of whoever has capabilities there. So it first gives up whatever
//! could be taken from it: every descriptor but the one that it answers on, and being dumpable.
//!
//! If any step fails, the child ends, its descriptors close, and with them everything it has made
//! goes: no interface made here is persistent.

mod host_interface;
mod interface;
mod parcel;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use heddle_sys::fdpass;
use heddle_sys::namespace::{Namespace, NamespaceError, NamespaceKind};
use heddle_sys::process::{self, Fork};
use serde::{Deserialize, Serialize};

use crate::api::{ApiError, CallerSandbox, ErrorCode, Plan};

pub use parcel::{Manifest, Parcel, encode};

/// What a child is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Job {
    /// Make an interface in a network namespace: an endpoint's, or the far end of a leg.
    Interface {
        /// Where.
        sandbox: CallerSandbox,
        /// What.
        plan: Plan,
    },
    /// Open a packet socket for an interface that exists in this network namespace.
    Packet {
        /// The interface.
        interface: String,
    },
}

impl Job {
    /// Does it, in this process: only in one that was forked for it, which keeps none of its
    /// descriptors but `answer`.
    ///
    /// # Errors
    ///
    /// Whatever stands in the way, in the user's terms.
    pub fn run(&self, answer: BorrowedFd<'_>) -> Result<Parcel, ApiError> {
        process::seclude(&[answer]).map_err(child_failed)?;
        match self {
            Job::Interface { sandbox, plan } => {
                let (namespace, process) = open_sandbox(sandbox)?;
                let mut parcel = interface::make(&namespace, plan)?;
                parcel.process = process;
                Ok(parcel)
            }
            Job::Packet { interface } => host_interface::open(interface),
        }
    }
}

/// Does a job in a child of this process and waits for it.
///
/// # Errors
///
/// What stands in the job's way, or that there can be no child.
pub fn run_in_child(job: &Job) -> Result<Parcel, ApiError> {
    let (ours, theirs) = fdpass::socketpair_seqpacket().map_err(child_failed)?;
    match process::fork().map_err(child_failed)? {
        Fork::Child => {
            drop(ours);
            let sent = parcel::send(theirs.as_fd(), &job.run(theirs.as_fd()));
            process::exit(u8::from(sent.is_err()))
        }
        Fork::Parent { child } => {
            drop(theirs);
            let result = parcel::receive(ours.as_fd());
            let ended = process::wait(child).map_err(child_failed)?;
            match result {
                Ok(result) => result,
                Err(_) if !ended.success() => Err(ApiError::new(
                    ErrorCode::PlumbingFailed,
                    format!("the process that makes the interface ended early ({ended})"),
                )),
                Err(error) => Err(child_failed(error)),
            }
        }
    }
}

fn child_failed(error: io::Error) -> ApiError {
    ApiError::new(
        ErrorCode::PlumbingFailed,
        format!("starting a process to make the interface: {error}"),
    )
}

/// Opens the network namespace of a sandbox and, for a process, what tells of its end. The process
/// is pinned first, so that both are of the same one even if its number is reused in between.
fn open_sandbox(sandbox: &CallerSandbox) -> Result<(Namespace, Option<OwnedFd>), ApiError> {
    let (namespace, process) = match sandbox {
        CallerSandbox::Pid(pid) => {
            let process = process::pidfd_open(*pid).map_err(|error| gone(*pid, &error))?;
            let namespace =
                Namespace::open_pid(*pid, NamespaceKind::Network).map_err(namespace_error)?;
            if process::has_ended(process.as_fd()).unwrap_or(true) {
                return Err(gone(*pid, &io::Error::from(io::ErrorKind::NotFound)));
            }
            (namespace, Some(process))
        }
        CallerSandbox::Path(path) => {
            let namespace = Namespace::open_path(path)
                .and_then(|namespace| namespace.expect_kind(NamespaceKind::Network));
            (namespace.map_err(namespace_error)?, None)
        }
    };
    let namespace = namespace.expect_foreign().map_err(namespace_error)?;
    Ok((namespace, process))
}

fn gone(pid: u32, error: &io::Error) -> ApiError {
    let message = match error.raw_os_error() {
        Some(libc::ESRCH) | None => format!("there is no process {pid}"),
        _ => format!("process {pid} cannot be watched: {error}"),
    };
    ApiError::new(ErrorCode::ProcessGone, message)
}

fn namespace_error(error: NamespaceError) -> ApiError {
    let code = match error {
        NamespaceError::NoProcess { .. } => ErrorCode::ProcessGone,
        NamespaceError::NoPath { .. }
        | NamespaceError::NotNamespace { .. }
        | NamespaceError::WrongKind { .. } => ErrorCode::NotANamespace,
        NamespaceError::Own { .. } => ErrorCode::OwnNamespace,
        NamespaceError::ForeignProcess { .. }
        | NamespaceError::ForeignPath { .. }
        | NamespaceError::OwnerOutOfReach { .. }
        | NamespaceError::EnterRefused { .. }
        | NamespaceError::MakeRefused { .. } => ErrorCode::NamespaceForbidden,
        NamespaceError::TooMany | NamespaceError::MultiThreaded | NamespaceError::Io { .. } => {
            ErrorCode::PlumbingFailed
        }
    };
    ApiError::new(code, error.to_string()).maybe_hint(error.hint())
}
