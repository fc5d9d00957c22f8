//! Writes `docs/conformance.md`, or checks it.
//!
//! ```text
//! conformance [--check] [FILE]...
//! ```
//!
//! Without files the tests of the list are run; else what became of them is read from there: what
//! `cargo test` has printed, both streams in one.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use heddle_tests::conformance::{
    Outcome, Outcomes, PAGE, Sources, faults, render, requirements, run,
};

fn main() -> io::Result<ExitCode> {
    let (options, files): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|argument| argument.starts_with("--"));
    let check = options.iter().any(|option| option == "--check");
    if let Some(unknown) = options.iter().find(|option| *option != "--check") {
        eprintln!("{unknown} is no option; there is --check");
        return Ok(ExitCode::from(2));
    }
    let root = root();
    let sources = Sources::read(&root)?;
    let mut wrong = faults(&root, &sources);
    let names: BTreeSet<&str> = requirements()
        .flat_map(|requirement| requirement.tests)
        .copied()
        .collect();
    let outcomes = if files.is_empty() {
        run::run(&root, &names)?
    } else {
        let mut outcomes = Outcomes::default();
        for file in files {
            outcomes.read(&fs::read_to_string(file)?);
        }
        outcomes
    };
    for name in names {
        match outcomes.of(name) {
            Outcome::Passed => {}
            Outcome::Failed => wrong.push(format!("{name} failed")),
            Outcome::NotRun => wrong.push(format!("{name} was not run, or skipped")),
        }
    }
    let (page, path) = (render(&sources, &outcomes), root.join(PAGE));
    if !check {
        fs::write(&path, &page)?;
    } else if fs::read_to_string(&path)? != page {
        wrong.push(format!("{PAGE} would change"));
    }
    for fault in &wrong {
        eprintln!("{fault}");
    }
    Ok(ExitCode::from(u8::from(!wrong.is_empty())))
}

/// The root of the tree that this was built from.
fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}
