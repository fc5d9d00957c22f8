//! What became of the tests: by running them, or from what a run has printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};

/// What became of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was not run, or was skipped.
    NotRun,
    /// It passed, wherever it was run.
    Passed,
    /// It failed somewhere.
    Failed,
}

/// What became of every test, by the name that the list uses.
#[derive(Debug, Default)]
pub struct Outcomes {
    outcomes: BTreeMap<String, Outcome>,
    all_passed: bool,
}

impl Outcomes {
    /// As if every test had passed.
    #[must_use]
    pub fn all_passed() -> Outcomes {
        Outcomes {
            all_passed: true,
            ..Outcomes::default()
        }
    }

    /// What became of a test.
    #[must_use]
    pub fn of(&self, name: &str) -> Outcome {
        if self.all_passed {
            return Outcome::Passed;
        }
        self.outcomes.get(name).copied().unwrap_or(Outcome::NotRun)
    }

    /// Takes what a run of `cargo test` printed, both streams in one.
    ///
    /// Whichever program a line is from, it says what became of a test in the same way; which program
    /// that is, cargo says when it begins.
    pub fn read(&mut self, text: &str) {
        let mut program = String::new();
        for line in text.lines() {
            if let Some(started) = started(line) {
                started.clone_into(&mut program);
            } else if let Some((test, outcome)) = result(line) {
                self.enter(&name(&program, test), outcome);
            }
        }
    }

    fn enter(&mut self, name: &str, outcome: Outcome) {
        let known = self.outcomes.entry(name.to_owned());
        let known = known.or_insert(Outcome::NotRun);
        *known = (*known).max(outcome);
    }
}

/// The test program that cargo says it is running: `Running tests/x.rs (target/debug/deps/x-0123)`.
fn started(line: &str) -> Option<&str> {
    let (_, path) = line
        .trim_start()
        .strip_prefix("Running ")?
        .rsplit_once('(')?;
    let file = Path::new(path.strip_suffix(')')?).file_name()?.to_str()?;
    file.rsplit_once('-').map(|(name, _)| name)
}

/// A test and what became of it: `test x::y ... ok`.
fn result(line: &str) -> Option<(&str, Outcome)> {
    let (test, outcome) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let outcome = match outcome.split([',', ' ']).next() {
        Some("ok") => Outcome::Passed,
        Some("FAILED") => Outcome::Failed,
        Some("ignored") => Outcome::NotRun,
        _ => return None,
    };
    Some((test, outcome))
}

/// A test's name in the list, from its program's and what that calls it.
fn name(program: &str, test: &str) -> String {
    if program == "kernel" {
        // The scenario, without its variant: as whom it is played, and with what endpoints.
        let parts: Vec<&str> = test.trim().splitn(3, "::").collect();
        return match parts[..] {
            [module, scenario, _] => format!("kernel::{module}::{scenario}"),
            _ => test.to_owned(),
        };
    }
    let place = match program {
        "heddle" => "ctl",
        other => other.strip_prefix("heddle_").unwrap_or(other),
    };
    format!("{place}::{test}")
}

/// Runs tests, by the names of the list, and says what became of them.
///
/// # Errors
///
/// cargo cannot be started, or what it prints not be kept.
pub fn run(root: &Path, names: &BTreeSet<&str>) -> io::Result<Outcomes> {
    let mut outcomes = Outcomes::default();
    let (mut scenarios, mut others, mut labs) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (program, test) in names.iter().filter_map(|name| name.split_once("::")) {
        if program == "kernel" {
            scenarios.push(test);
            continue;
        }
        others.push(test);
        if program.starts_with("lab_") {
            labs.insert(program);
        }
    }
    // All at once: cargo would else build the same things anew for each of them.
    let labs: Vec<String> = labs.iter().map(|lab| format!("--test={lab}")).collect();
    let targets: Vec<&str> = ["--lib"]
        .into_iter()
        .chain(labs.iter().map(String::as_str))
        .collect();
    outcomes.read(&cargo_test(
        root,
        &targets,
        &[&["--exact"], &others[..]].concat(),
    )?);
    // A scenario is named by its beginning, one at a time.
    for scenario in scenarios {
        outcomes.read(&cargo_test(root, &["--test=kernel"], &[scenario])?);
    }
    Ok(outcomes)
}

/// What `cargo test` prints, both streams in one.
fn cargo_test(root: &Path, targets: &[&str], arguments: &[&str]) -> io::Result<String> {
    let printed = memfd_create("printed", MemfdFlags::CLOEXEC)?;
    let mut printed = File::from(printed);
    let status = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(targets)
        .arg("--")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(printed.try_clone()?)
        .stderr(printed.try_clone()?)
        .status()?;
    let mut text = Vec::new();
    printed.rewind()?;
    printed.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    if !status.success() {
        eprintln!("{text}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "
     Running unittests src/lib.rs (target/debug/deps/heddle_nat-4b3e)
test ports::tests::one ... ok
test ports::tests::two ... FAILED
     Running tests/lab_nat_udp.rs (target/debug/deps/lab_nat_udp-77)
test one ... ok
test two ... ignored
     Running tests/kernel/main.rs (/elsewhere/kernel-77)
test nat::one::root::tap ... ok
test nat::one::user::tap ... FAILED
test nat::two::root::tap ... ignored, skipped: no tun
test nat::two::root::veth ... ok
test nat::three::root::veth ... ignored, skipped: no tun
";

    #[test]
    fn what_was_printed_tells_what_became_of_the_tests() {
        let mut outcomes = Outcomes::default();
        outcomes.read(PRINTED);
        for (name, outcome) in [
            ("nat::ports::tests::one", Outcome::Passed),
            ("nat::ports::tests::two", Outcome::Failed),
            ("lab_nat_udp::one", Outcome::Passed),
            ("lab_nat_udp::two", Outcome::NotRun),
            ("lab_nat_udp::three", Outcome::NotRun),
            // Wherever it was played.
            ("kernel::nat::one", Outcome::Failed),
            ("kernel::nat::two", Outcome::Passed),
            ("kernel::nat::three", Outcome::NotRun),
        ] {
            assert_eq!(outcomes.of(name), outcome, "{name}");
        }
    }

    #[test]
    fn a_run_after_another_adds_to_it() {
        let mut outcomes = Outcomes::default();
        outcomes.read(PRINTED);
        outcomes.read(&PRINTED.replace("FAILED", "ok"));
        assert_eq!(outcomes.of("kernel::nat::one"), Outcome::Failed);
    }
}
