//! Starting a daemon where none answers.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use heddle_sys::process;
use heddle_sys::watch::wait_readable;

use super::http::Client;
use crate::api::{ApiError, ErrorCode};
use crate::daemon::prepare_directory;

/// How long a daemon may take to answer after its start.
const START_TIME: Duration = Duration::from_secs(10);

/// Between two looks whether it answers.
const LOOK: Duration = Duration::from_millis(5);

/// Octets of a log that is begun anew.
const LOG_SPACE: u64 = 1 << 20;

/// How long such a daemon stays after its last endpoint, in seconds.
const IDLE_SECONDS: &str = "10";

/// Starts a daemon in the background if none answers, and waits until it does. If it was about
/// to leave and is gone when the next request comes, another one is started then.
///
/// # Errors
///
/// It does not start; what it said is in the message.
pub fn ensure_daemon(client: &Client) -> Result<(), ApiError> {
    client.expect_daemon();
    if client.is_answered() {
        return Ok(());
    }
    let failed = |problem: String| {
        ApiError::new(ErrorCode::NoDaemon, format!("starting a daemon: {problem}"))
    };
    prepare_directory(client.sockets()).map_err(failed)?;
    let log = log_path(client);
    let no_log = |error: io::Error| failed(format!("{}: {error}", log.display()));
    let output = open_log(&log).map_err(no_log)?;
    let before = output.metadata().map_err(no_log)?.len();
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
            return Err(failed(said_since(&log, before)));
        }
    }
    Err(failed(format!("it does not answer; see {}", log.display())))
}

fn log_path(client: &Client) -> PathBuf {
    let mut path = client.sockets().api.clone().into_os_string();
    path.push(".log");
    path.into()
}

/// Opens the log to be appended to: a daemon that is about to leave, or one that another command has
/// just started, writes into it too.
fn open_log(path: &Path) -> io::Result<File> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    if log.metadata()?.len() > LOG_SPACE {
        log.set_len(0)?;
    }
    Ok(log)
}

/// What was said since the log had this length.
fn said_since(path: &Path, len: u64) -> String {
    let mut said = Vec::new();
    let read = File::open(path).and_then(|mut log| {
        log.seek(SeekFrom::Start(len))?;
        log.read_to_end(&mut said)
    });
    match read {
        Ok(_) => String::from_utf8_lossy(&said).trim().to_owned(),
        Err(error) => format!("see {}: {error}", path.display()),
    }
}

#[expect(clippy::disallowed_methods, reason = "the user waits in real time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_log_is_appended_to_until_it_is_too_long() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut first = open_log(&path).unwrap();
        first.write_all(b"one\n").unwrap();
        let mut second = open_log(&path).unwrap();
        second.write_all(b"two\n").unwrap();
        first.write_all(b"three\n").unwrap();
        assert_eq!(said_since(&path, 0), "one\ntwo\nthree");
        assert_eq!(said_since(&path, 4), "two\nthree");
        first.set_len(LOG_SPACE + 1).unwrap();
        drop(open_log(&path).unwrap());
        assert_eq!(said_since(&path, 0), "");
        first.write_all(b"four\n").unwrap();
        assert_eq!(said_since(&path, 0), "four");
    }

    #[test]
    fn a_log_that_leads_elsewhere_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let precious = directory.path().join("precious");
        std::fs::write(&precious, b"words").unwrap();
        let path = directory.path().join("log");
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        assert!(open_log(&path).is_err());
        assert_eq!(std::fs::read(&precious).unwrap(), b"words");
    }
}
