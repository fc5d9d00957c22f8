//! A web server that says who asks, for `curl`.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use heddle_tests::host::{Container, Ended, Job, Running, program};
use rustix::event::{Timespec, poll};

/// Octets of a body that is long enough to fill windows.
pub(crate) const LONG: u64 = 1 << 20;

/// Octets of a slow body, the pieces in which it is sent, and the pause before each.
pub(crate) const SLOW: u64 = 10 << 20;
const SLOW_PIECES: usize = 40;
const SLOW_PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Serves a port of a container, over both families.
pub(crate) fn serve(container: &Container, port: u16) -> Job {
    container.serve(|ready| {
        // Both families: a new namespace has `net.ipv6.bindv6only` off.
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let listener = TcpListener::bind(any).expect("a free port");
        ready();
        for connection in listener.incoming() {
            // A client that goes away is no reason to end.
            std::thread::spawn(|| connection.and_then(|connection| answer(&connection)));
        }
    })
}

/// What the server says: who asked, how much came with it, and as many octets as the path names.
fn answer(connection: &TcpStream) -> std::io::Result<()> {
    let peer = connection.peer_addr()?.ip().to_canonical();
    let mut reader = BufReader::new(connection);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(text) = line.strip_prefix("content-length:") {
            length = text.trim().parse().unwrap_or(0);
        }
    }
    let received = std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    let path = request.split(' ').nth(1).unwrap_or("/");
    let path = path.trim_start_matches('/');
    let is_slow = path == "slow";
    let padding = if is_slow {
        SLOW
    } else {
        path.parse().unwrap_or(0)
    };
    let padding = "x".repeat(usize::try_from(padding).expect("it fits into memory"));
    let body = format!("{peer} {received} {padding}");
    let mut connection = connection;
    let length = body.len();
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    )?;
    let pieces = if is_slow { SLOW_PIECES } else { 1 };
    for piece in body.as_bytes().chunks(length.div_ceil(pieces)) {
        if is_slow {
            // Nothing to wait for but time: that is what this body is for.
            let _ = poll(&mut [], Some(&SLOW_PAUSE));
        }
        connection.write_all(piece)?;
    }
    Ok(())
}

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Whom the server saw.
    pub(crate) peer: IpAddr,
    /// How many octets it received.
    pub(crate) received: u64,
    /// How many it sent.
    pub(crate) padding: u64,
}

/// Asks for a long body, with `curl`.
pub(crate) fn download(from: &Container, at: SocketAddr) -> Answer {
    parse(&curl(from, at, LONG, &[]).success())
}

/// Sends a long body, with `curl`.
pub(crate) fn upload(from: &Container, at: SocketAddr) -> Answer {
    let file = "/run/tmp/body";
    let size = usize::try_from(LONG).expect("it is small");
    std::fs::write(file, "y".repeat(size)).expect("the host has room");
    let options = ["--header", "Expect:", "--upload-file", file];
    parse(&curl(from, at, 0, &options).success())
}

/// Begins to ask for a body that takes [`SLOW_PIECES`] pauses, with `curl`.
pub(crate) fn begin_slow_download(from: &Container, at: SocketAddr) -> Running {
    from.start(request(at, "slow", &[]))
}

/// Asks, with `curl`, whatever comes of it.
pub(crate) fn curl(from: &Container, at: SocketAddr, size: u64, options: &[&str]) -> Ended {
    from.execute(request(at, &size.to_string(), options))
}

fn request(at: SocketAddr, path: &str, options: &[&str]) -> Command {
    let mut curl = program("curl");
    curl.args(["--silent", "--show-error", "--globoff", "--max-time", "20"])
        .args(["--noproxy", "*"])
        .args(options)
        .arg(format!("http://{at}/{path}"));
    curl
}

fn parse(text: &str) -> Answer {
    let mut words = text.split(' ');
    let mut next = || words.next().expect("three words");
    Answer {
        peer: next().parse().expect("an address"),
        received: next().parse().expect("a number"),
        padding: u64::try_from(next().len()).expect("it is small"),
    }
}
