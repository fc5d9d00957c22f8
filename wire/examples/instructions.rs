//! Counts the instructions of the operations that every frame meets, so that a change which makes
//! the frame path longer shows as a number and not as noise:
//!
//! ```text
//! cargo run --release -p heddle-wire --example instructions
//! ```
//!
//! Runs itself under callgrind, each operation with two counts of rounds, and prints the difference
//! per round less that of an empty operation. With arguments (operation, rounds) it only runs that
//! operation: for callgrind_annotate and perf.

use std::env;
use std::hint::black_box;
use std::process::{Command, ExitCode};

use heddle_wire::builder::{self, Link, TcpHeader};
use heddle_wire::{
    Address, MacAddr, Protocol, Rewrite, Summary, VnetHeader, checksum, clamp_mss,
    decrement_hop_limit, ethernet, ipv4_header_is_valid, rewrite, transport_checksum_is_valid,
};

/// Rounds of the shorter run; the longer one has [`ROUNDS`] more, which is what is divided by.
const WARM_UP: u64 = 1_000;
const ROUNDS: u64 = 10_000;

/// The frames that the operations work on.
struct Frames {
    tcp4: Vec<u8>,
    tcp6: Vec<u8>,
    udp4: Vec<u8>,
    echo4: Vec<u8>,
    tagged: Vec<u8>,
    extended: Vec<u8>,
    partial: (Vec<u8>, VnetHeader),
    full: Vec<u8>,
    v4: Rewrite,
    v6: Rewrite,
}

