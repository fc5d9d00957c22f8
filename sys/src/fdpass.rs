//! File descriptors over unix sockets.
//!
//! A process inside a namespace opens what belongs to it and passes it out; the receiver needs
//! neither the way there nor the right to open it. Works for stream and for sequenced-packet
//! sockets alike; on a stream the descriptors come with the first of the bytes sent with them, and
//! the kernel never joins the bytes of two messages with descriptors in one read.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};

use crate::sockopt;

/// The most descriptors of one message: `SCM_MAX_FD` in the kernel.
pub const MAX_FDS: usize = 253;

/// What came in one message.
#[derive(Debug)]
pub struct Received {
    /// How many bytes of the buffer were filled. Zero without descriptors: the other side has
    /// closed.
    pub len: usize,
    /// The descriptors, close-on-exec, in the order sent.
    pub fds: Vec<OwnedFd>,
    /// Whether the message had more bytes than the buffer (sequenced packets only; they are lost).
    pub truncated: bool,
    /// Whether the message had more descriptors than were accepted, or than this process may have
    /// open. The kernel has closed the others.
    pub fds_truncated: bool,
}

/// Who is at the other end of a connection, as the kernel saw it when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// The process, or 0 if it is not visible from here (another process namespace).
    pub pid: u32,
    /// Its effective user, as this process numbers users.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// Sends bytes and descriptors in one message and returns how many bytes were taken. On a stream
/// that may be fewer than given; the descriptors are under way all the same.
///
/// At least one byte and at most [`MAX_FDS`] descriptors; [`send_all_fds`] sends more.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if bytes.is_empty() {
        // A stream would drop the descriptors without a word.
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "descriptors need a byte with them",
        ));
    }
    if fds.len() > MAX_FDS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many descriptors for one message",
        ));
    }
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(fds.len()))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        let fits = control.push(SendAncillaryMessage::ScmRights(fds));
        assert!(fits, "the space was made for them");
    }
    let sent = retry_on_intr(|| {
        sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })?;
    Ok(sent)
}

/// Receives one message with at most `max_fds` descriptors.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], max_fds: usize) -> io::Result<Received> {
    let mut space =
        vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(max_fds.min(MAX_FDS)))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        match recvmsg(
            socket,
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            // Without the flag a program executed meanwhile would inherit them.
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    let mut fds: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    // Control messages are padded, so that one more descriptor may have fitted.
    let surplus = fds.len() > max_fds;
    fds.truncate(max_fds);
    Ok(Received {
        len: message.bytes,
        fds,
        truncated: message.flags.contains(ReturnFlags::TRUNC),
        fds_truncated: surplus || message.flags.contains(ReturnFlags::CTRUNC),
    })
}

/// Sends any number of descriptors, [`MAX_FDS`] a message, to a [`receive_all_fds`] at the other
/// end. Each message's bytes say how many descriptors are still to come after it.
pub fn send_all_fds(socket: BorrowedFd<'_>, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut rest = fds;
    loop {
        let (now, later) = rest.split_at(rest.len().min(MAX_FDS));
        let count = u32::try_from(later.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let bytes = count.to_be_bytes();
        let sent = send(socket, &bytes, now)?;
        // Four bytes fit any socket that takes a message at all.
        if sent != bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if later.is_empty() {
            return Ok(());
        }
        rest = later;
    }
}

/// Receives what [`send_all_fds`] sent; more than `max_fds` are an error. The socket must block.
pub fn receive_all_fds(socket: BorrowedFd<'_>, max_fds: usize) -> io::Result<Vec<OwnedFd>> {
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut fds = Vec::new();
    loop {
        let mut count = [0; 4];
        let received = receive(socket, &mut count, MAX_FDS)?;
        match received.len {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            4 => {}
            _ => return Err(invalid("not a list of descriptors")),
        }
        if received.fds_truncated {
            return Err(invalid("the limit of open descriptors is reached"));
        }
        fds.extend(received.fds);
        let rest = usize::try_from(u32::from_be_bytes(count)).unwrap_or(usize::MAX);
        if fds.len().saturating_add(rest) > max_fds {
            return Err(invalid("more descriptors than asked for"));
        }
        if rest == 0 {
            return Ok(fds);
        }
    }
}

/// Who is at the other end of `socket`.
///
/// Not through `rustix`, whose process number cannot be zero, while the kernel's can.
pub fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<PeerCredentials> {
    let credentials: libc::ucred = sockopt::get(socket, libc::SOL_SOCKET, libc::SO_PEERCRED)?;
    Ok(PeerCredentials {
        pid: u32::try_from(credentials.pid).unwrap_or(0),
        uid: credentials.uid,
        gid: credentials.gid,
    })
}

/// The supplementary groups of who is at the other end of `socket`, as the kernel saw them when the
/// connection was made. The effective group need not be one of them.
pub fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    sockopt::get_list(socket, libc::SOL_SOCKET, libc::SO_PEERGROUPS)
}

