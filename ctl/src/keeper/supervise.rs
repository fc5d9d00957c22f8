//! The keeper's loop.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use heddle_sys::fdpass;
use heddle_sys::process::{self, Fork, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::jobs::{Failure, Jobs};
use super::message::{self, Held, Note, Reply, Request};
use super::signals::Signals;
use crate::plumb::{self, Job};

/// A daemon that ends sooner than this after its start is failing, not crashing.
const SHORT_LIFE: Duration = Duration::from_secs(5);

/// Short lives in a row after which the keeper gives up.
const SHORT_LIVES: u32 = 10;

/// Pause after the second short life in a row; doubled for each further one. The first restart is
/// immediate.
const PAUSE: Duration = Duration::from_millis(100);

/// What a daemon starts with.
#[derive(Debug)]
pub struct Inherited {
    /// Where API clients connect.
    pub api: UnixListener,
    /// Where descriptors are passed.
    pub descriptors: UnixListener,
    /// The conversation with the keeper.
    pub keeper: OwnedFd,
    /// The keeper's process.
    pub keeper_pid: u32,
    /// How many daemons there were before.
    pub restarts: u32,
}

/// The daemon proper: runs in a process of its own and returns its exit status.
pub type DaemonMain<'a> = &'a dyn Fn(Inherited) -> u8;

/// Keeps a daemon running until it says goodbye; returns its exit status.
///
/// # Errors
///
/// The system gives no process, socket or signal.
pub fn run(
    api: &UnixListener,
    descriptors: &UnixListener,
    daemon: DaemonMain<'_>,
) -> io::Result<u8> {
    let mut keeper = Keeper {
        held: BTreeMap::new(),
        jobs: Jobs::default(),
        signals: Signals::handle()?,
        stopping: false,
        restarts: 0,
        short_lives: 0,
    };
    loop {
        match keeper.live(api, descriptors, daemon)? {
            Next::End(status) => return Ok(status),
            Next::Restart(pause) => {
                keeper.pause(pause)?;
                keeper.restarts += 1;
            }
        }
    }
}

/// What follows a daemon's end.
enum Next {
    End(u8),
    Restart(Duration),
}

/// State that outlives daemons.
struct Keeper {
    held: BTreeMap<String, Held>,
    jobs: Jobs,
    signals: Signals,
    /// Whether a signal has come: whatever the daemon then ends of, it is not started again.
    stopping: bool,
    restarts: u32,
    short_lives: u32,
}

/// One daemon's life.
struct Life {
    socket: OwnedFd,
    process: OwnedFd,
    pid: u32,
    started: Instant,
    ready: bool,
    goodbye: bool,
    /// Whether the daemon has not hung up.
    talks: bool,
}

impl Keeper {
    /// Forks a daemon and serves it until it ends. No error comes from here while it lives: the
    /// sockets are in use as long.
    fn live(
        &mut self,
        api: &UnixListener,
        descriptors: &UnixListener,
        daemon: DaemonMain<'_>,
    ) -> io::Result<Next> {
        let (socket, theirs) = fdpass::socketpair_seqpacket()?;
        let keeper_pid = std::process::id();
        let pid = match process::fork()? {
            Fork::Parent { child } => child,
            Fork::Child => {
                // What this process holds for the daemon must not be held by the daemon unknowingly.
                self.held.clear();
                self.signals.leave_to_daemon();
                drop(socket);
                let status = inherit(api, descriptors, theirs, keeper_pid, self.restarts)
                    .map_or(START_FAILED, daemon);
                process::exit(status)
            }
        };
        // Leaves room for the one that is opened next.
        drop(theirs);
        let process = match process::pidfd_open(pid) {
            Ok(process) => process,
            Err(error) => {
                process::kill_child(pid)?;
                process::wait(pid)?;
                return Err(error);
            }
        };
        let mut life = Life {
            socket,
            process,
            pid,
            started: now(),
            ready: false,
            goodbye: false,
            talks: true,
        };
        // A daemon that ends at once reads nothing of this; its end is seen below.
        let _ = self.hand_over(&life);
        // What cannot be looked at for want of memory is looked at again.
        while !process::has_ended(life.process.as_fd()).unwrap_or(false) {
            self.wait(&life);
            self.pass_signal_on(&life);
            while self.serve(&mut life) {}
            for failure in self.jobs.reap(now()) {
                answer(&life, failure);
            }
        }
        while self.serve(&mut life) {}
        self.jobs.abandon();
        Ok(self.decide(&life, &process::wait(life.pid)?))
    }

    /// Gives a new daemon everything its predecessor left.
    fn hand_over(&self, life: &Life) -> io::Result<()> {
        for held in self.held.values() {
            let descriptors: Vec<_> = held.descriptors.iter().map(AsFd::as_fd).collect();
            message::send(
                life.socket.as_fd(),
                &Reply::Held(held.note.clone()),
                &descriptors,
            )?;
        }
        message::send(life.socket.as_fd(), &Reply::HeldAll, &[])
    }

    /// Sleeps until the daemon says something or ends, a signal comes, or it is time to look for
    /// children.
    fn wait(&self, life: &Life) {
        // A child's end is no readiness; looking five times a second is soon enough.
        let timeout = (!self.jobs.is_empty()).then_some(Duration::from_millis(200));
        let mut fds = vec![life.process.as_fd(), self.signals.as_fd()];
        if life.talks {
            fds.push(life.socket.as_fd());
        }
        // Fails for want of memory only, which passes.
        let _ = wait_for(&fds, timeout);
    }

    fn pass_signal_on(&mut self, life: &Life) {
        if self.signals.take() {
            self.stopping = true;
            tell_to_end(life);
        }
    }

    /// Serves one request of the daemon if there is one; whether there was.
    fn serve(&mut self, life: &mut Life) -> bool {
        if !life.talks || wait_ready(life.socket.as_fd()) != Ok(true) {
            return false;
        }
        match message::receive(life.socket.as_fd()) {
            Ok(Some((request, descriptors))) => {
                self.act(life, request, descriptors);
                true
            }
            Ok(None) => {
                life.talks = false;
                false
            }
            Err(error) => {
                tracing::error!(%error, "a message of the daemon is lost");
                false
            }
        }
    }

    fn act(&mut self, life: &mut Life, request: Request, descriptors: Vec<OwnedFd>) {
        match request {
            Request::Run { number, job } => {
                if let Err(error) = self.start_job(life, number, &job) {
                    answer(life, Failure::new(number, &error.to_string()));
                }
            }
            Request::Hold(note) => self.hold(note, descriptors),
            Request::Release(key) => {
                self.held.remove(&key);
            }
            Request::Ready => {
                life.ready = true;
                if self.stopping {
                    // It was told before it could hear it.
                    tell_to_end(life);
                }
            }
            Request::Goodbye => life.goodbye = true,
        }
    }

    fn hold(&mut self, note: Note, descriptors: Vec<OwnedFd>) {
        let key = note.key.clone();
        if descriptors.len() == note.manifest.count() {
            self.held.insert(key, Held { note, descriptors });
        } else {
            // What was held under this key is not what the daemon has now.
            self.held.remove(&key);
            let (soft_limit, _) = heddle_sys::limits::fd_limit();
            tracing::error!(
                key,
                soft_limit,
                "no room to hold these descriptors; the endpoint would not survive a crash"
            );
        }
    }

    /// Forks a child that does a job and answers for itself.
    fn start_job(&mut self, life: &Life, number: u64, job: &Job) -> io::Result<()> {
        match process::fork()? {
            Fork::Parent { child } => {
                self.jobs.add(child, number, now());
                Ok(())
            }
            Fork::Child => {
                Signals::end_child();
                self.close_held();
                let result = job.run(life.socket.as_fd());
                let sent = plumb::encode(&result).and_then(|(_, descriptors)| {
                    let outcome = result
                        .as_ref()
                        .map(plumb::Parcel::manifest)
                        .map_err(Clone::clone);
                    message::send(
                        life.socket.as_fd(),
                        &Reply::Done { number, outcome },
                        &descriptors,
                    )
                });
                process::exit(u8::from(sent.is_err()))
            }
        }
    }

    /// Closes what is held for the daemon, in a child that does not live long enough to give its memory
    /// back as well: of a thousand endpoints that would be a thousand pages to copy, for each new one.
    fn close_held(&mut self) {
        for held in self.held.values_mut() {
            held.descriptors.clear();
        }
    }

    fn decide(&mut self, life: &Life, ended: &std::process::ExitStatus) -> Next {
        let status = ended
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(CRASHED);
        let never_ran = self.restarts == 0 && !life.ready;
        if life.goodbye || never_ran || self.stopping {
            return Next::End(status);
        }
        if life.ready && now() - life.started >= SHORT_LIFE {
            self.short_lives = 0;
        } else {
            self.short_lives += 1;
        }
        tracing::error!(
            pid = life.pid,
            %ended,
            restarts = self.restarts + 1,
            "the daemon ended unexpectedly; restarting it"
        );
        if self.short_lives > SHORT_LIVES {
            tracing::error!("it keeps ending; giving up");
            return Next::End(status.max(CRASHED));
        }
        let pause = match self.short_lives {
            0 | 1 => Duration::ZERO,
            lives => PAUSE * 2_u32.saturating_pow(lives - 2),
        };
        Next::Restart(pause)
    }

    /// Waits between two lives; a signal ends the wait and the keeper.
    fn pause(&self, pause: Duration) -> io::Result<()> {
        let deadline = now() + pause;
        while now() < deadline {
            wait_for(&[self.signals.as_fd()], Some(deadline - now()))?;
            if self.signals.take() {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        Ok(())
    }
}

/// Exit status of a daemon that could not start.
pub(crate) const START_FAILED: u8 = 1;

/// Exit status that stands for an end by a signal.
const CRASHED: u8 = 70;

fn inherit(
    api: &UnixListener,
    descriptors: &UnixListener,
    keeper: OwnedFd,
    keeper_pid: u32,
    restarts: u32,
) -> io::Result<Inherited> {
    Ok(Inherited {
        api: api.try_clone()?,
        descriptors: descriptors.try_clone()?,
        keeper,
        keeper_pid,
        restarts,
    })
}

fn tell_to_end(life: &Life) {
    // It may have ended meanwhile.
    let _ = process::pidfd_send_signal(life.process.as_fd(), Signal::TERM);
}

/// Answers for a job whose child cannot.
fn answer(life: &Life, failure: Failure) {
    let Failure { number, error } = failure;
    let outcome = Err(error);
    // If the daemon is gone, nobody waits for this.
    let _ = message::send(life.socket.as_fd(), &Reply::Done { number, outcome }, &[]);
}

fn wait_for(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    let mut fds: Vec<PollFd<'_>> = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    });
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn wait_ready(fd: BorrowedFd<'_>) -> Result<bool, rustix::io::Errno> {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    Ok(poll(
        &mut fds,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )? > 0)
}

#[expect(clippy::disallowed_methods, reason = "the keeper measures real time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use serde_json::json;

    use super::*;
    use crate::api::EndpointKind;
    use crate::plumb::Parcel;

    /// A keeper, and the life of a daemon that is this very process and said it was ready.
    fn keeper() -> (Keeper, Life, OwnedFd) {
        let (socket, theirs) = fdpass::socketpair_seqpacket().unwrap();
        let keeper = Keeper {
            held: BTreeMap::new(),
            jobs: Jobs::default(),
            signals: Signals::handle().unwrap(),
            stopping: false,
            restarts: 0,
            short_lives: 0,
        };
        let life = Life {
            socket,
            process: process::pidfd_open(std::process::id()).unwrap(),
            pid: std::process::id(),
            started: now(),
            ready: true,
            goodbye: false,
            talks: true,
        };
        (keeper, life, theirs)
    }

    fn note() -> Note {
        let parcel = Parcel {
            kind: EndpointKind::Tap,
            links: Vec::new(),
            interface: None,
            offloads: heddle_sys::tap::Offloads::default(),
            process: None,
        };
        let mut manifest = parcel.manifest();
        manifest.links = 1;
        manifest.process = true;
        Note {
            key: "endpoint".to_owned(),
            manifest,
            record: json!({}),
        }
    }

    #[test]
    fn a_daemon_is_started_again_unless_it_or_its_keeper_was_told_to_end() {
        let cases = [
            (false, false, true),
            (true, false, false),
            (false, true, false),
        ];
        for (goodbye, stopping, again) in cases {
            let (mut keeper, mut life, _theirs) = keeper();
            life.goodbye = goodbye;
            keeper.stopping = stopping;
            // Killed, and ended by an error of its own.
            for ended in [9, 1 << 8] {
                let next = keeper.decide(&life, &ExitStatus::from_raw(ended));
                let restarts = matches!(next, Next::Restart(_));
                assert_eq!(restarts, again, "{goodbye} {stopping} {ended}");
            }
        }
    }

    #[test]
    fn descriptors_are_held_all_together_or_not_at_all() {
        let (mut keeper, mut life, theirs) = keeper();
        let fd = theirs.as_fd();
        for (given, held) in [(2, true), (1, false), (2, true), (0, false)] {
            message::send(fd, &Request::Hold(note()), &vec![fd; given]).unwrap();
            assert!(keeper.serve(&mut life));
            assert_eq!(keeper.held.contains_key("endpoint"), held, "{given}");
        }
    }

    #[test]
    fn nonsense_is_skipped_and_the_end_is_the_end() {
        let (mut keeper, mut life, theirs) = keeper();
        life.ready = false;
        fdpass::send(theirs.as_fd(), b"nonsense", &[]).unwrap();
        message::send(theirs.as_fd(), &Request::Ready, &[]).unwrap();
        assert!(!keeper.serve(&mut life));
        assert!(life.talks && !life.ready);
        assert!(keeper.serve(&mut life));
        assert!(life.ready);
        drop(theirs);
        assert!(!keeper.serve(&mut life));
        assert!(!life.talks);
    }
}
