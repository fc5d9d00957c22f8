//! What carries the frames: packet sockets in namespaces, or something in memory.

use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::time::Duration;

use heddle_sys::netlink::LinkChange;
use heddle_sys::packet::{self, PacketSocket, RingOptions};
use heddle_wire::{Address, MacAddr, Protocol, VnetHeader};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::places::{INSIDE_MTU, OUTSIDE_MTU, Station};
use crate::ground::Joint;
use crate::problem::Problem;
use crate::sandbox::Sandbox;

/// How long a straggler may be behind the marker that was sent after it: workers and processors share
/// the frames of one sender.
const SETTLE: Duration = Duration::from_millis(15);

/// What carries frames between the stations and the translator under test.
pub(crate) trait Medium {
    /// Sends a finished frame.
    fn send(&mut self, from: Station, frame: &[u8]) -> Result<(), Problem>;

    /// A frame that has arrived, virtio-net header first; waits for one, but not for longer than this.
    fn receive(&mut self, patience: Duration) -> Result<Option<(Station, Vec<u8>)>, Problem>;

    /// The Ethernet address of a station.
    fn mac(&self, station: Station) -> MacAddr;

    /// For how long the translator would remember a flow that is silent from now on; `None` if it does
    /// not tell.
    fn remembers(&mut self, flow: &Flow) -> Result<Option<Duration>, Problem>;

    /// How long one has to listen before one may say that nothing comes.
    fn settle(&self) -> Duration;

    /// The present.
    fn now(&self) -> Duration;
}

/// A flow, by the end that began it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) protocol: Protocol,
    pub(crate) source: Address,
    /// The identifier of an ICMP query.
    pub(crate) port: u16,
}

/// What a peer lays for its behaviour to be looked at: hosts and an outside that have an interface and
/// nothing else, so that no kernel answers in their place.
#[derive(Debug)]
pub(crate) struct Arrangement {
    /// What joins them, ended with this value: first, so that it need not notice that they end.
    pub(crate) joint: Box<dyn Translator>,
    /// The hosts inside.
    pub(crate) insiders: [Sandbox; 3],
    /// The next hop.
    pub(crate) outside: Sandbox,
}

/// A peer that translates.
pub(crate) trait Translator: Joint {
    /// See [`Medium::remembers`].
    fn remembers(&self, flow: &Flow) -> Result<Option<Duration>, Problem>;
}

/// Packet sockets on the interfaces of an [`Arrangement`].
#[derive(Debug)]
pub(crate) struct Wires {
    sockets: Vec<PacketSocket>,
    macs: Vec<MacAddr>,
    waiting: VecDeque<(Station, Vec<u8>)>,
    arrangement: Arrangement,
}

impl Wires {
    pub(crate) fn new(arrangement: Arrangement) -> Result<Wires, Problem> {
        let (mut sockets, mut macs) = (Vec::new(), Vec::new());
        let [a, b, c] = &arrangement.insiders;
        for sandbox in [a, b, c, &arrangement.outside] {
            let mtu = match sockets.len() {
                3 => OUTSIDE_MTU,
                _ => INSIDE_MTU,
            };
            let (interface, mac) = silence(sandbox, mtu)?;
            let fd = sandbox.bring_one(|| Ok(packet::open_unbound()?))?;
            let mut socket = PacketSocket::from_fd(
                fd,
                &RingOptions {
                    promiscuous: true,
                    ..RingOptions::default()
                },
            )?;
            socket.bind(interface)?;
            sockets.push(socket);
            macs.push(mac);
        }
        Ok(Wires {
            sockets,
            macs,
            waiting: VecDeque::new(),
            arrangement,
        })
    }

    fn read(&mut self) {
        for (socket, station) in self.sockets.iter_mut().zip(Station::ALL) {
            for frame in &mut socket.frames() {
                self.waiting.push_back((station, frame.to_vec()));
            }
        }
    }
}

/// Takes every address from the only interface of a sandbox: its kernel has nothing to say any more.
/// The number of the interface and its Ethernet address.
fn silence(sandbox: &Sandbox, mtu: u16) -> Result<(u32, MacAddr), Problem> {
    let mut netlink = sandbox.netlink()?;
    let links = netlink.links()?;
    let link = links
        .into_iter()
        .find(|link| !link.loopback && link.mac.is_some() && link.up)
        .ok_or("a station has no interface")?;
    for address in netlink.addresses()? {
        if address.interface == link.index {
            netlink.delete_address(link.index, address.ip, address.prefix_len)?;
        }
    }
    netlink.set_link(
        link.index,
        &LinkChange {
            mtu: Some(mtu.into()),
            ..LinkChange::default()
        },
    )?;
    let mac = link.mac.map(MacAddr).ok_or("an interface has no address")?;
    Ok((link.index, mac))
}

impl Medium for Wires {
    fn send(&mut self, from: Station, frame: &[u8]) -> Result<(), Problem> {
        let bytes = [&VnetHeader::NONE.emit(), frame].concat();
        self.sockets[from.index()].send(&bytes)?;
        Ok(())
    }

    fn receive(&mut self, patience: Duration) -> Result<Option<(Station, Vec<u8>)>, Problem> {
        self.read();
        if self.waiting.is_empty() {
            let mut fds: Vec<PollFd<'_>> = self
                .sockets
                .iter()
                .map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN))
                .collect();
            match poll(&mut fds, Some(&Timespec::try_from(patience)?)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.read();
        }
        Ok(self.waiting.pop_front())
    }

    fn mac(&self, station: Station) -> MacAddr {
        self.macs[station.index()]
    }

    fn remembers(&mut self, flow: &Flow) -> Result<Option<Duration>, Problem> {
        self.arrangement.joint.remembers(flow)
    }

    fn settle(&self) -> Duration {
        SETTLE
    }

    fn now(&self) -> Duration {
        heddle_sys::clock::monotonic()
    }
}
