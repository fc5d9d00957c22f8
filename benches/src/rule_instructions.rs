//! Counts the instructions that a packet costs in chains of ten rules and of a thousand, and holds the
//! second against twice the first:
//!
//! ```text
//! cargo run --release -p heddle-benches --bin rules
//! ```
//!
//! Runs itself under callgrind. With arguments (mix, 4 or 6, number of rules, rounds) it only runs that.

#![forbid(unsafe_code)]

use std::env;
use std::process::{Command, ExitCode};

use heddle_benches::rules::{Filter, Mix, PACKETS};
use heddle_wire::Family;

/// Rounds of the shorter run; the longer one has [`MORE`] more.
const FEW: u64 = 2;
const MORE: u64 = 8;

/// Lengths of chains.
const LENGTHS: [u16; 4] = [1, 10, 100, 1000];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => table(),
        [mix, family, rules, rounds] => run(mix, family, rules, rounds).unwrap_or_else(usage),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: rules [list|full|interleaved 4|6 RULES ROUNDS]");
    ExitCode::FAILURE
}

fn run(mix: &str, family: &str, rules: &str, rounds: &str) -> Option<ExitCode> {
    let (_, mix) = *Mix::ALL.iter().find(|(name, _)| *name == mix)?;
    let family = match family {
        "4" => Family::V4,
        "6" => Family::V6,
        _ => return None,
    };
    let filter = Filter::new(mix, family, rules.parse().ok()?);
    for _ in 0..rounds.parse::<u64>().ok()? {
        filter.run();
    }
    Some(ExitCode::SUCCESS)
}

fn table() -> ExitCode {
    println!("| instructions a packet | 1 rule | 10 rules | 100 | 1,000 | 1,000 to 10 |");
    println!("|---|---:|---:|---:|---:|---:|");
    let mut result = ExitCode::SUCCESS;
    for (mix, _) in Mix::ALL {
        for family in ["4", "6"] {
            let counts = LENGTHS.map(|rules| each(mix, family, rules));
            let [Some(one), Some(ten), Some(hundred), Some(thousand)] = counts else {
                eprintln!("valgrind with callgrind is needed to count");
                return ExitCode::FAILURE;
            };
            let percent = thousand * 100 / ten.max(1);
            println!(
                "| {mix}, IPv{family} | {one} | {ten} | {hundred} | {thousand} | {}.{:02} |",
                percent / 100,
                percent % 100
            );
            if thousand > 2 * ten {
                result = ExitCode::FAILURE;
            }
        }
    }
    result
}

/// Instructions a packet, the making of the chain left out.
fn each(mix: &str, family: &str, rules: u16) -> Option<u64> {
    let few = count(mix, family, rules, FEW)?;
    let many = count(mix, family, rules, FEW + MORE)?;
    Some((many - few) / (MORE * u64::try_from(PACKETS).ok()?))
}

/// The instructions of a whole run.
fn count(mix: &str, family: &str, rules: u16, rounds: u64) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().ok()?)
        .args([mix, family, &rules.to_string(), &rounds.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprintln!("{text}");
        return None;
    }
    let (_, count) = text.rsplit_once("Collected : ")?;
    count.split_whitespace().next()?.parse().ok()
}