impl Frames {
    fn new() -> Self {
        let link = Link::new(MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let header = TcpHeader {
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            ..TcpHeader::default()
        };
        let v4 = link.ip("10.0.0.1", "10.0.0.2");
        let v6 = link.ip("fd00::1", "fd00::2");
        let mut partial = v4.tcp(&header, &[7; 64]);
        let vnet = builder::offload(&mut partial, None);
        Self {
            tcp4: v4.tcp(&header, &[7; 64]),
            tcp6: v6.tcp(&header, &[7; 64]),
            udp4: v4.udp(49_152, 53, &[7; 64]),
            echo4: v4.icmp(8, 0, 0x1234_0001, &[7; 56]),
            tagged: link
                .clone()
                .vlan(5)
                .ip("10.0.0.1", "10.0.0.2")
                .tcp(&header, &[7; 64]),
            extended: v6
                .clone()
                .extension(Protocol::DESTINATION_OPTIONS, &[0, 1, 4, 0, 0, 0, 0])
                .tcp(&header, &[7; 64]),
            partial: (partial, vnet),
            full: v4.tcp(&header, &[7; 1448]),
            v4: to("192.0.2.1", "198.51.100.2"),
            v6: to("2001:db8::1", "2001:db8::2"),
        }
    }
}

fn to(source: &str, destination: &str) -> Rewrite {
    let address = |text: &str| {
        text.parse::<Address>()
            .expect("the addresses above are addresses")
    };
    Rewrite {
        source: address(source),
        source_port: 40_000,
        destination: address(destination),
        destination_port: 443,
    }
}

/// One round of an operation.
type Operation = fn(&mut Frames);

const OPERATIONS: &[(&str, Operation)] = &[
    ("nothing", |frames| {
        black_box(black_box(frames.tcp4.as_slice()));
    }),
    ("parse a runt", |frames| parse(&frames.tcp4[..13])),
    ("parse tcp/ipv4", |frames| parse(&frames.tcp4)),
    ("parse tcp/ipv6", |frames| parse(&frames.tcp6)),
    ("parse udp/ipv4", |frames| parse(&frames.udp4)),
    ("parse echo/ipv4", |frames| parse(&frames.echo4)),
    ("parse tcp/ipv4 tagged", |frames| parse(&frames.tagged)),
    ("parse tcp/ipv6 extended", |frames| parse(&frames.extended)),
    ("parse and check vnet header", |frames| {
        let (frame, header) = &frames.partial;
        let frame = black_box(frame.as_slice());
        let parsed = Summary::parse(frame);
        let summary = parsed.as_ref().expect("the frame is well formed");
        black_box(&header.check(frame.len(), summary));
        black_box(&parsed);
    }),
    ("parse and rewrite tcp/ipv4", |frames| {
        translate(&mut frames.tcp4, &frames.v4, false)
    }),
    ("parse and rewrite tcp/ipv6", |frames| {
        translate(&mut frames.tcp6, &frames.v6, false)
    }),
    ("parse and rewrite udp/ipv4", |frames| {
        translate(&mut frames.udp4, &frames.v4, false)
    }),
    ("parse and rewrite partial", |frames| {
        translate(&mut frames.partial.0, &frames.v4, true)
    }),
    ("parse and decrement/ipv4", |frames| {
        let frame = black_box(frames.tcp4.as_mut_slice());
        let parsed = Summary::parse(frame);
        let summary = parsed.as_ref().expect("the frame is well formed");
        decrement_hop_limit(frame, summary.ip().expect("the frame carries IP"));
        black_box(&parsed);
    }),
    ("parse and clamp (no syn)", |frames| {
        let frame = black_box(frames.tcp4.as_mut_slice());
        let parsed = Summary::parse(frame);
        let summary = parsed.as_ref().expect("the frame is well formed");
        let ip = summary.ip().expect("the frame carries IP");
        black_box(clamp_mss(frame, ip, false, 1400));
        black_box(&parsed);
    }),
    ("header checksum/ipv4", |frames| {
        black_box(ipv4_header_is_valid(
            black_box(frames.tcp4.as_slice()),
            black_box(14),
        ));
    }),
    ("parse and transport checksum", |frames| {
        let frame = black_box(frames.full.as_slice());
        let parsed = Summary::parse(frame);
        let summary = parsed.as_ref().expect("the frame is well formed");
        black_box(transport_checksum_is_valid(
            frame,
            summary.ip().expect("the frame carries IP"),
        ));
        black_box(&parsed);
    }),
    ("sum of 1500 bytes", |frames| {
        black_box(checksum::sum(black_box(&frames.full)));
    }),
    ("set macs", |frames| {
        let macs = black_box((MacAddr([2; 6]), MacAddr([4; 6])));
        ethernet::set_macs(black_box(frames.tcp4.as_mut_slice()), macs.0, macs.1);
    }),
];

fn parse(frame: &[u8]) {
    black_box(&Summary::parse(black_box(frame)));
}

fn translate(frame: &mut [u8], to: &Rewrite, partial: bool) {
    let frame = black_box(frame);
    let parsed = Summary::parse(frame);
    let summary = parsed.as_ref().expect("the frame is well formed");
    let ip = summary.ip().expect("the frame carries IP");
    rewrite(frame, ip, black_box(partial), black_box(to));
    black_box(&parsed);
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [name, rounds] = arguments.as_slice() {
        let operation = OPERATIONS.iter().find(|(known, _)| known == name);
        let (Some((_, operation)), Ok(rounds)) = (operation, rounds.parse::<u64>()) else {
            eprintln!("usage: instructions [OPERATION ROUNDS]");
            return ExitCode::FAILURE;
        };
        let mut frames = Frames::new();
        for _ in 0..rounds {
            operation(&mut frames);
        }
        return ExitCode::SUCCESS;
    }
    let mut nothing = 0;
    for (name, _) in OPERATIONS {
        let (Some(short), Some(long)) = (count(name, WARM_UP), count(name, WARM_UP + ROUNDS))
        else {
            eprintln!("valgrind with callgrind is needed to count");
            return ExitCode::FAILURE;
        };
        let each = (long - short) / ROUNDS;
        if *name == "nothing" {
            nothing = each;
        }
        println!("{:>6}  {name}", each.saturating_sub(nothing));
    }
    ExitCode::SUCCESS
}

/// The instructions of a whole run.
fn count(name: &str, rounds: u64) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().ok()?)
        .args([name, &rounds.to_string()])
        .output()
        .ok()?;
    let report = String::from_utf8_lossy(&output.stderr);
    let line = report.lines().find(|line| line.contains("Collected"))?;
    line.rsplit(' ').next()?.parse().ok()
}
