//! What containers say to each other while they are measured.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use heddle_sys::clock::monotonic;
use heddle_sys::watch::wait_readable;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::job::PATIENCE;
use crate::problem::Problem;

/// Octets of one write of a stream.
const CHUNK: usize = 64 << 10;

/// Octets of one read of a stream.
const READ: usize = 256 << 10;

/// Octets of a request and of its answer.
const REQUEST: usize = 64;

/// Payload of a UDP datagram over IPv4 in a frame of 64 octets, the frame check sequence among them.
const SMALL: [u8; 18] = [0x5a; 18];

/// Frames between two looks at the clock.
const BATCH: u32 = 64;

/// How long one side may wait for the other.
const STALL: Duration = Duration::from_secs(1);

/// How long a reader waits for another datagram behind the end.
const QUIET: Duration = Duration::from_millis(400);

/// Octets of datagrams that may wait for the reader.
const SINK_SPACE: usize = 8 << 20;

/// How long an answer may take before the question is asked again.
const ANSWER_TIME: Duration = Duration::from_millis(200);

/// Listens.
pub(crate) fn listen(at: SocketAddr) -> Result<OwnedFd, Problem> {
    Ok(TcpListener::bind(at)?.into())
}

fn accept(listener: &TcpListener) -> Result<TcpStream, Problem> {
    if !wait_readable(listener.as_fd(), Some(STALL))? {
        return Err("nobody connected".into());
    }
    let (stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(STALL))?;
    Ok(stream)
}

fn connect(to: SocketAddr) -> Result<TcpStream, Problem> {
    let stream = TcpStream::connect_timeout(&to, STALL)
        .map_err(|error| format!("connecting to {to}: {error}"))?;
    stream.set_read_timeout(Some(STALL))?;
    stream.set_write_timeout(Some(STALL))?;
    Ok(stream)
}

/// Takes a stream to its end: octets, and the seconds from the first to the last.
pub(crate) fn drain(listener: OwnedFd) -> Result<(u64, f64), Problem> {
    let mut stream = accept(&listener.into())?;
    let mut space = vec![0; READ];
    let mut octets = u64::try_from(stream.read(&mut space)?)?;
    let begin = monotonic();
    loop {
        match stream.read(&mut space)? {
            0 => return Ok((octets, (monotonic() - begin).as_secs_f64())),
            len => octets += u64::try_from(len)?,
        }
    }
}

/// Sends a stream for a time: octets.
pub(crate) fn pour(to: SocketAddr, time: Duration) -> Result<u64, Problem> {
    let mut stream = connect(to)?;
    let chunk = vec![0x5a; CHUNK];
    let begin = monotonic();
    let mut octets = 0;
    while monotonic() - begin < time {
        stream.write_all(&chunk)?;
        octets += u64::try_from(chunk.len())?;
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(octets)
}

/// Answers requests on some connections at a time until it is killed. It closes first, so that the
/// port that waits for late segments (RFC 9293 §3.6.1) is its own and not one of the client's.
pub(crate) fn serve(listener: OwnedFd, conversations: u16) -> Result<(), Problem> {
    let listener = &TcpListener::from(listener);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..conversations)
            .map(|_| scope.spawn(|| serve_one_by_one(listener).map_err(|error| error.to_string())))
            .collect();
        all.into_iter().try_for_each(|thread| ended(thread.join()))
    })
}

/// What a thread came to.
fn ended<T>(joined: std::thread::Result<Result<T, String>>) -> Result<T, Problem> {
    let outcome = joined.map_err(|_| "a thread panicked")?;
    Ok(outcome?)
}

fn serve_one_by_one(listener: &TcpListener) -> Result<(), Problem> {
    loop {
        let (mut stream, _) = listener.accept()?;
        let mut request = [0; REQUEST];
        if stream.read_exact(&mut request).is_ok() {
            let _ = stream.write_all(&request);
        }
    }
}

/// Connects, asks, waits for the answer and the end, again and again for a time, on some connections
/// at once: how often, and the seconds it took.
pub(crate) fn ask(
    to: SocketAddr,
    time: Duration,
    conversations: u16,
) -> Result<(u64, f64), Problem> {
    let begin = monotonic();
    let count = std::thread::scope(|scope| {
        let ask = || ask_one_by_one(to, time).map_err(|error| error.to_string());
        let all: Vec<_> = (0..conversations).map(|_| scope.spawn(ask)).collect();
        all.into_iter()
            .map(|thread| ended(thread.join()))
            .sum::<Result<u64, Problem>>()
    })?;
    Ok((count, (monotonic() - begin).as_secs_f64()))
}

