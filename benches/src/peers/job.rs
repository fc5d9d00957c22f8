//! Work in a process of its own: inside a namespace, or beside other work.

use std::io::{Read as _, Write as _};
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use heddle_sys::process::{self, Fork, Signal};
use heddle_sys::watch::wait_readable;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// How long anything but a measurement itself may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A process forked from this one, killed when this value is dropped.
#[derive(Debug)]
pub(crate) struct Job<T> {
    pub(crate) pid: u32,
    pidfd: OwnedFd,
    output: OwnedFd,
    result: PhantomData<T>,
}

impl<T: Serialize + DeserializeOwned> Job<T> {
    /// Does `work` in a child; its result is [`Job::join`]'s.
    pub(crate) fn spawn(work: impl FnOnce() -> Result<T, Problem>) -> Result<Job<T>, Problem> {
        let (output, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let parent = std::process::id();
        match process::fork()? {
            Fork::Child => {
                drop(output);
                let result = process::set_parent_death_signal(Signal::KILL, parent)
                    .map_err(Problem::from)
                    .and_then(|()| work())
                    .map_err(|problem| problem.to_string());
                let sent = serde_json::to_vec(&result)
                    .map_err(std::io::Error::other)
                    .and_then(|bytes| std::fs::File::from(writer).write_all(&bytes));
                process::exit(u8::from(sent.is_err()))
            }
            Fork::Parent { child } => Ok(Job {
                pid: child,
                pidfd: process::pidfd_open(child)?,
                output,
                result: PhantomData,
            }),
        }
    }

    /// Waits for the result.
    pub(crate) fn join(self) -> Result<T, Problem> {
        if !wait_readable(self.output.as_fd(), Some(PATIENCE))? {
            return Err("it took too long".into());
        }
        let mut bytes = Vec::new();
        // One write and the end: whoever has begun to answer does not take long.
        std::fs::File::from(self.output.try_clone()?).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Err("the process failed".into());
        }
        let result: Result<T, String> = serde_json::from_slice(&bytes)?;
        Ok(result?)
    }
}

impl Job<()> {
    /// Becomes another program, after `prepare` in the new process.
    pub(crate) fn execute(
        mut command: Command,
        prepare: impl FnOnce() -> Result<(), Problem>,
    ) -> Result<Job<()>, Problem> {
        Job::spawn(move || {
            prepare()?;
            Err(command.exec().into())
        })
    }

    /// Whether the process has ended, and what it said if it is one of ours.
    pub(crate) fn has_ended(&self) -> bool {
        process::has_ended(self.pidfd.as_fd()).unwrap_or(true)
    }

    /// Waits until the process has ended by itself; whether it has.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        wait_readable(self.pidfd.as_fd(), Some(time)).unwrap_or(false)
    }
}

impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        let _ = process::pidfd_send_signal(self.pidfd.as_fd(), Signal::KILL);
        let _ = process::wait_pidfd(self.pidfd.as_fd());
    }
}

/// Runs a program to its end; what it printed. It must succeed.
pub(crate) fn run(mut command: Command) -> Result<String, Problem> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let program = command.get_program().to_string_lossy().into_owned();
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{program}: {said} ({})", output.status).into())
}
