//! Counts the instructions that a frame of each kind costs in the switch, from being read to being
//! written, against the budgets of the design and against what was recorded before:
//!
//! ```text
//! cargo run --release -p heddle-benches --bin instructions
//! ```
//!
//! Runs itself under callgrind: each kind of frames through the real worker and through a bare relay over
//! the same links in memory, and the difference is the switch. What is made and checked around it is not
//! counted, nor the first bursts. Prints a Markdown table and fails if a kind has become dearer by more
//! than a tenth, or dearer than its budget and was not before; `--write` records the counts instead.
//!
//! With arguments (kind, `switch` or `relay`, number of bursts) it only runs that. So
//!
//! ```text
//! valgrind --tool=callgrind --toggle-collect='*Course*carry*' --callgrind-out-file=callgrind.out.1 \
//!     target/release/instructions out-tcp4 switch 500
//! callgrind_annotate callgrind.out.1
//! ```
//!
//! shows where they go.

#![forbid(unsafe_code)]

mod callgrind;
mod record;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use heddle_benches::course::{BURST, Carried, Course, Load, NEW_SESSIONS, Way};
use heddle_wire::Family::{self, V4, V6};

use crate::record::{Counts, Verdict};

/// Bursts that go before those that are counted, and those.
const FIRST: u16 = 10;
const COUNTED: u16 = 100;

const _: () = assert!((FIRST + COUNTED) as usize * BURST <= NEW_SESSIONS as usize);

/// Instructions that a frame costs, held against budget and past.
#[derive(Debug, Parser)]
struct Options {
    /// Record the counts as those that the next ones are held against
    #[arg(long)]
    write: bool,
    /// Only run frames of this kind, for a profiler
    kind: Option<String>,
    /// What is between the links
    #[arg(requires = "kind", default_value = "switch")]
    through: Through,
    /// Bursts of 64 frames
    #[arg(requires = "kind", default_value_t = COUNTED)]
    bursts: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Through {
    Switch,
    Relay,
}

/// What is counted.
struct Kind {
    name: String,
    loads: Vec<Load>,
    /// Instructions a frame may cost.
    budget: u64,
}

impl Kind {
    fn one(way: Way, carried: Carried, family: Family) -> Kind {
        let (name, budget) = match way {
            Way::Bridge => ("bridge", 300),
            Way::Routed => ("routed", 600),
            Way::Out => ("out", 600),
            Way::In => ("in", 600),
            Way::NewMapping => ("new-mapping", 3_000),
            Way::NewSession => ("new-session", 3_000),
            Way::Published => ("published", 3_000),
        };
        let carries = match carried {
            Carried::Udp => "udp",
            Carried::Tcp => "tcp",
        };
        let version = match family {
            V4 => "4",
            V6 => "6",
        };
        let load = Load {
            way,
            carried,
            family,
        };
        Kind {
            name: format!("{name}-{carries}{version}"),
            loads: vec![load],
            budget,
        }
    }

    fn all() -> Vec<Kind> {
        let mut kinds = vec![Kind {
            name: "mixed".to_owned(),
            loads: Load::mixture(),
            budget: 600,
        }];
        for way in [
            Way::Bridge,
            Way::Routed,
            Way::Out,
            Way::In,
            Way::NewMapping,
            Way::NewSession,
            Way::Published,
        ] {
            for carried in [Carried::Udp, Carried::Tcp] {
                // A SYN from a port with a mapping to another place is made like one without.
                if (way, carried) != (Way::NewSession, Carried::Tcp) {
                    kinds.extend([V4, V6].map(|family| Kind::one(way, carried, family)));
                }
            }
        }
        kinds
    }

    fn course(&self, through: Through) -> Course {
        match through {
            Through::Switch => Course::switch(&self.loads),
            Through::Relay => Course::relay(&self.loads),
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match options.kind.as_deref() {
        None => table(options.write),
        Some(ALL) => run_all(),
        Some(name) => run(name, options.through, options.bursts),
    }
}

/// Stands for every kind where the program calls itself.
const ALL: &str = "all";

/// What is run under callgrind: every kind through both, each a part.
fn run_all() -> ExitCode {
    for kind in Kind::all() {
        for through in [Through::Switch, Through::Relay] {
            let mut course = kind.course(through);
            for _ in 0..FIRST {
                course.run();
            }
            // What was counted until here is a part as well, and not looked at.
            carry_bursts(&mut course, 0);
            carry_bursts(&mut course, COUNTED);
        }
    }
    ExitCode::SUCCESS
}

/// The end of this function is the end of a part.
#[inline(never)]
fn carry_bursts(course: &mut Course, bursts: u16) {
    for _ in 0..bursts {
        course.run();
    }
}

fn run(name: &str, through: Through, bursts: u16) -> ExitCode {
    let kinds = Kind::all();
    let Some(kind) = kinds.iter().find(|kind| kind.name == name) else {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name.as_str()).collect();
        eprintln!("there is no kind {name:?}, but {}", names.join(", "));
        return ExitCode::FAILURE;
    };
    carry_bursts(&mut kind.course(through), bursts);
    ExitCode::SUCCESS
}

fn table(write: bool) -> ExitCode {
    let kinds = Kind::all();
    let parts = match callgrind::count(&[ALL], kinds.len() * 4) {
        Ok(parts) => parts,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let before = record::read().unwrap_or_else(|error| {
        eprintln!("nothing to compare with: {error}");
        Counts::new()
    });
    let frames = u64::from(COUNTED) * BURST as u64;
    let mut counts = Counts::new();
    let mut failures = 0;
    println!("| frame | instructions | budget | before | |");
    println!("|---|---:|---:|---:|---|");
    for (kind, parts) in kinds.iter().zip(parts.chunks(4)) {
        // Warm-up and count of the switch, then of the relay.
        let &[_, switch, _, relay] = parts else {
            break;
        };
        let (name, budget) = (&kind.name, kind.budget);
        let count = switch.saturating_sub(relay) / frames;
        let past = before.get(name).copied();
        let verdict = Verdict::of(count, past, budget);
        failures += usize::from(verdict.is_failure());
        let past = past.map_or("-".to_owned(), |past| past.to_string());
        let verdict = verdict.describe();
        println!("| {name} | {count} | {budget} | {past} | {verdict} |");
        counts.insert(name.clone(), count);
    }
    if write {
        return match record::write(&counts) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("the counts cannot be recorded: {error}");
                ExitCode::FAILURE
            }
        };
    }
    if failures != 0 {
        eprintln!("{failures} kinds need a look; if it has to be, record them with --write");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
