//! Other people's programs: started in a namespace, with a deadline, their output kept.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use heddle_sys::process::{self, Fork, Signal};
use heddle_sys::watch::wait_readable;
use rustix::fs::{MemfdFlags, memfd_create};

use super::suite::skip;
use super::wait::PATIENCE;

/// Where Debian and its relatives keep programs of the administrator, which a user's `PATH` lacks.
const SYSTEM_PATHS: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// The program of this name; the scenario is skipped where there is none.
#[must_use]
pub fn program(name: &str) -> Command {
    let Some(path) = find(name) else {
        skip(&format!("there is no program {name}"))
    };
    Command::new(path)
}

fn find(name: &str) -> Option<PathBuf> {
    let mut paths = std::env::var_os("PATH").unwrap_or_default();
    paths.push(":");
    paths.push(SYSTEM_PATHS);
    std::env::split_paths(&OsString::from(&paths))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it said.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Ended {
    /// What it said.
    ///
    /// # Panics
    ///
    /// It did not succeed.
    #[must_use]
    pub fn success(self) -> String {
        assert!(self.status.success(), "{self:#?}");
        self.stdout
    }
}

/// A program that may be running; killed when this value is dropped.
#[derive(Debug)]
pub struct Running {
    /// Its process.
    pub pid: u32,
    pidfd: OwnedFd,
    stdout: File,
    stderr: File,
    said: String,
    status: Option<ExitStatus>,
}

impl Running {
    /// Starts a program in a forked process that first does `prepare`.
    ///
    /// # Panics
    ///
    /// There can be no process.
    #[must_use]
    pub fn start(mut command: Command, prepare: impl FnOnce() -> io::Result<()>) -> Self {
        let said = format!("{command:?}");
        let (stdout, stderr) = (memory_file(), memory_file());
        command
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().expect("a descriptor"))
            .stderr(stderr.try_clone().expect("a descriptor"));
        let pid = fork(|| {
            if let Err(error) = prepare() {
                let _ = stderr.write_at(error.to_string().as_bytes(), 0);
                return 125;
            }
            let error = command.exec();
            let _ = stderr.write_at(error.to_string().as_bytes(), 0);
            126
        });
        Self {
            pid,
            pidfd: process::pidfd_open(pid).expect("it was not waited for"),
            stdout,
            stderr,
            said,
            status: None,
        }
    }

    /// What it has said so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read_all(&self.stdout)
    }

    /// What it has complained of so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read_all(&self.stderr)
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        process::has_ended(self.pidfd.as_fd()).expect("a pidfd can be asked")
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// It does not end in time.
    #[must_use]
    pub fn end(mut self) -> Ended {
        let patience = PATIENCE * 2;
        let in_time =
            wait_readable(self.pidfd.as_fd(), Some(patience)).expect("a pidfd can be polled");
        let (stdout, stderr) = (self.stdout(), self.stderr());
        assert!(in_time, "{} does not end.\n{stdout}\n{stderr}", self.said);
        let status = process::wait(self.pid).expect("it is a child of this process");
        self.status = Some(status);
        Ended {
            status,
            stdout,
            stderr,
        }
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// It has been waited for.
    pub fn signal(&self, signal: Signal) {
        process::pidfd_send_signal(self.pidfd.as_fd(), signal).expect("it is a child");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = process::pidfd_send_signal(self.pidfd.as_fd(), Signal::KILL);
            let _ = process::wait(self.pid);
        }
    }
}

/// Does `work` in a forked process, whose exit status it returns; the new process's number. It ends
/// with this one.
pub(super) fn fork(work: impl FnOnce() -> u8) -> u32 {
    let parent = std::process::id();
    match process::fork().expect("a scenario has one thread") {
        Fork::Parent { child } => child,
        Fork::Child => {
            let lives = process::set_parent_death_signal(Signal::KILL, parent).is_ok();
            // The panic's message goes to the inherited stderr.
            let work = std::panic::AssertUnwindSafe(work);
            let status = match lives.then(|| std::panic::catch_unwind(work)) {
                Some(Ok(status)) => status,
                Some(Err(_)) => 101,
                None => 1,
            };
            process::exit(status)
        }
    }
}

fn memory_file() -> File {
    memfd_create("output", MemfdFlags::CLOEXEC)
        .expect("a memory file")
        .into()
}

/// Everything in a file, without moving the place that its writers share.
fn read_all(file: &File) -> String {
    let length = file.metadata().expect("it is open").len();
    let mut bytes = vec![0; usize::try_from(length).expect("it fits into memory")];
    let read = file
        .read_at(&mut bytes, 0)
        .expect("a memory file can be read");
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}
