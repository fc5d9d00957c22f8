//! What containers say to each other: echoes, streams with a hash, and lies.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use heddle_sys::packet::{PacketSocket, RingOptions};
use heddle_sys::watch::wait_readable;
use heddle_wire::builder::Link;
use heddle_wire::{MacAddr, VnetHeader, icmp};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Octets that each side of a connection sends.
pub(super) const STREAM: usize = 16 << 20;

/// Octets sent at once; a stream is a whole number of these.
const CHUNK: usize = 64 << 10;

const _: () = assert!(STREAM.is_multiple_of(CHUNK));

/// What the two directions of a connection follow from, so that they cannot be mistaken.
const CLIENT_SEED: u64 = 1;
const SERVER_SEED: u64 = 2;

/// How long an echo may take.
const ECHO_TIME: Duration = Duration::from_secs(2);

/// How long one end of a stream may wait for the other.
const STREAM_TIME: Duration = Duration::from_secs(10);

/// The identifier of our echo requests.
const ECHO_ID: u16 = 0x4d2;

/// What became of an echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Echo {
    /// It came back, after so many microseconds.
    Answered(u64),
    /// Somebody said that it may not go there.
    Prohibited,
    /// Somebody said that no way leads there.
    Unreachable,
    /// Nothing came.
    Silence,
}

/// What one end of a stream has sent and received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Transfer {
    /// Who is at the other end.
    pub(super) peer: IpAddr,
    /// Hash of what was sent.
    pub(super) sent: String,
    /// Hash of what was received.
    pub(super) received: String,
}

/// Sends an echo request and waits for what becomes of it.
pub(super) fn ping(to: IpAddr) -> Result<Echo, String> {
    let failed = |error: rustix::io::Errno| format!("an echo socket: {error}");
    let (family, protocol, request) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, icmp::v4::ECHO_REQUEST),
        IpAddr::V6(_) => (
            AddressFamily::INET6,
            ipproto::ICMPV6,
            icmp::v6::ECHO_REQUEST,
        ),
    };
    let socket = rustix::net::socket_with(
        family,
        SocketType::RAW,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(protocol),
    )
    .map_err(failed)?;
    // The kernel fills in the checksum of ICMPv6; of ICMP it is the complement of the sum.
    let [id_high, id_low] = ECHO_ID.to_be_bytes();
    let mut message = [request, 0, 0, 0, id_high, id_low, 0, 1];
    let checksum = !heddle_wire::checksum::sum(&message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let started = now();
    let sent = rustix::net::sendto(
        &socket,
        &message,
        SendFlags::empty(),
        &SocketAddr::new(to, 0),
    );
    if sent.is_err() {
        // The kernel itself knows no way.
        return Ok(Echo::Unreachable);
    }
    while let Some(left) = ECHO_TIME.checked_sub(now() - started) {
        if !wait_readable(socket.as_fd(), Some(left)).map_err(|error| error.to_string())? {
            break;
        }
        let mut space = [0; 2048];
        let Ok((_, len, _)) = rustix::net::recvfrom(&socket, &mut space[..], RecvFlags::empty())
        else {
            continue;
        };
        let message = match to {
            // A raw IPv4 socket receives the IP header too.
            IpAddr::V4(_) => space[..len].get(usize::from(space[0] & 0x0f) * 4..),
            IpAddr::V6(_) => space.get(..len),
        };
        if let Some(echo) = message.and_then(|message| read_answer(to, message, now() - started)) {
            return Ok(echo);
        }
    }
    Ok(Echo::Silence)
}

