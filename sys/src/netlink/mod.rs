//! Interfaces, addresses, routes and neighbours of a network namespace, through rtnetlink
//! (RFC 3549 §3; rtnetlink(7)).
//!
//! # Theory of operation
//!
//! - A [`Netlink`] acts on the network namespace in which its socket was opened, wherever its holder
//!   is. So a socket opened inside a namespace and passed out goes on configuring it.
//! - The kernel checks the capabilities of whoever *sends*, against the user namespace that owns the
//!   network namespace. An ordinary user has them all over a container that it made itself, without
//!   entering it. Every request is addressed to the kernel by name and not through a connected
//!   socket, because for the latter the kernel also asks for the capabilities of the *opener*.
//! - One request, one answer: the kernel works while the request is being sent, so that the answer
//!   is there when the call returns, and nothing here ever waits for anybody but the kernel.
//! - Messages are built by `netlink-packet-route`. Of answers only the attributes that are wanted are
//!   decoded, by the same crate, so that one that it does not understand, on a kernel of the future
//!   or an exotic interface, spoils nothing.
//!
//! The socket is plain, not `netlink-sys`'s: that one can be cloned without being duplicated, and
//! then closes one descriptor twice.

mod address;
mod discipline;
mod error;
mod link;
mod neighbour;
mod route;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

pub use address::Address;
pub use error::NetlinkError;
pub use link::{Link, LinkChange, VethOptions};
pub use route::{Route, RouteKind};

use crate::{clock, sockopt};
use error::Failure;

/// An rtnetlink socket.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// The longest message of a dump is 32 KiB (`netlink_dump` in the kernel), except for interfaces
/// with very many virtual functions.
const BUFFER_SIZE: usize = 64 << 10;

/// How often a dump is begun anew because the tables changed while they were read.
const MAX_DUMPS: usize = 8;

/// Options of level `SOL_NETLINK`, `linux/netlink.h`.
const NETLINK_CAP_ACK: libc::c_int = 10;
const NETLINK_EXT_ACK: libc::c_int = 11;
const NETLINK_GET_STRICT_CHK: libc::c_int = 12;

/// The address of the kernel.
const KERNEL: SocketAddrNetlink = SocketAddrNetlink::new(0, 0);

