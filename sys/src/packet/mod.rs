//! Packet sockets: all frames of one interface, received through a ring, sent with their headers.
//!
//! A veth pair with a packet socket on the switch's end is the endpoint for hosts on which
//! `/dev/net/tun` is out of reach, and a packet socket on a host interface is a way out. Like a TAP
//! it carries super-frames and partial checksums under a virtio-net header.
//!
//! # Theory of operation
//!
//! 1. The socket belongs to the network namespace where it was opened; afterwards nothing needs that
//!    namespace or a capability any more: ring, binding, filter and membership are set through the
//!    descriptor from anywhere (tried). It pins the namespace.
//! 2. Order: header, version and headroom, then the ring, then the binding. The kernel refuses the
//!    first three once there is a ring, and a socket bound before it has its ring receives into a
//!    queue that nobody reads.
//! 3. Making a ring and closing the socket each wait for an RCU grace period, 8 to 40 ms; binding
//!    takes 4 µs. So a socket can be [prepared](PacketSocket::prepare) ahead of time and bound when
//!    an interface is there, and is not closed on a dataplane thread.
//! 4. The ring survives its owner's death as long as somebody holds the descriptor. A successor
//!    could map it again, but not read it: the kernel tells neither its shape nor where it writes
//!    next, and slots that the dead process was rewriting look like fresh ones. So
//!    [`PacketSocket::from_fd`] always tears down and builds anew; the kernel permits that once no
//!    process has the old ring mapped (EBUSY before, tried). Frames of the meantime are lost.
//! 5. The kernel takes a VLAN tag out of the frame and tells it beside: in the slot's header, or for
//!    long frames in the auxiliary data. It is put back.
//! 6. Frames that the interface itself sends are not received (`PACKET_IGNORE_OUTGOING`), otherwise
//!    each of ours would come back.
//! 7. When the interface goes down, the socket is readable with an error; when it is removed, the
//!    binding is gone for good. [`PacketSocket::take_fault`] tells them apart.
//!
//! What a veth may hand over and a virtio-net header cannot describe (SCTP checksums, tunnelled
//! super-frames) must be switched off at the container's end:
//! [`ethtool::fit_for_packet_socket`](crate::ethtool::fit_for_packet_socket).

mod binding;
mod error;
mod filter;
mod long;
mod ring;
mod uapi;

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

pub use error::PacketError;
pub use filter::MAX_FILTER_ADDRESSES;
pub use ring::{BLOCK_SIZE, Frames, FramesIter, Layout};

use crate::sockopt;
use binding::Binding;
use error::failed;
use long::LongFrames;
use ring::Ring;
use uapi::{
    Membership, PACKET_ADD_MEMBERSHIP, PACKET_AUXDATA, PACKET_COPY_THRESH, PACKET_IGNORE_OUTGOING,
    PACKET_MR_PROMISC, PACKET_RESERVE, PACKET_STATISTICS, PACKET_VERSION, PACKET_VNET_HDR,
    Statistics, TPACKET_V2,
};

/// What is asked for as the socket's receive buffer, in which long frames wait. The kernel doubles
/// the number, for its own overhead, and counts a super-frame as some 72 KiB.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The least that makes [`Layout::Short`] worth while: 28 super-frames. With a fifth of it, which is
/// what kernels before 6.17 give an ordinary user (`net.core.rmem_max`), a single TCP stream loses
/// frames all the time (tried: 70,000 segments sent again in 2 s, instead of a hundred).
const LEAST_RECEIVE_BUFFER: usize = 2 << 20;

/// A packet socket with its ring.
///
/// Where the ring is being read is known to this value alone: after a fork, one side may use it.
#[derive(Debug)]
pub struct PacketSocket {
    // Before `socket`: the ring cannot be torn down by a successor while it is mapped, and fields
    // are dropped in this order.
    ring: Ring,
    long: LongFrames,
    socket: OwnedFd,
    promiscuous: bool,
    /// Frames dropped by the kernel, up to the last look: looking resets the kernel's counter.
    dropped: Cell<u64>,
}

