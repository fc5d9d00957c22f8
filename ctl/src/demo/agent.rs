//! What runs in a container: a child of the tour that does as it is told.
//!
//! Orders and answers are JSON, one message a datagram. A task that others must wait for answers
//! twice: when it is ready, and when it is done.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use heddle_sys::fdpass;
use heddle_sys::namespace::{self, NamespaceKind};
use heddle_sys::netlink::{LinkChange, Netlink, NetlinkError};
use heddle_sys::process::{self, Fork, Signal};
use heddle_sys::watch::wait_readable;
use heddle_wire::MacAddr;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::traffic::{self, Echo, Transfer};
use crate::api::{ApiError, ErrorCode, text};

/// How long a task may take.
const TASK_TIME: Duration = Duration::from_secs(30);

/// Octets of a message.
const MESSAGE_SPACE: usize = 4 << 10;

/// Something to be done in a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Task {
    /// Add addresses to the loopback interface, as if they were hosts far away.
    AddAddresses(Vec<IpAddr>),
    /// Send an echo request.
    Ping(IpAddr),
    /// Take one connection; receive, then send.
    Serve(SocketAddr),
    /// Connect; send, then receive.
    Fetch(SocketAddr),
    /// Send a frame to `to` whose source addresses are given.
    Spoof {
        /// Ethernet source.
        #[serde(with = "text")]
        mac: MacAddr,
        /// Ethernet destination.
        #[serde(with = "text")]
        to_mac: MacAddr,
        /// IP source.
        source: IpAddr,
        /// IP destination.
        to: IpAddr,
    },
    /// The interface that leads to the switch is gone.
    IsAlone,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// Go on, I am ready.
    Ready,
    /// Done, and nothing to tell.
    Done,
    /// What became of an echo request.
    Echo(Echo),
    /// What was sent and received.
    Transfer(Transfer),
    /// Yes or no.
    Is(bool),
    /// It did not work.
    Failed(String),
}

/// A container.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) pid: u32,
    socket: OwnedFd,
}

impl Agent {
    /// Makes a container: a child in a network namespace of its own, which ends with this process.
    pub(super) fn start() -> Result<Agent, ApiError> {
        let failed = |error: &dyn std::fmt::Display| {
            ApiError::new(
                ErrorCode::PlumbingFailed,
                format!("making a container: {error}"),
            )
        };
        let (ours, theirs) = fdpass::socketpair_seqpacket().map_err(|error| failed(&error))?;
        let parent = std::process::id();
        match process::fork().map_err(|error| failed(&error))? {
            Fork::Child => {
                drop(ours);
                let status = match live(&theirs, parent) {
                    Ok(()) => 0,
                    Err(_) => 1,
                };
                process::exit(status)
            }
            Fork::Parent { child } => {
                drop(theirs);
                let agent = Agent {
                    pid: child,
                    socket: ours,
                };
                match agent.answer() {
                    Ok(Outcome::Ready) => Ok(agent),
                    Ok(other) => Err(failed(&format!("{other:?}"))),
                    Err(error) => Err(failed(&error)),
                }
            }
        }
    }

    /// Begins a task.
    pub(super) fn begin(&self, task: &Task) -> Result<(), String> {
        send(&self.socket, task).map_err(|error| error.to_string())
    }

    /// The next answer.
    pub(super) fn answer(&self) -> Result<Outcome, String> {
        match wait_readable(self.socket.as_fd(), Some(TASK_TIME)) {
            Ok(true) => match receive(&self.socket) {
                Ok(Some(Outcome::Failed(problem))) => Err(problem),
                Ok(Some(outcome)) => Ok(outcome),
                Ok(None) => Err("the container has ended".to_owned()),
                Err(error) => Err(error.to_string()),
            },
            Ok(false) => Err("it took too long".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Does a task.
    pub(super) fn run(&self, task: &Task) -> Result<Outcome, String> {
        self.begin(task)?;
        self.answer()
    }

    /// Ends the container and waits for that.
    pub(super) fn end(self) {
        // Closing our end would not do: containers that were made later hold copies of it.
        if let Ok(child) = process::pidfd_open(self.pid) {
            let _ = process::pidfd_send_signal(child.as_fd(), Signal::KILL);
        }
        let _ = process::wait(self.pid);
    }
}

/// The child's life.
fn live(socket: &OwnedFd, parent: u32) -> io::Result<()> {
    process::set_parent_death_signal(Signal::KILL, parent)?;
    let started = namespace::unshare(&[NamespaceKind::Network]);
    let ready = match started {
        Ok(()) => Outcome::Ready,
        Err(error) => Outcome::Failed(error.to_string()),
    };
    send(socket, &ready)?;
    while let Some(task) = receive::<Task>(socket)? {
        let outcome = act(socket, task).unwrap_or_else(Outcome::Failed);
        send(socket, &outcome)?;
    }
    Ok(())
}

fn act(socket: &OwnedFd, task: Task) -> Result<Outcome, String> {
    let ready = || send(socket, &Outcome::Ready).map_err(|error| error.to_string());
    match task {
        Task::AddAddresses(addresses) => add_addresses(&addresses)
            .map(|()| Outcome::Done)
            .map_err(|error| error.to_string()),
        Task::Ping(to) => traffic::ping(to).map(Outcome::Echo),
        Task::Serve(at) => traffic::serve(at, ready).map(Outcome::Transfer),
        Task::Fetch(from) => traffic::fetch(from).map(Outcome::Transfer),
        Task::Spoof {
            mac,
            to_mac,
            source,
            to,
        } => traffic::spoof(mac, to_mac, source, to).map(|()| Outcome::Done),
        Task::IsAlone => {
            let links = Netlink::open().and_then(|mut netlink| netlink.links());
            links
                .map(|links| Outcome::Is(links.iter().all(|link| link.loopback)))
                .map_err(|error| error.to_string())
        }
    }
}

fn add_addresses(addresses: &[IpAddr]) -> Result<(), NetlinkError> {
    let mut netlink = Netlink::open()?;
    let loopback = netlink.link("lo")?.index;
    netlink.set_link(
        loopback,
        &LinkChange {
            up: Some(true),
            ..LinkChange::default()
        },
    )?;
    for &address in addresses {
        let whole = if address.is_ipv4() { 32 } else { 128 };
        netlink.add_address(loopback, address, whole, true)?;
        netlink.wait_local(address, TASK_TIME)?;
    }
    Ok(())
}

fn send<T: Serialize>(socket: &OwnedFd, message: &T) -> io::Result<()> {
    fdpass::send(socket.as_fd(), &serde_json::to_vec(message)?, &[])?;
    Ok(())
}

fn receive<T: DeserializeOwned>(socket: &OwnedFd) -> io::Result<Option<T>> {
    let mut space = [0; MESSAGE_SPACE];
    let received = fdpass::receive(socket.as_fd(), &mut space, 0)?;
    if received.len == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&space[..received.len])?))
}