fn ask_one_by_one(to: SocketAddr, time: Duration) -> Result<u64, Problem> {
    let begin = monotonic();
    let mut count = 0;
    while monotonic() - begin < time {
        let mut stream = connect(to)?;
        stream.write_all(&[0x5a; REQUEST])?;
        let mut answer = Vec::with_capacity(REQUEST);
        stream.read_to_end(&mut answer)?;
        if answer != [0x5a; REQUEST] {
            return Err("an answer is cut short".into());
        }
        count += 1;
    }
    Ok(count)
}

/// Keeps this process on one processor, if there is another one for the others.
fn pin(processor: usize) -> Result<(), Problem> {
    if std::thread::available_parallelism()?.get() > processor {
        let mut set = CpuSet::new();
        set.set(processor);
        sched_setaffinity(None, &set)?;
    }
    Ok(())
}

/// Sends back what comes on one connection.
pub(crate) fn echo(listener: OwnedFd) -> Result<(), Problem> {
    pin(1)?;
    let mut stream = accept(&listener.into())?;
    stream.set_nodelay(true)?;
    let mut request = [0; REQUEST];
    while stream.read_exact(&mut request).is_ok() {
        stream.write_all(&request)?;
    }
    Ok(())
}

/// The median of the round trips on one connection within a time, in seconds.
pub(crate) fn trips(to: SocketAddr, time: Duration) -> Result<f64, Problem> {
    pin(0)?;
    let mut stream = connect(to)?;
    stream.set_nodelay(true)?;
    let mut message = [0x5a; REQUEST];
    let mut times = Vec::new();
    let begin = monotonic();
    let mut sent = begin;
    while sent - begin < time {
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        let now = monotonic();
        times.push(now - sent);
        sent = now;
    }
    times.sort_unstable();
    Ok(times[times.len() / 2].as_secs_f64())
}

/// A bound socket for datagrams.
pub(crate) fn bind(at: SocketAddr) -> Result<OwnedFd, Problem> {
    let socket = UdpSocket::bind(at)?;
    // What is lost in front of the reader is not the switch's loss. The limit is the host's.
    let _ = sockopt::set_socket_recv_buffer_size(&socket, SINK_SPACE);
    socket.set_read_timeout(Some(QUIET))?;
    Ok(socket.into())
}

/// Reads datagrams until the sender has `ended` and no more come: how many. Not before: a reader that
/// takes a pause for the end has the sender told that nobody listens any more.
pub(crate) fn count(socket: OwnedFd, ended: OwnedFd) -> Result<u64, Problem> {
    let socket = UdpSocket::from(socket);
    let (mut count, mut space) = (0, [0; SMALL.len()]);
    loop {
        match socket.recv(&mut space) {
            Ok(_) => count += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if wait_readable(ended.as_fd(), Some(Duration::ZERO))? {
                    return Ok(count);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends frames of 64 octets as fast as it can for a time: how many, and the seconds it took.
pub(crate) fn blast(to: SocketAddr, time: Duration) -> Result<(u64, f64), Problem> {
    let any: SocketAddr = if to.is_ipv4() {
        ([0; 4], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    let begin = monotonic();
    let mut count = 0;
    while monotonic() - begin < time {
        for _ in 0..BATCH {
            match socket.send(&SMALL) {
                Ok(_) => count += 1,
                // The queue of the interface is full.
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok((count, (monotonic() - begin).as_secs_f64()))
}

/// `ENOBUFS` of Linux on all architectures that we know.
const ENOBUFS: i32 = 105;

/// Asks for an echo until one is answered (RFC 792, RFC 4443 §4). The first may be before the other
/// end is ready.
pub(crate) fn ping(to: IpAddr) -> Result<(), Problem> {
    let (family, protocol, request, reply) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
    };
    let socket = rustix::net::socket_with(
        family,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(protocol),
    )?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER_TIME))?;
    // Identifier and sequence number 0x1234, 1; over IPv6 the kernel fills the checksum in.
    let mut message = [request, 0, 0, 0, 0x12, 0x34, 0, 1];
    if to.is_ipv4() {
        message[2..4].copy_from_slice(&(!(0x0800_u16 + 0x1234 + 1)).to_be_bytes());
    }
    let begin = monotonic();
    while monotonic() - begin < PATIENCE {
        let destination = SocketAddr::new(to, 0);
        if rustix::net::sendto(&socket, &message, SendFlags::empty(), &destination).is_err() {
            crate::clock::pause(Duration::from_millis(1));
            continue;
        }
        let mut space = [0; 128];
        while let Ok((len, _)) = rustix::net::recv(&socket, &mut space[..], RecvFlags::empty()) {
            // A raw IPv4 socket receives the IP header too.
            let start = match to {
                IpAddr::V4(_) => usize::from(space[0] & 15) * 4,
                IpAddr::V6(_) => 0,
            };
            let answer = space.get(start..len).unwrap_or_default();
            if answer.first() == Some(&reply) && answer.get(4..6) == Some(&[0x12, 0x34]) {
                return Ok(());
            }
        }
    }
    Err(format!("{to} does not answer").into())
}