impl Netlink {
    /// Opens a socket in the current network namespace.
    pub fn open() -> Result<Self, NetlinkError> {
        let opened = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE is protocol zero.
            None,
        );
        let socket =
            opened.map_err(|source| NetlinkError::io("opening a netlink socket", source))?;
        Self::from_fd(socket)
    }

    /// Takes over an rtnetlink socket from another process; it acts where it was opened.
    pub fn from_fd(socket: OwnedFd) -> Result<Self, NetlinkError> {
        let kind = (
            rustix::net::sockopt::socket_domain(&socket),
            rustix::net::sockopt::socket_protocol(&socket),
        );
        if kind != (Ok(AddressFamily::NETLINK), Ok(None)) {
            return Err(NetlinkError::NotNetlink);
        }
        for option in [
            // An error's reason in words.
            NETLINK_EXT_ACK,
            // Without the request in every answer.
            NETLINK_CAP_ACK,
            // Dumps of one table or one interface instead of all.
            NETLINK_GET_STRICT_CHK,
        ] {
            sockopt::set(socket.as_fd(), libc::SOL_NETLINK, option, &1).map_err(|source| {
                NetlinkError::Io {
                    action: "configuring a netlink socket",
                    source,
                }
            })?;
        }
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Sends a request and waits for it to be acknowledged.
    fn execute(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Failure> {
        let ignore = |_, _: &[u8]| Ok(());
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK | flags, ignore)
    }

    /// Sends a question with one answer, which `decode` gets as type and payload.
    fn ask<T>(
        &mut self,
        message: RouteNetlinkMessage,
        decode: impl Fn(u16, &[u8]) -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let mut answer = None;
        // With an acknowledgement, which comes last, so that nothing is left in the socket.
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK, |kind, payload| {
            answer = decode(kind, payload)?.or(answer.take());
            Ok(())
        })?;
        answer.ok_or(Failure::Malformed("no answer"))
    }

    /// Sends a question with many answers, each of which `decode` gets.
    fn dump<T>(
        &mut self,
        message: &RouteNetlinkMessage,
        mut decode: impl FnMut(u16, &[u8], &mut Vec<T>) -> Result<(), Failure>,
    ) -> Result<Vec<T>, Failure> {
        for _ in 0..MAX_DUMPS {
            let mut answers = Vec::new();
            let result = self.exchange(
                message.clone(),
                NLM_F_REQUEST | NLM_F_DUMP,
                |kind, payload| decode(kind, payload, &mut answers),
            );
            match result {
                Ok(()) => return Ok(answers),
                // Entries may be missing or double.
                Err(Failure::Interrupted) => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Interrupted)
    }

    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        mut each: impl FnMut(u16, &[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.send(message, flags)?;
        let mut buffer = Vec::with_capacity(BUFFER_SIZE);
        let mut result = Ok(());
        loop {
            self.receive(&mut buffer)?;
            let mut rest = buffer.as_slice();
            while !rest.is_empty() {
                let message = NetlinkBuffer::new_checked(rest)
                    .map_err(|_| Failure::Malformed("a message was cut"))?;
                let length = usize::try_from(message.length()).unwrap_or(usize::MAX);
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                // What is left of a request that failed halfway.
                if message.sequence_number() != self.sequence {
                    continue;
                }
                match Answer::of(&message)? {
                    Answer::End => return result,
                    // An answer that cannot be used must not end the loop: the end is still to come.
                    Answer::Interrupted => result = result.and(Err(Failure::Interrupted)),
                    Answer::Data => {
                        if result.is_ok() {
                            result = each(message.message_type(), message.payload());
                        }
                    }
                }
            }
        }
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Failure> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        rustix::io::retry_on_intr(|| {
            rustix::net::sendto(&self.socket, &bytes, SendFlags::empty(), &KERNEL)
        })
        .map_err(Failure::Socket)?;
        Ok(())
    }

    /// Receives one datagram, which holds one or more messages.
    fn receive(&self, buffer: &mut Vec<u8>) -> Result<(), Failure> {
        loop {
            buffer.clear();
            let received = rustix::net::recvfrom(
                &self.socket,
                spare_capacity(buffer),
                // The true length, so that a cut is noticed.
                RecvFlags::TRUNC,
            );
            let (_, length, sender) = match received {
                Err(Errno::INTR) => continue,
                result => result.map_err(Failure::Socket)?,
            };
            if length > buffer.len() {
                return Err(Failure::Malformed("an answer longer than any"));
            }
            // Any process may write to this socket.
            if sender.is_some_and(|sender| SocketAddrNetlink::try_from(sender) == Ok(KERNEL)) {
                return Ok(());
            }
        }
    }

    /// What interface `index` is called, for messages to the user.
    fn name_of(&mut self, index: u32) -> String {
        match self.link_by_index(index) {
            Ok(link) => link.name,
            Err(_) => format!("interface {index}"),
        }
    }
}

/// Asks again and again until the kernel has done in the background what it was asked for, at most
/// for `patience`. No readiness belongs to these things, hence the pauses.
fn wait_until(
    patience: Duration,
    mut is_done: impl FnMut() -> Result<bool, NetlinkError>,
) -> Result<bool, NetlinkError> {
    const PAUSE: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 200_000,
    };
    let begin = clock::monotonic();
    while !is_done()? {
        if clock::monotonic().saturating_sub(begin) >= patience {
            return Ok(false);
        }
        let _ = poll(&mut [], Some(&PAUSE));
    }
    Ok(true)
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<Netlink> for OwnedFd {
    fn from(netlink: Netlink) -> Self {
        netlink.socket
    }
}

/// What a message means for the exchange.
enum Answer {
    Data,
    Interrupted,
    End,
}

impl Answer {
    fn of(message: &NetlinkBuffer<&[u8]>) -> Result<Self, Failure> {
        const ERROR: u16 = netlink_packet_core::NLMSG_ERROR;
        const DONE: u16 = netlink_packet_core::NLMSG_DONE;
        const NOOP: u16 = netlink_packet_core::NLMSG_NOOP;
        let interrupted = message.flags() & netlink_packet_core::NLM_F_DUMP_INTR != 0;
        match message.message_type() {
            // Also the end of a dump may carry an error.
            ERROR | DONE => match Failure::of(message) {
                Some(failure) => Err(failure),
                None if interrupted => Err(Failure::Interrupted),
                None => Ok(Self::End),
            },
            NOOP => Ok(Self::Data),
            _ if interrupted => Ok(Self::Interrupted),
            _ => Ok(Self::Data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found_by_name_by_number_and_in_the_list() {
        let mut netlink = Netlink::open().unwrap();
        let loopback = netlink.link("lo").unwrap();
        assert!(loopback.loopback);
        assert_eq!(loopback.name, "lo");
        assert_eq!(netlink.link_by_index(loopback.index).unwrap(), loopback);
        let all = netlink.links().unwrap();
        assert!(all.contains(&loopback), "{all:?}");
    }

    #[test]
    fn an_unknown_interface_is_named_in_the_error() {
        let mut netlink = Netlink::open().unwrap();
        let error = netlink.link("no-such-if").unwrap_err();
        assert!(error.is_absent(), "{error:?}");
        assert_eq!(
            error.to_string(),
            "looking for interface no-such-if: No such device"
        );
        // The socket is as good as before.
        assert!(netlink.link("lo").is_ok());
    }

    #[test]
    fn other_sockets_are_refused() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(matches!(
            Netlink::from_fd(udp.into()),
            Err(NetlinkError::NotNetlink)
        ));
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        assert!(matches!(
            Netlink::from_fd(pipe),
            Err(NetlinkError::NotNetlink)
        ));
    }

    #[test]
    fn a_passed_socket_goes_on_where_the_first_holder_stopped() {
        let mut first = Netlink::open().unwrap();
        let copy = first.as_fd().try_clone_to_owned().unwrap();
        first.links().unwrap();
        let mut second = Netlink::from_fd(copy).unwrap();
        assert_eq!(second.link("lo").unwrap(), first.link("lo").unwrap());
    }
}