/// How to receive.
#[derive(Clone, Copy, Debug)]
pub struct RingOptions<'a> {
    /// How many blocks of slots the ring has. Each is [`BLOCK_SIZE`] of resident memory from the
    /// start, and [`Layout::slots_per_block`] frames that may wait.
    pub blocks: u32,
    /// How the memory is divided; `None` to let the limits of this host decide. With
    /// [`Layout::Long`] at least two blocks are taken: fewer slots would slow a single TCP stream.
    pub layout: Option<Layout>,
    /// Whether to receive frames to any station, which an address besides the interface's own needs.
    pub promiscuous: bool,
    /// Receive only frames to these addresses and to groups. `None`: all that the interface hears.
    pub addresses: Option<&'a [[u8; 6]]>,
}

impl Default for RingOptions<'_> {
    fn default() -> Self {
        Self {
            blocks: 1,
            layout: None,
            promiscuous: false,
            addresses: None,
        }
    }
}

/// An interface of the socket's network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface<'a> {
    /// By its number.
    Index(u32),
    /// By its name.
    Name(&'a str),
}

impl From<u32> for Interface<'_> {
    fn from(index: u32) -> Self {
        Self::Index(index)
    }
}

impl<'a> From<&'a str> for Interface<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(name)
    }
}

impl std::fmt::Display for Interface<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index(index) => write!(formatter, "interface {index}"),
            Self::Name(name) => formatter.write_str(name),
        }
    }
}

/// What became of a socket's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketFault {
    /// It was set down. Frames come again when it is set up.
    Down,
    /// It was removed, or moved to another namespace. The socket is of no more use.
    Gone,
}

/// Opens a packet socket in the current network namespace, neither bound nor with a ring: what a
/// process inside makes and passes out, for [`PacketSocket::from_fd`] elsewhere.
pub fn open_unbound() -> Result<OwnedFd, PacketError> {
    rustix::net::socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        // No protocol: nothing is received before the binding names one.
        None,
    )
    .map_err(|errno| match errno {
        rustix::io::Errno::PERM | rustix::io::Errno::ACCESS => PacketError::NotPermitted,
        source => failed("opening a packet socket", source.into()),
    })
}

