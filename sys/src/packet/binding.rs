//! Which interface a packet socket receives from.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::net::SocketType;

use super::error::{PacketError, failed};

/// `ETH_P_ALL` of `linux/if_ether.h`.
const ETH_P_ALL: u16 = 3;

const LINK_ADDRESS_LENGTH: libc::socklen_t = {
    assert!(size_of::<libc::sockaddr_ll>() == 20);
    20
};

/// Where a packet socket is bound.
pub(super) struct Binding {
    /// 0: nowhere; -1: to an interface that is gone.
    pub(super) interface: i32,
    /// `ARPHRD_*`.
    pub(super) hardware: u16,
}

impl Binding {
    /// Asks the kernel. Also finds out whether `socket` is a raw packet socket at all.
    pub(super) fn of(socket: BorrowedFd<'_>) -> Result<Self, PacketError> {
        let kind = rustix::net::sockopt::socket_type(socket);
        if kind != Ok(SocketType::RAW) {
            return Err(PacketError::NotPacketSocket);
        }
        let mut address = link_address(0, 0);
        let mut length = LINK_ADDRESS_LENGTH;
        // SAFETY: the kernel writes at most `length` bytes, the size of `address`, whose fields take
        // any value. `unsafe` is needed because no wrapper knows this address family.
        let result = unsafe {
            libc::getsockname(
                socket.as_raw_fd(),
                (&raw mut address).cast(),
                &raw mut length,
            )
        };
        if result < 0 {
            let source = io::Error::last_os_error();
            return Err(failed("asking for the packet socket's interface", source));
        }
        if i32::from(address.sll_family) != libc::AF_PACKET {
            return Err(PacketError::NotPacketSocket);
        }
        Ok(Self {
            interface: address.sll_ifindex,
            hardware: address.sll_hatype,
        })
    }
}

/// Receives every protocol from the interface with number `index`.
pub(super) fn bind(socket: BorrowedFd<'_>, index: i32) -> io::Result<()> {
    let address = link_address(ETH_P_ALL, index);
    // SAFETY: pointer and length describe `address`, which outlives the call; the kernel only reads.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            LINK_ADDRESS_LENGTH,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn link_address(protocol: u16, interface: i32) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::sa_family_t::try_from(libc::AF_PACKET).expect("AF_PACKET is 17"),
        sll_protocol: protocol.to_be(),
        sll_ifindex: interface,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}