/// A pair of connected sockets that keep message boundaries: what parent and child talk over.
pub fn socketpair_seqpacket() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A pipe whose reading end tells which one it is.
    fn pipe_with(content: &str) -> OwnedFd {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        std::fs::File::from(writer)
            .write_all(content.as_bytes())
            .unwrap();
        reader
    }

    fn content_of(fd: OwnedFd) -> String {
        let mut content = String::new();
        std::fs::File::from(fd)
            .read_to_string(&mut content)
            .unwrap();
        content
    }

    #[test]
    fn descriptors_arrive_in_order_and_close_on_exec_over_both_kinds_of_socket() {
        let stream = UnixStream::pair().unwrap();
        let pairs = [
            socketpair_seqpacket().unwrap(),
            (OwnedFd::from(stream.0), OwnedFd::from(stream.1)),
        ];
        for (near, far) in pairs {
            let (one, two) = (pipe_with("one"), pipe_with("two"));
            let sent = send(near.as_fd(), b"hello", &[one.as_fd(), two.as_fd()]).unwrap();
            assert_eq!(sent, 5);
            let mut buffer = [0; 16];
            let received = receive(far.as_fd(), &mut buffer, 8).unwrap();
            assert_eq!(&buffer[..received.len], b"hello");
            assert!(!received.truncated && !received.fds_truncated);
            for fd in &received.fds {
                let flags = rustix::io::fcntl_getfd(fd).unwrap();
                assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            }
            let contents: Vec<String> = received.fds.into_iter().map(content_of).collect();
            assert_eq!(contents, ["one", "two"]);
        }
    }

    #[test]
    fn surplus_descriptors_are_reported_and_not_leaked() {
        let (near, far) = socketpair_seqpacket().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let fds = [writer.as_fd(); 5];
        send(near.as_fd(), b"x", &fds).unwrap();
        let received = receive(far.as_fd(), &mut [0; 1], 2).unwrap();
        assert_eq!(received.fds.len(), 2);
        assert!(received.fds_truncated);
        drop((received, writer));
        // The pipe ends when its last writer is closed: none was left open.
        assert_eq!(content_of(reader), "");
    }

    #[test]
    fn a_packet_longer_than_the_buffer_is_reported() {
        let (near, far) = socketpair_seqpacket().unwrap();
        send(near.as_fd(), b"long", &[]).unwrap();
        let received = receive(far.as_fd(), &mut [0; 2], 0).unwrap();
        assert!(received.truncated);
        assert_eq!(received.len, 2);
    }

    #[test]
    fn a_closed_connection_is_nothing_received() {
        let (near, far) = socketpair_seqpacket().unwrap();
        drop(near);
        let received = receive(far.as_fd(), &mut [0; 2], 1).unwrap();
        assert_eq!((received.len, received.fds.len()), (0, 0));
    }

    #[test]
    fn what_a_message_cannot_hold_is_refused_before_it_is_sent() {
        let (near, _far) = socketpair_seqpacket().unwrap();
        let fds = vec![near.as_fd(); MAX_FDS + 1];
        assert_eq!(
            send(near.as_fd(), b"x", &fds).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert_eq!(
            send(near.as_fd(), b"", &[]).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    #[test]
    fn more_descriptors_than_one_message_holds_arrive_in_order() {
        let stream = UnixStream::pair().unwrap();
        let pairs = [
            socketpair_seqpacket().unwrap(),
            (OwnedFd::from(stream.0), OwnedFd::from(stream.1)),
        ];
        for (near, far) in pairs {
            for count in [0, 1, MAX_FDS, MAX_FDS + 1, 3 * MAX_FDS] {
                let last = pipe_with("last");
                let mut fds = vec![near.as_fd(); count];
                if let Some(place) = fds.last_mut() {
                    *place = last.as_fd();
                }
                send_all_fds(near.as_fd(), &fds).unwrap();
                let mut received = receive_all_fds(far.as_fd(), 3 * MAX_FDS).unwrap();
                assert_eq!(received.len(), count);
                if let Some(fd) = received.pop() {
                    drop(last);
                    assert_eq!(content_of(fd), "last");
                }
            }
        }
    }

    #[test]
    fn a_list_longer_than_asked_for_is_refused() {
        let (near, far) = socketpair_seqpacket().unwrap();
        let fds = vec![near.as_fd(); 10];
        send_all_fds(near.as_fd(), &fds).unwrap();
        let error = receive_all_fds(far.as_fd(), 9).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn the_peer_of_a_pair_is_this_very_process() {
        let (near, _far) = socketpair_seqpacket().unwrap();
        let peer = peer_credentials(near.as_fd()).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert_eq!(peer.gid, rustix::process::getegid().as_raw());
    }

    #[test]
    fn the_groups_of_the_peer_are_those_of_this_process() {
        let (near, _far) = UnixStream::pair().unwrap();
        let mut found = peer_groups(near.as_fd()).unwrap();
        let own = rustix::process::getgroups().unwrap();
        let mut own: Vec<u32> = own.into_iter().map(rustix::process::Gid::as_raw).collect();
        found.sort_unstable();
        own.sort_unstable();
        assert_eq!(found, own);
    }
}
