//! Counts the instructions that a frame of each kind costs in the switch, from being read to being
//! written, against the budgets of the design:
//!
//! ```text
//! cargo run --release -p heddle-benches --bin instructions
//! ```
//!
//! Runs itself under callgrind, each kind with two numbers of bursts, through the real worker and
//! through a bare relay over the same links in memory. The difference of the two lengths leaves the
//! preparations out, the difference of the two ways leaves the links out.
//!
//! With arguments (kind, `switch` or `relay`, number of bursts) it only runs that. So
//!
//! ```text
//! valgrind --tool=callgrind --callgrind-out-file=callgrind.out.1 \
//!     target/release/instructions out-tcp4 switch 500
//! callgrind_annotate callgrind.out.1
//! ```
//!
//! shows where they go.

#![forbid(unsafe_code)]

use std::env;
use std::process::{Command, ExitCode};

use heddle_benches::course::{BURST, Carried, Course, NEW_SESSIONS, Way};
use heddle_wire::Family::{self, V4, V6};

/// Bursts of the shorter run; the longer one has [`MORE`] more.
const FEW: u16 = 10;
const MORE: u16 = 200;

const _: () = assert!((FEW + MORE) as usize * BURST <= NEW_SESSIONS as usize);

/// What is counted.
struct Kind {
    name: &'static str,
    way: Way,
    carried: Carried,
    family: Family,
    /// Instructions a frame may cost.
    budget: u64,
}

const fn kind(name: &'static str, way: Way, carried: Carried, family: Family) -> Kind {
    let budget = match way {
        Way::Bridge => 300,
        Way::Out | Way::In => 600,
        Way::NewMapping | Way::NewSession => 3_000,
    };
    Kind {
        name,
        way,
        carried,
        family,
        budget,
    }
}

const KINDS: &[Kind] = &[
    kind("bridge-udp4", Way::Bridge, Carried::Udp, V4),
    kind("bridge-udp6", Way::Bridge, Carried::Udp, V6),
    kind("bridge-tcp4", Way::Bridge, Carried::Tcp, V4),
    kind("bridge-tcp6", Way::Bridge, Carried::Tcp, V6),
    kind("out-udp4", Way::Out, Carried::Udp, V4),
    kind("out-udp6", Way::Out, Carried::Udp, V6),
    kind("out-tcp4", Way::Out, Carried::Tcp, V4),
    kind("out-tcp6", Way::Out, Carried::Tcp, V6),
    kind("in-udp4", Way::In, Carried::Udp, V4),
    kind("in-udp6", Way::In, Carried::Udp, V6),
    kind("in-tcp4", Way::In, Carried::Tcp, V4),
    kind("in-tcp6", Way::In, Carried::Tcp, V6),
    kind("new-mapping-udp4", Way::NewMapping, Carried::Udp, V4),
    kind("new-mapping-udp6", Way::NewMapping, Carried::Udp, V6),
    kind("new-mapping-tcp4", Way::NewMapping, Carried::Tcp, V4),
    kind("new-mapping-tcp6", Way::NewMapping, Carried::Tcp, V6),
    kind("new-session-udp4", Way::NewSession, Carried::Udp, V4),
    kind("new-session-udp6", Way::NewSession, Carried::Udp, V6),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => table(),
        [name, through, bursts] => run(name, through, bursts),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: instructions [KIND switch|relay BURSTS]");
    for kind in KINDS {
        eprintln!("  {}", kind.name);
    }
    ExitCode::FAILURE
}

fn run(name: &str, through: &str, bursts: &str) -> ExitCode {
    let Some(kind) = KINDS.iter().find(|kind| kind.name == name) else {
        return usage();
    };
    let make = match through {
        "switch" => Course::switch,
        "relay" => Course::relay,
        _ => return usage(),
    };
    let Ok(bursts) = bursts.parse::<u16>() else {
        return usage();
    };
    let mut course = make(kind.way, kind.carried, kind.family);
    for _ in 0..bursts {
        course.run();
    }
    ExitCode::SUCCESS
}

fn table() -> ExitCode {
    println!("| frame | instructions | budget | |");
    println!("|---|---:|---:|---|");
    let mut result = ExitCode::SUCCESS;
    for kind in KINDS {
        let (Some(switch), Some(relay)) = (each(kind, "switch"), each(kind, "relay")) else {
            eprintln!("valgrind with callgrind is needed to count");
            return ExitCode::FAILURE;
        };
        let cost = switch.saturating_sub(relay);
        let verdict = if cost <= kind.budget { "ok" } else { "over" };
        println!("| {} | {cost} | {} | {verdict} |", kind.name, kind.budget);
        if cost > kind.budget {
            result = ExitCode::FAILURE;
        }
    }
    result
}

/// Instructions a frame, links included.
fn each(kind: &Kind, through: &str) -> Option<u64> {
    let (few, many) = (
        count(kind, through, FEW)?,
        count(kind, through, FEW + MORE)?,
    );
    let frames = u64::from(MORE) * u64::try_from(BURST).ok()?;
    Some((many - few) / frames)
}

/// The instructions of a whole run.
fn count(kind: &Kind, through: &str, bursts: u16) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().ok()?)
        .args([kind.name, through, &bursts.to_string()])
        .output()
        .ok()?;
    let report = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprintln!("{report}");
        return None;
    }
    let line = report.lines().find(|line| line.contains("Collected"))?;
    line.rsplit(' ').next()?.parse().ok()
}
