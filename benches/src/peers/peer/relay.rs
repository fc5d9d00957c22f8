//! The bare relay: two endpoints of the same kind as heddle's; read, write, nothing else. What the
//! system calls alone allow (design: the physical limit).

use std::io::ErrorKind;
use std::os::fd::{AsFd as _, OwnedFd};

use heddle_sys::packet::{PacketSocket, RingOptions};
use heddle_sys::tap;
use rustix::event::epoll;
use rustix::event::epoll::{EventData, EventFlags};

use super::{EndpointKind, Peer};
use crate::ground::{CLIENT, Ground, SERVER, Topology, setup};
use crate::job::Job;
use crate::problem::Problem;
use crate::sandbox::{INTERFACE, PORT, Sandbox, wait_running};
use crate::stage::Stage;

/// Frames that one side may send before the other one's turn.
const BURST: usize = 64;

pub(super) struct Relay;

impl Peer for Relay {
    fn name(&self) -> &'static str {
        "relay"
    }

    /// A relay translates nothing. What it carries between the same kinds of endpoints is the limit
    /// for those who do.
    fn lay(&self, stage: &Stage, _: Topology) -> Result<Option<Ground>, Problem> {
        let (client, server) = (Sandbox::new()?, Sandbox::new()?);
        let sides = [(&client, CLIENT), (&server, SERVER)];
        let job = match stage.endpoint {
            EndpointKind::Tap => {
                let [near, far] = [client.tap()?, server.tap()?];
                Job::spawn(move || relay_taps([near, far]))?
            }
            EndpointKind::Veth => {
                let mut ports = Vec::new();
                let mut netlinks = Vec::new();
                for (sandbox, _) in sides {
                    let (socket, netlink) = sandbox.veth_port()?;
                    let mut socket = PacketSocket::from_fd(socket, &RingOptions::default())?;
                    socket.bind(PORT)?;
                    ports.push(socket);
                    netlinks.push(netlink);
                }
                for (sandbox, addresses) in sides {
                    sandbox.configure(INTERFACE, &setup(addresses))?;
                }
                for mut netlink in netlinks {
                    wait_running(&mut netlink, PORT)?;
                }
                Job::spawn(move || relay_packets(ports))?
            }
        };
        if stage.endpoint == EndpointKind::Tap {
            for (sandbox, addresses) in sides {
                sandbox.configure(INTERFACE, &setup(addresses))?;
            }
        }
        Ground {
            switch: vec![job.pid],
            client,
            server,
            target: SERVER,
            joint: Box::new(job),
        }
        .prove()
        .map(Some)
    }
}

/// Carries frames between TAPs until it is killed.
fn relay_taps(taps: [OwnedFd; 2]) -> Result<(), Problem> {
    let poll = register(taps.iter().map(|tap| tap.as_fd()))?;
    let mut events = Vec::with_capacity(2);
    let mut space = vec![0; tap::MAX_FRAME_LENGTH];
    loop {
        wait(&poll, &mut events)?;
        for event in &events {
            let from = usize::from(event.data.u64() == 1);
            let (from, to) = (&taps[from], &taps[1 - from]);
            for _ in 0..BURST {
                match tap::read(from.as_fd(), &mut space) {
                    // What the other side has no room for is lost, as on any wire.
                    Ok(len) => drop(tap::write(to.as_fd(), &space[..len])),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

/// Carries frames between packet sockets until it is killed.
fn relay_packets(mut ports: Vec<PacketSocket>) -> Result<(), Problem> {
    let poll = register(ports.iter().map(|port| port.as_fd()))?;
    let mut events = Vec::with_capacity(2);
    loop {
        wait(&poll, &mut events)?;
        for event in &events {
            let [near, far] = &mut ports[..] else {
                return Err("a relay has two ends".into());
            };
            let (from, to) = if event.data.u64() == 0 {
                (near, far)
            } else {
                (far, near)
            };
            for frame in &mut from.frames() {
                let _ = to.send(frame);
            }
        }
    }
}

fn register<'a>(
    ends: impl Iterator<Item = std::os::fd::BorrowedFd<'a>>,
) -> Result<OwnedFd, Problem> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (number, end) in (0..).zip(ends) {
        epoll::add(&poll, end, EventData::new_u64(number), EventFlags::IN)?;
    }
    Ok(poll)
}

fn wait(poll: &OwnedFd, events: &mut Vec<epoll::Event>) -> Result<(), Problem> {
    events.clear();
    match epoll::wait(poll, rustix::buffer::spare_capacity(events), None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