impl PacketSocket {
    /// Opens a packet socket on `interface` of the current network namespace.
    pub fn open<'a>(
        interface: impl Into<Interface<'a>>,
        options: &RingOptions<'_>,
    ) -> Result<Self, PacketError> {
        let mut socket = Self::prepare(options)?;
        socket.bind(interface)?;
        Ok(socket)
    }

    /// Opens a packet socket in the current network namespace and builds its ring, for an interface
    /// to be named later by [`bind`](Self::bind). The slow part, ahead of time.
    pub fn prepare(options: &RingOptions<'_>) -> Result<Self, PacketError> {
        Self::from_fd(open_unbound()?, options)
    }

    /// Takes over a packet socket from another process: new or used, with or without a ring, bound
    /// or not. One that was not bound needs [`bind`](Self::bind).
    pub fn from_fd(socket: OwnedFd, options: &RingOptions<'_>) -> Result<Self, PacketError> {
        let binding = Binding::of(socket.as_fd())?;
        if binding.interface < 0 {
            return Err(PacketError::InterfaceGone);
        }
        rustix::io::ioctl_fionbio(&socket, true)
            .map_err(|source| failed("making the packet socket non-blocking", source.into()))?;
        match options.addresses {
            Some(addresses) => attach_filter(socket.as_fd(), addresses)?,
            None => filter::detach(socket.as_fd())
                .map_err(|source| failed("removing the packet socket's filter", source))?,
        }
        configure(socket.as_fd())?;
        let ring = build_ring(socket.as_fd(), options)?;
        let mut socket = Self {
            ring,
            long: LongFrames::default(),
            socket,
            promiscuous: options.promiscuous,
            dropped: Cell::new(0),
        };
        // What a predecessor lost is not ours.
        socket.look_at_statistics()?;
        socket.dropped.set(0);
        if let Ok(index @ 1..) = u32::try_from(binding.interface) {
            socket.bind(index)?;
        }
        Ok(socket)
    }

    /// Receives from `interface` of the socket's own network namespace, wherever the caller is: a
    /// name, too, is looked up there (tried).
    ///
    /// An interface that is down is no hindrance; [`take_fault`](Self::take_fault) then says so once.
    pub fn bind<'a>(&mut self, interface: impl Into<Interface<'a>>) -> Result<(), PacketError> {
        let interface = interface.into();
        let index = self.index_of(interface)?;
        let name = || interface.to_string();
        binding::bind(self.socket.as_fd(), index).map_err(|source| {
            match source.raw_os_error() {
                Some(libc::ENODEV) => PacketError::NoInterface { interface: name() },
                _ => failed("binding the packet socket", source),
            }
        })?;
        if Binding::of(self.socket.as_fd())?.hardware != libc::ARPHRD_ETHER {
            return Err(PacketError::NotEthernet { interface: name() });
        }
        if self.promiscuous {
            let membership = Membership {
                interface: index,
                kind: PACKET_MR_PROMISC,
                address_length: 0,
                address: [0; 8],
            };
            sockopt::set(
                self.socket.as_fd(),
                libc::SOL_PACKET,
                PACKET_ADD_MEMBERSHIP,
                &membership,
            )
            .map_err(|source| failed("setting the interface promiscuous", source))?;
        }
        Ok(())
    }

    /// The frames that have arrived. Never blocks.
    ///
    /// Edge-triggered readiness comes with every frame that arrives, and not for those that were
    /// there before: burst follows burst until one is empty.
    pub fn frames(&mut self) -> Frames<'_> {
        Frames::new(&mut self.ring, &mut self.long, self.socket.as_fd())
    }

    /// Sends one frame, virtio-net header first. The kernel takes all of it or nothing.
    ///
    /// `WouldBlock`: too many sent frames are still on their way through the interface. EMSGSIZE:
    /// longer than the interface's MTU and no super-frame. ENETDOWN and ENXIO: interface down, gone.
    pub fn send(&self, frame: &[u8]) -> io::Result<usize> {
        send(self.socket.as_fd(), frame)
    }

    /// The sending half, for threads that send while another one receives.
    pub fn sender(&self) -> Result<PacketSender, PacketError> {
        let socket = self
            .socket
            .try_clone()
            .map_err(|source| failed("duplicating the packet socket", source))?;
        Ok(PacketSender { socket })
    }

    /// Replaces the set of addresses whose frames are received; groups always are.
    pub fn set_addresses(&self, addresses: &[[u8; 6]]) -> Result<(), PacketError> {
        attach_filter(self.socket.as_fd(), addresses)
    }

    /// How many frames were lost for want of room, since this value exists: of a slot, or of the
    /// queue for long frames. A system call: for the statistics, not for each frame.
    pub fn dropped(&self) -> u64 {
        let by_kernel = match self.look_at_statistics() {
            Ok(dropped) => dropped,
            // The option exists on every kernel; the last known value is the best answer.
            Err(_) => self.dropped.get(),
        };
        by_kernel + self.ring.cut()
    }

    /// How the ring's memory is divided.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.ring.layout()
    }

    /// How many frames may wait.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.ring.slots()
    }

    /// The number of the interface, `None` while not bound and when the interface is gone.
    pub fn interface(&self) -> Result<Option<u32>, PacketError> {
        let binding = Binding::of(self.socket.as_fd())?;
        Ok(u32::try_from(binding.interface)
            .ok()
            .filter(|&index| index != 0))
    }

    /// What became of the interface, to be asked when readiness comes with an error.
    pub fn take_fault(&self) -> Result<Option<PacketFault>, PacketError> {
        // Reading the error also takes it away; otherwise the socket would stay ready for ever.
        let error = rustix::net::sockopt::socket_error(&self.socket)
            .map_err(|source| failed("asking for the packet socket's error", source.into()))?;
        if Binding::of(self.socket.as_fd())?.interface < 0 {
            return Ok(Some(PacketFault::Gone));
        }
        match error {
            Ok(()) => Ok(None),
            Err(rustix::io::Errno::NETDOWN) => Ok(Some(PacketFault::Down)),
            Err(source) => Err(failed("receiving from the packet socket", source.into())),
        }
    }

    fn look_at_statistics(&self) -> Result<u64, PacketError> {
        let statistics: Statistics =
            sockopt::get(self.socket.as_fd(), libc::SOL_PACKET, PACKET_STATISTICS)
                .map_err(|source| failed("asking for the packet socket's statistics", source))?;
        self.dropped
            .set(self.dropped.get() + u64::from(statistics.drops));
        Ok(self.dropped.get())
    }

    fn index_of(&self, interface: Interface<'_>) -> Result<i32, PacketError> {
        let missing = || PacketError::NoInterface {
            interface: interface.to_string(),
        };
        let index = match interface {
            Interface::Index(index) => index,
            Interface::Name(name) => {
                rustix::net::netdevice::name_to_index(&self.socket, name).map_err(|_| missing())?
            }
        };
        // Zero would mean every interface.
        i32::try_from(index)
            .ok()
            .filter(|&index| index > 0)
            .ok_or_else(missing)
    }
}

