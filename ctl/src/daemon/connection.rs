//! A client's connection.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use heddle_sys::fdpass::{self, PeerCredentials, Received};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;

use super::foreign;

/// A client's connection. Descriptors that it passes where none are expected end it; the kernel
/// would close them on the thread that reads, however long that takes.
#[derive(Debug)]
pub(super) struct ClientStream {
    /// There until this is dropped.
    stream: Option<UnixStream>,
    /// What the connection takes up; free again once all that it has brought is closed.
    places: Vec<OwnedSemaphorePermit>,
}

impl ClientStream {
    pub(super) fn new(stream: UnixStream) -> ClientStream {
        ClientStream {
            stream: Some(stream),
            places: Vec::new(),
        }
    }

    /// Who is at the other end.
    pub(super) fn peer(&self) -> io::Result<PeerCredentials> {
        fdpass::peer_credentials(self.open()?.as_fd())
    }

    /// The supplementary groups of who is at the other end.
    pub(super) fn peer_groups(&self) -> io::Result<Vec<u32>> {
        fdpass::peer_groups(self.open()?.as_fd())
    }

    /// Keeps places until the connection has ended.
    pub(super) fn take_up(&mut self, places: Vec<OwnedSemaphorePermit>) {
        self.places = places;
    }

    /// Waits until there is something to be read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.open()?.readable().await
    }

    /// Receives a message with its descriptors, if there is one.
    pub(super) fn try_receive(&self, space: &mut [u8]) -> io::Result<Received> {
        receive(self.open()?, space)
    }

    fn open(&self) -> io::Result<&UnixStream> {
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        self.stream.as_ref().ok_or_else(closed)
    }

    fn open_pinned(&mut self) -> io::Result<Pin<&mut UnixStream>> {
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        self.stream.as_mut().map(Pin::new).ok_or_else(closed)
    }
}

fn receive(stream: &UnixStream, space: &mut [u8]) -> io::Result<Received> {
    stream.try_io(Interest::READABLE, || {
        let socket: BorrowedFd<'_> = stream.as_fd();
        fdpass::receive(socket, space, fdpass::MAX_FDS)
    })
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            foreign::hang_up(stream, std::mem::take(&mut self.places));
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.open()?;
        loop {
            ready!(stream.poll_read_ready(context))?;
            let received = match receive(stream, buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                result => result?,
            };
            if !received.fds.is_empty() {
                foreign::close(received.fds, ());
                let message = "descriptors were passed where none are expected";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, message)));
            }
            buffer.advance(received.len);
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.open_pinned()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.open_pinned()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.open_pinned()?.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream as Socket;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn descriptors_where_none_are_expected_end_the_connection_and_are_closed() {
        let (mut client, mut stream) = pair();
        client.write_all(b"hello").unwrap();
        let mut word = [0; 16];
        assert_eq!(stream.read(&mut word).await.unwrap(), 5);
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        pass(&client, writer);
        let error = stream.read(&mut word).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_ended(reader);
    }

    #[tokio::test]
    async fn descriptors_that_nobody_has_taken_are_closed_with_the_connection() {
        let (client, stream) = pair();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        pass(&client, writer);
        drop(stream);
        assert_ended(reader);
        assert!((&client).write(b"more").is_err());
    }

    fn pair() -> (Socket, ClientStream) {
        let (client, stream) = Socket::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        let stream = UnixStream::from_std(stream).unwrap();
        (client, ClientStream::new(stream))
    }

    fn pass(client: &Socket, descriptor: OwnedFd) {
        fdpass::send(client.as_fd(), b"x", &[descriptor.as_fd()]).unwrap();
    }

    /// Waits until the last writer of a pipe is closed.
    fn assert_ended(reader: OwnedFd) {
        let mut rest = Vec::new();
        std::fs::File::from(reader).read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
    }
}
