//! `heddle run`: a command in a sandbox of its own.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use heddle_sys::namespace::{self, Maps, NamespaceKind};
use heddle_sys::process::{self, Fork, Signal};
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::attach::{EndpointArguments, attach_sandbox, to_name};
use super::table::say;
use crate::api::{ApiError, CallerSandbox, ErrorCode};
use crate::client::{Client, ensure_daemon};

/// A command and the network it runs on.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    endpoint: EndpointArguments,

    /// Print the sandbox's name and leave the command running, without a terminal
    #[arg(long, short)]
    detach: bool,

    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What the child says when its namespaces are there.
const THERE: u8 = b'1';

/// What the parent says when the network is there.
const GO: u8 = b'2';

/// Runs the command; returns its exit status, 128 and the signal's number if one ended it.
pub(super) fn run(client: &Client, arguments: Arguments) -> Result<u8, ApiError> {
    let Arguments {
        endpoint,
        detach,
        command,
    } = arguments;
    ensure_daemon(client)?;
    let failed = |problem: String| ApiError::new(ErrorCode::PlumbingFailed, problem);
    let io = |error: std::io::Error| failed(format!("starting the command: {error}"));
    let (mut ours, theirs) = UnixStream::pair().map_err(io)?;
    let child = match process::fork().map_err(io)? {
        Fork::Child => {
            drop(ours);
            inside(theirs, &command, detach)
        }
        Fork::Parent { child } => {
            drop(theirs);
            child
        }
    };
    let attached = settle(&mut ours, child).and_then(|()| {
        let name_like = Path::new(&command[0])
            .file_name()
            .and_then(|name| to_name(name.to_str()?));
        attach_sandbox(client, CallerSandbox::Pid(child), &endpoint, name_like)
    });
    let attached = match attached {
        Ok(attached) => attached,
        Err(error) => {
            // Without a word from us the child ends.
            drop(ours);
            let _ = process::wait(child);
            return Err(error);
        }
    };
    if detach {
        ours.write_all(&[GO]).map_err(io)?;
        say(&format!("{}\n", attached.sandbox));
        return Ok(0);
    }
    // Before the command starts, so that no signal ends this process alone.
    let signals = Signals::handle().map_err(io)?;
    let command = process::pidfd_open(child).map_err(io)?;
    ours.write_all(&[GO]).map_err(io)?;
    signals.pass_on_to(command.as_fd()).map_err(io)?;
    let ended = process::wait(child).map_err(io)?;
    Ok(status_of(ended))
}

/// Waits until the child has its namespaces, and maps its user.
fn settle(child: &mut UnixStream, pid: u32) -> Result<(), ApiError> {
    let failed = |problem: String| ApiError::new(ErrorCode::PlumbingFailed, problem);
    let mut word = [0];
    let there = child.read_exact(&mut word).is_ok() && word == [THERE];
    if !there {
        let message = "the sandbox could not be made".to_owned();
        return Err(failed(message).hint("unprivileged user namespaces may be switched off"));
    }
    if is_root() {
        return Ok(());
    }
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    namespace::write_id_maps(pid, &Maps::single(0, user), &Maps::single(0, group))
        .map_err(|error| failed(error.to_string()))
}

/// The child: makes its namespaces, waits for its network, becomes the command.
fn inside(mut parent: UnixStream, command: &[OsString], detach: bool) -> ! {
    let kinds: &[NamespaceKind] = if is_root() {
        &[NamespaceKind::Network]
    } else {
        &[NamespaceKind::User, NamespaceKind::Network]
    };
    if let Err(error) = namespace::unshare(kinds) {
        eprintln!("heddle: {error}");
        process::exit(1);
    }
    let mut word = [0];
    let told = parent.write_all(&[THERE]).is_ok() && parent.read_exact(&mut word).is_ok();
    if !told || word != [GO] {
        process::exit(1);
    }
    drop(parent);
    let _ = process::restore_signal_defaults();
    let mut program = Command::new(&command[0]);
    program.args(&command[1..]);
    if detach {
        // Neither the terminal's signals nor a pipe that somebody reads to its end.
        let _ = rustix::process::setsid();
        program.stdin(Stdio::null());
        program.stdout(Stdio::null());
        program.stderr(Stdio::null());
    }
    let error = program.exec();
    eprintln!("heddle: {}: {error}", Path::new(&command[0]).display());
    // As shells do: 127 for a command that is not there, 126 for one that cannot be executed.
    process::exit(if error.kind() == std::io::ErrorKind::NotFound {
        127
    } else {
        126
    })
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The signals that come to this process and are meant for the command.
struct Signals {
    /// What becomes readable when one has come.
    passed_on: [(Signal, UnixStream); 2],
}

impl Signals {
    /// Handles them from now on.
    fn handle() -> std::io::Result<Signals> {
        // The terminal sends these to the command as well, and it is the command that decides.
        for signal in [SIGINT, SIGQUIT] {
            signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
        }
        let passed_on = |number, signal| {
            let (came, from_handler) = UnixStream::pair()?;
            came.set_nonblocking(true)?;
            signal_hook::low_level::pipe::register(number, from_handler)?;
            std::io::Result::Ok((signal, came))
        };
        Ok(Signals {
            passed_on: [
                passed_on(SIGTERM, Signal::TERM)?,
                passed_on(SIGHUP, Signal::HUP)?,
            ],
        })
    }

    /// Passes them on to the command until it ends.
    fn pass_on_to(&self, command: BorrowedFd<'_>) -> std::io::Result<()> {
        while !process::has_ended(command)? {
            let [(_, first), (_, second)] = &self.passed_on;
            let mut fds = [command, first.as_fd(), second.as_fd()]
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for (signal, came) in &self.passed_on {
                if matches!((&mut &*came).read(&mut [0; 16]), Ok(1..)) {
                    // It may have ended meanwhile.
                    let _ = process::pidfd_send_signal(command, *signal);
                }
            }
        }
        Ok(())
    }
}

fn status_of(ended: ExitStatus) -> u8 {
    let status = match (ended.code(), ended.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    u8::try_from(status).unwrap_or(u8::MAX)
}