/// A packet socket that only sends. A descriptor of its own: the receiving half may be locked by
/// whoever reads the ring. It keeps the interface's namespace alive as that half does.
#[derive(Debug)]
pub struct PacketSender {
    socket: OwnedFd,
}

impl PacketSender {
    /// Sends one frame like [`PacketSocket::send`].
    pub fn send(&self, frame: &[u8]) -> io::Result<usize> {
        send(self.socket.as_fd(), frame)
    }
}

impl AsFd for PacketSender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn send(socket: BorrowedFd<'_>, frame: &[u8]) -> io::Result<usize> {
    rustix::net::send(socket, frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
        .map_err(io::Error::from)
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Gives the socket the ring that the options and this host's limits ask for.
fn build_ring(socket: BorrowedFd<'_>, options: &RingOptions<'_>) -> Result<Ring, PacketError> {
    let room = enlarge_receive_buffer(socket).map_err(|source| {
        failed(
            "enlarging the packet socket's receive buffer",
            source.into(),
        )
    })?;
    let layout = options.layout.unwrap_or(if room >= LEAST_RECEIVE_BUFFER {
        Layout::Short
    } else {
        Layout::Long
    });
    let blocks = match layout {
        Layout::Short => options.blocks,
        Layout::Long => options.blocks.max(2),
    };
    Ring::build(socket, layout, blocks).map_err(|source| match source.raw_os_error() {
        Some(libc::ENOMEM) => PacketError::Memory { blocks },
        Some(libc::EBUSY) => PacketError::InUse,
        _ => failed("making the packet socket's ring", source),
    })
}

/// Asks for as much as is wanted, beyond the host's limit where this process may, and returns what
/// there is.
fn enlarge_receive_buffer(socket: BorrowedFd<'_>) -> rustix::io::Result<usize> {
    use rustix::net::sockopt;
    if sockopt::set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER).is_err() {
        sockopt::set_socket_recv_buffer_size(socket, RECEIVE_BUFFER)?;
    }
    sockopt::socket_recv_buffer_size(socket)
}

/// Sets everything that must come before the ring, tearing down a predecessor's if there is one.
fn configure(socket: BorrowedFd<'_>) -> Result<(), PacketError> {
    let options = [
        ("PACKET_VNET_HDR", PACKET_VNET_HDR, 1),
        ("PACKET_VERSION", PACKET_VERSION, TPACKET_V2),
        ("PACKET_RESERVE", PACKET_RESERVE, ring::RESERVE),
        ("PACKET_IGNORE_OUTGOING", PACKET_IGNORE_OUTGOING, 1),
        ("PACKET_COPY_THRESH", PACKET_COPY_THRESH, 1),
        ("PACKET_AUXDATA", PACKET_AUXDATA, 1),
    ];
    for (option, number, value) in options {
        let set = || sockopt::set(socket, libc::SOL_PACKET, number, &value);
        let result = set().or_else(|error| {
            if error.raw_os_error() != Some(libc::EBUSY) {
                return Err(error);
            }
            Ring::tear_down(socket)?;
            set()
        });
        result.map_err(|source| match source.raw_os_error() {
            Some(libc::EBUSY) => PacketError::InUse,
            Some(libc::ENOPROTOOPT) => PacketError::Unsupported { option },
            _ => failed("configuring the packet socket", source),
        })?;
    }
    Ok(())
}

fn attach_filter(socket: BorrowedFd<'_>, addresses: &[[u8; 6]]) -> Result<(), PacketError> {
    if addresses.len() > MAX_FILTER_ADDRESSES {
        return Err(PacketError::TooManyAddresses {
            asked: addresses.len(),
        });
    }
    filter::attach(socket, addresses)
        .map_err(|source| failed("setting the packet socket's filter", source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_descriptors_are_refused() {
        let options = RingOptions::default();
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        assert!(matches!(
            PacketSocket::from_fd(reader, &options),
            Err(PacketError::NotPacketSocket)
        ));
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(matches!(
            PacketSocket::from_fd(udp.into(), &options),
            Err(PacketError::NotPacketSocket)
        ));
    }

    #[test]
    fn interfaces_are_named_as_the_user_named_them() {
        assert_eq!(Interface::from("eth0").to_string(), "eth0");
        assert_eq!(Interface::from(7).to_string(), "interface 7");
    }
}