fn read_answer(to: IpAddr, message: &[u8], passed: Duration) -> Option<Echo> {
    let (&kind, &code) = (message.first()?, message.get(1)?);
    let id = u16::from_be_bytes([*message.get(4)?, *message.get(5)?]);
    let micros = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX);
    match (to, kind, code) {
        (IpAddr::V4(_), icmp::v4::ECHO_REPLY, _) | (IpAddr::V6(_), icmp::v6::ECHO_REPLY, _)
            if id == ECHO_ID =>
        {
            Some(Echo::Answered(micros))
        }
        (IpAddr::V4(_), icmp::v4::DESTINATION_UNREACHABLE, 13)
        | (IpAddr::V6(_), icmp::v6::DESTINATION_UNREACHABLE, 1) => Some(Echo::Prohibited),
        (IpAddr::V4(_), icmp::v4::DESTINATION_UNREACHABLE, _)
        | (IpAddr::V6(_), icmp::v6::DESTINATION_UNREACHABLE, _) => Some(Echo::Unreachable),
        _ => None,
    }
}

/// Takes one connection, receives until its end, then sends.
pub(super) fn serve(
    at: SocketAddr,
    ready: impl FnOnce() -> Result<(), String>,
) -> Result<Transfer, String> {
    let listener = TcpListener::bind(at).map_err(|error| format!("listening at {at}: {error}"))?;
    ready()?;
    let waiting = wait_readable(listener.as_fd(), Some(STREAM_TIME));
    if !matches!(waiting, Ok(true)) {
        return Err("nobody connected".to_owned());
    }
    let (mut stream, peer) = listener.accept().map_err(|error| error.to_string())?;
    let received = receive(&mut stream)?;
    let sent = send(&mut stream, SERVER_SEED)?;
    Ok(Transfer {
        peer: peer.ip().to_canonical(),
        sent,
        received,
    })
}

/// Connects, sends, then receives until the end.
pub(super) fn fetch(from: SocketAddr) -> Result<Transfer, String> {
    let mut stream = TcpStream::connect_timeout(&from, STREAM_TIME)
        .map_err(|error| format!("connecting to {from}: {error}"))?;
    let sent = send(&mut stream, CLIENT_SEED)?;
    let received = receive(&mut stream)?;
    Ok(Transfer {
        peer: from.ip(),
        sent,
        received,
    })
}

/// Sends a stream that follows from `seed`; returns its hash.
fn send(stream: &mut TcpStream, seed: u64) -> Result<String, String> {
    stream
        .set_write_timeout(Some(STREAM_TIME))
        .map_err(|error| error.to_string())?;
    let mut hash = Sha256::new();
    let mut word = seed;
    let mut chunk = Vec::with_capacity(CHUNK);
    for _ in 0..STREAM / CHUNK {
        chunk.clear();
        while chunk.len() < CHUNK {
            // Different everywhere, so that nothing can be left out or doubled unseen (Knuth's
            // MMIX generator).
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            chunk.extend_from_slice(&word.to_be_bytes());
        }
        hash.update(&chunk);
        stream
            .write_all(&chunk)
            .map_err(|error| format!("sending: {error}"))?;
    }
    stream
        .shutdown(Shutdown::Write)
        .map_err(|error| format!("sending: {error}"))?;
    Ok(hex(&hash.finalize()))
}

/// Receives a stream until its end; returns its hash.
fn receive(stream: &mut TcpStream) -> Result<String, String> {
    stream
        .set_read_timeout(Some(STREAM_TIME))
        .map_err(|error| error.to_string())?;
    let mut hash = Sha256::new();
    let mut space = vec![0; 64 << 10];
    loop {
        match stream
            .read(&mut space)
            .map_err(|error| format!("receiving: {error}"))?
        {
            0 => return Ok(hex(&hash.finalize())),
            len => hash.update(&space[..len]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Sends one frame with somebody else's addresses.
pub(super) fn spoof(
    mac: MacAddr,
    to_mac: MacAddr,
    source: IpAddr,
    to: IpAddr,
) -> Result<(), String> {
    let socket =
        PacketSocket::open("eth0", &RingOptions::default()).map_err(|error| error.to_string())?;
    let mut bytes = VnetHeader::NONE.emit().to_vec();
    bytes.extend(Link::new(mac, to_mac).ip(source, to).udp(9, 9, b"trust me"));
    socket.send(&bytes).map_err(|error| error.to_string())?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "round trips take real time")]
fn now() -> Instant {
    Instant::now()
}
