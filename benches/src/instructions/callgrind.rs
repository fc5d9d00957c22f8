//! Counting instructions with valgrind.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

/// The function whose instructions are counted, with everything it calls.
const COUNTED: &str = "*Course*carry*";

/// The function after which a count ends and the next one begins.
const PART: &str = "*carry_bursts*";

/// Why nothing was counted.
#[derive(Debug)]
pub(crate) enum NotCounted {
    /// Valgrind cannot be run.
    NoValgrind(io::Error),
    /// The program under it failed; what it said.
    Failed(String),
    /// Its output is not what was asked for; this is missing.
    Output(&'static str),
}

impl fmt::Display for NotCounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotCounted::NoValgrind(error) => write!(
                f,
                "valgrind cannot be run ({error}): instructions are counted with its callgrind, \
                 Debian package valgrind"
            ),
            NotCounted::Failed(report) => {
                write!(f, "the program failed under valgrind:\n{report}")
            }
            NotCounted::Output(missing) => write!(f, "callgrind wrote no {missing}"),
        }
    }
}

/// Runs this program with `arguments` under callgrind; the instructions of each part, in order.
///
/// # Errors
///
/// [`NotCounted`]
pub(crate) fn count<A: AsRef<OsStr>>(
    arguments: &[A],
    parts: usize,
) -> Result<Vec<u64>, NotCounted> {
    let place = tempfile::tempdir().map_err(NotCounted::NoValgrind)?;
    let profile = place.path().join("part");
    let program = env::current_exe().map_err(NotCounted::NoValgrind)?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--dump-after={PART}"))
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .args(arguments)
        .output()
        .map_err(NotCounted::NoValgrind)?;
    if !output.status.success() {
        let report = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(NotCounted::Failed(report));
    }
    (1..=parts)
        .map(|part| total(&profile.with_extension(part.to_string())))
        .collect()
}

/// The sum over a profile: the numbers of its line "summary:" or "totals:".
fn total(profile: &Path) -> Result<u64, NotCounted> {
    let text = fs::read_to_string(profile).map_err(|_| NotCounted::Output("profile of a part"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("summary:"))
        .and_then(|number| number.trim().parse().ok())
        .ok_or(NotCounted::Output("sum over a part"))
}
