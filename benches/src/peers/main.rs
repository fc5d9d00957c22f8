//! heddle beside others, on one machine, in one run:
//!
//! ```text
//! cargo run --release -p heddle-benches --bin peers -- [--row NAME]... [--peer NAME]... [--json FILE]
//! ```
//!
//! As root or as an ordinary user; everything happens in namespaces that this program makes, and is
//! gone with them. The rounds are interleaved: every peer has its turn in every row of every round, so
//! that whatever else the machine does is nobody's disadvantage.
//!
//! One row is not about speed: `behaviour` sends packets to those that translate and looks at what comes
//! of them. `--row behaviour --require heddle` is a test: it fails if heddle fails a line.
//!
//! This program is heddle, too: executed under that name it is the daemon and the command line that
//! are measured.

#![forbid(unsafe_code)]

mod behaviour;
mod clock;
mod ground;
mod job;
mod peer;
mod problem;
mod row;
mod sandbox;
mod stage;
mod table;
mod traffic;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use behaviour::Finding;
use ground::Ground;
use peer::{EndpointKind, Peer};
use problem::Problem;
use row::{ROWS, Row};
use stage::Stage;
use table::Series;

/// Measures heddle and what else joins containers side by side.
#[derive(Debug, Parser)]
#[command(name = "peers")]
struct Arguments {
    /// Only this row; may be repeated [default: all]
    #[arg(long = "row", value_name = "NAME")]
    rows: Vec<String>,

    /// Only this peer; may be repeated [default: all that are installed]
    #[arg(long = "peer", value_name = "NAME")]
    peers: Vec<String>,

    /// How often everything is measured
    #[arg(long, default_value_t = 5)]
    rounds: u32,

    /// What joins containers to heddle and to the relay [default: tap where it may be used]
    #[arg(long)]
    endpoint: Option<EndpointKind>,

    /// Worker threads of heddle [default: its own]
    #[arg(long)]
    workers: Option<u16>,

    /// Also wait for what the row `behaviour` otherwise asks the peers for: some minutes a peer
    #[arg(long)]
    slow: bool,

    /// Fail if this peer fails a line of the row `behaviour`; may be repeated
    #[arg(long = "require", value_name = "PEER")]
    required: Vec<String>,

    /// Write the results here, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Ask for an echo until one is answered and tell the time of the monotonic clock: what a peer is
    /// told to run in its namespace
    #[arg(long, value_name = "ADDRESS", hide = true)]
    ping: Option<IpAddr>,

    /// Name rows and peers, and do nothing else
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let name = std::env::args_os().next().map(PathBuf::from);
    if name.as_deref().and_then(Path::file_name) == Some("heddle".as_ref()) {
        return ExitCode::from(heddle::cli::main());
    }
    let arguments = Arguments::parse();
    if arguments.list {
        list();
        return ExitCode::SUCCESS;
    }
    if let Some(address) = arguments.ping {
        return match traffic::ping(address) {
            Ok(()) => {
                println!("{}", heddle_sys::clock::nanoseconds());
                ExitCode::SUCCESS
            }
            Err(problem) => fail(&*problem),
        };
    }
    match compare(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => fail(&*problem),
    }
}

fn fail(problem: &dyn std::error::Error) -> ExitCode {
    eprintln!("peers: {problem}");
    ExitCode::FAILURE
}

fn list() {
    for row in ROWS {
        println!("{:12} {} ({})", row.name, row.what, row.unit);
    }
    println!("{:12} {} (pass or fail)", behaviour::NAME, behaviour::WHAT);
    for peer in peer::all() {
        let missing = if is_there(&*peer) {
            ""
        } else {
            "(not installed)"
        };
        println!("{:12} {missing}", peer.name());
    }
}

fn is_there(peer: &dyn Peer) -> bool {
    peer.program()
        .is_none_or(|program| peer::find(program).is_some())
}

/// Whether everything could be measured.
fn compare(arguments: &Arguments) -> Result<bool, Problem> {
    let rows = choose_rows(&arguments.rows)?;
    let peers = choose_peers(&arguments.peers)?;
    for name in &arguments.required {
        if !peers.iter().any(|peer| peer.name() == name) {
            return Err(format!("{name} is required and not among the peers").into());
        }
    }
    // The file is opened as whoever called, before the program moves.
    let mut json = arguments
        .json
        .as_ref()
        .map(std::fs::File::create)
        .transpose()?;
    let stage = Stage::enter(
        arguments.endpoint.unwrap_or_else(peer::usual_endpoint),
        arguments.workers,
    )?;
    let mut problems = Vec::new();
    let grounds = lay(&stage, &rows, &peers, &mut problems);
    let all = measure(
        &stage,
        &rows,
        &peers,
        &grounds,
        arguments.rounds,
        &mut problems,
    );
    drop(grounds);
    let findings = if is_chosen(&arguments.rows, behaviour::NAME) {
        behave(&stage, &peers, arguments.slow, &mut problems)
    } else {
        Vec::new()
    };
    let lines = table::lines(&all);
    print_all(&lines, &findings, &problems);
    if let Some(json) = &mut json {
        let results = serde_json::json!({ "rows": lines, "behaviour": findings });
        serde_json::to_writer_pretty(&mut *json, &results)?;
        writeln!(json)?;
    }
    let behaves = |name: &String| {
        let mut those = findings
            .iter()
            .filter(|finding| finding.peer == name)
            .peekable();
        those.peek().is_some() && !those.any(Finding::is_failure)
    };
    Ok(problems.is_empty() && arguments.required.iter().all(behaves))
}

