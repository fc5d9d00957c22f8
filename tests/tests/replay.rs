//! The corpora of the fuzz targets, replayed: every input that was ever worth keeping, on every run of
//! the tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use heddle_nat::tcp::State;
use heddle_switch::DropReason;
use heddle_tests::replay::api::api;
use heddle_tests::replay::frame_path::{Action, Reached, frame_path, seeds};
use heddle_tests::replay::parse::{self, parse};

/// Files of one corpus, and octets of one file: what is kept stays small.
const FILES: usize = 400;
const OCTETS: usize = 2048;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let folder = folder.join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut inputs: Vec<(PathBuf, Vec<u8>)> = entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.clone(), fs::read(path).expect("a file")))
        .collect();
    inputs.sort();
    assert!((1..FILES).contains(&inputs.len()), "{}", inputs.len());
    for (path, bytes) in &inputs {
        assert!(bytes.len() < OCTETS, "{path:?} has {} octets", bytes.len());
    }
    inputs
}

/// Runs an input; a panic says which one it was.
fn replay<T>(path: &Path, bytes: &[u8], target: impl FnOnce(&[u8]) -> T) -> T {
    // Shown only if the test fails.
    println!("{}", path.display());
    target(bytes)
}

#[test]
fn every_kept_frame_is_parsed_rewritten_and_cut_as_promised() {
    let inputs = corpus("parse");
    let reached: BTreeSet<parse::Reached> = inputs
        .iter()
        .map(|(path, bytes)| replay(path, bytes, parse))
        .collect();
    let all = [
        parse::Reached::Nothing,
        parse::Reached::Frame,
        parse::Reached::Datagram,
        parse::Reached::Segments,
    ];
    assert!(reached.iter().eq(&all), "{reached:?}");
}

#[test]
fn every_kept_body_and_text_is_refused_or_reads_as_it_is_written() {
    let inputs = corpus("api");
    let reached: BTreeSet<&str> = inputs
        .iter()
        .flat_map(|(path, bytes)| replay(path, bytes, api))
        .collect();
    let all = [
        "address",
        "addresses",
        "attach",
        "create-network",
        "drop",
        "endpoint",
        "error",
        "flow",
        "icmp-type",
        "ip-address",
        "kind",
        "mac",
        "name",
        "neighbour",
        "network",
        "place",
        "plan",
        "port",
        "port-spec",
        "ports",
        "prefix",
        "protocol",
        "publish",
        "rate",
        "route",
        "rule",
        "rule-log",
        "rules",
        "shutdown",
        "start",
        "states",
        "station",
        "statistics",
        "status",
        "uplink",
    ];
    assert!(reached.iter().eq(&all), "{reached:?}");
}

#[test]
fn the_kept_actions_drop_frames_for_every_reason_and_bring_tcp_into_every_state() {
    let mut reached = Reached::default();
    for (path, bytes) in corpus("frame_path") {
        reached.join(replay(&path, &bytes, frame_path));
    }
    let reasons: BTreeSet<String> = DropReason::all().map(DropReason::name).collect();
    let missed: Vec<_> = reasons.difference(&reached.drops).collect();
    assert!(missed.is_empty(), "{missed:?}");
    // A session exists from its first SYN on: nothing in the table is closed.
    let states = State::ALL
        .into_iter()
        .filter(|&state| state != State::Closed);
    let states: BTreeSet<u8> = states.map(State::to_byte).collect();
    assert_eq!(reached.states, states);
}

#[test]
fn an_input_that_is_named_after_a_reason_drops_a_frame_for_it() {
    let reasons: BTreeSet<String> = DropReason::all().map(DropReason::name).collect();
    let inputs: Vec<_> = seeds::seeds();
    let named: BTreeSet<&String> = inputs.iter().map(|(name, _)| name).collect();
    assert!(reasons.iter().all(|reason| named.contains(reason)));
    let mut wrong = Vec::new();
    for (name, bytes) in &inputs {
        let drops = frame_path(bytes).drops;
        let reason = name.strip_suffix("-v6").unwrap_or(name);
        if reasons.contains(reason) && !drops.contains(reason) {
            wrong.push((name, drops));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn actions_are_written_as_they_are_read() {
    for (name, bytes) in seeds::seeds() {
        let actions = Action::list(&bytes);
        assert_eq!(Action::bytes(&actions), bytes, "{name}");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/frame_path");
        assert_eq!(
            fs::read(path.join(&name)).unwrap(),
            bytes,
            "{name} is stale"
        );
    }
}

#[test]
fn the_same_input_comes_by_the_same() {
    for (name, bytes) in seeds::seeds() {
        assert_eq!(frame_path(&bytes), frame_path(&bytes), "{name}");
    }
}
