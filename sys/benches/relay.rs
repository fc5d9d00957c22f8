//! What the simplest relay between two endpoints carries: the physical limit for the switch, and how
//! the length of a TAP's queue changes it. `cargo bench -p heddle-sys --bench relay [tap|veth]`.
//!
//! One process reads and writes and does nothing else. Settings are measured in turn, [`ROUNDS`]
//! times, and the medians are shown:
//!
//! - one TCP stream, and the round trip of a datagram meanwhile;
//! - 64-byte frames as fast as they can be sent: how many arrive, and which part is lost;
//! - 64-byte frames in bursts of [`BURST`], 100,000 a second on average: which part is lost.

#![expect(clippy::unwrap_used, reason = "a measurement that fails is none")]

#[path = "../tests/kernel/harness.rs"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "shared with the tests"
)]
mod harness;
#[path = "../tests/kernel/lab.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod lab;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use heddle_sys::clock::monotonic;
use heddle_sys::memory::resident;
use heddle_sys::netlink::{LinkChange, Netlink};
use heddle_sys::packet::{Layout, PacketSocket, RingOptions};
use rustix::event::{Timespec, poll};

use harness::{Job, isolate};
use lab::{Relay, Sandbox, configure, ipv4, ping, relay_packets, relay_taps};

const ROUNDS: usize = 5;

/// How long each load lasts.
const LOAD: Duration = Duration::from_millis(1500);

/// Frames of one burst.
const BURST: u32 = 500;

/// Payload of a UDP datagram in a frame of 64 bytes, counted with the frame check sequence.
const PAYLOAD: [u8; 18] = [0x5a; 18];

/// What is set differently.
#[derive(Clone, Copy)]
enum Setting {
    Tap { tx_queue_len: u32, queueing: bool },
    Veth { layout: Layout, blocks: u32 },
}

impl std::fmt::Display for Setting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tap {
                tx_queue_len,
                queueing: true,
            } => {
                write!(
                    formatter,
                    "TAP, txqueuelen {tx_queue_len}, with queueing discipline"
                )
            }
            Self::Tap {
                tx_queue_len,
                queueing: false,
            } => {
                write!(formatter, "TAP, txqueuelen {tx_queue_len}")
            }
            Self::Veth { layout, blocks } => {
                write!(formatter, "veth, {blocks} blocks of {layout:?} slots")
            }
        }
    }
}

/// What was measured of one setting in one round, or the medians of all rounds.
#[derive(Clone, Copy, Default)]
struct Figures {
    tcp_gigabits: f64,
    round_trip_microseconds: f64,
    small_kiloframes: f64,
    small_loss: f64,
    burst_loss: f64,
    relay_mebibytes: f64,
}

impl Figures {
    fn to_array(self) -> [f64; 6] {
        let Self {
            tcp_gigabits,
            round_trip_microseconds,
            small_kiloframes,
            small_loss,
            burst_loss,
            relay_mebibytes,
        } = self;
        [
            tcp_gigabits,
            round_trip_microseconds,
            small_kiloframes,
            small_loss,
            burst_loss,
            relay_mebibytes,
        ]
    }
}