fn print_all(lines: &[table::Line], findings: &[Finding], problems: &[String]) {
    let what = |name: &str| {
        let mut rows = ROWS.iter();
        rows.find(|row| row.name == name).map_or("", |row| row.what)
    };
    if !lines.is_empty() {
        println!("{}", table::markdown(lines, what));
    }
    if !findings.is_empty() {
        println!("{}", behaviour::markdown(findings));
    }
    for (problem, times) in counted(problems) {
        println!("{times} × {problem}");
    }
}

/// Looks at how the peers behave that translate.
fn behave(
    stage: &Stage,
    peers: &[Box<dyn Peer>],
    slow: bool,
    problems: &mut Vec<String>,
) -> Vec<Finding> {
    let mut all = Vec::new();
    for peer in peers {
        match behaviour::look(stage, &**peer, slow) {
            Ok(findings) => {
                let failed = findings.iter().filter(|finding| finding.is_failure());
                let failed = failed.count();
                if !findings.is_empty() {
                    eprintln!("{}: {failed} of {} lines fail", peer.name(), findings.len());
                }
                all.extend(findings);
            }
            Err(problem) => note(problems, peer.name(), behaviour::NAME, &*problem),
        }
    }
    all
}

fn is_chosen(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|chosen| chosen == name)
}

fn choose_rows(names: &[String]) -> Result<Vec<&'static Row>, Problem> {
    let known =
        |name: &String| *name == behaviour::NAME || ROWS.iter().any(|row| row.name == *name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        return Err(format!("no row is called {unknown}; --list names them").into());
    }
    let those = ROWS.iter().filter(|row| is_chosen(names, row.name));
    Ok(those.collect())
}

fn choose_peers(names: &[String]) -> Result<Vec<Box<dyn Peer>>, Problem> {
    let all = peer::all();
    for name in names {
        match all.iter().find(|peer| peer.name() == name) {
            None => return Err(format!("no peer is called {name}; --list names them").into()),
            Some(peer) if !is_there(&**peer) => {
                return Err(format!("{name} is not installed").into());
            }
            Some(_) => {}
        }
    }
    let (there, missing): (Vec<_>, Vec<_>) = all
        .into_iter()
        .filter(|peer| is_chosen(names, peer.name()))
        .partition(|peer| is_there(&**peer));
    for peer in missing {
        eprintln!("{} is not installed", peer.name());
    }
    Ok(there)
}

/// What is laid once for all rows that need it: by peer, and whether there is translation.
type Grounds = BTreeMap<(&'static str, bool), Ground>;

fn lay(
    stage: &Stage,
    rows: &[&Row],
    peers: &[Box<dyn Peer>],
    problems: &mut Vec<String>,
) -> Grounds {
    let mut grounds = Grounds::new();
    for topology in rows.iter().filter_map(|row| row.topology()) {
        for peer in peers {
            let key = key(&**peer, topology);
            if grounds.contains_key(&key) || problems.iter().any(|it| it.starts_with(peer.name())) {
                continue;
            }
            match peer.lay(stage, topology) {
                Ok(Some(ground)) => {
                    eprintln!("{} is laid ({topology:?})", peer.name());
                    grounds.insert(key, ground);
                }
                Ok(None) => {}
                Err(problem) => note(problems, peer.name(), &format!("{topology:?}"), &*problem),
            }
        }
    }
    grounds
}

fn key(peer: &dyn Peer, topology: ground::Topology) -> (&'static str, bool) {
    (peer.name(), topology == ground::Topology::Nat)
}

fn measure(
    stage: &Stage,
    rows: &[&'static Row],
    peers: &[Box<dyn Peer>],
    grounds: &Grounds,
    rounds: u32,
    problems: &mut Vec<String>,
) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for row in rows {
        all.extend(peers.iter().map(|peer| Series {
            row,
            peer: peer.name(),
            samples: Vec::new(),
        }));
    }
    for round in 1..=rounds {
        for (place, row) in rows.iter().enumerate() {
            eprint!("round {round} of {rounds}, {}:", row.name);
            for (number, peer) in peers.iter().enumerate() {
                let ground = row.topology().and_then(|it| grounds.get(&key(&**peer, it)));
                match row.measure(stage, &**peer, ground) {
                    Ok(Some(sample)) => {
                        eprint!(" {} {:.2}", peer.name(), sample.value);
                        all[place * peers.len() + number].samples.push(sample);
                    }
                    Ok(None) => {}
                    Err(problem) => {
                        note(problems, peer.name(), row.name, &*problem);
                        if let Some(account) = ground.and_then(|ground| ground.joint.account()) {
                            eprintln!("{}", account.trim_end());
                        }
                    }
                }
            }
            eprintln!(" {}", row.unit);
        }
    }
    all
}

fn note(problems: &mut Vec<String>, peer: &str, what: &str, problem: &dyn std::error::Error) {
    let text = format!("{peer}, {what}: {problem}");
    eprintln!("\n{text}");
    problems.push(text);
}

fn counted(problems: &[String]) -> BTreeMap<&String, usize> {
    let mut counts = BTreeMap::new();
    for problem in problems {
        *counts.entry(problem).or_insert(0) += 1;
    }
    counts
}
