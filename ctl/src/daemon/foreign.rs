//! Descriptors of things that clients have made.
//!
//! Closing one may take as long as whoever made it likes: a TCP socket that lingers waits for its
//! peer, a file of a FUSE server for the server. So they are closed on threads of their own, which
//! nothing waits for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc;

use heddle_sys::process;
use rustix::fs::{AtFlags, FileType, StatxFlags};
use rustix::net::{AddressFamily, RecvFlags, Shutdown};
use tokio::net::UnixStream;

use crate::api::EndpointKind;
use crate::plumb::Parcel;

/// Device number of `/dev/net/tun`.
const TUN: (u32, u32) = (10, 200);

/// Stack of a thread that closes.
const STACK: usize = 64 << 10;

/// Drops descriptors, and what they are in, where that may take any time. What `hold` is lasts as
/// long.
pub(super) fn close<T: Send + 'static, H: Send + 'static>(what: T, hold: H) {
    let (give, take) = mpsc::channel::<(T, H)>();
    let closing = std::thread::Builder::new()
        .name("closing".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            if let Ok((what, hold)) = take.recv() {
                drop(what);
                drop(hold);
            }
        });
    if let Err(error) = closing {
        tracing::warn!(%error, "descriptors of a client cannot be closed");
        std::mem::forget((what, hold));
        return;
    }
    // The thread waits for this and takes it.
    let _ = give.send((what, hold));
}

/// Ends a connection. Descriptors that the client has passed and nobody has taken are closed with it.
pub(super) fn hang_up<H: Send + 'static>(stream: UnixStream, hold: H) {
    // Nothing more can arrive after this.
    let _ = rustix::net::shutdown(&stream, Shutdown::Read);
    let mut octet = [0; 1];
    let look = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let left = rustix::net::recv(&stream, &mut octet, look);
    if !matches!(left, Ok((_, 0))) {
        close(stream.into_std(), hold);
    }
}

/// Whether the descriptors of a parcel are what it says, as far as closing and polling them goes.
/// Asks nobody but this kernel.
pub(super) fn is_as_said(parcel: &Parcel) -> bool {
    let is_link = match parcel.kind {
        EndpointKind::Tap => is_tun,
        EndpointKind::Veth => is_packet_socket,
    };
    let is_process = |process: &OwnedFd| process::is_pidfd(process.as_fd());
    parcel.links.iter().all(|link| is_link(link.as_fd()))
        && parcel.process.as_ref().is_none_or(is_process)
}

fn is_tun(descriptor: BorrowedFd<'_>) -> bool {
    // What a file is does not change, so that its server need not be asked anew.
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let Ok(found) = rustix::fs::statx(descriptor, "", flags, StatxFlags::TYPE) else {
        return false;
    };
    FileType::from_raw_mode(found.stx_mode.into()) == FileType::CharacterDevice
        && (found.stx_rdev_major, found.stx_rdev_minor) == TUN
}

fn is_packet_socket(descriptor: BorrowedFd<'_>) -> bool {
    rustix::net::sockopt::socket_domain(descriptor) == Ok(AddressFamily::PACKET)
}

#[cfg(test)]
mod tests {
    use heddle_sys::tap::Offloads;

    use super::*;

    #[test]
    fn only_links_and_processes_are_as_said() {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let file = || OwnedFd::from(tempfile::tempfile().unwrap());
        let socket = || OwnedFd::from(std::net::UdpSocket::bind("0.0.0.0:0").unwrap());
        let pair = || OwnedFd::from(std::os::unix::net::UnixStream::pair().unwrap().0);
        for kind in [EndpointKind::Tap, EndpointKind::Veth] {
            for foreign in [null(), file(), socket(), pair()] {
                assert!(!is_as_said(&parcel(kind, vec![foreign], None)));
            }
        }
        let own = process::pidfd_open(std::process::id()).unwrap();
        assert!(is_as_said(&parcel(EndpointKind::Tap, vec![], Some(own))));
        assert!(!is_as_said(&parcel(
            EndpointKind::Tap,
            vec![],
            Some(pair())
        )));
    }

    #[test]
    fn what_takes_long_to_close_does_not_hold_up_whoever_closes_it() {
        struct Slow(mpsc::Receiver<()>);
        impl Drop for Slow {
            fn drop(&mut self) {
                // Until the other end is gone.
                let _ = self.0.recv();
            }
        }
        let (let_go, held) = mpsc::channel();
        let (hold, released) = mpsc::channel::<()>();
        close(Slow(held), hold);
        // Still closing, and yet here we are.
        assert_eq!(released.try_recv(), Err(mpsc::TryRecvError::Empty));
        drop(let_go);
        assert_eq!(released.recv(), Err(mpsc::RecvError));
    }

    fn parcel(kind: EndpointKind, links: Vec<OwnedFd>, process: Option<OwnedFd>) -> Parcel {
        Parcel {
            kind,
            links,
            interface: None,
            offloads: Offloads::default(),
            process,
        }
    }
}
