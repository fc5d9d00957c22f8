//! Starting a daemon where none answers.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use heddle_sys::process;
use heddle_sys::watch::wait_readable;

use super::http::Client;
use crate::api::{ApiError, ErrorCode};

/// How long a daemon may take to answer after its start.
const START_TIME: Duration = Duration::from_secs(10);

/// Between two looks whether it answers.
const LOOK: Duration = Duration::from_millis(5);

/// How long such a daemon stays after its last endpoint, in seconds.
const IDLE_SECONDS: &str = "10";

/// Starts a daemon in the background if none answers, and waits until it does.
///
/// # Errors
///
/// It does not start; what it said is in the message.
pub fn ensure_daemon(client: &Client) -> Result<(), ApiError> {
    if client.is_answered() {
        return Ok(());
    }
    let failed = |problem: String| {
        ApiError::new(ErrorCode::NoDaemon, format!("starting a daemon: {problem}"))
    };
    let log = log_path(client);
    let output = open_log(&log).map_err(|error| failed(format!("{}: {error}", log.display())))?;
    let errors = output
        .try_clone()
        .map_err(|error| failed(error.to_string()))?;
    // The very program that runs now, even if the file was replaced meanwhile.
    let child = Command::new("/proc/self/exe")
        .arg0("heddle")
        .args(["--socket".as_ref(), client.sockets().api.as_os_str()])
        .args(["daemon", "--background", "--idle-exit", IDLE_SECONDS])
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let watched = process::pidfd_open(child.id()).map_err(|error| failed(error.to_string()))?;
    let deadline = now() + START_TIME;
    while now() < deadline {
        if client.is_answered() {
            return Ok(());
        }
        let ended = wait_readable(watched.as_fd(), Some(LOOK))
            .map_err(|error| failed(error.to_string()))?;
        if ended {
            // Another command may have started one at the same moment, and that one serves us too.
            if client.is_answered() {
                return Ok(());
            }
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(failed(said.trim().to_owned()));
        }
    }
    Err(failed(format!("it does not answer; see {}", log.display())))
}

fn log_path(client: &Client) -> PathBuf {
    let mut path = client.sockets().api.clone().into_os_string();
    path.push(".log");
    path.into()
}

fn open_log(path: &std::path::Path) -> io::Result<std::fs::File> {
    if let Some(directory) = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
        && !directory.exists()
    {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

#[expect(clippy::disallowed_methods, reason = "the user waits in real time")]
fn now() -> Instant {
    Instant::now()
}
