//! Containers: namespaces in which nothing runs but what a scenario starts.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Command;

use heddle_sys::namespace::{Maps, Namespace, NamespaceKind, unshare, write_id_maps};
use heddle_sys::netlink::Netlink;
use heddle_sys::process::{self, Signal};
use heddle_sys::watch::wait_readable;
use ipnet::IpNet;
use rustix::event::poll;
use rustix::pipe::{PipeFlags, pipe_with};

use super::link::{add_address, set_loopback_up};
use super::program::{Ended, Running, fork};
use super::wait::{PATIENCE, eventually};

/// A process that does nothing, in namespaces of its own.
#[derive(Debug)]
pub struct Container {
    /// Its process.
    pub pid: u32,
    network: Namespace,
}

impl Container {
    /// A container in the user namespace of the host.
    #[must_use]
    pub fn new() -> Self {
        Self::with(&[NamespaceKind::Network])
    }

    /// A container with a user namespace of its own, as rootless engines make them.
    #[must_use]
    pub fn rootless() -> Self {
        Self::with(&[NamespaceKind::User, NamespaceKind::Network])
    }

    fn with(kinds: &[NamespaceKind]) -> Self {
        let (ready, writer) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let (user, group) = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let parent = std::process::id();
        let pid = fork(|| {
            unshare(kinds).expect("the host could be made, so can a container");
            if kinds.contains(&NamespaceKind::User) {
                let own = std::process::id();
                write_id_maps(own, &Maps::single(0, user), &Maps::single(0, group))
                    .expect("one's own user can be mapped");
                process::set_parent_death_signal(Signal::KILL, parent).expect("the parent lives");
            }
            set_loopback_up();
            rustix::io::write(&writer, b"r").expect("the parent reads");
            loop {
                // Nothing comes any more: this ends when it is killed.
                let _ = poll(&mut [], None);
            }
        });
        drop(writer);
        wait_ready(&ready);
        let network = Namespace::open_pid(pid, NamespaceKind::Network).expect("it is ours");
        Self { pid, network }
    }

    /// Its network namespace.
    #[must_use]
    pub fn network(&self) -> &Namespace {
        &self.network
    }

    /// Starts a program in it.
    #[must_use]
    pub fn start(&self, command: Command) -> Running {
        Running::start(command, || {
            self.network.enter_with_owner().map_err(io::Error::other)
        })
    }

    /// Runs a program in it to its end.
    #[must_use]
    pub fn execute(&self, command: Command) -> Ended {
        self.start(command).end()
    }

    /// Does `work` in it; in a process of its own, since there is no way back.
    ///
    /// # Panics
    ///
    /// `work` does.
    pub fn run(&self, work: impl FnOnce()) {
        let pid = fork(|| {
            self.network.enter_with_owner().expect("it is ours");
            work();
            0
        });
        let ended = process::wait(pid).expect("it is a child of this process");
        assert!(ended.success(), "inside the container: {ended}");
    }

    /// Does `work` in it, until it is told to end. `work` is given what to call when whoever waits may
    /// go on; this returns then.
    ///
    /// # Panics
    ///
    /// `work` ends before that.
    #[must_use]
    pub fn serve(&self, work: impl FnOnce(&dyn Fn())) -> Job {
        serve(|ready| {
            self.network.enter_with_owner().expect("it is ours");
            work(ready);
        })
    }

    /// Whether `condition` holds inside.
    #[must_use]
    pub fn holds(&self, condition: impl FnOnce() -> bool) -> bool {
        let pid = fork(|| {
            self.network.enter_with_owner().expect("it is ours");
            u8::from(!condition())
        });
        let ended = process::wait(pid).expect("it is a child of this process");
        match ended.code() {
            Some(code @ (0 | 1)) => code == 0,
            _ => panic!("inside the container: {ended}"),
        }
    }

    /// Whether it has no interface but loopback.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.holds(|| {
            let links = Netlink::open().and_then(|mut netlink| netlink.links());
            links
                .expect("netlink answers")
                .iter()
                .all(|link| link.loopback)
        })
    }

    /// Waits until it has no interface but loopback.
    pub fn wait_alone(&self) {
        eventually("the container is alone again", || self.is_alone());
    }

    /// Gives one of its interfaces addresses.
    pub fn add_addresses(&self, interface: &str, addresses: &[IpNet]) {
        self.run(|| {
            for address in addresses {
                add_address(interface, address.addr(), address.prefix_len());
            }
        });
    }

    /// Makes it the home of addresses, as if they were hosts far away.
    pub fn add_hosts(&self, addresses: &[IpAddr]) {
        let whole: Vec<IpNet> = addresses.iter().map(|&address| address.into()).collect();
        self.add_addresses("lo", &whole);
    }

    /// Ends it, and everything in it that has not been started by the scenario.
    pub fn end(self) {
        drop(self);
    }
}

impl Default for Container {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        kill(self.pid);
    }
}

/// Does `work` in a process of its own; see [`Container::serve`].
pub(super) fn serve(work: impl FnOnce(&dyn Fn())) -> Job {
    let (ready, writer) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    let pid = fork(|| {
        work(&|| {
            rustix::io::write(&writer, b"r").expect("the parent reads");
        });
        0
    });
    drop(writer);
    let job = Job { pid };
    wait_ready(&ready);
    job
}

/// Something that goes on in a container or on the host; it ends when this value is dropped.
#[derive(Debug)]
pub struct Job {
    pid: u32,
}

impl Drop for Job {
    fn drop(&mut self) {
        kill(self.pid);
    }
}

/// Ends a child of this process.
fn kill(pid: u32) {
    if let Ok(pidfd) = process::pidfd_open(pid) {
        let _ = process::pidfd_send_signal(pidfd.as_fd(), Signal::KILL);
        let _ = process::wait(pid);
    }
}

/// Waits for the word of a child.
fn wait_ready(ready: &OwnedFd) {
    assert!(wait_readable(ready.as_fd(), Some(PATIENCE)).expect("a pipe can be polled"));
    let read = rustix::io::read(ready, &mut [0_u8; 1]).expect("a pipe can be read");
    assert_eq!(read, 1, "what was started in a container has ended");
}