fn main() {
    isolate();
    let chosen = |kind: &str| {
        let mut kinds = std::env::args()
            .skip(1)
            .filter(|argument| !argument.starts_with('-'));
        kinds.next().is_none_or(|argument| argument == kind)
    };
    let mut settings = Vec::new();
    if chosen("tap") {
        match lab::make_tap("probe", 1) {
            Ok(_) => settings.extend(
                [100, 250, 500, 1000, 2000, 5000, 10_000]
                    .map(|tx_queue_len| Setting::Tap {
                        tx_queue_len,
                        queueing: false,
                    })
                    .into_iter()
                    .chain([Setting::Tap {
                        tx_queue_len: 1000,
                        queueing: true,
                    }]),
            ),
            Err(error) => println!("(no TAP: {error})"),
        }
    }
    if chosen("veth") {
        settings.extend([1, 2, 4].map(|blocks| Setting::Veth {
            layout: Layout::Short,
            blocks,
        }));
        settings.extend([2, 4, 8].map(|blocks| Setting::Veth {
            layout: Layout::Long,
            blocks,
        }));
    }
    let mut results = vec![Vec::new(); settings.len()];
    for _ in 0..ROUNDS {
        for (setting, results) in settings.iter().zip(&mut results) {
            results.push(measure(*setting).to_array());
        }
    }
    println!(
        "{:<42} {:>8} {:>8} {:>8} {:>7} {:>7} {:>7}",
        "", "TCP", "trip", "64 B", "lost", "burst", "relay"
    );
    println!(
        "{:<42} {:>8} {:>8} {:>8} {:>7} {:>7} {:>7}",
        "medians", "Gbit/s", "µs", "kpps", "%", "lost %", "MiB"
    );
    for (setting, rounds) in settings.iter().zip(results) {
        let median = |column: usize| {
            let mut values: Vec<f64> = rounds.iter().map(|figures| figures[column]).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        println!(
            "{:<42} {:>8.2} {:>8.0} {:>8.0} {:>7.1} {:>7.2} {:>7.1}",
            setting.to_string(),
            median(0),
            median(1),
            median(2),
            median(3),
            median(4),
            median(5)
        );
    }
}

fn measure(setting: Setting) -> Figures {
    let (first, second) = (Sandbox::new(), Sandbox::new());
    let relay = connect(setting, &first, &second);
    first.run(|| ping(ipv4(2)));
    let mut figures = Figures::default();
    (figures.tcp_gigabits, figures.round_trip_microseconds) = tcp_stream(&first, &second);
    (figures.small_kiloframes, figures.small_loss) = small_frames(&first, &second, None);
    (_, figures.burst_loss) = small_frames(&first, &second, Some(Duration::from_millis(5)));
    let bytes = resident(relay.pid()).unwrap();
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    figures.relay_mebibytes = mebibytes;
    relay.stop();
    figures
}

/// Starts a relay between a new interface in each container.
fn connect(setting: Setting, first: &Sandbox, second: &Sandbox) -> Relay {
    match setting {
        Setting::Tap {
            tx_queue_len,
            queueing,
        } => {
            let [near, far] = [(first, 1), (second, 2)].map(|(sandbox, host)| {
                let queue = sandbox.tap("eth0", 1).remove(0);
                let mut netlink: Netlink = sandbox.netlink();
                let index = netlink.link("eth0").unwrap().index;
                if !queueing {
                    netlink.remove_queueing(index).unwrap();
                }
                let change = LinkChange {
                    tx_queue_len: Some(tx_queue_len),
                    ..LinkChange::default()
                };
                netlink.set_link(index, &change).unwrap();
                configure(&mut netlink, "eth0", host);
                queue
            });
            Relay::start(move |stop| relay_taps(near.as_fd(), far.as_fd(), stop))
        }
        Setting::Veth { layout, blocks } => {
            let options = RingOptions {
                blocks,
                layout: Some(layout),
                ..RingOptions::default()
            };
            let [near, far] = [(first, 1), (second, 2)].map(|(sandbox, host)| {
                let mut port = sandbox.veth_port("eth0");
                configure(&mut sandbox.netlink(), "eth0", host);
                port.wait_running();
                let copy = port.socket.as_fd().try_clone_to_owned().unwrap();
                drop(port.socket);
                copy
            });
            Relay::start(move |stop| {
                let [mut near, mut far] =
                    [near, far].map(|fd| PacketSocket::from_fd(fd, &options).unwrap());
                relay_packets(&mut near, &mut far, stop)
            })
        }
    }
}

/// Gigabits a second that one stream delivers, and the median round trip of a datagram meanwhile.
fn tcp_stream(first: &Sandbox, second: &Sandbox) -> (f64, f64) {
    let address = SocketAddr::new(ipv4(2), 7001);
    let mut listening =
        second.bring_out(|| vec![TcpListener::bind(address).unwrap().into(), udp(2, 7002)]);
    let (echo, listener) = (listening.remove(1), listening.remove(0));
    let sink = Job::spawn(|| {
        let (mut connection, _) = TcpListener::from(listener).accept().unwrap();
        let (mut buffer, mut count) = (vec![0; 1 << 18], 0_u64);
        let begin = monotonic();
        loop {
            match connection.read(&mut buffer).unwrap() {
                0 => break,
                length => count += u64::try_from(length).unwrap(),
            }
        }
        per_second(count * 8, monotonic() - begin)
            .to_be_bytes()
            .to_vec()
    });
    let echo = Job::spawn(|| {
        let (socket, mut buffer) = (UdpSocket::from(echo), [0; 64]);
        loop {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    let source = first.spawn(|| {
        let mut connection = TcpStream::connect(address).unwrap();
        let (chunk, begin) = (vec![0x5a; 1 << 17], monotonic());
        while monotonic() - begin < LOAD {
            connection.write_all(&chunk).unwrap();
        }
        Vec::new()
    });
    let trips = first.spawn(|| {
        let socket = UdpSocket::bind(SocketAddr::new(ipv4(1), 0)).unwrap();
        socket.connect(SocketAddr::new(ipv4(2), 7002)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let (mut times, begin) = (Vec::new(), monotonic());
        while monotonic() - begin < LOAD {
            let sent = monotonic();
            socket.send(&PAYLOAD).unwrap();
            // A lost one counts as the time waited for it.
            let _ = socket.recv(&mut [0; 64]);
            times.push(monotonic() - sent);
            pause(Duration::from_millis(1));
        }
        times.sort();
        times[times.len() / 2].as_secs_f64().to_be_bytes().to_vec()
    });
    source.join();
    let trip = number(&trips.join()) * 1e6;
    drop(echo);
    (number(&sink.join()) / 1e9, trip)
}

/// A bound UDP socket of host `host`.
fn udp(host: u8, port: u16) -> std::os::fd::OwnedFd {
    let socket = UdpSocket::bind(SocketAddr::new(ipv4(host), port)).unwrap();
    socket.into()
}

/// Thousand datagrams a second that arrive, and the percentage that does not. With `pace`, a burst
/// in each such interval.
fn small_frames(first: &Sandbox, second: &Sandbox, pace: Option<Duration>) -> (f64, f64) {
    let socket = second.bring_out(|| vec![udp(2, 7003)]).remove(0);
    // What is lost in front of the receiving program is not the relay's; the limit is the host's.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 8 << 20);
    let sink = Job::spawn(|| {
        let (socket, mut buffer) = (UdpSocket::from(socket), [0; 64]);
        socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let mut count = 0_u64;
        loop {
            match socket.recv(&mut buffer) {
                Ok(_) => count += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock && count > 0 => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
        count.to_be_bytes().to_vec()
    });
    let source = first.spawn(|| {
        let socket = UdpSocket::bind(SocketAddr::new(ipv4(1), 0)).unwrap();
        socket.connect(SocketAddr::new(ipv4(2), 7003)).unwrap();
        let (mut count, begin) = (0_u64, monotonic());
        let mut next = begin;
        while monotonic() - begin < LOAD {
            for _ in 0..BURST {
                count += u64::from(socket.send(&PAYLOAD).is_ok());
            }
            if let Some(pace) = pace {
                next += pace;
                pause(next.saturating_sub(monotonic()));
            }
        }
        let seconds = (monotonic() - begin).as_secs_f64();
        [count.to_be_bytes(), seconds.to_be_bytes()].concat()
    });
    let sent = source.join();
    let (count, seconds) = sent.split_at(8);
    let sent = f64::from(u32::try_from(whole(count)).unwrap());
    let arrived = f64::from(u32::try_from(whole(&sink.join())).unwrap());
    (
        arrived / number(seconds) / 1e3,
        (1.0 - arrived / sent) * 100.0,
    )
}

fn pause(time: Duration) {
    let time = Timespec {
        tv_sec: time.as_secs().try_into().unwrap(),
        tv_nsec: time.subsec_nanos().into(),
    };
    let _ = poll(&mut [], Some(&time));
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn number(bytes: &[u8]) -> f64 {
    f64::from_be_bytes(bytes.try_into().unwrap())
}

fn whole(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}
